"""Folders that programs write into."""

import errno
import sys
from pathlib import Path

from cars_rt.printable import typed
from cars_rt.storage.errors import StorageError


def mkdir(path: Path) -> str:
    """The command that makes a folder, as it is typed here, with those above it."""
    above = "" if path.absolute().parent.is_dir() or sys.platform == "win32" else "-p "
    return f"mkdir {above}{typed(path)}"


def refuse_missing_folder(path: Path) -> None:
    """Raises StorageError if this is no folder."""
    if not path.is_dir():
        what = "is no folder" if path.exists() else "does not exist"
        raise StorageError(path, f"{what}; make it, mount its disk, or name another folder", errno.ENOENT)


def make_folder(path: Path, mode: int = 0o777) -> None:
    """The folder that was asked for by name, if it is not there yet.

    Not those above it: where a disk is not mounted or a name is misspelt, files would go to a place that
    nobody meant. Raises StorageError, OSError if the system refuses.
    """
    if not path.is_dir():
        if path.exists():
            refuse_missing_folder(path)
        above = path.absolute().parent
        if not above.is_dir():
            why = f"cannot be made: there is no folder {above}; make that, mount its disk, or name another"
            raise StorageError(path, why, errno.ENOENT)
        path.mkdir(mode=mode, exist_ok=True)
