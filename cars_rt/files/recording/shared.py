"""Axis and dark of a recording are mended by the copies that are in its file."""

from contextlib import suppress
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.hdf5 import followed, numbers_of
from cars_rt.protocol.messages import MAIN_ARRAY
from cars_rt.storage import StorageError

#: Where copies are: in the other stream, and in what is there for other programs.
COPIES = {"raman_shift": "entry/data", "dark": "entry/instrument/detector_camera"}


def spoiled(file: h5py.File) -> list[str]:
    """Which of them cannot be read, as "raw/dark". Raises StorageError where the system reads nothing."""
    names = [f"{stream}/{name}" for stream in MAIN_ARRAY for name in COPIES]
    return [each for each in names if _read(file, each) is None and _dataset(file, each) is not None]


def mend_shared(file: h5py.File) -> list[str]:
    """Write those anew whose copies agree. Returns which of them."""
    mended = []
    for place in spoiled(file):
        stream, name = place.split("/")
        there = _dataset(file, place)
        others = [f"{other}/{name}" for other in MAIN_ARRAY if other != stream]
        found = [_read(file, each) for each in (*others, f"{COPIES[name]}/{name}")]
        copies = [each for each in found if each is not None and _is_like(there, each)]
        if copies and all(np.array_equal(each, copies[0]) for each in copies):
            there[...] = copies[0]  # all of its one chunk, with a checksum
            mended.append(place)
    return mended


def _dataset(file: h5py.File, place: str) -> Any:
    """The dataset there, or None."""
    with suppress(StorageError):
        found = followed(file, place)
        return found if isinstance(found, h5py.Dataset) else None
    return None


def _read(file: h5py.File, place: str) -> NDArray[Any] | None:
    """Its numbers; None if there are none, or if they cannot be read."""
    try:
        return None if (dataset := _dataset(file, place)) is None else numbers_of(dataset)
    except StorageError as error:
        if not error.of_file:
            raise
        return None


def _is_like(dataset: h5py.Dataset, copy: NDArray[Any]) -> bool:
    """Whether it is a copy of what is spoiled there, with at least half of the same numbers: results may have
    an axis of their own."""
    if dataset.chunks != dataset.shape or copy.shape != dataset.shape or copy.dtype != dataset.dtype:
        return False
    _, chunk = dataset.id.read_direct_chunk((0,))
    there = np.frombuffer(chunk, dataset.dtype, len(copy)) if len(chunk) >= copy.nbytes else copy[:0]
    return len(there) > 0 and bool((there == copy).mean() >= 0.5)
