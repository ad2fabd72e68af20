"""A recording: one run in one HDF5 file.

    /                attrs: format, version, complete, reason; run, source and all else that `start` said (see
                     cars_rt/measurement.py)
    /raw             raman_shift (p,), counts (n, p), index, sequence, time_ns (n,), position (n, 2),
                     dark (p,) if known
    /raman           raman_shift (p,), raman (n, p), index, sequence, time_ns, time_in_ns, time_out_ns (n,),
                     position (n, 2); where the daemon gives them, flags (n,) uint8, whose bits' names are in
                     model_flags, and deviation (n, p), NaN where the model of that time states none;
                     attrs: model_name, model_sha256, model_card, ...
                     made_by: [index, what made results from there on], a change of model, engine or dark each
    /raw, /raman     written: how many rows are data; attrs: lost, announced (-1 until the stream ended)

What else is noted (see cars_rt/daemon/flight.py) lies in groups of its own.

While it is written the file is called NAME.partial.h5. Every dataset is allocated ahead and `written`
follows the data, so that writing changes no metadata: rows that were flushed are readable at any moment, also
after a kill, when rows from `written` on are not data. A kill within the millisecond in which a stream begins
can spoil that stream, which has no rows yet; one in which it ends, the text of its receipt. Closing cuts the
file to its rows and renames it.
"""

import errno
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cars_rt.accounting import MAX_RANGES, Ledger
from cars_rt.errors import CarsRtError
from cars_rt.measurement import ABOUT
from cars_rt.protocol import DEVIATION, DTYPES, FLAGS, End, Frame, Start
from cars_rt.protocol.messages import MAIN_ARRAY

log = logging.getLogger("cars_rt.recording")

FORMAT = "cars-rt recording"
FORMAT_VERSION = 1
CHUNK_BYTES = 512 * 1024  # of the main array: one write, large enough for any disk
FIRST_ROWS = 4_096  # allocated at first where the total is not known; doubled when full,
GROWTH_BYTES = 256 * 2**20  # but by no more than this at once
INDEX_BYTES = 2**20  # and HDF5's own tables need no more than this for it
NO_RECEIPT = {"announced": -1, "reason": "not closed", "lost_before": "{}", "lost": "{}", "ranges": "[]"}
ABSENT: Mapping[str, Any] = {FLAGS: np.uint8(0), DEVIATION: np.float32(np.nan)}  # of a frame without them
MOST_ROWS = 2**22  # allocated at once where it is known; sparse, so it costs nothing until written


class RecordingError(CarsRtError, OSError):
    """A recording that cannot be written, with the reason and what is left in one sentence."""


