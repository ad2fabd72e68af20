"""What `repair` makes of recordings that are spoiled where they say what they are, or where it lies."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import AXIS
from spoiled import COUNTS, closed, flip, put, table_of, written

import cars_rt
from cars_rt.files.heap import Changed, Read
from cars_rt.files.recording import repair
from cars_rt.files.written import is_of_process

DARK = np.linspace(10, 90, len(AXIS)).astype(np.float32)


def lists_of(content: bytes) -> list[int]:
    """Where HDF5's lists of texts begin."""
    return [at for at in range(0, len(content), 8) if content[at : at + 5] == b"GCOL\x01"]


def ends(heap: bytes) -> bool:
    """Whether HDF5 comes to the end of a list: else it goes on for ever, and the test with it."""
    at, length = 16, int.from_bytes(heap[8:16], "little")
    while at + 16 <= length:
        size = int.from_bytes(heap[at + 8 : at + 16], "little")
        size = 16 + -(-size // 8) * 8 if any(heap[at : at + 2]) else size
        if not 0 < size <= length - at:
            return False
        at += size
    return True


def rows_are_there(path: Path) -> bool:
    with cars_rt.open(path) as found:
        there = np.array_equal(found.counts.values.reshape(60, -1), COUNTS[:60])
    return there and found.counts.dims == ("y", "x", "raman_shift")


@pytest.mark.parametrize(
    ("sector", "filling", "partial"),
    [(0, b"\0", False), (1, b"\0", True), (1, b"\xff", False), (7, b"\xff", False)],
)
def test_a_spoiled_list_of_texts_costs_those_texts(
    sector: int, filling: bytes, partial: bool, tmp_path: Path
) -> None:
    """HDF5 went through it for ever, the recorder's start and Ctrl-C with it."""
    recording = written(tmp_path / "scan.h5", scan=(6, 10), source="some words " * 60)
    if partial:
        recording.fail()
    path = recording.partial if partial else closed(recording)
    heap = lists_of(path.read_bytes())[0]
    put(path, heap + 512 * sector, filling * 512)
    for kind in (Read, Changed):
        with kind(path) as file:  # type: ignore[abstract]
            file.seek(heap)
            file.readinto(found := bytearray(4096))
        assert ends(found) or found[:4] != b"GCOL"
    assert not is_of_process(path)  # as a recorder asks that begins
    contents = repair(path)
    content = contents.path.read_bytes()
    assert all(ends(content[each:]) for each in lists_of(content))
    assert contents.rows == {"raw": 60} and contents.damage == "" and rows_are_there(contents.path)
    assert contents.complete == (sector == 7 and not partial)  # that is behind the texts
    with h5py.File(contents.path) as file:
        assert file["entry/data/counts"].shape == (6, 10, len(AXIS))
    assert not repair(contents.path).changed


def test_a_long_list_of_texts_that_is_spoiled_is_refused(tmp_path: Path) -> None:
    """Its length may be what is spoiled, and what lies behind something else."""
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.attrs["text"] = "some words " * 1000
    path = tmp_path / "file.h5"
    (heap,) = lists_of(path.read_bytes())
    put(path, heap + 24, b"\xff")
    with Read(path) as read, pytest.raises(OSError, match="texts in it are damaged"):
        read.seek(heap)
        read.readinto(bytearray(4096))  # HDF5 begins so


def test_axis_and_dark_whose_place_is_spoiled_are_made_anew_from_copies(tmp_path: Path) -> None:
    """`repair` refused the file with HDF5's own words."""
    path = closed(written(tmp_path / "scan.h5", scan=(6, 10), dark=DARK))
    for name in ("raman_shift", "dark"):
        flip(path, table_of(path, f"raw/{name}"))
    contents = repair(path)
    assert contents.complete and contents.damage == "" and rows_are_there(path)
    with cars_rt.open(path) as found:
        assert np.array_equal(found.raman_shift, AXIS) and np.array_equal(found.dark, DARK)
    assert not repair(path).changed


@pytest.mark.parametrize("scan", [(6, 10), None])
def test_an_index_whose_place_is_spoiled_is_made_anew(scan: tuple[int, int] | None, tmp_path: Path) -> None:
    """It cost all counts, though their positions, or their number, say which they are."""
    path = closed(written(tmp_path / "scan.h5", scan=scan))
    flip(path, table_of(path, "raw/index"))
    contents = repair(path)
    assert contents.complete and contents.damage == "" and contents.rows == {"raw": 60}
    with h5py.File(path) as file:
        assert np.array_equal(file["raw/index"], np.arange(60))
    assert not repair(path).changed


def test_a_map_that_cannot_be_deleted_is_out_of_the_way_of_another(tmp_path: Path) -> None:
    """Half of it was gone, and none was made."""
    path = closed(written(tmp_path / "scan.h5", scan=(6, 10)))
    put(path, lists_of(path.read_bytes())[0], bytes(4))  # where the map says of what it is made
    with h5py.File(path) as file, pytest.raises(KeyError):
        file["entry/data/counts"]
    repair(path)
    with h5py.File(path) as file:
        assert np.array_equal(file["entry/data/counts"][:].reshape(60, -1), COUNTS[:60])
        assert list(file["spoiled"]) == ["entry_0"]
