"""What a recording says of itself: of one that nobody closed, and where a kill or a disk has spoiled it."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py

from cars_rt.files.hdf5 import attribute, readable_attrs, stored
from cars_rt.files.heap import Read, watched
from cars_rt.files.measurement import ABOUT
from cars_rt.files.unreadable import UNREADABLE
from cars_rt.files.written import DAMAGE, FORMAT, FORMAT_VERSION
from cars_rt.protocol.messages import MAIN_ARRAY

log = logging.getLogger("cars_rt.recording")

NOT_CLOSED = "not closed"  # the reason of a recording, and of a stream, that nobody has ended
NO_RECEIPT = {"announced": -1, "reason": NOT_CLOSED, "lost_before": "{}", "lost": "{}", "ranges": "[]"}
NO_HEAD = {"format": FORMAT, "version": FORMAT_VERSION, "reason": NOT_CLOSED}
#: What stands for other texts that cannot be read. One that is not here is left out.
UNKNOWN = {"run": "", "source": "", "made_by": "[]", DAMAGE: "what was said of its damage cannot be read"}
#: What the file and each of its streams say alike.
SHARED = ABOUT.keys() - {"block", "calibration"}


def have_lost_texts(path: Path) -> bool:
    """Whether a list of texts ends at what a disk has spoiled. Of what a map is made of is such a list, too.
    Raises OSError."""

    def look(_: str, place: h5py.Group | h5py.Dataset) -> None:
        readable_attrs(place)

    with Read(path) as content, watched(path, content) as file:
        look("/", file)
        with suppress(*UNREADABLE):
            file.visititems(look)
        return content.ended


def mend_texts(file: h5py.File) -> None:
    """Write anew what a recording says of itself and cannot be read: as another place in it has it, or that
    it is not known. Nothing of such a receipt counts. Raises OSError where the system reads
    nothing."""
    places: dict[str, h5py.Group] = {"/": file}
    for stream in MAIN_ARRAY:
        try:
            if (group := stored(file, stream, h5py.Group)) is not None:
                places[str(group.name)] = group
        except UNREADABLE:
            continue  # `count` says that of a stream
    for name, place in places.items():
        try:
            listed = set(place.attrs)
        except UNREADABLE:
            continue  # as above
        spoiled = {each for each in listed if not _is_sound(attribute(place, each))}
        if not spoiled:
            continue
        log.warning("%s: %s of %s cannot be read", file.filename, ", ".join(sorted(spoiled)), name)
        anew: dict[str, Any] = {each: value for each, value in UNKNOWN.items() if each in spoiled}
        anew |= {each: "" for each in spoiled if each.startswith("model_")}
        anew |= _said_by((each for each in places.values() if each is not place), spoiled & SHARED)
        if place is file:
            anew |= {each: value for each, value in NO_HEAD.items() if each in spoiled}
        elif spoiled & set(NO_RECEIPT):
            anew |= NO_RECEIPT
        for each in spoiled:
            del place.attrs[each]  # anew in another place: there, what is spoiled would be read
        place.attrs.update(anew)


def _said_by(places: Iterable[h5py.Group], names: set[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place in places:
        there = {name: attribute(place, name) for name in names - set(found)}
        found |= {name: value for name, value in there.items() if _is_sound(value)}
    return found


def _is_sound(value: Any) -> bool:
    """Whether it was read, and of a text, that it is of characters."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return value is not None
