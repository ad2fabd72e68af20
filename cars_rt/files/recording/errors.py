"""What goes wrong with recordings, in one sentence."""

from cars_rt.errors import CarsRtError
from cars_rt.files.unreadable import explained
from cars_rt.storage import StorageError


class RecordingError(CarsRtError, OSError):
    """A recording that cannot be written, with the reason and what is left in one sentence."""


class InUseError(RecordingError):
    """A recording that another program is writing."""


def reason(error: BaseException) -> str:
    """The reason, without words that the sentence already has."""
    return str(error.strerror) if isinstance(error, StorageError) else explained(error)
