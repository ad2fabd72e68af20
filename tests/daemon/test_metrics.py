"""What parts count, as metrics and as plain values. And the files that name metrics name real ones."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from helpers import COUNTED, LOCAL, a_snapshot, a_start, wait_until
from prometheus_client.parser import text_string_to_metric_families

from cars_rt.accounting import Ledger
from cars_rt.daemon.compute.counters import Counters
from cars_rt.daemon.compute.shadow import Disagreement
from cars_rt.daemon.parts import Parts
from cars_rt.daemon.picture import picture
from cars_rt.daemon.run import Run
from cars_rt.daemon.seen.metrics import MOST_LABELS, exposition
from cars_rt.daemon.seen.plain import plain
from cars_rt.daemon.seen.snapshot import Phase, Queue, Snapshot, State
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.latency import Latencies
from cars_rt.trust.flags import OFF

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"


def samples(snapshot: Snapshot, age_s: float = 0.0) -> dict[str, dict[tuple[str, ...], float]]:
    """What a scraper reads: name to label values to value."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(exposition(snapshot, age_s).decode()):
        assert family.documentation
        for sample in family.samples:
            values = found.setdefault(sample.name, {})
            key = tuple(sample.labels.values())
            assert key not in values, f"{sample.name} {key} twice"
            values[key] = sample.value
    return found


def latencies(*ms: float) -> Latencies:
    made = Latencies()
    for each in ms:
        made.add(each)
    return made


@pytest.fixture(scope="module")
def pictures() -> tuple[Snapshot, Snapshot]:
    """Of a daemon before anything happened, and of the same with something in everything that it counts."""
    addresses = {
        "preview": OFF,
        "spectra": OFF,
        "control": OFF,
        "publish": LOCAL,
        "listen": "tcp://127.0.0.1:9",
    }
    parts = Parts(DaemonSettings(engine="passthrough", **addresses))
    try:
        empty, compute, runs, times = picture(parts), parts.compute, parts.runs, parts.times
        compute.prepare(None)
        wait_until(lambda: compute.opened)
        compute.adopt_opened()
        compute.start_shadow(None, None, 1, lambda error, result: None)
        assert compute.shadow is not None
        compute.shadow.disagreement = Disagreement(batches=12, mean=0.02)
        compute.counters = Counters(failures=1, replacements=1, reloads=4, reloads_failed=2)
        compute.worker.engine.gpu_memory_bytes = lambda: 2**30  # type: ignore[union-attr,method-assign]
        runs.current = Run(a_start("run-7"), Ledger(spectra=87, lost=Counter(engine=3)), lambda run: None)  # type: ignore[arg-type,return-value]
        runs.taken.frames, runs.taken.spectra = 250, 1000
        runs.book.lost, runs.book.problems = Counter(engine=4, missing=3), Counter(gap=2)
        sent = parts.results.publisher
        sent._told.frames, sent._told.spectra, sent.outlet.stalls = 248, 990, 5
        parts.pipeline.latencies["compute"] = latencies(0.4)
        parts.results.latencies["total"] = latencies(0.5, 2.0, 2.0, 70.0)
        times.phases |= {Phase.IDLE: 6.0, Phase.COMPUTE: 3.0, Phase.SEND: 1.0}
        full, parts.ready = picture(parts), True
    finally:
        parts.close(0)
    queues = {"filling": Queue(3, 64), "computing": Queue(64, 128), "output": Queue(10, 100)}
    depths, limits = ({name: getattr(each, of) for name, each in queues.items()} for of in ("depth", "limit"))
    phases = dict.fromkeys((phase.value for phase in Phase), 0.0) | {"idle": 6.0, "compute": 3.0, "send": 1.0}
    full = counting(
        full,
        uptime_seconds=10.0,
        phase_seconds=phases,
        queue_depth_spectra=depths,
        queue_limit_spectra=limits,
    )
    return empty, replace(full, state=State.RUNNING, ready=True, queues=queues)


