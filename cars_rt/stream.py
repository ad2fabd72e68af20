"""ZeroMQ sockets under the protocol: a publisher binds, subscribers connect, on tcp.

Each object belongs to one thread. Nothing is dropped inside ZeroMQ without being seen: it refuses a
message that a subscriber has no room for (XPUB_NODROP), and the publisher keeps or drops it by its
policy; closing waits until subscribers have taken what is left; what a broken connection loses, the
receiver's sequence numbers show.
"""

import errno
import logging
import math
import socket as sockets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Literal, Self, TypeAlias, cast

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from cars_rt.accounting import Cause, Ledger, Problem
from cars_rt.keys import KeysError
from cars_rt.protocol import MAX_PAYLOAD_BYTES, End, Frame, FrameWriter, Part, Start, StreamName, encode
from cars_rt.security import FAILED, Access, ClientKeys, Guard, refusal, secure_client, secure_server

log = logging.getLogger("cars_rt.stream")

RAW_ADDRESS = "tcp://127.0.0.1:5555"  # where drivers publish
RAMAN_ADDRESS = "tcp://127.0.0.1:5556"  # where the daemon publishes
PREVIEW_ADDRESS = "tcp://127.0.0.1:5557"  # where it publishes the preview
CONTROL_ADDRESS = "tcp://127.0.0.1:5558"  # where it takes requests

BUFFER_MB = 256  # at a publisher, for each subscriber: more than a minute of a camera at 1 kHz
UNREAD = 100  # messages at a subscriber; what it does not take in time waits at the publisher
VIEW_FROM = 16_384  # bytes; a smaller part is copied, since it may lie in a buffer with others
NOW, MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
ZEROMQ_BYTES = 4_000_000  # of the buffer, at most so much lies in ZeroMQ's queue of each subscriber
STALL_S = 10.0  # a subscriber that has taken nothing for so long has stopped reading
LOOK_S = 0.005  # between two looks for new subscribers, which cost as much as several messages
RETRY_S = 0.001  # how soon a send is tried again when a subscriber has no room

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


#: What a publisher does when a subscriber is too slow and its queue full.
Overload: TypeAlias = Literal["block", "drop-oldest", "drop-newest"]


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


@dataclass(slots=True)
class _Waiting:
    """A message that waits for room, and the ledger of its run."""

    message: Start | Frame | Callable[[], End]
    ledger: Ledger
    size: int  # bytes
    payload: list[zmq.Frame] = field(default_factory=list)  # of a frame: its arrays, in ZeroMQ's memory


