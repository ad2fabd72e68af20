"""The end of a recording: opened again, counted, cut to its rows, and given its name.

The recorder does this when a run is over, and `repair` does it to what a recorder left that was killed.
"""

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import h5py

from cars_rt.files.filters import FilterError
from cars_rt.files.hdf5 import are_numbers, changed, mend, opened, readable_attrs, stored
from cars_rt.files.recording.claim import TRIAL, Claim, final_path, give_name, is_partial, partial_path
from cars_rt.files.recording.damage import said
from cars_rt.files.recording.errors import InUseError, RecordingError, reason
from cars_rt.files.recording.nexus import describe, room_for
from cars_rt.files.written import (
    DAMAGE,
    FORMAT_VERSION,
    TAIL,
    TAIL_ROWS,
    is_of_process,
    is_recording,
    rows_written,
    tail_of,
)
from cars_rt.printable import typed
from cars_rt.protocol.messages import MAIN_ARRAY
from cars_rt.storage import StorageError
from cars_rt.storage import complete as complete_changes
from cars_rt.storage.write import same_file

log = logging.getLogger("cars_rt.recording")

DESCRIBED = "described"  # the version of what is there for other programs
NOT_CLOSED = "not closed"  # the reason of a recording, and of a stream, that nobody has ended
NO_RECEIPT = {"announced": -1, "reason": NOT_CLOSED, "lost_before": "{}", "lost": "{}", "ranges": "[]"}
MOST_LEFT = 1_000  # partial files of a folder that one start looks at


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
    with _told(partial):
        _refuse_exchanged(partial, made)
        # What a recorder closes is its own by the claim. A process that has a copy of the descriptor, or
        # began to read just now, may hold HDF5's lock a little longer. That must cost no file.
        ours = made is not None and claim.locked
        mend(partial)
        with changed(partial, locking=not ours) as file:
            counted = _settle(file)
            complete = bool(file.attrs["complete"])
        _refuse_exchanged(partial, made)
        path = _named(partial, claim.path, overwrite=overwrite, ours=made is not None)
        with opened(path, locking=not ours) as file:  # an error is about what is there under this name
            if complete and not (bool(file.attrs["complete"]) and _count(file).rows == counted.rows):
                raise RecordingError(f"{path} was changed by another program while it was closed")
    return Contents(path, counted.rows, counted.announced, complete)


def repair(path: Path) -> Contents:
    """Finish a recording that was cut short, given its partial name or the one that it would have had, and
    read all of it. One with rows that cannot be read keeps the rest, and is not complete.

    Nothing happens to one that is finished and whole. Raises InUseError if it is still being written,
    RecordingError if it is no recording or cannot be read or written.
    """
    return _read_through(_finished(path))


def _read_through(contents: Contents) -> Contents:
    """Look whether every row can be read; if not, the recording says so itself."""
    with _told(contents.path):
        with opened(contents.path) as file:
            counted = _count(file)
            damage = said(counted.groups, counted.rows)
            same = damage == file.attrs.get(DAMAGE, "")
        if same:
            return replace(contents, damage=damage)
        with changed(contents.path) as file:
            file.attrs[DAMAGE] = damage
            complete = _count(file).whole(file)
            file.attrs.modify("complete", complete)
        return replace(contents, damage=damage, complete=complete, changed=True)


def _finished(path: Path) -> Contents:
    """A recording that is closed and has its name, made so if it was not."""
    target = final_path(path)
    if not is_partial(path) and not path.exists() and partial_path(path).exists():
        path = partial_path(path)
    claim = Claim(target)
    try:
        with _told(path):
            if not is_partial(path):
                # A repair that was killed may have changed a part of it.
                completed = claim.locked and os.access(path, os.W_OK) and complete_changes(path)
                with opened(path) as file:
                    counted, complete = _count(file), bool(file.attrs["complete"])
                    done = not counted.surplus and complete == counted.whole(file)
                    done &= int(file.attrs.get(DESCRIBED, 1)) >= FORMAT_VERSION
                if not done:
                    with changed(path) as file:
                        counted = _settle(file)
                        complete = bool(file.attrs["complete"])
                return Contents(
                    path, counted.rows, counted.announced, complete, changed=completed or not done
                )
            if not claim.locked:
                raise InUseError(f"{path} may be in use, there are no locks there to tell: copy it elsewhere")
        return finish(claim, partial=path)
    finally:
        claim.release()


