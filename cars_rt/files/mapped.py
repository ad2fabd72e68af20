"""Rows of a file in the shape of its map, as dask reads them: by slices, each when it is computed.

Each read of HDF5 opens the file and closes it again, without a lock, so that a recording can be looked at
while it is written, and pieces can be read by processes elsewhere. What is only read whole, as .npz, text and
.wdf, is read once in each process and kept.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.formats import open_spectra
from cars_rt.files.hdf5 import opened, stored
from cars_rt.files.places import Places
from cars_rt.files.recording import final_path, is_partial
from cars_rt.files.spectra import SpectraError, said_of
from cars_rt.files.written import rows_of
from cars_rt.protocol import FLAGS

T = TypeVar("T")

ATTEMPTS, NAP_S = 10, 0.1  # attempts at reading a file that is being written
GAP = 64  # rows between two parts that are read along, so that both are read at once
_KEEPING = Lock()  # one for all: what is read at once may be large


class Reader(Protocol):
    """Rows of one array, read again each time; goes to other processes as its path."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def tail(self) -> tuple[int, ...]: ...  # shape of one row

    def rows(self, first: int, last: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """From first to before last, and which of them can be read; None: all."""


@dataclass(frozen=True)
class Stored:
    """Rows of a dataset in an HDF5 file."""

    path: Path
    group: str
    name: str
    dtype: np.dtype[Any]
    tail: tuple[int, ...]
    spoiled: bool  # whether the file says that a disk has spoiled some

    def rows(self, first: int, last: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        return patiently(self.path, lambda path: self._rows(path, first, last))

    def _rows(self, path: Path, first: int, last: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        with opened(path, locking=False) as file:
            group = stored(file, self.group, h5py.Group)
            found = None if group is None else stored(group, self.name, h5py.Dataset)
            if found is None or found.shape[1:] != self.tail:
                raise SpectraError(f"holds no {self.name} any more: it was exchanged")
            there = rows_of(group, self.name, self.spoiled)
            if len(there) < last:
                raise SpectraError(f"has {len(there)} rows of {self.name}, and had {last}: it was exchanged")
            if self.spoiled and self.name != FLAGS:
                return there.sound(first, last)
            return there[first:last], None


@dataclass(frozen=True)
class Whole:
    """Which rows of an array in a damaged file can be read and are spectra: results without counts, for
    which NaN stands, are none."""

    of: Stored
    tail: tuple[int, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(bool)

    def rows(self, first: int, last: int) -> tuple[NDArray[Any], None]:
        values, whole = self.of.rows(first, last)
        measured = ~np.isnan(values[:, 0])
        return measured if whole is None else whole & measured, None


@dataclass(eq=False)
class Counts:
    """Counts of a file of another format. together: how many rows are read or unpacked at once, whichever of
    them is wanted; 0 if just those. The last such rows are kept: from which one on, and they."""

    path: Path
    pump_nm: float | None
    axis: Path | None
    dtype: np.dtype[Any]
    tail: tuple[int, ...]
    together: int
    kept: tuple[int, NDArray[Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"kept": None}

    def rows(self, first: int, last: int) -> tuple[NDArray[Any], None]:
        if not self.together:
            return self._read(first, last), None
        parts = [np.empty((0, *self.tail), self.dtype)]
        with _KEEPING:
            for begin in range(first - first % self.together, last, self.together):
                if self.kept is None or self.kept[0] != begin:
                    self.kept = None
                    self.kept = begin, self._read(begin, begin + self.together)
                parts.append(self.kept[1][max(first - begin, 0) : last - begin])
        return parts[-1] if len(parts) == 2 else np.concatenate(parts), None

    def _read(self, first: int, last: int) -> NDArray[Any]:
        with open_spectra(self.path, self.pump_nm, self.axis) as spectra:
            return spectra.counts[first:last]


class Mapped:
    """Rows in the shape of the map, as an array that dask reads by slices."""

    def __init__(self, reader: Reader | None, places: Places, dtype: np.dtype[Any], missing: Any) -> None:
        """reader: None for the mask, which is True where there is a row."""
        self._reader, self._places, self._missing = reader, places, missing
        self.tail = () if reader is None else reader.tail
        self.dtype = dtype
        self.shape = (*places.shape, *self.tail)
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        given = key if isinstance(key, tuple) else (key,)
        keys = [*given, *[slice(None)] * (self.ndim - len(given))]
        lead = len(self._places.shape)
        strides = np.cumprod([1, *self._places.shape[:0:-1]])[::-1]
        axes = [np.arange(size)[each] for size, each in zip(self._places.shape, keys, strict=False)]
        places = np.zeros((), np.int64)
        for axis, stride in zip(axes, strides, strict=True):
            places = np.add.outer(places, axis * int(stride))
        rows = self._places.rows(places)
        if self._reader is None:
            return rows >= 0
        of_row = np.empty(self.tail, bool)[tuple(keys[lead:])].shape
        found = np.full((*rows.shape, *of_row), self._missing, self.dtype)
        there = np.flatnonzero(rows >= 0)
        wanted, order = rows.ravel()[there], None
        if len(wanted) and (np.diff(wanted) < 0).any():
            order = np.argsort(wanted, kind="stable")
            wanted, there = wanted[order], there[order]
        flat = found.reshape(rows.size, *of_row)
        within = (slice(None), *keys[lead:])
        for part in np.split(np.arange(len(wanted)), np.flatnonzero(np.diff(wanted) > GAP) + 1):
            if len(part):
                first, last = int(wanted[part[0]]), int(wanted[part[-1]]) + 1
                values, whole = self._reader.rows(first, last)
                if whole is not None:
                    part = part[whole[wanted[part] - first]]
                flat[there[part]] = _as(values[within][wanted[part] - first], self.dtype)
        return found


def _as(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "M":
        times = values.astype(np.int64).view(dtype)
        return np.where(values == 0, np.datetime64("NaT", "ns"), times)  # 0: not known
    return values.astype(dtype, copy=False)


def patiently(path: Path, read: Callable[[Path], T]) -> T:
    """Read a file. One that is being written is seen between two writes now and then, and read again."""
    for left in reversed(range(ATTEMPTS)):
        there = existing(path)
        try:
            with said_of(there):
                return read(there)
        except SpectraError:
            if not (left and is_partial(path)):
                raise
        time.sleep(NAP_S)
    raise AssertionError


def existing(path: Path) -> Path:
    """The file, or, of a recording that got its final name meanwhile, where it is now."""
    if not path.exists():
        if (final := final_path(path)).exists():
            return final
        raise SpectraError(f"there is no file {path}")
    return path
