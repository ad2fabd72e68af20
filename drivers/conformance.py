"""Whether a driver keeps its promises: each trial makes real runs, through real sockets, and judges them.

cars-rt drive NAME --conform            # with the instrument, or its stand-in
@pytest.mark.parametrize("trial", TRIALS)
def test_my_driver(trial): attempt(trial, Subject(make=partial(MyCamera, settings))).check()
"""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from cars_rt.accounting import Cause
from cars_rt.drivers.apart import placed
from cars_rt.drivers.base import InstrumentError, Waiting
from cars_rt.drivers.feed import Feed
from cars_rt.drivers.threaded import Make
from cars_rt.drivers.trial import (
    STOPS_S,
    FailedError,
    Subject,
    adds_up,
    driven,
    good,
    judge,
    lost,
    one_sentence,
    raise_error,
    stopped_soon,
)
from cars_rt.errors import CarsRtError
from cars_rt.protocol import Reason
from cars_rt.sockets import Overload

__all__ = ["TRIALS", "Subject", "Verdict", "attempt", "conform", "subject_of"]

APART_S = 1.0  # between a stamp and the clock of this computer, at most, before a run and after
SMALL_MB = 0.01  # a buffer that a slow subscriber fills

Outcome: TypeAlias = Literal["passed", "failed", "not tried"]


@dataclass(frozen=True)
class Verdict:
    """What a trial found, in a sentence."""

    trial: str
    outcome: Outcome
    said: str

    def check(self) -> None:
        """Raise AssertionError if it failed."""
        if self.outcome == "failed":
            raise AssertionError(f"{self.trial}: {self.said}")


class _NotTriedError(Exception):
    """The trial needs what its author did not give, or more spectra."""


def attempt(trial: str, subject: Subject) -> Verdict:
    """One trial of TRIALS. Never raises for what a driver does wrong."""
    before = _at_work()
    try:
        said = TRIALS[trial](subject)
        if left := _at_work() - before:
            raise FailedError(
                f"after close, {len(left)} of the instrument's threads or processes are still at work"
            )
    except _NotTriedError as reason:
        return Verdict(trial, "not tried", str(reason))
    except FailedError as reason:
        return Verdict(trial, "failed", str(reason))
    except Exception as error:
        return Verdict(trial, "failed", f"{type(error).__name__}: {error}")
    return Verdict(trial, "passed", said)


def _at_work() -> set[Any]:
    """Threads and processes of instruments."""
    everything: list[Any] = [*multiprocessing.active_children(), *threading.enumerate()]
    return {each for each in everything if each.name == "instrument"}


def subject_of(make: Make) -> Subject:
    """As far as its class says what only its author knows. Raises TypeError for what is no part of it."""
    made: Any = getattr(make, "func", make)
    return Subject(make=make, **made.conformance(make))


def conform(subject: Subject) -> Iterator[Verdict]:
    """All trials, one after the other."""
    for trial in TRIALS:
        yield attempt(trial, subject)


# -- trials -----------------------------------------------------------------------------------------------


def _description(subject: Subject) -> str:
    """It says the same of itself twice, and what it says can be published."""
    said = []
    for _ in range(2):
        with closing(placed(subject.make)) as instrument:
            said.append(Feed(instrument.acquisition()).published)
    one, other = said
    for name in ("source", "dtype", "block", "spectra", "scan", "exposure_s"):
        if getattr(one, name) != getattr(other, name):
            raise FailedError(f"{name} is {getattr(one, name)} and then {getattr(other, name)}")
    if not np.array_equal(one.raman_shift, other.raman_shift):
        raise FailedError("raman_shift is another one when it is opened again")
    return f"{one.source}: {len(one.raman_shift)} pixels of {one.dtype}, up to {one.block} spectra at once"


def _run(subject: Subject) -> str:
    """A run arrives as it was announced, and all numbers add up."""
    made = good(subject)
    return f"{made.totals[0].sent} spectra, lost: {lost(made)}"


def _truth(subject: Subject) -> str:
    """Every count is what it should be, at the place where it belongs."""
    if subject.truth is None:
        raise _NotTriedError("nobody says what the counts should be")
    made = good(subject)
    for frame in made.frames:
        index = frame.index + np.arange(len(frame.counts))
        wanted = subject.truth(index)
        if not np.array_equal(frame.counts, wanted):
            wrong = int(index[np.flatnonzero((frame.counts != wanted).any(axis=1))[0]])
            raise FailedError(f"spectrum {wrong} has other counts than it should have")
    return f"{sum(len(frame.counts) for frame in made.frames)} spectra, right to the last count"


def _rate(subject: Subject) -> str:
    """It goes on at the rate that it should."""
    made = good(subject)
    if len(made.arrived) < 3:
        raise _NotTriedError("there were too few frames to tell a rate")
    (begin, first), (end, _) = made.arrived[0], made.arrived[-1]
    rate = (sum(spectra for _, spectra in made.arrived) - first) / max(end - begin, 1e-6)
    if subject.rate is not None and rate < 0.9 * subject.rate:
        raise FailedError(f"{rate:.0f} spectra/s came, and {subject.rate:g} should")
    return f"{rate:.0f} spectra/s"


