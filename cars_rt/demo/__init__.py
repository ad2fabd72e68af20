"""`cars-rt demo`: driver, daemon, recorder and display as real processes over real sockets."""

import json
import math
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.table import Table

from cars_rt.console import EXIT_ERROR, EXIT_INCOMPLETE, Logging, Rate, Terminal, start_logging, stopping
from cars_rt.demo.display import Display
from cars_rt.demo.report import agreement, picture
from cars_rt.installation import install_extra
from cars_rt.protocol import Closed, Frame, Start
from cars_rt.room.program import LoggedProgram, ProgramError
from cars_rt.sockets.free import free_addresses
from cars_rt.sockets.turn import Uninterrupted
from cars_rt.source import Source
from cars_rt.storage import StorageError, make_folder

TRUTH_EVERY = 8  # the truth of so many spectra is plenty for a median, and an eighth of the disk
REFRESH_S = 0.5
SAY_S = 5.0  # between two lines where there is no terminal to draw on
START_S = 60.0  # the first spectrum must have come by then, on a slow computer, too
END_S = 30.0  # and everything must have ended so long after the last one

out = Terminal(soft_wrap=True)


def demo(
    *, seconds: float | None, rate: float, block: int, output: Path, engine: str, browser: bool = True
) -> int:
    """Run the demo; the exit code. Nothing is left running, whatever happens."""
    start_logging(Logging(log_level="error"))
    programs: list[LoggedProgram] = []
    try:
        if not (0 <= rate < math.inf and (seconds is None or 0 < seconds < math.inf)):
            raise ProgramError("--seconds must be positive and finite, --rate finite and not negative")
        side = 256 if seconds is None else max(int(math.sqrt(max(seconds, 0.1) * rate)), 8)
        make_folder(output)
        display = _measure(programs, min(side, 2048), rate, block, output, engine, browser)
        return _report(output, display, rate)
    except (ProgramError, StorageError) as error:
        out.print(str(error), style="red")
        return EXIT_ERROR
    except OSError as error:
        out.print(f"cannot write in {output}: {error.strerror}", style="red")
        return EXIT_ERROR
    finally:
        for program in programs:
            program.kill()


def _measure(
    programs: list[LoggedProgram],
    side: int,
    rate: float,
    block: int,
    output: Path,
    engine: str,
    browser: bool,
) -> Display:
    """Start everything, show what comes, and stop everything in order."""
    raw, raman, preview, spectra, control, page = free_addresses(6)

    def started(name: str, *arguments: str) -> LoggedProgram:
        with Uninterrupted("SIGTERM", "SIGHUP"):
            programs.append(LoggedProgram(name, arguments, output))
        return programs[-1]

    def program(name: str, *arguments: str) -> LoggedProgram:
        summary = output / f"{name}.json"
        summary.unlink(missing_ok=True)
        return started(name, *arguments, "--summary", str(summary))

    recording = str(output / "scan.h5")
    source, display = Source(raman, "raman"), Display()
    # Each waits for those that listen to it, so that nobody misses the first spectrum.
    if find_spec("bokeh"):  # nothing else depends on the display, whatever becomes of it
        where = page.removeprefix("tcp://")
        started(
            "display", "view", "--preview", preview, "--spectra", spectra, "--control", control,
            "--recorder", "none", "--http", where, *(() if browser else ("--no-browser",)),
        )  # fmt: skip
        out.print(f"The live display in a browser: http://{where}/")
    else:
        out.print(f"For a live display in a browser: {install_extra('view')}")
    recorder = program(
        "recorder", "record", recording, "--raman", raman, "--raw", raw, "--no-control", "--overwrite"
    )
    daemon = program(
        "daemon", "run", "--listen", raw, "--publish", raman, "--subscribers", "2", "--engine", engine,
        "--preview", preview, "--spectra", spectra, "--control", control,
    )  # fmt: skip
    driver = program(
        "driver", "drive", "simulator", "--publish", raw, "--subscribers", "2", "--settle-s", "0",
        "--rate", str(rate), "--scan", f"{side}x{side}", "--block", str(block),
        "--truth", str(output / "truth.h5"), "--truth-every", str(TRUTH_EVERY),
    )  # fmt: skip
    asked = False

    def stop() -> None:
        nonlocal asked
        asked = True
        driver.stop()

    try:
        try:
            with stopping(stop):
                title = f"{side} x {side} spectra at {rate:g}/s, {block} to a message"
                _watch(source, display, [recorder, daemon, driver], title)
        except ProgramError:
            if asked and not display.spectra and not driver.running:  # it had nothing to finish yet
                raise KeyboardInterrupt from None
            raise
        recorder.wait(END_S)
        driver.wait(END_S)
        daemon.stop()
        daemon.wait(END_S)
        for each in (driver, daemon):
            each.check()
        return display
    finally:
        source.close()


