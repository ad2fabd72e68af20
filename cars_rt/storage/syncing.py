"""A file that is being written, put on the disk now and then: what a power failure costs."""

import threading
import time
from pathlib import Path

from cars_rt.storage.write import sync_file


class Syncing:
    """Syncs a file in a thread, since a disk may take seconds for it and its writer has other things to do.

    path: the file. every_s: how long to wait between two times.
    """

    def __init__(self, path: Path, every_s: float) -> None:
        self._path, self._every_s = path, every_s
        self._last = time.monotonic()
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def look(self) -> None:
        """Begin again if it is time and the last one is over. Raises OSError of that: the system says once
        that it could not write."""
        if self._thread is not None and self._thread.is_alive():
            return
        self.wait()
        if time.monotonic() - self._last >= self._every_s:
            self._last = time.monotonic()
            self._thread = threading.Thread(target=self._sync, name="sync", daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Until it is over. Raises OSError as `look` does."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _sync(self) -> None:
        try:
            sync_file(self._path)
        except OSError as error:
            self._error = error
