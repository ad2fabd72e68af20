"""A daemon as a process, numbered spectra through it at a steady rate, and who takes them."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
from chaos import programs
from chaos.camera import AXIS, spectra
from helpers import Collected, a_frame, a_start, an_end, summary, wait_until

from cars_rt.remote import Remote
from cars_rt.sockets import Publisher

RATE = 200.0  # spectra a second
RUN = "legitimate"


class Line:
    """Leave it to stop the daemon, and to judge: it lived, and every spectrum came through, in order.

    mark() before an attack, goes_on() after it: spectra that were sent since have arrived.
    """

    def __init__(self, folder: Path, **flags: object) -> None:
        self.raw, self.raman, self.preview, self.control, http = programs.addresses(5)
        self.http = http.removeprefix("tcp://")
        self.folder = folder
        self._flags: dict[str, object] = {
            "preview": self.preview, "control": self.control, "http": self.http, "log_level": "info",
        } | flags  # fmt: skip
        self._stop = threading.Event()
        self._joining = threading.Event()
        self._stack = ExitStack()
        self.sent = 0
        self._failed: list[BaseException] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.daemon = stack.enter_context(
                programs.daemon(self.raw, self.raman, self.folder / "totals.json", **self._flags)
            )
            self.publisher = stack.enter_context(Publisher(self.raw, "raw"))
            self.results = stack.enter_context(Collected(self.raman))
            self._driver = threading.Thread(target=self._guarded, args=(self._drive,))
            self._reader = threading.Thread(target=self._guarded, args=(self._read,))
            self._driver.start()
            self._reader.start()
            stack.callback(self._join)
            self.process = psutil.Process(self.daemon.process.pid)
            wait_until(lambda: self.came >= 20 or self.daemon.process.poll() is not None or self._failed)
            assert self.came >= 20, (self.daemon.said, self._failed)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            if kind is not None:
                return
            assert self.daemon.process.poll() is None, self.daemon.said
            self._stop.set()
            self._driver.join()
            wait_until(lambda: self.results.closed or self._failed)  # the run ended, as its driver said
            self.daemon.process.terminate()
            assert self.daemon.end() == 0, self.daemon.said
            assert not self._failed, self._failed
            assert "Traceback" not in self.daemon.said, self.daemon.said
            self._judge()

    def _judge(self) -> None:
        """Nothing was lost, and each result is the spectrum that it says it is."""
        mine = [frame for frame in self.results.frames if frame.run == RUN]
        index = np.concatenate([frame.index + np.arange(len(frame.block)) for frame in mine])
        assert index.tolist() == list(range(self.sent))
        block = np.concatenate([frame.block for frame in mine])
        assert np.array_equal(block[:, 0], index)
        receipt = next(each for each in summary(self.folder / "totals.json") if each["run"] == RUN)
        assert receipt["sent"] == receipt["announced"] == self.sent and not receipt["lost"], receipt

    @property
    def came(self) -> int:
        """Spectra that the subscriber has got."""
        return self.results.spectra

    @property
    def memory_mb(self) -> float:
        """Resident memory of the daemon."""
        return float(self.process.memory_info().rss / 1e6)

    def goes_on(self, spectra: int = 40) -> None:
        """Spectra that are sent from now on arrive."""
        wanted = self.sent + spectra
        wait_until(lambda: self.came >= wanted or self.daemon.process.poll() is not None or self._failed)
        assert self.daemon.process.poll() is None, self.daemon.said
        assert not self._failed, self._failed

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """As the user who started the daemon."""
        with Remote(self.control) as remote:
            return remote.ask(do, **arguments)

    def _drive(self) -> None:
        publisher = self.publisher
        assert publisher.wait_for_subscribers(1, 60)
        publisher.open(a_start(RUN, AXIS, dtype="uint32"))
        begin = time.monotonic()
        while not self._stop.wait(max(begin + self.sent / RATE - time.monotonic(), 0)):
            frame = a_frame(publisher.sequence, spectra(1, self.sent, 1), RUN, index=self.sent)
            assert publisher.send(frame, 60)
            self.sent += 1
        publisher.end(an_end(self.sent, self.sent, RUN))
        assert publisher.flush(60)

    def _read(self) -> None:
        while not self._joining.is_set():
            if parts := self.results.subscriber.receive(0.1):
                self.results.events += self.results.reader.read(parts)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._failed.append(error)

    def _join(self) -> None:
        self._stop.set()
        self._joining.set()
        self._driver.join()
        self._reader.join()
