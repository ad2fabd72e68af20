"""What may stand still or grow without bound does not: each wait ends, and says what it is for."""

import logging
import socket
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import Mock

import numpy as np
import pytest
import zmq
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

from cars_rt.daemon import ending, loop, pipeline, receipt
from cars_rt.daemon.commands import COMMANDS
from cars_rt.daemon.compute import changes, retired, shadow, worker
from cars_rt.daemon.compute.counters import Counters
from cars_rt.daemon.compute.worker import Computed
from cars_rt.daemon.receipt import Receipt
from cars_rt.daemon.seen.board import StatusBoard
from cars_rt.daemon.seen.status import Status
from cars_rt.daemon.waits import Waits, waits_for
from cars_rt.engines import ENGINES, EngineError
from cars_rt.engines.passthrough import Passthrough
from cars_rt.remote import Remote
from cars_rt.sockets import Subscriber

AXES = [a_start().raman_shift + shift for shift in range(4)]  # each is compiled for anew


class Odd(Passthrough):
    """An engine that does what it is told to, wrongly."""

    name: ClassVar[str] = "odd"
    compiling: ClassVar[list[str]] = []  # one entry for each compilation after the first: hang, exit, refuse
    hangs: ClassVar[bool] = False
    fails: ClassVar[bool] = False  # once, after that
    release: ClassVar[threading.Event]

    def _compile(self, threads: int) -> None:
        match Odd.compiling.pop(0) if Odd.compiling else "":
            case "hang":
                Odd.release.wait()
            case "exit":
                raise SystemExit("a library thought that it was the program")
            case "refuse":
                raise EngineError("there is no such device any more")
        super()._compile(threads)

    def wait(self, slab: int) -> None:
        if Odd.hangs:
            Odd.release.wait()
        if Odd.fails:
            Odd.hangs = Odd.fails = False
            raise EngineError("the device had enough")


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Odd]]:
    monkeypatch.setitem(ENGINES, "odd", (__name__, "Odd"))
    monkeypatch.setattr(changes, "retrieving", lambda: ["odd"])
    monkeypatch.setattr(retired, "CLOSE_S", 0.2)  # which a daemon waits for an engine that hangs
    Odd.release, Odd.hangs, Odd.fails, Odd.compiling = threading.Event(), False, False, []
    yield Odd
    Odd.hangs = False
    Odd.release.set()


