"""What networks are trained on and measured with, by name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from cars_rt.errors import CarsRtError
from cars_rt.files.spectra import WavelengthError
from cars_rt.reference import Reference, read_reference
from cars_rt.training.data.batch import Batch
from cars_rt.training.data.bcars import Bcars, BcarsPairs
from cars_rt.training.data.protocols import PROTOCOLS
from cars_rt.training.settings import TrainingError

SHORTEST = 400.0  # cm-1, of an instrument's axis


class Distribution(Protocol):
    """Simulated spectra with their truth, in batches that are pure functions of (seed, index)."""

    name: str
    target: str
    """"ratio": the truth is Im{chi_R} / chi_NR; "chi3": Im chi_R scaled to max |chi_R| = 1."""
    scaling: str
    """How a camera's counts become a model's input; see `cars_rt.engines.model.Card`."""
    lengths: list[int]
    """Of the spectra, in pixels: the only one, or the fewest and the most."""

    @property
    def pitch_cm1(self) -> tuple[float, ...]:
        """The least and the largest step of pixels that are drawn, if axes are; else nothing."""
        ...

    @property
    def grid_step(self) -> float:
        """Of the protocol's axis, or of the grid that axes are brought to which no camera has; cm-1."""
        ...

    def __getitem__(self, index: int) -> Batch:
        """Batch number `index`."""
        ...


#: name: (seed, spectra per batch, stride that the grids' lengths should be multiples of) to the distribution
DISTRIBUTIONS: dict[str, Callable[[int, int, int], Distribution]] = {
    Bcars.name: Bcars,
    BcarsPairs.name: BcarsPairs,
    **PROTOCOLS,
}


def measured_by(name: str) -> str:
    """The distribution whose spectra say how good a model is that was trained on this one."""
    return Bcars.name if name == BcarsPairs.name else name


def distribution(name: str, reference: Reference | None = None) -> Callable[[int, int, int], Distribution]:
    """The distribution of this name, narrowed to an instrument by its measured background.

    Raises TrainingError for an unknown name, or for a protocol with a reference.
    """
    if name not in DISTRIBUTIONS:
        raise TrainingError(f"no data is called '{name}'; there are: {', '.join(DISTRIBUTIONS)}")
    if reference is None:
        return DISTRIBUTIONS[name]
    if name not in (Bcars.name, BcarsPairs.name):
        raise TrainingError(f"a reference narrows '{Bcars.name}', not '{name}', which is as published")
    return partial(BcarsPairs if name == BcarsPairs.name else Bcars, reference=reference)


def background(path: Path) -> Reference:
    """The reference in a file. Raises TrainingError for one that data cannot be narrowed by."""
    try:
        measured = read_reference(path)
    except WavelengthError:
        raise TrainingError(
            f"{path}: the axis is in nm, or may be: write raman shifts in cm-1, below a line of names "
            "such as raman shift,counts"
        ) from None
    except CarsRtError as error:
        raise TrainingError(str(error)) from None
    span = measured.raman_shift[-1] - measured.raman_shift[0]
    if span < SHORTEST:
        raise TrainingError(f"{path}: the reference spans {span:.0f} cm-1; {SHORTEST:.0f} are needed")
    return measured
