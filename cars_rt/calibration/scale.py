"""The scale of a spectrum: which wavelength or raman shift lies at which column of the camera."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import ArrayLike, NDArray

from cars_rt.calibration.errors import CalibrationError
from cars_rt.calibration.region import Region
from cars_rt.physics.axis import AxisError, judged_raman_shift

Quantity = Literal["wavelength", "raman_shift"]
UNITS: dict[Quantity, str] = {"wavelength": "nm", "raman_shift": "cm-1"}
BEYOND = 0.05  # of the calibrated columns: so far the polynomial is believed on either side


class Point(NamedTuple):
    """A line that was found. column: its place on the camera. value: what it is known to be, in the scale's
    unit. residual_cm1: the scale's value less that. used: whether the fit was made with it."""

    column: float
    value: float
    residual_cm1: float
    name: str = ""
    used: bool = True


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A polynomial of the camera's column, with the points that it was fitted to.

    kind: how it was made: lamp, standard or given. of: which lamp or standard. coefficients: ascending powers
    of the column, in nm in vacuum or in cm-1. probe_nm: of the beam from which anti-Stokes light is
    shifted, in vacuum. region: what was calibrated. residual_cm1: root of the mean square over used points.
    time_ns: Unix time of the measurement.
    """

    kind: str
    of: str
    quantity: Quantity
    coefficients: tuple[float, ...]
    region: Region
    residual_cm1: float
    time_ns: int
    probe_nm: float | None = None
    points: tuple[Point, ...] = ()

    @property
    def unit(self) -> str:
        return UNITS[self.quantity]

    def at(self, columns: ArrayLike) -> NDArray[np.float64]:
        """Wavelength in vacuum or raman shift at columns of the camera, of the same shape, float64."""
        return np.asarray(Polynomial(self.coefficients)(np.asarray(columns, np.float64)), np.float64)

    def axis(self, region: Region, probe_nm: float | None = None) -> NDArray[np.float64]:
        """The raman shift (pixels,), cm-1, float64, of a region of the camera.

        probe_nm: in vacuum; that of the scale if not given. Raises CalibrationError for a region that was
        not calibrated, without a probe's wavelength where one is needed, and if no axis comes of it.
        """
        known = self.region
        slack = BEYOND * (known.end - known.first)
        if region.first < known.first - slack or region.end > known.end + slack:
            raise CalibrationError(
                f"the calibration is of {known}, and these spectra have {region}: calibrate this camera or "
                "region anew"
            )
        values = self.at(region.columns)
        if self.quantity == "wavelength":
            probe_nm = self.probe_nm if probe_nm is None else probe_nm
            if probe_nm is None:
                raise CalibrationError(
                    "the calibration holds wavelengths and no probe: give its wavelength, such as "
                    "--pump-nm 785, or measure a standard"
                )
            if not (values > 0).all():
                raise CalibrationError("the calibration's polynomial gives wavelengths below zero")
            nm, values = values, raman_shift(values, probe_nm)
            if values.max() <= 0:
                raise CalibrationError(
                    f"no wavelength of {nm.min():.1f} to {nm.max():.1f} nm is below the probe's, "
                    f"{probe_nm:g} nm, as anti-Stokes light is"
                )
        try:
            return judged_raman_shift(values)
        except AxisError as error:
            raise CalibrationError(f"the calibration gives no axis for {region}: {error}") from None


def raman_shift(vacuum_nm: ArrayLike, probe_nm: float) -> NDArray[np.float64]:
    """Of anti-Stokes light at wavelengths in vacuum: positive where they are below the probe's, cm-1."""
    return np.asarray(1e7 / np.asarray(vacuum_nm, np.float64) - 1e7 / probe_nm, np.float64)
