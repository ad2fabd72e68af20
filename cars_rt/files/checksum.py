"""A checksum for each row that is not compressed: a bit that a disk or a copy spoils would be another number.

CRC-32 of a row's bytes as they lie in the file, as zlib, gzip and PNG compute it. HDF5's own checksum
belongs to a chunk, which is written more than once where nothing is compressed.
"""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUFFIX = "_crc32"  # of the dataset beside the rows: (n,) uint32
DTYPE = np.dtype(np.uint32)


def checksums(rows: NDArray[Any]) -> NDArray[np.uint32]:
    """Of rows (n, ...) of any numbers, (n,)."""
    found = np.empty(len(rows), DTYPE)
    if rows.size:
        content = np.ascontiguousarray(rows).data.cast("B")
        size = len(content) // len(rows)
        found[:] = [zlib.crc32(content[first : first + size]) for first in range(0, len(content), size)]
    return found
