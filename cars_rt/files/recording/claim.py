"""The name of a recording: whose it is while it is written, and under which name it lies until then."""

import logging
import os
import time
from itertools import islice
from pathlib import Path

from cars_rt.files.recording.errors import InUseError, RecordingError
from cars_rt.storage import NO_LOCKS, Lock, LockedError, StorageError, mkdir, numbered, refuse_target
from cars_rt.storage.write import rename

log = logging.getLogger("cars_rt.recording")

SUFFIXES = (".h5", ".hdf5")
HELD_S = 1.0  # how long a file that another program holds is waited for; the recorder's other runs wait, too


class Claim:
    """A recording's name, held by one program until it has written the file or ends, however it ends.

    Raises InUseError if another recorder has it, RecordingError if nothing can be written there. `locked` is
    False on a file system without locks, where only files that are made exclusively keep recorders apart.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = partial_path(path)
        self._lock: Lock | None = None
        try:
            refuse_target(self.path)
            refuse_target(self.partial, partial=True)
            self._lock = Lock(path.with_name(f".{path.name}.lock"))
        except LockedError:
            raise InUseError(f"{path} is being recorded by another program; choose another name") from None
        except StorageError as error:
            raise RecordingError(str(error)) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise RecordingError(f"cannot write in {path.parent}: {error.strerror or error}") from None
            log.warning("%s: no locks there, so let no second recorder write into it", path.parent)

    @property
    def locked(self) -> bool:
        """Whether a partial file of this name is certainly nobody's."""
        return self._lock is not None

    @property
    def taken(self) -> bool:
        """Whether there is a file of this name, or a part of one."""
        return os.path.lexists(self.path) or os.path.lexists(self.partial)

    def release(self) -> None:
        """Let others have the name. A second call does nothing."""
        if self._lock is not None:
            self._lock.release()

    def put_aside(self, left: Path | None = None) -> Path:
        """Call what is there of a recording NAME-2.partial.h5 or the like: what cannot be finished now may be
        later, with another plugin or more room. left: where it lies, if not under the partial name. Returns
        its path. Raises RecordingError."""
        left, other = left or self.partial, Claim.unused(self.path, 2)
        try:
            return left.replace(other.partial)
        except OSError as error:
            raise RecordingError(f"{left} is in the way and stays: {error.strerror}") from None
        finally:
            other.release()

    @classmethod
    def unused(cls, path: Path, first: int = 1) -> "Claim":
        """A claim of this name, or of the first of NAME-2, NAME-3, ... that is free; first: the number from
        which on is looked."""
        for each in islice(numbered(path), first - 1, None):
            if os.path.lexists(each) or os.path.lexists(partial_path(each)):
                continue
            try:
                claim = cls(each)
            except InUseError:
                continue
            if not claim.taken:  # it may have been written just now
                return claim
            claim.release()
        raise RecordingError(f"{path}: all numbers of this name are taken; choose another folder")


TRIAL = ".cars-rt-check-"  # so begins the name of a recording that only tries the disk


def partial_path(path: Path) -> Path:
    """The name of a recording while it is written."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def final_path(path: Path) -> Path:
    """The final name of a recording; of a partial file, the name that it would get."""
    while is_partial(path):
        path = path.with_stem(path.stem.removesuffix(".partial"))
    return path


def is_partial(path: Path) -> bool:
    """Whether this is the name of a recording that is, or was, being written."""
    return path.stem.endswith(".partial") and len(path.stem) > len(".partial")


def give_name(partial: Path, target: Path, *, overwrite: bool) -> Path:
    """Rename a closed recording. Returns its name: the target, or where that was taken meanwhile and may not
    be overwritten, one with a number. Raises PermissionError where another program holds it; Windows renames
    nothing that is open."""
    for path in numbered(target):
        try:
            _rename(partial, path, overwrite=overwrite)
        except FileExistsError:
            continue
        if path != target:
            log.warning("%s was written by another program meanwhile: the recording is %s", target, path)
        return path
    raise RecordingError(f"{target} and all its numbers are taken")


def _rename(source: Path, target: Path, *, overwrite: bool) -> None:
    """What indexes files, or looks for viruses, has each new one open for a moment."""
    until = time.monotonic() + HELD_S
    while True:
        try:
            return rename(source, target, overwrite=overwrite)
        except PermissionError:
            if time.monotonic() > until:
                raise
        time.sleep(HELD_S / 20)


def refuse_unwritable(folder: Path) -> None:
    """Raises RecordingError if there is no such folder or nothing can be written in it."""
    if not folder.is_dir():
        make = f"does not exist; make it first ({mkdir(folder)}), or choose another"
        what = "is no folder" if folder.exists() else make
        raise RecordingError(f"cannot write in {folder}: it {what}")
    try:
        probe = folder / f".cars-rt-{os.getpid()}-{time.time_ns()}"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise RecordingError(f"cannot write in {folder}: {error.strerror}") from None