def _clock(subject: Subject) -> str:
    """Time stamps do not go back, and are those of this computer's clock."""
    before = time.time_ns()
    made = good(subject)
    stamps = np.array([frame.time_ns for frame in made.frames])
    if (np.diff(stamps) < 0).any():
        raise FailedError("time stamps of frames go back")
    begun = made.starts[0].time_ns
    if len(stamps) and stamps[0] < begun - APART_S * 1e9:
        raise FailedError(f"the first frame is {(begun - stamps[0]) / 1e9:.1f} s older than its run")
    if made.about is not None and made.about.time_ns is not None:
        return "of another time, as the run says itself"
    early, late = (before - stamps.min()) / 1e9, (stamps.max() - time.time_ns()) / 1e9
    if max(early, late) > APART_S:
        raise FailedError(f"time stamps are {max(early, late):.1f} s away from this computer's clock")
    return "in order, within a second of this computer's clock"


def _stop(subject: Subject) -> str:
    """A run that is stopped ends soon, whenever that is, and says so."""
    took = []
    for after in (0, 1, subject.spectra // 2):
        made = driven(subject, stop_after=after)
        raise_error(made)
        took.append(stopped_soon(made, f"after {after} spectra"))
    made = driven(subject, stop_after=1, buffer_mb=SMALL_MB, reads=False, stall_s=2.0)
    raise_error(made)
    took.append(stopped_soon(made, "while a subscriber does not read"))
    return f"ended within {max(took):.1f} s"


def _two_runs(subject: Subject) -> str:
    """A second run begins anew."""
    made = driven(subject, runs=2)
    raise_error(made)
    if len(made.totals) != 2 or len(made.closed) != 2:
        raise FailedError(f"two runs were asked for, and {len(made.closed)} came")
    if made.starts[0].run == made.starts[1].run:
        raise FailedError("both runs have the same id")
    for start, closed, totals in zip(made.starts, made.closed, made.totals, strict=True):
        frames = [frame for frame in made.frames if frame.run == start.run]
        adds_up(frames, closed, totals)
        if not frames:
            raise FailedError("a run has no spectra")
    return f"{made.totals[0].sent} and {made.totals[1].sent} spectra"


def _restart(subject: Subject) -> str:
    """What was closed can be opened again, and closing without a run, or twice, harms nobody."""
    with closing(placed(subject.make)) as instrument:
        instrument.close()
    with closing(placed(subject.make)) as instrument:
        instrument.acquisition()
    return f"{good(subject).totals[0].sent} spectra after that"


def _slow_consumer(subject: Subject) -> str:
    """What a subscriber is too slow for is lost and counted, and nothing else."""
    policies: tuple[Overload, ...] = ("drop-newest", "drop-oldest")
    said = []
    for policy in policies:
        made = driven(subject, buffer_mb=SMALL_MB, overload=policy, reads="late")
        raise_error(made)
        judge(made)
        if Cause.OVERLOAD not in made.totals[0].lost:
            raise _NotTriedError(f"{made.totals[0].produced} spectra were too few to fill the buffers")
        said.append(lost(made))
    return f"lost: {' and '.join(said)}"


def _wrong_settings(subject: Subject) -> str:
    """Settings that cannot be are refused with a sentence."""
    if not subject.wrong:
        raise _NotTriedError("nobody says which settings cannot be")
    for name, make in subject.wrong.items():
        try:
            with closing(placed(make)) as instrument:
                Feed(instrument.acquisition())
                deadline, frames = time.monotonic() + STOPS_S, iter(instrument.frames())
                while isinstance(next(frames, None), Waiting) and time.monotonic() < deadline:
                    continue
        except CarsRtError as error:
            one_sentence(str(error), name)
        else:
            raise FailedError(f"{name} is not refused")
    return f"refused: {', '.join(subject.wrong)}"


def _unplugging(subject: Subject) -> str:
    """An instrument that goes away in mid-run ends the run as failed, with a sentence."""
    if subject.unplug is None:
        raise _NotTriedError("nobody says how to unplug it")
    made = driven(subject, forever=True, meanwhile=subject.unplug)
    if subject.replug:
        subject.replug()
    if not isinstance(made.error, InstrumentError):
        raise FailedError(
            f"it was unplugged, and the run ended with {made.error or made.closed[-1].end.reason}"
        )
    one_sentence(str(made.error), "unplugging")
    if not made.closed or made.closed[-1].end.reason is not Reason.FAILED:
        raise FailedError("it was unplugged, and its run did not end as failed")
    again = f"; {good(subject).totals[0].sent} spectra when it was back" if subject.replug else ""
    return f"{made.error}{again}"


def _gaps(subject: Subject) -> str:
    """Images that the instrument loses are counted, and those that follow are where they belong."""
    if subject.lose is None:
        raise _NotTriedError("nobody says how to make it lose images")
    made = driven(subject, meanwhile=subject.lose, until_lost=True)
    raise_error(made)
    judge(made)
    if not made.totals[0].lost:
        raise FailedError("images were lost, and nothing says so")
    for frame in made.frames:
        index = frame.index + np.arange(len(frame.counts))
        if subject.truth is not None and not np.array_equal(frame.counts, subject.truth(index)):
            raise FailedError(f"after a gap, spectrum {frame.index} is another one than it should be")
    return f"lost: {lost(made)}"


TRIALS: Mapping[str, Callable[[Subject], str]] = {
    "description": _description,
    "run": _run,
    "numbers": _truth,
    "rate": _rate,
    "clock": _clock,
    "stop": _stop,
    "two runs": _two_runs,
    "restart": _restart,
    "slow consumer": _slow_consumer,
    "wrong settings": _wrong_settings,
    "unplugging": _unplugging,
    "gaps": _gaps,
}
