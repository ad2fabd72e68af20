"""Texts of a recording: what one says that nobody closed, and those that a kill has spoiled."""

import logging
from typing import Any

import h5py

from cars_rt.files.hdf5 import UNREADABLE, readable_attrs, stored
from cars_rt.protocol.messages import MAIN_ARRAY

log = logging.getLogger("cars_rt.recording")

NOT_CLOSED = "not closed"  # the reason of a recording, and of a stream, that nobody has ended
NO_RECEIPT = {"announced": -1, "reason": NOT_CLOSED, "lost_before": "{}", "lost": "{}", "ranges": "[]"}


def mend_texts(file: h5py.File) -> None:
    """Mend texts that were being written when the recorder was killed. Nothing of such a receipt counts."""
    for name in ("/", *MAIN_ARRAY):
        try:
            place = file if name == "/" else stored(file, name, h5py.Group)
            spoiled = set[str]() if place is None else set(place.attrs) - set(readable_attrs(place))
        except UNREADABLE:
            continue  # `count` says that of a stream
        if not spoiled:
            continue
        log.warning("%s: %s of %s was spoiled by a kill", file.filename, ", ".join(sorted(spoiled)), name)
        given = {"reason": NOT_CLOSED} if place is file else NO_RECEIPT
        anew: dict[str, Any] = {each: "[]" if each == "made_by" else "" for each in spoiled}
        anew |= given if spoiled & set(given) else {}
        place.attrs.update(anew)  # in other places: `modify` would read what is spoiled
