"""`cars-rt drive`: drivers."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cars_rt.cli.app import Logs, Summary, app, progress_bar
from cars_rt.console import EXIT_INCOMPLETE, Logging, log, start_logging, stopping, write_summary
from cars_rt.drivers.base import DriveSettings, Instrument
from cars_rt.drivers.replay import ReplaySettings
from cars_rt.drivers.simulator import SimulatorSettings

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


def _drive(instrument: Instrument, settings: DriveSettings, summary: Path | None) -> None:
    from cars_rt.drivers.base import Acquisition, DriveTotals, drive
    from cars_rt.stream import Publisher

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

        def progress(acquisition: Acquisition, totals: DriveTotals) -> None:
            if totals.produced % 64 < acquisition.block:  # a thousand updates a second would be work
                text = "spectra" if totals.produced else f"waiting for {settings.subscribers} subscribers"
                bar.update(task, completed=totals.produced, total=acquisition.spectra, description=text)

        totals = drive(instrument, publisher, settings, lambda: stopped, progress)
    lost = ", ".join(f"{count} {cause}" for cause, count in totals.lost.items()) or "none"
    fields = {"run": totals.run, "reason": totals.reason, "sent": totals.sent, "lost": totals.lost}
    log.info(
        "run %s %s: %d spectra sent; lost: %s", totals.run, totals.reason, totals.sent, lost, extra=fields
    )
    write_summary(summary, [totals])
    if totals.lost:
        sys.exit(EXIT_INCOMPLETE)
