"""Requests to a running daemon: status, another model, shadow, dark, bands, pause, stop."""

import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
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
    preview_of,
    spectra_of,
    wait_until,
)

from cars_rt import remote as asking
from cars_rt.cli import ctl
from cars_rt.cli.ctl import Where
from cars_rt.daemon.compute import compute
from cars_rt.daemon.compute.compiling import COMPILE_S
from cars_rt.daemon.compute.library import READ_S
from cars_rt.daemon.loop import Daemon
from cars_rt.daemon.seen.page import page
from cars_rt.daemon.seen.plain import plain
from cars_rt.engines import ENGINES, EngineError, compose, load_model, open_engine
from cars_rt.engines.model import SHIPPED
from cars_rt.engines.onnxruntime import OnnxRuntime
from cars_rt.protocol.control import REQUESTS, Reply, Request, decode_reply, encode_request
from cars_rt.protocol.limits import MAX_HEADER_BYTES
from cars_rt.remote import Remote, RemoteError
from cars_rt.sockets import Subscriber
from cars_rt.sockets.control import MOST_BYTES, Answer, Control
from cars_rt.sockets.free import free_addresses
from cars_rt.trust import keys, tokens
from cars_rt.trust.curve import ClientKeys
from cars_rt.trust.flags import DaemonAccess


@contextmanager
def line(**settings: object) -> Iterator[tuple[Published, Daemon, Collected, Remote]]:
    """A source, a daemon, whoever collects its results, and a connection to its control socket."""
    with a_line(**settings) as (source, daemon, results), Remote(control_of(daemon)) as remote:
        yield source, daemon, results, remote


