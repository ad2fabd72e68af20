"""No process ends without a word: what every thread was doing, when it crashes or is asked."""

import faulthandler
import os
import signal
from contextlib import suppress


def speak_when_killed() -> None:
    """On a crash in native code, or on SIGUSR1 where there is that, say on stderr where all threads are.

    Processes that this one starts do so on a crash, too.
    """
    with suppress(OSError, RuntimeError, ValueError):  # there is no stderr, or it is no file
        faulthandler.enable()
        if hasattr(faulthandler, "register"):  # not on Windows
            faulthandler.register(signal.SIGUSR1)
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")
