"""Attributes of which a disk has spoiled what they are: HDF5 finds no other one behind them, and adds none.

They are in the headers of groups and datasets, as messages, of which one whose kind is 0 is nothing.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from cars_rt.files.hdf5 import opened, stored
from cars_rt.files.unreadable import UNREADABLE, is_of_file
from cars_rt.files.written import is_laid_out
from cars_rt.protocol.messages import MAIN_ARRAY

log = logging.getLogger("cars_rt.recording")

ATTRIBUTE, CONTINUED = 12, 16  # kinds of messages
MOST_MESSAGES = 1_000  # of one header

Gone = dict[str, list[str]]  # names of attributes, by the place where they were


def mend_headers(path: Path) -> Gone:
    """Take such attributes out of the file, so that the others are there again. Returns which. Only for a
    file that nobody else uses. Raises OSError."""
    gone: Gone = {}
    while (found := _first_spoiled(path)) is not None:
        place, name, at = found
        with path.open("r+b", buffering=0) as file:
            file.seek(at)
            file.write(bytes(2))  # both at once: a kill leaves it as it was, or without
        gone.setdefault(place, []).append(name)
    for place, names in gone.items():
        log.warning("%s: %s of %s cannot be read, and is left out", path, ", ".join(names), place)
    return gone


def _first_spoiled(path: Path) -> tuple[str, str, int] | None:
    """The place, the name, and where in the file its message begins; None if there is none."""
    with opened(path) as file, path.open("rb") as content:
        for place in _places(file) if is_laid_out(file) else ():
            if _is_read(list, place.attrs):
                continue
            with suppress(*UNREADABLE):
                for at, name in attributes(content, h5py.h5o.get_info(place.id).addr):
                    if not _is_read(h5py.h5a.open, place.id, name):
                        return str(place.name), name.decode("utf-8", "replace"), at
    return None


def _places(file: h5py.File) -> Iterator[h5py.Group | h5py.Dataset]:
    """The file, its streams and their arrays, as far as they can be opened."""
    yield file
    for stream in MAIN_ARRAY:
        places: list[h5py.Group | h5py.Dataset] = []
        with suppress(*UNREADABLE):
            if (group := stored(file, stream, h5py.Group)) is not None:
                places.append(group)
            for name in group or ():
                if isinstance(group.get(name, getlink=True), h5py.HardLink):
                    places.append(group[name])
        yield from places


def _is_read(read: Any, *given: Any) -> bool:
    """Whether HDF5 reads this. Raises OSError where it is the system that reads nothing."""
    try:
        read(*given)
    except UNREADABLE as error:
        if not is_of_file(error):
            raise
        return False
    return True


def attributes(file: BinaryIO, header: int) -> Iterator[tuple[int, bytes]]:
    """Where each attribute's message begins, and its name, in a header of HDF5's earliest format."""

    def number(at: int, size: int) -> int:
        file.seek(at)
        return int.from_bytes(file.read(size), "little")

    if number(header, 1) != 1:
        return
    parts, left = [(header + 16, number(header + 8, 4))], MOST_MESSAGES
    while parts:
        at, size = parts.pop(0)
        end = at + size
        while at + 8 <= end and (left := left - 1):
            kind, length = number(at, 2), number(at + 2, 2)
            if kind == CONTINUED:
                parts.append((number(at + 8, 8), number(at + 16, 8)))
            elif kind == ATTRIBUTE:
                begin = at + (17 if number(at + 8, 1) == 3 else 16)
                many = min(number(at + 10, 2), length)
                file.seek(begin)
                yield at, file.read(many).rstrip(b"\0")
            at += 8 + length
