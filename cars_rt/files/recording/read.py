"""Reading a recording, also one that was never closed."""

from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from cars_rt.files.hdf5 import numbers, stored
from cars_rt.storage import StorageError


def read_rows(group: h5py.Group, name: str) -> NDArray[Any]:
    """The rows of a dataset of /raw or /raman that are data. Raises StorageError if they are not there."""
    written = stored(group, "written", h5py.Dataset)
    rows = numbers(group, name, None if written is None else int(written[()]))
    if rows is None or not rows.ndim:
        raise StorageError(Path(group.file.filename), f"holds no rows {name!r}")
    return rows
