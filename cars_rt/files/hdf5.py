"""HDF5 files, also from elsewhere: only what is in the file itself.

A file may lead to others by links, external values and virtual datasets, and may announce far more than it
holds: what is read goes through `stored`, `numbers` or `StoredRows`, which refuse that.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy
from math import prod
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.checksum import WHOLE, Sums, checksum, checksums
from cars_rt.files.filters import packed_together, refuse_packed
from cars_rt.files.heap import Changed, Read, watched
from cars_rt.files.missing import Missing
from cars_rt.files.unreadable import UNREADABLE, explained, is_of_file, system_error, unreadable
from cars_rt.printable import printable, typed
from cars_rt.storage import (
    NO_LOCKS,
    SMALL,
    StorageError,
    are_under_way,
    refuse_size,
    refuse_special_file,
    refuse_too_much,
)

MOST_UNSTORED = 2**40  # bytes of rows that are read piece by piece, whatever is stored of them
MOST_HOPS = 8  # links that one path leads over
MOST_CHUNK_BYTES = 2**28  # size of one chunk, which is read into memory as a whole; of those along a row
LEAST_CACHE_BYTES = 2**20  # of chunks along a row; smaller ones are not cut by many pieces
SUMMED = 2**16  # rows whose checksums are compared at once: several columns have theirs in one array
CACHE_SLOTS = 100_003  # a prime, far above the number of chunks: two in one slot push each other out

#: Attributes by which other programs say that the numbers are to be converted, and what would leave them.
CONVERSIONS = {"scale_factor": 1, "scaling_factor": 1, "add_offset": 0}


@contextmanager
def opened(path: Path, mode: str = "r", *, locking: bool = True) -> Iterator[h5py.File]:
    """A file that exists, to be read. mode: r, or r+ if nobody else may have it open. locking: False to read
    what another program writes. Raises StorageError if it is no HDF5 file or no regular one, or if another
    program writes it (with r+: has it open) and locks work; OSError if it is not there."""
    refuse_special_file(path)
    try:
        file = _open(path, mode, locking)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise StorageError(path, "is open in another program", errno.EAGAIN) from None
        if not isinstance(error, PermissionError) and are_under_way(path):
            done = f"if nothing does that any more, `cars-rt repair {typed(path)}` completes it"
            raise StorageError(path, f"is being changed: try again; {done}", errno.EAGAIN) from None
        raise StorageError(path, f"cannot be read: {explained(error)}", error.errno or errno.EINVAL) from None
    with file, Read(path) as content, watched(path, content) as found:  # HDF5's own file holds the lock
        yield found


@contextmanager
def changed(path: Path, *, locking: bool = True) -> Iterator[h5py.File]:
    """A file that exists, to be changed: all at once, when the block ends without an error. Raises as
    `opened` does."""
    with opened(path, "r+", locking=locking):
        pass  # it can be, and nobody else has it open
    with Changed(path) as changes:
        with watched(path, changes) as file:
            yield file
        changes.commit()


def created(path: Path) -> h5py.File:
    """A new file, locked where there are locks. Raises OSError, also if there is one of this name."""
    try:
        return h5py.File(path, "x")
    except OSError as error:
        if system_error(error) not in NO_LOCKS:
            raise
    path.unlink()  # made before HDF5 asked for a lock
    return h5py.File(path, "x", locking=False)


def _open(path: Path, mode: str, locking: bool) -> h5py.File:
    ways: list[dict[str, Any]] = [{}, {"locking": False}]
    first, second = ways if locking else reversed(ways)
    try:
        return h5py.File(path, mode, rdcc_nbytes=0, **first)
    except OSError as error:
        mine = "locking flag values don't match" in str(error)  # this process has it open the other way
        if not mine and system_error(error) not in NO_LOCKS:
            raise
    return h5py.File(path, mode, rdcc_nbytes=0, **second)


def stored(parent: h5py.Group, name: str, kind: type = object) -> Any:
    """What lies under this name in the file itself: a group or a dataset, or None if there is nothing.

    Raises StorageError for links to elsewhere (also within the file: they can go round in circles), for
    datasets whose values are in other files, and if it is not of this kind.
    """
    path = Path(parent.file.filename)
    try:
        link = parent.get(name, getlink=True)  # `in` would follow it, and wait at a pipe
        found = parent[name] if isinstance(link, h5py.HardLink) else None
    except UNREADABLE as error:
        raise unreadable(path, repr(name), error) from None
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise StorageError(path, f"has {name!r} as a link to elsewhere, and links are not followed")
    if not isinstance(found, kind):
        raise StorageError(path, f"has {name!r}, which is no {kind.__name__.lower()}")
    if isinstance(found, h5py.Dataset):
        if found.external or found.is_virtual:
            where = "other datasets (it is virtual)" if found.is_virtual else "other files"
            raise StorageError(path, f"has the values of {name!r} in {where}, which are not read; copy them")
        chunk = int(np.prod(found.chunks or (0,), dtype=object)) * found.dtype.itemsize
        if chunk > MOST_CHUNK_BYTES:
            raise StorageError(path, f"has {name!r} in chunks of more than {MOST_CHUNK_BYTES >> 20} MB")
        refuse_packed(path, name, found)
        _refuse_converted(path, name, found)
        if parent.file.mode == "r" and (size := _kept_along(found)):
            access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
            access.set_chunk_cache(CACHE_SLOTS, size, 1.0)
            found = None  # what is open already keeps its cache
            found = h5py.Dataset(h5py.h5d.open(parent.id, name.encode(), access))
    return found


def _kept_along(dataset: h5py.Dataset) -> int:
    """Bytes of the chunks along one row, where it pays to keep them for the next rows: of those that are
    unpacked, or read in pieces; 0 where it does not."""
    if not dataset.chunks:
        return 0
    along = [-(-size // chunk) for size, chunk in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)]
    size = prod((*along, *dataset.chunks, dataset.dtype.itemsize))
    packed = dataset.id.get_create_plist().get_nfilters()
    pays = size >= LEAST_CACHE_BYTES if packed else prod(along) > 1
    return size if pays and size <= MOST_CHUNK_BYTES else 0


def followed(parent: h5py.Group, path: str) -> Any:
    """Find what other programs wrote, as `stored` does. The name may be a path, and a few links within the
    file are followed."""
    waiting, place, hops = [each for each in reversed(path.split("/")) if each], parent, 0
    if path.startswith("/"):
        place = parent.file
    while waiting:
        name = waiting.pop()
        if not isinstance(place, h5py.Group):
            return None
        try:
            link = place.get(name, getlink=True)
        except UNREADABLE as error:
            raise unreadable(Path(parent.file.filename), repr(name), error) from None
        if isinstance(link, h5py.SoftLink) and (hops := hops + 1) <= MOST_HOPS:
            waiting += [each for each in reversed(link.path.split("/")) if each]
            place = place.file if link.path.startswith("/") else place
            continue
        place = stored(place, name)
    return place


def are_numbers(dtype: np.dtype[Any]) -> bool:
    """Whether values of this type are real numbers: no truth values, no complex ones, no texts or times."""
    return dtype.kind == "f" or are_whole_numbers(dtype)


def are_whole_numbers(dtype: np.dtype[Any]) -> bool:
    """Whether values of this type are whole numbers, signed or not, and no numbers for names."""
    return dtype.kind in "iu" and h5py.check_enum_dtype(dtype) is None


def numbers_of(dataset: h5py.Dataset) -> NDArray[Any] | None:
    """Read a dataset that was found, as `numbers` does."""
    return numbers(dataset.parent, str(dataset.name).rpartition("/")[2])


def numbers(parent: h5py.Group, name: str) -> NDArray[Any] | None:
    """The values of a dataset of numbers, or None if there is none of this name.

    Raises StorageError as `stored` does, and if it holds no numbers, announces far more than is stored in
    the file or more than memory holds, cannot be read, has another checksum than it says, or values that mean
    missing ones.
    """
    found = stored(parent, name, h5py.Dataset)
    if found is None:
        return None
    path = Path(parent.file.filename)
    _refuse(found, found.shape)
    refuse_too_much(path, repr(name), found.size * found.dtype.itemsize)
    try:
        values = np.asarray(found[()])
        said = attribute(found, WHOLE)
        other = values.size > 1 and isinstance(said, np.uint32) and said != checksum(values)
        if other and len(set(values.tobytes())) == 1:  # of zeros HDF5's own checksum says nothing
            raise ValueError("another checksum")
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise unreadable(path, repr(name), error) from None
    Missing(found).refuse(values)
    return values


def _refuse(dataset: h5py.Dataset, shape: tuple[int, ...]) -> None:
    """Raises StorageError if it holds no numbers, or much less than this."""
    path, name = Path(dataset.file.filename), repr(str(dataset.name).rpartition("/")[2])
    readable = are_numbers(dataset.dtype) or dataset.dtype.kind == "b"
    if not readable or shape is None:  # a dataset of nothing has no shape
        raise StorageError(path, f"has {name}, which holds no numbers")
    wanted = int(np.prod(shape, dtype=object)) * dataset.dtype.itemsize
    try:
        size = dataset.id.get_storage_size()
    except UNREADABLE as error:
        raise unreadable(path, name, error) from None
    refuse_size(path, name, wanted, min(size, path.stat().st_size))


def attribute(place: h5py.Group | h5py.Dataset, name: str, default: Any = None) -> Any:
    """An attribute; the default if there is none, or none that can be read: a disk may have spoiled it, or
    one at which HDF5 goes no further. Raises OSError where the system reads nothing."""
    try:
        return place.attrs[name]
    except UNREADABLE as error:
        if not is_of_file(error):
            raise
        return default


def readable_attrs(place: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    """The attributes of a place that can be read: a kill in the moment of writing a text spoils it."""
    found: dict[str, Any] = {}
    names: list[str] = []
    with suppress(*UNREADABLE):
        names = list(place.attrs)
    for name in names:
        with suppress(OSError, RuntimeError, KeyError, UnicodeDecodeError):
            found[name] = place.attrs[name]
    return found


def _refuse_converted(path: Path, name: str, dataset: h5py.Dataset) -> None:
    """Raises StorageError if its numbers mean others, by an attribute."""
    for name_of, neutral in CONVERSIONS.items():
        try:
            there = name_of in dataset.attrs
        except UNREADABLE as error:
            raise unreadable(path, repr(name), error) from None
        if there:
            value = attribute(dataset, name_of)
            if value is None or not np.all(np.equal(value, neutral)):
                raise StorageError(
                    path,
                    f"has {name!r} with the attribute {name_of} = {printable(str(value), 40)}, by which "
                    "its numbers are to be converted; write them converted, without the attribute",
                )


class StoredRows:
    """The first rows of a dataset, read from the file when they are asked for by a slice of step 1.

    As an array of shape (n, ...) with `shape`, `dtype`, `len` and slices, for what is too large for memory.
    Raises StorageError if what it announces cannot be, and for a slice that memory does not hold, of which
    much less is stored, in which values are missing, or with a row that has another checksum.
    """

    def __init__(
        self,
        dataset: h5py.Dataset,
        rows: int | None = None,
        tail: tuple[h5py.Dataset, int, int] | None = None,
        sums: Sums | None = None,
    ) -> None:
        """rows: how many of them are data; all if not given. tail: where the last ones lie instead, of a
        recording that is being written: another dataset, and from which row on which of its slots. sums: the
        rows' checksums."""
        if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
            raise ValueError(f"{dataset.name} is no list of rows")
        self._dataset, self._tail, self._sums, self._missing = dataset, tail, sums, Missing(dataset)
        self._within: tuple[int, ...] = ()
        self.together = dataset.chunks[0] if _kept_along(dataset) else 0  # rows that are unpacked at once
        self._unit = packed_together(dataset)
        rows = len(dataset) if rows is None else max(0, min(rows, len(dataset)))
        self.shape: tuple[int, ...] = (rows, *dataset.shape[1:])
        self.dtype: np.dtype[Any] = dataset.dtype
        size = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        # Rows that were never written read as zeros, which are flagged; another value would look like counts.
        _refuse(dataset, self.shape if size > MOST_UNSTORED or dataset.fillvalue else (0,))

    @property
    def ndim(self) -> int:
        """Dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Numbers in all."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def within(self, *places: int) -> Self:
        """The rows within one of these rows, or within one of those in turn: of (planes, rows, columns, p)
        those of a plane, or of a line."""
        found = copy(self)
        found._within, found.shape = (*self._within, *places), self.shape[len(places) :]
        return found

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        first, last, _ = rows.indices(len(self))
        found, whole = self._compared(first, max(first, last))
        if not whole.all():
            raise self._damaged(ValueError("another checksum"))
        return found

    def sound(self, first: int, last: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Rows from first to before last, as they are stored, of which some are spoiled: zeros for those, and
        which are whole. Raises StorageError where nothing says that they are spoiled: the system reads
        nothing, or a plug-in is missing."""
        try:
            found, whole = self._compared(first, last)
        except StorageError as error:
            if not error.of_file:
                raise
            middle = max((first + last) // 2 // self._unit, first // self._unit + 1) * self._unit
            if middle >= last:
                nothing = np.zeros((last - first, *self.shape[1:]), self._dataset.dtype)
                return nothing, np.zeros(last - first, bool)
            values, sound = zip(self.sound(first, middle), self.sound(middle, last), strict=True)
            return np.concatenate(values), np.concatenate(sound)
        found[~whole] = 0
        return found, whole

    def _compared(self, first: int, last: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Rows from first to before last, and which of them have the checksum that they should have."""
        wanted = (last - first) * int(np.prod(self.shape[1:], dtype=object)) * self._dataset.dtype.itemsize
        refuse_too_much(Path(self._dataset.file.filename), repr(str(self._dataset.name)), wanted)
        if wanted > SMALL:
            _refuse(self._dataset, (last - first, *self.shape[1:]))
        whole, sums = np.ones(last - first, bool), self._sums
        try:
            if self._tail is None or last <= self._tail[1]:
                found: NDArray[Any] = self._dataset[(*self._within, slice(first, last))]
            else:
                tail, begin, slot = self._tail
                found = tail[slot, max(first - begin, 0) : last - begin]
                found = np.concatenate([self._dataset[first:begin], found]) if first < begin else found
            for at in range(first, last if sums is not None else first, SUMMED):
                part = slice(at - first, min(at + SUMMED, last) - first)
                whole[part] = checksums(found[part]) == sums[at : min(at + SUMMED, last)]  # type: ignore[index]
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise self._damaged(error) from None
        self._missing.refuse(found, first, self._within)
        return found, whole

    def _damaged(self, error: Exception) -> StorageError:
        rest = "; `cars-rt repair` says which spectra of a recording that concerns"
        return unreadable(Path(self._dataset.file.filename), repr(str(self._dataset.name)), error, rest)
