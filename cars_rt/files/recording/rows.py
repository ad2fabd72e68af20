"""Rows of a recording on their way into its file."""

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cars_rt.files.checksum import COLUMNS, DTYPE, SUFFIX, WHICH, checksums
from cars_rt.files.recording.bands import NAME as BANDS
from cars_rt.files.recording.packing import PLAIN, Packing
from cars_rt.files.written import SLOTS, TAIL, TAIL_ROWS
from cars_rt.storage import refuse_no_room

CHUNK_BYTES = 512 * 1024  # of the main array: one write, large enough for any disk
FIRST_ROWS = 4_096  # allocated at first where the total is not known; doubled when full,
GROWTH_BYTES = 256 * 2**20  # but by no more than this at once
INDEX_BYTES = 2**20  # and HDF5's own tables need no more than this for it
ENTRY_BYTES = 256  # at most, of one chunk in HDF5's tables: half full, and each on pages of its own
MOST_ROWS = 2**22  # allocated at once where it is known; sparse, so it costs nothing until written,
MOST_EMPTY = 2**13  # empty chunks that are allocated at first of compressed arrays
EMPTY_RATIO = 128  # at least: an empty chunk of a compressed array takes 3,000 of 512 K
FIRST_BYTES = 2**34  # nor more than this: HDF5's tables of the chunks are no longer small then


