"""What cannot be shown."""

from cars_rt.errors import CarsRtError


class ShowError(CarsRtError, ValueError):
    """What was asked for is not in the file, with the reason in one sentence."""
