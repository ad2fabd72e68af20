"""The daemon's snapshot for people, in one line."""

from cars_rt.console import Rate
from cars_rt.daemon.seen.snapshot import Snapshot
from cars_rt.latency import Latencies
from cars_rt.physics.fitness import shares


def no_driver(address: str, runs: int) -> str:
    """That no driver is there, in a phrase. runs: closed so far."""
    if not runs:
        return f"no driver at {address} yet"
    return f"no driver at {address} since the last run ended; {runs} run{'s' * (runs > 1)} so far"


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
        if now.trouble:
            return now.trouble
        if not now.connected:
            return now.waits_for or no_driver(now.listen, now.runs)
        if now.run is None and not rate_in:
            return f"connected to {now.listen}, {now.state.value}; {now.runs} runs so far"
        lost = ", ".join(f"{count} {cause}" for cause, count in sorted(now.run_lost.items())) or "none"
        flagged = shares(now.run_flagged, now.run_announced)
        paused = "PAUSED, " if now.state == "paused" else f"{now.waits_for}; " if now.waits_for else ""
        if recent.count:
            latency = f"latency p50 {recent.percentile(50):.1f} ms, p99 {recent.percentile(99):.1f} ms"
        else:
            latency = "no latency: " + ("its time stamps are not of now" if rate_out else "nothing was sent")
        text = f"{paused}in {rate_in:.0f}/s, out {rate_out:.0f}/s, {latency}, lost: {lost}"
        return f"{text}; {flagged}" if flagged else text


def dark_in_words(dark: str, run: object) -> str:
    """Which dark is subtracted, for people. dark: none, start, or the id of one that was measured here; run:
    the open one, if any."""
    if dark == "none" and not run:
        return "each run's own, where its driver gives one"
    words = {"none": "none is subtracted", "start": "from the start message of the driver"}
    return words.get(dark, f"{dark}, measured here")
