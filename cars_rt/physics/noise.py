"""How much noise there is in a spectrum, by itself: lines are wider than pixels, noise is not."""

import numpy as np

from cars_rt.physics.smoothing import Array, Matrix, Smoother, smoother

REACH = 2  # pixels to either side, of a difference
OF_DIFFERENCE = np.sqrt(70.0)  # deviation of 1, -4, 6, -4, 1 times noise of deviation 1
OF_ABSOLUTE = np.sqrt(2 / np.pi)  # mean of |x|, x normal of deviation 1
LARGEST = 3.0  # a difference of so many times the mean is a line or a spike
CUT = 0.993  # mean of |x| where it is cut at LARGEST times its mean


class Noise:
    """Finds the deviation of the noise in spectra on a uniform, ascending grid.

    length: cm-1, over which it is smoothed.
    """

    def __init__(self, points: int, step: float, length: float) -> None:
        self._inner = smoother(points - 2 * REACH, step, length)
        ends = ((0, 0), (REACH, REACH))
        self._noise = Smoother(self._inner.down, np.pad(self._inner.up, ends, mode="edge"))
        self._level = smoother(points, step, length)

    def __call__(self, spectrum: Array) -> tuple[Array, Array]:
        """Deviation and smoothed level, each (n, points), of spectra (n, points), in their unit."""
        outer, near = spectrum[:, 4:] + spectrum[:, :-4], spectrum[:, 1:-3] + spectrum[:, 3:-1]
        size = np.abs(6 * spectrum[:, 2:-2] - 4 * near + outer) * (1 / (OF_DIFFERENCE * OF_ABSOLUTE))
        mean = np.maximum(self._inner(size), 0)
        cut = np.minimum(size, LARGEST * mean) * (1 / CUT)
        return np.maximum(self._noise(cut), 0), self._level(spectrum)

    @property
    def of_axis(self) -> dict[str, Matrix]:
        """What it computes with that depends on the step, by name."""
        return {**self._inner.named("noise"), "noise/all": self._noise.up, **self._level.named("level")}
