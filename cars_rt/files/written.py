"""What of a stream in a recording is data, also while it is written or after a kill.

Rows lie in their datasets up to `written`. Of a recording with compressed arrays the last ones may lie in
the group `tail` until their chunk is whole, since a kill can spoil a chunk that is written twice: there each
array has two slots of a chunk, and `rows` says [first row, how many, slot].
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.checksum import COLUMNS, DTYPE, SUFFIX, WHICH, Sums
from cars_rt.files.hdf5 import (
    StoredRows,
    are_whole_numbers,
    attribute,
    numbers,
    opened,
    stored,
)
from cars_rt.files.measurement import ANY_FLAG, NOWHERE
from cars_rt.files.unreadable import UNREADABLE
from cars_rt.protocol import FLAGS
from cars_rt.protocol.messages import MAIN_ARRAY
from cars_rt.storage import StorageError

FORMAT = "cars-rt recording"  # what a recording says that it is
FORMAT_VERSION = 2  # the newest that is read here
#: Which spectra cannot be read, in words, where `repair` has found some; of a stream, which of its results
#: have no counts.
DAMAGE = "damage"
#: In a file of results what they were made from, which only `process` writes, and its attribute.
PROCESS, MADE_FROM = "process", "made_from"
DESCRIBED = "described"  # of a file that was cut to its rows and has what is there for other programs
TAIL, TAIL_ROWS = "tail", "rows"
SLOTS = 2


def is_recording(file: h5py.File) -> bool:
    """Whether a file says that it is a recording. Raises StorageError for one of a version to come."""
    said = attribute(file, "format")  # of another program anything, also a list
    with suppress(*UNREADABLE):
        if said is None and "format" in file.attrs and is_laid_out(file):
            said = FORMAT  # a disk has spoiled the text
    if not isinstance(said, str) or said != FORMAT:
        return False
    version, path = attribute(file, "version", FORMAT_VERSION), Path(file.filename)
    if not isinstance(version, int | np.integer) or version < 1:
        raise StorageError(path, "is damaged: it does not say of which version it is")
    if version > FORMAT_VERSION:
        said = f"is of version {version}, and this program reads up to {FORMAT_VERSION}: update it"
        raise StorageError(path, said)
    return True


def is_laid_out(file: h5py.File) -> bool:
    """Whether streams lie in it as in a recording, whatever it says that it is."""
    for stream in MAIN_ARRAY:
        with suppress(*UNREADABLE):
            group = stored(file, stream, h5py.Group)
            if group is not None and stored(group, "written") is not None:
                return True
    return False


def is_of_process(path: Path) -> bool:
    """Whether a file is one that `process` wrote, whole or not."""
    try:
        with opened(path) as file:
            group = stored(file, PROCESS, h5py.Group)
            return group is not None and MADE_FROM in group.attrs and is_recording(file)
    except UNREADABLE:
        return False


def damaged(file: h5py.File) -> set[str]:
    """What `repair` has found that cannot be read, or some rows of it, by names such as "raw" and "raw/dark":
    a file that says so is read without it. What was spoiled since is an error."""
    said = str(attribute(file, DAMAGE, "")) if is_recording(file) else ""
    return {part.rpartition(" of ")[2] for part in said.partition(" cannot be read")[0].split("; ")}


def is_said(error: StorageError, group: h5py.Group, name: str) -> bool:
    """Whether it is about an array of a stream that `repair` has named."""
    return error.of_file and place_in(group, name) in damaged(group.file)


def place_in(group: h5py.Group, name: str) -> str:
    """How an array of a stream is called in words, as "raw/dark"."""
    return f"{str(group.name).strip('/')}/{name}"


def places_written(group: h5py.Group) -> bool:
    """Whether a stream's position says where each spectrum is: those of `process` may lie where another
    program had them. A recorder's lie where their index says, and a spoiled position must move none."""
    own = is_recording(group.file) and stored(group.file, PROCESS) is None
    return not own and stored(group, "position") is not None


def columns_of(group: h5py.Group) -> int:
    """How many columns the scan of a stream has; 0 if it is none."""
    return int(np.ravel(group.attrs.get("scan", (0, 0)))[-1])


def rows_written(group: h5py.Group) -> int:
    """How many rows of a stream are data. Of a file that was cut to its rows they are all that are there: a
    bit that a disk spoils in a number takes none of them away. Raises StorageError if it does not say so."""
    written = numbers(group, "written")
    right = written is not None and not written.ndim and are_whole_numbers(written.dtype)
    tail, index = stored(group, TAIL), stored(group, "index", h5py.Dataset)
    if right and tail is None and index is not None and index.shape and attribute(group.file, DESCRIBED):
        return len(index)
    if written is None or not right or written < 0:
        raise StorageError(Path(group.file.filename), f"does not say how many rows of {group.name} are data")
    first, count, _ = tail_of(group)
    return first + count if first >= int(written) else int(written)


def tail_of(group: h5py.Group) -> tuple[int, int, int]:
    """First row, how many, and the slot of what lies in the tail; no rows if there is none."""
    tail = stored(group, TAIL, h5py.Group)
    rows = None if tail is None else numbers(tail, TAIL_ROWS)
    if rows is None:
        return 0, 0, 0
    first, count, slot = (int(each) for each in rows.ravel()[:3]) if rows.size == 3 else (-1, -1, -1)
    if first < 0 or count < 0 or not 0 <= slot < SLOTS:
        raise StorageError(Path(group.file.filename), f"is damaged: what {group.name}/tail says cannot be")
    return first, count, slot


