"""Latencies as a histogram."""

import math

import numpy as np

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
