"""Models exchanged under load, by real processes: is anything lost, and how late do results come meanwhile?

    python tests/scripts/reload.py                    20 times, good and broken in turn, at 500 spectra/s
    python tests/scripts/reload.py --rate 1000 --times 100

A driver simulates a microscope, the daemon computes, this program counts what comes out and asks for another
model again and again: one that works, one that is cut off, one whose engine does not exist. Latency is from
the driver's time stamp to here; a swap lasts from the request until 0.2 s after the answer. The exit code is
1 if anything was lost or a broken model took over.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from cars_rt.engines.model import SHIPPED
from cars_rt.protocol import Closed, Frame
from cars_rt.remote import Remote, RemoteError
from cars_rt.room.program import LoggedProgram
from cars_rt.sockets.free import free_addresses
from cars_rt.source import Source

SETTLE_S = 3.0  # before the first swap and after the last one
BETWEEN_S = 1.0
AFTER_S = 0.2


class Results(threading.Thread):
    """Reads the result stream: when each spectrum came, and how late."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.came: list[tuple[float, float]] = []  # when (monotonic, s), latency (ms), a frame each
        self.spectra = 0
        self.makers: list[str] = []
        self.closed: Closed | None = None
        self._source = Source(address, "raman")

    def run(self) -> None:
        while self.closed is None:
            for event in self._source.pull(0.05):
                match event:
                    case Frame():
                        self.came.append((time.monotonic(), (time.time_ns() - event.time_ns) / 1e6))
                        self.spectra += len(event.block)
                        if event.made_by and self.makers[-1:] != [event.made_by]:
                            self.makers.append(event.made_by)
                    case Closed():
                        self.closed = event


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="how often another model is asked for")
    parser.add_argument("--rate", type=float, default=500, help="spectra per second")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--json", type=Path)
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(settings, Path(folder))
    print(json.dumps(report, indent=2))
    if settings.json:
        settings.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return int(bool(report["lost"]) or not report["every_broken_one_refused"])


def measure(settings: argparse.Namespace, folder: Path) -> dict[str, Any]:
    raw, raman, control = free_addresses(3)
    broken = folder / "broken.onnx"
    broken.write_bytes((SHIPPED / "cnn.onnx").read_bytes()[:-5000])
    wanted: list[tuple[dict[str, str], bool]] = [
        ({"model": "cnn"}, True),
        ({"model": str(broken)}, False),
        ({"model": "cnn", "engine": "onnxruntime"}, True),
        ({"engine": "no-such-engine"}, False),
    ]
    side = int((settings.rate * (2 * SETTLE_S + settings.times * (BETWEEN_S + 1.0))) ** 0.5) + 1
    results = Results(raman)
    results.start()
    daemon_flags = ["--listen", raw, "--publish", raman, "--control", control, "--preview", "none"]
    driver_flags = ["--publish", raw, "--rate", str(settings.rate), "--scan", f"{side}x{side}"]
    programs = [
        LoggedProgram(
            "daemon", ["run", *daemon_flags, "--subscribers", "1", "--engine", settings.engine], folder
        ),
        LoggedProgram("driver", ["drive", "simulator", *driver_flags], folder),
    ]
    swaps: list[tuple[float, float, bool]] = []
    refused = True
    try:
        while not results.came:
            for program in programs:
                program.check()
            time.sleep(0.05)
        time.sleep(SETTLE_S)
        with Remote(control) as daemon:
            for number in range(settings.times):
                arguments, good = wanted[number % len(wanted)]
                begin = time.monotonic()
                try:
                    daemon.ask("reload", **arguments)
                    refused &= good
                except RemoteError as error:
                    if good:
                        raise
                    print(f"refused, as it should be: {error}", file=sys.stderr)
                swaps.append((begin, time.monotonic() + AFTER_S, good))
                time.sleep(BETWEEN_S)
            time.sleep(SETTLE_S)
            programs[1].stop()
            results.join(30)
            status = daemon.ask("status")
    finally:
        for program in reversed(programs):
            program.stop()
        for program in programs:
            program.kill()
    assert results.closed is not None, "the run did not end"
    when, latency = np.array(results.came).T
    inside = np.zeros(len(when), bool)
    for begin, end, good in swaps:
        if good:
            inside |= (when >= begin) & (when <= end)
    steady = ~inside & (when > when[0] + SETTLE_S)

    def percentiles(which: Any) -> dict[str, float]:
        values = latency[which]
        return {
            name: round(float(np.percentile(values, p)), 2)
            for name, p in (("p50", 50), ("p99", 99), ("max", 100))
        }

    end = results.closed.end
    return {
        "rate": settings.rate,
        "swaps": settings.times,
        "reloads": status["reloads"],
        "every_broken_one_refused": refused,
        "announced": end.announced,
        "came": results.spectra,
        "lost": dict(end.lost) | dict(results.closed.ledger.lost),
        "latency_ms_in_swaps": percentiles(inside),
        "latency_ms_otherwise": percentiles(steady),
        "seconds_of_a_swap": round(float(np.median([e - b - AFTER_S for b, e, good in swaps if good])), 3),
    }


if __name__ == "__main__":
    sys.exit(main())
