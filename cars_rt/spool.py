"""Standard error that nobody waits for.

A terminal may stand still (Ctrl-S, a full pager, a click into a console of Windows) or be closed, and the
program goes on.
"""

import atexit
import io
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

MOST = 10_000  # pieces that wait to be written; what comes then is left out, and counted
BEHIND = 10  # pieces, from which on what is only drawn again and again is not worth a place among them
AGAIN_S = 0.01  # until a stream that takes nothing now is asked again
END_S = 2.0  # how long the end of the program waits until all is written


class Spool(io.RawIOBase):
    """Takes what is written, a piece each time, and has a thread pass it on to the stream below."""

    def __init__(self, below: io.RawIOBase, left_out: Callable[[int], object]) -> None:
        """left_out: called with the number of pieces that were left out, once others are written again."""
        self._below, self._say = below, left_out
        self._left_out = 0  # for want of room; only those who write count it
        self._lost = 0  # since the stream below failed
        self._told = 0  # of both
        self._works = True
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

    @property
    def _untold(self) -> int:
        """Pieces that are missing where others are written again."""
        return self._left_out + self._lost - self._told if self._works else 0

    def _run(self) -> None:
        while True:
            piece = self._pieces.get()
            if not isinstance(piece, threading.Event):
                self._works = self._pass_on(piece)
            elif self._pieces.empty() and not self._untold:
                piece.set()
            else:
                self._pieces.put(piece)  # after what came meanwhile
            if (count := self._untold) and not self.behind:
                self._told += count
                self._say(count)

    def _pass_on(self, piece: bytes) -> bool:
        try:
            while piece:
                written = self._below.write(piece)
                if written is None:  # another program that has the stream, too, has it wait for nobody
                    time.sleep(AGAIN_S)
                piece = piece[written or 0 :]
        except OSError:  # nobody reads it any more, or its disk is full
            self._lost += 1
            return False
        return True


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
