"""`cars-rt drive`: drivers."""

import inspect
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

import cars_rt
from cars_rt.cli.app import errors_in_one_line, progress_bar
from cars_rt.cli.driver import command
from cars_rt.console import EXIT_INCOMPLETE, log, refuse_target, stopping, write_summary
from cars_rt.drivers import DriveSettings, DriveTotals, Instrument, InstrumentError
from cars_rt.drivers.registry import DRIVERS, driver_class, driver_names, package
from cars_rt.kinds import in_words
from cars_rt.printable import counted, printable
from cars_rt.urgency import Urgency

SHARE = 1 / 4  # of the computer, below which it runs before other programs
SHOW_S = 0.1  # between two updates of the progress bar
RUNS_KEPT = 1000  # of which the summary tells, the latest ones

drive = App(name="drive", help="Publish spectra from an instrument, a simulated one, or a file.")
LAZY = "driver "  # before the name of a driver: an attribute of this module, which is made when asked for


def register_others(meant: Sequence[str] = ()) -> None:
    """A command for each driver of another package. Looking for them takes a while. What it says of itself is
    shown for those that are meant, and for others whose they are."""
    for name in driver_names():
        if name not in drive:
            about = None if name in meant else f"Of the package {package(name)}."
            drive.command(f"{__name__}:{LAZY}{name}", name=name, help=about)


def __getattr__(name: str) -> Any:
    if not name.startswith(LAZY):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return command(driver_class(name.removeprefix(LAZY)), _drive)
    except InstrumentError as error:
        reason = str(error)

        def broken(*tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> None:
            raise InstrumentError(reason)

        broken.__doc__ = printable(f"Cannot be used: {reason}")
        return broken


@drive.command(name="--list")
def list_drivers() -> None:
    """List the drivers, those of other packages, too, and say why one cannot be used."""
    table = Table("driver", "package", "what it is", box=None)
    for name in driver_names():
        try:
            what = (inspect.getdoc(driver_class(name)) or "").partition("\n")[0]
        except InstrumentError as error:
            what = f"cannot be used: {error}"
        table.add_row(Text(name), Text(package(name)), Text(printable(what)))
    Console(soft_wrap=True).print(table)


def drive_program(make: Callable[..., Instrument]) -> None:
    """A driver of your own as a program with the flags of `cars-rt drive`: the address, how many subscribers
    to wait for, keys, logs, and its own (see cars_rt/cli/driver.py). Ctrl-C ends the run properly; errors are
    one line."""
    own = App(help=make.__doc__, version=cars_rt.__version__, default_parameter=Parameter(negative=()))
    with errors_in_one_line():
        own.default(command(make, _drive))
        own(exit_on_error=False, print_error=False)


def _conform(make: Callable[[], Instrument]) -> None:
    """Say of each trial what came of it; leave with an error if one failed."""
    from cars_rt.drivers.conformance import conform, subject_of

    failed = 0
    logging.getLogger("cars_rt.drivers").setLevel(logging.WARNING)  # not of each of the runs
    for verdict in conform(subject_of(make)):
        failed += verdict.outcome == "failed"
        print(printable(f"{verdict.outcome:<9}  {verdict.trial:<14}  {verdict.said}", None), flush=True)
    if failed:
        raise InstrumentError(f"{failed} of the trials failed")


def _drive(
    make: Callable[[], Instrument], settings: DriveSettings, summary: Path | None, conform: bool
) -> None:
    if conform:
        _conform(make)
        return
    refuse_target(summary)
    from cars_rt.drivers import Acquisition, drive_runs
    from cars_rt.drivers.apart import placed
    from cars_rt.sockets import Publisher

    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True

    security = settings.access.server(settings.publish)  # before the instrument is touched
    instrument = placed(make)
    complete = True
    made: list[DriveTotals] = []
    with (
        closing(instrument),
        Publisher(
            settings.publish,
            "raw",
            buffer_mb=settings.buffer_mb,
            overload=settings.overload,
            stall_s=settings.stall_s,
            security=security,
        ) as publisher,
        Urgency(SHARE, not settings.no_realtime),
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
            if totals.waiting_for:
                text = f"waiting for {totals.waiting_for}"
            elif not totals.produced and publisher.subscribers < settings.subscribers:
                text = f"waiting for {settings.subscribers} subscribers, {publisher.subscribers} here"
            elif not publisher.subscribers:
                text = "spectra, but nobody listens"
            bar.update(task, completed=totals.produced, total=acquisition.spectra, description=text)

        for totals in drive_runs(instrument, publisher, settings, lambda: stopped, progress):
            bar.update(task, completed=totals.produced)  # the last ones came after it was last shown
            _said(totals)
            complete = complete and totals.complete  # of all runs, also those that the summary leaves out
            made = [*made[1 - RUNS_KEPT :], totals]
            write_summary(summary, made)
    if not complete:
        sys.exit(EXIT_INCOMPLETE)


def _said(totals: DriveTotals) -> None:
    """What became of a run, as a line of the log."""
    if totals.reason == "stopped" and not totals.produced:
        log.info("stopped before the run began: nothing was measured")
    lost = in_words(totals.lost) or "none"
    if totals.deserted:
        lost += "; nobody listened to the end, and what was on its way is lost, too"
    if totals.stalls:
        times = counted(totals.stalls, "time")
        lost += f"; a subscriber that read nothing was left out {times}: it misses some"
    fields = {"run": totals.run, "reason": totals.reason, "sent": totals.sent, "lost": totals.lost}
    log.log(
        logging.INFO if totals.complete and not totals.stalls else logging.WARNING,
        "run %s %s: %d spectra sent; lost: %s", totals.run, totals.reason, totals.sent, lost, extra=fields,
    )  # fmt: skip


for _name in DRIVERS:
    drive.command(f"{__name__}:{LAZY}{_name}", name=_name)
