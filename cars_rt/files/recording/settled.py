"""What a recording holds, counted in its file, which is cut to its rows: at its end, or by a repair."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py

from cars_rt.files.filters import FilterError, packed_together
from cars_rt.files.hdf5 import are_numbers, attribute, stored
from cars_rt.files.recording.errors import RecordingError, reason
from cars_rt.files.recording.left import gather
from cars_rt.files.recording.nexus import ENTRY, describe, room_for
from cars_rt.files.recording.texts import NOT_CLOSED
from cars_rt.files.unreadable import UNREADABLE, is_of_file
from cars_rt.files.written import (
    DAMAGE,
    DESCRIBED,
    FORMAT_VERSION,
    is_recording,
    located,
)
from cars_rt.protocol.messages import MAIN_ARRAY
from cars_rt.storage import StorageError, refuse_no_room

log = logging.getLogger("cars_rt.recording")


@dataclass(frozen=True, slots=True)
class Counted:
    groups: dict[str, h5py.Group]  # of the streams that can be read
    rows: dict[str, int]
    announced: dict[str, int]
    spoiled: dict[str, str]  # streams that are there and cannot be read, and why

    def whole(self, file: h5py.File) -> bool:
        """Every stream ended as planned, and every spectrum that was announced is there."""
        expected = set(json.loads(attribute(file, "streams", "[]"))) or set(self.rows) or {"any"}
        return (
            not self.spoiled
            and not attribute(file, DAMAGE, "")
            and set(self.rows) == expected
            and all(attribute(group, "reason") == "complete" for group in self.groups.values())
            and self.rows == self.announced
        )

    def tell(self, path: Path) -> None:
        """Say why streams cannot be read."""
        for why in self.spoiled.values():
            log.warning("%s: %s", path, why)


def count(file: h5py.File) -> Counted:
    """What is there. Raises RecordingError if none of the streams that are there can be read: nothing is cut
    or closed that somebody may still save."""
    if not is_recording(file):
        raise RecordingError(f"{file.filename} is no recording of `cars-rt record`")
    counted = Counted({}, {}, {}, {})
    for stream, main in MAIN_ARRAY.items():
        try:
            if (group := stored(file, stream, h5py.Group)) is None:
                continue  # it never began: it has its name when all of it is there
            dtype = located(group, main)[0].dtype
            if not are_numbers(dtype):
                raise StorageError(Path(file.filename), f"its {main} are no numbers but {dtype}")
            _, rows, *_ = located(group, "index")  # without which nobody reads them
            list(group.attrs)  # which say what they are
        except FilterError:
            raise
        except UNREADABLE as error:
            counted.spoiled[stream] = f"the {stream} stream in it cannot be read: {reason(error)}"
            continue
        counted.groups[stream], counted.rows[stream] = group, rows
        counted.announced[stream] = int(group.attrs.get("announced", -1))
    if counted.spoiled and not counted.groups:
        why = "; ".join(counted.spoiled.values())
        raise RecordingError(f"{file.filename} is damaged and left as it is: {why}")
    return counted


def settle(file: h5py.File) -> Counted:
    """Cut to the rows that are data and write down what that makes of the recording."""
    counted = count(file)
    counted.tell(Path(file.filename))
    for stream, group in counted.groups.items():
        rows = counted.rows[stream]
        try:
            gather(group, rows, rows)
            group["written"][()] = rows
            for column in _columns(group):
                if len(column) > rows:
                    _shorten(column, rows)
        except UNREADABLE as error:
            if not is_of_file(error):
                raise
            why = f"the {stream} stream in it cannot be cut to its rows: {reason(error)}"
            raise RecordingError(f"{file.filename} is damaged and left as it is: {why}") from None
    if attribute(file, "reason", NOT_CLOSED) == NOT_CLOSED and counted.groups:
        reasons = {str(attribute(group, "reason", NOT_CLOSED)) for group in counted.groups.values()}
        file.attrs["reason"] = ", ".join(sorted(reasons))
    file.attrs.modify("complete", counted.whole(file))
    _describe(file, counted)
    return counted


def _describe(file: h5py.File, counted: Counted) -> None:
    """Write what other programs look for. A recording that says nonsense of itself keeps its rows without it,
    and so does one on a full disk: `repair` does the rest when there is room."""
    try:
        refuse_no_room(Path(file.filename), room_for(counted.groups))  # HDF5 crashes where it finds none
    except OSError as error:
        log.warning("%s: no map is made of it (%s); `cars-rt repair` makes it", file.filename, reason(error))
        return
    if counted.spoiled and ENTRY in file:
        return  # the map of before has more than one without that stream
    try:
        if counted.groups:
            describe(file, counted.groups)
    except Exception as error:  # h5py and NumPy raise many kinds at odd values
        log.warning("%s: no map is made of it: %s", file.filename, reason(error))
    file.attrs[DESCRIBED] = FORMAT_VERSION


def _columns(group: h5py.Group) -> Iterator[h5py.Dataset]:
    """The datasets that grow with the rows and are as long; without those that cannot be read."""
    for name in group:
        try:
            column = stored(group, name)
        except StorageError as error:
            if not error.of_file:
                raise
            continue
        if isinstance(column, h5py.Dataset) and column.ndim and column.maxshape[0] is None:
            yield column


def _shorten(column: h5py.Dataset, rows: int) -> None:
    """Cut to its rows; behind the last chunk of them where that cannot be unpacked, to be cut."""
    column.resize(_whole(column, rows), axis=0)
    try:
        column.resize(rows, axis=0)
    except UNREADABLE as error:
        if not is_of_file(error):
            raise
        column.resize(_whole(column, rows), axis=0)


def _whole(column: h5py.Dataset, rows: int) -> int:
    """Rows with the others of the chunk that the last one is in, of what is packed."""
    unit = packed_together(column)
    return min(-(-rows // unit) * unit, len(column))
