"""HDF5 files from elsewhere: only what lies in the file itself is read, and only what is stored there."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.storage.errors import StorageError
from cars_rt.storage.memory import refuse_size
from cars_rt.storage.read import refuse_special_file

MOST_CHUNK_BYTES = 2**28  # of one chunk, which is taken into memory as a whole


@contextmanager
def opened(path: Path, mode: str = "r", **options: Any) -> Iterator[h5py.File]:
    """A file that exists. mode: r or r+. Raises StorageError if it is no HDF5 file or no regular one, OSError
    if it cannot be opened; with `r+` if another program has it open, where locks work."""
    refuse_special_file(path)
    try:
        # No cache of chunks: HDF5 crashes on a cached chunk that a full disk refuses.
        file = h5py.File(path, mode, rdcc_nbytes=0, **options)
    except BlockingIOError:
        raise StorageError(path, "is open in another program", errno.EAGAIN) from None
    except OSError as error:
        if error.errno:
            raise
        raise StorageError(path, "is no HDF5 file, or a damaged one") from None
    with file:
        yield file


def stored(parent: h5py.Group, name: str, kind: type = object) -> Any:
    """What lies under this name in the file itself: a group or a dataset, or None if there is nothing.

    Raises StorageError for links to elsewhere (also within the file: they can go round in circles), and for
    datasets whose values are in other files; if it is not of this kind.
    """
    path = Path(parent.file.filename)
    link = parent.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise StorageError(path, f"has {name!r} as a link to elsewhere, and links are not followed")
    try:
        found = parent[name]
    except (KeyError, OSError, RuntimeError, TypeError):
        raise StorageError(path, f"is damaged: {name!r} cannot be read") from None
    if not isinstance(found, kind):
        raise StorageError(path, f"has {name!r}, which is no {kind.__name__.lower()}")
    if isinstance(found, h5py.Dataset):
        if found.external or found.is_virtual:
            raise StorageError(path, f"has the values of {name!r} in other files, which are not read")
        if (
            found.chunks
            and int(np.prod(found.chunks, dtype=object)) * found.dtype.itemsize > MOST_CHUNK_BYTES
        ):
            raise StorageError(path, f"has {name!r} in chunks of more than {MOST_CHUNK_BYTES >> 20} MB")
    return found


def numbers(parent: h5py.Group, name: str, rows: int | None = None) -> NDArray[Any] | None:
    """The values of a dataset of numbers, or None if there is none of this name; rows: only the first ones.

    Raises StorageError as `stored` does, and if it holds no numbers, has fewer rows, announces far more than
    is stored in the file or more than memory holds, or cannot be read.
    """
    found = stored(parent, name, h5py.Dataset)
    if found is None:
        return None
    path = Path(parent.file.filename)
    if found.dtype.kind not in "uifb":
        raise StorageError(path, f"has {name!r}, which holds no numbers")
    shape = found.shape
    if rows is not None:
        if not found.ndim or not 0 <= rows <= shape[0]:
            raise StorageError(path, f"says that {rows} rows of {name!r} are data, and has the shape {shape}")
        shape = (rows, *shape[1:])
    wanted = int(np.prod(shape, dtype=object)) * found.dtype.itemsize
    refuse_size(path, f"{name!r}", wanted, min(found.id.get_storage_size(), path.stat().st_size))
    try:
        return np.asarray(found[()] if rows is None else found[:rows])
    except (OSError, RuntimeError, ValueError, TypeError):
        raise StorageError(path, f"is damaged: {name!r} cannot be read") from None
