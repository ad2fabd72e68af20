"""How much room there is on the disk, and for how long at the present rate."""

import math
import os
import shutil
from contextlib import suppress
from pathlib import Path

from cars_rt.files.recording import RecordingError
from cars_rt.storage import mkdir

LOW_BYTES = 32 * 2**20  # left on the disk when a recording ends for want of room: closing needs some of it
WARN_MIN = 30, 10, 3, 1  # minutes left at which a warning is given, once each
MEMORY_S = 10.0  # over which the rate is averaged


class Disk:
    """The disk of a folder, looked at once a second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.free = self._measure()
        self.rate = 0.0  # bytes/s that go into files, averaged
        self._stored = self._given = 0  # bytes at the last look
        self._margin = 2 * LOW_BYTES
        self._seen = -math.inf  # when the last look was
        self._said = math.inf  # minutes that the last warning named

    def begin(self) -> None:
        """A recording begins: rate and warnings are its own, and it needs more room than to end."""
        self.rate, self._stored, self._given, self._seen, self._said = 0.0, 0, 0, -math.inf, math.inf
        self._margin = 2 * LOW_BYTES
        self.refresh()

    def look(self, stored: int, given: int, now: float) -> None:
        """stored: bytes of the open files on the disk. given: bytes of their rows, before any compression.
        now: monotonic time, s."""
        self.free = self._measure()
        grown, self._stored = max(stored - self._stored, 0), stored
        used, self._given = max(given - self._given, 0), given
        self._margin = LOW_BYTES + 2 * used
        if math.isfinite(self._seen) and now > self._seen:
            weight = 1 - math.exp((self._seen - now) / MEMORY_S)
            latest = grown / (now - self._seen)
            self.rate = latest if not self.rate else self.rate + weight * (latest - self.rate)
        self._seen = now

    def refresh(self) -> None:
        """Ask again how much room there is."""
        self.free = self._measure()

    @property
    def full(self) -> bool:
        """Whether a recording has to end now, while there is room to end well."""
        return self.free < self._margin

    @property
    def minutes_left(self) -> float | None:
        """Until it is full, at the present rate; None if nothing is being written."""
        return max(self.free - LOW_BYTES, 0) / self.rate / 60 if self.rate > 0 else None

    def warning(self) -> str | None:
        """What to say, the first time that so few minutes are left; None if nothing new is to be said."""
        left = self.minutes_left
        if left is None:
            return None
        step = min((each for each in WARN_MIN if left < each), default=math.inf)
        if step >= self._said:
            return None
        self._said = step
        about = f"{left:.0f} minutes" if left >= 2 else f"{60 * left:.0f} s"
        return (
            f"the disk of {self.folder} has {self.free / 1e9:.3g} GB left, enough for {about} at "
            f"{self.rate / 1e6:.3g} MB/s: make room, or stop"
        )

    def _measure(self) -> int:
        try:
            return shutil.disk_usage(self.folder).free
        except OSError:  # the folder is gone: nothing can be written there
            return 0


def refuse_no_folder(output: Path, *, make: bool) -> None:
    """Raises RecordingError if this is no folder for files of several runs. make: it, and none above it."""
    if make:
        with suppress(OSError):  # which is said below
            output.mkdir(exist_ok=True)
    if not output.is_dir():
        whole = "name another" if output.exists() else f"make the folder first: {mkdir(output)}"
        raise RecordingError(
            f"{output} is neither a .h5 file nor a folder: name one NAME.h5 for one run, or for all "
            f"runs {whole}"
        )


def refuse_full(folder: Path) -> None:
    """Raises RecordingError where a recording would have to end soon."""
    try:
        left = shutil.disk_usage(folder).free
    except OSError as error:
        raise RecordingError(f"cannot write in {folder}: {error.strerror}") from None
    if left < 2 * LOW_BYTES:
        raise RecordingError(f"the disk of {folder} has {left / 1e6:.0f} MB left; make room on it")


def stored_bytes(path: Path, given: int) -> int:
    """Bytes that a file takes on the disk; where the system does not say, those that were given to it."""
    try:
        blocks = getattr(os.stat(path), "st_blocks", None)  # noqa: PTH116 - not there on Windows
    except OSError:
        return given
    return given if blocks is None else 512 * int(blocks)
