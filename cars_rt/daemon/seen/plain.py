"""Snapshot to plain values, as JSON and msgpack take them."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from cars_rt.daemon.seen.snapshot import Queue, Snapshot
from cars_rt.latency import Latencies

MOST = 2**63 - 1  # the largest integer that other programs read; a counter stands still there


def plain(snapshot: Snapshot) -> dict[str, Any]:
    """Text, numbers, lists and maps only. Latencies become percentiles in milliseconds, None without any."""
    made = {each.name: getattr(snapshot, each.name) for each in fields(snapshot) if each.name != "metrics"}
    for metric in snapshot.metrics:
        if isinstance(metric.status, str):
            made[metric.status] = metric.value
        elif isinstance(metric.value, Mapping):
            made |= zip(metric.status, metric.value.values(), strict=True)
    made.pop("", None)  # what is not in the status, or there in another form
    return {name: _plain(value) for name, value in made.items()}


def _plain(value: Any) -> Any:
    match value:
        case Latencies():
            return {
                "count": value.count,
                "mean_ms": value.sum_ms / value.count if value.count else None,
                **{f"p{percent}_ms": _finite(value.percentile(percent)) for percent in (50, 90, 99)},
                "largest_ms": value.largest_ms if value.count else None,
            }
        case Queue():
            return {"depth": value.depth, "limit": value.limit}
        case str():
            return str(value)  # an enumeration's value
        case float():
            return _finite(value)
        case list() | tuple():
            return [_plain(each) for each in value]
        case None | bool():
            return value
        case int():
            return min(value, MOST)
        case _:  # a mapping
            return {str(key): _plain(each) for key, each in value.items()}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None  # JSON has no NaN
