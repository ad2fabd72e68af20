"""Cuts off a publisher whose message does not end: compares what came over a connection with what was read.

ZeroMQ bounds the bytes of a part, not the number of parts: it keeps such a message, part by part, until the
memory is full. What it drops, since nobody subscribed to it, looks the same from here: publishers filter.
Linux only; elsewhere nothing is noticed.
"""

import os
import socket
import time
from contextlib import suppress

from cars_rt import memory
from cars_rt.sockets.inflow import HEARTBEATS, borrowed, look_at

LOOK_S = 0.02  # between two looks, at least
FREED_S = 1.0  # after a cut, when ZeroMQ's thread has freed what was kept


class Unended:
    """Looks after the connection of one socket, from its thread."""

    def __init__(self, port: int) -> None:
        """port: that the socket connects to."""
        self._port = port
        self._descriptor = -1
        self._received = self._unfinished = 0  # bytes: in all; and that are not taken, about
        self._taken = self._emptied = 0
        self._looked = 0.0
        self._cut_at = 0.0  # what was kept until then is not given back yet

    def begin(self, descriptor: int) -> None:
        """It is another connection now; below 0: there is none, and its number may be another one's."""
        self._descriptor, self._received, self._unfinished = descriptor, 0, 0

    def look(self, taken: int, emptied: int, budget: int) -> int:
        """Bytes of a message that does not end, whose connection is cut off with that; 0: all is well.

        taken: bytes of whole messages that were read. emptied: how often none was there. budget: bytes that
        may be on their way without being a message yet.
        """
        now = time.monotonic()
        if (passed_s := now - self._looked) < LOOK_S:
            return 0
        self._looked = now
        if self._cut_at and now - self._cut_at > FREED_S:
            self._cut_at = 0.0
            memory.give_back()
        found = _look_at_copy(self._descriptor) if self._descriptor >= 0 else None
        if found is None or found[1] != self._port or found[3] < self._received:
            return 0
        _, _, peer, received = found
        # More taken than came gives no credit: parts are counted with what they take on the wire at most.
        passed = taken - self._taken + int(passed_s * HEARTBEATS)
        before = max(self._unfinished - passed, 0)
        self._unfinished = max(self._unfinished + received - self._received - passed, 0)
        read_all = emptied != self._emptied  # all whole ones that had come by the last look
        self._received, self._taken, self._emptied = received, taken, emptied
        if not read_all or before <= budget or not _shut_down(self._descriptor, peer):
            return 0
        memory.give_back(more_follows=True)  # before the thread that keeps it comes to free it
        self._descriptor, self._cut_at = -1, now
        return self._unfinished


def _look_at_copy(descriptor: int) -> tuple[int, int, str, int] | None:
    """As `look_at`, of a number of our own: Ctrl-C would close ZeroMQ's, which ends the program."""
    try:
        own = os.dup(descriptor)
    except OSError:
        return None
    try:
        return look_at(own)
    finally:
        with suppress(OSError):  # closed by what Ctrl-C interrupted
            os.close(own)


def _shut_down(descriptor: int, peer: str) -> bool:
    """Whether it was still there. The descriptor is ZeroMQ's, which may close it at any moment."""
    try:
        with borrowed(os.dup(descriptor)) as own:
            found = look_at(own.fileno())
            if found is None or found[2] != peer:
                return False
            own.shutdown(socket.SHUT_RDWR)
    except OSError:
        return False
    return True
