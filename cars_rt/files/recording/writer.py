"""The writer of a recording: one run into one file."""

import errno
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike

from cars_rt.accounting import MAX_RANGES, Ledger
from cars_rt.files.checksum import WHOLE, checksum
from cars_rt.files.hdf5 import changed, created
from cars_rt.files.measurement import ABOUT, stored
from cars_rt.files.places import positions
from cars_rt.files.recording.bands import NAME as BANDS
from cars_rt.files.recording.bands import Means
from cars_rt.files.recording.claim import Claim
from cars_rt.files.recording.errors import RecordingError, reason
from cars_rt.files.recording.finish import Contents, claimed, finish
from cars_rt.files.recording.packing import PLAIN, Packing
from cars_rt.files.recording.rows import Rows
from cars_rt.files.recording.texts import NO_RECEIPT, NOT_CLOSED
from cars_rt.files.unreadable import system_error
from cars_rt.files.written import FORMAT, FORMAT_VERSION
from cars_rt.protocol import DTYPES, FLAGS, NETWORK_OUTPUTS, End, Frame, Start
from cars_rt.protocol.messages import MAIN_ARRAY
from cars_rt.storage import NO_LOCKS, StorageError, Syncing, refuse_no_room
from cars_rt.storage.write import same_file

#: What is kept of a frame without them.
ABSENT: Mapping[str, Any] = {FLAGS: np.uint8(0)} | dict.fromkeys(NETWORK_OUTPUTS, np.float32(np.nan))
SYNC_S = 5.0  # what a power failure costs; the end of a recording waits for what is not on the disk then
ROOM, ROOM_BYTES = "room", 8_192  # at the top of the file, for what is said there when a stream begins
HEAD_BYTES = 2**20  # that what is said of a file, or of a stream of it, takes at most, beside arrays


