"""Index and position of spectra that a disk has spoiled, where what is left of them says what they were."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.checksum import checksums
from cars_rt.files.hdf5 import attribute, stored
from cars_rt.files.places import positions
from cars_rt.files.recording.damage import runs
from cars_rt.files.recording.replaced import replace
from cars_rt.files.unreadable import UNREADABLE, is_of_file
from cars_rt.files.written import columns_of, located, places_written, stored_rows
from cars_rt.storage import StorageError

INDEX, POSITION = "index", "position"
MOST_BETWEEN = 2**26  # spectra of a run between two that are known


def are_spoiled(group: h5py.Group, rows: int) -> bool:
    """Whether index or position of spectra cannot be read. Raises StorageError where the system reads
    nothing."""
    there = (_sound(group, name, rows) for name in (INDEX, POSITION))
    return any(not each[1].all() for each in there if each is not None)


def _sound(group: h5py.Group, name: str, rows: int) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
    """The first rows of an array, and which of them are whole: none where nothing says any more where they
    lie. None if there is no such array, or it cannot be opened at all."""
    try:
        if (found := stored(group, name, h5py.Dataset)) is None:
            return None
        try:
            return stored_rows(group, name).sound(0, rows)
        except StorageError as error:
            if not error.of_file or len(found) < rows:
                raise
        return np.zeros((rows, *found.shape[1:]), found.dtype), np.zeros(rows, bool)
    except StorageError as error:
        if not error.of_file:
            raise
        return None


def mend_indices(group: h5py.Group, rows: int) -> list[str]:
    """Write anew what can be known of the index and the position of spectra. Returns which of these were
    mended, as "raw/index". Raises StorageError where the system reads nothing."""
    if not rows or (found := _sound(group, INDEX, rows)) is None:
        return []
    index, known = found
    before = known.copy()
    columns = columns_of(group)
    position, placed = None, np.zeros(rows, bool)
    if columns > 0 and (places := _sound(group, POSITION, rows)) is not None:
        position, placed = places
        if position.shape != (rows, 2):
            raise StorageError(Path(group.file.filename), "has positions that are no rows and columns")
        along = position[:, 0].astype(np.int64) * columns + position[:, 1]
        both = known & placed
        alike = both.any() and (along[both] == index[both]).all()
        if alike or not (known.any() or places_written(group)):  # so the recorder has written them
            index = np.where(known, index, along)
            known = known | placed
        else:
            position = None
    _between(index, known, int(attribute(group, "announced", -1)), _lost(group))
    mended = [INDEX] if _write(group, INDEX, index, known & ~before) else []
    if position is not None:
        at = positions(index, columns).astype(position.dtype)
        if _write(group, POSITION, at, known & ~placed):
            mended.append(POSITION)
    return [f"{str(group.name).strip('/')}/{name}" for name in mended]


def _lost(group: h5py.Group) -> list[tuple[int, int]]:
    """Spectra that the receipt says are lost, as (first, after the last)."""
    try:
        said = json.loads(str(attribute(group, "ranges", "[]")))
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
    dataset, rows, _, sums = located(group, name)
    for first, last in runs(which):
        try:
            dataset[first:last] = values[first:last]
        except UNREADABLE as error:  # what says where its rows lie is spoiled
            if not is_of_file(error):
                raise
            dataset = replace(dataset, values[:rows])
        if sums is not None:  # also where it was that what was spoiled
            sums[first:last] = checksums(np.asarray(values[first:last], dataset.dtype))
    return bool(which.any())
