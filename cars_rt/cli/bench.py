"""`cars-rt bench`: measurements of speed."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from cyclopts import App, Parameter

from cars_rt.bench.settings import EngineBenchSettings, StreamBenchSettings
from cars_rt.cli.app import needs, progress_bar
from cars_rt.console import Terminal, refuse_target, write_summary, writing

if TYPE_CHECKING:
    from rich.table import Table

    from cars_rt.bench.steps import Progress

bench = App(name="bench", help="Measure speed, always against a reference in the same run.")

QUIET = 0.5  # the load average of a computer that does nothing else

Json: TypeAlias = Annotated[Path | None, Parameter(help="Write every number to this JSON file.")]
Png: TypeAlias = Annotated[Path | None, Parameter(help="Draw a picture into this PNG file.")]
Report = TypeVar("Report")


@bench.command
def stream(
    *,
    settings: Annotated[StreamBenchSettings, Parameter(name="*")] = StreamBenchSettings(),
    json: Json = None,
    png: Png = None,
) -> None:
    """How fast the path is: sockets, wire format, accounting and batching, by real processes.

    The daemon with an engine that does nothing is compared with a loop of a few lines that receives,
    converts and sends the same messages; the daemon with a real engine is compared with that engine alone.
    Then latencies from the sender's time stamp to a receiver. It fails if a single spectrum is lost.

    Example: cars-rt bench stream --json path.json --png path.png
    """
    from cars_rt.bench.report import as_json, picture, tables
    from cars_rt.bench.stream import measure

    refuse_target(json, "--json")
    report = _measured(lambda progress: measure(settings, progress), png)
    _show(report.hardware, report.load_before, tables(report))
    Terminal().print(f"{report.spectra:,} spectra sent and received, none lost")
    _write(as_json(report), json, lambda path: picture(report, path), png)


@bench.command
def engines(
    *,
    settings: Annotated[EngineBenchSettings, Parameter(name="*")] = EngineBenchSettings(),
    json: Json = None,
    png: Png = None,
) -> None:
    """How fast models are on engines, in batches of several sizes, without the path around them.

    Everything is measured in turn, round by round, and the ratios of each round are what counts: to the
    default model on ONNX Runtime, or with --published to the published networks on ONNX Runtime. Engines
    that compute a model wrong, crash or hang are left out and named. Rates are of batches one after the
    other; latencies are of one batch.

    Example: cars-rt bench engines --published --json engines.json --png engines.png
    """
    from cars_rt.bench.engine_report import as_json, picture, tables
    from cars_rt.bench.engines import measure

    if settings.published:
        needs("torch", "torch")
    refuse_target(json, "--json")
    report = _measured(lambda progress: measure(settings, progress), png)
    _show(report.hardware, report.load_before, tables(report))
    _write(as_json(report), json, lambda path: picture(report, path), png)


def _measured(measure: "Callable[[Progress], Report]", png: Path | None) -> Report:
    refuse_target(png, "--png")
    if png is not None:
        needs("matplotlib", "demo")
    with progress_bar() as bar:
        task = bar.add_task("starting", total=None)
        return measure(
            lambda done, total, text: bar.update(task, completed=done, total=total, description=text)
        )


def _show(hardware: str, load_before: float | None, tables: "list[Table]") -> None:
    out = Terminal()
    out.make_room()
    out.print(hardware)
    if load_before is not None and load_before > QUIET:
        text = f"other programs kept this computer busy (load {load_before:.1f}): the ratios are rough"
        out.print(text, style="yellow")
    for table in tables:
        out.print(table)


def _write(
    content: dict[str, Any], json: Path | None, draw: Callable[[Path], None], png: Path | None
) -> None:
    write_summary(json, [content])
    if png is not None:
        with writing(png):
            draw(png)
