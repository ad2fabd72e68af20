"""Results in a recording, which go on where a kill or Ctrl-C left them.

They are written as the recorder writes (see `cars_rt.files.recording`): under a partial name, with every row
that was flushed readable at any moment. A group /process says which counts and which model they come from.
The next attempt to make the same file sets that partial file aside, as .NAME.earlier, takes its rows over,
and computes the rest; what was set aside goes when its rows are on disk anew. So a kill at any moment costs
the rows since the last flush, and never the file.
"""

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Ledger, Range
from cars_rt.files.extent import mend
from cars_rt.files.hdf5 import opened, stored
from cars_rt.files.recording import Claim, Packing, Recording, RecordingError, Without, partial_path
from cars_rt.files.recording.texts import NOT_CLOSED
from cars_rt.files.spectra import SpectraError
from cars_rt.files.unreadable import UNREADABLE, explained, system_error
from cars_rt.files.written import (
    DAMAGE,
    MADE_FROM,
    PROCESS,
    is_of_process,
    is_recording,
    rows_written,
    stored_rows,
)
from cars_rt.printable import typed
from cars_rt.protocol import End, Reason, Start, StreamName
from cars_rt.protocol.messages import MAIN_ARRAY
from cars_rt.storage import StorageError
from cars_rt.storage.write import refuse_target, sync_file, sync_folder

log = logging.getLogger("cars_rt.results")

STREAM: StreamName = "raman"
ENGINE = "engine"  # an attribute beside MADE_FROM
FLUSH_S = 1.0  # between two flushes: what a kill costs
PIECE_BYTES = 8 * 2**20  # of rows that are taken over at once

Rows = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Origin:
    """What results say of where they come from.

    start: of their stream. made_from: text that is the same where the results are. made_by: model, engine and
    dark, as recordings have it. receipt: how the run of the counts ended, see `RECEIPT`. about: what else is
    written down, for people. written: what people wrote of the run, see `WRITTEN`. arrays: what else went in,
    such as the reference.
    """

    start: Start
    made_from: str
    made_by: str
    engine: str
    receipt: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Filled:
    """What became of a file's spectra: how many were computed now, how many of these have which flag, and
    which of all have no result, in a phrase."""

    computed: int
    flagged: Counter[str]
    damage: str


