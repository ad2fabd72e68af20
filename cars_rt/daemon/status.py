"""The daemon's snapshot for people (one line) and for programs (a map)."""

from dataclasses import asdict
from typing import Any

from cars_rt.console import Rate
from cars_rt.daemon.snapshot import Snapshot
from cars_rt.latency import Latencies


class Status:
    """Describes what happened since it was asked last."""

    def __init__(self) -> None:
        self._in = Rate()
        self._out = Rate()
        self._seen = Latencies()

    def describe(self, now: Snapshot) -> str:
        """Rates, latency from the source's time stamp to sending, and losses of the run by cause."""
        rate_in, rate_out = self._in.read(now.spectra_in), self._out.read(now.spectra_out)
        total = now.latencies["total"]
        recent, self._seen = total.since(self._seen), total.copy()
        if not now.connected:
            return f"no driver at {now.listen} yet"
        if now.run is None and not rate_in:
            return f"connected to {now.listen}, {now.state.value}; {now.runs} runs so far"
        lost = ", ".join(f"{count} {cause}" for cause, count in sorted(now.run_lost.items())) or "none"
        paused = "PAUSED, " if now.state == "paused" else ""
        return (
            f"{paused}in {rate_in:.0f}/s, out {rate_out:.0f}/s, latency p50 {recent.percentile(50):.1f} ms, "
            f"p99 {recent.percentile(99):.1f} ms, lost: {lost}"
        )


def plain(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot as maps, lists, texts and numbers; latencies as percentiles in ms."""
    content = {name: getattr(snapshot, name) for name in Snapshot.__dataclass_fields__ if name != "latencies"}
    content["queues"] = {name: asdict(queue) for name, queue in snapshot.queues.items()}
    content["phases_s"] = {phase.value: seconds for phase, seconds in snapshot.phases_s.items()}
    content["state"] = snapshot.state.value
    content["bands"] = {name: list(limits) for name, limits in snapshot.bands.items()}
    content["shadow"] = None if snapshot.shadow is None else dict(snapshot.shadow)
    content["latency_ms"] = {
        stage: {
            "p50": latencies.percentile(50),
            "p99": latencies.percentile(99),
            "max": latencies.largest_ms,
            "count": latencies.count,
        }
        for stage, latencies in snapshot.latencies.items()
        if latencies.count
    }
    return content
