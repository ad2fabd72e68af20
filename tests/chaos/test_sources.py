"""Drivers and daemons that come, go and come again, and runs without a beginning or an end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chaos import programs
from chaos.files import kept
from chaos.judge import came_out, disagreements, judge
from chaos.proxy import FaultyProxy
from chaos.wire import Tap


def fate_of(announced: int, index: Any, cause: str = "missing") -> Any:
    """Per spectrum: "" for those in index, the cause for the others."""
    fate = np.full(announced, cause, dtype="U16")
    fate[index] = ""
    return fate


def test_two_drivers_in_turn_on_one_address(tmp_path: Path) -> None:
    raw, raman = programs.addresses(2)
    totals, truth = tmp_path / "totals.json", tmp_path / "truth.jsonl"
    with Tap(raman, "raman") as results, programs.daemon(raw, raman, totals) as daemon:
        for number in range(3):
            with programs.camera(raw, truth, spectra=1000, first=number) as camera:
                assert camera.end() == 0, camera.said
                results.ends(number + 1)
        receipts = programs.totals_of(daemon, totals)
    assert [each["run"] for each in receipts] == [each["run"] for each in programs.truth_of(truth)]
    for receipt in receipts:
        out = came_out([seen for seen in results.messages if seen.run == receipt["run"]])
        assert len(out) == 1000 and receipt["reason"] == "complete"
        assert not disagreements(receipt, fate_of(1000, out), {})


@pytest.mark.parametrize("restarted", [True, False])
def test_driver_killed_in_the_middle(restarted: bool, tmp_path: Path) -> None:
    """The run is closed by the next one's start, or when nobody came back for some seconds."""
    raw, raman = programs.addresses(2)
    totals, truth = tmp_path / "totals.json", tmp_path / "truth.jsonl"
    with Tap(raman, "raman") as results, programs.daemon(raw, raman, totals) as daemon:
        with programs.camera(raw, truth, spectra=100_000, rate=4000) as camera:
            results.until(lambda tap: tap.spectra > 700)
            camera.process.kill()
            camera.end()
        if restarted:
            with programs.camera(raw, truth, spectra=1000, first=1) as camera:
                results.ends(2)
        else:
            results.ends(1)
        receipt, *others = programs.totals_of(daemon, totals)
    out = came_out([seen for seen in results.messages if seen.run == receipt["run"]])
    assert len(out) > 700 and receipt["reason"] == "interrupted"
    assert not disagreements(
        receipt, fate_of(int(out[-1]) + 1, out), {"second start": 1} if restarted else {}
    )
    assert not disagreements(results.of("end")[0].header, fate_of(int(out[-1]) + 1, out))
    assert [(each["sent"], each["lost"]) for each in others] == [(1000, {})] * restarted


def test_daemon_that_joins_late_names_what_it_missed(tmp_path: Path) -> None:
    raw, raman = programs.addresses(2)
    totals, truth, gate = tmp_path / "totals.json", tmp_path / "truth.jsonl", tmp_path / "gate"
    with (
        Tap(raw, "raw") as counts,
        Tap(raman, "raman") as results,
        programs.camera(raw, truth, spectra=8000, rate=4000, gate=gate, gate_at=2000) as camera,
    ):
        counts.until(lambda tap: tap.spectra > 1000)
        with programs.daemon(raw, raman, totals) as daemon:
            gate.write_text("2")
            results.ends()
            assert camera.end() == 0, camera.said
            (receipt,) = programs.totals_of(daemon, totals)
    out = came_out(results.messages)
    again = [seen.header.get("index", 0) for seen in counts.of("start")]
    assert again[0] == 0 and again[-1] == out[0] > 1000  # it was told where it joined
    assert not disagreements(receipt, fate_of(8000, out), {"joined late": 1})
    assert not disagreements(results.of("end")[0].header, fate_of(8000, out))


def test_subscriber_that_comes_late_is_told_where(tmp_path: Path) -> None:
    raw, raman = programs.addresses(2)
    totals, truth, gate = tmp_path / "totals.json", tmp_path / "truth.jsonl", tmp_path / "gate"
    with (
        Tap(raman, "raman") as results,
        programs.daemon(raw, raman, totals) as daemon,
        programs.camera(raw, truth, spectra=4000, rate=4000, gate=gate, gate_at=2000) as camera,
    ):
        results.until(lambda tap: tap.spectra > 1000)
        with Tap(raman, "raman") as late:
            late.until(lambda tap: tap.of("start"))
            gate.write_text("1")
            late.ends()
        results.ends()
        assert camera.end() == 0, camera.said
        (receipt,) = programs.totals_of(daemon, totals)
    first, second = late.messages[:2]
    out = came_out(late.messages)
    assert first.kind == "start" and first.header["index"] == second.index == out[0] > 1000
    assert first.header["sequence"] == second.header["sequence"]
    assert out.tolist() == list(range(out[0], 4000))
    assert not disagreements(receipt, fate_of(4000, came_out(results.messages)), {})


