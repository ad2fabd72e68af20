"""Loops over a stream: one at a time takes events, and each is given those of its own run."""

import asyncio
import threading
import time
import weakref
from collections import deque
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Cause, Kind, Ledger, Problem
from cars_rt.errors import CarsRtError
from cars_rt.protocol import Closed, End, Event, Frame, Reason, Start
from cars_rt.sockets.turn import Turn
from cars_rt.source import ClientError, Source


class NoDataError(CarsRtError, TimeoutError):
    """Nothing came within the timeout; the text says whether anybody is publishing at all."""


class RunInfo:
    """One run: what its start message said, and after its last frame, how it ended."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.end: End | None = None
        self.ledger = Ledger()  # what arrived here and what did not; complete once `end` is set
        self.passed_over = 0  # spectra that came while the next run was waited for

    @property
    def run(self) -> str:
        """The run's id."""
        return self.start.run

    @property
    def raman_shift(self) -> NDArray[np.float64]:
        """The axis (p,), cm-1."""
        return self.start.raman_shift

    @property
    def complete(self) -> bool:
        """Whether the run was ended by its source and every spectrum of it that was announced arrived."""
        return self.end is not None and self.end.reason != Reason.INTERRUPTED and not self.ledger.lost

    def __getattr__(self, name: str) -> Any:
        """Everything else that start says: source, scan, exposure_s, model, ..."""
        if name in Start.__dataclass_fields__:
            return getattr(self.start, name)
        raise AttributeError(name)


class Loop:
    """One iteration, and who goes through it: a thread, or a task of asyncio."""

    def __init__(self, run: RunInfo | None = None) -> None:
        self.run = run  # whose frames; None: over the runs
        self.who: threading.Thread | asyncio.Task[Any] | None = None  # as of its last step

    @property
    def busy(self) -> bool:
        """Whether somebody is still in it."""
        if self.run is not None and self.run.end is not None:
            return False
        who = self.who
        return who.is_alive() if isinstance(who, threading.Thread) else who is not None and not who.done()


class Reading:
    """The base of both clients."""

    def __init__(self, source: Source, timeout_s: float | None) -> None:
        self._source = source
        self._timeout_s = timeout_s
        self._events: deque[Event] = deque()
        self._turn = Turn()
        self._open: RunInfo | None = None  # the run whose frames come now
        self._asked_at = time.monotonic()  # when the step that waits now began
        self._loops: dict[bool, weakref.ref[Loop]] = {}  # the loop over runs (True), the one over frames

    @property
    def _looking(self) -> bool:
        """Whether a thread still reads the socket."""
        return False

    @property
    def _over(self) -> bool:
        """Whether it is closed, and nothing will come any more."""
        return self._source.closed and not self._looking

    @property
    def connected(self) -> bool:
        """Whether a publisher is there, as of the last look."""
        return self._source.connected

    def close(self) -> None:
        """Disconnect. From any thread: a loop that waits ends within 0.2 s, and its run as interrupted."""
        self._source.close()

    def __reduce__(self) -> NoReturn:
        raise ClientError(
            f"a client of {self._source.subscriber.address} cannot be copied or sent to another process: "
            "connect there"
        )

    def _made(self, start: Start) -> RunInfo:
        raise NotImplementedError

    def _enter(self, loop: Loop, who: threading.Thread | asyncio.Task[Any] | None) -> None:
        """Begin a step of this loop; `_turn.give` ends it. Raises ClientError if it may not go on."""
        address = self._source.subscriber.address
        if self._source.forked:
            raise ClientError(
                f"this client of {address} was connected by another process, of which this one is a fork: "
                "connect here anew"
            )
        if loop.run is not None and loop.run.passed_over:
            raise ClientError(
                f"{loop.run.passed_over} spectra of run {loop.run.run} went by while the next run was waited "
                "for: read each run before the next one is asked for"
            )
        if not self._turn.take(who):
            raise ClientError(
                f"another loop waits for {address} through this client at this moment: let one read, or "
                "give each a client of its own"
            )
        self._asked_at = time.monotonic()
        known = self._loops.get(loop.run is None)
        if loop.who != who or known is None or known() is not loop:
            try:
                self._admit(loop, who, address)
            except ClientError:
                self._turn.give()
                raise

    def _admit(self, loop: Loop, who: threading.Thread | asyncio.Task[Any] | None, address: str) -> None:
        """Let a loop go on that is new, or in other hands than before."""
        runs, frames = (self._loops.get(level, lambda: None)() for level in (True, False))
        for other in (runs, frames) if loop.run is None else (frames,):
            if other is not None and other is not loop and other.who != who and other.busy:
                raise ClientError(
                    f"{other.who.name if isinstance(other.who, threading.Thread) else 'another task'} is "
                    f"reading {address} through this client: two would share the spectra among them; give "
                    "each a client of its own"
                )
        if (runs if loop.run is None else frames) is not loop:
            if loop.who is not None:
                raise ClientError(
                    f"another loop over {address} was begun after this one and takes its place: one at a time"
                )
            if self._source.closed:
                raise ClientError(f"this client of {address} is closed: connect again")
            self._loops[loop.run is None] = weakref.ref(loop)
        loop.who = who

    def _found(self, run: RunInfo | None) -> Frame | RunInfo | None:
        """The next frame of this run, or the next run (None), if it is here already."""
        if self._source.closed:
            if self._looking:
                return None
            self._leave()
        while self._events:
            event = self._events.popleft()
            match event:
                case Frame():
                    if run is not None:
                        return event
                    if self._open is not None:
                        self._open.passed_over += len(event.block)
                case Closed():
                    if self._open is not None:
                        self._open.end, self._open.ledger = event.end, event.ledger
                        self._open = None
                    if run is not None:
                        return None
                case Start():
                    self._open = self._made(event)
                    return self._open
        return None

    def _leave(self) -> None:
        """Closed: the open run ends here, and what came and was not asked for is missing."""
        open_, self._open = self._open, None
        if open_ is not None:
            closed = next((event for event in self._events if isinstance(event, Closed)), None)
            closed = closed or self._source.reader.interrupt(time.time_ns())
            assert closed is not None  # it was open to the reader, or had ended there
            unread = [event for event in self._events if isinstance(event, Frame) and event.run == open_.run]
            ledger = closed.ledger
            for frame in unread:  # each by itself: others may be lost between them
                spectra = len(frame.block)
                ledger.frames -= 1
                ledger.spectra -= spectra
                text = "the client was closed before it was asked for"
                ledger.found(Problem(Cause.MISSING, spectra, text, Kind.CLOSED, frame.index))
            open_.ledger = ledger
            open_.end = replace(closed.end, time_ns=time.time_ns(), reason=Reason.INTERRUPTED)
        self._events.clear()

    def _overdue(self) -> None:
        quiet = time.monotonic() - max(self._source.quiet_since, self._asked_at)
        if self._timeout_s is not None and quiet > self._timeout_s:
            raise NoDataError(f"nothing came within {self._timeout_s:g} s: {self._source.describe()}")
