"""HDF5 files: what went wrong in words for people, and rows that are read when they are needed."""

import os
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

#: What HDF5 writes in its long chains of texts, and what it means.
MEANINGS = (
    ("truncated file", "it is cut short: a copy that was not finished, or a full disk"),
    ("file signature not found", "it is no HDF5 file"),
    ("unable to lock file", "another program is writing it"),
    ("already open for write", "another program is writing it"),
    ("superblock", "it is no HDF5 file, or its beginning is damaged"),
    ("bad object header", "it is damaged"),
    ("filter", "its data are compressed in a way that cannot be read here"),
)


def explained(error: BaseException) -> str:
    """Why HDF5 could not read or write, in a phrase without its own words.

    The operating system's reason where there is one: h5py gives it as a number or within its text.
    """
    number = getattr(error, "errno", None)
    if number:
        return os.strerror(number)
    text = str(error)
    if "error message = '" in text:
        return text.split("error message = '")[1].split("'")[0]
    for found, meaning in MEANINGS:
        if found in text:
            return meaning
    if "ynchronously" in text or isinstance(error, KeyError | RuntimeError):
        return "it is damaged, or not laid out as it should be"
    return text.splitlines()[0] if text else type(error).__name__


class StoredRows:
    """The first rows of a dataset, read from the file when they are asked for by a slice of step 1.

    As an array of shape (n, ...) with `shape`, `dtype`, `len` and slices, for what is too large for memory.
    """

    def __init__(self, dataset: h5py.Dataset, rows: int | None = None) -> None:
        """rows: how many of them are data; all if not given."""
        if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
            raise ValueError(f"{dataset.name} is no list of rows")
        self._dataset = dataset
        rows = len(dataset) if rows is None else max(0, min(rows, len(dataset)))
        self.shape: tuple[int, ...] = (rows, *dataset.shape[1:])
        self.dtype: np.dtype[Any] = dataset.dtype

    @property
    def ndim(self) -> int:
        """Dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Numbers in all."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        first, last, _ = rows.indices(len(self))
        found: NDArray[Any] = self._dataset[first : max(first, last)]
        return found
