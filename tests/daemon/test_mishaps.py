"""A mistake of our own costs the one message, result, run, output or request at hand, and is counted."""

import errno
import itertools
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    LOCAL,
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

from cars_rt.daemon.commands import COMMANDS
from cars_rt.daemon.compute.compute import Compute
from cars_rt.daemon.flight import FlightRecorder
from cars_rt.daemon.loop import Daemon
from cars_rt.daemon.mishaps import Mishaps
from cars_rt.daemon.outputs.preview import Preview
from cars_rt.daemon.pipeline import Pipeline
from cars_rt.daemon.receipt import Receipt
from cars_rt.daemon.runs import Runs
from cars_rt.daemon.seen.plain import plain
from cars_rt.engines import Model
from cars_rt.protocol import Frame, RunReader, reader
from cars_rt.remote import Remote, RemoteError
from cars_rt.sockets import Publisher, publisher

#: Where it goes wrong, how it is named, and what it costs of the run's 40 spectra.
PLACES: list[tuple[Any, str, str, int]] = [
    (reader, "decode", "failed", 40),  # the start: nothing of its run is known
    (RunReader, "_pass", "failed", 1),  # a frame
    (Runs, "_fill", "failed: a frame", 1),
    (Compute, "prepare", "failed: a start", 40),
    (Runs, "_publish", "failed: a start", 40),
    (Runs, "_close", "failed: an end", 0),
    (Pipeline, "take", "failed: a frame", 1),
    (Preview, "open", "failed: the preview", 0),
    (Preview, "take", "failed: the preview", 0),
    (Preview, "serve", "failed: the preview", 0),
    (Preview, "end", "failed: the preview", 0),
    (FlightRecorder, "start", "failed: the flight recorder", 0),
    (FlightRecorder, "frame", "failed: the flight recorder", 0),
    (FlightRecorder, "tick", "failed: the flight recorder", 0),
    (Compute, "settle", "failed: a change of the engine", 0),
    (Receipt, "report", "failed: a receipt", 0),
    (Receipt, "write", "failed: a receipt", 0),
    (Receipt, "end", "failed: a message", 0),  # the run's last message is missing
    (publisher, "encode", "failed: a start", 40),  # that no receiver would accept
]

ENCODE = publisher.encode


def failing_once(function: Callable[..., Any], failed: list[str], passed: int = 0) -> Callable[..., Any]:
    """passed: calls before that, which do not fail."""
    calls = itertools.count()

    def fails(*given: Any, **named: Any) -> Any:
        theirs = function is ENCODE and given[0].stream == "raw"  # the driver's message, not ours
        if not failed and not theirs and next(calls) >= passed:
            failed.append("once")
            raise ZeroDivisionError("a mistake\nof ours")
        return function(*given, **named)

    return fails


