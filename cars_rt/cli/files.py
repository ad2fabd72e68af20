"""`cars-rt record`, `process` and `verify`: files of spectra."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from cars_rt.cli.app import Logs, app, progress_bar
from cars_rt.console import (
    EXIT_INCOMPLETE,
    Logging,
    Rate,
    StatusLine,
    console,
    fail,
    log,
    start_logging,
    stopping,
    write_summary,
)
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.physics.fitness import shares
from cars_rt.recorder import RecordSettings


@app.command
def record(
    output: Path,
    *,
    settings: Annotated[RecordSettings, Parameter(name="*")] = RecordSettings(),
    logs: Logs = Logging(),
) -> None:
    """Write runs to HDF5 files that plain h5py reads.

    Example, results and counts together: cars-rt record scan.h5 --raw tcp://127.0.0.1:5555

    Parameters
    ----------
    output
        NAME.h5 takes the next run and ends with it; a folder takes every run until Ctrl-C.
    """
    from cars_rt.recorder import Recorder

    start_logging(logs)
    recorder = Recorder(output, settings)
    rate = Rate()
    with StatusLine() as line, stopping(recorder.stop):
        recorded = recorder.serve(
            lambda: line.show(
                lambda: f"{recorder.spectra} spectra written, {rate.read(recorder.spectra):.0f}/s"
            )
        )
    write_summary(settings.summary, recorded)
    if not recorded:
        fail("no run came", EXIT_INCOMPLETE)
    if not all(each.complete for each in recorded):
        sys.exit(EXIT_INCOMPLETE)


@app.command
def process(
    input: Path,  # noqa: A002 - the name in the help
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    model: str = DaemonSettings.model,
    reference: Path | None = None,
    engine: str = DaemonSettings.engine,
    logs: Logs = Logging(),
) -> None:
    """Remove the background from the spectra in a file.

    Example: cars-rt process toluene.csv -o toluene-raman.npz

    Parameters
    ----------
    input
        .csv (raman shift, then one column per spectrum), .npz (spectra, raman_shift), .h5 (a recording).
    output
        .npz, .h5 or .csv; gets raman, raman_shift, flags, the deviation where the model states it, and the
        model's name and hash.
    model
        Name of a model (also mem, maximum entropy), or the path of an .onnx file.
    reference
        Spectra of a purely non-resonant sample, such as glass, for the models kk and mem.
    engine
        What runs the model; auto takes the fastest that works here.
    """
    from cars_rt.offline import process as process_file

    start_logging(logs)
    with progress_bar() as bar:
        task = bar.add_task("spectra", total=None)
        done = process_file(
            input,
            output,
            model=model,
            reference=reference,
            engine=engine,
            progress=lambda count, total: bar.update(task, completed=count, total=total),
        )
    log.info(
        "%s: %d spectra of %d pixels by %s on %s", output, done.spectra, done.pixels, done.model, done.engine
    )
    if done.flagged:
        log.warning("%s: %s; see flags in the output", output, shares(done.flagged, done.spectra))


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
    results again. The exit code is 3 if anything is not as it should be.

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
    from cars_rt.verify import verify as verify_recordings

    start_logging(logs)
    findings = verify_recordings(raw, result or raw, model=model, reference=reference, engine=engine)
    for finding in findings:
        mark = ("yes", "green") if finding.true else ("NO ", "bold red")
        console.print(Text.assemble(mark, "  ", finding.text), soft_wrap=True)
    if not all(finding.true for finding in findings):
        sys.exit(EXIT_INCOMPLETE)
