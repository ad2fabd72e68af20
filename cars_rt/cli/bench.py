"""`cars-rt bench`: measurements of speed."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cars_rt.bench.settings import StreamBenchSettings
from cars_rt.cli.app import app, needs, progress_bar
from cars_rt.console import console, fail, write_summary

bench = App(name="bench", help="Measure speed, always against a reference in the same run.")
app.command(bench)

QUIET = 0.5  # the load average of a computer that does nothing else


@bench.command
def stream(
    *,
    settings: Annotated[StreamBenchSettings, Parameter(name="*")] = StreamBenchSettings(),
    json: Annotated[Path | None, Parameter(help="Write every number to this JSON file.")] = None,
    png: Annotated[Path | None, Parameter(help="Draw a picture into this PNG file.")] = None,
) -> None:
    """How fast the path is: sockets, wire format, accounting and batching, by real processes.

    The daemon with an engine that does nothing is compared with a loop of a few lines that receives,
    converts and sends the same messages; the daemon with a real engine is compared with that engine alone.
    Then latencies from the sender's time stamp to a receiver. It fails if a single spectrum is lost.

    Example: cars-rt bench stream --json path.json --png path.png
    """
    from cars_rt.bench.report import as_json, picture, tables
    from cars_rt.bench.stream import measure

    if png is not None:
        needs("matplotlib", "demo")
    with progress_bar() as bar:
        task = bar.add_task("starting", total=None)
        report = measure(
            settings,
            lambda done, total, text: bar.update(task, completed=done, total=total, description=text),
        )
    console.print(report.hardware)
    if report.load_before is not None and report.load_before > QUIET:
        text = f"other programs kept this computer busy (load {report.load_before:.1f}): the ratios are rough"
        console.print(text, style="yellow")
    for table in tables(report):
        console.print(table)
    console.print(f"{report.spectra:,} spectra sent and received, none lost")
    write_summary(json, [as_json(report)])
    if png is not None:
        try:
            picture(report, png)
        except OSError as error:
            fail(f"cannot write {png}: {error.strerror}")
