"""`cars-rt ctl`: requests to a running daemon."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from cars_rt.console import Terminal, console, fail
from cars_rt.daemon.seen.status import dark_in_words, last_in_words
from cars_rt.kinds import in_words
from cars_rt.printable import counted, lasted, printable
from cars_rt.sockets import CONTROL_ADDRESS
from cars_rt.trust.flags import ClientAccess

ctl = App(
    name="ctl", help="Ask a running daemon or recorder: status, another model, dark, pause, record, stop."
)
ctl.command("cars_rt.cli.ctl_record:record")


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which daemon is asked."""

    address: str = CONTROL_ADDRESS
    """Control address of the daemon (its --control)."""

    json: bool = False
    """Print the reply as JSON."""

    token: Path | None = None
    """File of the daemon's token, if another user of this computer started it."""

    access: ClientAccess = field(default_factory=ClientAccess)


At = Annotated[Where, Parameter(name="*")]


@ctl.command
def status(*, at: At = Where()) -> None:
    """Show what the daemon is doing: rates, losses, latencies, queues, and what its time goes to."""
    show(at, _ask(at, "status"), _rows)


@ctl.command
def reload(model: str | None = None, *, engine: str | None = None, at: At = Where()) -> None:
    """Change the model, the engine or both while spectra go on; what fails leaves the old one in place.

    Example: cars-rt ctl reload mine.onnx

    Parameters
    ----------
    model
        Name of a shipped model, or the path of an .onnx file as the daemon's computer sees it.
    engine
        What runs it; auto takes the fastest that works there.
    """
    with console.status("compiling and checking; the old one goes on meanwhile"):
        result = _ask(at, "reload", model=model, engine=engine)
    say(at, result, f"{result.get('model')} {result.get('version')} on {result.get('engine')} took over")


@ctl.command
def shadow(
    model: str | None = None,
    *,
    engine: str | None = None,
    every: int = 10,
    off: bool = False,
    at: At = Where(),
) -> None:
    """Try a candidate: it computes every n-th batch, too, and the status says how far it disagrees.

    Parameters
    ----------
    model
        The candidate: a shipped model, or the path of an .onnx file as the daemon's computer sees it.
    engine
        What runs it.
    every
        Batches from one that the candidate computes to the next.
    off
        End it, whichever it is.
    """
    if off:
        if model is not None or engine is not None:
            fail("--off ends whatever candidate there is; leave out the model and --engine")
        say(at, _ask(at, "unshadow"), "no shadow any more")
    else:
        say(at, _ask(at, "shadow", model=model, engine=engine, every=every), "the candidate is in the shadow")


@ctl.command
def promote(*, at: At = Where()) -> None:
    """Let the candidate in the shadow take over."""
    result = _ask(at, "promote")
    say(at, result, f"{result.get('model')} {result.get('version')} on {result.get('engine')} took over")


@ctl.command
def dark(do: Literal["start", "stop", "clear"], *, at: At = Where()) -> None:
    """Measure the dark: block the beams, `dark start`, wait, `dark stop`, open them again.

    Parameters
    ----------
    do
        start: average from now on; stop: subtract the average from now on; clear: each run's own dark again.
    """
    result = _ask(at, "dark", do=do)
    said = {
        "start": "averaging; `cars-rt ctl dark stop` when there is enough",
        "stop": f"dark {result.get('dark')}, the average of {result.get('spectra')} spectra, is subtracted",
        "clear": "no measured dark any more",
    }
    doubt, left_out = result.get("doubt"), result.get("left_out")
    text = f"; {left_out} that were begun before `dark start` are left out" if left_out else ""
    say(at, result, said[do] + text + (f"; but {doubt}" if doubt else ""))


@ctl.command
def bands(*bands: str, at: At = Where()) -> None:
    """Choose the bands of the preview, or show them.

    Example: cars-rt ctl bands CH=2800:3050 "amide I=1630:1690"

    Parameters
    ----------
    bands
        NAME=LOW:HIGH each, in cm-1; none: show which there are.
    """
    from cars_rt.daemon.outputs.preview import parse_band

    wanted = [list(parse_band(each)) for each in bands] or None
    result = _ask(at, "bands", bands=wanted)
    outside = ", outside the axis of the open run: left out until one has it"
    told = [(result["bands"], ""), (result.get("outside", []), outside)]
    lines = [f"{name}: {low:g} to {high:g} cm-1{more}" for some, more in told for name, low, high in some]
    say(at, result, "\n".join(lines))


@ctl.command
def flight(reason: str = "asked for", *, at: At = Where()) -> None:
    """Write the last seconds of the input to a file of the flight recorder.

    Parameters
    ----------
    reason
        Why, as the file will say.
    """
    result = _ask(at, "flight", reason=reason)
    say(at, result, f"a file is being written in {result['folder']}")


