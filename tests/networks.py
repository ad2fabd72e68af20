"""Every network of the registry, untrained, as a model: what engines must be able to run."""

from functools import cache

from cars_rt.training.networks import NETWORKS
from cars_rt.training.untrained import untrained as made

NAMES = list(NETWORKS)
untrained = cache(made)