def test_daemon_restarted_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """The recorder, there all the time, keeps what both daemons sent, and names the gap: in one file, or in
    two where the second daemon was not there before the first one counted as vanished."""
    raw, raman = programs.addresses(2)
    totals, truth, gate = tmp_path / "totals.json", tmp_path / "truth.jsonl", tmp_path / "gate"
    files = tmp_path / "files"
    files.mkdir()
    with (
        Tap(raw, "raw") as counts,
        Tap(raman, "raman") as results,
        programs.recorder(files, raw, raman) as recorder,
    ):
        with (
            programs.daemon(raw, raman, totals, subscribers=2) as daemon,
            programs.camera(
                raw, truth, spectra=12_000, rate=4000, subscribers=3, gate=gate, gate_at=(4000, 6000)
            ) as camera,
        ):
            results.until(lambda tap: tap.spectra > 2000)
            daemon.process.kill()
            daemon.end()
            gate.write_text("2")  # the daemon is missed
            counts.until(lambda tap: tap.spectra == 6000)
            with programs.daemon(raw, raman, totals, subscribers=2) as daemon:
                daemon.wait_for("ready for the driver")
                gate.write_text("2 3")
                results.ends()
                assert camera.end() == 0, camera.said
                (receipt,) = programs.totals_of(daemon, totals)
        recorder.wait_for("incomplete")
        recorder.process.terminate()
        assert recorder.end() == 3, recorder.said
    out = came_out(results.messages)
    (gap,) = np.flatnonzero(np.diff(out) != 1)
    before, after = out[: gap + 1], out[gap + 1 :]
    assert len(before) > 2000 and after[-1] == 11_999
    assert not disagreements(receipt, fate_of(12_000, after), {"joined late": 1})
    first, *more = [kept(path) for path in sorted(files.glob("*.h5"), key=lambda path: len(path.name))]
    assert first.parts["raw"].index.tolist() == list(range(12_000)) and len(more) <= 1
    parts = [file.parts["raman"] for file in (first, *more)]
    for part in parts:
        assert part.genuine and part.receipt is not None
        until = part.index[-1] + 1 if part.receipt["reason"] == "interrupted" else 12_000
        if part is parts[0]:
            assert not disagreements(part.receipt, fate_of(until, part.index))
        # What the second daemon did not get, and the second file neither, its end calls lost before it.
        assert sum(part.receipt["lost"].values()) == until - len(part.index)
    recorded = np.concatenate([part.index for part in parts])
    assert np.isin(after, recorded).all(), "the recorder took new results for repeats"


@pytest.mark.parametrize("long", [False, True])
def test_connection_broken_in_the_middle_of_a_run(long: bool, tmp_path: Path) -> None:
    """After a short break the run goes on with a gap; after a long one it is met as a run joined late."""
    raw, raman, between = programs.addresses(3)
    totals, truth, gate = tmp_path / "totals.json", tmp_path / "truth.jsonl", tmp_path / "gate"
    spectra = 8000
    with (
        Tap(raw, "raw") as counts,
        Tap(raman, "raman") as results,
        programs.daemon(between, raman, totals) as daemon,
        programs.camera(
            raw, truth, spectra=spectra, rate=4000, subscribers=2, gate=gate, gate_at=(2000, 4000)
        ) as camera,
    ):
        with FaultyProxy(raw, address=between):
            results.until(lambda tap: tap.spectra > 1000)
        gate.write_text("1")  # the daemon is missed
        counts.until(lambda tap: tap.spectra == 4000)
        if long:
            daemon.wait_for("vanished in mid-run")
        with FaultyProxy(raw, address=between):
            gate.write_text("1 2")
            results.ends(2 if long else 1)
            assert camera.end() == 0, camera.said
            receipts = programs.totals_of(daemon, totals)
    out = came_out(results.messages)
    (gap,) = np.flatnonzero(np.diff(out) != 1)
    before, after = out[: gap + 1], out[gap + 1 :]
    assert len(before) > 1000 and after[-1] == spectra - 1
    if long:
        fates = [fate_of(int(before[-1]) + 1, before), fate_of(spectra, after)]
        reasons = ["interrupted", "complete"]
    else:
        fates, reasons = [fate_of(spectra, out)], ["complete"]
    assert [each["reason"] for each in receipts] == reasons
    for receipt, end, fate in zip(receipts, results.of("end"), fates, strict=True):
        assert not disagreements(receipt, fate)
        assert not disagreements(end.header, fate)


@pytest.mark.parametrize("lost", ["start", "end"])
def test_run_whose_start_or_end_was_lost(lost: str, tmp_path: Path) -> None:
    raw, raman = programs.addresses(2)
    totals, truth = tmp_path / "totals.json", tmp_path / "truth.jsonl"
    with (
        FaultyProxy(raw, alter=lambda kind, count: kind != lost or count != 2) as network,
        Tap(raman, "raman") as results,
        programs.daemon(network.address, raman, totals) as daemon,
        programs.camera(raw, truth, runs=3, spectra=1000) as camera,
    ):
        assert camera.end() == 0, camera.said
        results.ends(2 if lost == "start" else 3)
        receipts = programs.totals_of(daemon, totals)
    first, second, third = (each["run"] for each in programs.truth_of(truth))
    assert [each["run"] for each in receipts] == (
        [first, third] if lost == "start" else [first, second, third]
    )
    for receipt in receipts:
        true = judge(receipt["run"], network.passed)
        assert true.announced == 1000
        assert not disagreements(receipt, true.fate, true.problems)
    reasons = [each["reason"] for each in receipts]
    assert reasons == ["complete"] * 2 if lost == "start" else ["complete", "interrupted", "complete"]
