"""Who subscribes to a publisher, and how much it may send for that: the size of a subscription, and how many.

Counts connections, not subscriptions; none keeps it from publishing.
"""

import logging
import math
import os
import socket as sockets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import zmq

from cars_rt.protocol import STREAMS, StreamName, concerns
from cars_rt.protocol.limits import MAX_NAME

log = logging.getLogger("cars_rt.stream")

MAX_SUBSCRIPTION_BYTES = 512  # a topic, or what a subscriber says of itself when it comes
UNREAD_SUBSCRIPTIONS = 32  # of each connection; the others wait at their sender
TURN_S = 0.002  # spent on subscriptions in one turn, at most; the others wait for the next
WINDOW_S = 1.0
MOST_IN_WINDOW = 64  # a connection that subscribes and unsubscribes more often is ended
SIGN_S = 1.0  # between two signs of a subscriber that waits on purpose,
WAITS = ".waits"  # which subscribes to this topic of the stream and back; there are no messages of it
MOST_FOREIGN = 16  # so is one with more topics of other streams; a few are no fault of it
CHECK_S = 0.05, 5.0  # between two looks for ended connections: where one has ended, and in any case

Connection = tuple[int, Any]  # file descriptor and address of the peer: no two at any time have the same


@dataclass(slots=True)
class _Listener:
    """One connection."""

    since: float  # when this window began
    events: int = 0  # in this window
    topics: set[bytes] = field(default_factory=set)  # accepted ones
    foreign: int = 0
    refused: bool = False  # and still there: nothing of it counts any more


class Audience:
    """Grants or ignores subscriptions of an XPUB socket with XPUB_MANUAL, and counts who is there.

    libzmq stores each topic of a connection before we see it, so a connection with topics without end is
    ended.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], stream: StreamName, redirect: Callable[[bytes], None]
    ) -> None:
        """Call it before the socket is bound. redirect: answers a connection that first asks for another
        stream."""
        self.ended = 0  # connections, for the flood of their subscriptions
        self.newest_at = time.monotonic()  # when somebody subscribed last
        self.sign_at = -math.inf  # when somebody last said that it waits on purpose
        self._alone_at = -math.inf  # when the last subscriber left
        self.behind = False  # whether more has come than was taken in the last look
        self._socket, self._stream, self._redirect = socket, stream, redirect
        topics = [f"{stream}.{kind}".encode() for kind in ("start", "frame", "end")]
        self._waits = f"{stream}{WAITS}".encode()
        self._ours = {topic[:length] for topic in topics for length in range(len(topic) + 1)}
        self._listeners: dict[Connection, _Listener] = {}
        self._checked_at = self._check_at = 0.0
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION_BYTES)
        socket.setsockopt(zmq.RCVHWM, UNREAD_SUBSCRIPTIONS)
        # A subscription takes effect only when it is granted here: `start` comes before any frame.
        socket.setsockopt(zmq.XPUB_MANUAL, 1)

    def __len__(self) -> int:
        """Connections that subscribe to this stream."""
        return sum(bool(each.topics) for each in self._listeners.values())

    @property
    def alone_s(self) -> float:
        """For how long nobody has been there, s; infinite if nobody ever was. Only where nobody is there
        now."""
        return time.monotonic() - self._alone_at

    def look(self) -> bool:
        """Take what came, or a part of it if it is much. Returns whether there is a new subscription."""
        new, here = False, len(self)
        now = time.monotonic()
        connections: dict[int, Connection | None] = {}
        self.behind = True
        while time.monotonic() - now < TURN_S:
            # Without asking for EVENTS each time: with that, ZeroMQ takes in more than we take out.
            try:
                event = self._socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                self.behind = False
                break
            try:
                descriptor = int(event.get(zmq.SRCFD))
            except zmq.ZMQError:  # ZeroMQ says that a connection has ended, not which
                self._check_at = min(self._check_at, self._checked_at + CHECK_S[0])
                continue
            if descriptor not in connections:
                connections[descriptor] = _connection(descriptor)
            if (connection := connections[descriptor]) is not None:  # None: it is gone already
                new |= self._take(connection, event.bytes, now)
        if now >= self._check_at:
            self._checked_at, self._check_at = now, now + CHECK_S[1]
            for each in [each for each in self._listeners if _connection(each[0]) != each]:
                del self._listeners[each]
        if new:
            self.newest_at = time.monotonic()
        if len(self) < here:
            self._alone_at = time.monotonic()
        return new

    def _take(self, connection: Connection, event: bytes, now: float) -> bool:
        """Whether this is a subscription that was not there before."""
        listener = self._listeners.setdefault(connection, _Listener(now))
        if (passed_s := now - listener.since) > WINDOW_S:  # signs may have come while nobody looked
            listener.since, listener.events = now, -int(passed_s / SIGN_S)
        if listener.refused:
            return False
        listener.events += 1
        wanted, topic = event[:1], event[1:]
        new = False
        if topic == self._waits:
            self.sign_at = now
        elif topic not in self._ours or wanted not in (b"\x00", b"\x01"):
            listener.foreign += 1
            if listener.foreign == 1 and not listener.topics and wanted == b"\x01" and _named(topic):
                self._redirect(topic)
        elif wanted == b"\x01":
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
            new = topic not in listener.topics
            listener.topics.add(topic)
        else:
            self._socket.setsockopt(zmq.UNSUBSCRIBE, topic)
            listener.topics.discard(topic)
        if listener.events > MOST_IN_WINDOW or listener.foreign > MOST_FOREIGN:
            self._refuse(connection, listener)
            new = new and not listener.refused
        return new

    def _refuse(self, connection: Connection, listener: _Listener) -> None:
        """End a connection by its descriptor, since ZeroMQ has no call for that. On Windows ZeroMQ aborts the
        process where it finds a connection shut down (its tcp_read asserts that it never does): there what
        comes of this one counts no more."""
        if os.name == "nt":
            for topic in listener.topics:
                self._socket.setsockopt(zmq.UNSUBSCRIBE, topic)  # of the connection that came last: this one
            listener.topics.clear()
            listener.refused = True
            self._tell_refused(connection)
            return
        with suppress(OSError), _duplicate(connection[0]) as duplicate:
            if duplicate.getpeername() == connection[1]:
                duplicate.shutdown(sockets.SHUT_RDWR)
                self._tell_refused(connection)

    def _tell_refused(self, connection: Connection) -> None:
        self.ended += 1
        level = logging.WARNING if self.ended == 1 else logging.DEBUG
        log.log(
            level, "%s: a connection of the %s stream was ended for the flood of its subscriptions",
            connection[1][0] if connection[1] else "?", self._stream,
        )  # fmt: skip


def _named(topic: bytes) -> bool:
    """Whether it asks for one of the streams that there are."""
    return len(topic) <= MAX_NAME and any(concerns(topic, stream) for stream in STREAMS)


def _duplicate(descriptor: int) -> sockets.socket:
    """The same connection under a number that nobody else closes. Raises OSError if there is none."""
    # Not by socket.fromfd, which leaves the duplicate open where the descriptor is no socket any more.
    number = sockets.dup(descriptor)
    try:
        return sockets.socket(fileno=number)
    except OSError:
        sockets.close(number)
        raise


def _connection(descriptor: int) -> Connection | None:
    """What this file descriptor is connected to, None if to nothing."""
    try:
        with _duplicate(descriptor) as duplicate:
            return descriptor, duplicate.getpeername()
    except OSError:
        return None
