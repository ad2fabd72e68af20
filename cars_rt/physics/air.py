"""Wavelengths in air and in vacuum: what tables and lasers say in one, and raman shifts need in the other."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def refractive_index(vacuum_nm: ArrayLike) -> NDArray[np.float64]:
    """Of standard air (15 °C, 101325 Pa, 450 ppm CO2, dry) at wavelengths in vacuum, nm, of any shape.

    P. E. Ciddor, Appl. Opt. 35, 1566 (1996), equation 1, for 230 to 1690 nm. The air of a laboratory
    differs from it by some 1e-5, which is 0.1 cm-1 of an absolute wavenumber and nothing in a difference.
    """
    squared = (1e3 / np.asarray(vacuum_nm, np.float64)) ** 2  # of the wavenumber, um-2
    return np.asarray(1 + 1e-8 * (5_792_105 / (238.0185 - squared) + 167_917 / (57.362 - squared)))


def in_vacuum(air_nm: ArrayLike) -> NDArray[np.float64]:
    """Wavelengths in vacuum, nm, of those in standard air."""
    air = np.asarray(air_nm, np.float64)
    vacuum = air
    for _ in range(4):  # the index changes by 1e-9 from the first round to the second
        vacuum = air * refractive_index(vacuum)
    return vacuum
