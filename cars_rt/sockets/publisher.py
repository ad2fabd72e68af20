"""Binds an address and publishes: what leaves, what waits, and late subscribers."""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self, cast

import zmq

from cars_rt.accounting import Cause, Kind, Ledger, Problem
from cars_rt.protocol import End, Frame, Start, StreamName, encode, encode_notice
from cars_rt.sockets.audience import Audience
from cars_rt.sockets.backlog import OVERHEAD_BYTES, Answer, Backlog, Overload, Waiting
from cars_rt.sockets.endpoint import StreamError, bind, configure
from cars_rt.sockets.outlet import STALL_S, Outlet
from cars_rt.sockets.told import Told
from cars_rt.trust.curve import Access, Guard
from cars_rt.trust.keys import KeysError

log = logging.getLogger("cars_rt.stream")

BUFFER_MB = 256  # at a publisher, for each subscriber: more than a minute of a camera at 1 kHz
UNSENT = 4, 256  # messages in ZeroMQ's queue of each subscriber, at least and at most
UNSENT_SHARE = 2, 500_000  # part of the buffer that they take if each has so many bytes: a half
LOOK_S = 0.005  # between two looks for new subscribers, which cost as much as several messages
RETRY_S = 0.001  # how soon a send is tried again when a subscriber has no room
SAY_S = 1.0  # a close that takes longer is told
LOOK_AGAIN_S = 0.05  # between two looks at whether it is done
LEFT_OUT_S = 0.5  # of a close for subscribers that were left out, when all others have everything
ROUNDED_S = 0.01  # by which ZeroMQ may give up too early


def message_bytes(start: Start) -> int:
    """Memory that one frame of this run takes in a queue, about."""
    return start.block * start.spectrum_bytes + OVERHEAD_BYTES


