"""What neighbouring pixels have in common: light, which lies on all of them, or the chance of single ones.

Counts that end at 0 (a dark that is subtracted without a sign, a counter of photons) have a mean without any
light, carried by single pixels. So one asks what pixels share that are next but one to each other, the lesser
of the two, over what they have. A pixel counts for twice its brighter neighbour at most: a hot one takes
nothing from a spectrum and lights none, nor does a cosmic ray over two or three. Pixels closer than
`RESOLUTION_CM1` count together, so that light that is spread over more pixels is no less. Where counts go
below 0, the mean over the mean magnitude tells light from noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DARK_OVERLAP, LIT_OVERLAP = 0.30, 0.35  # no light, light; noise gives 0.14, cut at 0 it gives 0.25
MOST_OF_NEIGHBOUR = 2.0  # that a pixel counts for, in units of the brighter one beside it
SMALLEST = 1e-30  # mean magnitude of counts that are more than zeros; far below any unit
DARK_SHARE, LIT_SHARE = 0.3, 0.5  # mean over mean magnitude: no light, light; noise gives 0, light 1
DARK_OF_ROOT, LIT_OF_ROOT = 6.0, 9.0  # the same for few points, over their root; noise gives 1.3
MOST_DARK, MOST_LIT = 0.6, 0.9  # the same at most
RESOLUTION_CM1 = 2.0  # pixels that are closer count as one
FINE_CM1 = 0.5  # of longer pixels two count together at most: more would be a graph of its own
FEWEST = 6  # pixels of which it can be said


@dataclass(frozen=True)
class Overlap:
    """Of spectra on one axis, of whose pixels `width` count together."""

    pixels: int
    width: int

    @classmethod
    def on(cls, raman_shift: NDArray[np.float64]) -> "Overlap":
        """Of an axis (p,), cm-1."""
        pixels, pitch = len(raman_shift), float(np.median(np.abs(np.diff(raman_shift))))
        width = round(RESOLUTION_CM1 / pitch)
        if pitch >= FINE_CM1:
            width = min(width, 2)
        return cls(pixels, max(1, min(width, pixels // 8)))

    @property
    def lag(self) -> int:
        """From a pixel to its neighbour; light is shared with the next but one."""
        return 1 if self.width <= 2 else self.width

    @property
    def sums(self) -> int:
        """Of pixels that count together, as many as of two even where it is one."""
        return self.pixels - max(self.width, 2) + 1

    def of(self, signal: NDArray[np.floating]) -> NDArray[np.floating]:
        """Which part of counts above dark (k, p) is shared, (k,); 1 where it cannot be said."""
        lag, sums = self.lag, self.sums
        if self.pixels < FEWEST:
            return np.ones(len(signal), np.float32)
        together = signal[:, :sums]
        for offset in range(1, self.width):
            together = together + signal[:, offset : offset + sums]
        most = np.maximum(together[:, : -2 * lag], together[:, 2 * lag :])
        most *= np.float32(MOST_OF_NEIGHBOUR)
        there = np.minimum(together[:, lag:-lag], most, out=most)
        shared = np.minimum(there[:, : -2 * lag], there[:, 2 * lag :])
        np.maximum(shared, 0, out=shared)
        np.abs(there, out=there)
        return np.asarray(shared.mean(axis=1) / np.maximum(there.mean(axis=1), np.float32(SMALLEST)))


def lit_range(raman_shift: NDArray[np.float64]) -> tuple[float, float]:
    """Mean over mean magnitude of counts above dark on an axis (p,): up to the first there is no light, from
    the second on there is. Light alone gives 1; noise alone about 1.3 over the root of the points."""
    points = min(len(raman_shift), float(np.ptp(raman_shift)) / RESOLUTION_CM1 + 1)
    root = np.sqrt(points)
    dark, lit = max(DARK_SHARE, DARK_OF_ROOT / root), max(LIT_SHARE, LIT_OF_ROOT / root)
    return min(dark, MOST_DARK), min(lit, MOST_LIT)
