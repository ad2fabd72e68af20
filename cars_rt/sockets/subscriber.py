"""Connects to a publisher and receives; knows whether anybody is there, cut us off or refused us."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, cast

import zmq

from cars_rt.protocol import MAX_PAYLOAD_BYTES, Part, Start, StreamName
from cars_rt.sockets.addresses import port_of, remedy
from cars_rt.sockets.audience import SIGN_S, WAITS
from cars_rt.sockets.endpoint import StreamError, prepare_to_connect
from cars_rt.sockets.monitor import Monitor
from cars_rt.sockets.publisher import message_bytes
from cars_rt.sockets.unended import Unended
from cars_rt.trust.curve import FAILED, ClientKeys, refusal
from cars_rt.trust.keys import KeysError

log = logging.getLogger("cars_rt.stream")

RETRY_MS = 50, 1000  # between attempts to connect, at first and after some that were in vain
UNREAD = 100  # messages at a subscriber; what it does not take in time waits at the publisher
PART_BYTES = 100  # that a message part takes on the wire beside its content, at most
UNFINISHED_BYTES = 64_000_000  # from a publisher, beside a message of its run that is under way
LARGE_ARRAYS = 3  # in a frame of results: raman, its deviation, counts
VIEW_FROM = 16_384  # bytes; a smaller part is copied, since it may lie in a buffer with others
NOW = int(zmq.NOBLOCK)
VANISHED_S = 5.0  # a publisher that is away for so long has died: an open run is closed as interrupted
CUT_S = 1.0  # without a new attempt for so long, ZeroMQ has given the connection up
REFUSED_S = 5.0  # the same if keys were refused: a person has to change something first
MUTE_S = 2.0  # without a handshake for so long, it is no publisher: those shake hands at once
BROKEN_OFF = 3  # handshakes that the other end breaks off in a row before it is said
CUT = zmq.EVENT_DISCONNECTED | FAILED
TRYING = zmq.EVENT_CONNECTED | zmq.EVENT_CONNECT_DELAYED | zmq.EVENT_CONNECT_RETRIED


class Subscriber:
    """Connects to a publisher, now or whenever it appears, and receives one stream.

    `connected` tells whether anybody is there, which the socket itself never does. `refused` counts
    connections that were cut for what the other end sent: a part beyond MAX_PAYLOAD_BYTES, or no ZeroMQ.
    `cut_off` counts those whose message did not end, as `watch` finds where all else is read, or that sent
    as much of topics without a subscription, of which ZeroMQ says nothing; set `run`,
    which says how large messages are. `trouble` says in a sentence why somebody who is there does not let us
    in. security: our key and whom we believe. Raises StreamError for an address that cannot be connected to.
    """

    def __init__(
        self, address: str, stream: StreamName, *, connect: bool = True, security: ClientKeys | None = None
    ) -> None:
        """connect: at once; otherwise call `connect` when it is time."""
        self.address = address
        self.stream = stream
        self.connected = False
        self.refused = 0
        self.cut_off = 0  # connections whose message did not end, or was not asked for
        self.run: Callable[[], Start | None] = lambda: None  # the open one: how large its messages are
        self.taken = 0  # bytes of messages received
        self.emptied = 0  # how often no whole message was there to be read
        self.trouble: str | None = None
        self._security = security
        self._reached = False  # in this attempt to connect
        self._broken_off = 0  # handshakes in a row
        self._welcome = True  # whether the other end shook hands in the last connection
        self._met = False  # whether the monitor told of a connection once
        self._asked_at: float | None = None  # when it was asked to shake hands, while it has not answered
        self._cut_at: float | None = None
        self._sign_at = 0.0  # when the next sign of waiting may be given
        self._taken_then = 0  # of `taken`, when that was last asked for
        self._signs: zmq.Socket[bytes] | None = None  # what says so, once there was reason to
        self._signed = False  # whether that is subscribed to its topic
        self._gone_at = time.monotonic()
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        try:
            self._endpoint = self._set_up(self.socket)
        except (KeysError, StreamError):
            self.socket.close(0)
            raise
        self._unended = Unended(port_of(address))
        self.socket.subscribe(f"{stream}.")
        self._monitor = Monitor(self.socket, zmq.EVENT_HANDSHAKE_SUCCEEDED | CUT | TRYING)
        if connect:
            self.connect()

    def _set_up(self, socket: zmq.Socket[bytes]) -> str:
        """Make it ready to connect; returns to where. Raises StreamError, KeysError."""
        endpoint = prepare_to_connect(socket, self.address, self._security)
        socket.setsockopt(zmq.RCVHWM, UNREAD)
        socket.setsockopt(zmq.RECONNECT_IVL, RETRY_MS[0])
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RETRY_MS[1])
        return endpoint

    def connect(self) -> None:
        """Connect, now or as soon as somebody publishes there. Raises StreamError."""
        try:
            self.socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            self.close()
            text = f"cannot connect to {self.address}: {error}; give it as tcp://HOST:PORT"
            raise StreamError(text) from None

    def receive(self, timeout_s: float = 0) -> list[Part] | None:
        """The parts of the next message, or None if none came within the timeout.

        Large parts are not copied out of ZeroMQ's memory: read-only views, which keep it alive.
        """
        if timeout_s and not self.poll(timeout_s):
            return None
        receive = self.socket.recv
        try:
            part = receive(NOW, copy=False)
        except zmq.Again:
            self.emptied += 1
            return None
        # recv_multipart asks the socket for RCVMORE after each part, which costs more than the part.
        parts: list[Part] = [part.bytes]
        while part.more:
            part = receive(NOW, copy=False)
            parts.append(part.bytes if len(part) < VIEW_FROM else memoryview(cast(bytes, part)).toreadonly())
        self.taken += sum(map(len, parts)) + PART_BYTES * len(parts)
        if not self._met:  # on a busy computer the monitor's thread may lag behind: somebody is there
            self.connected = True
        return parts

    def poll(self, timeout_s: float) -> bool:
        """Whether a message comes within the timeout."""
        there = bool(self.socket.poll(int(timeout_s * 1e3)))
        self.emptied += not there
        return there

    def wait_on_purpose(self) -> None:
        """Say so to the publisher, which leaves out who seems to have stopped reading. Call it often.

        The sign is to subscribe to a topic without messages or, the next time, not any more. It goes over a
        connection of its own: what a publisher that ends has not read makes the system throw away what it
        has not yet sent.
        """
        now = time.monotonic()
        if self.taken != self._taken_then:  # something was read since
            self._taken_then, self._sign_at = self.taken, now + SIGN_S
        if now < self._sign_at or not self.socket.poll(0):
            return
        self._sign_at = now + SIGN_S
        if self._signs is None:
            self._signs = zmq.Context.instance().socket(zmq.SUB)
            self._set_up(self._signs)
            self._signs.connect(self._endpoint)
        self._signed = not self._signed
        (self._signs.subscribe if self._signed else self._signs.unsubscribe)(f"{self.stream}{WAITS}")

    def watch(self) -> bool:
        """Update and return `connected`. Call it often: it also connects again where ZeroMQ would not."""
        # This sends our subscription to a publisher that came again, even while nothing is received.
        self.socket.getsockopt(zmq.EVENTS)
        for event, value, at in self._monitor.take():
            self._note_trouble(event, value)
            if event == zmq.EVENT_CONNECTED:
                self._unended.begin(value)
            elif event & CUT:
                self._unended.begin(-1)
            self._cut_at = at if event & CUT else None
            here = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            if here:
                self._met = True
            elif self.connected and not self._met:  # it tells of what was before the first message
                continue
            if self.connected and not here:
                self._gone_at = at
            self.connected = here
        if size := self._unended.look(self.taken, self.emptied, self._unfinished_bytes()):
            self.cut_off += 1
            level = logging.WARNING if self.cut_off == 1 else logging.DEBUG
            log.log(
                level, "%s is cut off: it sends messages that do not end, or that nobody subscribed to "
                "(%d MB until now); a publisher has to filter by topic; more are counted",
                self.address, size // 1_000_000,
            )  # fmt: skip
        if self._asked_at is not None and time.monotonic() - self._asked_at > MUTE_S and not self.trouble:
            self._asked_at = None
            self._say(
                f"something answers at {self.address}, but not as a publisher does: it stands still, or is "
                f"of another kind, such as --http; {remedy(self.stream)}"
            )
        patience = REFUSED_S if self.trouble else CUT_S
        if self._cut_at is not None and time.monotonic() - self._cut_at > patience:
            self._cut_at = None
            if not self.trouble:
                self.refused += 1
                level = logging.WARNING if self.refused == 1 else logging.DEBUG
                if self._welcome:
                    limit = MAX_PAYLOAD_BYTES // 2**20
                    log.log(
                        level, "%s: connection cut, for a message beyond %d MB; connecting again",
                        self.address, limit,
                    )  # fmt: skip
                else:
                    self._say(
                        f"{self.address} is no publisher's port (a daemon's --control is none, either): "
                        + remedy(self.stream)
                    )
            self.socket.disconnect(self._endpoint)
            self.socket.connect(self._endpoint)
        return self.connected

    def _note_trouble(self, event: int, value: int) -> None:
        """Keep `trouble` true: it ends when we are let in, or when nobody is there any more."""
        self._asked_at = time.monotonic() if event == zmq.EVENT_CONNECTED else None
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.trouble, self._broken_off = None, 0
            self._welcome = True
        elif event == zmq.EVENT_CONNECTED:
            self._reached, self._welcome = True, False
        elif event == zmq.EVENT_CONNECT_RETRIED:
            if not self._reached:
                self.trouble, self._broken_off = None, 0
            self._reached = False
        elif event & FAILED:
            no_detail = event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            self._broken_off += no_detail
            text = refusal(event, value, self.address, self._security)
            if text is None or (no_detail and (self.trouble or self._broken_off < BROKEN_OFF)):
                return
            self._say(text)

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.warning(trouble)
        self.trouble = trouble

    @property
    def vanished(self) -> bool:
        """Whether the publisher has been away so long that an open run will not go on."""
        return not self.connected and time.monotonic() - self._gone_at > VANISHED_S

    def _unfinished_bytes(self) -> int:
        """How much may be on its way without being a message yet."""
        if (start := self.run()) is None:
            return UNFINISHED_BYTES
        return UNFINISHED_BYTES + message_bytes(start) * (1 if self.stream == "raw" else LARGE_ARRAYS)

    def close(self) -> None:
        """Close at once; unread messages are discarded."""
        with suppress(zmq.ZMQError):  # somebody ended the context, which waits for these two
            self._monitor.close()
        self.socket.close(0)
        if self._signs is not None:
            self._signs.close(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
