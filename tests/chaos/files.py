"""Reads what a recorder left, with h5py alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from chaos.camera import checksum


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
    with h5py.File(path, "r") as file:
        parts = {stream: _part(file[stream], stream) for stream in ("raw", "raman") if stream in file}
        return Kept(path, bool(file.attrs["complete"]), parts)


def _part(group: h5py.Group, stream: str) -> Part:
    rows = int(group["written"][()])
    index = group["index"][:rows]
    values = group["counts" if stream == "raw" else "raman"][:rows].astype(np.int64)
    number = values[:, 1]
    genuine = (
        (values[:, 0] == index).all()
        and (number == (number[0] if rows else 0)).all()
        and (values[:, -1] == checksum(number, index)).all()
    )
    receipt = None
    if "announced" in group.attrs:
        receipt = {
            "announced": int(group.attrs["announced"]),
            "sent": rows,
            "lost": json.loads(group.attrs["lost"]),
            "ranges": json.loads(group.attrs["ranges"]),
            "reason": str(group.attrs["reason"]),
        }
    return Part(str(group.attrs["run"]), index, bool(genuine), receipt)
