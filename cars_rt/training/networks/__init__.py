"""The networks by name: a spectrum in; raman out, and its deviation where there is a second output.

The spectrum is scaled, and ours are given the lengths of its pixels, too. `cnn`, `cnn-large`, `rnn`, `cnn-kk`
and `rnn-kk` are ours; `specnet` and `cnn-gru` are the published ones that they are measured against.
"""

from collections.abc import Callable

from torch import Tensor

from cars_rt.training.data.batch import padded
from cars_rt.training.networks.cnn import Cnn, CnnKk, CnnLarge
from cars_rt.training.networks.layers import Retrieval
from cars_rt.training.networks.published import CnnGru, Published, SpecNet
from cars_rt.training.networks.rnn import Rnn, RnnKk
from cars_rt.training.settings import TrainingError

__all__ = [
    "NETWORKS",
    "Cnn",
    "CnnGru",
    "CnnLarge",
    "Published",
    "Retrieval",
    "Rnn",
    "SpecNet",
    "build",
    "inputs",
]

OURS: dict[str, Callable[[], Retrieval]] = {each.name: each for each in (Cnn, CnnLarge, Rnn, CnnKk, RnnKk)}
PUBLISHED: dict[str, Callable[[int], Published]] = {SpecNet.name: SpecNet, CnnGru.name: CnnGru}
NETWORKS = (*OURS, *PUBLISHED)


def inputs(network: Retrieval | Published, spectrum: Tensor, pitch: Tensor) -> tuple[Tensor, ...]:
    """What a network is called with for spectra (b, n), scaled, on pixels of these lengths (n,), cm-1: both
    padded to its stride."""
    given = padded(spectrum, network.stride)
    return (given,) if len(network.inputs) == 1 else (given, padded(pitch[None], network.stride))


def build(name: str, lengths: list[int]) -> Retrieval | Published:
    """An untrained network for data of these lengths.

    Raises TrainingError if no network is called that, or if it takes one length and the data has many.
    """
    if name not in NETWORKS:
        raise TrainingError(f"no network is called '{name}'; there are: {', '.join(NETWORKS)}")
    if name in OURS:
        return OURS[name]()
    if len(lengths) > 1:
        raise TrainingError(f"the network '{name}' takes spectra of one length; this data has {len(lengths)}")
    return PUBLISHED[name](lengths[0])