@pytest.mark.parametrize(
    ("where", "name", "kind", "cost"), PLACES, ids=lambda value: getattr(value, "__name__", value)
)
def test_mistake_costs_what_was_at_hand(
    where: Any, name: str, kind: str, cost: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failed: list[str] = []
    with (
        Published() as source,
        daemon_in_thread(
            source.address, engine="passthrough", flight=tmp_path / "flight", receipts=tmp_path / "receipts"
        ) as daemon,
        Collected(daemon.publisher.address) as results,
    ):
        source.wait()
        wait_until(lambda: daemon.parts.ready and daemon.publisher.subscribers == 1)
        monkeypatch.setattr(where, name, failing_once(getattr(where, name), failed))
        source.run("run-1", spectra_of(40))
        wait_until(lambda: failed)
        source.run("run-2", spectra_of(40))
        results.until(lambda all_: any(each.end.run == "run-2" for each in all_.closed))
        assert sum(len(frame.block) for frame in results.frames if frame.run == "run-2") == 40
        wait_until(lambda: daemon.receipts[-1].run == "run-2")
        if kind != "failed: a message":

            def found() -> dict[str, int]:
                return {**plain(daemon.snapshot())["problems"], **daemon.receipts[-1].problems}

            wait_until(lambda: found().get(kind) == 1)
    assert not daemon.receipts[-1].lost and daemon.receipts[-1].sent == 40
    came = sum(len(frame.block) for frame in results.frames if frame.run == "run-1")
    assert came <= 40 - cost
    for receipt in daemon.receipts:
        assert receipt.announced == receipt.sent + sum(receipt.lost.values()), receipt


def test_a_shadow_that_cannot_follow_costs_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[str] = []
    with a_line(engine="passthrough") as (source, daemon, _):
        with Remote(control_of(daemon)) as remote:
            remote.ask("shadow")
            wait_until(lambda: remote.ask("status")["shadow"]["ready"])
            monkeypatch.setattr(Model, "of_source", failing_once(Model.of_source, failed, 1))
            for number in (1, 2):
                source.run(f"run-{number}", spectra_of(4))
                wait_until(lambda number=number: len(daemon.receipts) == number)
                error = remote.ask("status")["shadow"]["error"]
                assert ("could not follow a run: a mistake" in error) == (number == 1)
        assert failed and not any(each.lost for each in daemon.receipts)


def test_dark_is_not_measured_on_when_the_end_of_its_run_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the next run brings has another axis, or light."""
    with a_line(engine="passthrough") as (source, daemon, results):
        source.publisher.open(a_start())
        source.publisher.send(a_frame(0, spectra_of(1)))
        results.until(lambda all_: all_.spectra == 1)
        with Remote(control_of(daemon)) as remote:
            remote.ask("dark", do="start")
            monkeypatch.setattr(Runs, "_close", failing_once(Runs._close, []))
            source.publisher.end(an_end(1))
            wait_until(lambda: remote.ask("status")["state"] == "idle")
            with pytest.raises(RemoteError, match="no dark is being measured"):
                remote.ask("dark", do="stop")


def test_result_that_cannot_be_sent_is_lost_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    send, failed = Publisher.send, []

    def fails(self: Publisher, frame: Frame, *given: Any) -> bool:
        seventh = frame.stream == "raman" and frame.index <= 7 < frame.index + len(frame.block)
        if seventh and not failed:
            failed.append(frame)
            raise ZeroDivisionError("a mistake of ours")
        return send(self, frame, *given)

    monkeypatch.setattr(Publisher, "send", fails)
    with a_line(engine="passthrough") as (source, daemon, results):
        source.run("run-1", spectra_of(40))
        results.ends()
    lost = {"output": len(failed[0].block)}
    assert results.spectra == 40 - lost["output"] and results.closed[0].end.lost == lost
    assert daemon.receipts[0].lost == lost


def test_request_that_fails_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "status", failing_once(COMMANDS["status"], []))
    with (
        daemon_in_thread("tcp://127.0.0.1:9", engine="passthrough") as daemon,
        Remote(control_of(daemon)) as remote,
    ):
        with pytest.raises(RemoteError, match="failed on this request: Zero"):
            remote.ask("status")
        assert remote.ask("status")["problems"] == {"failed: a request": 1}


def test_status_that_fails_costs_the_status() -> None:
    said: list[int] = []

    def tick() -> None:
        said.append(1)
        raise ZeroDivisionError("a mistake of ours")

    from cars_rt.daemon.settings import DaemonSettings

    daemon = Daemon(DaemonSettings(publish=LOCAL, preview=LOCAL, control=LOCAL, engine="passthrough"))

    def stops() -> None:
        if len(said) > 3:
            daemon.stop()
        tick()

    daemon.serve(stops)
    assert daemon.parts.runs.book.problems["failed: the status"] == len(said)


def test_client_goes_on_after_a_message_that_its_reader_failed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import cars_rt

    failed: list[str] = []
    with Published() as source, cars_rt.connect(source.address, "raw", timeout=60) as stream:
        source.wait()
        monkeypatch.setattr(RunReader, "_pass", failing_once(RunReader._pass, failed))
        source.run("run-1", spectra_of(20))
        run = next(iter(stream))
        came = sum(len(frame.block) for frame in run)
    assert failed and came == 19 and run.ledger.problems["failed"] == 1 and not run.complete


@pytest.mark.parametrize(("number", "said"), [(errno.EMFILE, "ulimit -n"), (errno.EIO, "Please report this")])
def test_descriptors_that_are_all_taken_are_no_mistake_to_be_reported(
    number: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    Mishaps(Counter()).note("a request", OSError(number, os.strerror(number)))
    assert said in caplog.text and ("report" in caplog.text) == (number == errno.EIO)
