"""What cannot be read of an HDF5 file, and why, in words for people."""

import os
import re
from pathlib import Path

from cars_rt.storage import StorageError

#: What h5py raises at what is damaged.
UNREADABLE = (KeyError, OSError, RuntimeError, TypeError, ValueError)

#: What HDF5 writes in its long chains of texts, and what it means.
MEANINGS = (
    ("truncated file", "it is cut short: a copy that was not finished, or a full disk"),
    ("file signature not found", "it is no HDF5 file"),
    ("unable to lock file", "another program is writing it"),
    ("already open for write", "another program is writing it"),
    ("superblock", "it is no HDF5 file, or its beginning is damaged"),
    ("bad object header", "it is damaged"),
    ("filter returned failure", "it is damaged"),
    ("filter", "its data are compressed in a way that cannot be read here"),
)


def system_error(error: BaseException) -> int:
    """The operating system's number of what went wrong, which h5py gives as such or within its text; 0 if it
    was not the system."""
    said = re.search(r"errno = (\d+)", str(error))
    return getattr(error, "errno", None) or (int(said[1]) if said else 0)


def is_of_file(error: BaseException) -> bool:
    """Whether what cannot be read is spoiled, and it is not the system that reads nothing."""
    return error.of_file if isinstance(error, StorageError) else not system_error(error)


def explained(error: BaseException) -> str:
    """Why HDF5 could not read or write, in a phrase without its own words: the operating system's where it
    has one."""
    if number := system_error(error):
        return os.strerror(number)
    text = str(error)
    for found, meaning in MEANINGS:
        if found in text:
            return meaning
    if (
        "nable to " in text
        or "ynchronously" in text
        or isinstance(error, KeyError | RuntimeError | TypeError | UnicodeError)
    ):
        return "it is damaged, or not laid out as it should be"
    return text.splitlines()[0] if text else type(error).__name__


def unreadable(path: Path, name: str, error: Exception, remedy: str = "") -> StorageError:
    """What to raise for something of a file that cannot be read: the system's reason where it has one, as of
    a drive that is gone; else the file is damaged, with its remedy."""
    number = system_error(error)
    if number:
        return StorageError(path, f"cannot be read: {os.strerror(number)} (at {name})", number)
    return StorageError(path, f"is damaged: {name} cannot be read{remedy}")