class Publisher:
    """Binds an address and publishes one stream, run after run, in order.

    A message goes to all subscribers or, if one has no room for it, waits in a queue of buffer_mb. When
    that is full, too, `overload` says what happens: the owner waits (`block`), the oldest or the newest
    frames are dropped, and counted in the run's ledger under `cause`. A subscriber that has taken nothing
    for stall_s, and gave no sign, has stopped reading: from then on messages go to the others without it,
    until it reads again and finds the gap in the sequence. Frames are numbered here as they leave. security
    says who may subscribe. Raises StreamError if the address cannot be bound, KeysError if it may not be.
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
        #: If set: while nobody listens, frames wait stall_s and are then lost for this cause.
        self.unheard: Cause | None = None
        self.backlog = Backlog(int(buffer_mb * 1e6), overload)
        self._cause = cause
        self._told = Told()
        self._newest = self._told.ledger  # of the run that was opened last
        self._say_again = False  # the start, or the last end, is to be sent to a late subscriber
        self._look_at = 0.0  # when to look for new subscribers again
        self._give_up_at = math.inf  # when a close waits no longer
        self._guard: Guard | None = None
        self._context = zmq.Context()  # its own, so that close can wait for this socket alone
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.XPUB)
        configure(self.socket)
        # Never set it after the address is bound: libzmq 4.3.5 also tells a new mark to a connection that is
        # just ending, and writes into freed memory. The mark counts messages, but memory is what must be
        # bounded. So it is small, and the larger part of the buffer is ours.
        unsent = _unsent(self.backlog.limit)
        self.socket.setsockopt(zmq.SNDHWM, unsent)
        self.outlet = Outlet(self.socket, stream, stall_s, unsent)
        self.audience = Audience(self.socket, stream, self._redirect)
        try:
            self.address, self._guard = bind(self.socket, address, security)
        except (KeysError, StreamError):
            self.close(0)
            raise
        #: Readable when `serve` may have something to do.
        self.wake = cast(int, self.socket.getsockopt(zmq.FD))

    @property
    def sequence(self) -> int:
        """The number that the next frame gets if nothing waits before it."""
        return self._told.sequence

    @property
    def frames_sent(self) -> int:
        """Frames sent in all runs."""
        return self._told.frames

    @property
    def spectra_sent(self) -> int:
        """Spectra sent in all runs."""
        return self._told.spectra

    @property
    def subscribers(self) -> int:
        """Connections that subscribe, each counted once."""
        return len(self.audience)

    @property
    def stalls(self) -> int:
        """How often a subscriber was found to have stopped reading."""
        return self.outlet.stalls

    @property
    def runs_waiting(self) -> int:
        """Runs whose start waits for room."""
        return self.backlog.starts

    @property
    def waiting(self) -> int:
        """Spectra that wait for room."""
        return self.backlog.spectra

    @property
    def capacity(self) -> int:
        """Spectra of the run on the wire that can wait for room, at least 1."""
        start = self._told.start
        return max(self.backlog.limit // start.spectrum_bytes, 1) if start else 1

    @property
    def refused_s(self) -> float:
        """For how long some subscriber has had no room, s."""
        return self.outlet.full_s

    @property
    def blocked(self) -> bool:
        """Whether anything waits for room."""
        return bool(self.backlog)

    def is_behind(self) -> bool:
        """Whether more subscriptions wait than could be looked at until now."""
        return self.audience.behind

    @property
    def due_s(self) -> float:
        """How soon `serve` has to be called again, s: infinite where no subscriptions wait."""
        return max(self._look_at - time.monotonic(), 0.0) if self.audience.behind else math.inf

    @property
    def refused(self) -> int:
        """Connections without an allowed key, or ended for the flood of their subscriptions, so far."""
        return self.audience.ended + (self._guard.refused if self._guard is not None else 0)

    def serve(self) -> None:
        """Note subscribers that came and went, send late ones the `start`, or the last `end`, and what waits.
        Call it often."""
        self._attend()
        if self.backlog:
            self.flush()

    def _attend(self) -> None:
        """Do that, but for what waits."""
        if (now := time.monotonic()) >= self._look_at:
            self._say_again |= self.audience.look()
            self.outlet.sign(self.audience.sign_at)
            self._look_at = now + LOOK_S
        if self._say_again:
            again = self._told.once_more()
            self._say_again = not (again is None or self.outlet.put(again, hurry=self.blocked, must=True))

    def _redirect(self, topic: bytes) -> None:
        """Tell a connection that asks for another stream that it is not here. It does not count as a
        subscriber."""
        log.debug("%s: somebody subscribes to %r, but the %s stream is here",
                self.address, topic.decode("ascii", "replace")[:64], self.stream)  # fmt: skip
        self.socket.setsockopt(zmq.SUBSCRIBE, topic)
        with suppress(zmq.Again):  # it has just connected, so it has room unless it is leaving again
            self.outlet.send_now(encode_notice(topic, self.stream))
        self.socket.setsockopt(zmq.UNSUBSCRIBE, topic)

    def open(self, start: Start, ledger: Ledger | None = None) -> None:
        """Begin a run, after what still waits. What leaves and what is dropped is counted in `ledger`."""
        encode(start)  # so that a bad one is refused here, not when its turn comes
        self._newest = Ledger() if ledger is None else ledger
        self.backlog.add(Waiting(start, self._newest))
        self.serve()

    def say_again(self, run: str, model: Mapping[str, str]) -> None:
        """Send the start of this run once more, with what makes its results now."""
        self._say_again |= self._told.say(run, model)
        self.backlog.say(run, model)

    def send(self, frame: Frame, timeout_s: float = 0) -> bool:
        """Publish a frame of the run that was opened last. True: it is sent, waits in the queue, or was
        dropped and counted. False: there was no room within the timeout (only if overload is `block`).
        """
        deadline = time.monotonic() + timeout_s if timeout_s else 0.0
        while True:
            if self.backlog or self._say_again or time.monotonic() >= self._look_at:
                self.serve()
            if not self.backlog and not self._say_again and self._send(frame):
                return True
            if self._keep(frame):
                return True
            if (left := deadline - time.monotonic()) <= 0:
                return False
            self.outlet.wait(left)

    def end(self, end: End | Callable[[], End]) -> None:
        """End the run, after what still waits. A function is asked for the totals when their turn comes."""
        self.backlog.add(Waiting(end if callable(end) else lambda: end, self._newest))
        self.flush()

    def flush(self, timeout_s: float = 0) -> bool:
        """Send what waits; True if nothing waits any more, False after the timeout."""
        deadline = time.monotonic() + timeout_s
        while self.backlog:
            if not self._say_again and self._send_first(self.backlog.first()):
                self.backlog.remove_first()
                continue
            if (left := deadline - time.monotonic()) <= 0:
                return False
            self.outlet.wait(left)
            self._attend()
        return True

    def drop_waiting(self) -> int:
        """Drop all frames that wait, and count them. Returns the number of spectra. Ends leave if there is
        room."""
        dropped = 0
        for each in self.backlog.clear():
            if isinstance(each.message, Frame):
                dropped += self._drop(each.message, each.ledger)
            else:
                self._send_waiting(each)
        return dropped

    def surrender(self) -> bool:
        """Wait for nobody any more: frames that wait, or have no room from now on, are dropped and counted.

        False if that was so already.
        """
        if not self.outlet.patient:
            return False
        self.outlet.patient = False
        self.drop_waiting()
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
        taken = self.flush(math.inf if linger_s is None else linger_s) or not self.drop_waiting()
        settled = not self.subscribers or (self._told.start is None and self.outlet.taken)
        if self._guard is not None:
            self._guard.close()
        self._give_up_at = math.inf if linger_s is None else begin + linger_s
        # In a thread of its own: a signal would end ZeroMQ's wait at once, and what is not sent is discarded.
        leaving = threading.Thread(target=self._leave, name="leaving", daemon=True)
        leaving.start()
        try:
            leaving.join(SAY_S)
            if leaving.is_alive():
                limit = "" if linger_s is None else f" for {linger_s:g} s at most"
                log.info(
                    "the end of the %s stream waits%s for a subscriber that has not taken all of it",
                    self.stream, limit,
                )  # fmt: skip
            while leaving.is_alive():
                leaving.join(LOOK_AGAIN_S)
        except BaseException:
            self._give_up_at = 0.0
            raise
        return taken and (settled or time.monotonic() < self._give_up_at - ROUNDED_S)

    def _leave(self) -> None:
        """Close the socket, and wait until all is sent; the end of the process would discard it."""
        left_out = self.outlet.stalls > 0 and self._give_up_at < math.inf
        while left_out and not self.outlet.taken and time.monotonic() < self._give_up_at:
            time.sleep(LOOK_AGAIN_S)
        left_s = max(self._give_up_at - time.monotonic(), 0.0)
        if left_out:
            left_s = min(left_s, LEFT_OUT_S)
        self.socket.close(-1 if left_s == math.inf else int(left_s * 1e3))
        self._context.term()

    def _send_first(self, waiting: Waiting) -> bool:
        """True if it waits no more: sent or, where it cannot be made a message, left out and counted."""
        try:
            return self._send_waiting(waiting)
        except Exception as error:  # a message that stayed would block all behind it for good
            waiting.ledger.problems[f"{Kind.FAILED}: a message"] += 1
            log.error(
                "a message of the %s stream cannot be sent and is left out: %s: %s",
                self.stream, type(error).__name__, error,
            )  # fmt: skip
            if isinstance(waiting.message, Frame):
                self._drop(waiting.message, waiting.ledger)
            return True

    def _send_waiting(self, waiting: Waiting) -> bool:
        match waiting.message:
            case Frame() as frame:
                if frame.time_out_ns is not None:
                    frame = replace(frame, time_out_ns=time.time_ns())
                return self._send(frame, waiting.payload)
            case Start() as start:
                if not self.outlet.put(encode(start), hurry=self.blocked, must=True):
                    return False
                self._told.begin(start, waiting.ledger)
                self.backlog.share(_unsent(self.backlog.limit) * message_bytes(start))
                self._say_again = False
            case make:
                # The totals are final only now, when this leaves: they are asked for once and kept.
                end = make()
                waiting.message = lambda: end
                if not self.outlet.put(encode(end), hurry=self.blocked, must=True):
                    return False
                self._told.ended(end)
        return True

    def _send(self, frame: Frame, payload: Sequence[zmq.Frame] = ()) -> bool:
        """payload: the frame's arrays, if they are ZeroMQ's already."""
        if self.unheard is not None and not self.subscribers:
            stall_s = self.outlet.stall_s
            if self.outlet.patient and (not stall_s or self.audience.alone_s < stall_s):
                return False  # a subscriber that was cut off may come back for what waits
            self._drop(frame, self._told.ledger, self.unheard)
            return True
        if not self.outlet.put(self._told.message(frame, payload), hurry=self.blocked):
            return False
        self._told.left(frame)
        return True

    def _keep(self, frame: Frame) -> bool:
        """Let a frame wait, or deal with it as `overload` says. False: there is no room, ask again."""
        size = sum(array.nbytes for array in frame.arrays.values()) + OVERHEAD_BYTES
        answer, dropped = self.backlog.make_room(size) if self.outlet.patient else (Answer.DROP, [])
        for each in dropped:
            assert isinstance(each.message, Frame)
            self._drop(each.message, each.ledger)
        match answer:
            case Answer.WAIT:
                return False
            case Answer.DROP:
                self._drop(frame, self._newest)
            case Answer.KEEP:  # a copy: its arrays belong to the owner, who overwrites them
                copy, payload = self._told.copied(frame)
                self.backlog.add(Waiting(copy, self._newest, size, payload))
        return True

    def _drop(self, frame: Frame, ledger: Ledger, unheard: Cause | None = None) -> int:
        spectra, cause = len(frame.block), unheard or self._cause
        kind = Kind.UNHEARD if unheard else Kind.TOO_SLOW
        text = "there is no subscriber" if unheard else "subscribers are too slow"
        problem = Problem(cause, spectra, text, kind, frame.index)
        ledger.found(problem)
        level = logging.WARNING if ledger.problems[problem.kind] == 1 else logging.DEBUG
        log.log(level, "%s: %s of the %s stream", problem.cause.value, problem.text, self.stream)
        return spectra

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(0 if isinstance(error, KeyboardInterrupt) else None)


def _unsent(limit: int) -> int:
    """Messages in ZeroMQ's queue of each subscriber, where all queues together have `limit` bytes."""
    return min(max(limit // (UNSENT_SHARE[0] * UNSENT_SHARE[1]), UNSENT[0]), UNSENT[1])
