"""Model files from elsewhere: whatever they hold or are, refused in one sentence, without waiting."""

import itertools
import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import zmq
from helpers import (
    AXIS,
    PATIENCE_S,
    Collected,
    Published,
    a_frame,
    a_line,
    a_start,
    an_end,
    control_of,
    daemon_in_thread,
    spectra_of,
    wait_until,
)
from onnx import TensorProto, helper

from cars_rt.daemon.compute import changes, compute, library
from cars_rt.daemon.compute.library import Library
from cars_rt.daemon.seen.plain import plain
from cars_rt.engines import ENGINES, Model, ModelError, load_model
from cars_rt.engines.model import CARD_KEY, SHIPPED
from cars_rt.engines.onnxruntime import OnnxRuntime
from cars_rt.remote import Remote, RemoteError


def with_card(folder: Path, change: Callable[[dict[str, Any]], str | None]) -> Path:
    """The shipped network with another card: the text that is returned, or the map as it was changed."""
    model = onnx.load(SHIPPED / "cnn.onnx")
    entry = next(each for each in model.metadata_props if each.key == CARD_KEY)
    card = json.loads(entry.value)
    entry.value = change(card) or json.dumps(card, ensure_ascii=False)
    path = folder / "other.onnx"
    path.write_bytes(model.SerializeToString())
    return path


class Second(OnnxRuntime):
    """Another kind of engine that computes the same."""

    name: ClassVar[str] = "second"


@pytest.fixture
def fails_in_the_dark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A model that no engine computes where there is no light, which no probe tells: its logarithm. Two kinds
    of engine are here."""
    monkeypatch.setitem(ENGINES, "second", (__name__, "Second"))
    monkeypatch.setattr(changes, "retrieving", lambda: ["second", "onnxruntime"])
    rows = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "points"])
    raman = helper.make_tensor_value_info("raman", TensorProto.FLOAT, ["batch", "points"])
    graph = helper.make_graph([helper.make_node("Log", ["x"], ["raman"])], "log", [rows], [raman])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    card = {"name": "log", "version": "1", "scaling": "mean", "target": "ratio", "grid_step_cm1": 2.0}
    card |= {"stride": 1, "min_length": 16, "pitch_cm1": [0.5, 8.0]}
    helper.set_model_props(model, {CARD_KEY: json.dumps(card)})
    onnx.save(model, tmp_path / "log.onnx")
    return str(tmp_path / "log.onnx")


DARK = np.where(np.arange(len(AXIS)) < 5, 0, spectra_of(4)).astype(np.uint16)


def test_a_model_that_never_computed_a_batch_gives_way_to_the_one_before(
    fails_in_the_dark: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All spectra were lost until the run's end, and the engine replaced over and over again."""
    with a_line(max_batch=4) as (source, daemon, results), Remote(control_of(daemon)) as remote:
        source.publisher.open(a_start(block=4))
        wait_until(lambda: daemon.parts.runs.open)
        assert remote.ask("reload", model=fails_in_the_dark)["model"] == "log"
        for number in range(9):
            source.publisher.send(a_frame(number, DARK), PATIENCE_S)
        results.until(lambda all_: all_.spectra == 12)
        assert remote.ask("status")["model"] == "cnn" and daemon.compute.counters.replacements == 6
        source.publisher.end(an_end(9, 36))
        results.ends()
    assert dict(daemon.receipts[0].lost) == {"engine": 24}  # three batches of each kind of engine
    assert "that works here lost 3 batches in a row); back to cnn" in caplog.text


def test_a_model_that_no_engine_computes_can_be_exchanged_in_the_run(fails_in_the_dark: str) -> None:
    with (
        a_line(model=fails_in_the_dark, max_batch=4) as (source, daemon, results),
        Remote(control_of(daemon)) as remote,
    ):
        source.publisher.open(a_start(block=4))
        wait_until(lambda: daemon.parts.runs.open)
        for number in range(7):
            source.publisher.send(a_frame(number, DARK), PATIENCE_S)
        wait_until(lambda: "no engine works any more" in daemon.snapshot().waits_for)
        wait_until(lambda: daemon.snapshot().run_lost.get("engine") == 28)  # nobody waits for them
        remote.ask("reload", model="cnn")
        assert daemon.snapshot().ready and daemon.compute.counters.replacements == 5
        source.publisher.send(a_frame(7, DARK), PATIENCE_S)
        source.publisher.end(an_end(8, 32))
        assert results.ends().spectra == 4


@pytest.mark.skipif(os.name != "posix", reason="there are no such files on Windows")
@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "folder", "endless", "no path"])
def test_path_that_is_no_model_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path = Path("/dev/zero")
            with pytest.raises(ModelError):  # by its name alone
                load_model(str(path))
            (tmp_path / "zero.onnx").symlink_to(path)
            path = tmp_path / "zero.onnx"
        case "link to a device":
            path.symlink_to("/dev/full")
        case "folder":
            path.mkdir()
        case "endless":
            with path.open("wb") as file:
                file.truncate(2**40)
        case "no path":
            path = Path("a\0.onnx")
    with pytest.raises(ModelError, match=r"cannot read the model|is no file|is larger than") as caught:
        load_model(str(path))
    assert str(caught.value).isprintable()


