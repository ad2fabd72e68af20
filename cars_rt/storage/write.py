"""The one way in which whole files are written: beside the target, alone, and renamed when complete."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cars_rt.storage.errors import StorageError

PRIVATE, PUBLIC = 0o600, 0o666  # modes; of the second, what the user's umask leaves
_EXCLUSIVE = (
    os.O_RDWR
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
)


@contextmanager
def replacing(
    path: Path, *, mode: int = PUBLIC, overwrite: bool = True, durable: bool = True
) -> Iterator[BinaryIO]:
    """A file to be filled, which has this path when the block ends: all of it or, after an error, nothing.

    Until then it lies beside the target under a random name, made so that nobody can have put a link or a
    pipe there. durable: it is on the disk, and not only in the system's memory, before it gets its name.
    Raises OSError; StorageError (one) if the target is a link, no regular file or a partial recording, or if
    the file was exchanged meanwhile; FileExistsError unless `overwrite` if the target is there at the end.
    """
    refuse_target(path)
    new = path.with_name(f".cars-rt-{secrets.token_hex(8)}.new")
    descriptor = os.open(new, _EXCLUSIVE, mode)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            made = os.fstat(file.fileno())
        refuse_target(path)
        if not same_file(new, made):
            raise StorageError(new, "was exchanged by another program while it was written")
        rename(new, path, overwrite=overwrite)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def write_bytes(path: Path, content: bytes, *, mode: int = PUBLIC, durable: bool = True) -> None:
    """A file of this content, or, if that fails (OSError), whatever was there before."""
    with replacing(path, mode=mode, durable=durable) as file:
        file.write(content)


def write_text(path: Path, text: str, *, mode: int = PUBLIC, durable: bool = True) -> None:
    """As `write_bytes`, in UTF-8 with lines that end as they do in the text."""
    write_bytes(path, text.encode("utf-8"), mode=mode, durable=durable)


def refuse_target(path: Path, *, partial: bool = False) -> None:
    """Raises StorageError if there is something under this path that is no regular file: a link may lead to
    a file of somebody's who wrote nothing here, a pipe may wait for ever; unless `partial`, also for a name
    of what a recorder writes, see `cars_rt.files.recording`, whether or not it is there."""
    if path.stem.endswith(".partial") and not partial:
        raise StorageError(path, "is a name of recordings that are being written: choose another one")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise StorageError(path, "is a link, and links are not followed to write", errno.ELOOP)
    if stat.S_ISDIR(mode):
        raise StorageError(path, "is a folder", errno.EISDIR)
    if not stat.S_ISREG(mode):
        raise StorageError(path, "is no regular file")


def rename(source: Path, target: Path, *, overwrite: bool) -> None:
    """Rename at once. Raises FileExistsError, with nothing changed, if the target exists and may not go."""
    about = source.lstat()
    if about.st_nlink > 1 and same_file(target, about):
        source.unlink()  # who renamed it was killed when it had both names
    elif overwrite:
        source.replace(target)
    elif os.name == "nt":
        try:
            source.rename(target)  # refuses by itself, with the name of the source
        except FileExistsError:
            raise _exists(target) from None
    else:
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:  # also a file system without second names
            if os.path.lexists(target):
                raise _exists(target) from None
            source.rename(target)
        else:
            source.unlink()


def _exists(path: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def same_file(path: Path, about: os.stat_result) -> bool:
    """Whether under this path there still is the file that was looked at; links are not followed."""
    try:
        return os.path.samestat(path.lstat(), about)
    except FileNotFoundError:
        return False


def sync_file(path: Path) -> None:
    """Let what was written to a file last beyond a power failure. Raises OSError."""
    with path.open("r+b", buffering=0) as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Let names last beyond a power failure, where the system has a way to ask for it."""
    if os.name != "posix":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
