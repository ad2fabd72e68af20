"""What happened to engines so far."""

from collections.abc import Iterator
from dataclasses import dataclass

from cars_rt.daemon.seen import metric
from cars_rt.daemon.seen.metric import Metric


@dataclass
class Counters:
    """All runs together."""

    failures: int = 0  # batches lost
    replacements: int = 0
    reloads: int = 0  # models or engines changed on request
    reloads_failed: int = 0

    def metrics(self) -> Iterator[Metric]:
        """What is counted here."""
        text = "Batches lost in the engine."
        yield metric.Counter("cars_rt_engine_failures", text, self.failures, status="engine_failures")
        text, replaced = "Engines replaced after a failure.", self.replacements
        yield metric.Counter("cars_rt_engine_replacements", text, replaced, status="engine_replacements")
        text, reloads = "Models or engines changed on request.", ("reloads", "reloads_failed")
        outcomes = {"done": self.reloads, "failed": self.reloads_failed}
        yield metric.Counter("cars_rt_reloads", text, outcomes, "outcome", reloads)
