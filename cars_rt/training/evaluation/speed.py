"""How fast a model is, alone."""

import time
from statistics import median
from typing import NamedTuple

import torch

from cars_rt.training.evaluation.scores import Retrieve

BATCHES = (1, 128)
LEAST_S = 0.7  # of each measurement, seconds


class Speed(NamedTuple):
    """The median of the runs that fit into LEAST_S; one at least."""

    threads: int
    batch: int
    length: int  # points of a spectrum
    spectra_per_s: float


def speed(model: Retrieve, threads: int, length: int, batch: int) -> Speed:
    """Time a model that is on `threads` threads, with spectra that are ones; after a run to warm up."""
    spectra = torch.ones(batch, length)
    model(spectra)
    runs: list[float] = []
    while sum(runs) < LEAST_S:
        begin = time.perf_counter()
        model(spectra)
        runs.append(time.perf_counter() - begin)
    return Speed(threads, batch, length, round(batch / median(runs), 1))