def counting(snapshot: Snapshot, **values: float | Mapping[str, float] | Mapping[str, str]) -> Snapshot:
    """A snapshot whose metrics have these values."""
    metrics = [
        replace(each, value=values.pop(each.name.removeprefix("cars_rt_"), each.value))
        for each in snapshot.metrics
    ]
    assert not values
    return replace(snapshot, metrics=tuple(metrics))


@pytest.fixture
def empty(pictures: tuple[Snapshot, Snapshot]) -> Snapshot:
    return pictures[0]


@pytest.fixture
def full(pictures: tuple[Snapshot, Snapshot]) -> Snapshot:
    return pictures[1]


def test_counters_and_gauges_say_what_the_parts_count(full: Snapshot) -> None:
    found = samples(full, age_s=0.25)
    for name, value in {
        "spectra_received_total": 1000, "spectra_sent_total": 990, "frames_received_total": 250,
        "frames_sent_total": 248, "subscriber_stalls_total": 5, "engine_failures_total": 1,
        "engine_replacements_total": 1, "run_announced_spectra": 90, "run_open": 1, "ready": 1,
        "tick_age_seconds": 0.25, "uptime_seconds": 10, "gpu_memory_bytes": 2**30,
        "shadow_batches": 12, "shadow_disagreement": 0.02,
    }.items():  # fmt: skip
        assert found[f"cars_rt_{name}"] == {(): value}, name
    assert found["cars_rt_spectra_lost_total"][("engine",)] == 7
    assert sum(found["cars_rt_spectra_lost_total"].values()) == 10
    assert found["cars_rt_run_lost_spectra"][("engine",)] == 3
    assert found["cars_rt_problems_total"] == {("gap",): 2}
    assert found["cars_rt_queue_depth_spectra"] == {("filling",): 3, ("computing",): 64, ("output",): 10}
    assert found["cars_rt_queue_limit_spectra"] == {("filling",): 64, ("computing",): 128, ("output",): 100}
    assert found["cars_rt_reloads_total"] == {("done",): 4, ("failed",): 2}
    assert [state for state, value in found["cars_rt_state"].items() if value] == [("running",)]


def test_phases_add_up_to_the_uptime(full: Snapshot) -> None:
    found = samples(full)
    assert set(found["cars_rt_phase_seconds_total"]) == {(phase.value,) for phase in Phase}
    assert sum(found["cars_rt_phase_seconds_total"].values()) == pytest.approx(10.0)


def test_latencies_are_a_histogram_with_an_exact_sum(full: Snapshot) -> None:
    found = samples(full)
    every = found["cars_rt_latency_seconds_bucket"]
    buckets = {limit: below for (limit, stage), below in every.items() if stage == "total"}
    limits = [float(limit) for limit in buckets]
    assert limits == sorted(limits) and limits[0] == 1e-5 and limits[-2:] == [10.0, float("inf")]
    for limit, below in buckets.items():
        assert below == sum(each / 1e3 < float(limit) for each in (0.5, 2.0, 2.0, 70.0)), limit
    assert found["cars_rt_latency_seconds_count"][("total",)] == 4
    assert found["cars_rt_latency_seconds_sum"][("total",)] == pytest.approx(0.0745)


def test_counters_are_there_before_anything_happened(empty: Snapshot) -> None:
    """Otherwise the first loss would be no increase, and no alert."""
    found = samples(empty)
    assert found["cars_rt_spectra_lost_total"][("overload",)] == 0
    assert found["cars_rt_latency_seconds_count"][("wait",)] == 0
    assert found["cars_rt_phase_seconds_total"][("blocked",)] == 0
    assert "cars_rt_gpu_memory_bytes" not in found and "cars_rt_shadow_batches" not in found


