"""Reads a stream with msgpack alone, as a program without CARS-RT would, and keeps what came."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import msgpack
import numpy as np
import zmq
from helpers import Command

from chaos.camera import checksum

PATIENCE_S = 90.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One message, as it lay on the wire."""

    kind: str
    run: str
    header: dict[str, Any]
    index: int = 0  # frames: as the header says
    spectra: int = 0
    genuine: bool = True  # frames: each spectrum is the one that the header says it is


def look(parts: list[bytes]) -> Seen:
    """Read a message. Raises whatever a malformed one makes it raise."""
    header = msgpack.unpackb(parts[1])
    kind, run = header["kind"], header["run"]
    if kind != "frame":
        return Seen(kind, run, header)
    _, dtype, (spectra, pixels) = header["arrays"][0]
    block = np.frombuffer(parts[2], {"uint32": "<u4", "float32": "<f4"}[dtype]).reshape(spectra, pixels)
    index = header["index"] + np.arange(spectra)
    number = block[:, 1].astype(np.int64)
    genuine = (
        (block[:, 0] == index).all()
        and (number == number[0]).all()
        and (block[:, -1].astype(np.int64) == checksum(number, index)).all()
    )
    return Seen(kind, run, header, header["index"], spectra, bool(genuine))


class Tap:
    """Subscribes in a thread of its own and never makes a publisher wait."""

    def __init__(self, address: str, stream: str, reading: bool = True) -> None:
        """reading: False connects and never reads, until `read` is called."""
        self.messages: list[Seen] = []
        self.spectra = 0
        self._stop = threading.Event()
        self._reading = threading.Event()
        if reading:
            self._reading.set()
        self._hwm = 0 if reading else 4
        self._address, self._stream = address, stream
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def read(self) -> None:
        self._reading.set()

    def _receive(self) -> None:
        socket = zmq.Context.instance().socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, self._hwm)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 250)
        if self._hwm:
            socket.setsockopt(zmq.RCVBUF, 65_536)
        socket.subscribe(f"{self._stream}.")
        socket.connect(self._address)
        try:
            while not self._stop.is_set():
                if not self._reading.wait(0.1) or not socket.poll(100):
                    continue
                seen = look(socket.recv_multipart())
                self.messages.append(seen)
                self.spectra += seen.spectra
        finally:
            socket.close()

    def until(self, condition: Callable[[Self], object], timeout_s: float = PATIENCE_S) -> Self:
        """Wait until the condition holds for what came."""
        deadline = time.monotonic() + timeout_s
        while not condition(self):
            assert self._thread.is_alive(), "the tap met a message that it cannot read"
            assert time.monotonic() < deadline, (
                f"only {len(self.messages)} messages came\n{Command.all_now()}"
            )
            time.sleep(0.005)
        return self

    def ends(self, count: int = 1) -> Self:
        return self.until(lambda tap: len(tap.of("end")) >= count)

    def of(self, kind: str, run: str | None = None) -> list[Seen]:
        return [seen for seen in self.messages if seen.kind == kind and run in (None, seen.run)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
