"""A driver process whose spectra say which ones they are: python camera.py --publish tcp://... --truth FILE

Pixel 0 holds the spectrum's index in its run, pixel 1 the number of the run, the last one a checksum of
both. For every run that it ends, it appends one line of JSON to the truth file: what it yielded, and what
the driver's own receipt says.
"""

import argparse
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.crash import speak_when_killed
from cars_rt.drivers import Acquisition, DriveSettings, Instrument, drive
from cars_rt.drivers.base import Yielded, until
from cars_rt.sockets import Publisher

AXIS = np.linspace(800, 1500, 160)


def spectra(run: int, first: int, count: int, pixels: int = 160) -> NDArray[np.uint32]:
    """Counts (count, pixels); all are below 2**24, so that float32 holds them exactly."""
    index = first + np.arange(count, dtype=np.uint32)
    counts = np.empty((count, pixels), np.uint32)
    counts[:] = (index[:, None] * 31 + np.arange(pixels, dtype=np.uint32) * 17) % 60_000
    counts[:, 0], counts[:, 1], counts[:, -1] = index, run, checksum(run, index)
    return counts


def checksum(run: int, index: Any) -> Any:
    return (index * 40_503 + run * 977) % 65_521


class Camera(Instrument):
    """Yields numbered spectra, and counts them."""

    def __init__(self, number: int, settings: argparse.Namespace, publisher: Publisher) -> None:
        self.number, self.settings, self.yielded, self.gates = number, settings, 0, 0
        self.publisher = publisher
        lengths = settings.spectra.split(",")
        self.planned = int(lengths[number % len(lengths)])

    def acquisition(self) -> Acquisition:
        return Acquisition(
            source=f"camera {self.number}",
            raman_shift=np.linspace(800, 1500, self.settings.pixels),
            dtype="uint32",
            block=self.settings.block,
            spectra=self.planned,
        )

    def frames(self) -> Iterator[Yielded]:
        begin, rate, gate_at = time.perf_counter(), self.settings.rate, self.settings.gate_at
        while self.yielded < self.planned:
            if rate > 0:
                yield from until(begin + self.yielded / rate)
            if self.gates < len(gate_at) and self.yielded >= gate_at[self.gates]:
                self.wait_at_the_gate()
            count = min(self.settings.block, self.planned - self.yielded)
            counts = spectra(self.number, self.yielded, count, self.settings.pixels)
            self.yielded += count
            yield counts

    def wait_at_the_gate(self) -> None:
        """Until as many subscribers are here as the test has written into the file, one number for each gate:
        how long a program takes to start is not what is tested."""
        gate = self.settings.gate
        while not (gate.exists() and self._let_through(gate.read_text().split())):
            self.publisher.serve()
            time.sleep(0.01)
        self.gates += 1

    def _let_through(self, subscribers: list[str]) -> bool:
        return len(subscribers) > self.gates and self.publisher.subscribers >= int(subscribers[self.gates])


def main() -> None:
    speak_when_killed()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publish", required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--spectra", default="3000", help="of a run; several with commas take turns")
    parser.add_argument("--pixels", type=int, default=160)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--block", type=int, default=4)
    parser.add_argument("--subscribers", type=int, default=1)
    parser.add_argument("--gate", type=Path, help="a file: how many subscribers the run waits for")
    parser.add_argument("--gate-at", type=int, nargs="+", default=[], help="spectra before which it waits")
    parser.add_argument("--overload", default="block")
    parser.add_argument("--buffer-mb", type=float, default=64)
    settings = parser.parse_args()
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    wanted = DriveSettings(
        publish=settings.publish,
        subscribers=settings.subscribers,
        overload=settings.overload,
        settle_s=0,  # the tests know who comes
    )
    with Publisher(
        settings.publish, "raw", buffer_mb=settings.buffer_mb, overload=settings.overload
    ) as publisher:
        for number in range(settings.first, settings.first + settings.runs):
            camera = Camera(number, settings, publisher)
            totals = drive(camera, publisher, wanted, lambda: stopped)
            with settings.truth.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"number": number, "yielded": camera.yielded} | asdict(totals)) + "\n")
            if stopped:
                break


if __name__ == "__main__":
    main()
