"""The daemon's status line."""

from cars_rt.console import Rate
from cars_rt.daemon.loop import Daemon
from cars_rt.latency import Latencies


class Status:
    """Describes what happened since it was asked last."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._in = Rate()
        self._out = Rate()

    def describe(self) -> str:
        """Rates, latency from the source's time stamp to sending, and losses of the run by cause."""
        daemon = self._daemon
        rate_in, rate_out = self._in.read(daemon.spectra_in), self._out.read(daemon.spectra_out)
        latencies, daemon.latencies = daemon.latencies, Latencies()
        if daemon.subscriber.trouble:
            return daemon.subscriber.trouble
        if not daemon.subscriber.connected:
            return f"no driver at {daemon.settings.listen} yet"
        if daemon.run_open is None and not rate_in:
            return f"connected to {daemon.settings.listen}, no run; {len(daemon.runs)} runs so far"
        p50, p99 = latencies.percentile(50), latencies.percentile(99)
        return (
            f"in {rate_in:.0f}/s, out {rate_out:.0f}/s, latency p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
            f"lost: {daemon.describe_losses()}"
        )
