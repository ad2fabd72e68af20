"""ZeroMQ sockets under the protocol: a publisher binds, subscribers connect, on tcp.

Each object belongs to one thread. Nothing is dropped inside ZeroMQ without being seen: the publisher
refuses a message that a subscriber has no room for (XPUB_NODROP) and its owner decides what to do;
closing it waits until subscribers have taken what is left; what a broken connection loses, the
receiver's sequence numbers show.
"""

import errno
import logging
import socket as sockets
import time
from dataclasses import replace
from types import TracebackType
from typing import Literal, Self, TypeAlias, cast

import zmq
from zmq.utils.monitor import recv_monitor_message

from cars_rt.keys import KeysError
from cars_rt.protocol import MAX_PAYLOAD_BYTES, End, Frame, Part, Start, StreamName, encode
from cars_rt.security import FAILED, Access, ClientKeys, Guard, refusal, secure_client, secure_server

log = logging.getLogger("cars_rt.stream")

RAW_ADDRESS = "tcp://127.0.0.1:5555"  # where drivers publish
RAMAN_ADDRESS = "tcp://127.0.0.1:5556"  # where the daemon publishes

BUFFER_MB = 256  # at a publisher, for each subscriber: more than a minute of a camera at 1 kHz
UNREAD = 100  # messages at a subscriber; what it does not take in time waits at the publisher
PATIENCE_S = 5.0  # how long opening and ending a run wait for slow subscribers, unless told otherwise

# An unplugged cable is found by the kernel. ZeroMQ's own heartbeats must stay off: a subscriber whose
# queue is full answers none and would be cut off, and libzmq 4.3 aborts the process if the heartbeat of
# such a connection falls due after the peer has gone (stream_engine_base.cpp, assertion !_io_error).
KEEPALIVE = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 10,
    zmq.TCP_KEEPALIVE_INTVL: 5,
    zmq.TCP_KEEPALIVE_CNT: 3,
}

VANISHED_S = 5.0  # a publisher that is away for so long has died: an open run is closed as interrupted
CUT_S = 1.0  # after so long without an attempt to connect again, ZeroMQ has given the connection up
REFUSED_S = 5.0  # and so long where it was for keys: somebody has to do something first
BROKEN_OFF = 3  # so many handshakes in a row that the other end broke off are no accident
CUT = zmq.EVENT_DISCONNECTED | FAILED
TRYING = zmq.EVENT_CONNECTED | zmq.EVENT_CONNECT_DELAYED | zmq.EVENT_CONNECT_RETRIED


Overload: TypeAlias = Literal["block", "drop"]  # what a publisher does when a subscriber is too slow


class StreamError(RuntimeError):
    """A socket that cannot be opened, with the reason and the remedy in one sentence."""


def _configure(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_PAYLOAD_BYTES)  # refused before it is allocated
    for option, value in KEEPALIVE.items():
        socket.setsockopt(option, value)


def message_bytes(start: Start) -> int:
    """Memory that one frame of this run takes in a queue, about."""
    return start.block * start.spectrum_bytes + 1024


