"""A faulty network between a publisher and its subscribers, which notes exactly what it did."""

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import msgpack
import zmq
from helpers import wait_until

Parts = list[bytes]

HOLD = 12  # frames, after which a late copy comes at the latest


@dataclass(frozen=True, slots=True)
class Passed:
    """One message as it was sent on, in the order in which it was."""

    kind: str
    run: str
    sequence: int = 0
    index: int = 0
    spectra: int = 0
    frames: int = 0  # of an end
    announced: int = 0  # of an end
    spoilt: str = ""  # how: what a receiver calls it


def read(parts: Parts) -> Passed:
    """What a message from a publisher in good order says."""
    header = msgpack.unpackb(parts[1])
    kind, run = header["kind"], header["run"]
    match kind:
        case "start":
            return Passed(kind, run, header.get("sequence", 0), header.get("index", 0))
        case "end":
            said = {name: header[name] for name in ("frames", "spectra", "announced")}
            return Passed(kind, run, **said)
    return Passed(kind, run, header["sequence"], header["index"], header["arrays"][0][2][0])


# -- ways to spoil a frame, by the name that docs/protocol.md gives them ----------------------------


def _with(parts: Parts, **fields: Any) -> Parts:
    return [parts[0], msgpack.packb(msgpack.unpackb(parts[1]) | fields), *parts[2:]]


def _another_dtype(parts: Parts, rng: random.Random) -> Parts:
    (name, _, (spectra, pixels)), half = msgpack.unpackb(parts[1])["arrays"][0], len(parts[2]) // 2
    return [*_with(parts, arrays=[[name, "uint16", [spectra, pixels]]])[:2], parts[2][:half]]


def _another_shape(parts: Parts, rng: random.Random) -> Parts:
    (name, dtype, (spectra, pixels)), size = msgpack.unpackb(parts[1])["arrays"][0], len(parts[2])
    narrow = [[name, dtype, [spectra, pixels - 1]]]
    return [*_with(parts, arrays=narrow)[:2], parts[2][: size // pixels * (pixels - 1)]]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


SPOIL: Mapping[str, Callable[[Parts, random.Random], Parts]] = {
    "header": lambda parts, rng: [parts[0], _cut(parts[1], rng), *parts[2:]],
    "truncated": lambda parts, rng: [*parts[:2], _cut(parts[2], rng)],
    "parts": lambda parts, rng: parts[:2],
    "magic": lambda parts, rng: [parts[0], msgpack.packb({"kind": "frame"}), *parts[2:]],
    "version": lambda parts, rng: _with(parts, cars_rt=2),
    "field": lambda parts, rng: _with(parts, sequence=-1),
    "oversized": lambda parts, rng: _with(parts, arrays=[["counts", "uint32", [2**40, 160]]]),
    "implausible": lambda parts, rng: _with(parts, index=rng.randrange(2**40, 2**52)),
    "dtype": _another_dtype,
    "shape": _another_shape,
}

#: Of these, the receiver still knows which spectra they held.
KNOWN = ("dtype", "shape")


class FaultyProxy:
    """Connects to `upstream` and binds `address`; deals with every frame by chance, from a seed.

    Chances are of one frame: removed, repeated (the copy comes at once or up to HOLD frames later), swapped
    with the next one, spoilt, or stale (a copy comes in the next run). Starts and ends pass as they are,
    unless `alter` says otherwise: it gets kind and count of that kind, and False keeps the message back.
    """

    def __init__(
        self,
        upstream: str,
        *,
        address: str = "tcp://127.0.0.1:*",
        seed: int = 0,
        remove: float = 0,
        repeat: float = 0,
        swap: float = 0,
        spoil: float = 0,
        stale: float = 0,
        alter: Callable[[str, int], bool] = lambda kind, count: True,
    ) -> None:
        self.came: list[Passed] = []  # what the publisher sent
        self.passed: list[Passed] = []  # what was sent on
        self._rng = random.Random(seed)
        self._chances = {"remove": remove, "repeat": repeat, "swap": swap, "spoil": spoil, "stale": stale}
        self._alter = alter
        self._upstream = upstream
        self._held: tuple[Parts, Passed] | None = None  # waits for the next frame to overtake it
        self._copies: list[tuple[int, Parts, Passed]] = []  # frames to go until they come
        self._stale: list[tuple[Parts, Passed]] = []
        self._stop = threading.Event()
        self._out = zmq.Context.instance().socket(zmq.XPUB)
        self._out.setsockopt(zmq.XPUB_NODROP, 1)
        self._out.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._out.setsockopt(zmq.SNDTIMEO, 100)
        self._out.setsockopt(zmq.LINGER, 0)
        wait_until(lambda: self._bound(address))
        self.address = self._out.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = threading.Thread(target=self._forward)
        self._thread.start()

    def _bound(self, address: str) -> bool:
        """ZeroMQ gives an address back some time after its socket was closed."""
        try:
            self._out.bind(address)
        except zmq.ZMQError:
            return False
        return True

    def _forward(self) -> None:
        source = zmq.Context.instance().socket(zmq.XSUB)
        source.setsockopt(zmq.LINGER, 0)
        source.setsockopt(zmq.RECONNECT_IVL, 50)
        source.setsockopt(zmq.RECONNECT_IVL_MAX, 250)
        source.connect(self._upstream)
        try:
            while not self._stop.is_set():
                ready, _, _ = zmq.select([source, self._out], [], [], 0.1)
                if self._out in ready:
                    source.send(self._out.recv())  # who subscribes here subscribes there
                if source in ready:
                    self._take(source.recv_multipart())
        finally:
            source.close()
            self._out.close()

    def _take(self, parts: Parts) -> None:
        message = read(parts)
        self.came.append(message)
        if message.kind != "frame":
            self._release(0)
            if self._alter(message.kind, sum(each.kind == message.kind for each in self.came)):
                self._send(parts, message)
            if message.kind == "start":
                stale, self._stale = self._stale, []
                for old in stale:
                    self._send(*old)
            return
        fault = self._fault()
        if fault == "swap" and self._held is None:
            self._held = parts, message
            return
        if fault == "spoil":
            name = self._rng.choice(list(SPOIL))
            spoilt = Passed(
                "frame", message.run, message.sequence, message.index, message.spectra, spoilt=name
            )
            self._send(SPOIL[name](parts, self._rng), spoilt)
        elif fault != "remove":
            self._send(parts, message)
        if fault == "repeat":
            self._copies.append((self._rng.randrange(HOLD), parts, message))
        elif fault == "stale":
            self._stale.append((parts, message))
        self._release(1)

    def _fault(self) -> str:
        dice = self._rng.random()
        for name, chance in self._chances.items():
            if dice < chance:
                return name
            dice -= chance
        return ""

    def _release(self, frames: int) -> None:
        """Send what waited long enough; all of it if no frame can come any more."""
        if self._held is not None:
            held, self._held = self._held, None
            self._send(*held)
        waiting = [(left - frames, *copy) for left, *copy in self._copies]
        self._copies = [copy for copy in waiting if copy[0] >= 0 and frames]
        for left, *copy in waiting:
            if left < 0 or not frames:
                self._send(*copy)

    def _send(self, parts: Parts, message: Passed) -> None:
        while not self._stop.is_set():
            try:
                self._out.send_multipart(parts)
            except zmq.Again:
                continue
            self.passed.append(message)
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