def _watch(source: Source, display: Display, programs: list[LoggedProgram], title: str) -> None:
    """Show the results until the run is over. Raises ProgramError if a process dies or nothing comes."""
    rate, begin, shown, said = Rate(), time.monotonic(), 0.0, -math.inf
    out.say(f"Scanning {title}; Ctrl-C ends the scan and keeps what was measured.")
    state = "starting the driver, the daemon and the recorder"
    with Live(console=out, auto_refresh=False, transient=True) as live:
        while True:
            for event in source.pull(0.05):
                match event:
                    case Start():
                        display.start(event)
                        state = event.source
                    case Frame():
                        display.add(event, time.time_ns())
                    case Closed():
                        if not out.is_terminal:
                            out.print(display.describe(rate.read(display.spectra)) or state)
                        return
            now = time.monotonic()
            if now - shown < REFRESH_S:
                continue
            shown = now
            for program in programs:
                program.check()
            if out.is_terminal:
                now_rate = rate.read(display.spectra)
                live.update(display.render(now_rate, state, out.width, out.height - 1), refresh=True)
            elif now - said >= SAY_S:
                said = now
                out.print(display.describe(rate.read(display.spectra)) or state)
            if now - source.quiet_since > START_S:
                raise ProgramError(f"no spectrum came for {now - max(begin, source.quiet_since):.0f} s")
            if display.total is None and not programs[-1].running:
                last = "\n".join(program.tail() for program in programs if program.name == "daemon")
                raise ProgramError(f"the scan ended before any result came; the daemon said:\n{last}")


def _report(output: Path, display: Display, rate: float) -> int:
    """Print the totals, draw the picture; the exit code says whether anything was lost."""
    driver, daemon, recorder = (
        json.loads((output / f"{name}.json").read_text(encoding="utf-8"))[0]
        for name in ("driver", "daemon", "recorder")
    )
    stages = [
        ("driver: measured", driver["produced"], driver["lost"]),
        ("driver: sent", driver["sent"], {}),
        ("daemon: received", daemon["received"], daemon["lost"]),
        ("daemon: sent", daemon["sent"], {}),
        ("this display: received", display.spectra, {}),
        ("recorder: counts in the file", recorder["rows"].get("raw", 0), recorder["lost"].get("raw", {})),
        ("recorder: raman in the file", recorder["rows"].get("raman", 0), recorder["lost"].get("raman", {})),
    ]
    table = Table("stage", "spectra", "lost, by cause", title="Where every spectrum went")
    for name, count, lost in stages:
        table.add_row(name, str(count), _phrase(lost))
    out.print(table)
    complete = len({count for _, count, _ in stages}) == 1 and not any(lost for _, _, lost in stages)
    recording, truth, image = output / "scan.h5", output / "truth.h5", output / "demo.png"
    out.say(
        f"latency from the camera to this display: median {display.latencies.percentile(50):.1f} ms, "
        f"99th percentile {display.latencies.percentile(99):.1f} ms"
    )
    if found := agreement(recording, truth):
        out.say(
            f"agreement with the simulator's truth: median Pearson correlation {found.median:.4f}, "
            f"tenth percentile {found.tenth_percentile:.4f} ({found.spectra} spectra)"
        )
    out.say(f"recording: {recording}  truth: {truth}")
    drawn = picture(recording, truth, image)
    out.say(f"picture: {image}" if drawn else f"no picture; for one: {install_extra('demo')}")
    if slow := display.pace.verdict(rate):
        out.say(slow, style="yellow")
    out.say("nothing was lost" if complete else "not complete: see the table", style="bold")
    return 0 if complete else EXIT_INCOMPLETE


def _phrase(lost: dict[str, Any]) -> str:
    return ", ".join(f"{count} {cause}" for cause, count in lost.items()) or "none"
