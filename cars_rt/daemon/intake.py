"""One source of counts: its messages, read and checked, as events in order."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence

import zmq

from cars_rt.accounting import Cause, Kind, Problem
from cars_rt.clock import LAG_NS
from cars_rt.daemon.flight import FlightRecorder
from cars_rt.daemon.mishaps import Mishaps
from cars_rt.daemon.seen import metric
from cars_rt.daemon.seen.metric import Metric
from cars_rt.protocol import Event, Frame, Part, RunReader, Start
from cars_rt.sockets import Subscriber
from cars_rt.trust.curve import ClientKeys

CUT_OFF = f"{Kind.CUT_OFF}: the driver"


class Intake:
    """A driver's stream. The flight recorder, if there is one, sees all of it before anybody else does.

    Raises StreamError if there can be no such address.
    """

    def __init__(
        self, address: str, security: ClientKeys | None, flight: FlightRecorder | None, mishaps: Mishaps
    ) -> None:
        self.address = address
        self.flight = flight
        self.subscriber = Subscriber(address, "raw", connect=False, security=security)
        self.reader = reader = RunReader("raw")
        self.subscriber.run = lambda: reader.run
        self.received_ns = 0  # when the last message was taken
        self.prompt = False  # whether it was received soon after it arrived
        self.empty_ns = 0  # when the socket was last seen empty
        self._parts: Sequence[Part] = ()
        self._mishaps = mishaps

        #: Readable when there is something to receive. Another list where that changes, such as while one of
        #: several sources has a run; this one never does.
        self.sockets: list[zmq.Socket[bytes]] = [self.subscriber.socket]

    @property
    def connected(self) -> bool:
        """Whether a driver is there."""
        return self.subscriber.connected

    @property
    def trouble(self) -> str | None:
        """Why no connection comes about, if that is known."""
        return self.subscriber.trouble

    def connect(self) -> None:
        """Begin: a driver that waits for us sends as soon as it sees us."""
        self.subscriber.connect()
        self.was_empty()

    def was_empty(self) -> None:
        """Note that nothing waits to be read."""
        self.empty_ns = time.time_ns()
        self.subscriber.emptied += 1

    def receive(self) -> bool:
        """Take the next message, for `events`; False if there is none."""
        if (parts := self.subscriber.receive()) is None:
            self.was_empty()
            return False
        self.received_ns = time.time_ns()
        self.prompt = self.received_ns - self.empty_ns < LAG_NS // 2
        self._parts = parts
        return True

    def events(self) -> Iterator[Event]:
        """The events of the message that was received."""
        for event in self.reader.read(self._parts):
            if self.flight is not None:
                try:
                    self._keep(event)
                except Exception as error:
                    self._mishaps.note("the flight recorder", error)
            yield event

    def _keep(self, event: Event) -> None:
        """Show the flight recorder an event."""
        assert self.flight is not None
        match event:
            case Frame():
                self.flight.frame(event)
            case Start():
                self.flight.start(event)
            case Problem() if event.cause is Cause.REJECTED:
                self.flight.rejected(self._parts, event.text)

    def watch(self, problems: Counter[str]) -> bool:
        """Look after the connection; call it often. Counts a connection that was cut in `problems`. True if
        one has ended."""
        subscriber = self.subscriber
        refused, cut_off, connected = subscriber.refused, subscriber.cut_off, subscriber.connected
        # What a new one sends may be read before it is known to be there.
        ended = not subscriber.watch() and connected
        for count, kind in (
            (subscriber.refused - refused, Kind.CONNECTION_CUT.value),
            (subscriber.cut_off - cut_off, CUT_OFF),
        ):
            if count:  # what that costs its run is not known
                self.reader.ledger.problems[kind] += count
                problems[kind] += count
        return ended

    def hold(self) -> None:
        """Nothing is read for now: tell the driver, or it takes us for one that has stopped reading."""
        self.subscriber.wait_on_purpose()

    @property
    def vanished(self) -> bool:
        """Whether the driver is gone in mid-run, and all that it sent was read."""
        return self.reader.run is not None and self.subscriber.vanished and not self.subscriber.socket.poll(0)

    def alarm(self, reason: str, text: str, lost: Counter[str]) -> None:
        """Have the flight recorder write its ring. lost: spectra of the run that were lost after they
        came."""
        if self.flight is not None:
            self.flight.alarm(reason, text, self.reader.ledger.lost + lost)

    def metrics(self) -> Iterator[Metric]:
        """What is counted here, and by the flight recorder."""
        yield metric.Gauge("cars_rt_driver_connected", "1: a driver is there.", self.connected)
        alarms, files = (self.flight.alarms, self.flight.files) if self.flight is not None else (0, 0)
        text = "Alarms of the flight recorder."
        yield metric.Counter("cars_rt_flight_alarms", text, alarms, status="flight_alarms")
        yield metric.Counter("cars_rt_flight_files", "Files it has written.", files, status="flight_files")

    def close(self) -> None:
        """Take no more."""
        self.subscriber.close()
        if self.flight is not None:
            self.flight.close()