class Recording:
    """Writes one run. Raises RecordingError if the file cannot be created or written.

    path: what the file is called in the end, or a claim of that name, which is released with the recording.
    streams: those without which the recording is not complete; the ones that were started if not given.
    packing: how counts and results are compressed.
    After an error nothing more is written; `close` then leaves the partial file, readable up to the
    last flush, and `rescue` makes a whole file of it.
    """

    def __init__(
        self,
        path: Path | Claim,
        *,
        streams: Collection[str] = (),
        overwrite: bool = False,
        packing: Packing = PLAIN,
    ) -> None:
        self._claim = path if isinstance(path, Claim) else claimed(path, overwrite=overwrite)
        self.path = self._claim.path
        self.partial = self._claim.partial
        self.contents: Contents | None = None  # counted in the file, once it is closed
        self._overwrite, self._packing = overwrite, packing
        self.rows: dict[str, Rows] = {}
        self._ends: dict[str, End] = {}
        self._receipts: dict[str, dict[str, Any]] = {}  # of streams that ended, until their rows are on disk
        self._scans: dict[str, tuple[int, int] | None] = {}
        self._made_by: list[tuple[int, str]] = []  # from which index on results were made by what
        self._makers_written = 0
        self._trust: list[str] = []  # what the run's results say of themselves
        self._means: Means | None = None
        self._failed = self._meddled = False
        self._syncing = Syncing(self.partial, SYNC_S)
        try:
            refuse_no_room(self.partial, HEAD_BYTES)  # HDF5 crashes where there is none for its own tables
            self._file = created(self.partial)
        except OSError as error:
            self._claim.release()
            raise RecordingError(f"{self.partial} cannot be created: {reason(error)}") from None
        with self._guarded():
            self._made = self.partial.lstat()
            self._file.attrs.update(
                {"format": FORMAT, "version": FORMAT_VERSION, "complete": False, "reason": NOT_CLOSED}
            )
            self._file.attrs.update({"program": f"cars-rt {version('cars-rt')}", **packing.about})
            if streams:
                self._file.attrs["streams"] = json.dumps(sorted(streams))
            self._file.attrs[ROOM] = np.zeros(ROOM_BYTES, np.uint8)
            self._file.flush()  # a file that can be opened, from here on

    def start(self, start: Start, rows: int | None = None) -> None:
        """Make room for one stream of the run: for `rows` spectra, or as many as it plans."""
        with self._guarded():
            refuse_no_room(self.partial, HEAD_BYTES + 2 * start.raman_shift.nbytes)  # axis and dark
            # Without a name until all of it is on disk: who is killed before leaves the other stream whole.
            group = h5py.Group(h5py.h5g.create(self._file.id, None))
            # With HDF5's own checksum, too, which other programs look at: they are written once.
            for name, values in (("raman_shift", start.raman_shift), ("dark", start.dark)):
                if values is not None:
                    group.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)
                    group[name].attrs[WHOLE] = checksum(values)  # one kept open crashes on a full disk
            group["raman_shift"].attrs["unit"] = np.bytes_("cm-1")  # which stays where texts are spoiled
            about = {name: stored(getattr(start, name)) for name in ABOUT}
            attrs = {name: _attr(value) for name, value in about.items() if value is not None}
            group.attrs.update(attrs)
            for name, text in (start.model or {}).items():
                group.attrs[f"model_{name}"] = _text(text)
            # Their room, too: a kill amid the writes of new attributes at the end would spoil the group.
            group.attrs.update(NO_RECEIPT)
            if start.stream == "raman":
                group.attrs["made_by"] = "[]"
            columns: dict[str, tuple[tuple[int, ...], Any]] = {
                MAIN_ARRAY[start.stream]: ((start.pixels,), DTYPES[start.dtype]),
                "index": ((), np.int64),
                "sequence": ((), np.int64),
                "time_ns": ((), np.int64),
            }
            if start.scan is not None:
                columns["position"] = ((2,), np.int32 if max(start.scan) < 2**31 else np.int64)
            if start.stream == "raman":
                columns |= {"time_in_ns": ((), np.int64), "time_out_ns": ((), np.int64)}
                trust: dict[str, tuple[tuple[int, ...], Any]] = {FLAGS: ((), np.uint8)}
                trust |= dict.fromkeys(NETWORK_OUTPUTS, ((start.pixels,), np.float32))
                columns |= {name: column for name, column in trust.items() if name in (start.model or {})}
                self._trust = [name for name in trust if name in columns]
                self._means = Means(start.raman_shift)
                columns[BANDS] = ((len(self._means.bands),), np.float32)
                group.attrs[BANDS] = self._means.about
            self.rows[start.stream] = Rows(
                group, columns, start.spectra if rows is None else rows, self._packing
            )
            self._scans[start.stream] = start.scan
            self._file.flush()
            # The attributes at the top are the instrument's; results may come in other blocks.
            if start.stream != "raman" or "raw" not in self._file:
                self._say(attrs)
            self._file[start.stream] = group
            self._file.flush()

    def _say(self, attrs: Mapping[str, Any]) -> None:
        """Put attributes at the top, in the room that was kept for them: elsewhere, a kill amid the writes
        would spoil the way to all that is in the file."""
        top = self._file.attrs
        if ROOM in top:
            del top[ROOM]
        for name, value in attrs.items():
            if name not in top:
                top[name] = value
            elif not np.array_equal(top[name], value):
                top.modify(name, value)

    def append(self, frame: Frame) -> None:
        """Take in one frame of a stream that was started."""
        block = frame.block
        index = np.arange(frame.index, frame.index + len(block))
        columns: dict[str, ArrayLike] = {
            MAIN_ARRAY[frame.stream]: block,
            "index": index,
            "sequence": frame.sequence,
            "time_ns": frame.times_ns,
        }
        if (scan := self._scans[frame.stream]) is not None:
            columns["position"] = positions(index, scan[1])
        if frame.stream == "raman":
            columns |= {"time_in_ns": frame.time_in_ns or 0, "time_out_ns": frame.time_out_ns or 0}
            for name in self._trust:
                columns[name] = frame.arrays.get(name, ABSENT[name])
        if frame.made_by is not None:
            self.made(frame.index, frame.made_by)
        self.put(frame.stream, len(block), columns)

    def put(self, stream: str, rows: int, columns: Mapping[str, ArrayLike]) -> None:
        """Take in `rows` rows of a stream that come from another file, not in frames. A column is an array of
        as many rows, or one value for all of them."""
        if stream == "raman" and self._means is not None:
            columns = {**columns, BANDS: self._means.of(np.asarray(columns[MAIN_ARRAY[stream]]))}
        with self._guarded():
            if self.rows[stream].lack(rows):
                with self._at_once() as file:
                    self.rows[stream].grow(file[stream], rows)
            self.rows[stream].append(rows, **columns)

    @contextmanager
    def _at_once(self) -> Iterator[h5py.File]:
        """The file, to be changed otherwise than by rows, all at once: a kill amid what HDF5 writes for that
        would spoil the way to what is there."""
        self.flush()
        self._file.close()
        with changed(self.partial, locking=False) as file:
            yield file
        try:
            self._file = h5py.File(self.partial, "r+")
        except OSError as error:  # a reader came between, who has the lock; the name is still claimed
            if system_error(error) not in {errno.EAGAIN, *NO_LOCKS}:
                raise
            self._file = h5py.File(self.partial, "r+", locking=False)
        for name, each in self.rows.items():
            each.bind(self._file[name])
        self._refuse_meddling()

    def made(self, index: int, made_by: str) -> None:
        """Results from this spectrum on are made by this model, engine and dark."""
        if made_by not in (each for _, each in self._made_by[-1:]):
            self._made_by.append((index, made_by))

    def end(self, end: End, ledger: Ledger) -> None:
        """Note how a stream ended and what of it did not arrive here."""
        self._ends[end.stream] = end
        with self._guarded():
            self._receipts[end.stream] = {
                "announced": end.spectra if end.announced is None else end.announced,
                "reason": end.reason.value,
                "lost_before": json.dumps(dict(end.lost)),
                "lost": json.dumps(dict(ledger.lost)),
                "ranges": json.dumps(ledger.ranges),  # [cause, index of the first, spectra]
            }

    def note(self, name: str, attrs: Mapping[str, Any], data: ArrayLike | None = None) -> None:
        """Put something beside the streams: a group of this name, or a dataset if there are data."""
        with self._guarded():
            if any(each.count for each in self.rows.values()):
                with self._at_once() as file:
                    _note(file, name, attrs, data)
            else:
                _note(self._file, name, attrs, data)

    def flush(self) -> None:
        """Put everything appended so far on disk, where it stays readable whatever happens."""
        with self._guarded():
            for rows in self.rows.values():
                rows.write()
            self._file.flush()  # the data first, then the number that vouches for them
            for rows in self.rows.values():
                rows.settle()
            if len(self._made_by) > self._makers_written:
                self._makers_written = len(self._made_by)
                self._file["raman"].attrs.modify("made_by", json.dumps(self._made_by[:MAX_RANGES]))
            self._file.flush()
            # Only now, when every row that they speak of is vouched for: who is killed before leaves a stream
            # that was not closed, and none whose receipt says more than there is.
            for stream, receipt in self._receipts.items():
                for name, value in receipt.items():
                    self._file[stream].attrs.modify(name, value)
            if self._receipts:
                self._receipts.clear()
                self._file.flush()
            self._refuse_meddling()
            self._syncing.look()

    def close(self, otherwise: str = "stopped") -> Path:
        """Finish the file and give it its name; where it lies now. `contents` is what it holds. otherwise:
        why it ends, if none of its streams has."""
        if self._failed:
            return self.partial if self.contents is None else self.contents.path
        self.flush()
        try:
            with self._guarded():
                self._write_reason(otherwise)
                self._file.close()
                self._syncing.wait()
                self.contents = finish(self._claim, made=self._made, overwrite=self._overwrite)
        finally:
            self.fail()  # nothing more can be written, and others may have the name
        return self.contents.path

    def _write_reason(self, otherwise: str) -> None:
        reasons = {end.reason.value for end in self._ends.values()}
        self._file.attrs.modify("reason", ", ".join(sorted(reasons)) or otherwise)

    def rescue(self) -> Contents | None:
        """After an error: make a whole file of what can be read, None if that fails."""
        if self._meddled:
            return None
        with suppress(RecordingError):
            claim = Claim(self.path)
            try:
                self.contents = finish(claim, made=self._made, overwrite=self._overwrite)
            finally:
                claim.release()
        return self.contents

    def _refuse_meddling(self) -> None:
        """Raises StorageError if another program took the file away or made it shorter: what would be written
        from now on would be lost, and nobody would know before the end."""
        self._meddled = True
        if not same_file(self.partial, self._made):
            raise StorageError(self.partial, "it was moved, deleted or exchanged by another program")
        if self.partial.lstat().st_size < self._file.id.get_filesize():
            raise StorageError(self.partial, "it was cut by another program")
        self._meddled = False

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn a failed write into a RecordingError that says what is left."""
        if self._failed:
            raise RecordingError(f"{self.partial} is closed after an error")
        try:
            yield
        except RecordingError:
            raise
        except Exception as error:  # h5py has many kinds
            if not (isinstance(error, OSError | RuntimeError) or system_error(error)):
                raise
            self.fail()
            left = "" if isinstance(error, StorageError) else "; what was flushed stays readable in it"
            raise RecordingError(f"{self.partial} cannot be written: {reason(error)}{left}") from None

    def fail(self) -> None:
        """Let go of the file as it is: what was handed to the system so far is readable."""
        if self._failed:
            return
        self._failed = True
        with suppress(Exception):  # also where there is no room: this number has its place
            for rows in () if self._meddled else self.rows.values():
                rows.settle()
        with suppress(Exception):  # closing would write what there is no room for
            self._file.close()
        self._claim.release()


def _note(file: h5py.File, name: str, attrs: Mapping[str, Any], data: ArrayLike | None) -> None:
    place = file.require_group(name) if data is None else file.create_dataset(name, data=data)
    for key, value in attrs.items():
        place.attrs[key] = _attr(value)


def _attr(value: Any) -> Any:
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """Text that HDF5 can hold; a file's name that is no UTF-8 is none."""
    return text.replace("\0", " ").encode("utf-8", "backslashreplace").decode("utf-8")
