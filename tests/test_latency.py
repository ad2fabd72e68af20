"""Latencies as a histogram."""

import math

import numpy as np
import pytest

from cars_rt.latency import Latencies


def test_percentiles_are_right_to_a_few_percent_over_decades() -> None:
    values = np.random.default_rng(1).lognormal(1, 2, 20_000)
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    for percent in (1, 50, 90, 99):
        assert abs(latencies.percentile(percent) / np.percentile(values, percent) - 1) < 0.05
    assert latencies.count == 20_000 and latencies.percentile(100) <= latencies.largest_ms == values.max()


def test_extremes_and_nothing_are_taken() -> None:
    latencies = Latencies()
    assert math.isnan(latencies.percentile(50))
    for value in (-5.0, 0.0, 1e12):  # clocks of two computers may disagree
        latencies.add(value)
    assert latencies.percentile(1) <= 0.01 and latencies.percentile(99) > 1e5


def test_limits_count_exactly_what_is_below_them() -> None:
    values = np.random.default_rng(2).lognormal(1, 2, 5000)
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    for limit, below in latencies.cumulative(5):
        assert below == (values < limit).sum()
    assert latencies.sum_ms == pytest.approx(values.sum())


def test_a_copy_stays_as_it_was() -> None:
    latencies = Latencies()
    latencies.add(1.0)
    copy = latencies.copy()
    latencies.add(100.0)
    assert (copy.count, copy.sum_ms, copy.largest_ms) == (1, 1.0, 1.0)
    assert copy.percentile(99) <= 1.0 and max(below for _, below in copy.cumulative(1)) == 1


def test_the_sum_never_shrinks() -> None:
    latencies = Latencies()
    latencies.add(2.0)
    latencies.add(-5.0)  # clocks of two computers may disagree
    assert latencies.sum_ms == 2.0 and latencies.count == 2
