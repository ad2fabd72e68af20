"""One run: what its driver said, what became of its spectra, and how far it has come."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from cars_rt.accounting import Kind, Ledger
from cars_rt.clock import UNDATED_NS, SourceClock
from cars_rt.daemon.receipt import Receipt
from cars_rt.protocol import Closed, Start

log = logging.getLogger("cars_rt.daemon")

CLOCK_NS = 1_000_000  # a time stamp so far ahead of our clock is worth a warning
LAG_FRAMES = 16  # frames before a clock is said to lag: the first ones may have been held up


class RunState(StrEnum):
    """How far a run has come, and how long it may stay there."""

    OPENING = "opening"  # until its engine is compiled, COMPILE_S at most
    OPEN = "open"  # until its end comes, or its driver vanishes
    DRAINING = "draining"  # until the engine has answered, HUNG_S for each batch at most, and subscribers
    # have taken its results, or have stopped reading for stall_s
    CLOSED = "closed"  # its receipt is made


@dataclass(eq=False, slots=True)
class Run:
    """Everything that is true of one run. Its batches carry it; nobody keeps a second copy of any of it."""

    start: Start  # as received
    received: Ledger  # what was counted until its spectra were received
    settle: Callable[["Run"], Receipt]  # makes its receipt and enters it, when all of it has left
    stalls_before: int = 0  # of subscribers
    sent: Ledger = field(default_factory=Ledger)  # what became of its spectra then
    state: RunState = RunState.OPENING
    published: Start | None = None  # as published; None before that, and if it cannot be computed
    refused: str | None = None  # why it cannot
    closed: Closed | None = None
    clock: SourceClock = field(default_factory=SourceClock)
    dark_unused: str | None = None  # why the measured dark is not subtracted
    outputs: tuple[str, ...] = ()  # names of the arrays in its frames of results, as announced
    makers: list[tuple[int, str]] = field(default_factory=list)  # from which index on, and what made results
    flagged: Counter[str] = field(default_factory=Counter)  # spectra computed that have a flag, by its name
    lost_before: int = 0  # spectra lost before they were received, as far as that is known
    _told: Counter[str] = field(default_factory=Counter)  # spectra lost, by the cause that was told first
    output_seen: int = 0  # spectra dropped at the output for which an alarm was raised
    since: float = field(default_factory=time.monotonic)  # when it came into its state

    @property
    def lost(self) -> Counter[str]:
        """Its spectra lost so far, by cause."""
        return self.received.lost + self.sent.lost

    def told_lost(self) -> Counter[str]:
        """Its spectra lost so far, each once, by the cause that was told first: its end may say another one,
        and no count shrinks."""
        more = self.lost.total() - self._told.total()
        for cause, count in (self.lost - self._told).items():
            new = max(min(count, more), 0)
            self._told[cause] += new
            more -= new
        return self._told

    @property
    def announced(self) -> int:
        """Its spectra so far: sent, lost or under way."""
        return self.received.spectra + self.received.total_lost

    def told(self) -> dict[str, Any]:
        """What the status keeps of it after its end."""
        start, lost = self.start, dict(self.lost)
        about = {"run": start.run, "source": start.source, "announced": self.announced}
        return about | {"lost": lost, "refused": self.refused}

    def become(self, state: RunState) -> None:
        """It has come to this state."""
        self.state, self.since = state, time.monotonic()

    @property
    def waits_for(self) -> str:
        """What it waits for, in words; empty while its spectra flow, and when it is closed."""
        waited = f"({time.monotonic() - self.since:.0f} s so far)"
        match self.state:
            case RunState.OPENING:
                return f"run {self.start.run} waits for its engine {waited}"
            case RunState.DRAINING:
                return f"the last spectra of run {self.start.run} are on their way {waited}"
        return ""

    def receipt(self, stalls: int) -> Receipt:
        """What became of it. `closed` must be there; stalls: of subscribers until now, in all runs."""
        assert self.closed is not None
        self.become(RunState.CLOSED)
        return Receipt.of(
            self.closed,
            self.sent,
            made_by=self.makers,
            flagged=dict(self.flagged),
            stalls=stalls - self.stalls_before,
            source=self.start.source,
            begun_ns=self.start.time_ns,
            first_sequence=self.start.sequence,
            ended_ns=time.time_ns(),
        )

    def note_clock(self) -> bool:
        """Say once that the source's clock and ours disagree. True if it was said just now."""
        early, lag, ends = self.clock.early_ns, self.clock.lag_ns, self.closed is not None
        undated = self.clock.undated or self.start.time_ns < UNDATED_NS
        said = undated or early > CLOCK_NS or (lag and (self.clock.frames >= LAG_FRAMES or ends))
        if not said or self.sent.problems[Kind.CLOCK.value]:
            return False
        self.sent.problems[Kind.CLOCK.value] += 1
        if early > CLOCK_NS:
            log.warning(
                "time stamps of the source are up to %.1f ms in the future, so their latency is not counted: "
                "a clock was set, or two computers disagree; NTP helps", early / 1e6,
            )  # fmt: skip
        elif undated:
            log.warning(
                "time stamps of run %s are of before 1973: time_ns is Unix time in nanoseconds, not in "
                "seconds, milliseconds or microseconds", self.start.run,
            )  # fmt: skip
        else:
            log.warning(
                "time stamps of the source are %s behind our clock from the beginning on, so that is not "
                "counted as latency: a clock lags (NTP helps), or older spectra are played again",
                timedelta(seconds=round(lag / 1e9)),
            )
        return True
