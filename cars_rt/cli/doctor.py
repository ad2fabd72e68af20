"""`cars-rt doctor`: the computer and its engines."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from cars_rt.cli.app import progress_bar
from cars_rt.console import EXIT_ERROR, Terminal, refuse_target, write_json
from cars_rt.doctor.report import Report, State, Trial, as_json

COLOURS = {State.WORKS: "green", State.FAILS: "bold red", State.NOT_HERE: "dim"}
MEGABYTE = 2**20


def doctor(
    *,
    model: Annotated[
        list[str] | None, Parameter(negative=(), help="Try this one, and no others; once for each.")
    ] = None,
    quick: Annotated[bool, Parameter(help="Do not measure rates.")] = False,
    json: Annotated[
        Path | None, Parameter(help="Write the findings to this JSON file; it names nobody and can be sent.")
    ] = None,
    forget: Annotated[
        bool, Parameter(help="First drop what earlier starts found out about engines.")
    ] = False,
) -> None:
    """What this computer has, and whether every engine on it computes every model right.

    Each engine that can run here is tried on each shipped model and on kk, in a process of its own: built,
    compared with ONNX Runtime, and measured. On a computer with an NVIDIA card this is the whole way of
    TensorRT, and the plans that it builds are kept for the daemon. The exit code is 0 if all that can run
    here agrees, 1 if not, or if ONNX Runtime cannot run.

    Example: cars-rt doctor --json doctor.json
    """
    from cars_rt.doctor import examine
    from cars_rt.engines.remembered import forget_all

    refuse_target(json, "--json")
    if forget:
        forget_all()
    with progress_bar(transient=True) as bar:
        task = bar.add_task("", total=None)
        report = examine(
            model or [],
            rates=not quick,
            progress=lambda done, total, text: bar.update(
                task, completed=done, total=total, description=text
            ),
        )
    _print(report)
    write_json(json, as_json(report))
    if not report.healthy:
        sys.exit(EXIT_ERROR)


def _print(report: Report) -> None:
    out = Terminal()
    out.make_room()
    out.print(_facts(report), soft_wrap=True)
    out.print(_packages(report))
    out.print(_trials(report.trials))
    for each in sorted(report.verdicts, key=lambda verdict: verdict.engine == "tensorrt"):
        out.say(Text(each.text, COLOURS[each.state]))
    out.say(Text(report.summary, "bold green" if report.healthy else "bold red"))


def _facts(report: Report) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    machine, gpu, cache = report.machine, report.gpu, report.cache
    table.add_row("machine", Text(f"{machine.processor}, {machine.usable_cores} of {machine.cores} cores"))
    priority = "real-time, while little is needed" if machine.realtime else "that of any program"
    table.add_row("priority", f"{priority} (docs/operation.md)")
    table.add_row("system", Text(f"{machine.system}, {machine.python}, CARS-RT {machine.cars_rt}"))
    driver = f"driver {gpu.driver}".rstrip()
    about = f"{gpu.name}, compute capability {gpu.capability}, {driver}, which runs CUDA {gpu.driver_cuda}"
    table.add_row("GPU", Text(gpu.reason or about))
    for product in report.products:
        cuda = f"built for CUDA {product.cuda}" if product.cuda else "for a CUDA that it does not tell"
        table.add_row(product.title, Text(f"{product.version}, {cuda}".lstrip(", ")))
    plans = f"{cache.folder}: {cache.plans} plans, {cache.bytes / MEGABYTE:.1f} MB"
    table.add_row("plan cache", Text(plans))
    if cache.choices:
        kept = f"{cache.choices} kept there; cars-rt doctor --forget drops them, and engines are tried again"
        table.add_row("engines tried", Text(kept))
    for port in report.ports:
        taken = f"taken by a running {port.flag.split()[0]} or another program ({port.reason}); "
        text = "free" if port.reason is None else f"{taken}{port.flag} names another"
        style = "" if port.reason is None else "yellow"
        table.add_row(f"{port.used_for} port", Text(f"{port.address}: {text}", style))
    return table


def _packages(report: Report) -> Table:
    table = Table("package", "version", "for", box=None, pad_edge=False)
    for each in report.packages:
        missing = Text(f"missing: {each.install}", "dim")
        table.add_row(each.name, missing if each.version is None else each.version, each.purpose)
    return table


def _trials(trials: list[Trial]) -> Table:
    table = Table("model", "engine", box=None, pad_edge=False)
    for name in ("difference", "spectra/s", "ready in"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for each in trials:
        state = State.FAILS if each.reason else State.WORKS
        table.add_row(
            each.model,
            Text(each.engine, COLOURS[state]),
            "" if each.reason else f"{each.difference:.1e}",
            f"{each.rate:,.0f}" if each.rate else "",
            _seconds(each),
            Text(each.reason or each.about, COLOURS[state] if each.reason else "dim"),
        )
    return table


def _seconds(trial: Trial) -> str:
    """Until the engine was ready, and the second time."""
    if trial.reason:
        return ""
    return f"{trial.open_s:.1f} s" + (f", then {trial.again_s:.1f} s" if trial.again_s else "")
