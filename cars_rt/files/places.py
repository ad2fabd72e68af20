"""Where each spectrum of a run lies: in the map that its scan draws, or in a list. Pure."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cars_rt.files.measurement import NOWHERE
from cars_rt.files.spectra import SpectraError

MOST_PLACES = 2**28  # places of one map or list; what announces more is a list of what is there
MOST_EMPTY = 2**16  # places of a list that may be empty where more than half of them are
PIECE = 2**20  # rows that are looked at at once
DIMS = ("z", "y", "x")  # of a map: planes, rows, columns
LIST = ("spectrum",)


def positions(index: NDArray[Any], columns: int) -> NDArray[Any]:
    """Row and column in a scan of so many columns of spectra (n,) that are measured row by row, (n, 2)."""
    return np.stack(np.divmod(index, columns), axis=1)


class Places:
    """The map (z, y, x) or (y, x), or the list (spectrum,), and the place of each row in it.

    Places are counted line by line, as in an array of that shape that is flattened. A place that no row has
    was not measured, or was lost.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dims: tuple[str, ...],
        of_rows: NDArray[np.int64],
        index: NDArray[np.int64] | None = None,
    ) -> None:
        """of_rows: (n,), place of each row, or NOWHERE. index: of each place, in a list whose places are not
        that."""
        self.shape, self.dims, self.of_rows, self._index = shape, dims, of_rows, index
        in_order = bool((of_rows[1:] > of_rows[:-1]).all())
        self._order = None if in_order else np.argsort(of_rows, kind="stable")
        self._sorted = of_rows if in_order else of_rows[self._order]

    @property
    def is_map(self) -> bool:
        """Whether a scan drew it."""
        return self.dims != LIST

    @property
    def index(self) -> NDArray[np.int64]:
        """(n,), which spectrum of the run each row is; of a map its place."""
        if self._index is None or not len(self._index):
            return self.of_rows
        return np.where(self.of_rows < 0, NOWHERE, self._index[self.of_rows])

    @property
    def is_compact(self) -> bool:
        """Whether it is a list without places for what is not there."""
        return self._index is not None

    def compact(self) -> "Places":
        """A list of the rows one behind the other."""
        there = self.of_rows >= 0
        rows = np.where(there, np.cumsum(there) - 1, NOWHERE)
        return Places((int(there.sum()),), LIST, rows, self.index[there])

    def coordinate(self, dim: str) -> NDArray[np.float64]:
        """What the places along a dimension are called: their number, in a list the index of the spectrum."""
        if dim == LIST[0] and self._index is not None:
            return self._index.astype(float)
        return np.arange(float(self.shape[self.dims.index(dim)]))

    @property
    def repeated(self) -> int:
        """How many rows are hidden by another one that came later at the same place."""
        return int((np.diff(self._sorted[self._sorted >= 0]) == 0).sum())

    @property
    def cuts(self) -> list[int]:
        """The rows, after the first one, whose place is not the one behind that of the row before."""
        last = len(self.of_rows) - 1
        found = []
        for first in range(0, last, PIECE):  # of all at once it would take the memory of three such arrays
            part = self.of_rows[first : min(first + PIECE, last) + 1]
            found += (np.flatnonzero((np.diff(part) != 1) | (part[:-1] < 0)) + first + 1).tolist()
        return found

    def values(
        self, of_rows: NDArray[Any], first: int, last: int, missing: NDArray[Any]
    ) -> NDArray[Any] | None:
        """A value of each place from first to before last, given those of the rows (n,); None if no row lies
        there. Of several rows at a place it is that of the last one."""
        begin, end = np.searchsorted(self._sorted, (first, last)).tolist()
        if begin == end:
            return None
        found = np.full(last - first, missing)
        rows = slice(begin, end) if self._order is None else self._order[begin:end]
        found[self._sorted[begin:end] - first] = of_rows[rows]
        return found

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each of these places, in their shape; -1 where there is none. Of several the last one."""
        if not len(self._sorted):
            return np.full(places.shape, -1, np.int64)
        at = np.searchsorted(self._sorted, places, side="right") - 1
        there = (at >= 0) & (self._sorted[at] == places)
        return np.where(there, at if self._order is None else self._order[at], -1)


def joint(places: Sequence[Places]) -> list[Places]:
    """The rows of several streams of one run in one map or list: a place is the same spectrum in all of them.

    One stream may have come further than another. Where one is compact, all are, to what any of them has.
    """
    if any(each.is_compact for each in places):
        index = np.unique(np.concatenate([each.index[each.of_rows >= 0] for each in places]))
        rows = [np.where(each.of_rows < 0, NOWHERE, np.searchsorted(index, each.index)) for each in places]
        return [Places((len(index),), LIST, each.astype(np.int64), index) for each in rows]
    largest = max(places, key=lambda each: math.prod(each.shape))
    return [Places(largest.shape, largest.dims, each.of_rows) for each in places]


Block: TypeAlias = tuple[tuple[int, ...], slice, int]  # the lines and planes that lead to it, it, its places


def blocks(first: int, last: int, shape: tuple[int, ...]) -> Iterator[Block]:
    """Where the places from first to before last lie in an array of this shape: the largest parts of a line,
    whole lines or whole planes."""
    while first < last:
        block = _block(first, last - first, shape)
        yield block
        first += block[2]


def _block(place: int, size: int, shape: tuple[int, ...]) -> Block:
    """The largest block that begins at a place, of no more than `size` places."""
    if len(shape) == 1:
        return (), slice(place, place + size), size
    within = int(np.prod(shape[1:]))
    first, rest = divmod(place, within)
    if rest == 0 and size >= within:
        count = size // within
        return (), slice(first, first + count), count * within
    lead, part, taken = _block(rest, min(size, within - rest), shape[1:])
    return (first, *lead), part, taken


def shape_of(
    scan: Sequence[int] | None, last: int, announced: int
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Shape and dimensions of a run's map or list.

    scan: rows and columns. last: after the last place that a spectrum has. announced: how many there are by
    the run's own account, -1 if it never said so. A run of more than its scan has is a stack of planes.
    """
    if scan is None:
        shape: tuple[int, ...] = (max(last, announced, 0),)
        dims: tuple[str, ...] = LIST
    else:
        rows, columns = scan
        planes = -(-max(last, announced, 1) // (rows * columns))
        shape = (rows, columns) if planes == 1 else (planes, rows, columns)
        dims = DIMS[-len(shape) :]
    return shape, dims


def places_of(
    index: NDArray[np.integer],
    position: NDArray[np.integer] | None,
    scan: Sequence[int] | None,
    announced: int,
) -> Places:
    """Where the rows lie.

    index: (n,), which spectrum of the run each row is, NOWHERE where nobody knows. position: (n, 2), row and
    column of the scan, if it is written down, in any order. Raises SpectraError for a place outside. A
    list that would be almost empty, since its run was joined late, has its rows one behind the other, and so
    has a map of more places than can be shown.
    """
    places = np.asarray(index).astype(np.int64, copy=False)
    known = places != NOWHERE
    if scan is not None and position is not None and known.any():
        there = position[known]
        if there.min() < 0 or there[:, 1].max() >= scan[1]:
            raise SpectraError(f"has positions outside of its scan of {scan[0]} x {scan[1]}")
        places = np.where(known, position[:, 0].astype(np.int64) * scan[1] + position[:, 1], NOWHERE)
    if len(places) and places.min() < NOWHERE:
        raise SpectraError("has spectra at places before the first one")
    shape, dims = shape_of(scan, int(places.max(initial=-1)) + 1, announced)
    most = MOST_PLACES if scan is not None else min(2 * len(places) + MOST_EMPTY, MOST_PLACES)
    if math.prod(shape) > most:
        return Places((len(places),), LIST, np.where(known, index, NOWHERE).astype(np.int64)).compact()
    return Places(shape, dims, places)
