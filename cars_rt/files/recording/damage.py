"""What of a recording cannot be read: a part of the file that a disk or a copy has spoiled.

Each row has a checksum, chunks of compressed ones have one, too, and axis and dark one for all.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.hdf5 import StoredRows, attribute, numbers, stored
from cars_rt.files.measurement import NOWHERE
from cars_rt.files.written import DAMAGE, TAIL, rows_of, stored_rows, sums_of
from cars_rt.storage import StorageError

MOST_NAMED = 8  # ranges that are named one by one
FEW = 16  # numbers of a row that is short
STEP = 2**16  # short rows that are looked at at once

Ranges = list[tuple[int, int]]  # of spectra, by index: first and last; none of what all have in common


def unreadable(groups: Mapping[str, h5py.Group], rows: Mapping[str, int]) -> dict[str, Ranges]:
    """Which spectra of which array cannot be read, by names such as "raw/counts"; only where there are some.
    Reads all that has checksums. Raises StorageError where the system reads nothing."""
    found: dict[str, Ranges] = {}
    for stream, group in groups.items():
        for name in group:
            try:
                lost = _lost_of(group, name, rows[stream])
            except StorageError as error:
                if not error.of_file:
                    raise
                lost = []
            if lost is not None:
                found[f"{stream}/{name}"] = _by_index(group, lost)
    return found


def _lost_of(group: h5py.Group, name: str, rows: int) -> Ranges | None:
    """Which rows of an array cannot be read, None if all can. Raises StorageError where none can, or what all
    spectra have in common."""
    if name == TAIL:
        return None
    dataset = stored(group, name, h5py.Dataset)
    if dataset is None:
        raise StorageError(Path(group.file.filename), f"is damaged: {name!r} is listed, and not found")
    if not dataset.chunks:
        return None
    if dataset.maxshape[0] is not None:
        numbers(group, name)
        return None
    packed = dataset.id.get_create_plist().get_nfilters() > 0
    if not packed and sums_of(group, name, rows) is None:
        return None
    few = dataset.ndim == 1 or dataset.shape[1] <= FEW
    step = STEP if few and not packed else dataset.chunks[0]
    return _lost(stored_rows(group, name), rows, step) or None


def said(groups: Mapping[str, h5py.Group], rows: Mapping[str, int], spoiled: Iterable[str]) -> str:
    """What of a recording cannot be read, and which of its results have no counts, in a phrase; empty if all
    is well. spoiled: streams of which nothing can be. Reads as `unreadable` does."""
    without = (str(attribute(group, DAMAGE, "")) for group in groups.values())
    found: dict[str, Ranges] = {f"all of {stream}": [] for stream in spoiled} | unreadable(groups, rows)
    return "; ".join(filter(None, (named(found), *without)))


def named(damage: Mapping[str, Ranges]) -> str:
    """What of a recording cannot be read, in a phrase; empty if all of it can."""
    parts = [f"spectra {_listed(ranges)} of {name}" if ranges else name for name, ranges in damage.items()]
    where = "that part of the file is damaged, the rest is as it was"
    return f"{'; '.join(parts)} cannot be read: {where}" if parts else ""


def _listed(ranges: Ranges) -> str:
    each = [f"{first} to {last}" if last > first else f"{first}" for first, last in ranges[:MOST_NAMED]]
    more = [f"{len(ranges) - MOST_NAMED} more ranges"] if len(ranges) > MOST_NAMED else []
    return ", ".join([*each, *more])


class Without:
    """Results without counts: a disk has spoiled those, and NaN stands for what would come of them. And those
    of which nothing says any more which spectra they are."""

    def __init__(self) -> None:
        self._ranges: Ranges = []
        self._unknown = 0

    def add(self, index: NDArray[Any], raman: NDArray[Any]) -> None:
        """The next results, and the indices of their spectra."""
        unknown = index == NOWHERE
        self._unknown += int(unknown.sum())
        for spectrum in index[np.isnan(raman[:, 0]) & ~unknown].tolist():
            touches = self._ranges and self._ranges[-1][1] + 1 == spectrum
            self._ranges[-1:] = (
                [(self._ranges[-1][0], spectrum)] if touches else [*self._ranges[-1:], (spectrum, spectrum)]
            )

    def __str__(self) -> str:
        """Which they are, in a phrase; empty if there are none."""
        parts = []
        if self._ranges:
            which = _listed(self._ranges)
            parts.append(f"the counts of spectra {which} could not be read: NaN stands for their results")
        if self._unknown:
            parts.append(
                f"nothing says any more which spectra {self._unknown} of the results are: they have no place"
            )
        return "; ".join(parts)


def _lost(there: StoredRows, rows: int, step: int) -> Ranges:
    """Rows that cannot be read, as (first, after the last); those that touch are one. Read by steps."""
    lost = np.zeros(rows, bool)
    for first in range(0, rows, step):
        last = min(first + step, rows)
        lost[first:last] = ~there.sound(first, last)[1]
    return runs(lost)


def runs(which: NDArray[np.bool_]) -> Ranges:
    """Where these are true, as (first, after the last)."""
    edges = np.flatnonzero(np.diff(which, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _by_index(group: h5py.Group, rows: Iterable[tuple[int, int]]) -> Ranges:
    """The spectra in these rows, by their index in the run; by the row where that cannot be read."""
    try:
        index = rows_of(group, "index", spoiled=True)
    except StorageError:
        return [(first, last - 1) for first, last in rows]
    return [(_index(index, first), _index(index, last - 1)) for first, last in rows]


def _index(index: StoredRows, row: int) -> int:
    found = int(index[row : row + 1][0])
    return row if found == NOWHERE else found
