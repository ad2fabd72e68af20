"""Cuts off a connection that sends without end: it compares what flows into sockets with what is read.

ZeroMQ bounds the bytes of a part and the number of messages, not the number of parts: a message that never
ends is kept, part by part, until the memory is full. And each connection takes one of the descriptors of
the process. So a thread asks the kernel what each connection has received, and how many there are.
Linux only; elsewhere nothing is watched.
"""

import logging
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cars_rt import descriptors, memory

log = logging.getLogger("cars_rt.control")

LOOK_S = 0.25  # between two looks
REST = 20  # times as long as a look kept a core, where that is longer: there may be very many descriptors
HEARTBEATS = 50  # bytes a second of each connection that need be no part of a message: ZeroMQ keeps none
MOST_HEARTBEATS = 1_000  # the same of all connections to a gate
MEGABYTE = 1_000_000
RESERVE = 1 / 4  # of the descriptors is kept for the driver, for control, and for files
TRIMS = (1, 2, 4, 8, 16, 32)  # looks after a cut: ZeroMQ frees what was kept when its threads come to it
TRIM_BYTES = 16 * MEGABYTE
BYTES_RECEIVED = 128  # where that is in the kernel's struct tcp_info, and the struct's size before it
OPEN = Path("/proc/self/fd")


@dataclass(frozen=True)
class Gate:
    """A socket that others connect to: its port, the bytes taken from it, and how many more may be on their
    way."""

    name: str
    port: int
    budget: Callable[[], int]  # bytes
    taken: Callable[[], int] = lambda: 0  # bytes, of all connections
    behind: Callable[[], bool] = lambda: False  # whether more has come in than could be looked at yet


@dataclass(slots=True)
class _Connection:
    descriptor: int
    peer: str  # its address and port
    since: float  # when it was first seen
    received: int = 0  # bytes


@dataclass(slots=True)
class _Watched:
    gate: Gate
    taken: int
    unfinished: int = 0  # bytes received but not taken, about
    connections: dict[tuple[int, str], _Connection] = field(default_factory=dict)


