"""Snapshot to Prometheus metrics; pure, apart from what the system says of the process itself."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

import cars_rt
from cars_rt.accounting import Cause
from cars_rt.daemon.seen.snapshot import Phase, Snapshot, State
from cars_rt.latency import Latencies
from cars_rt.physics.fitness import NAMES

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4  # every version of Prometheus reads it
LOSSES = [cause.value for cause in Cause if cause is not Cause.REPEATED]  # a copy is no loss
STAGES = ("wait", "compute", "output", "total")  # there from the start on, others when they come
SHADOW = {
    "batches": "Batches that the candidate computed, too.",
    "disagreement": "How far the candidate's results are from the model's.",
}
BUCKETS_PER_DECADE = 5  # they fall on bins of Latencies, so that counts are exact
SMALLEST_BUCKET_S = 1e-5
LARGEST_BUCKET_S = 10.0
MOST_LABELS = 64  # names of one kind; what is beyond is added up, so that a scrape stays small
OTHERS = "others"

_process = ProcessCollector(registry=None)  # memory, CPU time, descriptors; nothing on Windows


def exposition(snapshot: Snapshot, age_s: float) -> bytes:
    """The metrics in Prometheus' text format, of which CONTENT_TYPE tells.

    age_s: seconds since the snapshot was made.
    """
    return generate_latest(_Families([*families(snapshot, age_s), *_process.collect()]))


def families(snapshot: Snapshot, age_s: float) -> Iterator[Metric]:
    """Everything that a snapshot says in numbers."""
    s = snapshot
    about = {"version": cars_rt.__version__, "model": s.model, "model_sha256": s.model_sha256}
    yield InfoMetricFamily("cars_rt", "What computes.", about | {"engine": s.engine})
    yield _gauge("cars_rt_ready", "1: the engine is warm and the sockets are open.", s.ready)
    states = {state.value: float(state is s.state) for state in State}
    yield _gauges("cars_rt_state", "1 for what the daemon is doing.", "state", states)
    yield _gauge("cars_rt_uptime_seconds", "Since the daemon started.", s.uptime_s)
    yield _gauge("cars_rt_tick_age_seconds", "Since the loop was last seen turning.", age_s)
    yield _gauge("cars_rt_driver_connected", "1: a driver is there.", s.connected)
    yield _gauge("cars_rt_subscribers", "Subscribers of the result stream.", s.subscribers)

    yield _counter("cars_rt_frames_received", "Frames received.", s.frames_in)
    yield _counter("cars_rt_spectra_received", "Spectra received.", s.spectra_in)
    yield _counter("cars_rt_frames_sent", "Frames of results sent.", s.frames_out)
    yield _counter("cars_rt_spectra_sent", "Spectra sent.", s.spectra_out)
    lost = dict.fromkeys(LOSSES, 0) | dict(s.lost)
    yield _counters("cars_rt_spectra_lost", "Spectra lost, by cause.", "cause", lost)
    flagged = dict.fromkeys(NAMES.values(), 0) | dict(s.flagged)
    yield _counters("cars_rt_spectra_flagged", "Spectra that have a flag, by its name.", "flag", flagged)
    yield _counters("cars_rt_problems", "Findings about messages, by kind.", "kind", s.problems)
    text = "How often a subscriber stopped reading and was left out."
    yield _counter("cars_rt_subscriber_stalls", text, s.stalls)

    yield _counter("cars_rt_runs", "Runs closed.", s.runs)
    yield _gauge("cars_rt_run_open", "1: a run is open.", s.run is not None)
    yield _gauge("cars_rt_run_announced_spectra", "Spectra of the open run so far.", s.run_announced)
    lost = dict.fromkeys(LOSSES, 0) | dict(s.run_lost)
    yield _gauges("cars_rt_run_lost_spectra", "Spectra of the open run lost, by cause.", "cause", lost)

    yield _counter("cars_rt_engine_failures", "Batches lost in the engine.", s.engine_failures)
    yield _counter("cars_rt_engine_replacements", "Engines replaced after a failure.", s.engine_replacements)
    reloads = {"done": s.reloads, "failed": s.reloads_failed}
    yield _counters("cars_rt_reloads", "Models or engines changed on request.", "outcome", reloads)
    yield _counter(
        "cars_rt_connections_refused",
        "Connections without an allowed key or that flooded us, requests without the token.",
        s.refused,
    )
    yield _counter("cars_rt_flight_alarms", "Alarms of the flight recorder.", s.flight_alarms)
    yield _counter("cars_rt_flight_files", "Files it has written.", s.flight_files)
    if s.gpu_memory_bytes is not None:
        yield _gauge("cars_rt_gpu_memory_bytes", "Memory of the GPU in use.", s.gpu_memory_bytes)
    if s.shadow is not None:
        for name, text in SHADOW.items():
            if isinstance(value := s.shadow.get(name), int | float):
                yield _gauge(f"cars_rt_shadow_{name}", text, value)

    depths = {name: queue.depth for name, queue in s.queues.items()}
    limits = {name: queue.limit for name, queue in s.queues.items()}
    yield _gauges("cars_rt_queue_depth_spectra", "Spectra waiting, by queue.", "queue", depths)
    yield _gauges("cars_rt_queue_limit_spectra", "Room for spectra, by queue.", "queue", limits)
    phases = {phase.value: s.phases_s.get(phase, 0.0) for phase in Phase}
    text = "What the loop's time went to. The phases add up to its life."
    yield _counters("cars_rt_phase_seconds", text, "phase", phases)
    yield _histogram(s.latencies)


class _Families(Collector):
    """Metrics that are there already, as the encoder wants them."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, float(value))  # the library adds _total


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in _bounded(values).items():
        family.add_metric([key], value)
    return family


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in _bounded(values).items():
        family.add_metric([key], value)
    return family


def _histogram(latencies: Mapping[str, Latencies]) -> Metric:
    text = "Latency in seconds, by stage."
    family = HistogramMetricFamily("cars_rt_latency_seconds", text, labels=["stage"])
    for stage, each in (dict.fromkeys(STAGES, Latencies()) | dict(latencies)).items():
        buckets = [
            (f"{limit_ms / 1e3:.6g}", float(below))
            for limit_ms, below in each.cumulative(BUCKETS_PER_DECADE)
            if SMALLEST_BUCKET_S * 0.999 < limit_ms / 1e3 < LARGEST_BUCKET_S * 1.001
        ]
        family.add_metric([stage], [*buckets, ("+Inf", float(each.count))], each.sum_ms / 1e3)
    return family


def _bounded(values: Mapping[str, float]) -> dict[str, float]:
    """Names may come from messages: at most MOST_LABELS of them, in their order, and the sum of the rest."""
    names = list(values)
    bounded = {name: float(values[name]) for name in names[:MOST_LABELS]}
    if rest := names[MOST_LABELS:]:
        bounded[OTHERS] = bounded.get(OTHERS, 0.0) + sum(values[name] for name in rest)
    return bounded