def another_model(folder: Path) -> Path:
    """A model with another hash that computes twice what the shipped one does."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(SHIPPED / "cnn.onnx")
    output = next(each for each in model.graph.output if each.name == "raman")
    for node in model.graph.node:
        for number, name in enumerate(node.output):
            if name == output.name:
                node.output[number] = "once"
    model.graph.initializer.append(numpy_helper.from_array(np.array(2, np.float32), "two"))
    model.graph.node.append(helper.make_node("Mul", ["once", "two"], [output.name]))
    path = folder / "twice.onnx"
    onnx.save(model, path)
    return path


def test_status_says_what_the_daemon_is_doing() -> None:
    with line() as (source, _, results, remote):
        idle = remote.ask("status")
        assert idle["state"] == "idle" and idle["ready"] and idle["model"] == "cnn"
        source.publisher.open(a_start(spectra=100))
        for number in range(10):
            assert source.publisher.send(a_frame(number + (number > 4), spectra_of(1), index=number * 2))
        results.until(lambda all_: all_.spectra == 10)
        status = remote.ask("status")
        assert (status["state"], status["run"], status["spectra_in"], status["spectra_out"]) == (
            "running", "run-1", 10, 10,
        )  # fmt: skip
        assert status["run_lost"] == {"upstream": 9} == status["lost"]
        assert status["latencies"]["total"]["count"] == 10
        assert sum(status["phases_s"].values()) == pytest.approx(status["uptime_s"], rel=1e-6)
        assert set(status["queues"]) == {"filling", "computing", "results", "output"}


def test_people_are_told_why_a_run_is_not_computed(capsys: pytest.CaptureFixture[str]) -> None:
    short = np.linspace(1000, 1100, 60)
    with line() as (source, daemon, _, remote):
        at = Where(address=remote.address)
        source.publisher.open(a_start("short", short, block=8))
        wait_until(lambda: daemon.snapshot().run_refused)
        ctl.status(at=at)
        refused = "it cannot be computed: the axis spans 100 cm-1"
        assert refused in capsys.readouterr().out and refused in page(daemon.snapshot(), None)
        assert ", up 3 h" in page(replace(daemon.snapshot(), uptime_s=10_000.0), None)
        source.publisher.send(a_frame(0, spectra_of(8, short), "short"))
        source.publisher.end(an_end(1, 8, "short"))
        wait_until(lambda: daemon.snapshot().last_run)
        ctl.status(at=at)
        said = "short from a test: 8 spectra; lost: 8 engine; it was not computed: the axis spans 100 cm-1"
        assert said in capsys.readouterr().out and said in page(daemon.snapshot(), None)


def test_model_changes_between_two_batches_and_every_result_names_its_own(tmp_path: Path) -> None:
    """Good and broken models in turn, under load: nothing is lost, and each result is of one of the two."""
    other = another_model(tmp_path)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(other.read_bytes()[:-5000])
    counts = spectra_of(100)
    stop = threading.Event()
    with line(max_batch=16) as (source, _, results, remote):

        def send() -> None:
            source.publisher.open(a_start(block=10))
            sent = 0
            while not stop.is_set():
                first = 10 * (sent % 10)
                assert source.publisher.send(a_frame(sent, counts[first : first + 10]), PATIENCE_S)
                sent += 1
                time.sleep(0.002)
            source.publisher.end(an_end(sent, 10 * sent))
            assert source.publisher.flush(PATIENCE_S)

        sender = threading.Thread(target=send)
        sender.start()
        for number in range(6):
            results.more()
            if number % 3 == 2:
                with pytest.raises(RemoteError, match=r"broken.onnx"):
                    remote.ask("reload", model=str(broken))
            else:
                wanted = str(other) if number % 3 == 0 else "cnn"
                answered: list[dict[str, object]] = []
                asking = threading.Thread(
                    target=lambda wanted=wanted, answered=answered: answered.append(
                        remote.ask("reload", model=wanted)
                    )
                )
                asking.start()
                results.until(lambda _, answered=answered: answered)
                asking.join()
                made = load_model(wanted).sha256[:16]  # by each, also where the sender has no turn meanwhile
                results.until(lambda all_, made=made: all_.frames[-1].made_by.startswith(made))
                assert answered[0]["sha256"] == load_model(wanted).sha256
        stop.set()
        results.ends()
        sender.join(PATIENCE_S)
        assert remote.ask("status")["reloads"] == 4 and remote.ask("status")["reloads_failed"] == 0
    end = results.closed[0].end
    assert not end.lost and end.spectra == results.spectra
    assert [frame.index for frame in results.frames] == list(range(0, results.spectra, 10))
    with open_engine("onnxruntime", compose(load_model(), AXIS), 64) as engine:
        once = engine.run(counts)
    by = {load_model().sha256[:16]: once, load_model(str(other)).sha256[:16]: 2 * once}
    makers = []
    for frame in results.frames:
        assert frame.made_by is not None
        expected = by[frame.made_by.split()[0]][frame.index % 100 :][:10]
        assert np.abs(frame.raman - expected).max() < 1e-4 * np.abs(once).max()
        if not makers or makers[-1] != frame.made_by:
            makers.append(frame.made_by)
    assert len(makers) == 5  # cnn, twice, cnn, twice, cnn


class Broken(OnnxRuntime):
    """An engine that cannot be built."""

    name = "broken"

    def _compile(self, threads: int) -> None:
        raise RuntimeError("no such device")


def test_engine_that_cannot_be_built_does_not_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "broken", (__name__, "Broken"))
    with line() as (source, _, results, remote):
        reason = r"cnn does not take over: broken: cannot be opened \(RuntimeError: no such device\)"
        with pytest.raises(RemoteError, match=reason):
            remote.ask("reload", engine="broken")
        with pytest.raises(RemoteError, match="no engine is called 'nonsense'; there are"):
            remote.ask("reload", engine="nonsense")
        with pytest.raises(RemoteError, match="no model is called 'nonsense'"):
            remote.ask("reload", model="nonsense")
        source.run("run-1", spectra_of(5))
        results.ends()
        assert remote.ask("status")["reloads_failed"] == 1
    assert results.spectra == 5


class FailsLate(OnnxRuntime):
    """An engine that fails on the first full batch, when it is told to."""

    name = "fails-late"
    begun, fails = threading.Event(), threading.Event()

    def wait(self, slab: int) -> None:
        super().wait(slab)
        if self.begun.is_set() and not self.fails.is_set():
            assert self.fails.wait(PATIENCE_S)
            raise EngineError("the device is gone")


def test_engine_that_fails_when_another_has_taken_over_has_none_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(ENGINES, "fails-late", (__name__, "FailsLate"))
    with line(engine="fails-late", max_batch=8) as (source, daemon, results, remote):
        source.publisher.open(a_start(block=8))
        source.publisher.send(a_frame(0, spectra_of(8)))
        results.until(lambda all_: all_.spectra == 8)
        FailsLate.begun.set()
        source.publisher.send(a_frame(1, spectra_of(8)))
        wait_until(lambda: daemon.parts.pipeline.computing)
        remote.ask("reload", engine="onnxruntime")
        taken_over = daemon.compute.worker
        FailsLate.fails.set()
        for sequence in range(2, 6):
            source.publisher.send(a_frame(sequence, spectra_of(8)), PATIENCE_S)
        source.publisher.end(an_end(6, 48))
        results.ends()
        assert remote.ask("status")["engine_failures"] == 1
        assert daemon.compute.worker is taken_over
    assert dict(results.closed[0].end.lost) == {"engine": 8} and results.spectra == 40
    assert "is replaced by" not in caplog.text


def test_shadow_is_compared_and_can_take_over(tmp_path: Path) -> None:
    other = another_model(tmp_path)
    with line(max_batch=8) as (source, _, results, remote):
        source.publisher.open(a_start(block=8))
        source.publisher.send(a_frame(0, spectra_of(8)))
        results.until(lambda all_: all_.spectra == 8)
        remote.ask("shadow", model=str(other), every=2)
        wait_until(lambda: remote.ask("status")["shadow"]["ready"])
        for sequence in range(1, 21):
            source.publisher.send(a_frame(sequence, spectra_of(8)), PATIENCE_S)
            results.until(lambda all_, wanted=8 * (sequence + 1): all_.spectra == wanted)
        wait_until(lambda: remote.ask("status")["shadow"]["batches"])
        shadow = remote.ask("status")["shadow"]
        assert 1 <= shadow["batches"] <= 10 and shadow["error"] == ""
        assert shadow["worst_disagreement"] == pytest.approx(1, rel=1e-3)  # twice as much, of the maximum
        assert all(frame.made_by == results.frames[0].made_by for frame in results.frames)
        assert remote.ask("promote")["sha256"] == load_model(str(other)).sha256
        source.publisher.send(a_frame(21, spectra_of(8)), PATIENCE_S)
        results.until(lambda all_: all_.spectra == 8 * 22)
        assert results.frames[-1].made_by != results.frames[0].made_by
        assert np.allclose(results.frames[-1].raman, 2 * results.frames[0].raman, atol=1e-3)
        with pytest.raises(RemoteError, match="there is no shadow"):
            remote.ask("promote")


def test_a_candidate_of_another_quantity_is_refused_before_anything_is_begun() -> None:
    with line(engine="passthrough") as (source, daemon, results, remote):
        with pytest.raises(RemoteError, match=r"another quantity \(chi3\) than .*, and cannot be compared"):
            remote.ask("shadow", model="cnn-crimson2024")
        remote.ask("shadow")
        remote.ask("reload", model="cnn-crimson2024")
        source.publisher.open(a_start())
        results.until(lambda all_: all_.starts)
        for _ in range(2):  # it is still there
            with pytest.raises(RemoteError, match=r"another quantity \(ratio\) .* open run \(chi3\)"):
                remote.ask("promote")
        served, candidate = daemon.compute.worker, daemon.compute.shadow
        with pytest.raises(RemoteError, match=r"another quantity \(ratio\) .* open run \(chi3\)"):
            remote.ask("reload", model="rnn")
        assert daemon.compute.worker is served and daemon.compute.shadow is candidate
        source.publisher.end(an_end(0))
        results.ends()
        wait_until(lambda: remote.ask("status")["shadow"]["ready"])
        assert remote.ask("promote")["model"] == "cnn"


def test_a_shadow_follows_the_run_to_another_axis() -> None:
    with line(engine="passthrough", max_batch=16) as (source, daemon, results, remote):
        remote.ask("shadow", every=1)
        for number, (axis, block) in enumerate(((AXIS, 64), (AXIS + 1, 1))):
            source.publisher.open(a_start(f"run-{number}", axis, block=block))
            results.until(lambda all_, number=number: len(all_.starts) == number + 1)
            shadow = daemon.compute.shadow
            assert shadow is not None and np.array_equal(shadow.worker.raman_shift, axis)
            assert shadow.worker.max_batch == max(16, block)  # as this run needs it
            wait_until(lambda: remote.ask("status")["shadow"]["ready"])
            source.publisher.send(a_frame(0, spectra_of(1), f"run-{number}"), PATIENCE_S)
            wait_until(lambda: remote.ask("status")["shadow"]["batches"] == 1)
            source.publisher.end(an_end(1, run=f"run-{number}"))
            results.ends(number + 1)


def test_a_shadow_computes_the_variant_for_the_instrument_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reference is applied to spectra of its own instrument only, by the candidate, too."""
    glass = tmp_path / "glass.npz"
    np.savez(glass, raman_shift=np.linspace(700, 1700, 333), spectra=np.full((1, 333), 2e4))
    full = load_model("kk", glass)
    full = replace(full, reference=replace(full.reference, instrument="mine"))  # type: ignore[arg-type]
    monkeypatch.setattr(compute, "load_with", lambda name, **given: full)
    with line(model="kk") as (source, daemon, results, remote):
        remote.ask("shadow", every=1)
        runs = (("mine", AXIS), ("another", AXIS), ("another", AXIS + 1), ("mine", AXIS + 1))
        for number, (instrument, axis) in enumerate(runs):
            source.publisher.open(a_start(f"run-{number}", axis, source=instrument))
            results.until(lambda all_, number=number: len(all_.starts) == number + 1)
            assert daemon.compute.shadow is not None
            candidate = daemon.compute.shadow.worker
            assert candidate.model.sha256 == full.of_source(instrument).sha256
            assert np.array_equal(candidate.raman_shift, axis)
            source.publisher.end(an_end(0, run=f"run-{number}"))
            results.ends(number + 1)


