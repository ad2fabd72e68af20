"""`cars-rt record`: recordings of what is published."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cars_rt.cli.app import Logs
from cars_rt.console import (
    EXIT_INCOMPLETE,
    Logging,
    Rate,
    StatusLine,
    fail,
    log,
    refuse_target,
    start_logging,
    stopping,
    write_summary,
)
from cars_rt.files.recorder import Recorder, RecordSettings
from cars_rt.printable import typed
from cars_rt.stops import EXIT_INTERRUPTED
from cars_rt.trust.flags import OFF


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
        Record nothing before `cars-rt ctl record start` or `open`, and then into the folder OUTPUT,
        which is made.
    no_control
        Take no commands; the same as --control none.
    """
    from cars_rt.files.recorder.commands import Commands

    start_logging(logs, spooled=True)
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
        if recorder.one_run:
            fail("no run came", EXIT_INCOMPLETE)
        log.info("no run came")
    if recorder.incomplete or recorder.failed:
        sys.exit(EXIT_INCOMPLETE)


def _serve(recorder: Recorder, tick: Callable[[], None]) -> None:
    try:
        recorder.serve(tick)
    except KeyboardInterrupt:
        left = "".join(f"; {path} holds what came: cars-rt repair {typed(path)}" for path in recorder.left)
        fail(f"interrupted{left}", EXIT_INTERRUPTED)
    finally:
        write_summary(recorder.settings.summary, recorder.recorded)
