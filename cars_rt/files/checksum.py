"""A checksum for each row: a bit that a disk or a copy spoils would be another number.

CRC-32 of a row's bytes before it is compressed, as zlib, gzip and PNG compute it. HDF5's own checksum belongs
to a chunk, which is written more than once where nothing is compressed, and not before it is whole elsewhere.
"""

import zlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUFFIX = "_crc32"  # of the dataset beside the rows: (n,) uint32
#: The dataset of those of columns of few bytes, (n, k), and its attribute that says which they are, in words.
COLUMNS, WHICH = "columns" + SUFFIX, "columns"
DTYPE = np.dtype(np.uint32)
WHOLE = "crc32"  # the attribute of a dataset that is no list of rows: the checksum of all of it
SHORT = 16  # bytes of a row that are looked up, all rows at once; of longer ones zlib is as fast
PIECE = 2**16  # rows that are looked up at once


class Sums:
    """The checksums of rows in a file: a dataset of them, or one of its columns."""

    def __init__(self, dataset: Any, number: int | None) -> None:
        self._dataset, self._number = dataset, number

    def __getitem__(self, rows: slice) -> NDArray[np.uint32]:
        found: NDArray[np.uint32] = self._dataset[rows]  # all columns: to pick one, HDF5 takes much longer
        return found if self._number is None else found[:, self._number]

    def __setitem__(self, rows: slice, sums: NDArray[np.uint32]) -> None:
        self._dataset[rows if self._number is None else (rows, self._number)] = sums


def checksums(rows: NDArray[Any]) -> NDArray[np.uint32]:
    """Of rows (n, ...) of any numbers, (n,)."""
    found = np.empty(len(rows), DTYPE)
    if rows.size:
        content = np.ascontiguousarray(rows).data.cast("B")
        size = len(content) // len(rows)
        if size <= SHORT:
            _look_up(np.frombuffer(content, np.uint8).reshape(len(rows), size), found)
            return found
        found[:] = [zlib.crc32(content[first : first + size]) for first in range(0, len(content), size)]
    return found


def checksum(values: NDArray[Any]) -> np.uint32:
    """Of all numbers of an array."""
    found: np.uint32 = checksums(values[np.newaxis])[0]
    return found


def _look_up(rows: NDArray[np.uint8], found: NDArray[np.uint32]) -> None:
    """CRC-32 is linear: that of a row is the sum, bit by bit, of what each of its bytes makes of it."""
    tables, zeros = _tables(rows.shape[1])
    units = rows if len(tables) == rows.shape[1] else rows.view("<u2")
    for first in range(0, len(rows), PIECE):
        piece = slice(first, first + PIECE)
        found[piece] = zeros
        for number, table in enumerate(tables):
            found[piece] ^= table.take(units[piece, number])


@cache
def _tables(size: int) -> tuple[NDArray[np.uint32], int]:
    """What each byte, or each two where they are even in number, (units, values) makes of the checksum of
    `size` zeros; and that."""
    zeros = zlib.crc32(bytes(size))
    alone = [
        [zlib.crc32(bytes([*bytes(at), value, *bytes(size - at - 1)])) for value in range(256)]
        for at in range(size)
    ]
    each = np.array(alone, DTYPE) ^ DTYPE.type(zeros)
    if size % 2:
        return each, zeros
    return (each[1::2, :, None] ^ each[::2, None, :]).reshape(size // 2, -1), zeros
