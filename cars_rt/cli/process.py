"""`cars-rt process`: files of counts to files of results."""

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from cyclopts import Parameter
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from cars_rt.cli.app import Bar, Logs
from cars_rt.console import (
    EXIT_INCOMPLETE,
    EXIT_USAGE,
    LOGGED_S,
    Logging,
    console,
    fail,
    log,
    on_terminal,
    start_logging,
)
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.errors import CarsRtError
from cars_rt.physics.fitness import shares
from cars_rt.printable import counted
from cars_rt.stops import EXIT_INTERRUPTED, Stop


def process(
    *input: Path,  # noqa: A002 - the name in the help
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    model: str = DaemonSettings.model,
    reference: Path | None = None,
    engine: str = DaemonSettings.engine,
    pump_nm: float | None = None,
    axis: Path | None = None,
    calibration: Path | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    logs: Logs = Logging(),
) -> None:
    """Remove the background from the spectra in files.

    What a file says of its measurement (dark, scan, times, positions, exposure ...) goes along. Memory does
    not grow with the file where the output is .h5. What was stopped or killed goes on where it was when the
    same command is given again, and what is done already is not done twice. The exit code is 3 where counts
    could not be read that `repair` has named: NaN stands for their results.

    Example: cars-rt process toluene.csv -o toluene-raman.npz

    Example, each of many into a folder: cars-rt process scans/*.h5 -o results

    Parameters
    ----------
    input
        .csv or .txt (raman shift, then one column per spectrum), .npz (spectra, raman_shift), .h5 (a
        recording, NeXus, CRIkit2), .hspy, .sif, .spe, .wdf, .npy; one or more, also as patterns, and folders
        of them.
    output
        .npz, .h5 or .csv; gets raman, raman_shift, flags, the deviation where the model states it, and the
        model's name and hash. A name without such an ending is that of a folder, which takes
        NAME-raman.EXTENSION for each input.
    model
        Name of a model (also mem, maximum entropy), or the path of an .onnx file.
    reference
        Spectra of a purely non-resonant sample, such as glass: takes away fringes and notches of the optics;
        for every model but those for published protocols.
    engine
        What runs the model; auto takes the fastest that works here.
    pump_nm
        For a file with wavelengths as its axis: that of the pump, or of the probe if it is another beam, in
        nm. The raman shift is 1e7/wavelength - 1e7/pump, positive for anti-Stokes light.
    axis
        For files without an axis: a file with the raman shift of each pixel, .npy or text; with --pump-nm,
        with wavelengths in nm.
    calibration
        A file of `cars-rt calibrate`: its axis, if it has one, instead of the files' own, and its dark and
        saturation level where they have none. Its reference is used by --reference with the same file.
    scheduler
        Address of a Dask scheduler, such as tcp://10.0.0.5:8786, whose workers see the same folders: they
        compute, and what one of them does not end another one does (docs/cluster.md).
    overwrite
        Replace files that exist, without asking. In a script only earlier results are replaced unasked.
    """
    from cars_rt.files.offline import process as process_file
    from cars_rt.files.offline.jobs import targets

    start_logging(logs)
    if not input:
        fail("give a file to process", EXIT_USAGE)
    stop = Stop()
    jobs = targets(input, output)
    failed, damaged = 0, False
    for number, (source, target) in enumerate(jobs, 1):
        name = f"{source.name} ({number} of {len(jobs)})" if len(jobs) > 1 else source.name
        try:
            with _Progress(name, stop) as shown:
                done = process_file(
                    source,
                    target,
                    model=model,
                    reference=reference,
                    engine=engine,
                    pump_nm=pump_nm,
                    axis=axis,
                    calibration=calibration,
                    scheduler=scheduler,
                    overwrite=overwrite,
                    again=overwrite,
                    may_replace=_may_replace,
                    progress=shown.show,
                )
        except (CarsRtError, KeyboardInterrupt) as error:
            if stop.wished or isinstance(
                error, KeyboardInterrupt
            ):  # libraries may make it an error of theirs
                fail(f"stopped; {_left(target)}", EXIT_INTERRUPTED)
            if len(jobs) == 1:
                raise
            failed += 1
            log.error("%s", _of(source, str(error)))
            continue
        if done.damage:
            damaged = True
            log.warning("%s: %s", target, done.damage)
        if not done.computed:
            log.info("%s: these results are there already; --overwrite makes them again", target)
            continue
        log.info(
            "%s: %s of %d pixels by %s on %s",
            target, counted(done.spectra, "spectrum"), done.pixels, done.model, done.engine,
        )  # fmt: skip
        if done.flagged:
            log.warning("%s: %s; see `flags` in the output", target, shares(done.flagged, done.computed))
    if failed:
        fail(f"{failed} of {len(jobs)} files could not be processed")
    if damaged:
        sys.exit(EXIT_INCOMPLETE)


def _of(source: Path, text: str) -> str:
    """An error among those of many files names its own."""
    return text if str(source) in text else f"{source}: {text}"


def _left(target: Path) -> str:
    """What an interruption left of a target, for people."""
    from cars_rt.files.offline.parts import parts_folder
    from cars_rt.files.recording import partial_path
    from cars_rt.files.resumed import earlier_path
    from cars_rt.files.written import is_of_process

    partial = partial_path(target)
    if (
        earlier_path(target).exists()
        or parts_folder(target).exists()
        or (partial.exists() and is_of_process(partial))
    ):
        return f"{target} is not written, and what is done of it is kept: the same command goes on from there"
    return f"{target} is not written, and nothing is left of it"


def _may_replace(target: Path) -> bool:
    """Ask whether a file may be replaced, where somebody can answer. Raises SpectraError if not.

    In a script nobody can: there an earlier result is replaced, which can be made again, and nothing else.
    """
    from cars_rt.files.spectra import SpectraError

    if not target.is_file():
        return False
    if not (on_terminal() and sys.stdin.isatty()):
        from cars_rt.files.results import is_result

        if is_result(target):
            log.info("%s: an earlier result is replaced", target)
            return True
        raise SpectraError(f"{target} exists already; choose another name or give --overwrite")
    from rich.prompt import Confirm

    if not Confirm.ask(Text(f"{target} exists already. Replace it?"), console=console, default=False):
        raise SpectraError(f"{target} stays as it is")
    return True


class _Progress:
    """How far a file is: a bar where there is a terminal, elsewhere a line in the log now and then."""

    def __init__(self, name: str, stop: Stop) -> None:
        self._name, self._stop = name, stop
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not on_terminal(),
            refresh_per_second=4,
        )
        self._task = self._bar.add_task(name, total=None, rate="")
        self._begun = self._logged = time.monotonic()
        self._there: int | None = None  # spectra that an earlier attempt had done

    def show(self, done: int, total: int) -> None:
        """Spectra done and in all. Raises KeyboardInterrupt if a stop is wished."""
        self._stop.check()
        now = time.monotonic()
        if self._there is None:
            self._there, self._begun = done, now
        rate = (done - self._there) / max(now - self._begun, 1e-9)
        self._bar.update(self._task, completed=done, total=total, rate=f"{rate:.0f}/s")
        if self._bar.disable and now - self._logged >= LOGGED_S:
            self._logged = now
            left = f"{timedelta(seconds=round((total - done) / rate))} left" if rate else "just begun"
            log.info("%s: %d of %d spectra, %.0f/s, %s", self._name, done, total, rate, left)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._bar.__exit__(kind, error, trace)
