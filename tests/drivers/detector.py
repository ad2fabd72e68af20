"""A detector of EPICS: a real PVAccess server that posts numbered images, can lose some, and be unplugged."""

import threading
import time
from typing import Any

import numpy as np
from p4p.nt import NTNDArray, NTScalar
from p4p.server import Server
from p4p.server.thread import SharedPV

from cars_rt.drivers.base import until

ROWS, COLUMNS = 2, 64


class Detector:
    """Posts images from when 1 is put to its PV until 0 is: pixels hold the number since then."""

    def __init__(self, rate: float = 1000.0, **image: Any) -> None:
        self.rate = rate
        self.injected: list[tuple[int, int]] = []  # the first image that was lost, and how many
        self.unique, self.lost, self.goes, self.server = 100, 0, threading.Event(), None
        self.image = {"dtype": np.uint16, "shape": (ROWS, COLUMNS)} | image
        self.images = SharedPV(initial=self.value(999))
        self.acquire = SharedPV(nt=NTScalar("i"), initial=0)
        self.acquire.put(self.put)  # type: ignore[attr-defined]
        self.thread: threading.Thread | None = None
        self.plug()

    def value(self, number: int) -> Any:
        image = np.full(self.image["shape"], number, self.image["dtype"])
        value = NTNDArray().wrap(image)
        value["uniqueId"] = self.unique
        now = time.time_ns()
        value["timeStamp.secondsPastEpoch"], value["timeStamp.nanoseconds"] = divmod(now, 10**9)
        if "codec" in self.image:
            value["codec.name"] = self.image["codec"]
        return value

    def put(self, pv: Any, operation: Any) -> None:
        self.goes.clear()
        if self.thread is not None:
            self.thread.join()
        pv.post(int(operation.value()))
        operation.done()
        if int(operation.value()):
            self.goes.set()
            self.thread = threading.Thread(target=self.post)
            self.thread.start()

    def post(self) -> None:
        begin, number, posted = time.perf_counter(), 0, 0
        while True:
            for _ in until(begin + posted / self.rate):
                pass
            if not self.goes.is_set():
                return
            posted += 1
            if self.lost:
                self.injected.append((number, self.lost))
            self.unique += 1 + self.lost
            number, self.lost = number + self.lost, 0
            self.images.post(self.value(number))
            number += 1

    def plug(self) -> None:
        self.server = Server(
            providers=[{"cam:Image": self.images, "cam:Acquire": self.acquire}], isolate=True
        )

    def unplug(self) -> None:
        self.goes.clear()
        assert self.server is not None
        self.server.stop()

    def lose(self) -> None:
        self.lost = 5