@pytest.mark.parametrize("fault", ["hang", "exit"])
def test_a_compilation_that_comes_to_no_good_end_costs_its_run(
    fault: str, odd: type[Odd], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with a_line(engine="odd") as (source, daemon, results):
        odd.compiling = [fault]
        source.run("run-1", spectra_of(5), raman_shift=AXES[1])
        if fault == "hang":
            wait_until(lambda: "compiling" in daemon.snapshot().waits_for and not daemon.snapshot().ready)
            wait_until(lambda: not odd.compiling)  # it hangs: what is given up sooner leaves that to the next
            monkeypatch.setattr(worker, "COMPILE_S", 0.0)
            wait_until(lambda: daemon.parts.runs.book.closed == 1)
            monkeypatch.setattr(worker, "COMPILE_S", 900.0)
        source.run("run-2", spectra_of(5), raman_shift=AXES[2])
        assert results.ends().spectra == 5
        assert [dict(receipt.lost) for receipt in daemon.receipts] == [{"engine": 5}, {}]
    assert "SystemExit" in caplog.text or "not compiled within" in caplog.text


def test_an_engine_that_hangs_while_no_other_works_loses_spectra_and_is_tried_again(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "HUNG_S", 0.2)
    monkeypatch.setattr(changes, "RETRY_S", 0.2)
    with a_line(engine="odd") as (source, daemon, results):
        source.publisher.open(a_start(block=4))
        wait_until(lambda: daemon.parts.runs.open)
        odd.compiling, odd.hangs = ["refuse"] * 3, True
        source.publisher.send(a_frame(0, spectra_of(4)))
        wait_until(lambda: "no engine works" in daemon.snapshot().waits_for)
        assert not daemon.snapshot().ready
        source.publisher.send(a_frame(1, spectra_of(4)))
        wait_until(lambda: daemon.snapshot().run_lost.get("engine") == 8)  # nobody waits for them
        odd.hangs = False
        wait_until(lambda: daemon.compute.down is None)
        source.publisher.send(a_frame(2, spectra_of(4)))
        source.publisher.end(an_end(3, 12))
        assert results.ends().spectra == 4 and results.frames[0].index == 8
        wait_until(lambda: daemon.parts.runs.book.closed)
        assert dict(daemon.receipts[0].lost) == {"engine": 8}


def test_an_engine_that_hung_while_no_other_worked_is_closed_when_it_comes_back(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept its memory until the daemon's end."""
    monkeypatch.setattr(pipeline, "HUNG_S", 0.2)
    monkeypatch.setattr(changes, "RETRY_S", 0.2)
    with a_line(engine="odd") as (source, daemon, _):
        source.publisher.open(a_start(block=4))
        wait_until(lambda: daemon.parts.runs.open)
        hung = daemon.compute.worker
        assert hung is not None
        odd.compiling, odd.hangs = ["refuse"] * 3, True
        source.publisher.send(a_frame(0, spectra_of(4)))
        wait_until(lambda: "no engine works" in daemon.snapshot().waits_for)
        odd.hangs = False
        wait_until(lambda: daemon.compute.down is None)
        assert not hung.join(0)
        odd.release.set()
        wait_until(lambda: hung.join(0.1))
        source.publisher.end(an_end(1, 4))


def test_an_engine_that_takes_long_for_each_of_several_batches_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last of three waits for the first two: that took as long as a hang."""
    now, answers, counts = [0.0], [Future[Computed]() for _ in range(3)], spectra_of(1)
    clock = SimpleNamespace(perf_counter=lambda: now[0], time_ns=lambda: 0)
    monkeypatch.setattr(pipeline, "time", clock)
    compute, outputs = Mock(shadow=None), Mock()
    compute.worker.configure_mock(free=deque(range(3)), broken=False, hung=False)
    compute.worker.engine.inputs = [counts.astype(np.float32) for _ in answers]
    compute.worker.compute.side_effect = answers
    line = pipeline.Pipeline(compute, outputs, Mock())
    line.begin()
    for number in range(3):
        line.take(Mock(), a_frame(number, counts), 0)
        line.submit(1, full=True)
    for answer in answers[:2]:
        now[0] += 0.7 * pipeline.HUNG_S
        assert not line.collect()
        answer.set_result(Computed({"flags": np.zeros(1, np.uint8)}, None, 1.0))
        assert not line.collect()
    assert line.computing_s == 0.0
    now[0] += pipeline.HUNG_S
    ((_, reason),) = line.collect()
    assert "did not answer within 60 s" in reason


def test_what_was_under_way_behind_a_failure_is_computed_though_nothing_can_take_over(odd: type[Odd]) -> None:
    """Its slabs were all taken, so that the daemon stood still for ever."""
    with a_line(engine="odd", max_batch=4) as (source, daemon, results):
        source.publisher.open(a_start(block=4))
        wait_until(lambda: daemon.parts.runs.open)
        odd.hangs = odd.fails = True
        for number in range(4):
            source.publisher.send(a_frame(number, spectra_of(4)))
        wait_until(lambda: daemon.parts.pipeline.queues["computing"].depth == 12)
        odd.compiling = ["refuse"]
        odd.release.set()
        source.publisher.end(an_end(4, 16))
        assert results.ends().spectra == 12 and not odd.compiling
    assert dict(daemon.receipts[0].lost) == {"engine": 4}


def test_an_engine_that_broke_before_it_took_over_is_replaced() -> None:
    """It computed nothing, so that no batch told of it, and the run stood still."""
    with a_line(engine="passthrough") as (source, daemon, results):
        source.publisher.open(a_start())
        wait_until(lambda: daemon.parts.runs.open)
        assert daemon.compute.worker is not None
        daemon.compute.worker.broken = True
        source.publisher.send(a_frame(0, spectra_of(1)))
        source.publisher.end(an_end(1))
        assert results.ends().spectra == 1


def test_a_candidate_that_breaks_or_hangs_in_the_shadow_does_not_take_over() -> None:
    serving, answer, batch = Mock(down=None), Mock(), spectra_of(1).astype(np.float32)
    serving.worker.broken = False
    candidate = Mock(broken=False, raman_shift=batch[0], max_batch=1, dark="none")
    candidate.ready.exception.return_value = None
    candidate.overdue.return_value = False
    candidate.engine.inputs = [batch]
    candidate.compute.return_value = Future[Computed]()
    changing = changes.Changes(serving, Mock(), Mock(), Counters())
    beside = shadow.Shadow(candidate, Mock(), "odd", 1)
    beside.look(batch, batch, "model odd none")
    changing.promote(beside, answer, in_run=False)
    candidate.broken = True
    assert changing.settle(opening=False, in_run=False) is None and not serving.take_over.called
    assert "its engine failed" in answer.call_args.args[0]
    beside._begun -= 7
    with pytest.raises(EngineError, match="has been computing one batch for 7 s"):
        changing.promote(beside, answer, in_run=False)


def test_a_stop_does_not_wait_for_a_compilation(odd: type[Odd], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "STOP_S", 0.2)
    with Published() as source, daemon_in_thread(source.address, engine="odd") as daemon:
        source.wait()
        odd.compiling = ["hang"]
        source.run("run-1", spectra_of(5), raman_shift=AXES[1])
        wait_until(lambda: "compiling" in daemon.snapshot().waits_for)
    assert dict(daemon.receipts[0].lost) == {"engine": 5}


def test_a_stop_that_an_engine_holds_up_gives_up_no_subscriber(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that read all the time was said to have had no room."""
    monkeypatch.setattr(ending, "STOP_S", 0.1)
    with a_line(engine="odd") as (source, daemon, results):
        source.publisher.open(a_start())
        wait_until(lambda: daemon.parts.runs.open)
        odd.hangs = True
        for number in range(5):
            source.publisher.send(a_frame(number, spectra_of(1)))
        wait_until(lambda: daemon.parts.runs.taken.spectra == 5)
        daemon.stop()
        stopped = daemon.snapshot().uptime_s
        wait_until(lambda: daemon.snapshot().uptime_s > stopped + 0.7)
        assert daemon.publisher.outlet.patient
        odd.hangs = False
        odd.release.set()
        assert results.ends().spectra == 5
    assert "no room" not in caplog.text


def test_a_stop_does_not_wait_for_an_engine_that_replaces_another(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited for two minutes, longer than whoever then kills it."""
    monkeypatch.setattr(ending, "STOP_S", 0.2)
    monkeypatch.setattr(ending, "DRAIN_S", 0.2)
    with a_line(engine="odd", max_batch=4) as (source, daemon, _):
        source.publisher.open(a_start(block=4))
        wait_until(lambda: daemon.parts.runs.open)
        odd.fails, odd.compiling = True, ["hang"]
        source.publisher.send(a_frame(0, spectra_of(4)))
        wait_until(lambda: "the engine failed; compiling" in daemon.snapshot().waits_for)
        source.publisher.send(a_frame(1, spectra_of(4)))
        wait_until(lambda: daemon.parts.pipeline.queues["filling"].depth == 4)
    assert dict(daemon.receipts[0].lost) == {"engine": 8}


def test_the_engine_of_the_next_run_ends_a_repair_that_hangs(odd: type[Odd]) -> None:
    """Nothing waits for it any more, and it does not take the new engine's place."""
    with a_line(engine="odd", max_batch=4) as (source, daemon, _):
        source.publisher.open(a_start(block=4))
        wait_until(lambda: daemon.parts.runs.open)
        odd.fails, odd.compiling = True, ["hang"]
        source.publisher.send(a_frame(0, spectra_of(4)))
        wait_until(lambda: not odd.compiling and daemon.snapshot().waits_for.startswith("the engine failed"))
        source.publisher.end(an_end(1, 4))
        wait_until(lambda: daemon.receipts)
        source.publisher.open(a_start(block=4, run="run-2"))
        source.publisher.send(a_frame(0, spectra_of(4), run="run-2"))
        source.publisher.end(an_end(1, 4, run="run-2"))
        wait_until(lambda: len(daemon.receipts) == 2)
        assert not daemon.parts.compute.compiling
    assert [dict(each.lost) for each in daemon.receipts] == [{"engine": 4}, {}]


def test_what_is_asked_for_goes_before_a_repair(odd: type[Odd]) -> None:
    """It may be the only remedy, and was refused: another change was under way."""
    with a_line(engine="odd", max_batch=4) as (source, daemon, results), Remote(control_of(daemon)) as remote:
        source.publisher.open(a_start(block=4))
        wait_until(lambda: daemon.parts.runs.open)
        odd.fails, odd.compiling = True, ["hang"]
        source.publisher.send(a_frame(0, spectra_of(4)))
        wait_until(lambda: not odd.compiling and daemon.snapshot().waits_for.startswith("the engine failed"))
        source.publisher.send(a_frame(1, spectra_of(4)))
        assert "passthrough" in remote.ask("reload", engine="passthrough")["engine"]
        assert not daemon.compute.compiling
        source.publisher.end(an_end(2, 8))
        assert results.ends().spectra == 4
    assert dict(daemon.receipts[0].lost) == {"engine": 4}


def test_what_is_asked_for_stays_when_the_present_engine_fails(odd: type[Odd]) -> None:
    with a_line(engine="odd", max_batch=4) as (source, daemon, results), Remote(control_of(daemon)) as remote:
        source.publisher.open(a_start(block=4))
        wait_until(lambda: daemon.parts.runs.open)
        odd.compiling = ["hang"]
        answers: list[dict[str, Any]] = []
        asking = threading.Thread(target=lambda: answers.append(remote.ask("reload")))
        asking.start()
        wait_until(lambda: not odd.compiling)
        odd.fails = True
        for number in range(2):
            source.publisher.send(a_frame(number, spectra_of(4)))
        results.until(lambda all_: all_.spectra == 4)  # of the repair, meanwhile
        assert asking.is_alive()
        odd.release.set()
        asking.join(60)
        assert answers and daemon.compute.counters.reloads == daemon.compute.counters.replacements == 1
        source.publisher.end(an_end(2, 8))
        results.ends()


def test_waiting_for_subscribers_says_how_many_are_here() -> None:
    with (
        daemon_in_thread("tcp://127.0.0.1:9", engine="passthrough", subscribers=2) as daemon,
        Collected(daemon.publisher.address),
    ):
        wait_until(lambda: daemon.snapshot().waits_for == "waiting for 2 subscribers, 1 is here")
        board = StatusBoard(daemon.snapshot())
        assert board.not_ready() == "starting: waiting for 2 subscribers, 1 is here"
        with Collected(daemon.publisher.address):
            wait_until(lambda: "no driver at" in daemon.snapshot().waits_for)
            assert daemon.snapshot().ready
    with daemon_in_thread("tcp://127.0.0.1:9", engine="passthrough", subscribers=1) as daemon:
        wait_until(lambda: daemon.snapshot().waits_for == "waiting for 1 subscriber, 0 are here")


def test_a_wait_that_takes_long_is_told_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cars_rt.daemon.waits.SAY_S", 0.0)
    settings = {"engine": "passthrough", "subscribers": 1}
    with caplog.at_level(logging.INFO), daemon_in_thread("tcp://127.0.0.1:9", **settings) as daemon:
        wait_until(lambda: "waiting for 1 subscriber, 0 are here" in caplog.text)
        with Collected(daemon.publisher.address):
            wait_until(lambda: "no driver at" in daemon.snapshot().waits_for)
        waits = Waits()
        for _ in range(3):
            waits.look(*waits_for(daemon.parts))
    assert "no driver at" not in caplog.text  # which the status line says


def test_a_driver_that_has_left_is_told_from_one_that_never_came(caplog: pytest.LogCaptureFixture) -> None:
    with daemon_in_thread("tcp://127.0.0.1:9", engine="passthrough") as daemon:
        wait_until(lambda: daemon.snapshot().waits_for == "no driver at tcp://127.0.0.1:9 yet")
    caplog.set_level(logging.INFO)
    with Published() as source, daemon_in_thread(source.address, engine="passthrough") as daemon:
        source.wait()
        source.publisher.open(a_start(time_ns=10**18))  # played again: what is old is no latency
        for number in range(5):
            source.publisher.send(a_frame(number, spectra_of(1), time_ns=10**18 + number))
        source.publisher.end(an_end(5))
        wait_until(lambda: daemon.parts.runs.book.closed)
        status = Status()
        said = status.describe(replace(daemon.snapshot(), run="run-1", connected=True))
        assert "no latency: its time stamps are not of now" in said and "nan" not in said
        source.publisher.close(0)
        left = f"no driver at {source.address} since the last run ended; 1 run so far"
        wait_until(lambda: daemon.snapshot().waits_for == left)
        assert status.describe(daemon.snapshot()) == left
    assert "lost: none (1 clock: time stamps of the source that are not of now)" in caplog.text


def test_a_driver_that_restarts_finds_a_paused_daemon() -> None:
    with Published() as source, daemon_in_thread(source.address, engine="passthrough") as daemon:
        source.wait()
        daemon.parts.paused = True
        source.publisher.close(0)
        wait_until(lambda: not daemon.parts.intake.subscriber.connected)
        with Published(address=source.address) as again:
            again.wait()
            again.run("run-1", spectra_of(5))
            daemon.parts.paused = False
            wait_until(lambda: daemon.parts.runs.book.closed)


def test_a_stop_takes_in_what_waits_at_the_driver_since_a_pause() -> None:
    """It was counted as overload of an engine that had nothing to do."""
    with a_line(engine="passthrough") as (source, daemon, results):
        source.publisher.open(a_start())
        wait_until(lambda: daemon.parts.runs.open)
        daemon.parts.paused = True
        for number in range(50):
            source.publisher.send(a_frame(number, spectra_of(1)))
        source.publisher.end(an_end(50))
        daemon.stop()
        with pytest.raises(ValueError, match="the daemon is stopping"):
            COMMANDS["pause"](daemon.parts, {}, lambda error, result: None)
        assert results.ends().spectra == 50
    assert not daemon.receipts[0].lost


def test_a_subscriber_that_nobody_looks_at_holds_up_no_other() -> None:
    """Its events, some thousands here, are read all the same."""
    with socket.create_server(("127.0.0.1", 0)) as server, Published() as source:
        idle = Subscriber(f"tcp://127.0.0.1:{server.getsockname()[1]}", "raw", connect=False)
        for option in (zmq.RECONNECT_IVL, zmq.RECONNECT_IVL_MAX):
            idle.socket.setsockopt(option, 1)
        idle.connect()
        for _ in range(1000):
            server.accept()[0].close()
        with Collected(source.address, "raw") as results:
            source.wait()
            source.run("run-1", spectra_of(5))
            assert results.ends().spectra == 5
        idle.close()


def test_receipts_of_many_runs_do_not_pile_up_and_a_slow_disk_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, write = threading.Event(), Receipt.write
    monkeypatch.setattr(receipt, "KEPT", 2)
    monkeypatch.setattr(Receipt, "write", lambda *given: disk.wait() and write(*given))
    with a_line(engine="passthrough", receipts=tmp_path) as (source, daemon, results):
        for run in ("run-1", "run-2", "run-3"):
            source.run(run, spectra_of(5))
        results.ends(3)
        wait_until(lambda: daemon.parts.runs.book.closed == 3)
        assert [receipt.run for receipt in daemon.receipts] == ["run-2", "run-3"] and not [
            *tmp_path.iterdir()
        ]
        disk.set()
    assert len([*tmp_path.glob("*.json")]) == 3


def test_the_preview_does_not_wait_for_the_next_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "TICK_S", 0.5)
    with (
        Published() as source,
        daemon_in_thread(source.address, engine="passthrough", preview=LOCAL) as daemon,
    ):
        preview = daemon.parts.preview
        assert preview is not None
        with Collected(preview.publisher.address, "preview") as bundles:
            source.wait()
            wait_until(lambda: preview.publisher.subscribers == 1)
            source.publisher.open(a_start())
            ticks: list[float] = []
            monkeypatch.setattr(daemon.parts.runs, "note_clock", lambda: ticks.append(0.0))
            for sequence in range(12):  # each in a bundle of its own
                source.publisher.send(a_frame(sequence, spectra_of(1)))
                bundles.until(lambda all_, wanted=sequence + 1: all_.spectra >= wanted)
            assert len(ticks) < 12
