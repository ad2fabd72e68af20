"""Changes that take effect at once: as an ordinary file after `commit`, as nothing before it."""

import errno
import os
import random
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import pytest

from cars_rt.files import hdf5
from cars_rt.storage import Changes, StorageError, changes, complete
from cars_rt.storage.changes import MAGIC, PAGE

OLD = random.Random(1).randbytes(3 * PAGE + 100)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (path := tmp_path / "file").write_bytes(OLD)
    return path


def changed(file: Changes, rng: random.Random) -> bytearray:
    """Writes, cuts and reads at random; what a file has after them."""
    model = bytearray(OLD)
    for _ in range(60):
        place, size = rng.randrange(5 * PAGE), rng.choice([1, 90, PAGE, 2 * PAGE + 7])
        match rng.randrange(6):
            case 0:
                model = (model + bytes(5 * PAGE))[:place]
                file.truncate(place)
            case 1 | 2:
                file.seek(place)
                found = file.read(size)
                there = bytes(model[place : place + size])
                assert found == there + bytes(size - len(there))
            case _:
                content = rng.randbytes(size)
                model.extend(bytes(max(place + size - len(model), 0)))
                model[place : place + size] = content
                file.seek(place)
                assert file.write(content) == size and file.tell() == place + size
    return model


@pytest.mark.parametrize("seed", range(40))
def test_they_are_those_of_an_ordinary_file_and_take_effect_at_once(seed: int, path: Path) -> None:
    rng = random.Random(seed)
    with Changes(path) as file:
        model = changed(file, rng)
        assert path.read_bytes()[: len(OLD)] == OLD
        file.commit()
    assert path.read_bytes() == model


def test_without_a_commit_the_file_is_as_it_was(path: Path) -> None:
    with pytest.raises(RuntimeError), Changes(path) as file:
        changed(file, random.Random(0))
        raise RuntimeError
    assert path.read_bytes()[: len(OLD)] == OLD and not complete(path)


def killed(path: Path, model: bytes, seed: int, monkeypatch: pytest.MonkeyPatch, writes: int) -> bool:
    """Whether the program had nothing more to write when it was killed after so many writes of a commit."""
    left = writes

    def write(file: object, content: bytes) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        whole(file, content)

    with Changes(path) as file:
        assert changed(file, random.Random(seed)) == model
        whole = changes._write
        with monkeypatch.context() as patch:
            patch.setattr(changes, "_write", write)
            try:
                file.commit()
            except KeyboardInterrupt:
                return False
    return True


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_leaves_all_of_them_or_none(seed: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Changes(path) as file:
        model = bytes(changed(file, random.Random(seed)))
    met, writes, done = set(), 0, False
    while not done:
        path.write_bytes(OLD)
        done = killed(path, model, seed, monkeypatch, writes)
        found = path.read_bytes()
        half = not (done or found.startswith(OLD) or found.startswith(model))
        assert not half or found.startswith(bytes(16))  # nobody takes it for a file
        completed = complete(path)
        met.add(completed)
        content = path.read_bytes()
        assert content == model if completed or done else content[: len(OLD)] == OLD
        assert not complete(path)
        writes += 1
    assert met == {True, False}


@pytest.mark.parametrize("seed", range(5))
def test_a_power_failure_leaves_all_of_them_or_none(
    seed: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the pages that were written since the file was last synced, any may be on the disk."""
    synced, left, rng = [OLD], list[tuple[bytes, bytes]](), random.Random(seed)
    write, sync = changes._write, os.fsync

    def noted(file: BinaryIO, content: bytes) -> None:
        write(file, content)
        left.append((synced[-1], path.read_bytes()))

    def put(descriptor: int) -> None:
        sync(descriptor)
        synced.append(path.read_bytes())

    with Changes(path) as file:
        model = bytes(changed(file, rng))
        with monkeypatch.context() as patch:
            patch.setattr(changes, "_write", noted)
            patch.setattr(os, "fsync", put)
            file.commit()
    left.append((synced[-1], path.read_bytes()))
    met = set()
    for before, after in left:
        for _ in range(4):
            after = after if rng.random() < 0.5 else after.ljust(len(before), b"\0")
            pages = [
                (after if rng.random() < 0.5 else before)[at : at + PAGE] for at in range(0, len(after), PAGE)
            ]
            path.write_bytes(b"".join(page.ljust(PAGE, b"\0") for page in pages)[: len(after)])
            met.add(complete(path))
            content = path.read_bytes()
            assert content[: len(OLD)] == OLD or content[: len(model)] == model
    assert met == {True, False}


@pytest.mark.parametrize("seed", range(5))
def test_on_a_full_disk_they_go_to_their_places(
    seed: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Changes, "_write_behind", full)
    with Changes(path) as file:
        model = changed(file, random.Random(seed))
        with monkeypatch.context() as patch:
            patch.setattr(changes, "_write", full)
            file.seek(len(model))
            file.write(OLD)  # and there is none for what lies behind either
            file.seek(0)
            assert file.read(len(model) + len(OLD)) == model + OLD
        file.commit()
    assert path.read_bytes() == model + OLD


@pytest.mark.parametrize(
    "behind",
    [
        struct.pack("<16s3Q", MAGIC, 50, 1, 0),
        struct.pack("<16s3Q", MAGIC, 50, 2**60, 0),
        struct.pack("<16s3Q", MAGIC, 2**63, 0, 0),
        bytes(PAGE + 8) + struct.pack("<16s3Q", MAGIC, 50, 1, 1),
        MAGIC,
    ],
)
def test_what_only_looks_like_changes_changes_nothing(behind: bytes, path: Path) -> None:
    path.write_bytes(OLD + behind)
    assert not complete(path)
    assert path.read_bytes() == OLD + behind


def test_a_file_that_is_being_changed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that reads it meanwhile, or after a kill, gets a sentence and no mixture of pages."""
    path, put, left = tmp_path / "scan.h5", changes._put, [1]
    with h5py.File(path, "w") as file:
        file["raw/counts"] = [1, 2, 3]

    def killed_at_the_second(*given: Any) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        put(*given)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt), hdf5.changed(path) as file:
        file["raw/more"] = [4]
        patch.setattr(changes, "_put", killed_at_the_second)
    with pytest.raises(StorageError, match=r"is being changed: try again; if .* completes it"):
        hdf5.opened(path).__enter__()
    assert complete(path)
    with hdf5.opened(path) as file:
        assert set(file["raw"]) == {"counts", "more"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused_in_a_sentence(path: Path) -> None:
    path.chmod(0)
    with pytest.raises(StorageError, match="cannot be read: Permission denied"):
        hdf5.opened(path).__enter__()
