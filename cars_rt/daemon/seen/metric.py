"""What a part of the daemon declares of a number that it counts: name, meaning, kind and present value.

A part yields its metrics from a method `metrics`; everything that shows them does so without knowing them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cars_rt.latency import Latencies

Value: TypeAlias = float | Mapping[str, float] | Mapping[str, str] | Mapping[str, Latencies] | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One number, or one for each value of a label, at one moment."""

    name: str  # at /metrics, where that of a counter ends in _total
    text: str  # what it is, in one sentence
    value: Value  # by the label's value, where there is a label; None while there is no such number
    label: str = ""
    status: str | tuple[str, ...] = ""  # its name in the status, or one for each value; empty: not there


class Gauge(Metric):
    """Goes up and down."""


class Counter(Metric):
    """Only grows, from the daemon's start on."""


class Info(Metric):
    """Words: each label and its value."""


class Histogram(Metric):
    """Latencies, by the label's value."""
