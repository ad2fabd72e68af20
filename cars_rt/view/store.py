"""What the feed has seen, for all pages: the present scan, and how the connections are."""

import threading
import time
from collections import deque

from cars_rt import memory
from cars_rt.protocol import Closed, End, Frame, Start
from cars_rt.view.scan import Scan

MOST_LEFT = 1000  # runs that a stream over a slow connection may be behind


class Store:
    """The run that is shown. Whoever reads or writes a scan holds `lock`, for a moment."""

    def __init__(self, most_bytes: float) -> None:
        self.lock = threading.Lock()
        self.most_bytes = most_bytes
        self.scan: Scan | None = None
        self._left: deque[str] = deque(maxlen=MOST_LEFT)  # ids of those before the present one
        self.troubles: dict[str, str] = {}  # why nothing comes, by stream
        self.connected: dict[str, bool] = {}
        self.gone_since: dict[str, float] = {}  # streams that nobody publishes
        self.quiet_since = time.monotonic()  # nothing came since then

    def begin(self, start: Start) -> None:
        """A run begins, or goes on after its publisher was gone. Both streams say so, one after the other;
        the one that is behind does not turn back to a run that was left."""
        with self.lock:
            if self.scan is None or self.scan.start.run != start.run:
                if start.run in self._left:
                    return
                if self.scan is not None:
                    self._left.append(self.scan.start.run)
                self.scan = None  # frees its memory before more is taken
                memory.give_back()
                self.scan = Scan(start, self.most_bytes)
            elif start.stream == "preview":  # which told of the end; the other stream may say so after it
                self.scan.end, self.scan.lost = None, {}
            self.quiet_since = time.monotonic()

    def bundle(self, frame: Frame) -> None:
        """A frame of the preview."""
        with self.lock:
            if self.scan is not None and self.scan.start.run == frame.run:
                self.scan.take_bundle(frame)
            self.quiet_since = time.monotonic()

    def missed(self, run: str, spectra: int) -> None:
        """Bundles of this run's preview did not come."""
        with self.lock:
            if self.scan is not None and self.scan.start.run == run:
                self.scan.missed += spectra

    def spectra(self, frame: Frame) -> None:
        """A frame of whole spectra."""
        with self.lock:
            scan = self.scan
            if scan is not None and scan.start.run == frame.run and frame.raman.shape[1] == len(scan.axis):
                scan.take_spectra(frame)

    def read(self, frame: Frame) -> None:
        """Spectra of a recording, which has no preview."""
        with self.lock:
            if self.scan is not None:
                self.scan.take_recorded(frame)

    def over(self, end: End) -> None:
        """A recording was read."""
        with self.lock:
            if self.scan is not None:
                self.scan.end, self.scan.lost = end, dict(end.lost)

    def close(self, closed: Closed, heard: bool = True) -> None:
        """The preview of a run ended. heard: its publisher said so, and is not gone for a while."""
        with self.lock:
            if self.scan is not None and self.scan.start.run == closed.end.run:
                self.scan.end = closed.end
                self.scan.lost = dict(closed.end.lost)
            if heard:
                self.quiet_since = time.monotonic()