class Publisher:
    """Binds an address and publishes one stream, run after run, in order.

    A message goes to all subscribers or, if one has no room for it, waits in a queue of buffer_mb. When
    that is full, too, `overload` says what happens: the owner waits (`block`), the oldest or the newest
    frames are dropped, and counted in the run's ledger under `cause`. A subscriber that has taken nothing
    for stall_s has stopped reading: from then on messages go to the others without it, until it reads
    again and finds the gap in the sequence. Frames are numbered here as they leave. security says who may
    subscribe. Raises StreamError if the address cannot be bound, KeysError if it may not be.
    """

    def __init__(
        self,
        address: str,
        stream: StreamName,
        *,
        buffer_mb: float = BUFFER_MB,
        overload: Overload = "block",
        stall_s: float = STALL_S,
        cause: Cause = Cause.OVERLOAD,
        security: Access = None,
    ) -> None:
        """stall_s: 0 waits for ever for a subscriber that does not read."""
        self.stream = stream
        self.subscribers = 0
        self.stalls = 0  # how often a subscriber was found to have stopped reading
        self.frames_sent = self.spectra_sent = 0  # in all runs
        self._overload, self._stall_s, self._cause = overload, stall_s, cause
        self._limit = int(buffer_mb * 1e6)  # bytes, ZeroMQ's queue and ours together
        self._bounded = False  # whether ZeroMQ's queue has its limit
        self._queue: deque[_Waiting] = deque()
        self._queued = 0  # bytes
        self._start: Start | None = None  # of the run on the wire, kept for late subscribers
        self._say_again = False
        self._ledger = Ledger()  # of the run on the wire
        self._newest = self._ledger  # of the run that was opened last
        self._sequence = 0
        self._index = 0
        self._look_at = 0.0  # when to look for new subscribers again
        self._refused_at: float | None = None  # since when some subscriber has had no room
        self._surrendered = False
        self._guard: Guard | None = None
        self._context = zmq.Context()  # its own, so that close can wait for this socket alone
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.XPUB)
        _configure(self.socket)
        # Without the look at options of draft sockets, which costs as much as sending a small part.
        self._send_part = super(zmq.Socket, self.socket).send
        self._writer = FrameWriter()
        self.socket.setsockopt(zmq.XPUB_NODROP, 1)
        # A subscription takes effect only when `serve` has seen it: the start comes before any frame.
        self.socket.setsockopt(zmq.XPUB_MANUAL, 1)
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
    def sequence(self) -> int:
        """The number that the next frame gets if nothing waits before it."""
        return self._sequence

    @property
    def waiting(self) -> int:
        """Spectra that wait for room."""
        return sum(len(each.message.block) for each in self._queue if isinstance(each.message, Frame))

    @property
    def capacity(self) -> int:
        """Spectra of the run on the wire that can wait for room, at least 1."""
        return max(self._limit // self._start.spectrum_bytes, 1) if self._start else 1

    @property
    def blocked(self) -> bool:
        """Whether anything waits for room."""
        return bool(self._queue)

    @property
    def refused(self) -> int:
        """Attempts to connect without an allowed key, so far."""
        return self._guard.refused if self._guard is not None else 0

    def serve(self) -> None:
        """Note who came and went, say `start` again to who came late, send what waits. Call it often."""
        self._look_at = time.monotonic() + LOOK_S
        while cast(int, self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event = self.socket.recv(zmq.NOBLOCK)
            if event[:1] == b"\x01":
                self.socket.setsockopt(zmq.SUBSCRIBE, event[1:])
                self.subscribers += 1
                self._say_again = self._start is not None
            elif event[:1] == b"\x00":
                self.socket.setsockopt(zmq.UNSUBSCRIBE, event[1:])
                self.subscribers = max(self.subscribers - 1, 0)
        if self._say_again and self._start is not None:
            start = replace(self._start, sequence=self._sequence, index=self._index)
            self._say_again = not self._put(encode(start))
        if self._queue:
            self.flush()

    def open(self, start: Start, ledger: Ledger | None = None) -> None:
        """Begin a run, after what still waits. What leaves and what is dropped is counted in `ledger`."""
        encode(start)  # refused here rather than when its turn comes
        self._newest = Ledger() if ledger is None else ledger
        self._queue.append(_Waiting(start, self._newest, 0))
        self.serve()

    def send(self, frame: Frame, timeout_s: float = 0) -> bool:
        """Publish a frame of the run that was opened last. True: it is sent, waits in the queue, or was
        dropped and counted. False: there was no room within the timeout (only if overload is `block`).
        """
        deadline = time.monotonic() + timeout_s if timeout_s else 0.0
        while True:
            if self._queue or self._say_again or time.monotonic() >= self._look_at:
                self.serve()
            if not self._queue and not self._say_again and self._send(frame):
                return True
            if self._keep(frame):
                return True
            if (left := deadline - time.monotonic()) <= 0:
                return False
            time.sleep(min(RETRY_S, left))

    def end(self, end: End | Callable[[], End]) -> None:
        """End the run, after what still waits. A function is asked for the totals when their turn comes."""
        make = end if callable(end) else lambda: end
        self._queue.append(_Waiting(make, self._newest, 0))
        self.flush()

    def flush(self, timeout_s: float = 0) -> bool:
        """Send what waits; True if nothing waits any more, False after the timeout."""
        deadline = time.monotonic() + timeout_s
        while self._queue:
            first = self._queue[0]
            if self._say_again or not self._send_waiting(first):
                if (left := deadline - time.monotonic()) <= 0:
                    return False
                time.sleep(min(RETRY_S, left))
                if self._say_again:
                    self.serve()
            else:
                self._queue.popleft()
                self._queued -= first.size
        return True

    def give_up(self) -> int:
        """Drop everything that waits, counted; the number of spectra. Ends are told if there is room."""
        dropped, waiting = 0, list(self._queue)
        self._queue.clear()
        self._queued = 0
        for each in waiting:
            if isinstance(each.message, Frame):
                dropped += self._drop(each.message, each.ledger)
            else:
                self._send_waiting(each)
        return dropped

    def surrender(self) -> bool:
        """Wait for nobody any more: drop, counted, what waits and whatever has no room from now on.

        False if that was so already.
        """
        if self._surrendered:
            return False
        self._surrendered = True
        self.give_up()
        return True

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
        taken = self.flush(math.inf if linger_s is None else linger_s) or not self.give_up()
        if self._guard is not None:
            self._guard.close()
        self.socket.close(
            -1 if linger_s is None else int(max(linger_s - (time.monotonic() - begin), 0) * 1e3)
        )
        self._context.term()  # waits; leaving the process without it would discard the queue
        return taken and (linger_s is None or time.monotonic() - begin < linger_s)

    # -- the queue ----------------------------------------------------------------------------------

    def _keep(self, frame: Frame) -> bool:
        """Let a frame wait, or deal with it as `overload` says. False: no room, ask again."""
        size = frame.block.nbytes + 1024
        if self._surrendered:
            self._drop(frame, self._newest)
            return True
        while self._queued and self._queued + size > self._limit:
            if self._overload == "block":
                return False
            if self._overload == "drop-newest":
                self._drop(frame, self._newest)
                return True
            number = next(n for n, each in enumerate(self._queue) if isinstance(each.message, Frame))
            oldest = self._queue[number]
            del self._queue[number]
            self._queued -= oldest.size
            assert isinstance(oldest.message, Frame)
            self._drop(oldest.message, oldest.ledger)
        # Its arrays belong to the owner, who overwrites them. The copy is the one that ZeroMQ sends later.
        payload = [zmq.Frame(part, copy=True) for part in self._writer.encode(frame)[2:]]
        arrays = {
            name: np.ndarray(array.shape, array.dtype.newbyteorder("<"), cast(bytes, part))
            for (name, array), part in zip(frame.arrays.items(), payload, strict=True)
        }
        self._queue.append(_Waiting(replace(frame, arrays=arrays), self._newest, size, payload))
        self._queued += size
        return True

    def _drop(self, frame: Frame, ledger: Ledger) -> int:
        spectra = len(frame.block)
        problem = Problem(self._cause, spectra, "subscribers are too slow", "too slow", frame.index)
        ledger.found(problem)
        level = logging.WARNING if ledger.problems[problem.kind] == 1 else logging.DEBUG
        log.log(level, "%s: %s of the %s stream", problem.cause.value, problem.text, self.stream)
        return spectra

    def _send_waiting(self, waiting: _Waiting) -> bool:
        match waiting.message:
            case Frame() as frame:
                if frame.time_out_ns is not None:
                    frame = replace(frame, time_out_ns=time.time_ns())
                return self._send(frame, waiting.payload)
            case Start() as start:
                self._bound_queue(start)
                if not self._put(encode(start), last=True):
                    return False
                self._start, self._ledger = start, waiting.ledger
                self._sequence, self._index = start.sequence, start.index
                self._say_again = False
            case make:
                # The totals are final only when this leaves: ask once, and keep the answer.
                end = make()
                waiting.message = lambda: end
                if not self._put(encode(end), last=True):
                    return False
                self._start = None
        return True

    def _send(self, frame: Frame, payload: Sequence[zmq.Frame] = ()) -> bool:
        """payload: the frame's arrays, if they are ZeroMQ's already."""
        if frame.sequence != self._sequence:
            frame = replace(frame, sequence=self._sequence)
        spectra = len(frame.block)
        parts = self._writer.encode(frame)
        if not self._put([*parts[:2], *payload] if payload else parts):
            return False
        self._sequence += 1
        self._index = frame.index + spectra
        self._ledger.passed(spectra)
        self.frames_sent += 1
        self.spectra_sent += spectra
        return True

    def _put(self, parts: Sequence[Part | zmq.Frame], last: bool = False) -> bool:
        """Hand a message to ZeroMQ; False if some subscriber has no room, and has not stalled.

        last: after `surrender`, who has no room for it does without.
        """
        try:
            self._send_now(parts)
        except zmq.Again:
            if not (last and self._surrendered) and not self._stalled():
                return False
            # ZeroMQ now passes over whoever is full, from this message on until it has read again.
            # Who reads has emptied its queue meanwhile, and misses nothing.
            self.socket.setsockopt(zmq.XPUB_NODROP, 0)
            self._send_now(parts)
            self.socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._refused_at = None
        return True

    def _send_now(self, parts: Sequence[Part | zmq.Frame]) -> None:
        """As send_multipart, which looks at each part for longer than it takes to send it."""
        send, last = self._send_part, len(parts) - 1
        for number, part in enumerate(parts):
            send(part, MORE if number < last else NOW)

    def _stalled(self) -> bool:
        """Whether some subscriber has had no room for so long that it has stopped reading."""
        now = time.monotonic()
        if self._refused_at is None:
            self._refused_at = now
        if not self._stall_s or now - self._refused_at < self._stall_s:
            return False
        self.stalls += 1
        log.log(
            logging.WARNING if self.stalls == 1 else logging.DEBUG,
            "a subscriber of the %s stream read nothing for %g s: it is left out until it reads again",
            self.stream, self._stall_s,
        )  # fmt: skip
        return True

    def _bound_queue(self, start: Start) -> None:
        """ZeroMQ bounds queues in messages, memory is what must be bounded: convert at the first run.

        Only then: changing the mark of a connection that has messages under way can stall it for good,
        since sender and receiver count by it. It is kept small, since ZeroMQ tells only after half of it
        that a subscriber reads; the larger part of the buffer is ours.
        """
        if not self._bounded:
            share = min(self._limit // 4, ZEROMQ_BYTES)
            mark = min(max(share // message_bytes(start), 4), 1_000)
            self.socket.setsockopt(zmq.SNDHWM, mark)
            self._limit = max(self._limit - mark * message_bytes(start), 1)
            self._bounded = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(0 if isinstance(error, KeyboardInterrupt) else None)


def bind_control(
    context: zmq.Context[zmq.Socket[bytes]], address: str, most_bytes: int, security: Access = None
) -> tuple[zmq.Socket[bytes], Guard | None]:
    """A ROUTER socket for requests of at most `most_bytes`, and its guard if it has keys.

    Raises StreamError if it cannot be bound, KeysError if it may not be.
    """
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    _configure(socket)
    socket.setsockopt(zmq.MAXMSGSIZE, most_bytes)
    guard = None
    try:
        guard = secure_server(socket, address, security)
        socket.bind(address)
    except (zmq.ZMQError, KeysError) as error:
        if guard is not None:
            guard.close()
        socket.close(0)
        if isinstance(error, zmq.ZMQError):
            raise StreamError(_cannot_bind(address, error)) from None
        raise
    return socket, guard


def connect_control(
    address: str, security: ClientKeys | None = None
) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
    """A REQ socket for requests, and its monitor for failed handshakes.

    Raises StreamError for an impossible address, KeysError for keys that cannot be used.
    """
    _check_resolves(address)
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REQ)
    _configure(socket)
    secure_client(socket, security)
    monitor: zmq.Socket[bytes] = socket.get_monitor_socket(FAILED)
    socket.connect(address)
    return socket, monitor


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

    def receive(self, timeout_s: float = 0) -> list[Part] | None:
        """The parts of the next message, or None if none came within the timeout.

        Large parts are not copied out of ZeroMQ's memory: read-only views, which keep it alive.
        """
        if timeout_s and not self.socket.poll(int(timeout_s * 1e3)):
            return None
        receive = self.socket.recv
        try:
            part = receive(NOW, copy=False)
        except zmq.Again:
            return None
        # As recv_multipart, which asks the socket for RCVMORE after each part: that costs more than the part.
        parts: list[Part] = [part.bytes]
        while part.more:
            part = receive(NOW, copy=False)
            parts.append(part.bytes if len(part) < VIEW_FROM else memoryview(cast(bytes, part)).toreadonly())
        return parts

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
