"""The real part of a susceptibility from its imaginary one, on any axis."""

import numpy as np
from numpy.typing import NDArray

from cars_rt.physics.axis import widths

BEYOND_CM1 = 400.0  # an imaginary part that is not zero at the end of the axis goes on for so long


def dispersion_matrix(axis: NDArray[np.float64]) -> NDArray[np.float32]:
    """The matrix M, (p, p) float32, for which R @ M is Re{chi_R} to R = Im{chi_R}, both (n, p), on an axis.

    Kramers and Kronig: Re(w) = 1/pi P int Im(w') / (w' - w) dw', by the trapezoidal rule; the singular
    cell gives the slope of R. In a gap R is taken as zero. Beyond the ends it is taken as constant for
    BEYOND_CM1 and then as zero, so that a line cut off there makes no pole.
    """
    points = len(axis)
    width = widths(axis)
    distance = axis[:, None] - axis[None, :]
    np.fill_diagonal(distance, np.inf)
    matrix = width[:, None] / distance
    inner = np.arange(1, points - 1)
    slope = width[inner] / (axis[inner + 1] - axis[inner - 1])
    matrix[inner + 1, inner] += slope
    matrix[inner - 1, inner] -= slope
    for end, other in ((0, -1), (-1, 0)):
        away = np.abs(axis - axis[end]) + width[end] / 2
        matrix[end] += np.sign(axis[end] - axis[other]) * np.log1p(BEYOND_CM1 / away)
    return np.asarray(matrix / np.pi, np.float32)
