"""Maximum entropy: the phase of a CARS spectrum as that of an all-pole model.

Vartiainen, J. Opt. Soc. Am. B 9, 1209 (1992); Vartiainen, Rinia, Mueller & Bonn, Opt. Express 14,
3622 (2006).
"""

import numpy as np
from numpy.typing import NDArray

from cars_rt.physics.kramers_kronig import KramersKronig

BEYOND = 0.5  # of the axis, to either side: so far the spectrum is continued to a constant


class MaximumEntropy(KramersKronig):
    """Retrieves raman as `KramersKronig` does, but for the phase, which comes from elsewhere."""

    def phase(self, logarithm: NDArray[np.float64]) -> NDArray[np.float64]:
        """As that of `KramersKronig`."""
        return np.array([maximum_entropy_phase(np.exp(2 * row)) for row in logarithm])


def maximum_entropy_phase(ratio: NDArray[np.floating]) -> NDArray[np.float64]:
    """The phase (points,), radians, of a ratio I / I_ref (points,), above zero, near 1 at its ends.

    The ratio's autocorrelation C(m) up to half of its points gives the all-pole model
    b / |1 + sum_m a_m exp(-2 pi i m v)|^2 of it, by C a = -C(1..M), and the sum has the phase of chi.
    """
    points = len(ratio)
    beyond = round(BEYOND * points)
    falling = np.cos(np.pi / 2 * np.arange(1, beyond + 1) / (beyond + 1)) ** 2
    left, right = 1 + (ratio[0] - 1) * falling[::-1], 1 + (ratio[-1] - 1) * falling
    extended = np.concatenate([left, ratio, right])
    order = points // 2
    autocorrelation = np.fft.ifft(extended)[: order + 1]
    lags = np.arange(order)[:, None] - np.arange(order)
    toeplitz = np.where(lags >= 0, autocorrelation[lags], autocorrelation[-lags].conj())
    poles = np.linalg.solve(toeplitz, -autocorrelation[1:])
    inverse = np.fft.fft(np.concatenate([[1], poles]), len(extended))
    return np.asarray(np.angle(inverse)[beyond : beyond + points])
