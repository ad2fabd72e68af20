"""Latencies as a histogram: bounded memory for any length of run, percentiles to 2.3 %."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

SMALLEST_MS = 1e-3
BINS_PER_DECADE = 100
DECADES = 9  # 1 us to 1000 s
BINS = DECADES * BINS_PER_DECADE
FIRST = math.log10(SMALLEST_MS) * BINS_PER_DECADE


@dataclass
class Latencies:
    """Counts latencies in logarithmic bins. A list: an array costs ten times as much for one number."""

    count: int = 0
    largest_ms: float = 0.0
    sum_ms: float = 0.0
    bins: list[int] = field(default_factory=lambda: [0] * BINS)

    def add(self, ms: float) -> None:
        """Note one latency in milliseconds; what clocks that disagree made negative counts as zero."""
        ms = max(ms, 0.0)
        number = int(math.log10(ms) * BINS_PER_DECADE - FIRST) if ms > SMALLEST_MS else 0
        self.bins[number if number < BINS else BINS - 1] += 1
        self.count += 1
        self.sum_ms += ms
        if ms > self.largest_ms:
            self.largest_ms = ms

    def percentile(self, percent: float) -> float:
        """The latency in milliseconds that `percent` of all stay below; NaN before the first."""
        if not self.count:
            return math.nan
        wanted = self.count * percent / 100
        number = next(
            (place for place, below in enumerate(accumulate(self.bins)) if below >= wanted and below),
            BINS - 1,
        )
        middle = SMALLEST_MS * 10 ** ((number + 0.5) / BINS_PER_DECADE)
        return min(middle, self.largest_ms)

    def cumulative(self, per_decade: int) -> Iterator[tuple[float, int]]:
        """Limits in milliseconds, per_decade of them to a decade, and how many latencies are below each.

        per_decade divides BINS_PER_DECADE, so that the counts are exact.
        """
        step = BINS_PER_DECADE // per_decade
        below = list(accumulate(self.bins))[step - 1 :: step]
        for number, count in enumerate(below, 1):
            yield SMALLEST_MS * 10 ** (number / per_decade), count

    def copy(self) -> "Latencies":
        """As it is now."""
        return Latencies(self.count, self.largest_ms, self.sum_ms, self.bins.copy())

    def since(self, earlier: "Latencies") -> "Latencies":
        """What was added after a copy was made; its largest is that of all."""
        bins = [now - before for now, before in zip(self.bins, earlier.bins, strict=True)]
        return Latencies(self.count - earlier.count, self.largest_ms, self.sum_ms - earlier.sum_ms, bins)
