"""Whose spectrum a page shows: of a pixel, a region, or the latest one; and when it is looked for again."""

import threading
import time

from cars_rt.view.picture import Window
from cars_rt.view.region import Region
from cars_rt.view.scan import Scan, Spectrum

AGAIN_S = 1.0  # a region that is still being scanned
REST = 10  # times as long as it took to read the region: the server's loop has more to do


class Place:
    """Neither a pixel nor a region: the latest spectrum. Times are of one monotonic clock, s."""

    def __init__(self) -> None:
        self.pixel: tuple[int, int] | None = None  # row, column
        self.region: Region | None = None
        self.stale = True  # another one was chosen
        self._missing = False
        self._shown: Spectrum | None = None  # of the pixel, at the last look
        self._seen = -1  # the version of the spectra then
        self._due = 0.0

    def choose(self, pixel: tuple[int, int] | None = None, region: Window | None = None) -> None:
        """Another one."""
        self.pixel, self.region = pixel, None if region is None else Region(region)
        self.stale, self._seen = True, -1

    @property
    def chosen(self) -> bool:
        """Whether it is not the latest."""
        return self.pixel is not None or self.region is not None

    @property
    def corner(self) -> tuple[int, int] | None:
        """The pixel that is chosen, of a region the first one; None: the latest spectrum's."""
        window = None if self.region is None else self.region.window
        return self.pixel if window is None else (window.top, window.left)

    def is_due(self, now: float) -> bool:
        """Whether it is to be looked at."""
        return self.stale or now >= self._due

    def look(
        self, scan: Scan, lock: threading.Lock, now: float, pause: float
    ) -> tuple[Spectrum | None, bool]:
        """What is there, the very object of the last look if nothing came, and whether it is to be said that
        it is missing, or no longer is. lock: the scan's. pause: until the latest is looked at again, s."""
        if not self.chosen:
            self.stale, self._due = False, now + pause
            return scan.latest, False
        began = time.monotonic()
        shown = self._at(scan, lock) if self.region is None else self.region.look(scan, lock)
        said = (shown is None) != self._missing or (shown is None and self.stale)
        self._missing, self.stale = shown is None, False
        self._due = now + max(AGAIN_S, REST * (time.monotonic() - began))
        return shown, said

    def _at(self, scan: Scan, lock: threading.Lock) -> Spectrum | None:
        """The spectrum of the pixel."""
        with lock:
            if self.pixel is not None and self._seen != scan.raman.version:
                self._seen, self._shown = scan.raman.version, scan.at(*self.pixel)
        return self._shown
