"""Model files from elsewhere: whatever they hold or are, refused in one sentence, without waiting."""

import itertools
import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import zmq
from helpers import Collected, Published, control_of, daemon_in_thread, spectra_of, wait_until

from cars_rt.daemon.compute import compute, library
from cars_rt.daemon.compute.library import Library
from cars_rt.daemon.seen.plain import plain
from cars_rt.engines import Model, ModelError, load_model
from cars_rt.engines.model import CARD_KEY, SHIPPED
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
    assert "\n" not in str(caught.value)


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
