"""How much a file may claim of this computer's memory."""

import os
import sys
from pathlib import Path

from cars_rt.storage.errors import StorageError

SHARE = 0.5  # of the memory, for one array; what is computed from it takes room, too
SMALL = 64 * 2**20  # bytes that are read whatever is stored of them
MOST_RATIO = 200  # beyond it: counts have noise, and noise cannot be compressed like this


def refuse_size(path: Path, what: str, wanted: int, stored: int) -> None:
    """Raises StorageError if `wanted` bytes are impossibly many for the `stored` ones."""
    if wanted and not stored:
        raise StorageError(path, f"announces {size(wanted)} of {what} and holds none of them")
    if wanted > max(SMALL, MOST_RATIO * stored):
        raise StorageError(
            path, f"announces {size(wanted)} of {what} in {size(stored)}, as nothing that was measured does"
        )


def refuse_too_much(path: Path, what: str, wanted: int) -> None:
    """Raises StorageError if `wanted` bytes at once are more than this computer's memory holds."""
    if wanted > SHARE * (memory := memory_bytes()):
        raise StorageError(
            path,
            f"has {size(wanted)} of {what}, too much at once for this computer's {size(memory)} of memory; "
            "take a part of it",
        )


def size(count: int) -> str:
    """Bytes for people."""
    if count < 1e5:
        return f"{count} bytes"
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


def memory_bytes() -> int:
    """Of this computer, or what this process may have of it if that is less."""
    if sys.platform == "win32":
        import ctypes

        class Status(ctypes.Structure):
            _fields_ = [
                ("length", ctypes.c_ulong),
                ("load", ctypes.c_ulong),
                *[(f"number{each}", ctypes.c_ulonglong) for each in range(7)],
            ]

        status = Status(length=ctypes.sizeof(Status))
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.number0)
    import resource

    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    return physical if allowed == resource.RLIM_INFINITY else min(physical, allowed)
