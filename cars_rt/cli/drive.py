"""`cars-rt drive`: drivers."""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

import cars_rt
from cars_rt.cli.app import Logs, Summary, app, errors_in_one_line, progress_bar
from cars_rt.console import EXIT_INCOMPLETE, Logging, log, start_logging, stopping, write_summary
from cars_rt.drivers.base import DriveSettings, Instrument
from cars_rt.drivers.replay import ReplaySettings
from cars_rt.drivers.simulator import SimulatorSettings

SHOW_S = 0.1  # between two updates of the progress bar

drive = App(name="drive", help="Publish spectra from an instrument: a simulated one, or a file.")
app.command(drive)


@drive.command
def simulator(
    *,
    settings: Annotated[SimulatorSettings, Parameter(name="*")] = SimulatorSettings(),
    stream: Annotated[DriveSettings, Parameter(name="*")] = DriveSettings(),
    summary: Summary = None,
    logs: Logs = Logging(),
) -> None:
    """A BCARS microscope by physics: scans a phantom of cells, beads and droplets once.

    Example: cars-rt drive simulator --rate 1000 --scan 256x256 --truth truth.h5
    """
    from cars_rt.drivers.simulator import SimulatedMicroscope

    start_logging(logs)
    _drive(SimulatedMicroscope(settings), stream, summary)


@drive.command
def replay(
    file: Path,
    *,
    settings: Annotated[ReplaySettings, Parameter(name="*")] = ReplaySettings(),
    stream: Annotated[DriveSettings, Parameter(name="*")] = DriveSettings(),
    summary: Summary = None,
    logs: Logs = Logging(),
) -> None:
    """Play a file of spectra as if they were being measured.

    Example: cars-rt drive replay toluene.csv --rate 100 --loops 0

    Parameters
    ----------
    file
        .csv (raman shift, then one column per spectrum), .npz (spectra, raman_shift), .h5 (a recording).
    """
    from cars_rt.drivers.replay import Replay

    start_logging(logs)
    _drive(Replay(file, settings), stream, summary)


def drive_program(make: Callable[[], Instrument]) -> None:
    """A driver of your own as a program with the flags of `cars-rt drive`: the address, how many subscribers
    to wait for, keys, logs. Ctrl-C ends the run properly; errors are one line."""
    own = App(help=make.__doc__, version=cars_rt.__version__, default_parameter=Parameter(negative=()))

    @own.default
    def program(
        *,
        stream: Annotated[DriveSettings, Parameter(name="*")] = DriveSettings(),
        summary: Summary = None,
        logs: Logs = Logging(),
    ) -> None:
        start_logging(logs)
        _drive(make(), stream, summary)

    with errors_in_one_line():
        own(exit_on_error=False, print_error=False)


def _drive(instrument: Instrument, settings: DriveSettings, summary: Path | None) -> None:
    from cars_rt.drivers.base import Acquisition, DriveTotals, drive
    from cars_rt.protocol import Reason
    from cars_rt.sockets import Publisher

    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True

    security = settings.access.server(settings.publish)
    with (
        Publisher(
            settings.publish,
            "raw",
            buffer_mb=settings.buffer_mb,
            overload=settings.overload,
            stall_s=settings.stall_s,
            security=security,
        ) as publisher,
        progress_bar() as bar,
        stopping(stop),
    ):
        task = bar.add_task("waiting for subscribers", total=None)
        log.info("publishing at %s", publisher.address)
        shown = 0.0

        def progress(acquisition: Acquisition, totals: DriveTotals) -> None:
            nonlocal shown
            if (now := time.monotonic()) - shown < SHOW_S:
                return
            shown = now
            text = "spectra"
            if not totals.produced:
                text = f"waiting for {settings.subscribers} subscribers, {publisher.subscribers} here"
            elif not publisher.subscribers:
                text = "spectra, but nobody listens"
            bar.update(task, completed=totals.produced, total=acquisition.spectra, description=text)

        totals = drive(instrument, publisher, settings, lambda: stopped, progress)
    if totals.reason == Reason.STOPPED and not totals.produced:
        log.info("stopped before the run began: nothing was measured")
    lost = ", ".join(f"{count} {cause}" for cause, count in totals.lost.items()) or "none"
    if totals.deserted:
        lost += "; nobody listened to the end, and what was on its way is lost, too"
    fields = {"run": totals.run, "reason": totals.reason, "sent": totals.sent, "lost": totals.lost}
    log.log(
        logging.INFO if totals.complete else logging.WARNING,
        "run %s %s: %d spectra sent; lost: %s", totals.run, totals.reason, totals.sent, lost, extra=fields,
    )  # fmt: skip
    write_summary(summary, [totals])
    if not totals.complete:
        sys.exit(EXIT_INCOMPLETE)
