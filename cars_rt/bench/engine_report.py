"""What engines were measured to do, as a table, as JSON and as a picture."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from cars_rt.bench.engines import Cell, EngineReport
from cars_rt.bench.floor import SIDE
from cars_rt.engines.registry import REFERENCE
from cars_rt.storage import replacing

FLOOR = f"of one product with a matrix of {SIDE} by {SIDE} in the largest batch, by the same engine"


def tables(report: EngineReport) -> list[Table]:
    """For the terminal: the fastest first, for each size of batch."""
    to = " and ".join(report.references) or "nothing"
    found = Table(
        title=f"Ratios are to {to} on {REFERENCE}, medians of the rounds",
        caption=f"the floor: the multiply-adds at the rate {FLOOR}; the fastest batch of each",
        box=None,
    )
    for name in ("batch", "model", "engine"):
        found.add_column(name, no_wrap=True)
    ratios = [f"to {name}" for name in report.references]
    for name in (*ratios, "spectra/s", "rounds", "p50, ms", "p99, ms", "of the floor"):
        found.add_column(name, justify="right", no_wrap=True)
    for batch in report.settings.batches:
        cells = [cell for cell in report.cells if cell.batch == batch]
        for cell in sorted(cells, key=lambda cell: -cell.rate):
            share = report.share(cell)
            found.add_row(
                str(batch), Text(cell.model), cell.engine,
                *(f"{report.ratios(cell)[name]:.2f}" for name in report.references),
                f"{cell.rate:,.0f}", f"{min(cell.rates):,.0f} to {max(cell.rates):,.0f}",
                f"{cell.percentile(50):.2f}", f"{cell.percentile(99):.2f}",
                "" if share is None else f"{share:.0%}",
            )  # fmt: skip
        found.add_row()
    if not report.skipped:
        return [found]
    left_out = Table("model", "engine", "reason", title="Left out")
    for each in report.skipped:
        left_out.add_row(Text(each.model), each.engine, Text(each.reason))
    return [found, left_out]


def as_json(report: EngineReport) -> dict[str, Any]:
    """Everything, for programs; ratios first. Times are summed up."""
    return {
        "cells": [{"ratios": report.ratios(cell)} | _cell(cell, report) for cell in report.cells],
        "references": [{"model": name, "engine": REFERENCE} for name in report.references],
        "floor": f"multiply-adds per second {FLOOR}",
        "floors": [_cell(cell, report) for cell in report.floors.values()],
        "skipped": [asdict(each) for each in report.skipped],
        "hardware": report.hardware,
        "load_before": report.load_before,
        "settings": asdict(report.settings),
    }


def picture(report: EngineReport, target: Path) -> None:
    """Draw rates and latencies into a PNG. Raises ImportError without matplotlib, OSError as written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    models = list(dict.fromkeys(cell.model for cell in report.cells))
    engines = list(dict.fromkeys(cell.engine for cell in report.cells))
    for model, engine in dict.fromkeys((cell.model, cell.engine) for cell in report.cells):
        cells = sorted(
            (cell for cell in report.cells if (cell.model, cell.engine) == (model, engine)),
            key=lambda cell: cell.batch,
        )
        batches = [cell.batch for cell in cells]
        colour, marker = f"C{models.index(model) % 10}", "osd^v*Px"[engines.index(engine) % 8]
        name = f"{Path(model).stem} on {engine}"
        left.plot(batches, [cell.rate for cell in cells], color=colour, marker=marker, label=name)
        p50, p99 = ([cell.percentile(percent) for cell in cells] for percent in (50, 99))
        right.plot(batches, p50, color=colour, marker=marker)
        right.fill_between(batches, p50, p99, color=colour, alpha=0.1)
    for axes, label in ((left, "spectra/s"), (right, "one batch, ms: median, up to 99 %")):
        axes.set_xscale("log")
        axes.set_xticks(report.settings.batches, [str(batch) for batch in report.settings.batches])
        axes.minorticks_off()
        axes.set_yscale("log")
        axes.set_xlabel("spectra at once")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=7)  # beside: it has a line for each model and engine
    figure.suptitle(report.hardware, fontsize=9)
    with replacing(target, durable=False) as file:
        figure.savefig(file, dpi=110, format="png")


def _cell(cell: Cell, report: EngineReport) -> dict[str, Any]:
    return {
        "model": cell.model,
        "engine": cell.engine,
        "about": cell.about,
        "batch": cell.batch,
        "rate": cell.rate,
        "rates": cell.rates,
        "p50_ms": cell.percentile(50),
        "p99_ms": cell.percentile(99),
        "batches": len(cell.times_ms),
        "share_of_floor": report.share(cell),
        "multiply_adds": cell.multiply_adds,
    }
