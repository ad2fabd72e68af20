"""A recorder that is killed between any two writes to its file: what was flushed is there, in a whole file.

A program of its own records with `noted_writes.cpp` preloaded, which notes each write. Then the file is made
as it was after some of them, and after each of the last ones, in which it is closed, and repaired.
KILL_EVERY=1 tries each.
"""

import logging
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

if __name__ == "__main__":  # the program that records
    sys.path.insert(0, str(Path(__file__).parents[1]))

import h5py
import numpy as np
import pytest
from helpers import AXIS, a_frame, a_start, an_end, spectra_of

from cars_rt.accounting import Ledger
from cars_rt.files.filters import load_filters
from cars_rt.files.recording import Packing, Recording, repair, rows
from cars_rt.storage import Changes, changes

SPECTRA, SCAN = 35, (5, 7)
COUNTS = spectra_of(SPECTRA)
MODEL = {"name": "cnn", "sha256": "ab" * 32, "flags": "a b", "deviation": "yes"}
CLOSING, CLOSED = 1_000, 1_001  # after every spectrum was flushed
NOTE = struct.Struct("<3Q")  # see noted_writes.cpp
BYTES, LENGTH, FLUSHED = 0, 1, 2
STEP, LAST = int(os.environ.get("KILL_EVERY", "150")), 40  # each so-many-th write, and the last ones


def record(path: Path, packing: Packing, planned: int | None) -> None:
    """Notes among the writes how many spectra of the counts were flushed."""
    notes = os.open(os.environ["WRITES_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    rows.CHUNK_BYTES = 8 * len(AXIS) * 2
    rows.FIRST_ROWS = 4

    def flushed(spectra: int) -> None:
        os.write(notes, NOTE.pack(FLUSHED, spectra, 0))

    recording = Recording(path, streams=["raw", "raman"], packing=packing)
    recording.note("/", {"sample": "bead", "notes": "dry"})
    recording.start(a_start(scan=SCAN, spectra=planned, dark=np.zeros(len(AXIS), np.float32)))
    done = 0
    for spectra in (1, 4, 9, 12, 25, SPECTRA):
        for index in range(done, spectra):
            counts = COUNTS[index : index + 1]
            recording.append(a_frame(index, counts))
            if index == 4:
                raman = a_start(stream="raman", dtype="float32", model=MODEL, scan=SCAN, spectra=planned)
                recording.start(raman)
            if index >= 4:
                arrays = {"raman": counts.astype(np.float32), "deviation": counts.astype(np.float32)}
                arrays["flags"] = np.zeros(1, np.uint8)
                recording.append(a_frame(index, counts, stream="raman", index=index, arrays=arrays))
        recording.flush()
        flushed(done := spectra)
    recording.note("/", {"part": 1, "next_part": "scan-part2.h5"})
    recording.note("flight", {"about": "a" * 300})
    for stream in ("raw", "raman"):
        recording.end(an_end(SPECTRA, stream=stream), Ledger())
    recording.flush()
    flushed(CLOSING)
    recording.close()
    flushed(CLOSED)


def states(notes: Path) -> Iterator[tuple[int, bytearray]]:
    """What was flushed, and the file, after each write from the first flush on; the same one each time."""
    said, content, flushed = notes.read_bytes(), bytearray(), -1
    at = 0
    while at < len(said):
        kind, place, size = NOTE.unpack_from(said, at)
        at += NOTE.size
        written, at = said[at : at + size], at + size
        if kind == FLUSHED:
            flushed = place
            continue
        end = place + size
        content.extend(bytes(max(end - len(content), 0)))
        content[place:end] = written
        if kind == LENGTH:
            del content[place:]
        if flushed >= 0:
            yield flushed, content


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if (compiler := shutil.which("g++")) is None or not sys.platform.startswith("linux"):
        pytest.skip("notes writes by a library that g++ makes for Linux")
    library = tmp_path_factory.mktemp("noted") / "noted.so"
    source = Path(__file__).with_name("noted_writes.cpp")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.mark.parametrize(
    ("compression", "planned", "first"), [("none", SPECTRA, 0), ("none", 0, 5), ("gzip", 0, 10)]
)
def test_what_was_flushed_is_there_after_a_kill_at_each_write(
    compression: str,
    planned: int,
    first: int,
    preloaded: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)  # it says much about thousands of kills
    notes = tmp_path / "notes"
    environment = {**os.environ, "LD_PRELOAD": str(preloaded), "WRITES_LOG": str(notes)}
    command = [sys.executable, __file__, str(tmp_path / "scan.h5"), compression, str(planned)]
    subprocess.run(command, env=environment, check=True, timeout=120)
    partial = tmp_path / "left.partial.h5"
    writes = sum(1 for _ in states(notes))
    for number, (flushed, content) in enumerate(states(notes)):
        if number % STEP != first % STEP and number < writes - LAST:
            continue
        partial.write_bytes(content)
        contents = repair(partial)
        there = min(flushed, SPECTRA)
        assert contents.rows["raw"] >= there and contents.rows.get("raman", 0) >= there - 4, (number, flushed)
        assert contents.damage == "" and not contents.complete
        with h5py.File(contents.path) as file:
            assert np.array_equal(file["raw/counts"], COUNTS[: contents.rows["raw"]])
            assert file["entry/data/counts"].shape == (*SCAN, len(AXIS))
            assert file.attrs["sample"] == "bead" and file.attrs.get("part", 1) == 1
        contents.path.unlink()
    assert flushed == CLOSING and writes > 3 * LAST
    assert bytes(content) == (tmp_path / "scan.h5").read_bytes()  # none was missed


def test_a_repair_that_is_killed_leaves_what_the_next_one_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a recording that has its name already, and of which something is left to do."""
    without, path, left = tmp_path / "without.h5", tmp_path / "scan.h5", 0
    without_a_map(without)
    commit, write = Changes.commit, changes._write

    def some(file: BinaryIO, content: bytes) -> None:
        nonlocal left
        if (left := left - 1) < 0:
            raise KeyboardInterrupt
        write(file, content)

    def killed(file: Changes) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(changes, "_write", some)
            commit(file)

    for writes in count():
        shutil.copy(without, path)
        left = writes
        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(Changes, "commit", killed)
            assert repair(path).changed
            break
        contents = repair(path)
        assert contents.changed and contents.complete and contents.rows == {"raw": SPECTRA}
        with h5py.File(path) as file:
            assert np.array_equal(file["raw/counts"], COUNTS) and "entry" in file
    assert writes > 5


def without_a_map(path: Path) -> None:
    """A whole recording for whose map a disk had no room."""
    recording = Recording(path, streams=["raw"])
    recording.start(a_start(scan=SCAN, spectra=SPECTRA))
    recording.append(a_frame(0, COUNTS))
    recording.end(an_end(1, SPECTRA), Ledger())
    recording.close()
    with h5py.File(path, "r+") as file:
        del file["entry"], file.attrs["described"]


if __name__ == "__main__":
    load_filters()
    record(Path(sys.argv[1]), Packing(sys.argv[2]), int(sys.argv[3]) or None)  # type: ignore[arg-type]
