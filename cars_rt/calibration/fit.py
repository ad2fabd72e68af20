"""An axis through lines whose places are known: a polynomial of the place on the camera."""

from collections.abc import Mapping

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

Array = NDArray[np.float64]


def fit_polynomial(
    place: Array, value: Array, sigma: Array, terms: int, likely: Mapping[int, tuple[float, float]]
) -> Polynomial:
    """Least squares of `terms` coefficients, ascending.

    place, value, sigma: (k,), of each line: from -1 to 1, what the axis should be there, and how well that
    is known. likely: what a coefficient is without any line, and how well that is known, by its power.
    """
    powers = place[:, None] ** np.arange(terms) / sigma[:, None]
    further = [np.eye(terms)[power] / unsure for power, (_, unsure) in likely.items()]
    design = np.vstack([powers, *further])
    wanted = np.append(value / sigma, [expected / unsure for expected, unsure in likely.values()])
    return Polynomial(np.linalg.lstsq(design, wanted, rcond=None)[0])
