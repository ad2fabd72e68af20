"""One file that is being written: what of its run belongs in it, and what of that has ended."""

import logging
import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cars_rt.files.recorder.disk import stored_bytes
from cars_rt.files.recorder.portion import portion, within
from cars_rt.files.recording import PLAIN, Claim, Packing, Recording
from cars_rt.kinds import Outside
from cars_rt.printable import counted, typed
from cars_rt.protocol import Closed, Frame, Reason, RunReader, Start
from cars_rt.storage.memory import size

log = logging.getLogger("cars_rt.recording")


@dataclass(slots=True)
class Recorded:
    """What went into one file."""

    run: str
    path: str = ""
    complete: bool = False  # of a part: everything of its share is there
    rows: dict[str, int] = field(default_factory=dict)  # spectra, by stream
    lost: dict[str, dict[str, int]] = field(default_factory=dict)  # on the way here, by stream and cause
    planned: int | None = None  # spectra of the whole run, as its start said
    first: int = 0  # index of the first spectrum that belongs in the file
    part: int = 0  # 1, 2, ... where a recording is in several files

    def describe(self) -> str:
        """How much is in the file."""
        rows = ", ".join(f"{count} spectra {stream}" for stream, count in self.rows.items())
        return f"{rows or 'no spectra'}, {'complete' if self.complete else 'incomplete'}"


def once_more(start: Start, known: Iterable[Recorded]) -> str:
    """That a stream begins a run that it had ended before, in one sentence; empty if it does not. known: what
    was recorded."""
    if start.index or not any(each.run == start.run and start.stream in each.rows for each in known):
        return ""
    return (
        f"the {start.stream} stream begins run {start.run} once more: give each run an id of its own, or "
        "spectra of the second one may be taken for those of the first"
    )


def waiting_for(waiting: int, given_up: int) -> str:
    """How many recordings have one stream of two, to end a phrase."""
    said = ((waiting, "open for"), (given_up, "closed without"))
    return "".join(
        f", {how} their other stream: {counted(count, 'recording')}" for count, how in said if count
    )