def repair_all(folder: Path) -> list[Contents]:
    """Finish what killed recorders left in a folder, but not what `process` did; tell of what cannot be."""
    found = []
    left = sorted(each for each in folder.glob("*.partial.*") if not each.name.startswith(TRIAL))
    for path in (each for each in left[:MOST_LEFT] if not is_of_process(each)):
        try:
            contents = _finished(path)
        except InUseError:
            continue
        except RecordingError as error:
            log.warning("%s", error)
        else:
            _tell(contents)
            found.append(contents)
    return found


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
    _tell(contents)
    if contents.path != claim.path:
        return f", and what a recorder left that was killed is {contents.path} now"
    return f" (closed just now, a recorder that was killed had left it: {contents.describe()})"


def _tell(contents: Contents) -> None:
    log.warning("%s: closed what a recorder left that was killed: %s", contents.path, contents.describe())


# -- in the file ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Counted:
    groups: dict[str, h5py.Group]  # of the streams that can be read
    rows: dict[str, int]
    announced: dict[str, int]
    spoiled: bool  # a stream is there that cannot be read

    @property
    def surplus(self) -> list[tuple[h5py.Dataset, int]]:
        """Columns with room beyond their rows, and the rows."""
        columns = [
            (column, self.rows[name]) for name, group in self.groups.items() for column in _columns(group)
        ]
        return [(column, rows) for column, rows in columns if len(column) > rows]

    def whole(self, file: h5py.File) -> bool:
        """Every stream ended as planned, and every spectrum that was announced is there."""
        expected = set(json.loads(file.attrs.get("streams", "[]"))) or set(self.rows) or {"any"}
        return (
            not self.spoiled
            and not file.attrs.get(DAMAGE, "")
            and set(self.rows) == expected
            and all(group.attrs.get("reason") == "complete" for group in self.groups.values())
            and self.rows == self.announced
        )


def _count(file: h5py.File) -> _Counted:
    """What is there. Raises RecordingError if there are fewer rows than the file says, or if none of the
    streams that are there can be read: nothing is cut or closed that somebody may still save."""
    if not is_recording(file):
        raise RecordingError(f"{file.filename} is no recording of `cars-rt record`")
    counted, spoiled = _Counted({}, {}, {}, False), ""
    for stream, main in MAIN_ARRAY.items():
        try:
            group = stored(file, stream, h5py.Group)
            written = None if group is None else stored(group, "written", h5py.Dataset)
            spectra = None if group is None else stored(group, main, h5py.Dataset)
            if group is None or written is None or spectra is None:
                continue  # it never began, or was killed while it began, when it promised nothing yet
            if not are_numbers(spectra.dtype):
                raise StorageError(Path(file.filename), f"its {main} are no numbers but {spectra.dtype}")
            rows = rows_written(group)
            lengths = [len(column) for column in _columns(group)]
        except FilterError:
            raise
        except (StorageError, OSError, RuntimeError, TypeError, ValueError) as error:
            spoiled = f"the {stream} stream in it cannot be read: {reason(error)}"
            log.warning("%s: %s", file.filename, spoiled)
            counted = replace(counted, spoiled=True)
            continue
        if rows < 0 or min(lengths, default=0) < rows:
            raise RecordingError(
                f"{file.filename} is damaged: fewer rows of {stream} than the {rows} it names"
            )
        counted.groups[stream], counted.rows[stream] = group, rows
        counted.announced[stream] = int(group.attrs.get("announced", -1))
    if spoiled and not counted.groups:
        raise RecordingError(f"{file.filename} is damaged and left as it is: {spoiled}")
    return counted


