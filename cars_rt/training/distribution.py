"""What networks are trained on and measured with, by name."""

from collections.abc import Callable
from typing import Protocol

from cars_rt.training.batch import Batch
from cars_rt.training.bcars import Bcars
from cars_rt.training.protocols import PROTOCOLS


class Distribution(Protocol):
    """Simulated spectra with their truth, in batches that are pure functions of (seed, index)."""

    name: str
    target: str
    """"ratio": the truth is Im{chi_R} / chi_NR; "chi3": Im chi_R scaled to max |chi_R| = 1."""
    scaling: str
    """How a camera's counts become a model's input; see `cars_rt.engines.model.Card`."""
    lengths: list[int]
    """Points of the grids drawn, ascending."""

    @property
    def grid_step(self) -> float:
        """Of the grids, cm-1."""
        ...

    def __getitem__(self, index: int) -> Batch:
        """Batch number `index`."""
        ...


#: name: (seed, spectra per batch, stride that the grids' lengths should be multiples of) to the distribution
DISTRIBUTIONS: dict[str, Callable[[int, int, int], Distribution]] = {Bcars.name: Bcars, **PROTOCOLS}
