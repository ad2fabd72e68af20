"""What can be wrong with a calibration."""

from typing import Any

from cars_rt.errors import CarsRtError


class CalibrationError(CarsRtError, ValueError):
    """A calibration that cannot be made, read or used, with the reason in one sentence."""


class UnmatchedError(CalibrationError):
    """Lines that are not those of a lamp or a standard. attempt: how far it came, for the picture."""

    def __init__(self, sentence: str, attempt: Any) -> None:
        super().__init__(sentence)
        self.attempt = attempt
