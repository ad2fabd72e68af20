"""A measured non-resonant background: what one's own instrument shows without molecules."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cars_rt.errors import CarsRtError
from cars_rt.physics.axis import check_raman_shift
from cars_rt.spectra import read_spectra
from cars_rt.training.settings import TrainingError

SHORTEST = 400.0  # cm-1, of the axis


@dataclass(frozen=True, eq=False)
class Reference:
    """The mean spectrum of a purely non-resonant sample, such as glass.

    raman_shift: (p,) float64, cm-1, ascending. counts: (p,) float64, above dark, positive.
    """

    raman_shift: NDArray[np.float64]
    counts: NDArray[np.float64]

    def envelope(self, raman_shift: NDArray[np.float64]) -> NDArray[np.float64]:
        """Counts at other places, (q,) float64; edges are repeated."""
        return np.interp(raman_shift, self.raman_shift, self.counts)


def read_reference(path: Path) -> Reference:
    """The reference in a file of spectra, which are averaged (see `cars_rt.spectra.read_spectra`).

    Raises TrainingError if it cannot be read, is too short, or is not above the dark everywhere.
    """
    try:
        spectra = read_spectra(path)
        axis = check_raman_shift(spectra.raman_shift)
    except CarsRtError as error:
        raise TrainingError(str(error)) from None
    counts = spectra.counts.astype(np.float64).mean(axis=0)
    if spectra.dark is not None:
        counts = counts - spectra.dark
    if axis[0] > axis[-1]:
        axis, counts = axis[::-1], counts[::-1]
    if axis[-1] - axis[0] < SHORTEST:
        raise TrainingError(f"{path}: the reference spans {np.ptp(axis):.0f} cm-1; {SHORTEST:.0f} are needed")
    low = np.flatnonzero(counts <= 0)
    if low.size:
        raise TrainingError(
            f"{path}: the reference is {counts[low[0]]:g} above dark at {axis[low[0]]:.0f} cm-1 (and at "
            f"{low.size} of {len(axis)} pixels in all not positive); it needs light at every pixel"
        )
    return Reference(np.ascontiguousarray(axis), np.ascontiguousarray(counts))
