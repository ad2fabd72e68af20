"""Rows of a recording on their way into its file."""

import errno
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike

CHUNK_BYTES = 512 * 1024  # of the main array: one write, large enough for any disk
FIRST_ROWS = 4_096  # allocated at first where the total is not known; doubled when full,
GROWTH_BYTES = 256 * 2**20  # but by no more than this at once
INDEX_BYTES = 2**20  # and HDF5's own tables need no more than this for it
MOST_ROWS = 2**22  # allocated at once where it is known; sparse, so it costs nothing until written,
FIRST_BYTES = 2**34  # nor more than this: HDF5's tables of the chunks are no longer small then


class Rows:
    """Datasets of equal length that grow together, row by row, through a buffer of one chunk."""

    def __init__(
        self, group: h5py.Group, columns: Mapping[str, tuple[tuple[int, ...], Any]], rows: int | None
    ) -> None:
        """columns: name to (shape of one row, dtype). rows: how many there will be, if known."""
        row_bytes = max(int(np.prod(tail)) * np.dtype(dtype).itemsize for tail, dtype in columns.values())
        chunk = min(max(CHUNK_BYTES // row_bytes, 1), 4096, rows or 4096)  # a file of one row is small
        self._group = group
        allocated = self._first(rows, row_bytes)
        self.count = 0  # rows appended
        self.row_bytes = sum(
            int(np.prod(tail, dtype=int)) * np.dtype(dtype).itemsize for tail, dtype in columns.values()
        )
        self._written = 0
        self._buffered = 0
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

    def _first(self, rows: int | None, row_bytes: int) -> int:
        """How many rows there is room for at first: those announced, as far as that can be believed."""
        free = shutil.disk_usage(Path(self._group.file.filename).parent).free
        most = max(min(free, FIRST_BYTES) // row_bytes, 1)
        return min(rows or min(FIRST_ROWS, most), MOST_ROWS, most)

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return list(self._datasets)

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
        allocated = max(min(2 * self._allocated, self._allocated + GROWTH_BYTES // self.row_bytes), rows)
        chunks = 2 * sum(buffer.nbytes for buffer in self._buffers.values())  # begun at both ends
        needed = (allocated - self._allocated) * self.row_bytes + chunks + INDEX_BYTES
        file = self._group.file
        if shutil.disk_usage(Path(file.filename).parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if sys.platform != "win32":  # the file may have a limit of its own
            descriptor = file.id.get_vfd_handle()  # not the path: that may be another file's by now
            os.ftruncate(descriptor, os.fstat(descriptor).st_size + needed)
        for dataset in self._datasets.values():
            dataset.resize(allocated, axis=0)
        self._allocated = allocated
        self._group.file.flush()

    def settle(self) -> None:
        """Say in the file how many rows are data."""
        self._total[()] = self._written