class Rows:
    """Datasets of equal length that grow together, row by row, through a buffer of one chunk.

    An array that is packed is written by whole chunks, each once: one that is compressed again takes another
    place, and a kill meanwhile would spoil what was there. What waits for its chunk to be whole lies in the
    group `tail`, see cars_rt.files.written. Each row has a checksum for each array beside it.
    """

    def __init__(
        self,
        group: h5py.Group,
        columns: Mapping[str, tuple[tuple[int, ...], Any]],
        rows: int | None,
        packing: Packing = PLAIN,
    ) -> None:
        """columns: name to (shape of one row, dtype). rows: how many there will be, if known. packing: of
        those with as many numbers in a row as the widest."""
        sizes = {name: int(np.prod(tail, dtype=int)) for name, (tail, _) in columns.items()}
        wide = {name for name, size in sizes.items() if size == max(sizes.values()) > 1}
        self._packed, self._summed = wide if packing.packs else set[str](), wide
        self._narrow = [name for name in columns if name not in wide]
        columns = {**columns, **{name + SUFFIX: ((), DTYPE) for name in sorted(self._summed)}}
        columns[COLUMNS] = ((len(self._narrow),), DTYPE)
        sizes[COLUMNS] = len(self._narrow)
        bytes_ = {name: sizes.get(name, 1) * np.dtype(dtype).itemsize for name, (_, dtype) in columns.items()}
        self._packing, self._rounded = (
            packing,
            {name for name in wide if packing.mantissa_bits and np.dtype(columns[name][1]) == np.float32},
        )
        chunk = min(
            max(CHUNK_BYTES // max(bytes_.values()), 1), 4096, rows or 4096
        )  # a file of one row is small
        self._bytes = bytes_
        self._folder, self._chunk = Path(group.file.filename).parent, chunk
        self.count = 0  # rows appended
        self.row_bytes = sum(bytes_.values())
        # What a row takes before it is written: of a packed one its share of an empty chunk.
        self._ahead = sum(
            size / EMPTY_RATIO if name in self._packed else size for name, size in bytes_.items()
        )
        allocated = self._first(rows, max(bytes_.values()))
        self._base = self._buffered = self._passed = 0  # rows in chunks; in the buffer; of those handed over
        self._slot = self._waiting = 0  # of the tail; rows in it
        self._buffers = {name: np.zeros((chunk, *tail), dtype) for name, (tail, dtype) in columns.items()}
        self._allocated = allocated
        chunks = -(-allocated // chunk)
        empty = sum(chunk * bytes_[name] // EMPTY_RATIO for name in self._packed)
        refuse_no_room(Path(group.file.filename), chunks * (ENTRY_BYTES * len(columns) + empty) + INDEX_BYTES)
        for name, (tail, dtype) in columns.items():
            self._create(group, name, allocated, tail, np.dtype(dtype))
        for name in self._rounded:
            group[name].attrs["mantissa_bits"] = packing.mantissa_bits
        group[COLUMNS].attrs[WHICH] = np.bytes_(" ".join(self._narrow))  # in no list of texts
        group.create_dataset("written", data=np.int64(0))
        if self._packed:
            tails = group.create_group(TAIL)
            tails.create_dataset(TAIL_ROWS, data=np.zeros(3, np.int64))
            for name in sorted(self._packed):
                self._create_tail(tails, name)
        self.bind(group)

    def bind(self, group: h5py.Group) -> None:
        """Write to this group from now on: the same one, in a file that was opened again."""
        direct = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        direct.set_chunk_cache(0, 0, 1.0)  # HDF5 crashes on a cached chunk that a full disk refuses
        self._datasets = {
            name: h5py.Dataset(h5py.h5d.open(group.id, name.encode(), direct)) for name in self._buffers
        }
        self._total = group["written"]
        if self._packed:
            self._tail_rows = group[TAIL][TAIL_ROWS]
            self._tails = {name: group[TAIL][name] for name in sorted(self._packed)}

    def _create(
        self, group: h5py.Group, name: str, rows: int, tail: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        packed = name in self._packed
        plist = _early(fill=packed)
        if packed:
            self._packing.apply(plist)
            if dtype.kind == "f":
                plist.set_fill_value(np.array(np.nan, dtype))
        plist.set_chunk((self._chunk, *tail))
        space = h5py.h5s.create_simple((rows, *tail), (h5py.h5s.UNLIMITED, *tail))
        kind = h5py.h5t.py_create(dtype, logical=True)
        h5py.h5d.create(group.id, name.encode(), kind, space, plist)

    def _create_tail(self, tails: h5py.Group, name: str) -> None:
        buffer = self._buffers[name]
        space = h5py.h5s.create_simple((SLOTS, *buffer.shape))
        kind = h5py.h5t.py_create(buffer.dtype, logical=True)
        h5py.h5d.create(tails.id, name.encode(), kind, space, _early(fill=False))

    def _first(self, rows: int | None, row_bytes: int) -> int:
        """How many rows there is room for at first: those announced, as far as that can be believed."""
        free = shutil.disk_usage(self._folder).free
        most = max(min(free, FIRST_BYTES) // row_bytes, 1)
        if self._packed:
            most = min(most, MOST_EMPTY * self._chunk)
        return min(rows or min(FIRST_ROWS, most), MOST_ROWS, most)

    @property
    def names(self) -> list[str]:
        """Of the columns that are given, and not computed from others."""
        return [name for name in self._datasets if name != BANDS and not name.endswith(SUFFIX)]

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
        end = self._base + self._buffered
        if self._passed == self._buffered:
            return
        fresh = slice(self._passed, self._buffered)
        for name in self._rounded:
            part = self._buffers[name][fresh]
            part[...] = self._packing.rounded(part)
        for name in self._summed:
            self._buffers[name + SUFFIX][fresh] = checksums(self._buffers[name][fresh])
        self._sum_columns(fresh)
        for name in self._datasets.keys() - self._packed:
            _put(self._datasets[name], (self._base + self._passed,), self._buffers[name][fresh])
        self._passed = self._buffered
        if self._buffered == self._chunk:
            for name in self._packed:
                _put(self._datasets[name], (self._base,), self._buffers[name])
            self._base, self._buffered, self._passed = end, 0, 0
            if self._waiting:  # what vouches for this slot is still on disk: the next rows take the other one
                self._slot, self._waiting = 1 - self._slot, 0
        elif self._packed:
            for name, tail in self._tails.items():
                _put(tail, (self._slot, self._waiting), self._buffers[name][self._waiting : self._buffered])
            self._waiting = self._buffered

    def _sum_columns(self, fresh: slice) -> None:
        """Checksums of columns of few bytes: of those of the same size at once, which takes half as long."""
        sums = self._buffers[COLUMNS][fresh]
        for size in {self._bytes[name] for name in self._narrow}:
            which = [number for number, name in enumerate(self._narrow) if self._bytes[name] == size]
            rows = [self._buffers[self._narrow[number]][fresh].view(np.uint8) for number in which]
            found = checksums(np.concatenate([each.reshape(-1, size) for each in rows]))
            sums[:, which] = found.reshape(len(which), -1).T

    def lack(self, rows: int) -> bool:
        """Whether there is no room for so many more."""
        return self.count + rows > self._allocated

    def grow(self, group: h5py.Group, rows: int) -> None:
        """Make room for so many more, and for those to come, in its group of a file whose changes take effect
        all at once: HDF5 writes many of its tables anew. `bind` comes next. Raises OSError."""
        allocated = min(2 * self._allocated, self._allocated + int(GROWTH_BYTES / self._ahead))
        allocated = max(allocated, self.count + rows)
        chunks = 2 * sum(buffer.nbytes for buffer in self._buffers.values())  # begun at both ends
        needed = int((allocated - self._allocated) * self._ahead) + chunks + INDEX_BYTES
        if shutil.disk_usage(self._folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for name in self._datasets:
            group[name].resize(allocated, axis=0)
        self._allocated = allocated

    def settle(self) -> None:
        """Say in the file how many rows are data."""
        if self._packed:
            self._tail_rows[...] = self._base, self._waiting, self._slot
        self._total[()] = self._base if self._packed else self._base + self._passed


def _put(dataset: h5py.Dataset, first: tuple[int, ...], rows: NDArray[Any]) -> None:
    """Rows from this place on. As `dataset[first : last] = rows`, whose search for what is meant takes longer
    than a short column takes to be written."""
    place = dataset.id.get_space()
    leading = (1,) * (len(first) - 1)
    place.select_hyperslab((*first, *(0,) * (rows.ndim - 1)), (*leading, *rows.shape))
    dataset.id.write(h5py.h5s.create_simple(rows.shape), place, rows)


def _early(fill: bool) -> Any:
    """Creation properties of a dataset whose room is there from the beginning; fill: with empty chunks, which
    are small when they are compressed. Without, the file system gives zeros, and no disk is used yet."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_ALLOC if fill else h5py.h5d.FILL_TIME_NEVER)
    return plist