def test_names_out_of_messages_cannot_break_or_flood_the_text(empty: Snapshot) -> None:
    hostile = 'a"b\\c\nevil_metric 1'
    found = samples(counting(empty, spectra_lost={hostile: 2}, cars_rt={"model": hostile}))
    assert found["cars_rt_spectra_lost_total"][(hostile,)] == 2
    assert "evil_metric" not in found
    many = samples(counting(empty, problems={f"kind {number}": 1 for number in range(10_000)}))
    assert len(many["cars_rt_problems_total"]) == MOST_LABELS + 1
    assert sum(many["cars_rt_problems_total"].values()) == 10_000


def test_the_process_itself_is_in_it() -> None:
    if Path("/proc/self/stat").exists():
        assert samples(a_snapshot())["process_resident_memory_bytes"][()] > 1e6


UNKNOWN = a_snapshot(latencies={"wait": Latencies()}, shadow={"disagreement": float("nan")})


def test_plain_values_are_json_and_complete(full: Snapshot) -> None:
    text = json.dumps(plain(full), allow_nan=False)
    back = json.loads(text)
    assert set(back) == {each.name for each in fields(Snapshot)} - {"metrics"} | COUNTED
    assert back["reloads"] == 4 and back["reloads_failed"] == 2 and back["problems"] == {"gap": 2}
    assert back["state"] == "running" and back["phases_s"]["compute"] == 3.0
    assert back["queues"]["output"] == {"depth": 10, "limit": 100}
    assert back["latencies"]["total"]["count"] == 4 and back["latencies"]["total"]["largest_ms"] == 70.0
    empty = json.loads(json.dumps(plain(UNKNOWN), allow_nan=False))
    assert empty["shadow"]["disagreement"] is None
    assert empty["latencies"]["wait"]["p50_ms"] is None


def named(text: str) -> set[str]:
    return set(re.findall(r"\b(?:cars_rt|process)_[a-z_]+", text))


def exprs(node: Any) -> list[str]:
    """Every query in a dashboard."""
    if isinstance(node, dict):
        own = [node["expr"]] if "expr" in node else []
        return own + [each for value in node.values() for each in exprs(value)]
    return [each for value in node for each in exprs(value)] if isinstance(node, list) else []


def test_dashboard_and_alerts_name_metrics_that_exist(full: Snapshot) -> None:
    dashboard = json.loads((DEPLOY / "grafana-cars-rt.json").read_text(encoding="utf-8"))
    queries = exprs(dashboard)
    rules = re.findall(r"^\s+expr: (.+)$", (DEPLOY / "cars-rt-rules.yml").read_text("utf-8"), re.MULTILINE)
    assert len(queries) > 20 and len(rules) >= 8
    exist = set(samples(full))
    for query in [*queries, *rules]:
        missing = {name for name in named(query) if name.startswith("cars_rt")} - exist
        assert not missing, f"{missing} in {query}"
    assert {name for name in named(" ".join(queries)) if name.startswith("process")} <= {
        "process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds",
    }  # fmt: skip
    # And nothing that the snapshot counts is left out of the picture, but what needs no picture.
    shown = named(" ".join([*queries, *rules]))
    unseen = {name for name in exist if name.startswith("cars_rt_")} - shown
    assert unseen <= {
        "cars_rt_frames_received_total", "cars_rt_frames_sent_total", "cars_rt_run_open",
        "cars_rt_run_lost_spectra", "cars_rt_latency_seconds_count", "cars_rt_latency_seconds_sum",
        "cars_rt_shadow_batches",
    }  # fmt: skip


def test_labels_in_dashboard_and_alerts_exist(full: Snapshot) -> None:
    text = " ".join(exprs(json.loads((DEPLOY / "grafana-cars-rt.json").read_text(encoding="utf-8"))))
    text += (DEPLOY / "cars-rt-rules.yml").read_text(encoding="utf-8")
    exposed = exposition(full, 0.0).decode()
    for label, value in re.findall(r'(queue|phase|stage|outcome)="(\w+)"', text):
        assert f'{label}="{value}"' in exposed
