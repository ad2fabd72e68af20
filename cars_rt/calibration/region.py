"""Which part of a camera a spectrum is of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.calibration.errors import CalibrationError
from cars_rt.calibration.settings import whole_number
from cars_rt.protocol import MAX_PIXELS

MOST_BINNED = 256  # pixels of the camera in one of a spectrum


@dataclass(frozen=True)
class Region:
    """`pixels` points of a spectrum, each the sum of `binning` columns of the camera, from column `first`.

    Raises CalibrationError for what no camera has.
    """

    pixels: int
    binning: int = 1
    first: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.pixels <= MAX_PIXELS:
            raise CalibrationError(f"a spectrum has 2 to {MAX_PIXELS} pixels, not {self.pixels}")
        if not 1 <= self.binning <= MOST_BINNED or not 0 <= self.first <= MAX_PIXELS:
            raise CalibrationError(
                f"no camera has a region from column {self.first} with {self.binning} columns in a pixel"
            )

    @property
    def columns(self) -> NDArray[np.float64]:
        """(pixels,) float64: where each pixel's middle lies among the camera's columns, the first at 0."""
        middle = (self.binning - 1) / 2
        return np.asarray(self.first + middle + self.binning * np.arange(self.pixels, dtype=np.float64))

    @property
    def end(self) -> int:
        """The column after the last one."""
        return self.first + self.binning * self.pixels

    def __str__(self) -> str:
        text = f"{self.pixels} pixels"
        if self.binning > 1:
            text += f" of {self.binning} columns"
        return text + (f" from column {self.first}" if self.first else "")


def region_of(settings: Mapping[str, Any], pixels: int, calibrated: Region | None = None) -> Region:
    """The region of spectra of so many pixels, from what a driver says of its instrument: `binning`, a number
    or [x, ...], and `region`, [x, ...] in columns of the camera.

    What the driver does not say is as in the region that was calibrated, where people have said it. All of
    the camera without one, and where nothing but another number of pixels is known. Raises CalibrationError.
    """
    binning, first = (whole_number(settings.get(name)) for name in ("binning", "region"))
    if calibrated is None or (binning is None and first is None and pixels != calibrated.pixels):
        calibrated = Region(pixels)
    return Region(
        pixels,
        calibrated.binning if binning is None else binning,
        calibrated.first if first is None else first,
    )
