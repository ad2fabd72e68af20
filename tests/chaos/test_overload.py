"""Stages that are too slow, subscribers that stop reading, engines that fail: what is lost has its cause.

Frames are large, so that the buffers of the system hold few of them, and of few spectra.
"""

import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chaos import programs
from chaos.judge import came_out, disagreements
from chaos.wire import Tap

LARGE: dict[str, Any] = {"pixels": 4000, "block": 4}
SPECTRA = 8000


@cache
def flags_of(command: str) -> str:
    """What its help says, as one line."""
    shown = subprocess.run(
        [sys.executable, "-m", "cars_rt", *command.split(), "--help"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    return re.sub(r"[\s│]+", " ", shown)


def needs(command: str, flag: str, choice: str = "") -> None:
    """Skip where this version does not have the flag, or the choice, yet."""
    text = flags_of(command)
    choices = re.search(rf"{flag} .*?\[choices: (.*?)\]", text)
    if f"{flag} " not in text or (choice and (choices is None or choice not in choices[1].split(", "))):
        pytest.skip(f"`cars-rt {command}` has no {flag} {choice}".rstrip())


@pytest.mark.parametrize("policy", ["block", "drop-oldest", "drop-newest"])
def test_a_daemon_twice_too_slow_makes_the_driver_lose_what_the_policy_says(
    policy: str, tmp_path: Path
) -> None:
    needs("drive simulator", "--overload", policy)
    raw, raman = programs.addresses(2)
    totals, truth = tmp_path / "totals.json", tmp_path / "truth.jsonl"
    with (
        Tap(raw, "raw") as counts,
        Tap(raman, "raman") as results,
        programs.slow_daemon(raw, raman, totals, ms=0.5) as daemon,
        programs.camera(
            raw, truth, spectra=SPECTRA, rate=4000, subscribers=2, overload=policy, buffer_mb=1, **LARGE
        ) as camera,
    ):
        results.ends()
        assert camera.end() == 0, camera.said
        (receipt,) = programs.totals_of(daemon, totals)
        (driver,) = programs.truth_of(truth)
        sent, out = came_out(counts.messages), came_out(results.messages)
    assert driver["yielded"] == driver["produced"] == SPECTRA
    assert (len(sent) < SPECTRA) == (policy != "block")
    fate = np.full(SPECTRA, "overload", dtype="U16")
    fate[sent] = ""
    said = {"announced": SPECTRA, "sent": driver["sent"], "lost": driver["lost"], "ranges": driver["ranges"]}
    assert not disagreements(said, fate)
    assert not disagreements(counts.of("end")[0].header, fate)
    # The daemon had enough time for what it got: all of it came out, and the rest was lost before.
    assert out.tolist() == sent.tolist()
    fate[fate != ""] = "upstream"
    assert not disagreements(receipt, fate)
    assert not disagreements(results.of("end")[0].header, fate)


def test_a_subscriber_that_stops_reading_holds_up_a_stream_that_blocks_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    raw, raman = programs.addresses(2)
    totals, truth = tmp_path / "totals.json", tmp_path / "truth.jsonl"
    with (
        Tap(raman, "raman") as quick,
        Tap(raman, "raman", reading=False) as stuck,
        programs.daemon(raw, raman, totals, subscribers=2, buffer_mb=1) as daemon,
        programs.camera(raw, truth, spectra=SPECTRA, buffer_mb=1, **LARGE) as camera,
    ):
        quick.until(lambda tap: tap.spectra > 0)
        came, quiet = 0, time.monotonic()
        while time.monotonic() - quiet < 1:  # until nothing moves any more
            if quick.spectra > came:
                came, quiet = quick.spectra, time.monotonic()
            time.sleep(0.01)
        assert came < SPECTRA and camera.process.poll() is None
        stuck.read()
        quick.ends()
        stuck.ends()
        assert camera.end() == 0, camera.said
        (receipt,) = programs.totals_of(daemon, totals)
    fate = np.zeros(SPECTRA, dtype="U16")
    for tap in (quick, stuck):
        assert came_out(tap.messages).tolist() == list(range(SPECTRA))
        assert not disagreements(tap.of("end")[0].header, fate)
    assert not disagreements(receipt, fate)


@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest", "block and stall"])
def test_a_subscriber_that_stops_reading_costs_what_the_receipt_says(policy: str, tmp_path: Path) -> None:
    flags: dict[str, Any] = {"overload": policy}
    if policy == "block and stall":
        needs("run", "--stall-s")
        flags = {"overload": "block", "stall_s": 2}
    else:
        needs("run", "--overload", policy)
    raw, raman = programs.addresses(2)
    totals, truth = tmp_path / "totals.json", tmp_path / "truth.jsonl"
    with (
        Tap(raman, "raman") as quick,
        Tap(raman, "raman", reading=False) as stuck,
        programs.daemon(raw, raman, totals, subscribers=2, buffer_mb=1, **flags) as daemon,
        programs.camera(raw, truth, spectra=SPECTRA, rate=4000, buffer_mb=1, **LARGE) as camera,
    ):
        quick.ends()
        assert camera.end() == 0, camera.said
        assert not stuck.messages
        stuck.read()  # so that the daemon can end at once
        (receipt,) = programs.totals_of(daemon, totals)
        out = came_out(quick.messages)
    fate = np.full(SPECTRA, "output", dtype="U16")
    fate[out] = ""
    if policy == "block and stall":
        assert len(out) == SPECTRA
    assert not disagreements(receipt, fate)
    assert not disagreements(quick.of("end")[0].header, fate)


@pytest.mark.parametrize("fails", ["0", "1500", "700,710,1400,2999"])
def test_a_batch_that_the_engine_fails_on_is_named(fails: str, tmp_path: Path) -> None:
    raw, raman = programs.addresses(2)
    totals, truth = tmp_path / "totals.json", tmp_path / "truth.jsonl"
    with (
        Tap(raman, "raman") as results,
        programs.slow_daemon(raw, raman, totals, ms=0.2, fails=fails) as daemon,
        programs.camera(raw, truth, spectra=3000, rate=6000) as camera,
    ):
        results.ends()
        assert camera.end() == 0, camera.said
        (receipt,) = programs.totals_of(daemon, totals)
    out = came_out(results.messages)
    fate = np.full(3000, "engine", dtype="U16")
    fate[out] = ""
    assert 0 < len(out) < 3000 and not np.isin(list(map(int, fails.split(","))), out).any()
    assert not disagreements(receipt, fate)
    assert not disagreements(results.of("end")[0].header, fate)
