"""Rates and latencies of the last moments, for the status line."""

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

KEPT = 4096  # latencies that the percentiles are taken from: some seconds, at the rates we know


@dataclass
class Latencies:
    """Latencies of the newest frames, and percentiles of them. Takes one assignment per frame."""

    _ms: NDArray[np.float32] = field(default_factory=lambda: np.zeros(KEPT, np.float32))
    _count: int = 0

    def add(self, ms: float) -> None:
        """Note one latency in milliseconds."""
        self._ms[self._count % KEPT] = ms
        self._count += 1

    def percentile(self, *percent: float) -> list[float]:
        """Percentiles in milliseconds of the newest KEPT frames; NaN before the first."""
        if not self._count:
            return [float("nan")] * len(percent)
        return [float(value) for value in np.percentile(self._ms[: min(self._count, KEPT)], percent)]


class Rate:
    """Spectra per second since the last reading."""

    def __init__(self) -> None:
        self._total = 0
        self._since = time.monotonic()

    def read(self, total: int) -> float:
        """The rate since the last call, given the total that only ever grows."""
        now = time.monotonic()
        rate = (total - self._total) / max(now - self._since, 1e-9)
        self._total, self._since = total, now
        return rate