class Rows:
    """Datasets of equal length that grow together, row by row, through a buffer of one chunk."""

    def __init__(
        self, group: h5py.Group, columns: Mapping[str, tuple[tuple[int, ...], Any]], rows: int | None
    ) -> None:
        """columns: name to (shape of one row, dtype). rows: how many there will be, if known."""
        row_bytes = max(int(np.prod(tail)) * np.dtype(dtype).itemsize for tail, dtype in columns.values())
        chunk = min(max(CHUNK_BYTES // row_bytes, 1), 4096)
        allocated = min(rows or FIRST_ROWS, MOST_ROWS)
        self.count = 0  # rows appended
        self._written = 0
        self._buffered = 0
        self._group = group
        self._buffers = {name: np.zeros((chunk, *tail), dtype) for name, (tail, dtype) in columns.items()}
        early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # the file system gives zeros, and no disk is used yet
        direct = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        direct.set_chunk_cache(0, 0, 1.0)  # HDF5 crashes on a cached chunk that a full disk refuses
        self._datasets = {}
        for name, (tail, dtype) in columns.items():
            plist = early.copy()
            plist.set_chunk((chunk, *tail))
            space = h5py.h5s.create_simple((allocated, *tail), (h5py.h5s.UNLIMITED, *tail))
            kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
            self._datasets[name] = h5py.Dataset(
                h5py.h5d.create(group.id, name.encode(), kind, space, plist, dapl=direct)
            )
        self._allocated = allocated
        self._total = group.create_dataset("written", data=np.int64(0))

    def append(self, rows: int, **columns: ArrayLike) -> None:
        """Append rows; a column is an array of `rows` rows, or one value for all of them."""
        done = 0
        arrays = {name: np.asarray(values) for name, values in columns.items()}
        size = len(next(iter(self._buffers.values())))
        while done < rows:
            take = min(rows - done, size - self._buffered)
            for name, values in arrays.items():
                part = values[done : done + take] if values.ndim == self._buffers[name].ndim else values
                self._buffers[name][self._buffered : self._buffered + take] = part
            self._buffered += take
            self.count += take
            done += take
            if self._buffered == size:
                self.write()

    def write(self) -> None:
        """Hand the buffered rows to the file. They count as written only after the file's flush."""
        if not self._buffered:
            return
        end = self._written + self._buffered
        if end > self._allocated:
            self._grow(end)
        for name, dataset in self._datasets.items():
            dataset[self._written : end] = self._buffers[name][: self._buffered]
        self._written, self._buffered = end, 0

    def _grow(self, rows: int) -> None:
        """Allocate for `rows` rows and more. A growth that fails half-way would spoil the whole file, so
        the disk is asked for the room first. Raises OSError, with the file as it was."""
        row_bytes = sum(buffer[:1].nbytes for buffer in self._buffers.values())
        allocated = max(min(2 * self._allocated, self._allocated + GROWTH_BYTES // row_bytes), rows)
        chunks = 2 * sum(buffer.nbytes for buffer in self._buffers.values())  # begun at both ends
        needed = (allocated - self._allocated) * row_bytes + chunks + INDEX_BYTES
        path = Path(self._group.file.filename)
        if shutil.disk_usage(path.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if sys.platform != "win32":  # the file may have a limit of its own
            os.truncate(path, path.stat().st_size + needed)
        for dataset in self._datasets.values():
            dataset.resize(allocated, axis=0)
        self._allocated = allocated
        self._group.file.flush()

    def settle(self) -> None:
        """Say in the file how many rows are data."""
        self._total[()] = self._written

    def cut(self) -> None:
        """Give back what was allocated beyond the data."""
        for dataset in self._datasets.values():
            dataset.resize(self._written, axis=0)


class Recording:
    """Writes one run. Raises RecordingError if the file cannot be created or written.

    streams: those without which the recording is not complete; the ones that were started if not given.
    After an error nothing more is written; `close` then leaves the partial file, readable up to the
    last flush.
    """

    def __init__(self, path: Path, *, streams: Collection[str] = (), overwrite: bool = False) -> None:
        self.path = path
        self._streams = set(streams)
        self.partial = partial_path(path)
        self.rows: dict[str, Rows] = {}
        self._ends: dict[str, End] = {}
        self._made_by: list[tuple[int, str]] = []  # from which index on results were made by what
        self._makers_written = 0
        self._trust: list[str] = []  # what the run's results say of themselves
        self._failed = False
        if not overwrite:
            refuse_existing(path)
        try:
            self._file = h5py.File(self.partial, "w")
        except OSError as error:
            raise RecordingError(f"{self.partial} cannot be created: {_reason(error)}") from None
        self._file.attrs.update(
            {"format": FORMAT, "version": FORMAT_VERSION, "complete": False, "reason": "not closed"}
        )
        self._file.flush()  # a file that can be opened, from here on

    def start(self, start: Start, rows: int | None = None) -> None:
        """Make room for one stream of the run: for `rows` spectra, or as many as it plans."""
        with self._guarded():
            group = self._file.create_group(start.stream)
            group["raman_shift"] = start.raman_shift
            group["raman_shift"].attrs["unit"] = "cm-1"
            if start.dark is not None:
                group["dark"] = start.dark
            attrs = {name: getattr(start, name) for name in ABOUT} | {"source": _text(start.source)}
            for target in (self._file, group):
                target.attrs.update({name: value for name, value in attrs.items() if value is not None})
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
                columns["position"] = ((2,), np.int32)
            if start.stream == "raman":
                columns |= {"time_in_ns": ((), np.int64), "time_out_ns": ((), np.int64)}
                trust = {FLAGS: ((), np.uint8), DEVIATION: ((start.pixels,), np.float32)}
                columns |= {name: column for name, column in trust.items() if name in (start.model or {})}
                self._trust = [name for name in trust if name in columns]
            self._warn_of_full_disk(start, rows)
            self.rows[start.stream] = Rows(group, columns, start.spectra if rows is None else rows)
            self._scan = start.scan
            self._file.flush()

    def _warn_of_full_disk(self, start: Start, rows: int | None) -> None:
        """Say at the start what would otherwise end the recording hours later."""
        needed = (rows or start.spectra or 0) * start.spectrum_bytes
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            log.warning(
                "%s: the run needs %.1f GB, the disk has %.1f GB", self.path, needed / 1e9, free / 1e9
            )

    def append(self, frame: Frame) -> None:
        """Take in one frame of a stream that was started."""
        block = frame.block
        index = np.arange(frame.index, frame.index + len(block))
        columns: dict[str, ArrayLike] = {
            MAIN_ARRAY[frame.stream]: block,
            "index": index,
            "sequence": frame.sequence,
            "time_ns": frame.time_ns,
        }
        if self._scan is not None:
            columns["position"] = np.stack(np.divmod(index, self._scan[1]), axis=1)
        if frame.stream == "raman":
            columns |= {"time_in_ns": frame.time_in_ns or 0, "time_out_ns": frame.time_out_ns or 0}
            for name in self._trust:
                columns[name] = frame.arrays.get(name, ABSENT[name])
        if frame.made_by is not None and frame.made_by not in (each for _, each in self._made_by[-1:]):
            self._made_by.append((frame.index, frame.made_by))
        with self._guarded():
            self.rows[frame.stream].append(len(block), **columns)

    def end(self, end: End, ledger: Ledger) -> None:
        """Note how a stream ended and what of it did not arrive here."""
        self._ends[end.stream] = end
        with self._guarded():
            group = self._file[end.stream]
            receipt: dict[str, Any] = {
                "announced": end.spectra if end.announced is None else end.announced,
                "reason": end.reason.value,
                "lost_before": json.dumps(dict(end.lost)),
                "lost": json.dumps(dict(ledger.lost)),
                "ranges": json.dumps(ledger.ranges),  # [cause, index of the first, spectra]
            }
            for name, value in receipt.items():
                group.attrs.modify(name, value)

    def note(self, name: str, attrs: Mapping[str, Any], data: ArrayLike | None = None) -> None:
        """Put something beside the streams: a group of this name, or a dataset if there are data."""
        with self._guarded():
            place = (
                self._file.require_group(name) if data is None else self._file.create_dataset(name, data=data)
            )
            for key, value in attrs.items():
                place.attrs[key] = _text(value) if isinstance(value, str) else value

    def flush(self) -> None:
        """Everything appended so far is on disk afterwards, and stays readable whatever happens."""
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

    def close(self) -> Path:
        """Finish the file and give it its name; the path at which it lies now."""
        if self._failed:
            return self.partial
        self.flush()
        with self._guarded():
            for rows in self.rows.values():
                rows.cut()
            reasons = {end.reason.value for end in self._ends.values()}
            self._file.attrs["reason"] = ", ".join(sorted(reasons)) or "stopped"
            self._file.attrs["complete"] = self.complete
            self._file.close()
            self.partial.replace(self.path)
        return self.path

    @property
    def complete(self) -> bool:
        """Every stream ended as planned, and every spectrum that was announced is in the file."""
        return set(self.rows) == (self._streams or set(self.rows) or {"any"}) and all(
            stream in self._ends
            and self._ends[stream].reason == "complete"
            and rows.count == self._file[stream].attrs["announced"]
            for stream, rows in self.rows.items()
        )

    def _guarded(self) -> "_Guard":
        return _Guard(self)

    def fail(self) -> None:
        """Let go of the file as it is: what the last flush vouched for is readable."""
        self._failed = True
        with suppress(Exception):  # closing would write what there is no room for
            self._file.close()


class _Guard:
    """Turns a failed write into a RecordingError that says what is left."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def __enter__(self) -> None:
        if self._recording._failed:
            raise RecordingError(f"{self._recording.partial} is closed after an error")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, (OSError, RuntimeError)) and not isinstance(error, RecordingError):
            self._recording.fail()
            path = self._recording.partial
            raise RecordingError(
                f"{path} cannot be written: {_reason(error)}; what was flushed stays readable in it"
            ) from None


def partial_path(path: Path) -> Path:
    """What a recording is called while it is written."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def refuse_existing(path: Path) -> None:
    """Raises RecordingError if writing a recording would destroy one, or what is left of one."""
    if path.exists():
        raise RecordingError(f"{path} exists already; choose another name or give --overwrite")
    if (left := partial_path(path)).exists():
        raise RecordingError(
            f"{left} is there, left by a recording that was cut short; rename it or give --overwrite"
        )


def refuse_unwritable(folder: Path) -> None:
    """Make the folder if it is not there. Raises RecordingError if nothing can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".cars-rt-{time.time_ns()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RecordingError(f"cannot write in {folder}: {error.strerror}") from None


def _text(text: str) -> str:
    """Text that HDF5 can hold."""
    return text.replace("\0", " ")


def _reason(error: BaseException) -> str:
    """HDF5 reports in long chains; the operating system's own words are what helps."""
    number = getattr(error, "errno", None)
    if number:
        return os.strerror(number)
    text = str(error)
    if "error message = '" in text:
        return text.split("error message = '")[1].split("'")[0]
    return text.splitlines()[0] if text else type(error).__name__


def read_rows(group: h5py.Group, name: str) -> NDArray[Any]:
    """The rows of a dataset of /raw or /raman that are data, also in a file that was never closed."""
    rows: NDArray[Any] = group[name][: int(group["written"][()])]
    return rows