class Publisher:
    """Binds an address and publishes one stream.

    A message goes to all subscribers or, if one has no room for it, to none. With leave_out_slow it goes
    to those that have room; `left_out` counts such messages, and the subscriber that was left out finds
    the gap in the sequence. security says who may subscribe. Raises StreamError if the address cannot be
    bound, KeysError if it may not be.
    """

    def __init__(
        self,
        address: str,
        stream: StreamName,
        *,
        buffer_mb: float = BUFFER_MB,
        leave_out_slow: bool = False,
        security: Access = None,
    ) -> None:
        self.stream = stream
        self.subscribers = 0
        self.left_out = 0
        self._leave_out_slow = leave_out_slow
        self._buffer_bytes = int(buffer_mb * 1e6)
        self._start: Start | None = None  # of the open run, kept for late subscribers
        self._said: Start | None = None  # waiting to be said, the first time or again
        self._sequence = 0
        self._index = 0
        self._guard: Guard | None = None
        self._context = zmq.Context()  # its own, so that close can wait for this socket alone
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.XPUB)
        _configure(self.socket)
        self.socket.setsockopt(zmq.XPUB_NODROP, 1)
        self.socket.setsockopt(zmq.XPUB_VERBOSER, 1)  # every subscription, so that each gets its start
        try:
            self._guard = secure_server(self.socket, address, security)
            self.socket.bind(address)
        except zmq.ZMQError as error:
            self.close(0)
            raise StreamError(_cannot_bind(address, error)) from None
        except KeysError:
            self.close(0)
            raise
        self.address = cast(bytes, self.socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()

    @property
    def refused(self) -> int:
        """Attempts to connect without an allowed key, so far."""
        return self._guard.refused if self._guard is not None else 0

    def serve(self) -> None:
        """Note who came and went, and say `start` again to who came late. Call it often."""
        while cast(int, self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event = self.socket.recv(zmq.NOBLOCK)
            if event[:1] == b"\x01":
                self.subscribers += 1
                self._said = self._start
            elif event[:1] == b"\x00":
                self.subscribers = max(self.subscribers - 1, 0)
        if self._said is not None:
            start = replace(self._said, sequence=self._sequence, index=self._index)
            if self._send(encode(start), 0):
                self._said = None

    def open(self, start: Start, timeout_s: float = PATIENCE_S) -> bool:
        """Begin a run. False if a subscriber had no room for the message within the timeout; it is
        then sent as soon as there is room, before any frame."""
        self._sequence, self._index = start.sequence, start.index
        self._bound_queues(start)
        self.serve()
        sent = self._send(encode(start), timeout_s)
        self._start, self._said = start, None if sent else start
        return sent

    def send(self, frame: Frame, timeout_s: float = 0) -> bool:
        """Publish a frame. False if some subscriber has no room for it within the timeout."""
        self.serve()
        if self._said is not None or not self._send(encode(frame), timeout_s):
            return False
        self._sequence = frame.sequence + 1
        self._index = frame.index + len(frame.block)
        return True

    def end(self, end: End, timeout_s: float = PATIENCE_S) -> bool:
        """End the run."""
        self.serve()
        self._start = self._said = None
        return self._send(encode(end), timeout_s)

    def wait_for_subscribers(self, count: int, timeout_s: float) -> bool:
        """True as soon as `count` subscribers are there, False after the timeout."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.serve()
            if self.subscribers >= count:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.socket.poll(int(min(left, 0.2) * 1e3) + 1)

    def close(self, linger_s: float | None = None) -> bool:
        """Close when subscribers have taken everything that was sent, or after linger_s.

        False if it came to that: what they had not taken is lost. Ctrl-C gives up, too.
        """
        begin = time.monotonic()
        if self._guard is not None:
            self._guard.close()
        self.socket.close(-1 if linger_s is None else int(linger_s * 1e3))
        self._context.term()  # waits; leaving the process without it would discard the queue
        return linger_s is None or time.monotonic() - begin < linger_s

    def _bound_queues(self, start: Start) -> None:
        """ZeroMQ bounds queues in messages, memory is what must be bounded: convert at the first run.

        Only then: changing the mark of a connection that has messages under way can stall it for good,
        since sender and receiver count by it.
        """
        if self._buffer_bytes:
            hwm = min(max(self._buffer_bytes // message_bytes(start), 4), 1_000_000)
            self.socket.setsockopt(zmq.SNDHWM, hwm)
            self._buffer_bytes = 0

    def _send(self, parts: list[Part], timeout_s: float) -> bool:
        try:
            if timeout_s:
                self.socket.setsockopt(zmq.SNDTIMEO, int(timeout_s * 1e3))
            self.socket.send_multipart(parts, 0 if timeout_s else zmq.NOBLOCK)
        except zmq.Again:
            if not self._leave_out_slow:
                return False
            self.left_out += 1
            self.socket.setsockopt(zmq.XPUB_NODROP, 0)
            self.socket.send_multipart(parts, zmq.NOBLOCK)
            self.socket.setsockopt(zmq.XPUB_NODROP, 1)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(0 if isinstance(error, KeyboardInterrupt) else None)


class Subscriber:
    """Connects to a publisher, now or whenever it appears, and receives one stream.

    `connected` tells what the socket itself never does: whether anybody is there. `refused` counts
    connections that were cut for what the other end sent: a part beyond MAX_PAYLOAD_BYTES, or no ZeroMQ.
    `trouble` says in a sentence why somebody who is there does not let us in. security: our key and whom we
    believe. Raises StreamError for an address that cannot be connected to.
    """

    def __init__(
        self, address: str, stream: StreamName, *, connect: bool = True, security: ClientKeys | None = None
    ) -> None:
        """connect: at once; otherwise call `connect` when it is time."""
        self.address = address
        self.stream = stream
        self.connected = False
        self.refused = 0
        self.trouble: str | None = None
        self._security = security
        self._reached = False  # in this attempt to connect
        self._broken_off = 0  # handshakes in a row
        self._cut_at: float | None = None
        self._gone_at = time.monotonic()
        _check_resolves(address)
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        _configure(self.socket)
        secure_client(self.socket, security)
        self.socket.setsockopt(zmq.RCVHWM, UNREAD)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 250)
        self.socket.subscribe(f"{stream}.")
        self.monitor: zmq.Socket[bytes] = self.socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | CUT | TRYING
        )
        if connect:
            self.connect()

    def connect(self) -> None:
        """Connect, now or as soon as somebody publishes there. Raises StreamError."""
        try:
            self.socket.connect(self.address)
        except zmq.ZMQError as error:
            self.close()
            text = f"cannot connect to {self.address}: {error}; give it as tcp://HOST:PORT"
            raise StreamError(text) from None

    def receive(self, timeout_s: float = 0) -> list[bytes] | None:
        """The parts of the next message, or None if none came within the timeout."""
        if timeout_s and not self.socket.poll(int(timeout_s * 1e3)):
            return None
        try:
            return self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def watch(self) -> bool:
        """Update and return `connected`. Call it often: it also connects again where ZeroMQ would not."""
        while self.monitor.poll(0):
            message = recv_monitor_message(self.monitor, zmq.NOBLOCK)
            event = message["event"]
            self._note_trouble(event, int(message["value"]))
            if self.connected and event != zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._gone_at = time.monotonic()
            self.connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self._cut_at = time.monotonic() if event & CUT else None
        patience = REFUSED_S if self.trouble else CUT_S
        if self._cut_at is not None and time.monotonic() - self._cut_at > patience:
            self._cut_at = None
            if not self.trouble:
                self.refused += 1
                level = logging.WARNING if self.refused == 1 else logging.DEBUG
                limit = MAX_PAYLOAD_BYTES // 2**20
                log.log(
                    level, "%s: connection cut, for a message beyond %d MB or because no CARS-RT program "
                    "publishes there; connecting again", self.address, limit,
                )  # fmt: skip
            self.socket.disconnect(self.address)
            self.socket.connect(self.address)
        return self.connected

    def _note_trouble(self, event: int, value: int) -> None:
        """Keep `trouble` true: it ends when we are let in, or when nobody is there any more."""
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.trouble, self._broken_off = None, 0
        elif event == zmq.EVENT_CONNECTED:
            self._reached = True
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
            if text != self.trouble:
                log.warning(text)
            self.trouble = text

    @property
    def vanished(self) -> bool:
        """Whether the publisher has been away so long that an open run will not go on."""
        return not self.connected and time.monotonic() - self._gone_at > VANISHED_S

    def close(self) -> None:
        """Close at once; unread messages are discarded."""
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def _cannot_bind(address: str, error: zmq.ZMQError) -> str:
    match error.errno:
        case zmq.EADDRINUSE:
            reason = "another program already uses it; stop that one or choose another port"
        case zmq.EADDRNOTAVAIL | errno.ENODEV:
            reason = "this computer has no such address; 127.0.0.1 always works"
        case zmq.EINVAL | zmq.EPROTONOSUPPORT:
            reason = "give it as tcp://HOST:PORT"
        case _:
            reason = str(error)
    return f"cannot publish at {address}: {reason}"


def _check_resolves(address: str) -> None:
    """ZeroMQ connects to a name that does not exist without a word, and waits for ever."""
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise StreamError(f"cannot connect to {address!r}: give it as tcp://HOST:PORT")
    try:
        sockets.getaddrinfo(host.strip("[]"), int(port), type=sockets.SOCK_STREAM)
    except OSError as error:
        raise StreamError(f"cannot connect to {address}: {error.strerror or error}") from None
