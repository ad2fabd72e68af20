"""Whose turn it is with a socket: one thread at a time, and only in the process that opened it.

libzmq checks none of this. Two threads in one socket share its messages among them or end the whole program
by an assertion, and a forked process waits for ever for the threads that it did not inherit.
"""

import os
import signal
import threading
from collections.abc import Callable, Hashable
from types import FrameType


class Turn:
    """Taken and given back around each use; `close` may come from any thread, and from a signal handler.

    dispose: what closes the socket; called once, by whoever has the last turn, never in a forked process.
    """

    def __init__(self, dispose: Callable[[], None] = lambda: None) -> None:
        self.closed = False
        self._dispose: Callable[[], None] | None = dispose
        self._pid = os.getpid()
        # setdefault claims and names the owner in one step, which no signal can come between.
        self._held: dict[str, Hashable] = {}

    @property
    def forked(self) -> bool:
        """Whether this is a copy in another process than the one that made it."""
        return os.getpid() != self._pid

    def take(self, who: Hashable) -> bool:
        """Whether it is the turn of `who` now. What it had already, it keeps."""
        return self._held.setdefault("by", who) == who

    def give(self) -> None:
        """Give the turn back. Closes now if that was asked for meanwhile."""
        self._held.pop("by", None)
        if self.closed:
            self.close()

    def close(self) -> None:
        """Let nobody have a turn any more. Disposes now, or at the end of the turn that is under way."""
        self.closed = True
        if self.forked or not self.take(object()):
            return
        dispose, self._dispose = self._dispose, None
        self._held.pop("by", None)
        if dispose is not None:
            dispose()


class Uninterrupted:
    """Within it, Ctrl-C and the named signals wait. Otherwise a message that was half read would be lost
    without a word, and a process that was just begun would belong to nobody."""

    __slots__ = ("_before", "_frame", "_names", "_number")

    def __init__(self, *names: str) -> None:
        """names: of further signals, those that this system has."""
        self._names = ("SIGINT", *names)

    def __enter__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._number = 0
        if threading.current_thread() is threading.main_thread():
            for name in self._names:
                number = getattr(signal, name, None)
                if number is not None and callable(before := signal.getsignal(number)):
                    self._before[number] = before
                    signal.signal(number, self._note)

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if self._number:
            self._before[self._number](self._number, self._frame)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._number, self._frame = number, frame
