"""The daemon's snapshot for people, in one line."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from cars_rt.console import Rate
from cars_rt.daemon.seen.snapshot import Snapshot
from cars_rt.kinds import in_words
from cars_rt.latency import Latencies
from cars_rt.physics.fitness import shares
from cars_rt.printable import counted


def no_driver(address: str, runs: int) -> str:
    """That no driver is there, in a phrase. runs: closed so far."""
    if not runs:
        return f"no driver at {address} yet"
    return f"no driver at {address} since the last run ended; {counted(runs, 'run')} so far"


class Status:
    """Describes what happened since it was asked last."""

    def __init__(self) -> None:
        self._in = Rate()
        self._out = Rate()
        self._seen = Latencies()
        self._lost: Counter[str] = Counter()  # in all runs, when it was asked last

    def describe(self, now: Snapshot) -> str:
        """Rates, latency from the source's time stamp to sending, and losses by cause: of the open run, and
        of those that were closed meanwhile."""
        rate_in, rate_out = self._in.read(now.spectra_in), self._out.read(now.spectra_out)
        total = now.latencies["total"]
        recent, self._seen = total.since(self._seen), total.copy()
        # A run may have begun, lost something and been closed since the last line, or another one began.
        lately, self._lost = Counter(now.lost) - self._lost, Counter(now.lost)
        lost = ", ".join(
            f"{count} {cause}" for cause, count in sorted((lately | Counter(now.run_lost)).items())
        )
        if said := _idle(now, rate_in):
            return f"{said}; lost: {lost}" if lost else said
        flagged = shares(now.run_flagged, now.run_announced)
        paused = "PAUSED, " if now.state == "paused" else f"{now.waits_for}; " if now.waits_for else ""
        if recent.count:
            latency = f"latency p50 {recent.percentile(50):.1f} ms, p99 {recent.percentile(99):.1f} ms"
        else:
            latency = "no latency: " + ("its time stamps are not of now" if rate_out else "nothing was sent")
        text = f"{paused}in {rate_in:.0f}/s, out {rate_out:.0f}/s, {latency}, lost: {lost or 'none'}"
        return f"{text}; {flagged}" if flagged else text


def _idle(now: Snapshot, rate_in: float) -> str:
    """What is said where no spectra can come, or none do and no run is open; else empty."""
    if now.trouble:
        return now.trouble
    if not now.connected:
        return now.waits_for or no_driver(now.listen, now.runs)
    if now.run is None and not rate_in:
        return f"connected to {now.listen}, {now.state.value}; {counted(now.runs, 'run')} so far"
    return ""


def last_in_words(run: Mapping[str, Any]) -> str:
    """What became of the last run, for people; as `Snapshot.last_run` has it."""
    spectra, lost = counted(run["announced"], "spectrum"), in_words(run["lost"]) or "none"
    said = f"{run['run']} from {run['source']}: {spectra}; lost: {lost}"
    return f"{said}; it was not computed: {run['refused']}" if run["refused"] else said


def dark_in_words(dark: str, run: object) -> str:
    """Which dark is subtracted, for people. dark: none, start, or the id of one that was measured here; run:
    the open one, if any."""
    if dark == "none" and not run:
        return "each run's own, where its driver gives one"
    words = {"none": "none is subtracted", "start": "from the start message of the driver"}
    return words.get(dark, f"{dark}, measured here")
