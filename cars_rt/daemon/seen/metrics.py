"""Snapshot to Prometheus metrics; pure, apart from what the system says of the process itself."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import core
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from cars_rt.daemon.seen.metric import Counter, Gauge, Histogram, Info, Metric
from cars_rt.daemon.seen.snapshot import Snapshot, State
from cars_rt.latency import Latencies

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4  # every version of Prometheus reads it
BUCKETS_PER_DECADE = 5  # they fall on bins of Latencies, so that counts are exact
SMALLEST_BUCKET_S = 1e-5
LARGEST_BUCKET_S = 10.0
MOST_LABELS = 64  # names of one kind; what is beyond is added up, so that a scrape stays small
OTHERS = "others"
FAMILIES: dict[type[Metric], Any] = {Gauge: core.GaugeMetricFamily, Counter: core.CounterMetricFamily}

_process = ProcessCollector(registry=None)  # memory, CPU time, descriptors; nothing on Windows


def exposition(snapshot: Snapshot, age_s: float) -> bytes:
    """The metrics in Prometheus' text format, of which CONTENT_TYPE tells.

    age_s: seconds since the snapshot was made.
    """
    declared = (*of_snapshot(snapshot, age_s), *snapshot.metrics)
    families = [_family(each) for each in declared if each.value is not None]
    return generate_latest(_Families([*families, *_process.collect()]))


def of_snapshot(snapshot: Snapshot, age_s: float) -> Iterator[Metric]:
    """What is true of the daemon as a whole; the rest is declared by its parts."""
    yield Gauge("cars_rt_ready", "1: the engine is warm and the sockets are open.", snapshot.ready)
    states = {state.value: float(state is snapshot.state) for state in State}
    yield Gauge("cars_rt_state", "1 for what the daemon is doing.", states, "state")
    yield Gauge("cars_rt_tick_age_seconds", "Since the loop was last seen turning.", age_s)


class _Families(Collector):
    """Metrics that are there already, as the encoder wants them."""

    def __init__(self, metrics: list[core.Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[core.Metric]:
        return self._metrics


def _family(metric: Metric) -> core.Metric:
    value: Any = metric.value
    match metric:
        case Info():
            return core.InfoMetricFamily(metric.name, metric.text, value)
        case Histogram():
            return _histogram(metric, value)
    family = FAMILIES[type(metric)]
    if not metric.label:
        return family(metric.name, metric.text, float(value))  # type: ignore[no-any-return]
    made = family(metric.name, metric.text, labels=[metric.label])
    for key, each in _bounded(value).items():
        made.add_metric([key], each)
    return made  # type: ignore[no-any-return]


def _histogram(metric: Metric, latencies: Mapping[str, Latencies]) -> core.Metric:
    family = core.HistogramMetricFamily(metric.name, metric.text, labels=[metric.label])
    for key, each in latencies.items():
        buckets = [
            (f"{limit_ms / 1e3:.6g}", float(below))
            for limit_ms, below in each.cumulative(BUCKETS_PER_DECADE)
            if SMALLEST_BUCKET_S * 0.999 < limit_ms / 1e3 < LARGEST_BUCKET_S * 1.001
        ]
        family.add_metric([key], [*buckets, ("+Inf", float(each.count))], each.sum_ms / 1e3)
    return family


def _bounded(values: Mapping[str, float]) -> dict[str, float]:
    """Names may come from messages: at most MOST_LABELS of them, in their order, and the sum of the rest."""
    names = list(values)
    bounded = {str(name): float(values[name]) for name in names[:MOST_LABELS]}
    if rest := names[MOST_LABELS:]:
        bounded[OTHERS] = bounded.get(OTHERS, 0.0) + sum(values[name] for name in rest)
    return bounded
