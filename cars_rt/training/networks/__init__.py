"""The networks by name. Input: a spectrum on the model's grid, scaled; outputs: raman, and its deviation
where the network has a second output.

`cnn`, `cnn-large` and `rnn` are ours; `specnet` and `cnn-gru` are the published ones they are measured
against.
"""

from collections.abc import Callable

from cars_rt.training.networks.cnn import Cnn, CnnLarge
from cars_rt.training.networks.layers import Retrieval
from cars_rt.training.networks.published import CnnGru, Published, SpecNet
from cars_rt.training.networks.rnn import Rnn
from cars_rt.training.settings import TrainingError

__all__ = ["NETWORKS", "Cnn", "CnnGru", "CnnLarge", "Published", "Retrieval", "Rnn", "SpecNet", "build"]

OURS: dict[str, Callable[[], Retrieval]] = {Cnn.name: Cnn, CnnLarge.name: CnnLarge, Rnn.name: Rnn}
PUBLISHED: dict[str, Callable[[int], Published]] = {SpecNet.name: SpecNet, CnnGru.name: CnnGru}
NETWORKS = (*OURS, *PUBLISHED)


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