def test_dark_is_averaged_subtracted_and_cleared(tmp_path: Path) -> None:
    counts, dark = spectra_of(4), np.linspace(500, 900, len(AXIS)).astype(np.uint16)
    with line(receipts=tmp_path) as (source, _, results, remote):
        with pytest.raises(RemoteError, match="no run is open"):
            remote.ask("dark", do="start")
        source.publisher.open(a_start(block=4))

        def measure(sequence: int, spectra: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            assert source.publisher.send(a_frame(sequence, spectra), PATIENCE_S)
            results.until(lambda all_: len(all_.frames) == sequence + 1)
            return results.frames[-1].raman

        plain = measure(0, counts)
        with pytest.raises(RemoteError, match="no dark is being measured"):
            remote.ask("dark", do="stop")
        remote.ask("dark", do="start")
        with pytest.raises(RemoteError, match="no spectrum came"):
            remote.ask("dark", do="stop")
        remote.ask("dark", do="start")
        for sequence in (1, 2, 3):  # the first one was under way
            measure(sequence, np.stack([dark - 1, dark + 1, dark, dark]) + (9000 if sequence == 1 else 0))
        found = remote.ask("dark", do="stop")
        assert (found["spectra"], found["left_out"]) == (8, 4)
        file = tmp_path / f"dark-{found['dark']}.csv"
        wait_until(file.exists)
        assert np.allclose(np.loadtxt(file), dark)
        shifted = measure(4, counts + dark)
        assert np.abs(shifted - plain).max() < 1e-3
        assert results.frames[-1].made_by == f"{results.frames[0].made_by}".replace("none", found["dark"])
        assert remote.ask("dark", do="clear") == {"dark": "none", "spectra": 0}
        assert np.array_equal(measure(5, counts), plain)
        source.publisher.end(an_end(6, 24))
        results.ends()
    receipt = json.loads((tmp_path / "run-1.json").read_text())
    assert receipt["sent"] == 24 and not receipt["lost"]
    assert [index for index, _ in receipt["made_by"]] == [0, 16, 20]


def test_who_comes_after_a_change_is_told_what_computes_now() -> None:
    with line(engine="passthrough") as (source, daemon, results, remote):
        source.publisher.open(a_start())

        def measure(sequence: int) -> None:
            assert source.publisher.send(a_frame(sequence, spectra_of(1)), PATIENCE_S)
            results.until(lambda all_: all_.spectra == sequence + 1)

        measure(0)
        with pytest.raises(RemoteError, match=r"another quantity \(chi3\) than those of the open"):
            remote.ask("reload", model="cnn-crimson2024")
        assert remote.ask("status")["model"] == "cnn"
        remote.ask("reload", model="rnn")
        remote.ask("dark", do="start")
        measure(1)
        measure(2)
        dark = remote.ask("dark", do="stop")["dark"]
        with (
            Collected(daemon.publisher.address) as late,
            Collected(preview_of(daemon).address, "preview") as preview,
        ):
            for each in (late, preview):
                each.until(lambda all_: all_.starts)
            measure(3)
            for each in (late, preview):  # the first preview may be of the spectra before
                each.until(lambda all_: all_.frames and all_.frames[-1].made_by.endswith(dark))
                model, frame = each.starts[0].model, each.frames[-1]
                assert model is not None and (model["name"], model["dark"]) == ("rnn", dark)
                assert frame.made_by == model["made_by"] == f"{model['sha256'][:16]} passthrough {dark}"
        assert results.starts[0].model is not None and results.starts[0].model["name"] == "cnn"
        first = results.reader.run  # what it would record from now on
        assert first is not None and first.model is not None and first.model["name"] == "rnn"
        source.publisher.end(an_end(4))
        results.ends()
        assert remote.ask("reload", model="cnn-crimson2024")["model"] == "cnn-crimson2024"
    assert not results.problems and not results.closed[0].end.lost


def test_flight_recorder_writes_when_asked_to(tmp_path: Path) -> None:
    with line(flight=tmp_path) as (source, _, results, remote):
        with pytest.raises(RemoteError, match="no run has come yet"):
            remote.ask("flight")
        source.publisher.open(a_start(spectra=20))
        for number in range(20):
            source.publisher.send(a_frame(number, spectra_of(1, first=number)), PATIENCE_S)
        results.until(lambda all_: all_.spectra == 20)
        remote.ask("flight", reason="it looked odd")
        wait_until(lambda: list(tmp_path.glob("flight-*.h5")))
        assert remote.ask("status")["flight_alarms"] == 1
    with line() as (_, _, _, remote), pytest.raises(RemoteError, match="start the daemon with --flight"):
        remote.ask("flight")


def test_preview_shows_every_band_of_every_spectrum_and_the_latest_one() -> None:
    with line(bands=("low=850:950", "high=1300:1400")) as (source, daemon, results, remote):
        with Collected(preview_of(daemon).address, "preview") as preview:
            wait_until(lambda: preview_of(daemon).subscribers == 1)
            counts = spectra_of(400)
            source.publisher.open(a_start(block=10, spectra=410, scan=(41, 10)))
            for number in range(40):
                index = 10 * number + (10 if number >= 20 else 0)  # ten are lost in the middle
                frame = a_frame(number, counts[10 * number : 10 * number + 10], index=index)
                assert source.publisher.send(frame, PATIENCE_S)
                if number == 30:
                    results.until(lambda all_: all_.spectra == 310)
                    remote.ask("bands", bands=[["new", 1000.0, 1100.0]])
            source.publisher.end(an_end(40, 400, announced=410, lost={"overload": 10}))
            results.ends()
            preview.ends()
        assert remote.ask("bands") == {"bands": [["new", 1000.0, 1100.0]]}
    raman = results.raman()
    shown = np.concatenate([np.arange(f.index, f.index + len(f.block)) for f in preview.frames])
    assert np.array_equal(results.index, shown)
    inside = (AXIS >= 850) & (AXIS <= 950)
    first = np.concatenate([f.block for f in preview.frames if f.bands and len(f.bands) == 2])
    assert len(first) >= 310 and np.allclose(first[:, 0], raman[: len(first), inside].mean(axis=1), atol=1e-5)
    assert [band.name for band in preview.frames[-1].bands or ()] == ["new"]
    last = preview.frames[-1]
    assert np.array_equal(last.arrays["latest_raman"], raman[-1])
    assert np.array_equal(last.arrays["latest_counts"], counts[-1])
    assert preview.starts[0].scan == (41, 10) and preview.closed[0].end.spectra == 400


@pytest.mark.parametrize("pixels", [4097, 65_536])
def test_run_of_many_pixels_has_a_preview(pixels: int) -> None:
    axis = np.linspace(400, 900, pixels)
    with (
        line(engine="passthrough") as (source, daemon, results, _),
        Collected(preview_of(daemon).address, "preview") as preview,
    ):
        wait_until(lambda: preview_of(daemon).subscribers == 1)
        source.publisher.open(a_start(axis=axis, block=2))
        for number in range(3):
            counts = spectra_of(2, axis, 2 * number)
            assert source.publisher.send(a_frame(number, counts), PATIENCE_S)
        source.publisher.end(an_end(3, 6))
        # It compiles for a minute where other programs are busy.
        assert results.until(lambda all_: all_.closed, 4 * PATIENCE_S).spectra == 6
        assert preview.ends().spectra == 6
    assert preview.starts[0].pixels == pixels and preview.frames[-1].arrays["latest_raman"].size == pixels


def test_preview_that_nobody_reads_does_not_slow_the_results(caplog: pytest.LogCaptureFixture) -> None:
    axis = np.linspace(600, 2400, 1500)
    counts = spectra_of(64, axis)
    with (
        line(engine="passthrough") as (source, daemon, results, _),
        zmq.Context() as context,
        context.socket(zmq.SUB) as deaf,
    ):
        preview_of(daemon).backlog.limit = 100_000  # bytes: four of its frames
        deaf.setsockopt(zmq.LINGER, 0)
        deaf.setsockopt(zmq.RCVHWM, 1)
        deaf.setsockopt(zmq.RCVBUF, 4096)
        deaf.subscribe(b"")
        deaf.connect(preview_of(daemon).address)
        wait_until(lambda: preview_of(daemon).subscribers == 1)
        source.publisher.open(a_start(axis=axis, block=64))
        frames = since_full = 0
        while since_full < 20:
            assert frames < 20_000, "the preview never waits for its reader"
            assert source.publisher.send(a_frame(frames, counts), PATIENCE_S)
            frames += 1
            results.until(lambda all_, wanted=frames: len(all_.frames) >= wanted)
            since_full += "subscribers are too slow of the preview stream" in caplog.text
        source.publisher.end(an_end(frames, frames * 64))
        results.ends()
    assert not results.closed[0].end.lost


def test_pause_reads_nothing_and_resume_loses_nothing() -> None:
    with line() as (source, daemon, results, remote):
        source.publisher.open(a_start())
        source.publisher.send(a_frame(0, spectra_of(1)))
        results.until(lambda all_: all_.spectra == 1)
        remote.ask("pause")
        for number in range(1, 50):
            source.publisher.send(a_frame(number, spectra_of(1)))
        source.publisher.end(an_end(50))
        assert remote.ask("status")["state"] == "paused"
        assert results.subscriber.receive(0.3) is None and daemon.parts.runs.taken.spectra == 1
        remote.ask("resume")
        results.ends()
    assert results.spectra == 50 and not results.closed[0].end.lost


def test_driver_knows_that_a_paused_daemon_has_not_stopped_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was left out after 10 s as one that had: what should have waited for it was lost."""
    monkeypatch.setattr("cars_rt.sockets.subscriber.SIGN_S", 0.01)
    axis = np.linspace(600, 2400, 4000)
    counts, frames = spectra_of(16, axis), 0
    with (
        Published(buffer_mb=20, stall_s=PATIENCE_S) as source,
        daemon_in_thread(source.address, engine="passthrough") as daemon,
        Collected(daemon.publisher.address) as results,
    ):
        source.wait()
        wait_until(lambda: daemon.publisher.subscribers)
        daemon.parts.paused = True
        publisher, outlet = source.publisher, source.publisher.outlet
        publisher.open(a_start(axis=axis, block=16))
        while publisher.send(a_frame(frames, counts)) or not outlet.full_since:
            frames += 1
        for _ in range(3):
            before = publisher.audience.sign_at
            wait_until(lambda before=before: publisher.serve() or publisher.audience.sign_at > before)
            assert publisher.blocked and (outlet.full_since or math.inf) >= publisher.audience.sign_at
        assert not publisher.stalls
        daemon.parts.paused = False
        publisher.end(an_end(frames, 16 * frames))
        assert publisher.flush(PATIENCE_S)
        results.ends()
    assert results.spectra == 16 * frames and not results.closed[0].end.lost


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\xc1", "the header is not msgpack"),
        (msgpack.packb({"request": "status"}), "not a CARS-RT message"),
        (msgpack.packb({"cars_rt": 2, "request": "status"}), "protocol version 2"),
        (msgpack.packb({"cars_rt": 1, "request": "dance"}), "no request is called 'dance'; there are status"),
        (msgpack.packb({"cars_rt": 1, "request": "reload", "model": 7}), "model must be text"),
        (
            msgpack.packb({"cars_rt": 1, "request": "reload", "modle": "cnn"}),
            "takes model, engine, and not 'modle'",
        ),
        (msgpack.packb({"cars_rt": 1, "request": "bands", "bands": 7}), "bands must be a list"),
        (msgpack.packb({"cars_rt": 1, "request": "bands", "bands": [1]}), "each of bands must be"),
        (msgpack.packb({"cars_rt": 1, "request": "bands", "bands": [["a", 2, 1]]}), "low and high"),
        (msgpack.packb({"cars_rt": 1, "request": "bands", "bands": [["a", False, True]]}), "two numbers"),
        (msgpack.packb({"cars_rt": 1, "request": "bands", "bands": [["a", 1, 2]] * 33}), "1 to 32 bands"),
        (msgpack.packb({"cars_rt": 1, "request": "bands", "bands": []}), "1 to 32 bands"),
        (
            msgpack.packb({"cars_rt": 1, "request": "bands", "bands": [["a", 1, 2], ["a", 3, 4]]}),
            "two bands are",
        ),
        (msgpack.packb({"cars_rt": 1, "request": "dark", "do": "jump"}), "dark knows start, stop and clear"),
        (b"", "the header is not msgpack"),
    ],
)
def test_bad_request_gets_one_sentence(body: bytes, said: str) -> None:
    with line(engine="passthrough") as (_, daemon, _, remote):
        if body.startswith(b"\x83"):  # as the others, but known to the daemon
            body = msgpack.packb(msgpack.unpackb(body) | {"token": tokens.find(control_of(daemon))})
        remote._socket.send(body)
        assert remote._socket.poll(int(PATIENCE_S * 1e3))
        assert said in msgpack.unpackb(remote._socket.recv())["error"]
        assert remote.ask("status")["ready"]


def test_ctl_as_a_user_calls_it() -> None:
    listen, publish, control = free_addresses(3)
    with Command("run", "--listen", listen, "--publish", publish, "--control", control) as daemon:
        daemon.wait_for("listening to")

        def ctl(*arguments: str) -> tuple[int, str, str]:
            return Command.ran("ctl", *arguments, "--address", control)

        code, out, _ = ctl("status", "--json")
        assert code == 0 and json.loads(out)["listen"] == listen
        code, out, said = ctl("status")
        assert code == 0 and "nobody there" in out and "latency" not in out and "each run's own" in out
        assert not said and out.startswith("state     ") and "\nrealtime " in out
        assert ctl("bands", "CH=2800:3050") == (0, "CH: 2800 to 3050 cm-1\n", "")
        code, out, said = ctl("bands", "CH=2800")
        assert code == 1 and not out and "a band is NAME=LOW:HIGH" in said
        code, out, said = ctl("reload", "cnn")
        assert code == 0 and "took over" in out and not said
        code, out, said = ctl("reload", "nonsense")
        assert code == 1 and not out and "no model is called 'nonsense'" in said
        code, out, said = ctl("stop")
        assert code == 0 and "it finishes what it received" in out and not said and daemon.end() == 0
    assert "Traceback" not in daemon.said and "stopping, as `cars-rt ctl stop` asked" in daemon.said


def test_nobody_there_is_said_soon() -> None:
    (address,) = free_addresses(1)
    with Remote(address) as remote, pytest.raises(RemoteError, match="no daemon answered"):
        remote.ask("status", timeout_s=0.3)


def test_port_of_something_else_is_no_daemon_that_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cars_rt.remote.ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with Remote(address) as remote:
            connection, _ = other.accept()
            connection.sendall(b"HTTP/1.1 400")  # to ZeroMQ one of its first versions, which shook no hands
            wait_until(lambda: remote._socket.poll(0, zmq.POLLOUT))
            with connection, pytest.raises(RemoteError, match="no daemon answered at"):
                remote.ask("status")


def test_who_asks_for_a_change_waits_as_long_as_the_daemon_may_take_and_not_where_none_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert asking.CHANGE_S > READ_S + COMPILE_S and asking.BUSY_S > READ_S
    monkeypatch.setattr("cars_rt.remote.ANSWER_S", 0.1)
    (address,) = free_addresses(1)
    with Remote(address) as remote, pytest.raises(RemoteError, match="no daemon answered at"):
        remote.ask("reload")


def test_one_that_is_there_and_busy_gets_more_time_and_another_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cars_rt.remote.ANSWER_S", 0.0)
    monkeypatch.setattr("cars_rt.remote.BUSY_S", 0.5)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as busy:
        busy.setsockopt(zmq.LINGER, 0)
        port = busy.bind_to_random_port("tcp://127.0.0.1")
        with Remote(f"tcp://127.0.0.1:{port}") as remote:
            wait_until(lambda: remote._look() or remote._met)
            with pytest.raises(
                RemoteError, match=r"is there, but has not answered within 0\.5 s: it or the comp"
            ):
                remote.ask("status")


def test_port_of_control_in_use_says_so() -> None:
    from cars_rt.daemon.settings import DaemonSettings
    from cars_rt.sockets import StreamError

    with Published() as taken, pytest.raises(StreamError, match="another program already uses it"):
        Daemon(DaemonSettings(publish=LOCAL, preview=LOCAL, control=taken.address))


def test_control_and_preview_are_behind_keys_of_their_own(tmp_path: Path) -> None:
    for name in ("server", "viewer", "operator"):
        keys.create(name, tmp_path)

    def client(name: str) -> ClientKeys:
        return ClientKeys.load(tmp_path / f"{name}.key", tmp_path / "server.pub")

    access = DaemonAccess(
        key=tmp_path / "server.key",
        allow=(tmp_path / "viewer.pub",),
        control_allow=(tmp_path / "operator.pub",),
    )
    with Published() as source, daemon_in_thread(source.address, access=access) as daemon:
        address, shown = control_of(daemon), preview_of(daemon).address
        with Remote(address, client("operator")) as remote:
            wait_until(lambda: remote.ask("status")["ready"])
        for keys_of, said in ((client("viewer"), "refused our key viewer"), (None, "expects keys")):
            with Remote(address, keys_of) as remote, pytest.raises(RemoteError, match=said):
                remote.ask("status", timeout_s=2.0)
        with (
            Subscriber(daemon.publisher.address, "raman", security=client("viewer")) as results,
            Subscriber(shown, "preview", security=client("viewer")) as preview,
            Subscriber(shown, "preview", security=client("operator")) as stranger,
        ):
            source.wait()
            wait_until(lambda: daemon.publisher.subscribers == 1)
            wait_until(lambda: preview_of(daemon).subscribers == 1)
            source.run("run-1", spectra_of(20))
            assert results.receive(PATIENCE_S) and preview.receive(PATIENCE_S)
            assert stranger.receive(0.3) is None
        wait_until(lambda: plain(daemon.snapshot())["refused"] >= 3)


def test_a_shadow_of_no_batch_is_refused() -> None:
    with line() as (_, _, _, remote), pytest.raises(RemoteError, match=r"which is 1 or more, not 0"):
        remote.ask("shadow", model="cnn", every=0)


def test_bands_outside_the_axis_are_told() -> None:
    with line() as (source, _, results, remote):
        source.publisher.open(a_start())
        assert source.publisher.send(a_frame(0, spectra_of(1)))
        results.until(lambda all_: all_.spectra == 1)
        answer = remote.ask("bands", bands=[["in", 1000.0, 1100.0], ["out", 5000.0, 6000.0]])
        assert answer == {"bands": [["in", 1000.0, 1100.0]], "outside": [["out", 5000.0, 6000.0]]}


@pytest.mark.parametrize("requests", [120, 500])
def test_answers_wait_for_who_asks_much_before_reading_and_not_without_end(
    requests: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand of them were kept for each connection, for good; then 16, and others were lost."""
    control = Control(LOCAL, REQUESTS, "daemon", token=tmp_path / "token")
    with closing(control), zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.setsockopt(zmq.RCVHWM, 1)
        peer.setsockopt(zmq.RCVBUF, 4096)
        peer.connect(control.address)
        body = encode_request(Request("status", {}, tokens.read(tmp_path / "token")))
        for _ in range(requests):
            peer.send_multipart([b"", body])
        strangers = 20
        for _ in range(strangers):
            peer.send_multipart([b"", encode_request(Request("status", {}, "another"))])
        asked, answers = list[int](), list[Reply]()

        def perform(request: Request, answer: Answer) -> dict[str, Any]:
            asked.append(len(asked))
            return {"number": asked[-1], "text": "a" * (MAX_HEADER_BYTES - 100)}

        def all_asked() -> bool:
            control.serve(perform, str)
            return control.refused == strangers

        wait_until(all_asked)
        assert len(asked) == requests and control.due_s < 1
        while peer.poll(200):
            answers.append(decode_reply(peer.recv_multipart()[-1]))
            control.serve(perform, str)
        assert control.due_s == math.inf
    numbers = [answer.result["number"] for answer in answers if answer.error is None]
    assert numbers == sorted(set(numbers)) and len(numbers) == len(answers)  # none to strangers
    assert (len(answers) == requests) == (requests == 120) == ("an answer is dropped" not in caplog.text)
    assert len(answers) * MAX_HEADER_BYTES < 2 * MOST_BYTES
