"""The client: runs and frames of a stream as Python objects, for acquisition software and scripts.

with cars_rt.connect("tcp://127.0.0.1:5556") as stream:
    for run in stream:
        for frame in run:
            print(frame.index, frame.raman.shape)
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Ledger, Problem
from cars_rt.protocol import Closed, End, Event, Frame, Reason, RunReader, Start, StreamName
from cars_rt.security import ClientKeys
from cars_rt.stream import RAMAN_ADDRESS, Subscriber

log = logging.getLogger("cars_rt.client")

STEP_S = 0.2  # how soon a timeout or a stop is noticed
PATIENCE_S = 2.0  # after so long without a publisher, say so
READ_AT_ONCE = 256  # messages per look at the socket


class NoDataError(TimeoutError):
    """Nothing came within the timeout; the text says whether anybody is publishing at all."""


class Source:
    """Events of one stream, and whether anybody is publishing. The base of both clients."""

    def __init__(self, address: str, stream: StreamName, security: ClientKeys | None = None) -> None:
        self.subscriber = Subscriber(address, stream, security=security)
        self.reader = RunReader(stream)
        self.quiet_since = time.monotonic()
        self._reported: set[str] = set()
        self._said = False
        self._since = self.quiet_since

    @property
    def connected(self) -> bool:
        """Whether a publisher is there, as of the last `pull`."""
        return self.subscriber.connected

    def pull(self, timeout_s: float) -> list[Event]:
        """Events of the messages that are there, after waiting at most timeout_s for the first."""
        self._watch()
        events: list[Event] = []
        for number in range(READ_AT_ONCE):
            parts = self.subscriber.receive(0 if number else timeout_s)
            if parts is None:
                break
            events += self.reader.read(parts)
        if not events and self.reader.run is not None and self.subscriber.vanished:
            log.warning("%s: the publisher vanished in mid-run", self.subscriber.address)
            if closed := self.reader.interrupt(time.time_ns()):
                events.append(closed)
        if events:
            self.quiet_since = time.monotonic()
            if not self.connected:
                self._watch()
        for event in events:
            if isinstance(event, Problem) and event.kind not in self._reported:
                self._reported.add(event.kind)
                log.warning("%s: %s: %s", self.subscriber.address, event.cause.value, event.text)
            elif isinstance(event, Closed):  # one line of a kind and run; the ledger counts them all
                self._reported.clear()
        return events

    def describe(self) -> str:
        """Whether anybody is publishing, in a phrase."""
        if self.subscriber.trouble:
            return self.subscriber.trouble
        if not self.connected:
            return f"nobody publishes at {self.subscriber.address}"
        return f"connected to {self.subscriber.address}, but no data came"

    def close(self) -> None:
        """Disconnect."""
        self.subscriber.close()

    def _watch(self) -> None:
        before, now = self.subscriber.connected, self.subscriber.watch()
        if now and (not before or self._said):
            log.info("connected to %s", self.subscriber.address)
            self._said = False
        if before and not now:
            self._since = time.monotonic()
        patient = time.monotonic() - self._since > PATIENCE_S and not self.subscriber.trouble
        if not now and not self._said and patient:
            log.warning("nobody publishes at %s yet; waiting", self.subscriber.address)
            self._said = True


class RunInfo:
    """One run: what its start message said, and after its last frame, how it ended."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.end: End | None = None
        self.ledger = Ledger()  # what arrived here and what did not; complete once `end` is set

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
        """Whether the run ended and every spectrum of it that was announced arrived."""
        return self.end is not None and not self.ledger.lost

    def __getattr__(self, name: str) -> Any:
        """Everything else that start says: source, scan, exposure_s, model, ..."""
        if name in Start.__dataclass_fields__:
            return getattr(self.start, name)
        raise AttributeError(name)


class Run(RunInfo):
    """A run to iterate over: its frames, until it ends."""

    def __init__(self, start: Start, client: "Client") -> None:
        super().__init__(start)
        self._client = client

    def __iter__(self) -> Iterator[Frame]:
        while self.end is None:
            frame = self._client._frame(self)
            if frame is not None:
                yield frame


