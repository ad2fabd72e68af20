"""Raman lines out of a CARS spectrum, on its own pixels, whatever its axis is.

A phase that Kramers-Kronig retrieval gives does not change when the axis is shifted or stretched, so that the
lines can be retrieved before the axis is known; only how smooth a background is has a length. Once an axis
is found, they are retrieved again on it.
"""

import numpy as np
from numpy.typing import NDArray

from cars_rt.calibration.peaks import Peaks, find_peaks
from cars_rt.physics.axis import Grid, resampling_matrix
from cars_rt.physics.kramers_kronig import KramersKronig

Array = NDArray[np.float64]

GUESSED_SPAN_CM1 = 2_600.0  # of a spectrum whose axis is unknown
FEWEST, MOST = 64, 2_048  # points of a grid on which is retrieved
SMOOTH = 0.0015  # of the spectrum's pixels
LEAST = 0.02  # of the highest line
LEAST_CLEAR = 8.0


def retrieved(counts: Array, axis: Array | None = None) -> Array:
    """Im{chi_R} / chi_NR, (p,), of counts above dark (p,), ascending in raman shift.

    axis: (p,), cm-1, ascending; None if it is not known.
    """
    pixels = len(counts)
    scaled = np.maximum(counts, 0) / max(float(np.mean(counts)), 1e-300)
    if axis is None:
        grid = np.linspace(0, pixels - 1, int(np.clip(pixels, FEWEST, MOST)))
        there, back = np.arange(pixels, dtype=np.float64), grid
        step = GUESSED_SPAN_CM1 / (len(grid) - 1)
    else:
        length = int(np.clip(pixels, FEWEST, MOST))
        points = Grid(float(axis[0]), float(axis[-1] - axis[0]) / (length - 1), length).raman_shift
        there, back, step = axis, points, float(axis[-1] - axis[0]) / (length - 1)
    on_grid = np.maximum(scaled @ resampling_matrix(there, back), 0)
    found = KramersKronig(len(back), step)(on_grid[None])[0]
    return np.asarray(np.interp(there, back, found), np.float64)


def raman_lines(raman: Array) -> Peaks:
    """The lines of a retrieved spectrum (p,)."""
    smooth = max(1.0, SMOOTH * len(raman))
    return find_peaks(raman, smooth=smooth, least_clear=LEAST_CLEAR, least=LEAST)