class Piece:
    """Spectra of one run from index `first` on, and, once it is cut, up to `limit`."""

    def __init__(
        self,
        claim: Claim,
        run: str,
        streams: Collection[str],
        about: Mapping[str, str],
        *,
        first: int = 0,
        before: Outside = Outside.UNRECORDED,
        overwrite: bool = False,
        packing: Packing = PLAIN,
    ) -> None:
        """streams: those that are wanted. about: texts for the file's attributes. before: why spectra before
        `first` are not in it."""
        self.recorded = Recorded(run, str(claim.path), first=first)
        self.recording = Recording(claim, streams=set(streams), overwrite=overwrite, packing=packing)
        self._packing = packing
        self.run, self.first, self.before, self.about = run, first, before, dict(about)
        self.limit: int | None = None
        self._patience = 0.0  # s that streams have to move on towards the limit
        self._moved = 0.0  # when they last moved
        self._came = -1  # rows in all at that time
        self.next: Piece | None = None  # the one that takes what is beyond the limit
        self.ended = 0.0  # when a stream of it last ended
        self.flushed: dict[str, int] = {}  # rows on disk, by stream
        self.starts: dict[str, Start] = {}
        self.broken_off: set[str] = set()  # streams that ended before the run was complete, and may go on
        self._streams = set(streams)
        self._whole = True  # whether everything that belongs here is here
        self._end = first  # index up to which streams came that have ended
        self.note(**self.about)
        if first and before is Outside.UNRECORDED:
            self.note(began_at=first)

    @property
    def open(self) -> set[str]:
        """Streams that began and have not ended."""
        return set(self.recording.rows) - set(self.recorded.rows)

    @property
    def waiting(self) -> bool:
        """Every stream that began has ended, and another one should have begun."""
        return bool(self.recorded.rows) and not self.open

    @property
    def over(self) -> bool:
        """Whether nothing of it is still to come."""
        return self._streams == set(self.recorded.rows)

    @property
    def spectra(self) -> int:
        """Spectra that it has, those of several streams counted once."""
        return max((each.count for each in self.recording.rows.values()), default=0)

    @property
    def given_bytes(self) -> int:
        """Bytes of its rows, before any compression."""
        return sum(each.count * each.row_bytes for each in self.recording.rows.values())

    @property
    def finished(self) -> bool:
        """Whether the file has its name."""
        return self.recording.contents is not None

    @property
    def stored_bytes(self) -> int:
        """Bytes that it takes on the disk."""
        path = self.recording.partial if self.recording.contents is None else self.recording.contents.path
        return stored_bytes(path, self.given_bytes)

    def note(self, **attrs: Any) -> None:
        """Say in the file what a reader of the whole should know."""
        if attrs:
            self.recording.note("/", attrs)

    def start(self, start: Start) -> None:
        """A stream of the run begins, or is joined."""
        if start.stream in self.recording.rows:
            return
        self.starts[start.stream] = start
        self.recorded.planned = start.spectra
        rows = None if start.spectra is None else max(start.spectra - self.first, 1)
        _warn_of_full_disk(self.recording.path, (rows or 0) * start.spectrum_bytes)
        self.recording.start(start, rows)

    def take(self, frame: Frame) -> None:
        """Take in what of a frame belongs in it."""
        if frame.stream in self.open and (part := within(frame, self.first, self.limit)) is not None:
            self.recording.append(part)

    def cut(self, readers: Mapping[str, RunReader], patience_s: float, now: float) -> None:
        """Set the limit where the furthest of its streams is. The others have yet to come so far."""
        if self.limit is None:
            self.limit = max([self._end, *(each.index for each in self._at(readers).values())])
        self._patience, self._moved = patience_s, now

    def go_on(self, readers: Mapping[str, RunReader]) -> "Piece":
        """The part after this one, which was cut: its streams as they were said last. Raises RecordingError
        if it cannot be begun."""
        assert self.limit is not None
        path, number = self.recording.path, self.recorded.part or 1
        stem = path.stem if number == 1 else path.stem.removesuffix(f"-part{number}")
        claim = Claim.unused(path.with_stem(f"{stem}-part{number + 1}"))
        self.recorded.part = number
        about, before = self.about, Outside.ELSEWHERE
        self.next = Piece(
            claim, self.run, self._streams, about, first=self.limit, before=before, packing=self._packing
        )
        self.next.recorded.part = number + 1
        now = {stream: reader.run for stream, reader in self._at(readers).items()}
        for stream, start in self.starts.items():
            self.next.start(now.get(stream) or start)
        self.note(part=number, next_part=claim.path.name)
        self.next.note(part=number + 1, previous_part=path.name)
        return self.next

    def again(self, start: Start) -> "Piece":
        """A file for a stream of the same run that goes on after it had ended here."""
        claim = Claim.unused(self.recording.path)
        piece = Piece(claim, self.run, {start.stream}, self.about, packing=self._packing)
        piece.start(start)
        return piece

    def catch_up(self, readers: Mapping[str, RunReader], now: float) -> bool:
        """End streams that came up to the limit, after a cut. Returns whether nothing more is waited for."""
        if (came := sum(each.count for each in self.recording.rows.values())) != self._came:
            self._came, self._moved = came, now
        late = now > self._moved + self._patience
        for reader in self._at(readers).values():
            if (late or self.limit is None or reader.index >= self.limit) and (
                closed := reader.so_far(time.time_ns(), Reason.STOPPED)
            ):
                self.end(closed, now)
        return late or self.over

    def stop(self, readers: Mapping[str, RunReader], now: float) -> None:
        """End all streams where they are."""
        for reader in self._at(readers).values():
            if closed := reader.so_far(time.time_ns(), Reason.STOPPED):
                self.end(closed, now)

    def _at(self, readers: Mapping[str, RunReader]) -> dict[str, RunReader]:
        """The readers of its open streams."""
        runs = {stream: reader.run for stream, reader in readers.items() if stream in self.open}
        return {stream: readers[stream] for stream, run in runs.items() if run and run.run == self.run}

    def end(self, closed: Closed, now: float) -> None:
        """A stream is over, here at least."""
        stream = closed.end.stream
        if stream not in self.open:
            return  # it began in another file, which was closed
        if closed.end.reason is not Reason.COMPLETE and self.limit is None:
            self.broken_off.add(stream)  # a daemon that was stopped amid a run may be started again
        count = self.recording.rows[stream].count
        mine = portion(closed, count, self.first, self.limit, self.before)
        self.recording.end(mine.end, mine.ledger)
        self.recorded.rows[stream] = count
        self.recorded.lost[stream] = dict(mine.ledger.lost)
        self.ended, self._end = now, max(self._end, mine.end.announced or 0)
        lost = set(mine.ledger.lost) - {Outside.ELSEWHERE.value}
        goes_on = self.next is not None and mine.end.announced == self.limit
        self._whole &= not lost and (mine.end.reason is Reason.COMPLETE or goes_on)

    def flush(self) -> None:
        """Put what has come on disk."""
        counts = {stream: rows.count for stream, rows in self.recording.rows.items()}
        self.recording.flush()
        self.flushed = counts

    def close(self) -> str:
        """Finish the file. Returns what is in it, as counted there, in a phrase. If it fails, call it again
        later."""
        recorded = self.recorded
        path: Path = self.recording.close()
        contents = self.recording.contents or self.recording.rescue()
        recorded.path = str(path if contents is None else contents.path)
        recorded.complete = contents is not None and contents.complete
        if contents is None:
            recorded.rows = dict(self.flushed)
            return f"{recorded.describe()}; `cars-rt repair {typed(path)}` finishes it when it can be written"
        if recorded.part:
            recorded.complete = self._whole and set(contents.rows) == self._streams
            recorded.complete &= contents.rows == recorded.rows
        recorded.rows = dict(contents.rows)
        self.flushed = dict(contents.rows)
        return f"part {recorded.part}, {recorded.describe()}" if recorded.part else contents.describe()


def _warn_of_full_disk(path: Path, needed: int) -> None:
    """Say at the start what would otherwise end the recording hours later."""
    with suppress(OSError):  # of a folder that is gone the recording itself tells
        if needed > (free := shutil.disk_usage(path.parent).free):
            log.warning("%s: the run needs %s, the disk has %s", path, size(needed), size(free))
