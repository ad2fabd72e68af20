"""Latencies as a histogram: bounded memory for any length of run, percentiles to 2.3 %."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Self

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
    sum_ms: float = 0.0  # of all; what clocks that disagree made negative counts as zero
    _bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(DECADES * BINS_PER_DECADE, np.int64))

    def add(self, ms: float) -> None:
        """Note one latency in milliseconds."""
        number = int(math.log10(max(ms, SMALLEST_MS) / SMALLEST_MS) * BINS_PER_DECADE)
        self._bins[min(number, len(self._bins) - 1)] += 1
        self.count += 1
        self.largest_ms = max(self.largest_ms, ms)
        self.sum_ms += max(ms, 0.0)

    def percentile(self, percent: float) -> float:
        """The latency in milliseconds that `percent` of all stay below; NaN before the first."""
        if not self.count:
            return math.nan
        number = int(np.searchsorted(np.cumsum(self._bins), self.count * percent / 100))
        middle = SMALLEST_MS * 10 ** ((number + 0.5) / BINS_PER_DECADE)
        return min(middle, self.largest_ms)

    def cumulative(self, per_decade: int) -> Iterator[tuple[float, int]]:
        """Limits in milliseconds, per_decade of them to a decade, and how many latencies are below each.

        per_decade must divide BINS_PER_DECADE: then the counts are exact. Raises ValueError otherwise.
        """
        step, rest = divmod(BINS_PER_DECADE, per_decade)
        if rest:
            raise ValueError(f"{per_decade} limits to a decade do not fall on the {BINS_PER_DECADE} bins")
        below = np.cumsum(self._bins)[step - 1 :: step]
        for number, count in enumerate(below.tolist(), 1):
            yield SMALLEST_MS * 10 ** (number / per_decade), count

    def copy(self) -> Self:
        """What was counted so far, for another thread to read."""
        return replace(self, _bins=self._bins.copy())
