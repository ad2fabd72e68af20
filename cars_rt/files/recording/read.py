"""Reading a recording, also one that was never closed."""

from typing import Any

import h5py
from numpy.typing import NDArray

from cars_rt.files.hdf5 import stored
from cars_rt.files.written import has_own_places, stored_rows


def read_rows(group: h5py.Group, name: str) -> NDArray[Any]:
    """The rows of a dataset of /raw or /raman that are data. Raises StorageError if they are not there."""
    return stored_rows(group, name)[:]


def places_written(group: h5py.Group) -> bool:
    """Whether the position says where each spectrum is, and not its index: a spoiled one of a recorder's own
    must move no spectrum."""
    return stored(group, "position") is not None and not has_own_places(group)


def read_position(group: h5py.Group) -> NDArray[Any] | None:
    """Row and column of each spectrum, (n, 2), where its index does not say them. Raises StorageError if they
    cannot be read."""
    return read_rows(group, "position") if places_written(group) else None
