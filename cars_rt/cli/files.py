"""`cars-rt record`, `process` and `verify`: files of spectra."""

import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from glob import has_magic
from pathlib import Path
from types import FrameType
from typing import Annotated, Self

from cyclopts import Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from cars_rt.cli.app import Logs, app
from cars_rt.console import (
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    LOGGED_S,
    Logging,
    Rate,
    StatusLine,
    console,
    fail,
    log,
    on_terminal,
    start_logging,
    stopping,
    write_summary,
)
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.errors import CarsRtError
from cars_rt.files.recorder import RecordSettings
from cars_rt.files.recorder.settings import OFF
from cars_rt.files.spectra import SpectraError
from cars_rt.physics.fitness import shares
from cars_rt.printable import printable


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
    from cars_rt.files.recorder import Recorder
    from cars_rt.files.recorder.commands import Commands

    start_logging(logs)
    if no_control:
        settings = replace(settings, control=OFF)
    recorder = Recorder(output or Path(), settings, idle=idle or output is None)
    rate = Rate()

    def tell() -> str:
        return f"{recorder.describe()}, {rate.read(recorder.spectra):.0f}/s"

    try:
        with stopping(recorder.stop), Commands(recorder) as commands, StatusLine() as line:

            def tick() -> None:
                commands.serve()
                line.show(tell)

            recorder.serve(tick)
    except KeyboardInterrupt:
        left = "".join(f"; {path} holds what came: cars-rt repair {path}" for path in recorder.left)
        fail(f"interrupted{left}", EXIT_INTERRUPTED)
    finally:
        write_summary(settings.summary, recorder.recorded)
    if not (recorder.runs or recorder.idle):
        fail("no run came", EXIT_INCOMPLETE)
    if recorder.incomplete or recorder.failed:
        sys.exit(EXIT_INCOMPLETE)


@app.command
def repair(files: Annotated[tuple[Path, ...], Parameter(negative=())], /, *, logs: Logs = Logging()) -> None:
    """Finish recordings that were cut short: cut to their rows, named, and told how much is in them.

    A recorder that is killed leaves NAME.partial.h5. The next one of that name or folder finishes it, too.
    A recording that is being written is left alone, and so is one that is finished.

    Example: cars-rt repair scan.partial.h5

    Parameters
    ----------
    files
        Recordings, by their partial names or those that they would have had.
    """
    from cars_rt.files.recording import RecordingError
    from cars_rt.files.recording import repair as finish

    start_logging(logs)
    errors = []
    for path in files:
        try:
            contents = finish(path)
        except RecordingError as error:
            errors.append(str(error))
            continue
        done = "" if contents.changed else ", as it was"
        log.info("%s: %s%s", contents.path, contents.describe(), done)
    if errors:
        fail("; ".join(errors))


@app.command
def process(
    *input: Path,  # noqa: A002 - the name in the help
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    model: str = DaemonSettings.model,
    reference: Path | None = None,
    engine: str = DaemonSettings.engine,
    pump_nm: float | None = None,
    overwrite: bool = False,
    logs: Logs = Logging(),
) -> None:
    """Remove the background from the spectra in files.

    What a file says of its measurement (dark, scan, times, positions, exposure ...) goes along. Memory does
    not grow with the file from .h5 to .h5.

    Example: cars-rt process toluene.csv -o toluene-raman.npz

    Example, each of many into a folder: cars-rt process scans/*.h5 -o results

    Parameters
    ----------
    input
        .csv or .txt (raman shift, then one column per spectrum), .npz (spectra, raman_shift), .h5 (a
        recording); one or more, also as patterns.
    output
        .npz, .h5 or .csv; gets raman, raman_shift, flags, the deviation where the model states it, and the
        model's name and hash. A folder that is there takes NAME-raman.EXTENSION for each input.
    model
        Name of a model (also mem, maximum entropy), or the path of an .onnx file.
    reference
        Spectra of a purely non-resonant sample, such as glass, for the models kk and mem.
    engine
        What runs the model; auto takes the fastest that works here.
    pump_nm
        For a .csv or .txt with wavelengths as its axis: that of the pump, or of the probe if it is another
        beam, in nm. The raman shift is 1e7/wavelength - 1e7/pump, positive for anti-Stokes light.
    overwrite
        Replace files that exist, without asking. In a script only earlier results are replaced unasked.
    """
    from cars_rt.files.offline import process as process_file

    start_logging(logs)
    if not input:
        fail("give a file to process", EXIT_USAGE)
    stop = _Stop()
    jobs = targets(input, output)
    agreed = {target for _, target in jobs if overwrite or _may_replace(target)}
    failed = 0
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
                    overwrite=target in agreed,
                    progress=shown.show,
                )
        except (CarsRtError, KeyboardInterrupt) as error:
            if stop.wished or isinstance(
                error, KeyboardInterrupt
            ):  # libraries may make it an error of theirs
                fail(f"stopped; {target} is not written, and nothing is left of it", EXIT_INTERRUPTED)
            if len(jobs) == 1:
                raise
            failed += 1
            log.error("%s", error)
            continue
        log.info("%s: %s", source, done.axis)
        log.info(
            "%s: %d spectra of %d pixels by %s on %s",
            target, done.spectra, done.pixels, done.model, done.engine,
        )  # fmt: skip
        if done.flagged:
            log.warning("%s: %s; see flags in the output", target, shares(done.flagged, done.spectra))
    if failed:
        fail(f"{failed} of {len(jobs)} files could not be processed")


