"""What was measured, as a table, as JSON and as a picture."""

from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table
from rich.text import Text

from cars_rt.bench.stream import BARE, TARGET_ADDED_MS, Comparison, Delay, StreamReport
from cars_rt.storage import replacing

MOST_BUSY = 0.8  # of the time; beyond it what is measured is the queue before the engine


def tables(report: StreamReport) -> list[Table]:
    """Rates and latencies for the terminal."""
    rates = Table(
        "daemon with", "against", "block", "ratio", "rounds", "wanted", "daemon", "reference",
        title="Spectra per second; the ratio is the median of the rounds",
    )  # fmt: skip
    for each in report.comparisons:
        rates.add_row(
            each.engine, each.reference, str(each.block), f"{each.ratio:.1%}",
            f"{min(each.ratios):.0%} to {max(each.ratios):.0%}",
            _mark(each.ratio >= each.target, f"{each.target:.0%}"),
            f"{median(each.daemon_rates):,.0f}", f"{median(each.reference_rates):,.0f}",
        )  # fmt: skip
    delays = Table(
        "through", "engine alone", "median", "99 %", "largest", "added", "added, 99 %",
        title=f"Latency at {report.settings.rate:g} spectra/s, one to a message, ms",
    )  # fmt: skip
    for delay in report.delays:
        added: list[str | Text] = [f"{value:.3f}" for value in delay.added_ms]
        if delay.name != BARE and keeps_up(delay, report.settings.rate):
            wanted = zip(delay.added_ms, TARGET_ADDED_MS, added, strict=True)
            added = [_mark(value <= most, str(text)) for value, most, text in wanted]
        elif delay.name != BARE:
            added = ["too slow for", "this rate"]
        delays.add_row(
            delay.name, f"{median(delay.engine_ms):.3f}", f"{median(delay.p50_ms):.3f}",
            f"{median(delay.p99_ms):.3f}", f"{max(delay.largest_ms):.3f}", *added,
        )  # fmt: skip
    return [rates, delays]


def keeps_up(delay: Delay, rate: float) -> bool:
    """Whether the engine could compute each spectrum by itself at this rate; else spectra queue for it."""
    return median(delay.engine_ms) * 1e-3 * rate < MOST_BUSY


def as_json(report: StreamReport) -> dict[str, Any]:
    """Everything, for programs; ratios first."""
    return {
        "comparisons": [_comparison(each) for each in report.comparisons],
        "latencies": [_delay(each) for each in report.delays],
        "spectra": report.spectra,
        "lost": 0,  # a measurement that loses anything fails
        "hardware": report.hardware,
        "load_before": report.load_before,
        "settings": asdict(report.settings),
    }


def picture(report: StreamReport, target: Path) -> None:
    """Draw rates and latencies into a PNG. Raises ImportError without matplotlib, OSError as written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, each in enumerate(report.comparisons):
        ratios = [100 * ratio for ratio in each.ratios]
        left.bar(number, median(ratios), color="C0" if each.reference == BARE else "C1", width=0.6)
        left.plot([number] * len(ratios), ratios, "k.", markersize=4)
        left.hlines(100 * each.target, number - 0.4, number + 0.4, "0.4", linestyles="dashed")
    left.set_xticks(
        range(len(report.comparisons)),
        [f"{each.engine}\nblock {each.block}\nof {each.reference}" for each in report.comparisons],
        fontsize=8,
    )
    left.set_ylim(0, 150)  # a disturbed round may lie anywhere
    left.set_ylabel("daemon's rate, % of the reference")
    left.set_title("rate: median, rounds, wanted (dashed)")
    names = [delay.name for delay in report.delays]
    for offset, label, pick in ((-0.2, "median", "p50_ms"), (0.2, "99 %", "p99_ms")):
        heights = [median(getattr(delay, pick)) for delay in report.delays]
        places = [number + offset for number in range(len(names))]
        right.bar(places, heights, width=0.4, label=label)
    own = [median(delay.engine_ms) for delay in report.delays]
    for number, value in enumerate(own):
        right.hlines(value, number - 0.4, number + 0.4, "0.2", label="engine alone" if not number else None)
    right.set_xticks(range(len(names)), names)
    right.set_yscale("log")
    right.set_ylabel("ms")
    right.set_title(f"latency at {report.settings.rate:g} spectra/s")
    right.legend()
    figure.suptitle(report.hardware, fontsize=9)
    with replacing(target, durable=False) as file:
        figure.savefig(file, dpi=110, format="png")


def _mark(reached: bool, text: str) -> Text:
    return Text(text, "green" if reached else "red")


def _comparison(each: Comparison) -> dict[str, Any]:
    return {"ratio": each.ratio, "ratios": each.ratios} | asdict(each)


def _delay(each: Delay) -> dict[str, Any]:
    p50, p99 = each.added_ms
    return {"added_p50_ms": p50, "added_p99_ms": p99} | asdict(each)
