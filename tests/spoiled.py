"""Recordings of counts, and what a disk spoils of them."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from helpers import AXIS, a_frame, a_start, an_end

from cars_rt.accounting import Ledger
from cars_rt.files.recording import Packing, Recording

COUNTS = np.random.default_rng(3).integers(500, 2000, (2000, len(AXIS))).astype(np.uint16)


def written(
    path: Path, spectra: int = 60, *, planned: int | None = None, packing: str = "none", **start: Any
) -> Recording:
    """An open recording of counts, with some spectra on disk."""
    recording = Recording(path, streams=["raw"], packing=Packing(packing))  # type: ignore[arg-type]
    recording.start(a_start(spectra=planned or spectra, **start))
    added(recording, 0, spectra)
    return recording


def added(recording: Recording, first: int, last: int, block: int = 20) -> None:
    for index in range(first, last, block):
        counts = COUNTS[index : min(index + block, last)]
        recording.append(a_frame(index, counts, index=index, time_ns=10**18 + index * 1000))
    recording.flush()


def closed(recording: Recording, spectra: int = 60) -> Path:
    recording.end(an_end(spectra, spectra), Ledger())
    return recording.close()


def place_of(path: Path, name: str, row: int = 0) -> int:
    """Where a row lies in the file, of an array that is not compressed."""
    with h5py.File(path) as file:
        found = file[name]
        if not found.chunks:
            return int(found.id.get_offset())
        at, within = divmod(row, found.chunks[0])
        size = found.dtype.itemsize * int(np.prod(found.shape[1:]))
        return int(found.id.get_chunk_info(at).byte_offset) + within * size


def put(path: Path, place: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


def flip(path: Path, place: int, bit: int = 0) -> None:
    with path.open("rb") as file:
        file.seek(place)
        (there,) = file.read(1)
    put(path, place, bytes([there ^ 1 << bit]))


def header_of(path: Path, name: str) -> int:
    with h5py.File(path) as file:
        return int(h5py.h5o.get_info(file[name].id).addr)


def table_of(path: Path, name: str) -> int:
    """Where the table of its chunks begins."""
    return path.read_bytes().rindex(
        b"TREE", 0, path.read_bytes().index(place_of(path, name).to_bytes(8, "little"))
    )
