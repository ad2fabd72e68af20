"""Reading a recording, also one that was never closed."""

from typing import Any

import h5py
from numpy.typing import NDArray

from cars_rt.files.written import stored_rows


def read_rows(group: h5py.Group, name: str) -> NDArray[Any]:
    """The rows of a dataset of /raw or /raman that are data. Raises StorageError if they are not there."""
    return stored_rows(group, name)[:]