def targets(inputs: Sequence[Path], output: Path) -> list[tuple[Path, Path]]:
    """Which file becomes which. Raises SpectraError for what cannot be, before any work is done."""
    sources = list(dict.fromkeys(each for given in inputs for each in _matching(given)))
    if not output.is_dir():
        if len(sources) == 1:
            if output.exists() and sources[0].exists() and output.samefile(sources[0]):
                raise SpectraError(f"{output} is the input; choose another name for the result")
            return [(sources[0], output)]
        if output.suffix:
            raise SpectraError(f"{output} is one file, and there are {len(sources)} inputs: give a folder")
        raise SpectraError(f"there is no folder {output}; make it first")
    jobs = [(each, output / f"{each.stem}-raman{KIND_OF_RESULT[each.suffix.lower()]}") for each in sources]
    twice = [name for name, count in Counter(target for _, target in jobs).items() if count > 1]
    if twice:
        raise SpectraError(f"two of the inputs would become {twice[0]}; process them into two folders")
    return jobs


#: What becomes of which kind of file where only a folder is given.
KIND_OF_RESULT = {".csv": ".csv", ".txt": ".csv", ".npz": ".npz", ".h5": ".h5", ".hdf5": ".h5"}


def _matching(given: Path) -> list[Path]:
    """The file, or where there is none of that name, those that match it as a pattern: not every shell
    does that by itself."""
    if given.exists() or not has_magic(str(given)):
        if given.suffix.lower() not in KIND_OF_RESULT:
            raise SpectraError(f"{given}: the file's name must end in one of {', '.join(KIND_OF_RESULT)}")
        return [given]
    pattern = str(given.relative_to(given.anchor))
    found = sorted(Path(given.anchor).glob(pattern))
    found = [each for each in found if each.suffix.lower() in KIND_OF_RESULT and each.is_file()]
    if not found:
        raise SpectraError(f"no file of spectra matches {given}")
    return found


def _may_replace(target: Path) -> bool:
    """Ask whether a file may be replaced, where somebody can answer; leaves if not.

    In a script nobody can: there an earlier result is replaced, which can be made again, and nothing else.
    """
    if not target.is_file():
        return False
    if not (on_terminal() and sys.stdin.isatty()):
        from cars_rt.files.results import is_result

        if is_result(target):
            log.info("%s: an earlier result is replaced", target)
            return True
        fail(f"{target} exists already; choose another name or give --overwrite")
    from rich.prompt import Confirm

    if not Confirm.ask(Text(f"{target} exists already. Replace it?"), console=console, default=False):
        fail(f"{target} stays as it is")
    return True


class _Stop:
    """Ctrl-C and its kin, so that no part of a file is left behind.

    Python swallows a KeyboardInterrupt that comes while it frees an object: so the wish is kept, too.
    """

    def __init__(self) -> None:
        self.wished = False
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) in (
                signal.SIG_DFL,
                signal.default_int_handler,
            ):
                signal.signal(number, self._wish)

    def _wish(self, number: int, frame: FrameType | None) -> None:
        self.wished = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if it was wished."""
        if self.wished:
            raise KeyboardInterrupt


class _Progress:
    """How far a file is: a bar where there is a terminal, elsewhere a line in the log now and then."""

    def __init__(self, name: str, stop: _Stop) -> None:
        self._name, self._stop = name, stop
        self._bar = Progress(
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

    def show(self, done: int, total: int) -> None:
        """Spectra done and in all. Raises KeyboardInterrupt if a stop is wished."""
        self._stop.check()
        now = time.monotonic()
        rate = done / max(now - self._begun, 1e-9)
        self._bar.update(self._task, completed=done, total=total, rate=f"{rate:.0f}/s")
        if self._bar.disable and now - self._logged >= LOGGED_S:
            self._logged = now
            log.info(
                "%s: %d of %d spectra, %.0f/s, %s left",
                self._name, done, total, rate, timedelta(seconds=round((total - done) / rate)),
            )  # fmt: skip

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


@app.command
def verify(
    raw: Path,
    result: Path | None = None,
    *,
    model: str | None = None,
    reference: Path | None = None,
    engine: str = DaemonSettings.engine,
    logs: Logs = Logging(log_level="warning"),
) -> None:
    """Prove from recordings that results belong to counts and that nothing was lost unsaid.

    Checks the receipts of both streams against what is in the files, the time stamps, and computes some
    results again. The last line is the verdict; the exit code is 3 if anything is not as it should be.

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
        The reference that the model kk was given, if it was.
    engine
        What computes the results again.
    """
    from cars_rt.files.verify import verify as verify_recordings

    start_logging(logs)
    findings = verify_recordings(raw, result or raw, model=model, reference=reference, engine=engine)
    for finding in findings:
        mark = ("yes", "green") if finding.true else ("NO ", "bold red")
        console.print(Text.assemble(mark, "  ", printable(finding.text)), soft_wrap=True)
    untrue = [finding for finding in findings if not finding.true]
    if untrue:
        said = f"{len(untrue)} of {len(findings)} checks failed, first that {printable(untrue[0].text)}"
        console.print(Text.assemble(("NOT VERIFIED", "bold red"), f": {said}"), soft_wrap=True)
        sys.exit(EXIT_INCOMPLETE)
    said = f"all {len(findings)} checks passed: the results belong to the counts, and nothing was lost unsaid"
    console.print(Text.assemble(("VERIFIED", "bold green"), f": {said}"), soft_wrap=True)
