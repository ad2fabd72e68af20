"""Writes small files in a thread, so that a slow disk does not keep the loop waiting."""

import logging
import time
from collections import deque
from collections.abc import Callable
from queue import Full, Queue
from threading import Thread

log = logging.getLogger("cars_rt.daemon")

MOST = 1_000  # files that may wait; with more of them the disk counts as gone
CLOSE_S = 5.0  # how long a close waits for them


class Filing:
    """Writes files one after the other, in a thread that starts with the first one."""

    def __init__(self) -> None:
        self.left_out = 0  # files that are not written, since too many waited
        self.failed: deque[tuple[str, Exception]] = deque(maxlen=MOST)  # what could not be written, and why
        self._queue: Queue[tuple[str, Callable[[], None]] | None] = Queue(MOST)
        self._thread: Thread | None = None

    def ask(self, what: str, write: Callable[[], None]) -> None:
        """Have it written; returns at once. what: such as "a receipt"."""
        if self._thread is None:  # a daemon thread does not keep the process from ending
            self._thread = Thread(target=self._serve, name="files", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait((what, write))
        except Full:
            self.left_out += 1
            level = logging.ERROR if self.left_out == 1 else logging.DEBUG
            log.log(level, "%s is not written: %d files wait for the disk already", what, MOST)

    def close(self) -> None:
        """Wait a little for the files that were asked for; log how many are left."""
        thread, deadline = self._thread, time.monotonic() + CLOSE_S
        if thread is None:
            return
        while thread.is_alive() and time.monotonic() < deadline:
            try:
                self._queue.put(None, timeout=0.1)
            except Full:
                continue
            break
        thread.join(max(deadline - time.monotonic(), 0.0))
        if thread.is_alive():
            log.error("%d files are not written: the disk does not answer", self._queue.qsize())

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            what, write = job
            try:
                write()
            except Exception as error:
                self.failed.append((what, error))
