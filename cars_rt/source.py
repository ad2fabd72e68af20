"""Events of one stream, and whether anybody is publishing: what clients, recorder and display read from."""

import logging
import threading
import time
from collections import deque

import zmq

from cars_rt.accounting import Kind, Problem
from cars_rt.errors import CarsRtError
from cars_rt.protocol import Closed, Event, RunReader, StreamName
from cars_rt.sockets import Subscriber
from cars_rt.sockets.addresses import remedy
from cars_rt.sockets.probe import Probe
from cars_rt.sockets.turn import Turn, Uninterrupted
from cars_rt.trust.curve import ClientKeys

log = logging.getLogger("cars_rt.client")

WAITS = "waits"  # of a log record: it waits for somebody who may be about to come
PATIENCE_S = 2.0  # after so long without a publisher, say so
READ_AT_ONCE = 256  # messages per look at the socket


class ClientError(CarsRtError, RuntimeError):
    """Used by two at once, after close or in a forked process: the text says which, and what to do."""


class Source:
    """One connection to a stream. One thread at a time may pull; `close` may come from any.

    expected: kinds of problems that the stream is meant to have; nobody is warned of them.

    Raises StreamError for an impossible address.
    """

    def __init__(
        self,
        address: str,
        stream: StreamName,
        security: ClientKeys | None = None,
        *,
        expected: frozenset[Kind] = frozenset(),
    ) -> None:
        self.subscriber = Subscriber(address, stream, security=security)
        self.reader = reader = RunReader(stream)
        self.subscriber.run = lambda: reader.run
        self.quiet_since = time.monotonic()
        self._security = security
        self._probe: Probe | None = None  # which other streams are there
        self._turn = Turn(self._disconnect)
        self._torn = False  # whether an exception came while a message was read
        self._heard = False  # anything of our stream, since we are connected
        self._probed = False  # whether we asked what else there is
        self._elsewhere: str | None = None  # which other stream is there instead
        self._reported: set[str] = set()
        self._expected = expected
        self._said = False
        self._met = False  # whether a publisher was there once
        self._since = self.quiet_since

    @property
    def connected(self) -> bool:
        """Whether a publisher is there, as of the last `pull`."""
        return self.subscriber.connected

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._turn.closed

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one that connected."""
        return self._turn.forked

    def pull(self, timeout_s: float) -> list[Event]:
        """As `fill`; the events alone."""
        events: deque[Event] = deque()
        self.fill(events, timeout_s)
        return list(events)

    def fill(self, events: deque[Event], timeout_s: float) -> None:
        """Append events of the messages that are there, after waiting at most timeout_s for the first.

        Nothing once it is closed. Raises ClientError in a forked process or while another thread pulls.
        """
        if self.forked:
            raise ClientError(
                f"this client of {self.subscriber.address} was connected by another process, of which this "
                "one is a fork: connect here anew"
            )
        if not self._turn.take(threading.get_ident()):
            if self.closed:
                return
            raise ClientError(
                f"another thread is reading {self.subscriber.address} through this client at this moment: "
                "let one thread read, or give each thread a client of its own"
            )
        try:
            if not self.closed:
                self._fill(events, timeout_s)
        except zmq.ZMQError as error:
            self._turn.close()
            raise ClientError(
                f"the connection to {self.subscriber.address} is gone, since this program ended ZeroMQ's "
                f"context or its sockets ({error}): connect again"
            ) from None
        finally:
            self._turn.give()

    @property
    def trouble(self) -> str | None:
        """Why nothing comes of somebody who is there, if that is known."""
        return self.subscriber.trouble or self._elsewhere

    def describe(self) -> str:
        """Whether anybody is publishing, in a phrase."""
        if trouble := self.trouble:
            return trouble
        if not self.connected:
            return f"nobody publishes at {self.subscriber.address}"
        return f"connected to {self.subscriber.address}, where no run is open or no frame came"

    def close(self) -> None:
        """Disconnect. Another thread that is pulling stops within its timeout, and disconnects then."""
        self._turn.close()

    def _disconnect(self) -> None:
        self._end_probe()
        self.subscriber.close()

    def _fill(self, events: deque[Event], timeout_s: float) -> None:
        if self._torn:
            self._turn.close()
            raise ClientError(
                f"reading {self.subscriber.address} was broken off in the middle of a message by an "
                "exception from outside: connect again"
            )
        with Uninterrupted():
            self._watch()
            self._look_elsewhere(events)
        if timeout_s and not self.subscriber.poll(timeout_s):
            self._note_silence(events)
            return
        with Uninterrupted():
            self._torn = True
            self._read(events)
            self._torn = False

    def _read(self, events: deque[Event]) -> None:
        read = 0
        for _ in range(READ_AT_ONCE):
            parts = self.subscriber.receive()
            if parts is None:
                break
            read += 1
            for event in self.reader.read(parts):
                events.append(event)
                if isinstance(event, Problem):
                    self._report(event)
                    continue
                self._heard, self._elsewhere = True, None
                if isinstance(event, Closed):  # one line of a kind and run; the ledger counts them all
                    self._reported.clear()
        if not read:
            self._note_silence(events)
            return
        self._end_probe()
        self.quiet_since = time.monotonic()
        if not self.connected:
            self._watch()

    def _note_silence(self, events: deque[Event]) -> None:
        if self.reader.run is not None and self.subscriber.vanished:
            log.warning("%s: the publisher vanished in mid-run", self.subscriber.address)
            if closed := self.reader.interrupt(time.time_ns()):
                events.append(closed)
                self._reported.clear()
                self.quiet_since = time.monotonic()

    def _look_elsewhere(self, events: deque[Event]) -> None:
        """Report a message of another stream, if the probe has heard one."""
        if self._probe is None or (parts := self._probe.receive()) is None:
            return
        for event in self.reader.read(parts):  # none where this is the right port, and nothing has begun yet
            events.append(event)
            if isinstance(event, Problem):
                self._report(event)
            self._end_probe()

    def _end_probe(self) -> None:
        if self._probe is not None:
            self._probe.close()
            self._probe = None

    def _report(self, problem: Problem) -> None:
        if problem.kind is Kind.STREAM:
            where = f"{self.subscriber.address}: {problem.text}; {remedy(self.reader.stream)}"
            if not self._heard and where != self._elsewhere:
                log.warning(where)
                self._elsewhere = where
        elif problem.kind not in self._reported | self._expected:
            if problem.kind is not Kind.START_CHANGED:  # which the reader tells once of each field
                self._reported.add(problem.kind)
            log.warning("%s: %s: %s", self.subscriber.address, problem.heading, problem.text)

    def _watch(self) -> None:
        before, now = self.subscriber.connected, self.subscriber.watch()
        if now and (not before or self._said):
            log.info("connected to %s", self.subscriber.address)
            self._said, self._met = False, True
            self._reported.clear()
        if before != now:
            self._since = time.monotonic()
        if before and not now:
            self._heard = self._probed = False
            self._elsewhere = None
            self._end_probe()
        silent = now and not (self._heard or self._probed or self._elsewhere)
        if silent and time.monotonic() - self._since > PATIENCE_S:
            self._probed = True
            self._probe = Probe(self.subscriber.address, self.reader.stream, self._security)
        patient = time.monotonic() - self._since > PATIENCE_S and not self.subscriber.trouble
        if not now and not self._said and patient:
            level, when = (logging.INFO, "any more") if self._met else (logging.WARNING, "yet")
            text, extra = "nobody publishes at %s %s; waiting", {WAITS: True}
            log.log(level, text, self.subscriber.address, when, extra=extra)
            self._said = True
