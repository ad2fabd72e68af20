"""`cars-rt record`, `repair` and `verify`: recordings."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from cars_rt.cli.app import Logs, app
from cars_rt.console import (
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    Logging,
    Rate,
    StatusLine,
    Terminal,
    fail,
    log,
    refuse_target,
    start_logging,
    stopping,
    write_summary,
)
from cars_rt.engines import REFERENCE
from cars_rt.files.recorder import Recorder, RecordSettings
from cars_rt.printable import printable
from cars_rt.trust.flags import OFF


@app.command
def record(
    output: Path | None = None,
    *,
    idle: bool = False,
    no_control: bool = False,
    settings: Annotated[RecordSettings, Parameter(name="*")] = RecordSettings(),
    logs: Logs = Logging(),
) -> None:
    """Write runs to HDF5 files that plain h5py reads.

    Example, results and counts together: cars-rt record scan.h5 --raw tcp://127.0.0.1:5555

    Example, begun and ended by command: cars-rt record --idle scans, then cars-rt ctl record start liver-7

    Parameters
    ----------
    output
        NAME.h5 takes the next run and ends with it; a folder takes every run until Ctrl-C. Without it, as
        with --idle and this folder.
    idle
        Record nothing before `cars-rt ctl record start` or `open`, and then into the folder OUTPUT.
    no_control
        Take no commands; the same as --control none.
    """
    from cars_rt.files.recorder.commands import Commands

    start_logging(logs)
    refuse_target(settings.summary)
    if no_control:
        settings = replace(settings, control=OFF)
    rate = Rate()
    stops: list[bool] = []

    def tell() -> str:
        troubles = [each.trouble for each in recorder.sources.values() if each.trouble]
        if troubles and recorder.now is None:
            return troubles[0]
        return f"{recorder.describe()}, {rate.read(recorder.spectra):.0f}/s"

    def tick() -> None:
        if stops:
            recorder.stop()
        commands.serve()
        line.show(tell)

    with ExitStack() as stack:
        stack.enter_context(stopping(lambda: stops.append(True)))  # before it can be seen that it is there
        recorder = Recorder(output or Path(), settings, idle=idle or output is None)
        stack.callback(recorder.close)
        commands = stack.enter_context(Commands(recorder))
        line = stack.enter_context(StatusLine())
        _serve(recorder, tick)
    if not (recorder.runs or recorder.idle):
        fail("no run came", EXIT_INCOMPLETE)
    if recorder.incomplete or recorder.failed:
        sys.exit(EXIT_INCOMPLETE)


def _serve(recorder: Recorder, tick: Callable[[], None]) -> None:
    try:
        recorder.serve(tick)
    except KeyboardInterrupt:
        left = "".join(f"; {path} holds what came: cars-rt repair {path}" for path in recorder.left)
        fail(f"interrupted{left}", EXIT_INTERRUPTED)
    finally:
        write_summary(recorder.settings.summary, recorder.recorded)


@app.command
def repair(files: Annotated[tuple[Path, ...], Parameter(negative=())], /, *, logs: Logs = Logging()) -> None:
    """Finish recordings that were cut short: cut to their rows, named, and told how much is in them.

    A recorder that is killed leaves NAME.partial.h5. The next one of that name or folder finishes it, too.
    A recording that is being written is left alone, and so is one that is finished. All of it is read, and
    the exit code is 3 where spectra cannot be, which are named; the rest stays.

    Example: cars-rt repair scan.partial.h5

    Parameters
    ----------
    files
        Recordings, by their partial names or those that they would have had.
    """
    from cars_rt.files.recording import RecordingError
    from cars_rt.files.recording import repair as finish

    start_logging(logs)
    errors, damaged = [], False
    for path in files:
        try:
            contents = finish(path)
        except RecordingError as error:
            errors.append(str(error))
            continue
        done = "" if contents.changed else ", as it was"
        say = log.warning if contents.damage else log.info
        say("%s: %s%s", contents.path, contents.describe(), done)
        damaged |= bool(contents.damage)
    if errors:
        fail("; ".join(errors))
    if damaged:
        sys.exit(EXIT_INCOMPLETE)


@app.command
def verify(
    raw: Path,
    result: Path | None = None,
    *,
    model: str | None = None,
    reference: Path | None = None,
    engine: str = REFERENCE,
    logs: Logs = Logging(log_level="warning"),
) -> None:
    """Prove from recordings that results belong to counts and that nothing was lost unsaid.

    Checks the receipts of both streams against what is in the files, the time stamps, and computes some
    results and flags again. The last line is the verdict; the exit code is 3 if anything is not as it should
    be.

    Example: cars-rt verify counts.h5 results.h5

    Parameters
    ----------
    raw
        Recording of the raw stream.
    result
        Recording of the result stream; the same file if not given.
    model
        The model's name or path, if it is not a shipped one.
    reference
        The reference that the model was given, if it was.
    engine
        What computes the results again: by itself the one that all others are held against.
    """
    from cars_rt.files.verify import verify as verify_recordings

    start_logging(logs)
    findings = verify_recordings(raw, result or raw, model=model, reference=reference, engine=engine)
    out = Terminal()
    for finding in findings:
        mark = ("yes", "green") if finding.true else ("NO ", "bold red")
        out.say(Text.assemble(mark, "  ", printable(finding.text)))
    untrue = [finding for finding in findings if not finding.true]
    told = "".join(f"; {printable(finding.text)}" for finding in findings if finding.told)
    if untrue:
        said = f"{len(untrue)} of {len(findings)} checks failed, first that {printable(untrue[0].text)}{told}"
        out.say(Text.assemble(("NOT VERIFIED", "bold red"), f": {said}"))
        sys.exit(EXIT_INCOMPLETE)
    said = f"all {len(findings)} checks passed: the results belong to the counts, and nothing was lost unsaid"
    out.say(Text.assemble(("VERIFIED", "bold green"), f": {said}{told}"))
