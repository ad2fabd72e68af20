"""Runs that are made to try a driver, through real sockets, and what can be said of any of them."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import zmq
from numpy.typing import NDArray

from cars_rt.accounting import Cause, Problem
from cars_rt.drivers.apart import placed
from cars_rt.drivers.base import Acquisition, DriveSettings
from cars_rt.drivers.running import DriveTotals, drive_runs
from cars_rt.drivers.threaded import Make
from cars_rt.kinds import in_words
from cars_rt.protocol import Closed, Event, Frame, Reason, RunReader, Start
from cars_rt.sockets import Overload, Publisher, Subscriber

LOCAL = "tcp://127.0.0.1:*"
LATE_S = 2.0  # after which a slow subscriber reads at last
ARRIVES_S = 3.0  # within which what was sent is here, also on a busy computer
STOPS_S = 15.0  # within which a run ends that was stopped, beyond two exposures
LONGEST = 400  # characters of a sentence about an error
SMALL_BYTES = 8192  # of a connection's buffers, for a subscriber that does not read


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A driver that is tried. What only its author knows is optional: without it, that trial is not made."""

    make: Make  # the class, or a functools.partial of it with settings for a run that can be repeated
    spectra: int = 50  # that a trial takes; a run that is longer is stopped then
    truth: Callable[[NDArray[np.int64]], NDArray[Any]] | None = None  # indices (k,) to counts (k, p)
    wrong: Mapping[str, Make] = field(default_factory=dict)  # settings that are to be refused, by name
    unplug: Callable[[], object] | None = None  # pulls the plug in mid-run; called from another thread
    replug: Callable[[], object] | None = None
    lose: Callable[[], object] | None = None  # makes the instrument lose images in mid-run, likewise
    rate: float | None = None  # spectra per second that it has to reach
    limit_s: float = 60.0  # for one trial's run


class FailedError(Exception):
    """The driver does not do what it should."""


