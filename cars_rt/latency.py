"""Latencies as a histogram: bounded memory for any length of run, percentiles to 2.3 %."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SMALLEST_MS = 1e-3
BINS_PER_DECADE = 100
DECADES = 9  # 1 us to 1000 s


@dataclass
class Latencies:
    """Counts latencies in logarithmic bins."""

    count: int = 0
    largest_ms: float = 0.0
    _bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(DECADES * BINS_PER_DECADE, np.int64))

    def add(self, ms: float) -> None:
        """Note one latency in milliseconds."""
        number = int(math.log10(max(ms, SMALLEST_MS) / SMALLEST_MS) * BINS_PER_DECADE)
        self._bins[min(number, len(self._bins) - 1)] += 1
        self.count += 1
        self.largest_ms = max(self.largest_ms, ms)

    def percentile(self, percent: float) -> float:
        """The latency in milliseconds that `percent` of all stay below; NaN before the first."""
        if not self.count:
            return math.nan
        number = int(np.searchsorted(np.cumsum(self._bins), self.count * percent / 100))
        middle = SMALLEST_MS * 10 ** ((number + 0.5) / BINS_PER_DECADE)
        return min(middle, self.largest_ms)
