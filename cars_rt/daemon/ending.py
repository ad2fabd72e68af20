"""The end of a daemon: what was sent to it is taken in, computed and published, as far as there is time."""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from cars_rt.daemon.compute.worker import ANSWER_S
from cars_rt.daemon.parts import Parts
from cars_rt.protocol import Reason
from cars_rt.sockets import RETRY_S, Publisher

log = logging.getLogger("cars_rt.daemon")

QUIET_S = 0.3  # a stop reads what was already sent, until nothing has come for this long
AFTER_S = 0.3  # or, of a driver that goes on, until something has that was measured so long after the stop
DRAIN_S = 2.0  # and for this long at most, unless the engine or a subscriber holds it up
LATE_S = 2.0  # and what is there then is counted for this long at most
STOP_S = 10.0  # how long a stop waits for subscribers
STUCK_S = 3.0  # how long it waits if they take nothing at all
LINGER_S = 1.0  # after that, for those who do read


class Turn(Protocol):
    """One turn of the loop."""

    def __call__(self, timeout_s: float, reading: bool = True) -> bool:
        """Wait for something to do, and do it. True if a message came."""


def finish(parts: Parts, turn: Turn, can_read: Callable[[], bool]) -> float:
    """Read what was already sent, publish its results, and close the run. What there is no time to compute is
    counted as lost; what was measured after the stop is left to the driver. Returns how long a close may then
    wait for subscribers, s."""
    runs, publisher = parts.runs, parts.results.publisher
    parts.paused = False  # what waits at the driver came before the stop
    begin = now = time.monotonic()
    until, deadline, quiet_s, patience = begin + DRAIN_S, begin + STOP_S, 0.0, _Patience(publisher)
    all_read = _Reading(parts)
    while now < until and quiet_s < QUIET_S and not all_read():
        before, reading = now, can_read()
        came = turn(QUIET_S / 5)
        now, blocked = time.monotonic(), not can_read()
        # A turn may take long for other work. That time is no silence of the driver.
        quiet_s = 0.0 if came or blocked or not reading else quiet_s + min(now - before, QUIET_S / 5)
        if blocked and now < deadline:
            until = now + DRAIN_S
        _give_up(parts, patience, now > deadline)
    if quiet_s < QUIET_S and not all_read():
        runs.left_out = "it came too late to be computed, since the daemon was stopped"
        until = now + LATE_S
        while now < until and not all_read() and (turn(QUIET_S / 5) or not can_read()):
            now = time.monotonic()
            _give_up(parts, patience, now > deadline)
    interrupted = False
    while True:
        if not interrupted and not runs.behind and not runs.busy:
            interrupted = True
            if closed := parts.intake.reader.interrupt(time.time_ns(), Reason.STOPPED):
                runs.take(closed, time.time_ns())
        if interrupted and not runs.busy and not publisher.blocked:
            return LINGER_S if patience.over else STOP_S
        _give_up(parts, patience, time.monotonic() > deadline)
        turn(RETRY_S, reading=False)


class _Reading:
    """Tells, when called, whether all was read that had come before it was made, though more comes.

    Frames come in the order in which they were measured, so one that was measured after that moment has them
    all before it. But time stamps may be of a file, and run faster: nothing may wait to be read, too.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts, self._begun_ns, run = parts, time.time_ns(), parts.runs.current
        then = None if run is None else run.clock.at(self._begun_ns)
        self._after_ns = None if then is None else then + int(AFTER_S * 1e9)  # on the source's clock

    def __call__(self) -> bool:
        run, after = self._parts.runs.current, self._after_ns
        return (
            after is not None
            and run is not None
            and run.clock.last_ns > after
            and self._parts.intake.empty_ns > self._begun_ns
        )


class _Patience:
    """How long subscribers of the last results are waited for."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.over = False
        self._waited_s = 0.0  # in which they had no room, since the stop
        self._at = time.monotonic()  # when that was looked at last
        self._taken = (0, 0), self._at  # what they have taken, and when that was seen first

    def look(self) -> None:
        """Wait for them no longer where results wait, and nobody has taken any for STUCK_S, or some have had
        no room for STOP_S. An engine's time is not theirs."""
        publisher, now = self._publisher, time.monotonic()
        passed_s, self._at = now - self._at, now
        taken = publisher.frames_sent, publisher.runs_waiting
        if not publisher.blocked or taken != self._taken[0]:
            self._taken = taken, now
        if not publisher.blocked:
            return
        self._waited_s += passed_s
        if (now - self._taken[1] > STUCK_S or self._waited_s > STOP_S) and publisher.surrender():
            self.over = True
            log.warning(
                "a subscriber had no room for the last results for %.1f s of the stop: it is given up",
                self._waited_s,
            )  # fmt: skip


def _give_up(parts: Parts, patience: _Patience, late: bool) -> None:
    """Wait no longer than a stop may for an engine, or for subscribers."""
    if late and (parts.compute.compiling or parts.pipeline.computing_s > ANSWER_S):
        parts.runs.give_up_engine("the engine did not answer in time when the daemon was to stop")
    patience.look()
