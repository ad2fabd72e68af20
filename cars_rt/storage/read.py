"""Files read within limits: a pipe is not waited for, and a file without end is not read."""

import errno
import os
import stat
from pathlib import Path

from cars_rt.storage.errors import StorageError

PIECE_BYTES = 2**20


def read_bytes(path: Path, most: int) -> bytes:
    """What a regular file holds, if that is no more than `most` bytes.

    Links are followed: what is read there cannot be harmed. Raises OSError as opening does, and StorageError
    for what is no regular file (never waiting for the other end of a pipe) or is larger.
    """
    refuse_special_file(path)  # before it is opened: opening alone has effects on some devices
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise StorageError(path, "is no regular file")
        if about.st_size > most:
            raise _too_large(path, most)
        content = file.read(most + 1)  # files of /proc say 0 bytes, and others may grow meanwhile
    if len(content) > most:
        raise _too_large(path, most)
    return content


def read_text(path: Path, most: int, encoding: str = "utf-8") -> str:
    """As `read_bytes`, decoded. Raises UnicodeDecodeError, too."""
    return read_bytes(path, most).decode(encoding)


def refuse_no_table(path: Path, most: int, most_line: int, most_lines: int) -> None:
    """Raises StorageError, without taking the file into memory, for what is no table of text: no regular
    file, one of more than `most` bytes, or with a line of more than `most_line` or more than `most_lines`
    of them. What reads tables takes many times as much memory as they have bytes."""
    if (size := refuse_special_file(path).st_size) > most:
        what = f"has {size / 1e6:.0f} MB of text, and {most / 1e6:.0f} are read"
        raise StorageError(path, f"{what}: put the numbers into an .npz or .h5 file", errno.EFBIG)
    with path.open("rb") as file:
        line = lines = 0
        while piece := file.read(PIECE_BYTES):
            first, last = piece.find(b"\n"), piece.rfind(b"\n")
            if line + (len(piece) if first < 0 else first) > most_line:
                raise StorageError(
                    path, f"has a line of more than {most_line / 1e6:.4g} MB, so it is no table"
                )
            if (lines := lines + piece.count(b"\n")) > most_lines:
                raise StorageError(path, f"has more than {most_lines:,} lines: it is no table of spectra")
            line = line + len(piece) if last < 0 else len(piece) - last - 1


def refuse_special_file(path: Path) -> os.stat_result:
    """Raises OSError if there is no such file, StorageError if it is a folder, a pipe, a socket or a
    device: before a library opens it that would wait, or read without end. Its status, links followed."""
    about = path.stat()
    if stat.S_ISDIR(about.st_mode):
        raise StorageError(path, "is a folder, where a file is needed", errno.EISDIR)
    if not stat.S_ISREG(about.st_mode):
        raise StorageError(path, "is no regular file")
    return about


def _too_large(path: Path, most: int) -> StorageError:
    return StorageError(
        path, f"has more than the {most / 1e6:.4g} MB that are read of such a file", errno.EFBIG
    )
