"""Axis and dark of a recording are mended by the copies that are in its file, as their checksums say."""

from contextlib import suppress
from typing import Any

import h5py
from numpy.typing import NDArray

from cars_rt.files.checksum import WHOLE, checksum
from cars_rt.files.hdf5 import followed, numbers_of, readable_attrs
from cars_rt.files.recording.replaced import replace
from cars_rt.protocol.messages import MAIN_ARRAY
from cars_rt.storage import StorageError

#: Where copies are: in the other stream, and in what is there for other programs.
COPIES = {"raman_shift": "entry/data", "dark": "entry/instrument/detector_camera"}


def spoiled(file: h5py.File) -> list[str]:
    """Which of them cannot be read, as "raw/dark". Raises StorageError where the system reads nothing."""
    names = [f"{stream}/{name}" for stream in MAIN_ARRAY for name in COPIES]
    return [each for each in names if _read(file, each) is None and _dataset(file, each) is not None]


def mend_shared(file: h5py.File) -> list[str]:
    """Write those anew of which a copy has the checksum that they should have. Returns which of them."""
    mended = []
    for place in spoiled(file):
        stream, name = place.split("/")
        there = _dataset(file, place)
        others = [f"{other}/{name}" for other in MAIN_ARRAY if other != stream]
        for copy in (_read(file, each) for each in (*others, f"{COPIES[name]}/{name}")):
            if copy is None or (copy.shape, copy.dtype) != (there.shape, there.dtype):
                continue
            if checksum(copy) == readable_attrs(there).get(WHOLE):
                replace(there, copy)
                mended.append(place)
                break
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
