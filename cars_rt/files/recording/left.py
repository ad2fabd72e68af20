"""Rows that a recorder left that did not close its file: how many there are, and where each one is."""

import logging
import math
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.checksum import COLUMNS, SUFFIX, checksums
from cars_rt.files.hdf5 import StoredRows, stored
from cars_rt.files.recording.indices import INDEX, mend_indices
from cars_rt.files.written import SLOTS, TAIL, TAIL_ROWS, located, stored_rows, summed, sums_of
from cars_rt.storage import StorageError

log = logging.getLogger("cars_rt.recording")

SHORT, AT_ONCE = 64, 65_536  # bytes of a row, of which so many are read at once


def find_left(group: h5py.Group, main: str) -> list[str]:
    """Have all rows in their places, and a stream say how many there are: with those behind that are whole,
    since a bit spoils such a number, and without the last ones of which index or spectrum cannot be read,
    since a power failure may leave one whose rows were not on the disk yet. Of a stream that ended none of
    those goes that it says. What has no row that can be read stays as it is. Returns what of its indices was
    mended. Raises StorageError."""
    said, last = _said(group)
    gather(group, max(said, last), min(said, last))
    group["written"][()] = rows = _with_those_behind(group, said, last)
    mended = mend_indices(group, rows)
    known, spectra = stored_rows(group, INDEX).sound(0, rows)[1], stored_rows(group, main)
    least, end = said if int(group.attrs.get("announced", -1)) >= 0 else 0, rows
    step = (group[main].chunks or (1024,))[0]
    while end > least:
        first = (end - 1) // step * step
        there = np.flatnonzero(known[first:end] & spectra.sound(first, end)[1])
        if len(there):
            end = first + int(there[-1]) + 1
            break
        end = first
    end = max(end, least) or said
    if end < said:
        name, path = str(group.name).strip("/"), group.file.filename
        words = "%s: the last %d of %d spectra %s were not on the disk, as after a power failure: it ends "
        log.warning(words + "before them", path, said - end, said, name)
    group["written"][()] = end
    return mended


def _said(group: h5py.Group) -> tuple[int, int]:
    """How many rows a stream says that it has, 0 where that cannot be; and up to which one there is an index,
    whatever it says. Raises StorageError where there is neither."""
    there = _sound(group, INDEX, 0, len(group[INDEX])).nonzero()[0]
    last = int(there[-1]) + 1 if len(there) else 0
    try:
        return located(group, INDEX)[1], last
    except StorageError as error:
        if not last or not error.of_file:
            raise
        return 0, last


def _with_those_behind(group: h5py.Group, said: int, last: int) -> int:
    """How many rows there are with those behind, up to the last one, of which more are whole than not: before
    a kill, some of what lies behind may have come to the file, out of order."""
    if last <= said:
        return said
    wide = [each.removesuffix(SUFFIX) for each in group if each.endswith(SUFFIX) and each != COLUMNS]
    whole = np.logical_and.reduce([_sound(group, each, said, last) for each in (*summed(group), *wide)])
    lead = np.cumsum(np.where(whole, 1, -1))
    best = int(lead.argmax())
    return said + best + 1 if lead[best] > 0 else said


def _sound(group: h5py.Group, name: str, first: int, last: int) -> NDArray[np.bool_]:
    """Which of these rows have the checksum that they should have, whatever is said to be data: what was
    never written has none. All, of a column that is not there."""
    sound = np.ones(last - first, bool)
    if (found := stored(group, name, h5py.Dataset)) is None:
        return sound
    if (sums := sums_of(group, name, last)) is None:
        return ~sound
    there, step = StoredRows(found, None, None, sums), found.chunks[0]
    if found.dtype.itemsize * math.prod(found.shape[1:]) <= SHORT:
        step *= max(AT_ONCE // step, 1)
    for begin in range(first - first % step, last, step):
        part = slice(max(begin - first, 0), min(begin + step, last) - first)
        sound[part] = there.sound(first + part.start, first + part.stop)[1]
    return sound


def gather(group: h5py.Group, rows: int, first: int) -> None:
    """Have each row in its chunk, of as many, from the chunk before that of the first one on. The last ones
    waited in the tail for theirs to be whole; and a power failure may keep a chunk from the disk whose rows
    had been there, and still are. They are where they have their checksums."""
    tail = stored(group, TAIL, h5py.Group)
    for name in (each for each in tail or () if each != TAIL_ROWS):
        waiting, found = stored(tail, name, h5py.Dataset), stored(group, name, h5py.Dataset)
        sums, chunk = sums_of(group, name, rows), waiting.shape[1]
        if sums is None:
            raise StorageError(Path(group.file.filename), f"is damaged: no checksums of {name!r} are there")
        whole = -(-rows // chunk) * chunk
        found.resize(whole, axis=0)  # so that a chunk is written as a whole, and not read
        for begin in range(max((first - 1) // chunk - 1, 0) * chunk, rows, chunk):
            size = min(rows - begin, chunk)
            right = sums[begin : begin + size]
            places = [StoredRows(found, None, None, sums).sound(begin, begin + size)[1]]
            places += [checksums(waiting[slot, :size]) == right for slot in range(SLOTS)]
            best = int(np.argmax([each.sum() for each in places]))
            if best > 0:
                found[begin : begin + chunk] = waiting[best - 1]
    if tail is not None:
        del group[TAIL]
