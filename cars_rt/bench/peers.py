"""The programs around what is measured, each a process of its own: sender, receiver, and the bare loop.

`python -m cars_rt.bench.peers ROLE ADDRESS...`. They answer on stdout, one JSON object a line, and end
when their stdin does, so that none outlives the measurement.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import zmq
from numpy.typing import NDArray

from cars_rt.crash import speak_when_killed
from cars_rt.protocol import End, Reason, Start, encode
from cars_rt.sockets import Subscriber
from cars_rt.trust.curve import refuse_old_peers

UNSENT = 256  # messages that wait at a socket before it blocks; what the sender sends is never copied
PAYLOADS = 4  # different blocks of counts, sent in turn
COPY_BELOW = 65_536  # bytes; a larger part costs more to copy than to wrap
PAUSE_NS = 1_000_000  # between two bursts of results
AXIS_CM1 = (500.0, 3500.0)
LATENCIES = (50, 99, 100)  # percentiles of an answer


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the sender shall send: one run."""

    run: str
    pixels: int
    block: int
    seconds: float  # as long as that,
    frames: int = 0  # or so many frames, if given
    rate: float = 0.0  # spectra per second; 0: as fast as they are taken


def axis(pixels: int) -> NDArray[np.float64]:
    """The instrument's axis (pixels,), cm-1."""
    return np.linspace(*AXIS_CM1, pixels)


def send(address: str) -> None:
    """Publish the runs that are ordered on stdin, and answer with what was sent."""
    with _bound(address) as socket:
        socket.recv()  # the subscription: nobody must miss the first run
        for line in sys.stdin:
            order = Order(**json.loads(line))
            start = Start(
                "raw", order.run, time.time_ns(), "bench", axis(order.pixels), "uint16", order.block
            )
            socket.send_multipart(encode(start))
            frames = _send_frames(socket, order)
            spectra = frames * order.block
            end = End("raw", order.run, time.time_ns(), frames, spectra, Reason.COMPLETE, announced=spectra)
            socket.send_multipart(encode(end))
            _answer({"spectra": spectra})


def _send_frames(socket: zmq.Socket[bytes], order: Order) -> int:
    """Every header is packed anew; the counts are a few blocks that are sent again and again."""
    shape = (order.block, order.pixels)
    ramp = 1000 + np.arange(order.block * order.pixels, dtype=np.uint32).reshape(shape) % 20_000
    payloads = [zmq.Frame(((ramp + n) % 65_536).astype("<u2").tobytes()) for n in range(PAYLOADS)]
    header = {
        "cars_rt": 1, "kind": "frame", "stream": "raw", "run": order.run, "sequence": 0, "index": 0,
        "time_ns": 0, "arrays": [["counts", "uint16", shape]],
    }  # fmt: skip
    sequence, more, pack = 0, zmq.SNDMORE, msgpack.Packer().pack
    end = time.time_ns() + int(order.seconds * 1e9)
    for now in _times(order.rate / order.block):
        if sequence >= order.frames if order.frames else now >= end:
            return sequence
        header["sequence"], header["index"], header["time_ns"] = sequence, sequence * order.block, now
        socket.send(b"raw.frame", more)
        socket.send(pack(header), more)
        socket.send(payloads[sequence % PAYLOADS], copy=False)
        sequence += 1
    return sequence


def _times(rate: float) -> Iterator[int]:
    """Unix times in ns, `rate` a second by the clock; with a rate of 0, without a wait."""
    begin, number = time.perf_counter(), 0
    while True:
        if rate and (ahead := begin + number / rate - time.perf_counter()) > 0:
            time.sleep(ahead)
        yield time.time_ns()
        number += 1


def receive(address: str) -> None:
    """Take results as cheaply as can be, and answer with what came in each run."""
    _end_with_parent()
    subscriber = Subscriber(address, "raman")
    socket, unpack = subscriber.socket, msgpack.unpackb
    times: list[int] = []
    sent: list[int] = []
    rows: list[int] = []
    pixels = wrong = 0
    while True:
        socket.recv()
        raw = socket.recv()
        now = time.time_ns()
        header = unpack(raw)
        kind = header["kind"]
        spectra = header["arrays"][0][2][0] if kind == "frame" else 0
        size = spectra * pixels * 4
        parts = []  # raman, then whatever else there is
        while socket.rcvmore:
            parts.append(len(socket.recv(copy=size < COPY_BELOW)))
        if kind == "frame":
            wrong += header["sequence"] != len(times) or parts[:1] != [size]
            times.append(now)
            sent.append(header["time_ns"])
            rows.append(spectra)
        elif kind == "start":
            times, sent, rows, wrong = [], [], [], 0
            pixels = header["arrays"][0][2][0]
        else:
            _answer(
                {
                    "run": header["run"],
                    "spectra": sum(rows),
                    "wrong": wrong,
                    "lost": header.get("lost", {}),
                    "rate": _rate(times, rows),
                    "latency_ms": _percentiles(times, sent),
                }
            )


def _rate(times: list[int], rows: list[int]) -> float:
    """Spectra per second after the first burst: its own duration is not known, only when it was over."""
    if len(times) < 2:
        return 0.0
    (pauses,) = np.nonzero(np.diff(times[:UNSENT]) > PAUSE_NS)
    first = int(pauses[0]) if len(pauses) else 0
    return sum(rows[first + 1 :]) / max(times[-1] - times[first], 1) * 1e9


def _percentiles(came: list[int], sent: list[int]) -> list[float]:
    """Median, 99th percentile and largest latency, ms."""
    latencies = (np.array(came, np.int64) - np.array(sent, np.int64)) / 1e6
    return [float(each) for each in np.percentile(latencies, LATENCIES)] if len(came) else []


def bare(listen: str, publish: str) -> None:
    """The loop that a programmer would write in a minute: the reference for everything the daemon does.

    It checks nothing, counts nothing and trusts everybody.
    """
    _end_with_parent()
    with _bound(publish) as sink:
        sink.recv()
        source = Subscriber(listen, "raw").socket
        while True:
            parts = source.recv_multipart()
            header = msgpack.unpackb(parts[1])
            if header["kind"] != "frame":
                header["stream"], header["dtype"] = "raman", "float32"
                topic = f"raman.{header['kind']}".encode()
                sink.send_multipart([topic, msgpack.packb(header), *parts[2:]])
                continue
            received = time.time_ns()
            _, dtype, shape = header["arrays"][0]
            raman = np.frombuffer(parts[2], dtype).reshape(shape).astype(np.float32)
            result = {
                "cars_rt": 1,
                "kind": "frame",
                "stream": "raman",
                "run": header["run"],
                "sequence": header["sequence"],
                "index": header["index"],
                "time_ns": header["time_ns"],
                "time_in_ns": received,
                "time_out_ns": time.time_ns(),
                "lost": 0,
                "arrays": [["raman", "float32", shape]],
            }
            sink.send_multipart([b"raman.frame", msgpack.packb(result), raman.data])


def _bound(address: str) -> zmq.Socket[bytes]:
    """Publishes as CARS-RT does: whoever has no room makes it wait."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.XPUB_NODROP, 1)
    socket.setsockopt(zmq.SNDHWM, UNSENT)
    refuse_old_peers(socket)
    socket.bind(address)
    return socket


def _answer(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


def _end_with_parent() -> None:
    """A pipe from the parent ends when the parent does, however it ended."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


ROLES: dict[str, Callable[..., None]] = {"send": send, "receive": receive, "bare": bare}

if __name__ == "__main__":
    speak_when_killed()
    ROLES[sys.argv[1]](*sys.argv[2:])
