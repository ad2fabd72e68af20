"""Rows out of a compressed chunk that a disk has spoiled: those whose own checksum is right."""

import io
import struct
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.checksum import Sums, agree
from cars_rt.files.filters import BITSHUFFLE

_FILTERS = [BITSHUFFLE, h5py.h5z.FILTER_FLETCHER32]  # the chunk's own checksum, of 4 bytes, comes last
_HEAD, _SIZE = struct.Struct(">QI"), struct.Struct(">I")  # bytes in all and in a block; of each block, packed
_AT_ONCE = 8  # numbers that are shuffled together; what is left over is not packed


def salvaged(
    dataset: h5py.Dataset, sums: Sums | None, count: int, first: int, empty: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Rows from `first` on, within a chunk that cannot be read, in place of as many zeros, and which of them
    are whole. count: how many rows of the dataset are data.

    Only of what our recorder compresses with LZ4, by the same library; it puts out other numbers where a bit
    is wrong, and mostly for one row. None where only the chunk's checksum is spoiled: other readers have
    none then, and it is to be said.
    """
    whole = np.zeros(len(empty), bool)
    try:
        chunk = None if sums is None else _unpacked(dataset, first)
        if sums is None or chunk is None:
            return empty, whole
        begin = first - first % len(chunk)
        chunk = chunk[: count - begin]
        right = agree(chunk, sums[begin : begin + len(chunk)])
    except (OSError, RuntimeError, ValueError):
        return empty, whole
    if not right.all():
        part = slice(first - begin, first - begin + len(empty))
        empty[right[part]], whole = chunk[part][right[part]], right[part]
    return empty, whole


def _unpacked(dataset: h5py.Dataset, row: int) -> NDArray[Any] | None:
    """All rows of the chunk with this row, unpacked without a look at its checksum."""
    made, chunks = dataset.id.get_create_plist(), dataset.chunks
    filters = [made.get_filter(number)[0] for number in range(made.get_nfilters())]
    if filters != _FILTERS or chunks[1:] != dataset.shape[1:]:
        return None
    corner = (0,) * (len(chunks) - 1)
    left_out, content = dataset.id.read_direct_chunk((row - row % chunks[0], *corner))
    packed = content[:-4]
    if left_out or not _is_laid_out(packed, int(np.prod(chunks)), dataset.dtype.itemsize):
        return None
    alike = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    alike.set_chunk(chunks)
    _, flags, options, _ = made.get_filter(0)
    alike.set_filter(BITSHUFFLE, flags, options[3:])  # behind those that the filter puts there itself
    with h5py.File(io.BytesIO(), "w") as memory:
        space = h5py.h5s.create_simple(chunks)
        copy = h5py.h5d.create(memory.id, b"rows", dataset.id.get_type(), space, alike)
        copy.write_direct_chunk((0, *corner), packed)
        found: NDArray[Any] = h5py.Dataset(copy)[()]
    return found


def _is_laid_out(packed: bytes, numbers: int, size: int) -> bool:
    """Whether its blocks follow each other up to its end: the library goes where a length leads it."""
    if len(packed) < _HEAD.size:
        return False
    unpacked, block = _HEAD.unpack_from(packed)
    if unpacked != numbers * size or not block or block % (size * _AT_ONCE):
        return False
    place, end = _HEAD.size, len(packed) - numbers % _AT_ONCE * size
    for _ in range(-(-(numbers - numbers % _AT_ONCE) * size // block)):
        if place + _SIZE.size > end:
            return False
        place += _SIZE.size + _SIZE.unpack_from(packed, place)[0]
    return place == end
