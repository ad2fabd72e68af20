"""Reads what a recorder left, with h5py."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.extent import mend
from chaos.camera import checksum

BEGUN = 10_000  # bytes of a file with room for rows


@dataclass(frozen=True, slots=True)
class Part:
    """One stream of a run in a file."""

    run: str
    index: NDArray[np.int64]  # of the spectra that are there, in their order
    genuine: bool  # each is the one that its index says it is
    receipt: dict[str, Any] | None  # None: the stream never ended in this file


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording."""

    path: Path
    complete: bool
    parts: dict[str, Part]  # by stream


def kept(path: Path) -> Kept:
    """What is in a file. A stream that a kill met in the moment of its beginning or end is not there."""
    try:
        opened = h5py.File(_mended(path), "r")
    except OSError:
        assert ".partial" in path.name and path.stat().st_size < BEGUN, f"{path} cannot be read"
        return Kept(path, False, {})
    with opened as file:
        parts = {}
        for stream in ("raw", "raman"):
            try:
                parts[stream] = _part(file[stream], stream)
            except (KeyError, OSError):
                assert ".partial" in path.name or stream not in file, f"{path} cannot be read"
        begun = "complete" in file.attrs  # what a file says first
        assert begun or (".partial" in path.name and path.stat().st_size < BEGUN), f"{path} says nothing"
        return Kept(path, begun and bool(file.attrs["complete"]), parts)


def _mended(path: Path) -> Path:
    """A copy of what a kill met amid a write, as `cars-rt repair` begins with it."""
    if ".partial" not in path.name:
        return path
    copy = Path(shutil.copy(path, path.with_name(f"{path.name}-mended")))
    mend(copy)
    return copy


def rows_of(group: h5py.Group, name: str) -> NDArray[Any]:
    """The rows that are data, as docs/files.md says: up to `written`, and those in the tail."""
    rows = int(group["written"][()])
    if "tail" not in group:
        return group[name][:rows]
    first, count, slot = group["tail/rows"][()].tolist()
    if first < rows:
        first, count = rows, 0
    if name not in group["tail"]:
        return group[name][: first + count]
    return np.concatenate([group[name][:first], group["tail"][name][slot, :count]])


def _part(group: h5py.Group, stream: str) -> Part:
    index = rows_of(group, "index")
    rows = len(index)
    values = rows_of(group, "counts" if stream == "raw" else "raman").astype(np.int64)
    number = values[:, 1]
    genuine = (
        (values[:, 0] == index).all()
        and (number == (number[0] if rows else 0)).all()
        and (values[:, -1] == checksum(number, index)).all()
    )
    receipt = None
    if group.attrs["announced"] >= 0:
        receipt = {
            "announced": int(group.attrs["announced"]),
            "sent": rows,
            "lost": json.loads(group.attrs["lost"]),
            "ranges": json.loads(group.attrs["ranges"]),
            "reason": str(group.attrs["reason"]),
        }
    return Part(str(group.attrs["run"]), index, bool(genuine), receipt)