class Inflow:
    """Watches the gates in a thread from start to close; `cut` counts connections that were cut, by gate."""

    def __init__(self, gates: Iterable[Gate]) -> None:
        self.cut: Mapping[str, int] = {}  # replaced by the thread, and never changed
        self._watched = [_Watched(gate, gate.taken()) for gate in gates]
        self._stop = threading.Event()
        self._looked = time.monotonic()
        self._looks_since_cut = max(TRIMS)
        self._behind = False
        self._thread: threading.Thread | None = None
        # A number of our own, under which a connection is looked at before it is cut off: ZeroMQ may close
        # its own at any moment, and the next connection gets that. It is kept for when no number is left.
        self._spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]

    def start(self) -> None:
        """Watch from now on, where that is possible."""
        if sys.platform == "linux" and OPEN.is_dir():
            self._thread = threading.Thread(target=self._run, name="inflow", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        while self._spare:
            os.close(self._spare.pop())

    def _run(self) -> None:
        rest = LOOK_S
        while not self._stop.wait(rest):
            begin = time.thread_time()  # what a look waits for others, as under a flood, is no reason to rest
            try:
                self.look()
            except Exception:  # whatever it is, the next look may succeed
                log.debug("the watch over connections failed", exc_info=True)
            rest = max(LOOK_S, REST * (time.thread_time() - begin))

    def look(self) -> None:
        """Compare what came with what was taken, and cut off connections beyond their budget."""
        behind, self._behind = self._behind, any(each.gate.behind() for each in self._watched)
        self._looks_since_cut += 1
        if self._looks_since_cut in TRIMS or (behind and not self._behind):
            memory.give_back(more_follows=self._looks_since_cut < TRIMS[-1])
        now = time.monotonic()
        passed_s, self._looked = now - self._looked, now
        self._read()
        for watched in self._watched:
            heartbeats = min(HEARTBEATS * len(watched.connections), MOST_HEARTBEATS)
            self._judge(watched, int(passed_s * heartbeats))
        self._spare_descriptors()

    def _read(self) -> None:
        """What each connection has received until now."""
        now, seen = time.monotonic(), [dict[tuple[int, str], _Connection]() for _ in self._watched]
        numbers = {each.gate.port: n for n, each in enumerate(self._watched)}
        for descriptor in _descriptors():
            found = look_at(descriptor)
            if found is None or (number := numbers.get(found[0])) is None:
                continue
            _, _, peer, received = found
            watched = self._watched[number]
            key = descriptor, peer
            connection = watched.connections.get(key) or _Connection(descriptor, peer, now)
            watched.unfinished += max(received - connection.received, 0)
            connection.received = received
            seen[number][key] = connection
        for watched, connections in zip(self._watched, seen, strict=True):
            watched.connections = connections

    def _judge(self, watched: _Watched, heartbeats: int) -> None:
        taken = watched.gate.taken()
        there = sum(each.received for each in watched.connections.values())
        # More taken than was seen to come gives no credit. A connection that is gone holds nothing.
        passed = taken - watched.taken + heartbeats
        left = max(watched.unfinished - passed, 0)
        watched.unfinished = min(left, there)
        if left - watched.unfinished > TRIM_BYTES:  # who left in the middle of a message leaves its memory
            self._looks_since_cut = 0
        watched.taken = taken
        if watched.unfinished <= (budget := watched.gate.budget()):
            return
        memory.give_back(more_follows=True)  # before the thread that keeps it comes to free it
        largest = sorted(watched.connections.values(), key=lambda each: each.received, reverse=True)
        for connection in largest:
            if watched.unfinished <= budget / 2:
                break
            sent = f"{connection.received / MEGABYTE:.0f} MB"
            self._cut_off(watched, connection, f"it sends messages that do not end ({sent} until now)")
            watched.unfinished -= connection.received
        self._looks_since_cut = 0

    def _spare_descriptors(self) -> None:
        """Keep some for connections that are needed: of the gate with most of them the newest are cut off."""
        limit, used = descriptors.limit(), descriptors.used()
        entered = [each for each in self._watched if each.connections]
        if used <= limit * (1 - RESERVE) or not entered:
            return
        crowded = max(entered, key=lambda each: len(each.connections))
        newest = sorted(crowded.connections.values(), key=lambda each: each.since, reverse=True)
        for connection in newest[: int(used - limit * (1 - 2 * RESERVE))]:
            self._cut_off(crowded, connection, f"all but {limit - used} of {limit} descriptors are taken")

    def _cut_off(self, watched: _Watched, connection: _Connection, why: str) -> None:
        name = watched.gate.name
        if not self._shut_down(connection):
            return
        count = self.cut.get(name, 0) + 1
        self.cut = {**self.cut, name: count}  # another one: the loop may be going through the one before
        log.log(logging.WARNING if count == 1 else logging.DEBUG,
                "a connection to %s is cut off: %s; more are counted", name, why)  # fmt: skip

    def _shut_down(self, connection: _Connection) -> bool:
        """Whether it was still there. Both directions are shut down; the descriptor is ZeroMQ's, which closes
        it."""
        nothing, own = self._spare
        try:
            os.dup2(connection.descriptor, own, inheritable=False)
            # From here on it is this connection or another one, and stays that.
            found = look_at(own)
            if found is None or found[2] != connection.peer or found[3] < connection.received:
                return False
            theirs = borrowed(own)
            try:
                theirs.shutdown(socket.SHUT_RDWR)
            finally:
                theirs.detach()
        except OSError:
            return False
        finally:
            os.dup2(nothing, own, inheritable=False)
        return True


def _descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir(OPEN)]  # noqa: PTH208 - names, of which there may be many
    except OSError:  # no descriptor is left to read the folder: go through the numbers
        return list(range(3, descriptors.limit()))


def borrowed(descriptor: int) -> socket.socket:
    """The descriptor as a Python socket, to be detached again. Its family suits IPv4 and IPv6."""
    return socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, fileno=descriptor)


def look_at(descriptor: int) -> tuple[int, int, str, int] | None:
    """Own port, the other end's port and name, bytes received; None if it is no connection on TCP."""
    if sys.platform != "linux":
        return None
    try:
        theirs = borrowed(descriptor)
    except OSError:
        return None
    try:
        here, peer = theirs.getsockname(), theirs.getpeername()
        about = theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_RECEIVED + 8)
        if theirs.getpeername() != peer:  # another one got its number meanwhile
            return None
    except OSError:
        return None
    finally:
        theirs.detach()
    if not isinstance(here, tuple) or len(about) < BYTES_RECEIVED + 8:
        return None
    (received,) = struct.unpack_from("=Q", about, BYTES_RECEIVED)
    return here[1], peer[1], f"{peer[0]}:{peer[1]}", received
