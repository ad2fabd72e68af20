"""A source's clock that is behind or ahead, told from messages that really took so long."""

import logging

import numpy as np
import pytest
from helpers import Collected, Published, a_frame, a_start, an_end, daemon_in_thread, spectra_of, wait_until

from cars_rt.clock import SourceClock
from cars_rt.daemon import intake

HOUR = 3600 * 10**9
S = 10**9


def clock(
    ages: list[float], *, start: float | None = None, prompt: bool = True, every_s: float = 0.01
) -> SourceClock:
    """Ages in s of frames that came at this distance."""
    seen = SourceClock()
    if start is not None:
        seen.start(int(start * S), True)
    for number, age in enumerate(ages):
        received = 10 * HOUR + int(number * every_s * S)
        seen.frame(received - int(age * S), received, prompt)
    return seen


def test_a_lag_is_there_from_the_first_message_on() -> None:
    assert clock([3600.001, 3600.2, 3600.1], start=3600).lag_ns == 3600 * S
    assert clock([3600.1, 3600.2]).lag_ns == 3600.1 * S  # joined late
    assert clock([3601, 3602], start=3600, prompt=False).lag_ns == 3600 * S  # while an engine is compiled
    assert clock([], start=3600).lag_ns == 0  # not known yet
    assert clock([50 * 3600], prompt=False).lag_ns == 50 * HOUR  # ns that are none: nothing waits for days


@pytest.mark.parametrize(
    "real",
    [
        clock([0.001, 0.5, 5, 60], start=0.001, every_s=100),  # overload
        clock([60, 59, 58, 57], start=0.001, prompt=False),  # a long compilation
        clock([60, 59, 58, 57], start=1000, prompt=False),  # and the start was said again by a plain PUB
        clock([60, 59, 58, 57], prompt=False),  # nobody can tell
        clock([600, 300, 0.01]),  # held up in the source at first
        clock([0.9, 0.95], start=0.9),
        clock([-5, 3600]),
    ],
)
def test_a_real_delay_is_none(real: SourceClock) -> None:
    assert real.lag_ns == 0


def test_what_it_showed_is_told_from_the_quickest_message() -> None:
    assert clock([], start=5).at(0) is None and clock([5, 3, 4]).at(9 * S) == 6 * S
    assert clock([0, 10], every_s=10).at(9 * S) is None  # it stands still
    assert clock([50 * 3600] * 2).at(9 * S) is None
    slow = clock([5 + 1e-5 * second for second in range(0, 6 * 3600, 60)], every_s=60)
    assert 0 <= 10 * HOUR + 6 * HOUR - 5.215 * S - slow.at(16 * HOUR) < 0.01 * S
    assert clock([-5.0, -4]).at(9 * S) == 14 * S  # ahead


def test_a_clock_that_is_set_back_lags_from_then_on() -> None:
    seen = clock([0.001] * 10 + [3600.0])
    assert seen.lag_ns == 0
    assert clock([0.001] * 10 + [3600.0, 3600.0]).lag_ns == 3600 * S
    assert clock([0.001] * 10 + [3600.0, 0.001, 3600.0, 0.001]).lag_ns == 0  # no clock does that


@pytest.mark.parametrize(("behind_s", "frames"), [(3600, 40), (30, 40), (3600, 3), (0, 40)])
def test_a_clock_that_lags_is_said_once_and_no_latency(
    behind_s: int, frames: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(intake, "LAG_NS", 300 * S)  # prompt, even where other work holds the loop up
    with (
        Published() as source,
        daemon_in_thread(source.address, engine="passthrough") as daemon,
        Collected(daemon.publisher.address) as results,
    ):
        import time

        source.wait()
        wait_until(lambda: daemon.publisher.subscribers == 1)
        for run in ("run-1", "run-2"):

            def stamp() -> int:
                return time.time_ns() - behind_s * S

            source.publisher.open(a_start(run, time_ns=stamp()))
            for number in range(frames):
                source.publisher.send(a_frame(number, spectra_of(1), run, time_ns=stamp()))
            source.publisher.end(an_end(frames, run=run))
            results.ends(int(run[-1]))
    expected = {"clock": 1} if behind_s else {}
    assert [receipt.problems for receipt in daemon.receipts] == [expected, expected]
    assert caplog.text.count("behind our clock") == 2 * bool(behind_s)
    total = daemon.parts.results.latencies["total"]
    assert total.count == (0 if behind_s else 2 * frames)
    assert np.isnan(total.percentile(50)) or total.percentile(50) < 20_000