def _settle(file: h5py.File) -> _Counted:
    """Cut to the rows that are data and write down what that makes of the recording."""
    _mend_texts(file)
    counted = _count(file)
    for group in counted.groups.values():
        if stored(group, TAIL, h5py.Group) is not None:
            _take_in_tail(group)
    for column, rows in counted.surplus:
        column.resize(rows, axis=0)
    if file.attrs.get("reason", NOT_CLOSED) == NOT_CLOSED and counted.groups:
        reasons = {str(group.attrs.get("reason", NOT_CLOSED)) for group in counted.groups.values()}
        file.attrs["reason"] = ", ".join(sorted(reasons))
    file.attrs.modify("complete", counted.whole(file))
    _describe(file, counted)
    return counted


def _mend_texts(file: h5py.File) -> None:
    """Mend texts that were being written when the recorder was killed. Nothing of such a receipt counts."""
    for place in [file, *(group for name in MAIN_ARRAY if (group := _group(file, name)) is not None)]:
        spoiled = set(place.attrs) - set(readable_attrs(place))
        if not spoiled:
            continue
        log.warning(
            "%s: %s of %s was spoiled by a kill", file.filename, ", ".join(sorted(spoiled)), place.name
        )
        given = {"reason": NOT_CLOSED} if place is file else NO_RECEIPT
        for name in spoiled - set(given):
            place.attrs.modify(name, "[]" if name == "made_by" else "")
        if spoiled & set(given):
            for name, value in given.items():
                place.attrs.modify(name, value)


def _group(file: h5py.File, name: str) -> h5py.Group | None:
    """A stream's group, if it can be read."""
    try:
        found: h5py.Group | None = stored(file, name, h5py.Group)
    except StorageError:
        return None
    return found


def _take_in_tail(group: h5py.Group) -> None:
    """Move the last rows, which waited for their chunk to be whole, into it."""
    first, count, slot = tail_of(group)
    tail = stored(group, TAIL, h5py.Group)
    if first >= int(group["written"][()]):
        for name in (each for each in tail if each != TAIL_ROWS):
            rows, found = stored(tail, name, h5py.Dataset), stored(group, name, h5py.Dataset)
            found.resize(first, axis=0)  # whole chunks: none is written anew
            found.resize(first + count, axis=0)
            if count:
                found[first:] = rows[slot, :count]
        group["written"][()] = first + count
    del group[TAIL]


def _describe(file: h5py.File, counted: _Counted) -> None:
    """Write what other programs look for. A recording that says nonsense of itself keeps its rows without it,
    and so does one on a full disk: `repair` does the rest when there is room."""
    try:
        _refuse_full_disk(file, room_for(counted.groups))
    except OSError as error:
        log.warning("%s: no map is made of it (%s); `cars-rt repair` makes it", file.filename, reason(error))
        return
    try:
        describe(file, counted.groups)
    except Exception as error:  # h5py and NumPy raise many kinds at odd values
        log.warning("%s: no map is made of it: %s", file.filename, reason(error))
    file.attrs.update({DESCRIBED: FORMAT_VERSION, "version": FORMAT_VERSION})


def _refuse_full_disk(file: h5py.File, size: int) -> None:
    """Raises OSError if the file cannot grow by so much: HDF5 crashes where its own tables find no room."""
    if shutil.disk_usage(Path(file.filename).parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if hasattr(os, "posix_fallocate"):  # the file may have a limit of its own
        with Path(file.filename).open("r+b", buffering=0) as itself:
            end = itself.seek(0, os.SEEK_END)
            try:
                os.posix_fallocate(itself.fileno(), end, size)
            finally:
                itself.truncate(end)


def _columns(group: h5py.Group) -> Iterator[h5py.Dataset]:
    """The datasets that grow with the rows and are as long; without those whose last rows wait in the
    tail."""
    tail = stored(group, TAIL, h5py.Group)
    for name in group:
        if tail is not None and name in tail:
            continue
        column = stored(group, name)
        if isinstance(column, h5py.Dataset) and column.ndim and column.maxshape[0] is None:
            yield column


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


def _refuse_exchanged(path: Path, made: os.stat_result | None) -> None:
    if made is not None and not same_file(path, made):
        raise RecordingError(f"{path} was moved or exchanged by another program while it was written")


@contextmanager
def _told(path: Path) -> Iterator[None]:
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
