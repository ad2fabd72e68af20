"""The command line: flags to settings to one program. Nothing else happens here.

Programs are imported inside their commands, so that `--help` and errors in the flags come at once.
"""

import os

# The processes of a measurement share few cores; a matrix product of the driver must not take them
# all. Has to be set before numpy is imported; engines have threads of their own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import App, Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

import cars_rt
from cars_rt.console import (
    EXIT_INCOMPLETE,
    LogLevel,
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
from cars_rt.drivers.base import DriveSettings, Instrument
from cars_rt.drivers.replay import ReplaySettings
from cars_rt.drivers.simulator import SimulatorSettings
from cars_rt.recorder import RecordSettings
from cars_rt.training.settings import TrainSettings

app = App(
    name="cars-rt",
    help=(
        "Remove the non-resonant background from CARS spectra while they are measured.\n\n"
        "A driver publishes camera counts (`drive`), the daemon turns them into Raman spectra (`run`), and "
        "whoever subscribes gets them, such as the recorder (`record`). All of it without an instrument: "
        "`cars-rt demo`. A file that is already there: `cars-rt process`.\n\n"
        "Every flag can be set in the environment (`--model` of `run` is CARS_RT_RUN_MODEL) or in a file "
        "with a table for each command: `cars-rt --config lab.toml run`."
    ),
    version=cars_rt.__version__,
    default_parameter=Parameter(negative=()),
)
drive = App(name="drive", help="Publish spectra from an instrument: a simulated one, or a file.")
app.command(drive)
app.register_install_completion_command(help="Install completion of commands and flags for your shell.")

Summary = Annotated[Path | None, Parameter(help="Write the totals to this JSON file at the end.")]
Level = Annotated[LogLevel, Parameter(help="How much to say.")]


@app.command
def run(
    *,
    settings: Annotated[DaemonSettings, Parameter(name="*")] = DaemonSettings(),
    summary: Summary = None,
    log_level: Level = "info",
) -> None:
    """Run the daemon: raw spectra in, Raman spectra out.

    It waits for a driver, compiles the model for the driver's axis, and publishes one result for every
    spectrum it receives. Ctrl-C stops it after everything that was received has been sent.

    Example: cars-rt run --listen tcp://127.0.0.1:5555 --publish tcp://127.0.0.1:5556 --model cnn
    """
    from cars_rt.daemon.loop import Daemon
    from cars_rt.daemon.status import Status

    start_logging(log_level)
    daemon = Daemon(settings)
    card = daemon.compute.model.card
    log.info("listening to %s, publishing at %s", settings.listen, daemon.publisher.address)
    log.info("model %s %s: %s", card.name, card.version, card.description)
    status = Status(daemon)
    with StatusLine() as line, stopping(daemon.stop):
        totals = daemon.serve(lambda: line.show(status.describe))
    write_summary(summary, totals)


@drive.command
def simulator(
    *,
    settings: Annotated[SimulatorSettings, Parameter(name="*")] = SimulatorSettings(),
    stream: Annotated[DriveSettings, Parameter(name="*")] = DriveSettings(),
    summary: Summary = None,
    log_level: Level = "info",
) -> None:
    """A BCARS microscope by physics: scans a phantom of cells, beads and droplets once.

    Example: cars-rt drive simulator --rate 1000 --scan 256x256 --truth truth.h5
    """
    from cars_rt.drivers.simulator import SimulatedMicroscope

    start_logging(log_level)
    _drive(SimulatedMicroscope(settings), stream, summary)


@drive.command
def replay(
    file: Path,
    *,
    settings: Annotated[ReplaySettings, Parameter(name="*")] = ReplaySettings(),
    stream: Annotated[DriveSettings, Parameter(name="*")] = DriveSettings(),
    summary: Summary = None,
    log_level: Level = "info",
) -> None:
    """Play a file of spectra as if they were being measured.

    Example: cars-rt drive replay toluene.csv --rate 100 --loops 0

    Parameters
    ----------
    file
        .csv (raman shift, then one column per spectrum), .npz (spectra, raman_shift), .h5 (a recording).
    """
    from cars_rt.drivers.replay import Replay

    start_logging(log_level)
    _drive(Replay(file, settings), stream, summary)


@app.command
def record(
    output: Path,
    *,
    settings: Annotated[RecordSettings, Parameter(name="*")] = RecordSettings(),
    log_level: Level = "info",
) -> None:
    """Write runs to HDF5 files that plain h5py reads.

    Example, results and counts together: cars-rt record scan.h5 --raw tcp://127.0.0.1:5555

    Parameters
    ----------
    output
        NAME.h5 takes the next run and ends with it; a folder takes every run until Ctrl-C.
    """
    from cars_rt.recorder import Recorder

    start_logging(log_level)
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
    engine: str = DaemonSettings.engine,
    log_level: Level = "info",
) -> None:
    """Remove the background from the spectra in a file.

    Example: cars-rt process toluene.csv -o toluene-raman.npz

    Parameters
    ----------
    input
        .csv (raman shift, then one column per spectrum), .npz (spectra, raman_shift), .h5 (a recording).
    output
        .npz, .h5 or .csv; gets raman, raman_shift and the model's name and hash.
    model
        Name of a shipped model, or the path of an .onnx file.
    engine
        What runs the model; auto takes the fastest that works here.
    """
    from cars_rt.offline import process as process_file

    start_logging(log_level)
    with _progress() as bar:
        task = bar.add_task("spectra", total=None)
        done = process_file(
            input,
            output,
            model=model,
            engine=engine,
            progress=lambda count, total: bar.update(task, completed=count, total=total),
        )
    log.info(
        "%s: %d spectra of %d pixels by %s on %s", output, done.spectra, done.pixels, done.model, done.engine
    )