class Resumed:
    """One file of results that is being written. `written` rows are in it already."""

    def __init__(self, recording: Recording, origin: Origin, total: int) -> None:
        self._recording, self._origin, self._total = recording, origin, total
        self._flushed = -FLUSH_S  # the first rows are flushed at once
        self.written = 0
        self.without = Without()
        recording.note(
            PROCESS, {MADE_FROM: origin.made_from, ENGINE: origin.engine, "spectra": total, **origin.about}
        )
        for name, values in origin.arrays.items():
            recording.note(f"{PROCESS}/{name}", {}, values)
        recording.note("/", origin.written)
        recording.start(origin.start, rows=total)
        recording.made(origin.start.index, origin.made_by)

    def append(self, rows: Rows) -> None:
        """The next rows: arrays of one row for each spectrum. Raises RecordingError."""
        count = len(rows[MAIN_ARRAY[STREAM]])
        index = np.arange(self.written, self.written + count)
        absent: dict[str, Any] = {"index": index, "sequence": index, "time_ns": 0}
        absent |= {"time_in_ns": 0, "time_out_ns": 0}  # only a daemon knows them
        columns = absent | dict(rows)
        self.without.add(columns["index"], columns[MAIN_ARRAY[STREAM]])
        self._recording.put(STREAM, count, columns)
        self.written += count
        if time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Put what was appended on disk, where it outlives a kill."""
        self._recording.flush()
        self._flushed = time.monotonic()

    def take_over(self, earlier: Path, align: int) -> None:
        """Rows of an earlier attempt, as many as make a multiple of `align`. One with rows that cannot be
        read goes when those before them are on disk here."""
        with opened(earlier) as file:
            group = stored(file, STREAM, h5py.Group)
            count = min(_written(group), self._total) // align * align
            step = max(PIECE_BYTES // self._recording.rows[STREAM].row_bytes // align, 1) * align
            try:
                columns = {name: stored_rows(group, name) for name in self._columns}
                for first in range(0, count, step):
                    rows = slice(first, min(first + step, count))
                    self.append({name: column[rows] for name, column in columns.items()})
            except StorageError as error:
                if not error.of_file:
                    raise
        self.flush()
        if self.written < count:
            log.warning("%s is damaged: computed again from spectrum %d on", earlier, self.written)
        sync_file(self._recording.partial)
        sync_folder(earlier.parent)
        earlier.unlink()  # it takes the room of those to come

    def finish(self) -> Path:
        """Give the file its name, now that all rows are there. Raises RecordingError."""
        if damage := str(self.without):
            for place in (STREAM, "/"):
                self._recording.note(place, {DAMAGE: damage})
        receipt = self._origin.receipt
        if receipt.get("announced") == -1:  # the run of the counts never ended, and so nor does this
            return self._recording.close(NOT_CLOSED)
        reasons = {reason.value: reason for reason in Reason}
        lost, before = (json.loads(receipt.get(name, "{}")) for name in ("lost", "lost_before"))
        ranges = [Range(*each) for each in json.loads(receipt.get("ranges", "[]"))]
        end = End(
            stream=STREAM,
            run=self._origin.start.run,
            time_ns=time.time_ns(),
            frames=self.written,
            spectra=self.written,
            reason=reasons.get(receipt.get("reason", ""), Reason.COMPLETE if not receipt else Reason.STOPPED),
            announced=max(receipt.get("announced", self.written), self.written),
            lost=before,
        )
        ledger = Ledger(ranges=ranges)
        ledger.lost.update(lost)
        self._recording.end(end, ledger)
        return self._recording.close()

    @property
    def _columns(self) -> list[str]:
        return self._recording.rows[STREAM].names


@contextmanager
def resuming(
    path: Path,
    total: int,
    origin: Origin,
    *,
    align: int = 1,
    overwrite: bool = False,
    delete_others: bool = False,
) -> Iterator[Resumed]:
    """A file of results to be filled to `total` rows; whole, under its name, when the block ends.

    align: earlier rows are taken over in multiples of this. overwrite: replace one of this name.
    delete_others: delete an unfinished one of another origin, which is put aside otherwise. Whatever ends it
    before, the rows so far stay in the partial file for the next attempt. Raises SpectraError.
    """
    earlier = earlier_path(path)
    recording: Recording | None = None
    try:
        claim = _claimed(path, earlier, origin, overwrite, delete_others)
        try:
            recording = Recording(
                claim, streams=(STREAM,), overwrite=overwrite, packing=Packing("lz4").usable()
            )
            results = Resumed(recording, origin, total)
            if earlier.exists():
                results.take_over(earlier, align)
                log.info("%s: goes on after %d of %d spectra", path, results.written, total)
            yield results
            results.finish()
        except BaseException as error:
            if not _kept(recording):
                with suppress(OSError):
                    claim.partial.unlink(missing_ok=True)
            elif isinstance(error, Exception):  # of Ctrl-C the program says it
                log.warning("%s: what is done of it is kept: the same command goes on from there", path)
            claim.release()
            raise
    except (RecordingError, StorageError) as error:
        raise SpectraError(str(error)) from None


def _kept(recording: Recording | None) -> bool:
    """Let go of a recording. Returns whether the next attempt finds anything in it."""
    if recording is None:
        return False
    with suppress(RecordingError):
        recording.flush()
    recording.fail()
    return any(each.count for each in recording.rows.values())


def earlier_path(path: Path) -> Path:
    """The name of an earlier attempt, which the next one takes over."""
    return path.with_name(f".{path.name}.earlier")


def mend_left(path: Path) -> None:
    """Complete what an attempt at this file that was killed was changing at that moment, if nobody else is
    writing it: nothing of it could be read. What cannot be is read, or computed again, as it is."""
    with suppress(RecordingError):
        claim = Claim(path)
        for left in (claim.partial, earlier_path(path)) if claim.locked else ():
            with suppress(Exception):  # a spoiled file may raise anything
                if left.is_file() and not left.is_symlink():
                    mend(left)
        claim.release()


def rows_of(path: Path, made_from: str) -> tuple[int, str]:
    """How many rows of results of the same origin a file has, and of which engine; -1 if it is no such
    file. Raises SpectraError if the system cannot read it."""
    found = _attempt(path)
    return (found.rows, found.engine) if found.made_from == made_from else (-1, "")


@dataclass(frozen=True)
class _Attempt:
    """What a file of results says: rows, -1 if it is none, and of what and by which engine they are. damaged:
    it cannot be read."""

    rows: int = -1
    made_from: str = ""
    engine: str = ""
    damaged: bool = False

    def is_of(self, origin: Origin) -> bool:
        return self.rows >= 0 and (self.made_from, self.engine) == (origin.made_from, origin.engine)


def _attempt(path: Path) -> _Attempt:
    """What is there. Raises SpectraError if the system cannot read it: that may be hours of work."""
    try:
        with opened(path) as file:
            group, rows = stored(file, PROCESS, h5py.Group), stored(file, STREAM, h5py.Group)
            if group is None or rows is None or MADE_FROM not in group.attrs:
                return _Attempt()
            made_from, engine = (str(group.attrs.get(name, "")) for name in (MADE_FROM, ENGINE))
            return _Attempt(_written(rows), made_from, engine)
    except FileNotFoundError:
        return _Attempt()
    except UNREADABLE as error:
        if isinstance(error, StorageError):
            if not error.of_file:
                raise SpectraError(str(error)) from None
        elif system_error(error):
            raise SpectraError(f"{path} cannot be read: {explained(error)}") from None
        return _Attempt(damaged=True)


def damage_of(path: Path) -> str:
    """Which results in a file have no counts, in a phrase; empty if all have. Raises StorageError."""
    with opened(path) as file:
        return str(file.attrs.get(DAMAGE, ""))


def room_needed(path: Path, made_from: str, engine: str, total: int, row_bytes: int) -> int:
    """How much room the results need beside what is there of them: row_bytes for each spectrum, or what a
    row of an earlier attempt took. Its rows lie there twice while they are taken over."""
    there, rows = 0.0, 0
    for each in (partial_path(path), earlier_path(path)):
        found = _attempt(each)
        if found.rows > rows and (found.made_from, found.engine) == (made_from, engine):
            about, rows = each.stat(), found.rows
            there = getattr(about, "st_blocks", about.st_size / 512) * 512  # rows to come take none yet
    if not rows:
        return total * row_bytes
    return int(max(there, total * min(there / rows, row_bytes) - there))


def _written(group: h5py.Group) -> int:
    return 0 if stored(group, "written", h5py.Dataset) is None else rows_written(group)


def _is_empty(path: Path) -> bool:
    """Whether a recording was killed before it had a place for rows."""
    try:
        with opened(path) as file:
            return is_recording(file) and not any(name in file for name in MAIN_ARRAY)
    except UNREADABLE:
        return False


def _claimed(path: Path, earlier: Path, origin: Origin, overwrite: bool, delete_others: bool) -> Claim:
    """The name, with what an earlier attempt of the same origin left under `earlier`. One of another origin
    is put aside: it may be of use to another command."""
    claim = Claim(path)
    try:
        if os.path.lexists(path) and not overwrite:
            raise RecordingError(f"{path} exists already; choose another name or give --overwrite")
        refuse_target(earlier)
        if os.path.lexists(claim.partial):
            if claim.locked and not (is_of_process(claim.partial) or _is_empty(claim.partial)):
                _clear_way(claim, overwrite)
            elif not claim.locked and not _attempt(claim.partial).is_of(origin):
                raise RecordingError(
                    f"{claim.partial} is in the way, and may be in use: there are no locks there to tell; "
                    "choose another name, or move it away"
                )
        _clear(claim, earlier, origin, delete_others)
        _clear(claim, claim.partial, origin, delete_others)
        if _attempt(claim.partial).rows > _attempt(earlier).rows:
            claim.partial.replace(earlier)
        else:
            claim.partial.unlink(missing_ok=True)
    except BaseException:
        claim.release()
        raise
    return claim


def _clear_way(claim: Claim, overwrite: bool) -> None:
    """Put aside what is no attempt, as far as can be seen: of one that a power failure has cut there may be
    nothing that says so. Raises RecordingError for what can be read, and may be of use, unless overwrite is
    given."""
    damaged = _attempt(claim.partial).damaged
    if not damaged and not overwrite:
        raise RecordingError(
            f"{claim.partial} is in the way: choose another name or, if it is a recording that was "
            f"cut short, finish it first: cars-rt repair {typed(claim.partial)}"
        )
    what = "what was left there cannot be read" if damaged else "what was there are no results"
    log.warning("%s: %s, and is %s now", claim.path, what, claim.put_aside())


def _clear(claim: Claim, left: Path, origin: Origin, delete: bool) -> None:
    """Have nothing of another origin under this name."""
    found = _attempt(left)
    if not os.path.lexists(left) or found.is_of(origin):
        return
    what = "cannot be read" if found.damaged else "was of other counts, model or engine"
    other, kept = f"{claim.path}: an earlier attempt {what}", found.rows > 0 or found.damaged
    if kept and not delete:
        aside = claim.put_aside(left)
        log.warning("%s, and is %s now; named %s it is gone on with", other, aside, claim.partial.name)
        return
    left.unlink()
    if kept:
        log.warning("%s, and is deleted", other)
