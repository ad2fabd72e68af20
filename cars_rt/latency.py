"""Latencies as a histogram: bounded memory for any length of run, percentiles to 2.3 %."""

import math
from dataclasses import dataclass, field

import numpy as np

SMALLEST_MS = 1e-3
BINS_PER_DECADE = 100
DECADES = 9  # 1 us to 1000 s
BINS = DECADES * BINS_PER_DECADE


@dataclass
class Latencies:
    """Counts latencies in logarithmic bins."""

    count: int = 0
    largest_ms: float = 0.0
    _bins: list[int] = field(default_factory=lambda: [0] * BINS)  # a list: counts one in a third of the time

    def add(self, ms: float) -> None:
        """Note one latency in milliseconds."""
        number = int(math.log10(ms / SMALLEST_MS) * BINS_PER_DECADE) if ms > SMALLEST_MS else 0
        self._bins[number if number < BINS else BINS - 1] += 1
        self.count += 1
        if ms > self.largest_ms:
            self.largest_ms = ms

    def percentile(self, percent: float) -> float:
        """The latency in milliseconds that `percent` of all stay below; NaN before the first."""
        if not self.count:
            return math.nan
        number = int(np.searchsorted(np.cumsum(self._bins), self.count * percent / 100))
        middle = SMALLEST_MS * 10 ** ((number + 0.5) / BINS_PER_DECADE)
        return min(middle, self.largest_ms)