def sums_of(group: h5py.Group, name: str, rows: int) -> Sums | None:
    """The checksums of so many rows of an array of a stream, if it has some. Raises StorageError."""
    sums, number = stored(group, name + SUFFIX, h5py.Dataset), None
    if sums is None and (sums := stored(group, COLUMNS, h5py.Dataset)) is not None:
        which = summed(group)
        number = which.index(name) if name in which else None
        sums = sums if name in which else None
    if sums is None:
        return None
    tail = () if number is None else (len(which),)
    if sums.dtype != DTYPE or sums.shape[1:] != tail or len(sums) < rows:
        raise StorageError(Path(group.file.filename), f"is damaged: the checksums of {name!r} cannot be")
    return Sums(sums, number)


def summed(group: h5py.Group) -> list[str]:
    """The columns of few bytes that have checksums, in the order of those. Raises StorageError."""
    sums = stored(group, COLUMNS, h5py.Dataset)
    said = "" if sums is None else attribute(sums, WHICH, "")
    return (said.decode() if isinstance(said, bytes) else str(said)).split()


def located(
    group: h5py.Group, name: str
) -> tuple[h5py.Dataset, int, tuple[h5py.Dataset, int, int] | None, Sums | None]:
    """Where the rows of an array of a stream are that are data: its dataset, how many rows, the tail (a
    dataset, the row with which it begins, and its slot) if some are there, and their checksums if they have
    some. Raises StorageError."""
    path = Path(group.file.filename)
    found = stored(group, name, h5py.Dataset)
    if found is None or not found.shape:
        raise StorageError(path, f"holds no rows {name!r}")
    rows = rows_written(group)
    if rows < 0 or len(found) < rows:
        raise StorageError(path, f"says that {rows} rows of {name!r} are data, and has {len(found)}")
    sums = sums_of(group, name, rows)
    first, count, slot = tail_of(group)
    tail = stored(group, TAIL, h5py.Group)
    waiting = None if tail is None else stored(tail, name, h5py.Dataset)
    if waiting is None or not count or first + count != rows:
        return found, rows, None, sums
    if waiting.shape[2:] != found.shape[1:] or waiting.ndim != found.ndim + 1 or waiting.dtype != found.dtype:
        raise StorageError(path, f"is damaged: the tail of {name!r} has rows of another kind")
    if waiting.shape[0] <= slot or waiting.shape[1] < count:
        raise StorageError(path, f"is damaged: the tail of {name!r} has the shape {waiting.shape}")
    return found, rows, (waiting, first, slot), sums


class SoundRows(StoredRows):
    """Rows of a recording, with zeros for those that are spoiled; of an index with NOWHERE, of flags with
    ANY_FLAG."""

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        first, last, _ = rows.indices(len(self))
        found, whole = self.sound(first, max(first, last))
        name = str(self._dataset.name).rpartition("/")[2]
        if (instead := {"index": NOWHERE, FLAGS: ANY_FLAG}.get(name)) is not None:
            found[~whole] = instead
        return found


def rows_of(group: h5py.Group, name: str, spoiled: bool) -> StoredRows:
    """As `stored_rows`; spoiled: as SoundRows has them, of a file that says that some cannot be read."""
    return (SoundRows if spoiled else StoredRows)(*located(group, name))


def column_of(group: h5py.Group, name: str) -> StoredRows | None:
    """The rows of an array of a stream, as SoundRows has them where `repair` has named some; None if there is
    none, or where it has said that none can be read. Raises StorageError."""
    spoiled = place_in(group, name) in damaged(group.file)
    try:
        there = stored(group, name, h5py.Dataset) is not None
        return rows_of(group, name, spoiled) if there else None
    except StorageError as error:
        if not spoiled or not error.of_file:
            raise
        return None


def dark_of(group: h5py.Group) -> NDArray[Any] | None:
    """The dark of counts that are to be processed, None if there is none. Raises StorageError, with what to
    do, if it cannot be read: without it they would be others."""
    try:
        return numbers(group, "dark")
    except StorageError as error:
        if not error.of_file or not is_recording(group.file):
            raise
        remedy = (
            f"`cars-rt repair` mends it by a copy, if one is left; else delete {group.name}/dark of the file"
        )
        said = f"{error.strerror}: {remedy}, and give another one by --calibration"
        raise StorageError(Path(group.file.filename), said) from None


def stored_rows(group: h5py.Group, name: str) -> StoredRows:
    """The rows of an array of a stream that are data. Raises StorageError if they are not there."""
    return StoredRows(*located(group, name))


def read_rows(group: h5py.Group, name: str) -> NDArray[Any]:
    """As `stored_rows`, read."""
    return stored_rows(group, name)[:]


def read_position(group: h5py.Group) -> NDArray[Any] | None:
    """Row and column of each spectrum, (n, 2), where its index does not say them. Raises StorageError if they
    cannot be read."""
    return read_rows(group, "position") if places_written(group) else None
