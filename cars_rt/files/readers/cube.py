"""The map of a cube of other programs: as it lies in the file, which is said where its axes say otherwise."""

import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cars_rt.files.readers.lazy import scan_of
from cars_rt.printable import printable

log = logging.getLogger("cars_rt")

LETTER = re.compile(r"(?:.*[\W_])?([xy])(?:[\W_].*)?")  # x, sample_x, X position
MOST_SAID = 64  # files of which it is known that it was said
TEXTS = 40  # characters of a name


class Along(NamedTuple):
    """An axis of places. step_um: None where it is no length, or not regular."""

    name: str
    step_um: float | None
    falls: bool


def map_of(path: Path, shape: tuple[int, ...], axes: Sequence[Along]) -> dict[str, Any]:
    """What `Spectra` say of a cube (..., p): scan and step_um. axes: those before its last one, or the last
    two of them."""
    scan = scan_of(shape)
    if scan is None:
        return {}
    rows, columns = axes[-2:]
    said = []
    if (_letter(rows), _letter(columns)) == ("x", "y"):
        said = ["rows go along y and columns along x"]
    for axis, each in ((rows, "row"), (columns, "column")):
        if axis.falls:
            said.append(f"{printable(axis.name, TEXTS)} falls from {each} to {each}")
    if said:
        _say(path.absolute(), " and ".join(said))
    step = (rows.step_um, columns.step_um) if rows.step_um and columns.step_um else None
    return {"scan": scan, "step_um": step}


def _letter(axis: Along) -> str:
    found = LETTER.fullmatch(axis.name.lower())
    return found[1] if found else ""


@lru_cache(MOST_SAID)
def _say(path: Path, said: str) -> None:
    """Once of a file, which is opened again, by its absolute path, for each piece of it."""
    log.warning("%s: its map is taken as it lies in the file, where %s", path, said)
