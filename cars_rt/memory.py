"""What this process keeps of memory that was freed, where the C library is glibc; elsewhere nothing is done.

A message of a few hundred kilobytes is memory that is taken and freed thousands of times a second. As it
comes, glibc returns much of it to the system each time, which has to clear it anew: a fifth of the daemon's
processor time with blocks of 128 spectra.
"""

import ctypes
from contextlib import suppress

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # as mallopt names them
OWN_BYTES = 32 * 2**20  # a larger piece is the system's as soon as it is freed
KEPT_BYTES = 64 * 2**20  # that may lie free at the end of each arena
FLOOD_BYTES = 2**20  # the same, after a flood

_keeping = False


def keep() -> None:
    """Keep freed memory for what comes next, as glibc does once a piece of OWN_BYTES was freed."""
    global _keeping
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        _keeping = bool(
            library.mallopt(MMAP_THRESHOLD, OWN_BYTES) and library.mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        )


def give_back(*, more_follows: bool = False) -> None:
    """Have all freed memory returned to the system, after a flood that will not come again.

    What lies free at the end of another thread's arena is returned by that arena's next use alone. So call it
    with `more_follows` as long as threads may still come to it, and once without: in between little is kept.
    """
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        if _keeping:
            library.mallopt(TRIM_THRESHOLD, FLOOD_BYTES if more_follows else KEPT_BYTES)
        library.malloc_trim(0)
