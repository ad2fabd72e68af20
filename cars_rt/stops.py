"""Signals that ask a program to stop: Ctrl-C and Ctrl-Break, a service manager, the end of a terminal."""

import os
import signal
from contextlib import suppress
from types import FrameType

EXIT_INTERRUPTED = 130  # left at once, after a second Ctrl-C or where there was nothing to finish

STOPS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP") if hasattr(signal, name)
)


def leave_at_once() -> None:
    """Ctrl-C ends the process in one line, until `interrupt_by_all`. For while modules are imported: there is
    nothing to finish yet, and an exception from there may come out anywhere, or as another one."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, b"cars-rt: interrupted\n")
    os._exit(EXIT_INTERRUPTED)


def interrupt_by_all() -> None:
    """Each of them interrupts as Ctrl-C does, so that what is not finished is taken away; by themselves the
    others end a process at once. Those that somebody ignores or handles stay so, as under nohup."""
    for number in STOPS:
        if signal.getsignal(number) in (signal.SIG_DFL, _leave):
            signal.signal(number, signal.default_int_handler)


class Stop:
    """Ctrl-C and its kin, so that no part of a file is left behind.

    Python swallows a KeyboardInterrupt that comes while it frees an object, and libraries do while they are
    imported: so the wish is kept, too.
    """

    def __init__(self) -> None:
        self.wished = False
        for number in STOPS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self._wish)

    def _wish(self, number: int, frame: FrameType | None) -> None:
        self.wished = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if it was wished."""
        if self.wished:
            raise KeyboardInterrupt
