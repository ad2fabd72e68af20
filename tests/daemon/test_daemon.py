"""The daemon: real sockets, the shipped model, in a thread of the test. Bad input: test_bad_input."""

import logging
import signal
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import zmq
from helpers import (
    AXIS,
    LOCAL,
    PATIENCE_S,
    Collected,
    Command,
    Published,
    a_frame,
    a_line,
    a_start,
    an_end,
    control_of,
    daemon_in_thread,
    is_of_a_run,
    spectra_of,
    summary,
    wait_until,
)

from cars_rt.daemon.loop import Daemon
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.engines import ENGINES, EngineError, ModelError, compose, load_model, open_engine
from cars_rt.engines.base import Slab
from cars_rt.engines.onnxruntime import OnnxRuntime
from cars_rt.remote import Remote
from cars_rt.sockets import StreamError
from cars_rt.sockets.addresses import AddressError
from cars_rt.sockets.free import free_addresses


@pytest.mark.parametrize("block", [1, 64])
def test_every_spectrum_comes_out_once_in_order_with_the_right_values(block: int) -> None:
    counts = spectra_of(3000)
    with a_line() as (source, daemon, results):
        source.run("run-1", counts, block, spectra=3000, scan=(30, 100), exposure_s=0.001)
        results.ends()
    with open_engine("onnxruntime", compose(load_model(), AXIS), 64) as engine:
        expected = engine.run(counts)
    assert np.abs(results.raman() - expected).max() < 1e-4 * np.abs(expected).max()
    frames = results.frames
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    np.testing.assert_array_equal(results.index, np.arange(3000))
    assert len(frames) <= 3000 // block and (block == 64 or len(frames) < 3000 // block)  # joined under load
    assert all(frame.time_ns <= (frame.time_in_ns or 0) <= (frame.time_out_ns or 0) for frame in frames)
    end, start = results.closed[0].end, results.starts[0]
    assert (end.reason, end.announced, end.spectra, dict(end.lost)) == ("complete", 3000, 3000, {})
    assert (start.spectra, start.scan, start.exposure_s, start.dtype) == (3000, (30, 100), 0.001, "float32")
    assert start.model is not None and start.model["sha256"] == load_model().sha256
    assert daemon.receipts[0].received == daemon.receipts[0].sent == daemon.receipts[0].announced == 3000