@app.command
def verify(
    raw: Path,
    result: Path | None = None,
    *,
    model: str | None = None,
    engine: str = DaemonSettings.engine,
    log_level: Level = "warning",
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
    engine
        What computes the results again.
    """
    from cars_rt.verify import verify as verify_recordings

    start_logging(log_level)
    findings = verify_recordings(raw, result or raw, model=model, engine=engine)
    for finding in findings:
        mark = ("yes", "green") if finding.true else ("NO ", "bold red")
        console.print(Text.assemble(mark, "  ", finding.text), soft_wrap=True)
    if not all(finding.true for finding in findings):
        sys.exit(EXIT_INCOMPLETE)


@app.command
def demo(
    *,
    seconds: float | None = None,
    rate: float = 1000.0,
    block: int = 4,
    output: Path = Path("demo-output"),
    engine: str = DaemonSettings.engine,
) -> None:
    """See it work: a simulated microscope, the daemon and the recorder, as in the laboratory.

    Shows the image while it is scanned; at the end the totals, a recording and a picture are in the
    output folder.

    Parameters
    ----------
    seconds
        Scan for about so long; without it a scan of 256 x 256 spectra is made.
    rate
        Spectra per second.
    block
        Spectra to a message. With 1, two cores are busy enough with messages for results to come later.
    output
        Folder for the recording, the truth, the picture and the logs; older ones in it are replaced.
    engine
        What runs the model; auto takes the fastest that works here.
    """
    from cars_rt.demo import demo as run_demo

    sys.exit(run_demo(seconds=seconds, rate=rate, block=block, output=output, engine=engine))


@app.command
def train(
    *,
    settings: Annotated[TrainSettings, Parameter(name="*")] = TrainSettings(),
    log_level: Level = "info",
) -> None:
    """Train a network on simulated spectra.

    Ctrl-C and a power cut cost little: `--resume` goes on from the last checkpoint. Then `export` it.

    Example: cars-rt train --network cnn --data bcars --out training/cnn
    """
    _needs("torch", "train")
    from cars_rt.training.trainer import train as train_network

    start_logging(log_level)
    checkpoint = train_network(settings)
    log.info("trained: %s; make a model of it with `cars-rt export %s -o NAME.onnx`", checkpoint, checkpoint)


@app.command
def export(
    checkpoint: Path,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    name: str | None = None,
    log_level: Level = "info",
) -> None:
    """Make a model (ONNX with its card) of a training's checkpoint.

    Example: cars-rt export training/cnn/checkpoint.pt -o cnn.onnx

    Parameters
    ----------
    checkpoint
        The checkpoint that `cars-rt train` wrote.
    output
        The .onnx file to write; `cars-rt run --model FILE.onnx` uses it.
    name
        The model's name, as results will carry it; the file's name if not given.
    """
    _needs("torch", "train")
    from cars_rt.training.export import export as export_model

    start_logging(log_level)
    card = export_model(checkpoint, output, name or output.stem)
    log.info("%s: %s", output, card["accuracy"])


def _drive(instrument: Instrument, settings: DriveSettings, summary: Path | None) -> None:
    from cars_rt.drivers.base import Acquisition, DriveTotals, drive
    from cars_rt.stream import Publisher

    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True

    with (
        Publisher(settings.publish, "raw", buffer_mb=settings.buffer_mb) as publisher,
        _progress() as bar,
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
    log.info("run %s %s: %d spectra sent; lost: %s", totals.run, totals.reason, totals.sent, lost)
    write_summary(summary, [totals])
    if totals.lost:
        sys.exit(EXIT_INCOMPLETE)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        refresh_per_second=4,
    )


def _needs(module: str, extra: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        fail(f'this needs {module}, which is not installed: pip install "cars-rt[{extra}]"')


@app.meta.default
def _with_config(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[Path | None, Parameter(help="Read flags from this TOML file.")] = None,
) -> None:
    """Take flags from the environment and a file, then run the command."""
    sources: list[cyclopts.config.Env | cyclopts.config.Toml] = [cyclopts.config.Env("CARS_RT_")]
    if config is not None:
        sources.append(cyclopts.config.Toml(config, must_exist=True))
    app.config = tuple(sources)
    app(tokens)


def main() -> None:
    """Entry point of `cars-rt`."""
    from cars_rt.drivers.base import InstrumentError
    from cars_rt.engines import EngineError, ModelError
    from cars_rt.physics.axis import AxisError
    from cars_rt.recording import RecordingError
    from cars_rt.spectra import SpectraError
    from cars_rt.stream import StreamError
    from cars_rt.training.settings import TrainingError
    from cars_rt.verify import VerifyError

    with suppress(BrokenPipeError):
        try:
            app.meta()
        except (
            AxisError,
            EngineError,
            InstrumentError,
            ModelError,
            RecordingError,
            SpectraError,
            StreamError,
            TrainingError,
            VerifyError,
        ) as error:
            fail(error)
        except KeyboardInterrupt:
            fail("interrupted", 130)
