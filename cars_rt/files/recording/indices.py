"""Index and position of spectra that a disk has spoiled, where what is left of them says what they were."""

import json
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.checksum import checksums
from cars_rt.files.hdf5 import StoredRows, stored
from cars_rt.files.places import positions
from cars_rt.files.recording.damage import runs
from cars_rt.files.written import columns_of, located, stored_rows
from cars_rt.storage import StorageError

INDEX, POSITION = "index", "position"
MOST_BETWEEN = 2**26  # spectra of a run between two that are known


def are_spoiled(group: h5py.Group, rows: int) -> bool:
    """Whether index or position of spectra cannot be read. Raises StorageError where the system reads
    nothing."""
    there = (_rows(group, name) for name in (INDEX, POSITION))
    return any(not each.sound(0, rows)[1].all() for each in there if each is not None)


def _rows(group: h5py.Group, name: str) -> StoredRows | None:
    """The rows of an array; None if there is none, or it cannot be opened at all."""
    try:
        return None if stored(group, name, h5py.Dataset) is None else stored_rows(group, name)
    except StorageError as error:
        if not error.of_file:
            raise
        return None


def mend_indices(group: h5py.Group, rows: int) -> list[str]:
    """Write anew what can be known of the index and the position of spectra. Returns which of these were
    mended, as "raw/index". Raises StorageError where the system reads nothing."""
    there = [name for name in (INDEX, POSITION) if _rows(group, name) is not None]
    if INDEX not in there or not rows:
        return []
    index, known = stored_rows(group, INDEX).sound(0, rows)
    before = known.copy()
    columns = columns_of(group)
    position, placed = None, np.zeros(rows, bool)
    if POSITION in there and columns > 0:
        position, placed = stored_rows(group, POSITION).sound(0, rows)
        if position.shape != (rows, 2):
            raise StorageError(Path(group.file.filename), "has positions that are no rows and columns")
        along = position[:, 0].astype(np.int64) * columns + position[:, 1]
        both = known & placed
        if both.any() and (along[both] == index[both]).all():  # so the recorder has written them
            index = np.where(known, index, along)
            known = known | placed
        else:
            position = None
    _between(index, known, int(group.attrs.get("announced", -1)), _lost(group))
    mended = [INDEX] if _write(group, INDEX, index, known & ~before) else []
    if position is not None:
        at = positions(index, columns).astype(position.dtype)
        if _write(group, POSITION, at, known & ~placed):
            mended.append(POSITION)
    return [f"{str(group.name).strip('/')}/{name}" for name in mended]


def _lost(group: h5py.Group) -> list[tuple[int, int]]:
    """Spectra that the receipt says are lost, as (first, after the last)."""
    try:
        said = json.loads(str(group.attrs.get("ranges", "[]")))
        return [(int(first), int(first) + int(spectra)) for _, first, spectra in said]
    except (ValueError, TypeError):
        return []


def _between(
    index: NDArray[np.int64], known: NDArray[np.bool_], announced: int, lost: list[tuple[int, int]]
) -> None:
    """Fill in what nothing else can be: an index grows from row to row, from 0 or more, to below as many as
    were announced, and leaves out what was lost."""
    edges = np.concatenate([[-1], np.flatnonzero(known), [len(index)]])
    values = np.concatenate([[-1], index[known], [announced]])
    for gap in np.flatnonzero(np.diff(edges) > 1).tolist():
        first, last = int(edges[gap]), int(edges[gap + 1])
        begin, end = int(values[gap]) + 1, int(values[gap + 1])
        if last - first - 1 > end - begin or end - begin > MOST_BETWEEN:
            continue
        there = np.ones(end - begin, bool)
        for each, after in lost:
            there[max(each - begin, 0) : max(after - begin, 0)] = False
        if there.sum() == last - first - 1:
            index[first + 1 : last] = begin + np.flatnonzero(there)
            known[first + 1 : last] = True


def _write(group: h5py.Group, name: str, values: NDArray[np.int64], which: NDArray[np.bool_]) -> bool:
    """Write these rows, with their checksums. Returns whether there were some."""
    dataset, _, _, sums = located(group, name)
    for first, last in runs(which):
        dataset[first:last] = values[first:last]
        if sums is not None:  # also where it was that what was spoiled
            sums[first:last] = checksums(np.asarray(values[first:last], dataset.dtype))
    return bool(which.any())
