"""What can be wrong with a calibration."""

from cars_rt.errors import CarsRtError


class CalibrationError(CarsRtError, ValueError):
    """A calibration that cannot be made, read or used, with the reason in one sentence."""
