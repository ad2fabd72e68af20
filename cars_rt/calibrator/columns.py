"""From places of a spectrum to columns of a camera."""

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from cars_rt.calibration import CalibrationError, Region

Array = NDArray[np.float64]


def by_column(curve: Polynomial, region: Region, exact: float) -> tuple[float, ...]:
    """Coefficients in ascending powers of the camera's column, of a curve over the region from -1 to 1.

    Raises CalibrationError if they do not give the same within `exact`.
    """
    columns = region.columns
    long = columns[-1] - columns[0]
    composed = Polynomial(curve.coef)(Polynomial([-1 - 2 * columns[0] / long, 2 / long]))
    found = Polynomial(composed.coef)(columns)
    if np.abs(found - curve(along(region))).max() > exact:
        raise CalibrationError(f"no polynomial of the column gives the axis of {region} exactly enough")
    return tuple(float(each) for each in composed.coef)


def column_of(place: Array, region: Region) -> Array:
    """The camera's column of places in pixels."""
    return np.asarray(region.columns[0] + region.binning * place, np.float64)


def along(region: Region) -> Array:
    """(pixels,): from -1 at the first pixel to 1 at the last."""
    return np.linspace(-1, 1, region.pixels)


def turned(axis: Polynomial, descending: bool) -> Polynomial:
    """The same from the other end, if it was found on a spectrum that was turned round."""
    coefficients = np.asarray(axis.coef, np.float64)
    return Polynomial(coefficients * (-1.0) ** np.arange(len(coefficients))) if descending else axis
