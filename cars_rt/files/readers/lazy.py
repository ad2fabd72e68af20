"""`Lazy`, in place of an array: rows of counts, read, turned round and checked as slices are asked for."""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.hdf5 import StoredRows
from cars_rt.files.places import blocks
from cars_rt.files.spectra import finite, said_of, wanted

Read = Callable[[int, int], NDArray[Any]]


class Lazy(StoredRows):
    """Counts (n, p). read: rows from first to before last. turned: pixels come in the other direction."""

    def __init__(
        self,
        rows: int,
        pixels: int,
        dtype: np.dtype[Any],
        read: Read,
        path: Path,
        turned: bool,
        together: int = 0,
    ) -> None:
        self.shape = (rows, pixels)
        self.dtype = wanted(dtype)
        self._rows_of, self._path, self._turned = read, path, turned
        self.together = together

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        with said_of(self._path):
            first, last, _ = rows.indices(len(self))
            counts = self._rows_of(first, max(first, last)).astype(self.dtype, copy=False)
            finite(counts, first)
            return counts[:, ::-1] if self._turned else counts


def of_array(values: NDArray[Any], path: Path, turned: bool) -> Any:
    """The rows of an array (..., p), which may be mapped from the file."""
    flat = values.reshape(-1, values.shape[-1])
    return Lazy(
        len(flat), flat.shape[1], flat.dtype, lambda first, last: np.asarray(flat[first:last]), path, turned
    )


def of_dataset(dataset: h5py.Dataset, path: Path, turned: bool) -> Any:
    """The rows of a dataset (..., p) in an HDF5 file, as one list of spectra."""
    if dataset.ndim < 2:
        stored = StoredRows(dataset)
        return Lazy(
            1, len(stored), dataset.dtype, lambda first, last: stored[:][None][first:last], path, turned
        )
    stored, (*shape, pixels) = StoredRows(dataset), dataset.shape

    def read(first: int, last: int) -> NDArray[Any]:
        parts = [
            stored.within(*lead)[rows].reshape(-1, pixels)
            for lead, rows, _ in blocks(first, last, tuple(shape))
        ]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty((0, pixels), dataset.dtype), *parts])

    together = stored.together * prod(shape[1:])
    return Lazy(prod(shape), pixels, dataset.dtype, read, path, turned, together)


def scan_of(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Rows and columns of a cube (rows, columns, p) or a stack of them (planes, rows, columns, p)."""
    return (shape[-3], shape[-2]) if len(shape) > 2 else None
