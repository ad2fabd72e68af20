"""What can be wrong with a file, in words that stand behind its path."""

import errno
from pathlib import Path

from cars_rt.errors import CarsRtError


class StorageError(CarsRtError, OSError):
    """A file that is refused. `strerror` says why, `filename` which one; str() both, in one sentence."""

    def __init__(self, path: Path, why: str, number: int = errno.EINVAL) -> None:
        super().__init__(number, why, str(path))

    @property
    def of_file(self) -> bool:
        """Whether something is wrong with the file, and not with the system, as where a drive is gone, or a
        plug-in that is missing."""
        return self.errno == errno.EINVAL

    def __str__(self) -> str:
        return f"{self.filename} {self.strerror}"
