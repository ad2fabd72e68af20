"""What `auto` found out, kept on disk: taken again, and passed over wherever it could be wrong."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cars_rt.engines import EngineError, choice, compose, load_model, open_engine, remembered
from cars_rt.engines.rehearsal import Tried

GRAPH = compose(load_model(), np.linspace(800, 1500, 160))
FOUND = {"onnxruntime": Tried(2000.0, 1000.0, "", 0.0, "here", 0.5), "slow": Tried(10.0, 10.0)}
FAILED = FOUND | {"slow": Tried(reason="out of memory\n\x1b[31m")}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARS_RT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def about(**changed: Any) -> remembered.Facts:
    return remembered.facts(GRAPH, list(FOUND), 8, 1) | changed


def test_what_was_found_is_recalled_for_just_these_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert remembered.recall(about()) is None
    remembered.remember(about(), FOUND)
    assert remembered.recall(about()) == FOUND
    for other in ({"gpu": "another"}, {"pixels": 161}, {"versions": {}}, {"processor": ""}, {"max_batch": 9}):
        assert remembered.recall(about(**other)) is None
    monkeypatch.setenv(remembered.OFF, "1")
    assert remembered.recall(about()) is None
    monkeypatch.delenv(remembered.OFF)
    assert len(remembered.records()) == 1
    remembered.forget_all()
    assert remembered.recall(about()) is None


def test_failures_are_believed_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    remembered.remember(about(), FAILED)
    found = remembered.recall(about())
    assert found is not None and found["slow"].reason.isprintable()
    monkeypatch.setattr(remembered, "time", SimpleNamespace(time=lambda: now + 2 * 86_400))
    assert remembered.recall(about()) is None
    monkeypatch.setattr(remembered, "time", SimpleNamespace(time=lambda: now - 2 * 86_400))  # of the future
    assert remembered.recall(about()) is None


def edited(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.write_text("[" * 50_000),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text(" " * 200_000 + path.read_text()),
        edited(lambda all_: all_.pop("time")),
        edited(lambda all_: all_.update(time=True)),
        edited(lambda all_: all_.update(time=float("nan"))),
        edited(lambda all_: all_.update(engines=[])),
        edited(lambda all_: all_["facts"].update(gpu="another")),
        edited(lambda all_: all_["engines"].update(other=all_["engines"]["slow"])),
        edited(lambda all_: all_["engines"]["slow"].update(rate=-1)),
        edited(lambda all_: all_["engines"]["slow"].update(rate=float("inf"))),
        edited(lambda all_: all_["engines"]["slow"].update(rate="9")),
        edited(lambda all_: all_["engines"]["slow"].update(reason=3)),
        edited(lambda all_: all_["engines"]["slow"].update(reason="\x1b[31m")),
        edited(lambda all_: all_["engines"]["slow"].update(more=1)),
        edited(lambda all_: all_["engines"]["slow"].pop("about")),
    ],
)
def test_file_that_is_not_as_it_was_written_is_passed_over(spoil: Callable[[Path], None]) -> None:
    remembered.remember(about(), FOUND)
    (path,) = remembered.records()
    spoil(path)
    assert remembered.recall(about()) is None
    remembered.remember(about(), FOUND)
    assert remembered.recall(about()) == FOUND


@pytest.mark.skipif(os.name != "posix", reason="Windows: files inherit the folder's permissions")
@pytest.mark.parametrize("way", ["others write it", "a link", "a pipe"])
def test_file_of_others_is_passed_over(way: str, folder: Path, tmp_path: Path) -> None:
    remembered.remember(about(), FOUND)
    (path,) = remembered.records()
    if way == "others write it":
        path.chmod(0o666)
    elif way == "a link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").chmod(0o666)
    else:
        path.unlink()
        os.mkfifo(path)
    assert remembered.recall(about()) is None


def test_folder_that_cannot_be_costs_nothing(folder: Path) -> None:
    folder.write_bytes(b"")
    remembered.remember(about(), FOUND)
    assert remembered.recall(about()) is None and remembered.records() == []
    remembered.forget_all()


def test_there_are_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_RECORDS", 3)
    for pixels in range(5):
        remembered.remember(about(pixels=pixels), FOUND)
    assert len(remembered.records()) == 3 and remembered.recall(about(pixels=4)) == FOUND


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Which engines were tried, each time: the first of them is the fastest, and onnxruntime works."""
    found: list[list[str]] = []

    def rehearse(graph: object, names: list[str], *_: object, **__: object) -> dict[str, Tried]:
        found.append(names)
        return {name: Tried(1000.0 / (1 + at), 1000.0) for at, name in enumerate(names)}

    monkeypatch.setattr(choice, "rehearse", rehearse)
    monkeypatch.setattr(choice, "retrieving", lambda: ["openvino", "onnxruntime"])
    monkeypatch.setattr(choice, "reason_against", lambda name: None)
    monkeypatch.setattr(choice, "_rehearsed", {})
    return found


def test_second_start_tries_nothing_and_a_choice_that_fails_is_tried_anew(
    asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fails: set[str] = set()
    opened = choice._opened

    def open_(name: str, *given: Any) -> Any:
        if name in fails:
            raise EngineError("no")
        return opened("onnxruntime", *given)

    monkeypatch.setattr(choice, "_opened", open_)
    for _ in range(2):
        open_engine("auto", GRAPH, 4).close()
        choice._rehearsed.clear()  # as in another process
    assert len(asked) == 1
    fails.add("openvino")
    open_engine("auto", GRAPH, 4).close()
    assert len(asked) == 2


def test_a_failure_is_believed_for_a_day_within_a_process_too(
    asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card whose memory was full for a moment would not be used again before the next start."""

    def rehearse(graph: object, names: list[str], *_: object, **__: object) -> dict[str, Tried]:
        asked.append(names)
        return {"openvino": Tried(reason="no memory left"), "onnxruntime": Tried(1000.0, 1000.0)}

    monkeypatch.setattr(choice, "rehearse", rehearse)
    for _ in range(2):
        open_engine("auto", GRAPH, 4).close()
    assert len(asked) == 1
    monkeypatch.setattr(remembered, "FAILURE_BELIEVED_S", -1.0)  # it is over
    open_engine("auto", GRAPH, 4).close()
    assert len(asked) == 2
