"""Binds an address and publishes: queue, policy of overload, late and stalled subscribers."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Literal, Self, TypeAlias, cast

import numpy as np
import zmq

from cars_rt.accounting import Cause, Ledger, Problem
from cars_rt.protocol import End, Frame, FrameWriter, Part, Start, StreamName, encode, encode_notice
from cars_rt.protocol.limits import MAX_COUNT
from cars_rt.sockets.audience import Audience
from cars_rt.sockets.endpoint import StreamError, cannot_bind, configure, prepare_to_bind
from cars_rt.trust.curve import Access, Guard, secure_server
from cars_rt.trust.keys import KeysError

log = logging.getLogger("cars_rt.stream")

BUFFER_MB = 256  # at a publisher, for each subscriber: more than a minute of a camera at 1 kHz
NOW, MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
UNSENT = 4, 64  # messages in ZeroMQ's queue of each subscriber, at least and at most,
UNSENT_SHARE = 4, 1_000_000  # so that they take a fourth of the buffer if each has so many bytes
STALL_S = 10.0  # a subscriber that has taken nothing for so long has stopped reading
LOOK_S = 0.005  # between two looks for new subscribers, which cost as much as several messages
RETRY_S = 0.001  # how soon a send is tried again when a subscriber has no room
SAID = 5  # so many who subscribe to another stream are named in the log
# ZeroMQ tells only after half of its queue that a subscriber reads. So we ask whether it still holds what:
FOLLOWED = 8, 65_536  # of small messages each eighth, all that are larger
WAIT_S = 0.1  # between two looks at whether a subscriber has stalled
MOMENT_S = 0.001  # so long, waiting for ZeroMQ's thread costs less than copying a frame into our queue

#: What a publisher does when a subscriber is too slow and its queue full.
Overload: TypeAlias = Literal["block", "drop-oldest", "drop-newest"]


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
        self.newest_at = time.monotonic()  # when a subscriber came last
        #: Set: while nobody listens, frames wait stall_s, and then are lost for this cause.
        self.unheard: Cause | None = None
        self._alone_at = -math.inf  # since when nobody listens
        self.runs_waiting = 0  # whose start waits for room
        self.stalls = 0  # how often a subscriber was found to have stopped reading
        self.frames_sent = self.spectra_sent = 0  # in all runs
        self._overload, self._stall_s, self._cause = overload, stall_s, cause
        self._limit = self._room = int(buffer_mb * 1e6)  # bytes: ZeroMQ's queue and ours together; ours
        self._unsent = min(max(self._limit // (UNSENT_SHARE[0] * UNSENT_SHARE[1]), UNSENT[0]), UNSENT[1])
        self._queue: deque[_Waiting] = deque()
        self._queued = self._waiting = 0  # bytes and spectra of it
        self._start: Start | None = None  # of the run on the wire, kept for late subscribers
        self._say_again = False
        self._ledger = Ledger()  # of the run on the wire
        self._newest = self._ledger  # of the run that was opened last
        self._sequence = 0
        self._index = 0
        self._look_at = 0.0  # when to look for new subscribers again
        self._refused_at: float | None = None  # since when some subscriber has had no room
        self._surrendered = False
        self._underway: deque[zmq.MessageTracker] = deque(maxlen=self._unsent)
        self._guard: Guard | None = None
        self._context = zmq.Context()  # its own, so that close can wait for this socket alone
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.XPUB)
        configure(self.socket)
        # Without the look at options of draft sockets, which costs as much as sending a small part.
        self._send_part = super(zmq.Socket, self.socket).send
        self._writer = FrameWriter()
        # Never after the address is bound: libzmq 4.3.5 tells a new mark also to a connection that is just
        # ending, and writes into memory that was freed. It counts messages, memory is what must be bounded:
        # so it is small, and the larger part of the buffer is ours.
        self.socket.setsockopt(zmq.SNDHWM, self._unsent)
        self.socket.setsockopt(zmq.XPUB_NODROP, 1)
        self.audience = Audience(self.socket, stream, self._redirect)
        try:
            address = prepare_to_bind(self.socket, address)
            self._guard = secure_server(self.socket, address, security)
            self.socket.bind(address)
        except zmq.ZMQError as error:
            self.close(0)
            raise cannot_bind(address, error) from None
        except (KeysError, StreamError):
            self.close(0)
            raise
        self.address = cast(bytes, self.socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
        #: Readable when `serve` may have something to do.
        self.wake = cast(int, self.socket.getsockopt(zmq.FD))

    @property
    def sequence(self) -> int:
        """The number that the next frame gets if nothing waits before it."""
        return self._sequence

    @property
    def subscribers(self) -> int:
        """Connections that subscribe, each counted once."""
        return len(self.audience)

    @property
    def waiting(self) -> int:
        """Spectra that wait for room."""
        return self._waiting

    @property
    def capacity(self) -> int:
        """Spectra of the run on the wire that can wait for room, at least 1."""
        return max(self._limit // self._start.spectrum_bytes, 1) if self._start else 1

    @property
    def refused_s(self) -> float:
        """For how long some subscriber has had no room, s."""
        return 0.0 if self._refused_at is None else time.monotonic() - self._refused_at

    @property
    def blocked(self) -> bool:
        """Whether anything waits for room."""
        return bool(self._queue)

    @property
    def refused(self) -> int:
        """Connections without an allowed key, or ended for the flood of their subscriptions, so far."""
        return self.audience.ended + (self._guard.refused if self._guard is not None else 0)

    def serve(self) -> None:
        """Note who came and went, say `start` again to who came late, send what waits. Call it often."""
        self._look_at = time.monotonic() + LOOK_S
        here = self.subscribers
        if self.audience.look():
            self.newest_at = time.monotonic()
            self._say_again = self._start is not None
        if self.subscribers < here:
            self._alone_at = time.monotonic()
        if self._say_again and self._start is not None:
            start = replace(self._start, sequence=self._sequence, index=self._index)
            self._say_again = not self._put(encode(start))
        if self._queue:
            self.flush()

    def _redirect(self, topic: bytes) -> None:
        """Whoever waits here for another stream is told so, and is nobody to begin for."""
        level = logging.INFO if self.audience.ignored <= SAID else logging.DEBUG
        log.log(level, "%s: somebody subscribes to %r, but the %s stream is here",
                self.address, topic.decode("ascii", "replace")[:64], self.stream)  # fmt: skip
        self.socket.setsockopt(zmq.SUBSCRIBE, topic)
        with suppress(zmq.Again):  # it has just come, and has room unless it goes already
            self._send_now(encode_notice(topic, self.stream))
        self.socket.setsockopt(zmq.UNSUBSCRIBE, topic)

    def open(self, start: Start, ledger: Ledger | None = None) -> None:
        """Begin a run, after what still waits. What leaves and what is dropped is counted in `ledger`."""
        encode(start)  # refused here rather than when its turn comes
        self._newest = Ledger() if ledger is None else ledger
        self._queue.append(_Waiting(start, self._newest, 0))
        self.runs_waiting += 1
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
            self._wait(left)

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
            if self._say_again or not self._send_first(first):
                if (left := deadline - time.monotonic()) <= 0:
                    return False
                self._wait(left)
                if self._say_again or not self.subscribers:
                    self.serve()
            else:
                self._queue.popleft()
                self._forget(first)
        return True

    def _send_first(self, waiting: _Waiting) -> bool:
        """True if it waits no more: sent or, where it cannot be made a message, left out and counted."""
        try:
            return self._send_waiting(waiting)
        except Exception as error:  # kept, it would hold up everything behind it for good
            waiting.ledger.problems["failed: a message"] += 1
            log.error(
                "a message of the %s stream cannot be sent and is left out: %s: %s",
                self.stream, type(error).__name__, error,
            )  # fmt: skip
            if isinstance(waiting.message, Frame):
                self._drop(waiting.message, waiting.ledger)
            return True

    def give_up(self) -> int:
        """Drop everything that waits, counted; the number of spectra. Ends are told if there is room."""
        dropped, waiting = 0, list(self._queue)
        self._queue.clear()
        self._queued = self._waiting = self.runs_waiting = 0
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
        while self._queued and self._queued + size > self._room:
            if self._overload == "block":
                return False
            if self._overload == "drop-newest":
                self._drop(frame, self._newest)
                return True
            number = next(n for n, each in enumerate(self._queue) if isinstance(each.message, Frame))
            oldest = self._queue[number]
            del self._queue[number]
            self._forget(oldest)
            assert isinstance(oldest.message, Frame)
            self._drop(oldest.message, oldest.ledger)
        # Its arrays belong to the owner, who overwrites them. The copy is the one that ZeroMQ sends later.
        if frame.sequence >= MAX_COUNT:  # of the run before, which ended at the last number; it gets its own
            frame = replace(frame, sequence=0)
        payload = [zmq.Frame(part, copy=True) for part in self._writer.encode(frame)[2:]]
        arrays = {
            name: np.ndarray(array.shape, array.dtype.newbyteorder("<"), cast(bytes, part))
            for (name, array), part in zip(frame.arrays.items(), payload, strict=True)
        }
        self._queue.append(_Waiting(replace(frame, arrays=arrays), self._newest, size, payload))
        self._queued += size
        self._waiting += len(frame.block)
        return True

    def _forget(self, waiting: _Waiting) -> None:
        """It waits no more."""
        self._queued -= waiting.size
        if isinstance(waiting.message, Frame):
            self._waiting -= len(waiting.message.block)
        self.runs_waiting -= isinstance(waiting.message, Start)

    def _drop(self, frame: Frame, ledger: Ledger, unheard: Cause | None = None) -> int:
        spectra, cause = len(frame.block), unheard or self._cause
        text, kind = (
            ("there is no subscriber", "unheard") if unheard else ("subscribers are too slow", "too slow")
        )
        problem = Problem(cause, spectra, text, kind, frame.index)
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
                if not self._put(encode(start), last=True):
                    return False
                self._start, self._ledger = start, waiting.ledger
                self._room = max(self._limit - self._unsent * message_bytes(start), self._limit // 2)
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
        if self.unheard is not None and not self.subscribers:
            alone_s = time.monotonic() - self._alone_at
            if not self._surrendered and (not self._stall_s or alone_s < self._stall_s):
                return False  # who was cut off comes back, and gets what waited meanwhile
            self._drop(frame, self._ledger, self.unheard)
            return True
        if frame.sequence != self._sequence:
            frame = replace(frame, sequence=self._sequence)
        spectra = len(frame.block)
        parts: Sequence[Part | zmq.Frame] = self._writer.encode(frame)
        tracker: zmq.MessageTracker | None = None
        if self._sequence % FOLLOWED[0] == 0 or frame.block.nbytes >= FOLLOWED[1]:
            header = zmq.Frame(parts[1], copy=False, track=True)
            tracker, parts = cast(zmq.MessageTracker, header.tracker), [parts[0], header, *parts[2:]]
        if not self._put([*parts[:2], *payload] if payload else parts):
            return False
        if tracker is not None:
            self._underway.append(tracker)
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
        if not self._try(parts):
            if not (last and self._surrendered) and not self._stalled():
                return False
            # ZeroMQ now passes over whoever is full, from this message on until it has read again.
            # Who reads has emptied its queue meanwhile, and misses nothing.
            self.socket.setsockopt(zmq.XPUB_NODROP, 0)
            self._send_now(parts)
            self.socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._refused_at = None
        return True

    def _try(self, parts: Sequence[Part | zmq.Frame]) -> bool:
        """Whether all subscribers had room, at once or after a moment."""
        try:
            self._send_now(parts)
            return True
        except zmq.Again:
            self._wait(0.0 if self._queue or self._refused_at is not None else MOMENT_S)
        try:
            self._send_now(parts)
            return True
        except zmq.Again:
            return False

    def _wait(self, most_s: float) -> None:
        """Until ZeroMQ's thread has something to tell, such as that a subscriber has room; note it."""
        if most_s:
            zmq.zmq_poll([(self.wake, zmq.POLLIN)], max(int(min(most_s, WAIT_S) * 1e3), 1))
        # A send looks only once in a millisecond at what ZeroMQ's thread has to tell. This always does.
        self.socket.getsockopt(zmq.EVENTS)

    def _send_now(self, parts: Sequence[Part | zmq.Frame]) -> None:
        """As send_multipart, which looks at each part for longer than it takes to send it."""
        send, last = self._send_part, len(parts) - 1
        for number, part in enumerate(parts):
            send(part, MORE if number < last else NOW)

    def _stalled(self) -> bool:
        """Whether some subscriber had no room and took nothing for so long that it has stopped reading."""
        now = time.monotonic()
        held = [each for each in self._underway if not each.done]
        if self._refused_at is None or len(held) < len(self._underway):  # by the slowest of all, too
            self._refused_at = now
        self._underway = deque(held, self._unsent)
        if not self._stall_s or now - self._refused_at < self._stall_s:
            return False
        self.stalls += 1
        self._underway.clear()  # it holds them until it reads again
        log.log(
            logging.WARNING if self.stalls == 1 else logging.DEBUG,
            "a subscriber of the %s stream read nothing for %g s: it is left out until it reads again",
            self.stream, self._stall_s,
        )  # fmt: skip
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(0 if isinstance(error, KeyboardInterrupt) else None)