@dataclass
class Made:
    """What came of some runs."""

    totals: list[DriveTotals] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    arrived: list[tuple[float, int]] = field(default_factory=list)  # monotonic time, spectra, of each frame
    about: Acquisition | None = None
    error: BaseException | None = None
    stopped_at: float | None = None
    ended_at: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether the ends of all its runs have come, as far as there were runs."""
        failed = self.error is not None and not any(each.reason == Reason.FAILED for each in self.totals)
        runs = sum(totals.produced > 0 for totals in self.totals) + failed
        return len(self.closed) >= runs > 0

    @property
    def starts(self) -> list[Start]:
        return [each for each in self.events if isinstance(each, Start)]

    @property
    def frames(self) -> list[Frame]:
        return [each for each in self.events if isinstance(each, Frame)]

    @property
    def closed(self) -> list[Closed]:
        return [each for each in self.events if isinstance(each, Closed)]


def driven(
    subject: Subject,
    *,
    runs: int = 1,
    stop_after: int | None = None,
    forever: bool = False,
    meanwhile: Callable[[], object] | None = None,
    until_lost: bool = False,
    buffer_mb: float = 64.0,
    overload: Overload = "block",
    stall_s: float = 3600.0,
    reads: bool | Literal["late"] = True,
) -> Made:
    """Some runs of the instrument, each stopped after `stop_after` spectra, in a thread; what arrives.

    meanwhile: called when a third of the spectra has been measured. until_lost: so many spectra follow after
    something was lost: what an instrument has sent already comes before that. reads: whether the subscriber
    does; late: when something was lost for want of it, or LATE_S have passed, and so many spectra follow.
    """
    made, done, waiting = Made(), threading.Event(), reads == "late"
    enough = subject.spectra if stop_after is None else stop_after
    seen = 0  # of the run that is being made
    called = False

    def progress(about: Acquisition, totals: DriveTotals) -> None:
        nonlocal seen, called, enough, waiting
        made.about, seen = about, totals.produced
        if waiting and Cause.OVERLOAD in totals.lost:
            waiting, enough = False, seen + enough
        if meanwhile and not called and seen > enough // 3:
            called = True
            meanwhile()
        if until_lost and called and not totals.lost and time.monotonic() < found_by:
            enough = seen + subject.spectra

    def stopped() -> bool:
        over = (seen >= enough and not forever and not waiting) or time.monotonic() > deadline
        if over and made.stopped_at is None:
            made.stopped_at = time.monotonic()
        return over

    def work() -> None:
        nonlocal seen
        try:
            settings = DriveSettings(settle_s=0, runs=runs)
            with closing(placed(subject.make)) as instrument:
                for totals in drive_runs(instrument, publisher, settings, stopped, progress):
                    made.totals.append(totals)
                    seen = 0
        except BaseException as error:
            made.error = error
        made.ended_at = time.monotonic()
        done.set()

    deadline = time.monotonic() + subject.limit_s
    found_by = time.monotonic() + subject.limit_s / 3  # who says nothing of a loss need not be waited for
    with Publisher(LOCAL, "raw", buffer_mb=buffer_mb, overload=overload, stall_s=stall_s) as publisher:
        subscriber, reader = _subscriber(publisher, reads is not True), RunReader("raw")
        thread = threading.Thread(target=work, name="trial")
        thread.start()
        try:
            late = time.monotonic() + (LATE_S if reads == "late" else subject.limit_s + STOPS_S)
            while reads is not True and not done.wait(0.02) and time.monotonic() < late:
                if reads == "late" and not waiting:
                    break
            waiting = False
            while time.monotonic() < deadline + STOPS_S:
                if parts := subscriber.receive(0.05):
                    events = reader.read(parts)
                    now = time.monotonic()
                    made.arrived += [(now, len(each.counts)) for each in events if isinstance(each, Frame)]
                    made.events += events
                elif done.is_set() and (made.ended or time.monotonic() > made.ended_at + ARRIVES_S):
                    break
        finally:
            deadline = 0.0
            subscriber.close()
            thread.join(STOPS_S)
    if thread.is_alive():
        raise FailedError(f"the run does not end within {subject.limit_s + 2 * STOPS_S:.0f} s")
    return made


def _subscriber(publisher: Publisher, small: bool) -> Subscriber:
    """Connected to it. small: hardly anything fits into what lies between them; the system's own buffers have
    room for megabytes, which most runs do not have."""
    if not small:
        return Subscriber(publisher.address, "raw")
    # Of whom connects to a port that is bound from now on.
    publisher.socket.setsockopt(zmq.SNDBUF, SMALL_BYTES)
    publisher.socket.bind(LOCAL)
    address = cast(bytes, publisher.socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
    subscriber = Subscriber(address, "raw", connect=False)
    for option, value in ((zmq.RCVHWM, 1), (zmq.RCVBUF, SMALL_BYTES)):
        subscriber.socket.setsockopt(option, value)
    subscriber.connect()
    return subscriber


def good(subject: Subject) -> Made:
    """A run that is in order."""
    made = driven(subject)
    raise_error(made)
    judge(made)
    if not made.frames:
        raise FailedError(f"no spectrum came within {subject.limit_s:g} s")
    return made


def raise_error(made: Made) -> None:
    if made.error is not None:
        raise FailedError(f"it failed: {type(made.error).__name__}: {made.error}")


def judge(made: Made) -> None:
    problems = [each for each in made.events if isinstance(each, Problem) and not each.spectra]
    if problems:
        raise FailedError(problems[0].text)
    if len(made.starts) != 1 or len(made.closed) != 1:
        raise FailedError(
            f"a run has one start and one end, this one {len(made.starts)} and {len(made.closed)}"
        )
    adds_up(made.frames, made.closed[0], made.totals[0])


def adds_up(frames: list[Frame], closed: Closed, totals: DriveTotals) -> None:
    received, lost, end = sum(len(frame.counts) for frame in frames), sum(totals.lost.values()), closed.end
    if not (received == end.spectra == totals.sent and end.announced == totals.produced == received + lost):
        raise FailedError(
            f"{totals.produced} spectra were measured, {totals.sent} sent, {received} received, {lost} lost: "
            "that does not add up"
        )
    there = np.zeros(totals.produced, bool)
    for frame in frames:
        there[frame.index : frame.index + len(frame.counts)] = True
    gone = np.zeros(totals.produced, bool)
    for each in totals.ranges:
        gone[each.first : each.first + each.spectra] = True
    if (there == gone).any():
        raise FailedError("the spectra that came and those that are said to be lost are not all there are")


def stopped_soon(made: Made, when: str) -> float:
    exposure = made.about.exposure_s if made.about is not None else None
    took = 0.0 if made.stopped_at is None else made.ended_at - made.stopped_at
    if took > STOPS_S + 2 * (exposure or 0.0):
        raise FailedError(f"stopped {when}, it ended {took:.0f} s later")
    if made.closed and made.closed[-1].end.reason not in (Reason.STOPPED, Reason.COMPLETE):
        raise FailedError(f"stopped {when}, its run ended as {made.closed[-1].end.reason}")
    return took


def lost(made: Made) -> str:
    return in_words(made.totals[0].lost) or "none"


def one_sentence(text: str, what: str) -> None:
    if not text.strip() or "\n" in text or len(text) > LONGEST or "Traceback" in text:
        raise FailedError(f"{what} is refused, but not in one sentence: {text[:LONGEST]!r}")
