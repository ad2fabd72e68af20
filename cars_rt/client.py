"""The client: runs and frames of a stream as Python objects, for acquisition software and scripts.

with cars_rt.connect("tcp://127.0.0.1:5556") as stream:
    for run in stream:
        for frame in run:
            print(frame.index, frame.raman.shape)

One loop at a time reads a client; `close` may come from any thread. Whatever else is tried (two threads that
read at once, two loops side by side, a client in a forked process or after `close`) raises ClientError:
nothing is ever shared out silently.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

from cars_rt.protocol import Frame, Start, StreamName
from cars_rt.reading import Loop, NoDataError, Reading, RunInfo
from cars_rt.sockets import RAMAN_ADDRESS
from cars_rt.source import ClientError, Source
from cars_rt.trust.curve import ClientKeys

__all__ = [
    "AsyncClient", "AsyncRun", "Client", "ClientError", "NoDataError", "Run", "RunInfo", "connect",
    "connect_async",
]  # fmt: skip

STEP_S = 0.2  # how soon a timeout or a stop is noticed


class Run(RunInfo):
    """A run to iterate over: its frames, until it ends. Read it before the next one is asked for."""

    def __init__(self, start: Start, client: "Client") -> None:
        super().__init__(start)
        self._client = client

    def __iter__(self) -> Iterator[Frame]:
        return _Frames(self._client, self)


class AsyncRun(RunInfo):
    """A run to iterate over with `async for`: its frames, until it ends."""

    def __init__(self, start: Start, client: "AsyncClient") -> None:
        super().__init__(start)
        self._client = client

    def __aiter__(self) -> AsyncIterator[Frame]:
        return _AsyncFrames(self._client, self)


class Client(Reading):
    """Iterate over it for runs; leave it, or call close, to disconnect."""

    def __iter__(self) -> Iterator[Run]:
        return _Runs(self)

    def _made(self, start: Start) -> Run:
        return Run(start, self)

    def _more(self) -> None:
        """Wait a little for events."""
        self._source.fill(self._events, STEP_S)
        if not self._events and not self._source.closed:
            self._overdue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


class _Runs(Loop, Iterator[Run]):
    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def __next__(self) -> Run:
        client = self._client
        client._enter(self, threading.current_thread())
        try:
            while (found := client._found(None)) is None and not client._over:
                client._more()
        finally:
            client._turn.give()
        if found is None:
            raise StopIteration
        assert isinstance(found, Run)
        return found


class _Frames(Loop, Iterator[Frame]):
    run: RunInfo

    def __init__(self, client: Client, run: Run) -> None:
        super().__init__(run)
        self._client = client

    def __next__(self) -> Frame:
        client, run = self._client, self.run
        if run.end is None or run.passed_over:
            client._enter(self, threading.current_thread())
            try:
                while run.end is None:
                    found = client._found(run)
                    if type(found) is Frame:
                        return found
                    if run.end is None:
                        client._more()
            finally:
                client._turn.give()
        raise StopIteration


class AsyncClient(Reading):
    """As Client, for `async with` and `async for`.

    It waits in a thread, one look at a time, and so works with every event loop on every system.
    """

    _look: asyncio.Future[None] | None = None  # under way; outlives a wait that is cancelled

    @property
    def _looking(self) -> bool:
        look = self._look
        return look is not None and not look.done() and not look.get_loop().is_closed()

    def __aiter__(self) -> AsyncIterator[AsyncRun]:
        return _AsyncRuns(self)

    def _made(self, start: Start) -> AsyncRun:
        return AsyncRun(start, self)

    async def _more(self) -> None:
        """Wait a little for events."""
        look, loop = self._look, asyncio.get_running_loop()
        if look is None or look.get_loop() is not loop:
            look = asyncio.ensure_future(asyncio.to_thread(self._source.fill, self._events, STEP_S))
            self._look = look
        try:
            await asyncio.shield(look)
        finally:
            if look.done():
                self._look = None
        if not self._events and not self._source.closed:
            self._overdue()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
        look = self._look
        if look is not None and look.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([look])  # cancelled: the thread still has the socket


class _AsyncRuns(Loop, AsyncIterator[AsyncRun]):
    def __init__(self, client: AsyncClient) -> None:
        super().__init__()
        self._client = client

    async def __anext__(self) -> AsyncRun:
        client = self._client
        client._enter(self, asyncio.current_task())
        try:
            while (found := client._found(None)) is None and not client._over:
                await client._more()
        finally:
            client._turn.give()
        if found is None:
            raise StopAsyncIteration
        assert isinstance(found, AsyncRun)
        return found


class _AsyncFrames(Loop, AsyncIterator[Frame]):
    run: RunInfo

    def __init__(self, client: AsyncClient, run: AsyncRun) -> None:
        super().__init__(run)
        self._client = client

    async def __anext__(self) -> Frame:
        client, run = self._client, self.run
        if run.end is None or run.passed_over:
            client._enter(self, asyncio.current_task())
            try:
                while run.end is None:
                    found = client._found(run)
                    if type(found) is Frame:
                        return found
                    if run.end is None:
                        await client._more()
            finally:
                client._turn.give()
        raise StopAsyncIteration


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

    One thread reads the client at a time, through one loop over runs and one over the frames of the run; it
    need not be the thread that connected. `close` may come from any thread, or from a signal handler. After
    Ctrl-C, iterate again to go on with what comes after the frame that the loop was at. Two threads, tasks
    or loops at once, a run whose frames went by, a client that is closed, and one in a forked process raise
    ClientError. Another process, forked or spawned, connects for itself.
    """
    return Client(Source(address, stream, security), timeout)


def connect_async(
    address: str = RAMAN_ADDRESS,
    stream: StreamName = "raman",
    *,
    timeout: float | None = None,
    security: ClientKeys | None = None,
) -> AsyncClient:
    """As `connect`, for asyncio. One task reads it at a time."""
    return AsyncClient(Source(address, stream, security), timeout)
