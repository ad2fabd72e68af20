"""Standard error that nobody waits for.

A terminal may stand still (Ctrl-S, a full pager, a click into a console of Windows) or be closed, and the
program goes on.
"""

import atexit
import io
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

MOST = 10_000  # pieces that wait to be written; what comes then is left out, and counted
BEHIND = 10  # pieces, from which on what is only drawn again and again is not worth a place among them
END_S = 2.0  # how long the end of the program waits until all is written


class Spool(io.RawIOBase):
    """Takes what is written, a piece each time, and has a thread pass it on to the stream below."""

    def __init__(self, below: io.RawIOBase, left_out: Callable[[int], object]) -> None:
        """left_out: called with the number of pieces that were left out, once others are written again."""
        self._below, self._say = below, left_out
        self._left_out = 0
        self._pieces: SimpleQueue[bytes | threading.Event] = SimpleQueue()  # a signal's handler may put, too
        threading.Thread(target=self._run, name="stderr", daemon=True).start()

    @property
    def behind(self) -> bool:
        """Whether the stream below does not keep up."""
        return self._pieces.qsize() > BEHIND

    def write(self, piece: Any) -> int:
        """Take a piece, or leave it out."""
        if self._pieces.qsize() < MOST:
            self._pieces.put(bytes(piece))
        else:
            self._left_out += 1
        return len(piece)

    def drain(self, timeout_s: float) -> bool:
        """Wait until what was taken is written; False if it is not by then."""
        written = threading.Event()
        self._pieces.put(written)
        return written.wait(timeout_s)

    def writable(self) -> bool:
        """As the stream below."""
        return True

    def isatty(self) -> bool:
        """As the stream below."""
        return self._below.isatty()

    def fileno(self) -> int:
        """As the stream below."""
        return self._below.fileno()

    def _run(self) -> None:
        while True:
            piece = self._pieces.get()
            if not isinstance(piece, threading.Event):
                with suppress(OSError):  # nobody reads it any more
                    while piece and (written := self._below.write(piece)):
                        piece = piece[written:]
            if self._left_out and not self.behind:
                count, self._left_out = self._left_out, 0
                self._say(count)
                if isinstance(piece, threading.Event):
                    self._pieces.put(piece)  # after that
            elif isinstance(piece, threading.Event):
                piece.set()


def spool_stderr(left_out: Callable[[int], object]) -> Spool | None:
    """From now on nobody waits for standard error but the end of the program, for END_S. None where it is no
    stream of the system's, and stays as it is."""
    before = sys.stderr
    buffer = getattr(before, "buffer", None)
    # Below Python's own buffer: its lock, held by a thread that stands still, would abort the program's end.
    raw = getattr(buffer, "raw", buffer)
    if not isinstance(raw, io.RawIOBase):
        return None
    before.flush()
    spool = Spool(raw, left_out)
    sys.stderr = io.TextIOWrapper(spool, before.encoding, before.errors, write_through=True)

    def end() -> None:
        if spool.drain(END_S):
            sys.stderr = before  # for what Python itself may say at its end

    atexit.register(end)
    return spool