class AsyncRun(RunInfo):
    """A run to iterate over with `async for`: its frames, until it ends."""

    def __init__(self, start: Start, client: "AsyncClient") -> None:
        super().__init__(start)
        self._client = client

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while self.end is None:
            frame = await self._client._frame(self)
            if frame is not None:
                yield frame


class _Queue:
    """What both clients do with events once they are here."""

    def __init__(self, source: Source, timeout_s: float | None) -> None:
        self._source = source
        self._timeout_s = timeout_s
        self._events: deque[Event] = deque()

    @property
    def connected(self) -> bool:
        """Whether a publisher is there, as of the last look."""
        return self._source.connected

    def _next(self) -> Start | Frame | Closed | None:
        while self._events:
            event = self._events.popleft()
            if not isinstance(event, Problem):
                return event
        return None

    def _overdue(self) -> NoDataError | None:
        quiet = time.monotonic() - self._source.quiet_since
        if self._timeout_s is not None and quiet > self._timeout_s:
            return NoDataError(f"{self._source.describe()} within {self._timeout_s:g} s")
        return None

    def _frame_of(self, run: RunInfo, event: Start | Frame | Closed | None) -> Frame | None:
        match event:
            case Frame() if event.run == run.run:
                return event
            case Closed() if event.end.run == run.run:
                run.end, run.ledger = event.end, event.ledger
            case Start():  # another run: this one's end was read by somebody else's iteration
                self._events.appendleft(event)
                run.end = End(event.stream, run.run, event.time_ns, 0, 0, Reason.INTERRUPTED)
        return None


class Client(_Queue):
    """Iterate over it for runs; leave it, or call close, to disconnect."""

    def __iter__(self) -> Iterator[Run]:
        while True:
            event = self._wait()
            if isinstance(event, Start):
                yield Run(event, self)

    def close(self) -> None:
        """Disconnect."""
        self._source.close()

    def _wait(self) -> Start | Frame | Closed:
        while True:
            event = self._next()
            if event is not None:
                return event
            self._events += self._source.pull(STEP_S)
            if not self._events and (error := self._overdue()):
                raise error

    def _frame(self, run: RunInfo) -> Frame | None:
        return self._frame_of(run, self._wait())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


class AsyncClient(_Queue):
    """As Client, for `async with` and `async for`.

    It waits in a thread, one look at a time, and so works with every event loop on every system.
    """

    _look: asyncio.Future[list[Event]] | None = None  # under way; outlives a wait that is cancelled

    async def __aiter__(self) -> AsyncIterator[AsyncRun]:
        while True:
            event = await self._wait()
            if isinstance(event, Start):
                yield AsyncRun(event, self)

    async def _wait(self) -> Start | Frame | Closed:
        while True:
            event = self._next()
            if event is not None:
                return event
            if self._look is None:
                self._look = asyncio.ensure_future(asyncio.to_thread(self._source.pull, STEP_S))
            events = await asyncio.shield(self._look)
            self._look = None
            self._events += events
            if not self._events and (error := self._overdue()):
                raise error

    async def _frame(self, run: RunInfo) -> Frame | None:
        return self._frame_of(run, await self._wait())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._look is not None:  # cancelled: the thread still has the socket
            await asyncio.wait([self._look])
        self._source.close()


def connect(
    address: str = RAMAN_ADDRESS,
    stream: StreamName = "raman",
    *,
    timeout: float | None = None,
    security: ClientKeys | None = None,
) -> Client:
    """Connect to a stream: the daemon's results, or with stream="raw" a driver's counts.

    Returns at once; the publisher may appear later. With a timeout (s), waiting longer than that for
    data raises NoDataError. A publisher with keys wants security=ClientKeys.load("me.key", "daemon.pub").
    Raises StreamError for an impossible address.
    """
    return Client(Source(address, stream, security), timeout)


def connect_async(
    address: str = RAMAN_ADDRESS,
    stream: StreamName = "raman",
    *,
    timeout: float | None = None,
    security: ClientKeys | None = None,
) -> AsyncClient:
    """As `connect`, for asyncio."""
    return AsyncClient(Source(address, stream, security), timeout)
