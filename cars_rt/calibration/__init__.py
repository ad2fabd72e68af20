"""Calibration: which raman shift, dark and reference belong to the pixels of an instrument."""

from cars_rt.calibration.calibration import Applied, Calibration
from cars_rt.calibration.darks import Mean
from cars_rt.calibration.errors import CalibrationError
from cars_rt.calibration.file import read, write
from cars_rt.calibration.region import Region, region_of
from cars_rt.calibration.scale import Point, Scale

__all__ = [
    "Applied",
    "Calibration",
    "CalibrationError",
    "Mean",
    "Point",
    "Region",
    "Scale",
    "read",
    "region_of",
    "write",
]
