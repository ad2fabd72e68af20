"""Arrays in .npz files from elsewhere: numbers alone, and only as many as are stored there."""

import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cars_rt.storage import StorageError, refuse_size, refuse_special_file, refuse_too_much

MOST_MEMBERS = 1_000
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path, names: Collection[str]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The arrays of these names, as far as they are there, and the names of all that are.

    Sizes are judged by the header of each array before its values are read. Raises StorageError for what is
    no .npz file, for Python objects, and for what announces far more than is stored or memory holds.
    """
    refuse_special_file(path)
    if _is_array(path):
        raise StorageError(path, "is a single array, not an .npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MOST_MEMBERS:
                raise StorageError(
                    path, f"holds {len(members)} arrays; no more than {MOST_MEMBERS} are looked at"
                )
            there = {info.filename.removesuffix(".npy"): info for info in members}
            found = {name: _read(path, archive, there[name], name) for name in names if name in there}
    except StorageError:
        raise
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, ValueError, TypeError):
        raise StorageError(path, "cannot be read: it is no .npz file, or a damaged one") from None
    return found, sorted(there)


def read_npy(path: Path) -> NDArray[Any]:
    """The one array of an .npy file, mapped and not read. Raises StorageError."""
    about = refuse_special_file(path)
    try:
        with path.open("rb") as file:
            header = HEADERS.get(npy.read_magic(file))
            shape, _, dtype = header(file) if header else ((), False, np.dtype(object))
            there = about.st_size - file.tell()
        if dtype.hasobject:
            raise StorageError(path, "holds Python objects, which are not read; save numbers")
        if (wanted := int(np.prod(shape, dtype=object)) * dtype.itemsize) > there:
            raise StorageError(path, f"announces {wanted} bytes of numbers and has {there}")
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except StorageError:
        raise
    except (ValueError, EOFError, TypeError, SyntaxError):
        raise StorageError(path, "cannot be read: it is no .npy file, or a damaged one") from None
    return array


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX


def _read(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    with archive.open(info) as file:
        header = HEADERS.get(npy.read_magic(file))
        if header is None:
            raise StorageError(path, f"has {name!r}, which holds no numbers")
        shape, _, dtype = header(file)
    if dtype.hasobject:
        raise StorageError(path, f"has {name!r} as Python objects, which are not read; save numbers")
    wanted = int(np.prod(shape, dtype=object)) * dtype.itemsize
    refuse_size(path, repr(name), wanted, info.compress_size)
    refuse_too_much(path, repr(name), wanted)
    with archive.open(info) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array
