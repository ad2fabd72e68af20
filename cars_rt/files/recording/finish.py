"""The end of a recording: opened again, counted, cut to its rows, and given its name.

The recorder does this when a run is over, and `repair` does it to what a recorder left that was killed.
"""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from cars_rt.files.extent import mend as mend_extent
from cars_rt.files.hdf5 import attribute, changed, opened, stored
from cars_rt.files.recording.claim import Claim, give_name
from cars_rt.files.recording.errors import InUseError, RecordingError, reason
from cars_rt.files.recording.mended import mend
from cars_rt.files.recording.settled import count, settle
from cars_rt.files.written import MADE_FROM, PROCESS
from cars_rt.printable import typed
from cars_rt.storage import StorageError
from cars_rt.storage.write import same_file, sync_file, sync_folder

log = logging.getLogger("cars_rt.recording")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a recording holds, counted in the file."""

    path: Path
    rows: dict[str, int]  # spectra, by stream
    announced: dict[str, int]  # by stream; -1 where it never ended
    complete: bool  # every stream ended as planned, and every spectrum that was announced is there
    changed: bool = True  # whether anything was left to do
    damage: str = ""  # which spectra cannot be read, in a phrase, where that was looked at

    def describe(self) -> str:
        """How much is in it, and of how much."""
        parts = []
        for stream, rows in self.rows.items():
            announced = self.announced[stream]
            of = "" if announced in (rows, -1) else f" of {announced}"
            parts.append(f"{rows}{of} spectra {stream}")
        damage = f"; {self.damage}" if self.damage else ""
        return f"{', '.join(parts) or 'no spectra'}, {'complete' if self.complete else 'incomplete'}{damage}"


def finish(
    claim: Claim, *, partial: Path | None = None, made: os.stat_result | None = None, overwrite: bool = False
) -> Contents:
    """Count what a closed partial file holds, cut it to its rows, write down whether it is complete, and give
    it its name, or, where that was taken meanwhile and may not be overwritten, one with a number.

    made: what the file was when its recorder made it; another one under its name is left alone. Raises
    RecordingError, and leaves the file under its partial name.
    """
    partial = claim.partial if partial is None else partial
    with told(partial):
        _refuse_exchanged(partial, made)
        # What a recorder closes is its own by the claim. A process that has a copy of the descriptor, or
        # began to read just now, may hold HDF5's lock a little longer. That must cost no file.
        ours = made is not None and claim.locked
        mend_extent(partial)
        if made is None:
            _refuse_begun(partial)
        with changed(partial, locking=not ours) as file:
            if made is None:
                mend(file)
            counted = settle(file)
            complete = bool(attribute(file, "complete"))
        _refuse_exchanged(partial, made)
        sync_file(partial)  # a name must not come to the disk before what it names
        path = _named(partial, claim.path, overwrite=overwrite, ours=made is not None)
        sync_folder(path.parent)
    return Contents(path, counted.rows, counted.announced, complete)


def claimed(path: Path, *, overwrite: bool = False) -> Claim:
    """The name of a recording to be written. What a killed recorder left of one is finished first.

    Raises InUseError if another program writes it, whether or not overwrite is given; RecordingError if there
    is a file of this name, unless overwrite is given.
    """
    claim = Claim(path)
    try:
        left = ""
        if os.path.lexists(claim.partial):
            left = _finish_left(claim, overwrite)
        if os.path.lexists(path) and not overwrite:
            raise RecordingError(f"{path} exists already{left}; choose another name or give --overwrite")
    except BaseException:
        claim.release()
        raise
    return claim


def _finish_left(claim: Claim, overwrite: bool) -> str:
    if not claim.locked:
        raise InUseError(
            f"{claim.partial} may be in use, there are no locks there to tell; choose another name"
        )
    try:
        contents = finish(claim)
    except RecordingError as error:
        if not overwrite or isinstance(error, InUseError):
            raise
        aside = claim.put_aside()
        log.warning(
            "what a recorder left that was killed is %s now, as it cannot be finished: %s", aside, error
        )
        return ""
    tell(contents)
    if contents.path != claim.path:
        return f", and what a recorder left that was killed is {contents.path} now"
    return f" (closed just now, a recorder that was killed had left it: {contents.describe()})"


def tell(contents: Contents) -> None:
    """Say what was finished of a killed recorder."""
    log.warning("%s: closed what a recorder left that was killed: %s", contents.path, contents.describe())


def _named(partial: Path, target: Path, *, overwrite: bool, ours: bool) -> Path:
    """Where it lies now. What its recorder has closed is whole under either name: nothing ends for that."""
    try:
        return give_name(partial, target, overwrite=overwrite)
    except PermissionError as error:
        said = f"{partial} cannot be called {target.name} ({reason(error)}); another program may have it open"
        if not ours:
            raise RecordingError(f"{said}: close it there, and try again") from None
    log.warning("%s: it is whole, and `cars-rt repair %s` gives it its name later", said, typed(partial))
    return partial


def _refuse_begun(partial: Path) -> None:
    """Raises RecordingError for results that `process` has not computed all of: finished, they would be no
    attempt to go on with."""
    with opened(partial) as file:
        process = stored(file, PROCESS, h5py.Group)
        if process is None or MADE_FROM not in process.attrs:
            return
        rows = count(file).rows.get("raman", 0)
        if rows < (total := int(process.attrs.get("spectra", 0))):
            raise RecordingError(
                f"{partial} has {rows} of {total} results of a `cars-rt process` that was cut short: the "
                "same command goes on from there"
            )


def _refuse_exchanged(path: Path, made: os.stat_result | None) -> None:
    if made is not None and not same_file(path, made):
        raise RecordingError(f"{path} was moved or exchanged by another program while it was written")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What HDF5 and the system say, in one sentence."""
    try:
        yield
    except RecordingError:
        raise
    except StorageError as error:
        kind = InUseError if error.errno == errno.EAGAIN else RecordingError
        raise kind(str(error)) from None
    except FileNotFoundError:
        raise RecordingError(f"there is no file {path}") from None
    except (OSError, RuntimeError) as error:
        raise RecordingError(f"{path} cannot be closed: {reason(error)}") from None
    except (KeyError, ValueError, TypeError):
        raise RecordingError(f"{path} cannot be closed: what it says of itself is damaged") from None