@ctl.command
def pause(*, at: At = Where()) -> None:
    """Read no spectra until `resume`; they wait at the driver."""
    say(at, _ask(at, "pause"), "paused; `cars-rt ctl resume` goes on")


@ctl.command
def resume(*, at: At = Where()) -> None:
    """Go on after `pause`."""
    say(at, _ask(at, "resume"), "goes on")


@ctl.command
def stop(*, at: At = Where()) -> None:
    """Stop the daemon after everything that it received has been sent."""
    say(at, _ask(at, "stop"), "it finishes what it received, and ends")


def _ask(at: Where, do: str, /, **arguments: Any) -> dict[str, Any]:
    from cars_rt.remote import Remote

    with Remote(at.address, at.access.client(), at.token) as daemon:
        return daemon.ask(do, **arguments)


def say(at: Where, result: dict[str, Any], text: str) -> None:
    """Print what came of a request, in words or as JSON."""
    if at.json:
        print(json.dumps(result))
    else:
        Terminal().print(printable(text, None, keep="\n"), soft_wrap=True)


def show(at: Where, status: dict[str, Any], rows: Callable[[dict[str, Any]], list[tuple[str, str]]]) -> None:
    """Print a status, as names and what is said of each or as JSON."""
    if at.json:
        print(json.dumps(status))
        return
    out, said = Terminal(), [(name, printable(text)) for name, text in rows(status)]
    table = Table.grid(padding=(0, 2))
    for name, text in said:
        table.add_row(Text(name, "dim"), text)
    if out.is_terminal:
        out.print(table)
        return
    width = max(len(name) for name, _ in said)  # a file has no width to wrap at: one line for each name
    for name, text in said:
        out.print(f"{name:<{width}}  {text}", soft_wrap=True)


def counts(values: dict[str, Any]) -> str:
    """How many of which, for people."""
    return in_words(values) or "none"


def _rows(now: dict[str, Any]) -> list[tuple[str, str]]:
    driver = "connected" if now["connected"] else "nobody there"
    whole = sum(now["phases_s"].values()) or 1.0
    rows = [
        (
            "state",
            f"{now['state']}, {'ready' if now['ready'] else 'not ready'}, up {lasted(now['uptime_s'])}",
        ),
        ("driver", f"{now['listen']}: {driver}"),
        ("results", f"{now['publish']}: {counted(now['subscribers'], 'subscriber')}"),
        ("model", f"{now['model']} {now['model_sha256'][:16]} on {now['engine']}"),
        *([("because", now["engine_instead"])] if now.get("engine_instead") else []),
        ("dark", dark_in_words(now["dark"], now["run"])),
        *((each, now[f"{each}_unused"]) for each in ("dark", "reference") if now[f"{each}_unused"]),
        ("run", f"{now['run']} from {now['source']}" if now["run"] else f"none open, {now['runs']} closed"),
        *([("because", f"it cannot be computed: {now['run_refused']}")] if now.get("run_refused") else []),
        *([("last run", last_in_words(now["last_run"]))] if now.get("last_run") else []),
        ("spectra", f"{now['spectra_in']} in, {now['spectra_out']} out"),
        ("lost", f"run: {counts(now['run_lost'])}; since the start: {counts(now['lost'])}"),
        ("flags", f"run: {counts(now['run_flagged'])}; since the start: {counts(now['flagged'])}"),
        ("findings", counts(now["problems"])),
        ("engine", f"{now['engine_failures']} batches failed, {now['engine_replacements']} times replaced"),
        ("reloads", f"{now['reloads']} done, {now['reloads_failed']} failed"),
        ("queues", ", ".join(f"{name} {q['depth']}/{q['limit']}" for name, q in now["queues"].items())),
        *(
            (
                f"latency {stage}",
                f"p50 {each['p50_ms']:.2f} ms, p99 {each['p99_ms']:.2f} ms, max {each['largest_ms']:.2f} ms",
            )
            for stage, each in now["latencies"].items()
            if each["count"]
        ),
        (
            "realtime",
            "yes, spectra wait for no other program" if now.get("realtime") else "no, as any program",
        ),
        ("time", ", ".join(f"{name} {100 * s / whole:.0f} %" for name, s in now["phases_s"].items())),
        (
            "bands",
            ", ".join(f"{name} {low:g}-{high:g}" for name, (low, high) in now["bands"].items()) or "none",
        ),
    ]
    if shadow := now["shadow"]:
        mean, worst = shadow["disagreement"], shadow["worst_disagreement"]
        said = (
            f"FAILED: {shadow['error']}"
            if shadow["error"]
            else f"{mean:.1e} on average, {worst:.1e} at worst"
        )
        rows.append(
            (
                "shadow",
                f"{shadow['model']}, one batch in {shadow['every']}, {shadow['batches']} compared; "
                f"relative difference: {said}",
            )
        )
    return rows