def test_spectra_go_on_while_a_model_is_read_slowly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reads, go_on, load = threading.Event(), threading.Event(), compute.load_with

    def slowly(name: str, **given: Any) -> Model:
        if threading.current_thread() is not threading.main_thread():  # not the daemon's own at its start
            reads.set()
            assert go_on.wait(60)
        return load(name, **given)

    monkeypatch.setattr(compute, "load_with", slowly)
    path = with_card(tmp_path, lambda card: card.update(name="other"))
    with (
        Published() as source,
        daemon_in_thread(source.address) as daemon,
        Collected(daemon.publisher.address) as results,
        Remote(control_of(daemon)) as one,
        Remote(control_of(daemon)) as two,
    ):
        source.wait()
        wait_until(lambda: daemon.parts.ready and daemon.publisher.subscribers == 1)
        answers: list[dict[str, Any]] = []
        asking = threading.Thread(target=lambda: answers.append(one.ask("reload", model=str(path))))
        asking.start()
        assert reads.wait(60)
        source.run("run-1", spectra_of(40))
        assert results.ends().spectra == 40
        for do in ("reload", "shadow"):
            with pytest.raises(RemoteError, match="another model is still being read"):
                two.ask(do, model=str(path))
        assert not answers and two.ask("status")["model"] == "cnn"
        go_on.set()
        asking.join(60)
        assert answers[0]["model"] == "other" == plain(daemon.snapshot())["model"]


def test_one_candidate_is_compiled_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from cars_rt.daemon.compute import worker

    go_on, compose = threading.Event(), worker.compose
    with daemon_in_thread("tcp://127.0.0.1:9") as daemon:
        wait_until(lambda: daemon.parts.ready)

        def slowly(*given: Any, **named: Any) -> Any:
            assert go_on.wait(60)
            return compose(*given, **named)

        monkeypatch.setattr(worker, "compose", slowly)
        with Remote(control_of(daemon)) as remote:
            assert remote.ask("shadow", model="rnn")["shadow"]["model"] == "rnn"
            for _ in range(3):
                with pytest.raises(RemoteError, match="another candidate is still being compiled"):
                    remote.ask("shadow", model="cnn")
                remote.ask("unshadow")  # one that is given up takes its memory until it is done
            go_on.set()
            wait_until(lambda: not list(daemon.compute._retired))
            assert remote.ask("shadow", model="cnn")["shadow"]["model"] == "cnn"


def test_a_candidate_that_is_read_while_another_is_compiled_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two at once would take too much memory and too many cores."""
    from cars_rt.daemon.compute import worker

    reads, read, go_on = threading.Event(), threading.Event(), threading.Event()
    load, compose = compute.load_with, worker.compose
    with daemon_in_thread("tcp://127.0.0.1:9") as daemon:
        wait_until(lambda: daemon.parts.ready)

        def read_slowly(name: str) -> Model:
            reads.set()
            assert read.wait(60)
            return load(name, reference=None)

        def composed_slowly(*given: Any, **named: Any) -> Any:
            assert go_on.wait(60)
            return compose(*given, **named)

        monkeypatch.setattr(daemon.compute._library, "_load", read_slowly)
        monkeypatch.setattr(worker, "compose", composed_slowly)
        with Remote(control_of(daemon)) as one, Remote(control_of(daemon)) as two:
            refused: list[str] = []

            def ask() -> None:
                try:
                    one.ask("shadow", model="rnn")
                except RemoteError as error:
                    refused.append(str(error))

            asking = threading.Thread(target=ask)
            asking.start()
            assert reads.wait(60)
            assert two.ask("shadow")["shadow"]["model"] == "cnn"
            read.set()
            asking.join(60)
            assert len(refused) == 1 and "another candidate is still being compiled" in refused[0]
            assert two.ask("status")["shadow"]["model"] == "cnn"
            go_on.set()


NUMBERS = itertools.count()


@pytest.fixture
def reader() -> Iterator[tuple[Library, threading.Event, zmq.Socket[bytes]]]:
    """What reads models, slowly: once the event is set; and its bell."""
    go_on = threading.Event()

    def load(name: str) -> Model:
        assert go_on.wait(60)
        return load_model(name)

    address = (
        f"inproc://a-library-of-a-test-{next(NUMBERS)}"  # one is free a little after its socket is closed
    )
    with zmq.Context.instance().socket(zmq.PULL) as bell:
        bell.bind(address)
        reading = Library(load, address)
        yield reading, go_on, bell
        go_on.set()
        reading.close()


def test_who_was_told_that_a_model_takes_too_long_is_told_nothing_more(
    reader: tuple[Library, threading.Event, zmq.Socket[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, _, _ = reader
    answers: list[str | None] = []
    reading.ask("cnn", lambda model: None, lambda error, result: answers.append(error))
    monkeypatch.setattr(library, "READ_S", -math.inf)
    reading.settle()
    reading.close()
    assert len(answers) == 1 and "could not be read within" in str(answers[0])


def test_a_mistake_of_ours_is_not_called_one_of_the_model(
    reader: tuple[Library, threading.Event, zmq.Socket[bytes]],
) -> None:
    reading, go_on, bell = reader
    answers: list[str | None] = []

    def then(model: Model) -> None:
        raise RuntimeError("a mistake")

    reading.ask("cnn", then, lambda error, result: answers.append(error))
    go_on.set()
    assert bell.poll(60_000)
    with pytest.raises(RuntimeError, match="a mistake"):
        reading.settle()
    assert answers == ["the daemon failed on this request: RuntimeError: a mistake"]
