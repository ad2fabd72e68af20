"""`cars-rt check`: before an experiment."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from cars_rt.check import CheckSettings, Line, Report, Verdict
from cars_rt.cli.app import Logs, progress_bar
from cars_rt.console import EXIT_INCOMPLETE, Logging, Terminal, refuse_target, start_logging, write_json
from cars_rt.stops import Stop

NOTES_BESIDE = 120  # columns of a terminal that has room for them beside the numbers
COLOURS = {Verdict.OK: "green", Verdict.TIGHT: "yellow", Verdict.NOT_MEASURED: "dim"}


def check(
    *,
    settings: Annotated[CheckSettings, Parameter(name="*")] = CheckSettings(),
    json: Annotated[Path | None, Parameter(help="Write the findings to this JSON file.")] = None,
    logs: Logs = Logging(log_level="warning"),
) -> None:
    """Before an experiment: measure source, engine, network and disk, and say the head-room.

    Each part is measured alone for some seconds, against the rate of the driver that is there, or --rate.
    From a head-room of 1.5 a part is ok, from 1 tight, below too slow. The exit code is 0 if the experiment
    can go ahead (also if it is tight), 3 if not.

    Example: cars-rt check --listen tcp://127.0.0.1:5555 --output /data
    """
    from cars_rt.check import check as run_check

    start_logging(logs)
    refuse_target(json, "--json")
    stop = Stop()
    with progress_bar(transient=True) as bar:
        task = bar.add_task("source", total=100)

        def progress(part: str, done: float) -> None:
            stop.check()
            bar.update(task, description=part, completed=min(round(100 * done), 100))

        report = run_check(settings, progress)
    stop.check()
    _print(report)
    write_json(json, {"ready": report.ready} | asdict(report))
    if not report.ready:
        sys.exit(EXIT_INCOMPLETE)


def _print(report: Report) -> None:
    out = Terminal()
    out.make_room()
    below = out.width < NOTES_BESIDE  # else they would be a word to a line
    table = Table(box=None, pad_edge=False)
    for name in ("part", "required", "measured", "head-room", "verdict"):
        table.add_column(name, justify="left" if name in ("part", "verdict") else "right", no_wrap=True)
    for line in report.lines:
        table.add_row(*_cells(line), *([] if below else [Text(line.note, "dim")]))
    out.print(table)
    for line in report.lines:
        if below and line.note:
            out.say(Text(f"{line.name}: {line.note}", "dim"))
    colour = COLOURS.get(report.verdict, "bold red") if report.ready else "bold red"
    out.say(Text(report.summary, colour))


def _cells(line: Line) -> list[Text]:
    def number(value: float | None) -> str:
        if value is None:
            return ""
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
        return f"{value:,.{digits}f} {line.unit}"

    head_room = "" if line.head_room is None else f"{line.head_room:.3g}x"
    return [
        Text(line.name),
        Text(number(line.required)),
        Text(number(line.measured)),
        Text(head_room),
        Text(line.verdict, COLOURS.get(line.verdict, "bold red")),
    ]
