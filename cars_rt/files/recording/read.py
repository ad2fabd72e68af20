"""Reading a recording, also one that was never closed."""

from typing import Any

import h5py
from numpy.typing import NDArray

from cars_rt.files.hdf5 import stored
from cars_rt.files.written import has_own_places, stored_rows


def read_rows(group: h5py.Group, name: str) -> NDArray[Any]:
    """The rows of a dataset of /raw or /raman that are data. Raises StorageError if they are not there."""
    return stored_rows(group, name)[:]


def read_position(group: h5py.Group) -> NDArray[Any] | None:
    """Row and column of each spectrum, (n, 2), where its index does not say them: a spoiled position of a
    recorder's own must move no spectrum. Raises StorageError if they cannot be read."""
    if stored(group, "position") is None or has_own_places(group):
        return None
    return read_rows(group, "position")