def test_runs_one_after_the_other_may_differ_in_axis_and_dtype() -> None:
    runs = {
        "up": (AXIS, spectra_of(40)),
        "down": (AXIS[::-1], spectra_of(40)[:, ::-1].astype(np.float64)),
        "wide": (np.linspace(600, 2400, 300), spectra_of(40, np.linspace(600, 2400, 300)).astype(np.uint32)),
        "again": (AXIS, (spectra_of(40) >> 8).astype(np.uint8)),
    }
    with a_line() as (source, _, results):
        for name, (axis, counts) in runs.items():
            source.run(name, counts, 7, axis=axis)
        results.ends(len(runs))
    for name, (axis, counts) in runs.items():
        with open_engine("onnxruntime", compose(load_model(), axis), 40) as engine:
            expected = engine.run(counts)
        assert np.abs(results.raman(name) - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.allclose(results.raman("up"), results.raman("down")[:, ::-1], atol=1e-3)


def test_dark_is_subtracted_in_its_own_run_only() -> None:
    counts, dark = spectra_of(20), np.linspace(500, 900, len(AXIS)).astype(np.float32)
    with a_line() as (source, _, results):
        source.run("plain", counts)
        source.run("with dark", counts + dark, dark=dark)
        source.run("plain again", counts)
        results.ends(3)
    assert np.abs(results.raman("with dark") - results.raman("plain")).max() < 1e-3
    assert np.array_equal(results.raman("plain"), results.raman("plain again"))


def test_axis_that_cannot_be_is_refused_and_the_next_run_works(caplog: pytest.LogCaptureFixture) -> None:
    with a_line() as (source, daemon, results):
        short = np.linspace(1000, 1100, 60)
        source.run("short", spectra_of(10, short), axis=short)
        wait_until(lambda: daemon.snapshot().last_run is not None)
        now = daemon.snapshot()
        assert now.last_run is not None and "spans 100 cm-1" in now.last_run.pop("refused")
        assert (now.run, now.run_refused) == (None, None) and now.last_run == {
            "run": "short", "source": "a test", "announced": 10, "lost": {"engine": 10},
        }  # fmt: skip
        source.run("pixels", spectra_of(10), axis=np.arange(160.0))
        source.run("wavenumbers", spectra_of(10), axis=np.linspace(13_000, 14_000, 160))
        source.run("good", spectra_of(10))
        results.ends()
        wait_until(lambda: daemon.parts.runs.book.closed == 4 and daemon.parts.runs.current is None)
        good = daemon.snapshot().last_run
    assert good is not None and (good["run"], good["lost"], good["refused"]) == ("good", {}, None)
    assert [closed.end.run for closed in results.closed] == ["good"] and results.spectra == 10
    assert [(each.lost, each.sent) for each in daemon.receipts[:3]] == [({"engine": 10}, 0)] * 3
    assert "cannot be computed: the axis is 0, 1, 2, ...: pixel numbers" in caplog.text
    assert "cannot be computed: the axis reaches 14000, beyond every raman shift in cm-1" in caplog.text
    assert "cannot be computed: the axis spans 100 cm-1; the model cnn needs" in caplog.text


def test_spectra_that_the_source_lost_are_reported_downstream() -> None:
    with a_line() as (source, _, results):
        counts = spectra_of(1)
        source.say(a_start(), a_frame(0, counts), a_frame(1, counts, index=5))
        source.say(an_end(2, announced=9, lost={"overload": 7}))
        results.ends()
    end = results.closed[0].end
    assert (end.announced, end.spectra, dict(end.lost)) == (9, 2, {"upstream": 7})
    assert [frame.index for frame in results.frames] == [0, 5]
    assert [frame.lost for frame in results.frames] == [0, 4]
    assert results.closed[0].ledger.lost == {"upstream": 7}


def test_source_that_vanished_is_closed_as_interrupted_by_the_next_run() -> None:
    with a_line() as (source, _, results):
        source.say(a_start("first"), a_frame(0, spectra_of(1), "first"))
        source.run("second", spectra_of(3))
        results.ends(2)
    assert [closed.end.reason for closed in results.closed] == ["interrupted", "complete"]
    assert [closed.end.spectra for closed in results.closed] == [1, 3]


class FailsOnce(OnnxRuntime):
    """An engine that fails on the first full batch, once the probe batch is through."""

    name: ClassVar[str] = "fails-once"
    failed = False

    def launch(self, slab: int, rows: int) -> None:
        if not FailsOnce.failed and rows == self.max_batch and is_of_a_run(self, slab):
            FailsOnce.failed = True
            raise EngineError("the device had enough")
        super().launch(slab, rows)


def test_failing_engine_loses_exactly_its_batch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(ENGINES, "fails-once", (__name__, "FailsOnce"))
    FailsOnce.failed = False
    counts = spectra_of(64)
    with a_line(engine="fails-once", max_batch=16) as (source, _, results):
        source.run("run-1", counts, 16)
        results.ends()
    end = results.closed[0].end
    assert (end.announced, end.spectra, dict(end.lost)) == (64, 48, {"engine": 16})
    assert [frame.index for frame in results.frames] == [16, 32, 48]
    assert [frame.sequence for frame in results.frames] == [0, 1, 2]
    assert "engine: the device had enough" in caplog.text


class KeepsItsDark(OnnxRuntime):
    """An engine that cannot take the dark of the second run, once."""

    name: ClassVar[str] = "keeps-its-dark"
    failed = False

    def set_dark(self, dark: Slab) -> None:
        if dark.any() and not KeepsItsDark.failed:
            KeepsItsDark.failed = True
            raise EngineError("no memory is left")
        super().set_dark(dark)


def test_engine_that_did_not_take_the_dark_computes_nothing_as_if_it_had(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(ENGINES, "keeps-its-dark", (__name__, "KeepsItsDark"))
    KeepsItsDark.failed = False
    counts, dark = spectra_of(40), np.linspace(500, 900, len(AXIS)).astype(np.float32)
    with a_line(engine="keeps-its-dark", max_batch=8) as (source, _, results):
        source.run("plain", counts, 8)
        source.run("with dark", counts + dark, 8, dark=dark)
        results.ends(2)
    assert KeepsItsDark.failed and "it cannot subtract the dark: no memory is left" in caplog.text
    plain, ended = results.raman("plain"), results.closed[1].end
    assert dict(ended.lost) == {"engine": 8} and [tuple(each) for each in ended.ranges] == [("engine", 0, 8)]
    assert np.abs(results.raman("with dark") - plain[8:]).max() < 1e-3


class FailsAlways(OnnxRuntime):
    """An engine that passes the probe batch of every rebuilding and then fails."""

    name: ClassVar[str] = "fails-always"

    def launch(self, slab: int, rows: int) -> None:
        if rows == self.max_batch and is_of_a_run(self, slab):
            raise EngineError("the device is gone")
        super().launch(slab, rows)


def test_engine_that_keeps_failing_is_replaced_by_the_next_kind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(ENGINES, "fails-always", (__name__, "FailsAlways"))
    counts = spectra_of(8 * 16)
    with a_line(engine="fails-always", max_batch=16) as (source, _, results):
        source.run("run-1", counts, 16)
        results.ends()
    end = results.closed[0].end
    # Three batches in a row; what was under way behind each of them is computed again by the next engine.
    assert end.announced == 128 and dict(end.lost) == {"engine": 48}
    assert end.spectra == 128 - end.lost["engine"]
    assert [tuple(lost) for lost in end.ranges] == [("engine", 0, end.lost["engine"])]
    with open_engine("onnxruntime", compose(load_model(), AXIS), 16) as engine:
        expected = engine.run(counts)[end.lost["engine"] :]
    assert np.abs(results.raman() - expected).max() < 1e-4 * np.abs(expected).max()
    assert any(f"it is replaced by {name}" in caplog.text for name in ("onnxruntime", "openvino"))


class Hangs(OnnxRuntime):
    """An engine that never comes back from its second batch."""

    name: ClassVar[str] = "hangs"
    batches = 0

    def launch(self, slab: int, rows: int) -> None:
        if is_of_a_run(self, slab):
            Hangs.batches += 1
            if Hangs.batches == 2:
                threading.Event().wait()
        super().launch(slab, rows)


class WrongShape(OnnxRuntime):
    """An engine whose output has another shape, once."""

    name: ClassVar[str] = "wrong-shape"
    failed = False

    def wait(self, slab: int) -> None:
        if self.max_batch == 16 and not WrongShape.failed and is_of_a_run(self, slab):
            WrongShape.failed = True
            self.outputs[slab] = self.outputs[slab][:, :-1]


class NotANumber(WrongShape):
    """An engine that gives one NaN, once."""

    name: ClassVar[str] = "not-a-number"

    def wait(self, slab: int) -> None:
        if self.max_batch == 16 and not WrongShape.failed and is_of_a_run(self, slab):
            WrongShape.failed = True
            self.outputs[slab][7, 3] = np.nan


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Hangs", "did not answer within 1 s"),
        ("WrongShape", "gave float32 (16, 159)"),
        ("NotANumber", "gave values that are not finite"),
    ],
)
def test_engine_that_hangs_or_gives_nonsense_costs_one_batch(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cars_rt.daemon.pipeline.HUNG_S", 1.0)
    monkeypatch.setattr("cars_rt.daemon.compute.retired.CLOSE_S", 0.1)
    engine = {"Hangs": Hangs, "WrongShape": WrongShape, "NotANumber": NotANumber}[name]
    monkeypatch.setitem(ENGINES, engine.name, (__name__, name))
    Hangs.batches, WrongShape.failed = 0, False
    counts = spectra_of(8 * 16)
    with a_line(engine=engine.name, max_batch=16) as (source, _, results):
        source.run("run-1", counts, 16)
        results.ends()
    end = results.closed[0].end
    assert (end.announced, end.spectra, dict(end.lost)) == (128, 112, {"engine": 16})
    assert [frame.sequence for frame in results.frames] == list(range(7))
    assert said in caplog.text and "it is replaced by" in caplog.text


def test_slow_subscriber_makes_the_daemon_wait_and_loses_nothing() -> None:
    counts = spectra_of(1500)
    with a_line(buffer_mb=0.1) as (source, daemon, results):
        sending = threading.Thread(target=source.run, args=("run-1", counts))
        sending.start()
        wait_until(lambda: daemon.parts.runs.taken.spectra > 500)
        results.ends()
        sending.join(PATIENCE_S)
    assert results.spectra == 1500 and not results.closed[0].end.lost


def test_what_a_stop_has_no_time_to_compute_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver ended long ago, and says that all was sent."""
    monkeypatch.setattr("cars_rt.daemon.ending.DRAIN_S", 0.0)
    with a_line(control=LOCAL) as (source, daemon, results):
        source.publisher.open(a_start(block=4, spectra=400))
        for sequence in range(100):
            if sequence == 10:
                wait_until(lambda: daemon.parts.runs.taken.frames == 10)
                with Remote(control_of(daemon)) as remote:
                    remote.ask("pause")  # as one that is far behind: nothing more is read
            source.publisher.send(a_frame(sequence, spectra_of(4)), PATIENCE_S)
        source.publisher.end(an_end(100, 400))
        assert source.publisher.flush(PATIENCE_S)
        daemon.stop()
        wait_until(lambda: daemon.parts.runs.book.closed)
        results.ends()
    (receipt,) = daemon.receipts
    assert (receipt.announced, receipt.sent, dict(receipt.lost)) == (400, 40, {"overload": 360})
    assert dict(results.closed[0].end.lost) == {"overload": 360}
    assert "it came too late to be computed, since the daemon was stopped" in caplog.text


def test_what_a_driver_sends_after_a_stop_is_left_to_it_and_is_no_loss() -> None:
    sent = 0
    with a_line() as (source, daemon, results):
        source.publisher.open(a_start())

        def go_on() -> None:
            nonlocal sent
            while not daemon.parts.runs.book.closed:
                source.publisher.send(a_frame(sent, spectra_of(1)), PATIENCE_S)
                sent += 1
                time.sleep(0.002)

        sender = threading.Thread(target=go_on)
        sender.start()
        results.until(lambda all_: all_.spectra > 20)
        before = sent
        daemon.stop()
        results.ends()
        sender.join(PATIENCE_S)
    (receipt,) = daemon.receipts
    end = results.closed[0].end
    assert (end.reason, dict(end.lost), dict(receipt.lost)) == ("stopped", {}, {})
    assert before <= end.spectra == receipt.sent == results.spectra
    np.testing.assert_array_equal(results.index, np.arange(results.spectra))


def test_stop_gives_up_a_subscriber_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it did not take is counted, to the spectrum."""
    monkeypatch.setattr("cars_rt.daemon.ending.STOP_S", 0.2)
    axis = np.linspace(800, 1500, 4096)
    counts = spectra_of(900, axis)
    with (
        Published(buffer_mb=1000) as source,
        daemon_in_thread(source.address, engine="passthrough", buffer_mb=0.1) as daemon,
        zmq.Context() as context,
        context.socket(zmq.SUB) as idle,
    ):
        for option, value in ((zmq.RCVHWM, 1), (zmq.RCVBUF, 65_536), (zmq.LINGER, 0)):
            idle.setsockopt(option, value)
        idle.subscribe("raman.")
        idle.connect(daemon.publisher.address)
        source.wait()
        wait_until(lambda: daemon.publisher.subscribers == 1)
        source.publisher.open(a_start(axis=axis, block=30))
        for sequence in range(30):  # ZeroMQ takes them all
            source.publisher.send(a_frame(sequence, counts[30 * sequence : 30 * sequence + 30]), PATIENCE_S)
        wait_until(lambda: daemon.parts.pipeline.queues["results"].depth > 64)  # slabs wait
        run = daemon.parts.runs.open
        assert run is not None and run.published.model["target"] == "counts"  # whatever the model's would be
        daemon.stop()
        wait_until(lambda: daemon.parts.runs.book.closed)
    (totals,) = daemon.receipts
    assert totals.lost["output"] > 0
    assert totals.announced == totals.received == 900 == totals.sent + sum(totals.lost.values())
    assert "had no room for the last results" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_in_a_run_sends_everything_received_and_the_end(
    number: signal.Signals, tmp_path: Path
) -> None:
    (publish,) = free_addresses(1)
    totals = tmp_path / "totals.json"
    with (
        Published() as source,
        Command(
            "run", "--listen", source.address, "--publish", publish, "--subscribers", 1,
            "--threads", 1, "--summary", totals,
        ) as daemon,
        Collected(publish) as results,
    ):  # fmt: skip
        source.wait()
        source.publisher.open(a_start())
        for sequence, row in enumerate(spectra_of(3000)):
            assert source.publisher.send(a_frame(sequence, row[None]), PATIENCE_S)
        assert source.publisher.flush(PATIENCE_S)
        results.until(lambda all_: all_.spectra > 100)
        daemon.process.send_signal(number)
        results.ends()
        assert daemon.end() == 0, daemon.said
    end = results.closed[0].end
    assert (end.reason, end.spectra, dict(end.lost)) == ("stopped", 3000, {})
    np.testing.assert_array_equal(results.index, np.arange(3000))
    (run,) = summary(totals)
    assert run["announced"] == run["received"] == run["sent"] == 3000
    assert "Traceback" not in daemon.said


def test_stop_without_a_run_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Published() as source, daemon_in_thread(source.address) as daemon:
        source.wait()
    assert not daemon.receipts


def test_daemon_that_cannot_start_says_why() -> None:
    with Published() as taken:
        with pytest.raises(StreamError, match="another program already uses it"):
            Daemon(DaemonSettings(listen="tcp://127.0.0.1:5", publish=taken.address))
        with pytest.raises(AddressError, match="HOST:PORT"):
            Daemon(DaemonSettings(listen="here", publish=LOCAL))
        with pytest.raises(ModelError, match="no model is called 'nonsense'"):
            Daemon(DaemonSettings(listen=taken.address, publish=LOCAL, model="nonsense"))
        with pytest.raises(EngineError, match="no engine is called 'nonsense'"):
            Daemon(DaemonSettings(listen=taken.address, publish=LOCAL, engine="nonsense"))
