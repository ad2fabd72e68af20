"""A training's log.csv, its progress bar and its curve."""

import contextlib
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cars_rt.storage import refuse_target, replacing
from cars_rt.training.checkpoint import Entry, State
from cars_rt.training.settings import TrainSettings

LOG = "log.csv"
CURVE = "curve.png"


@contextlib.contextmanager
def reporter(
    settings: TrainSettings, state: State, progress: Callable[[Entry], None] | None
) -> Iterator[Callable[[Entry], None]]:
    """Writes log.csv and shows progress; a resumed training's log is rewritten up to its checkpoint."""
    bar = Progress(
        TextColumn("training {task.fields[name]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  R2 {task.fields[r2]}"),
        TimeRemainingColumn(),
        disable=progress is not None,
    )
    task = bar.add_task(
        "", total=settings.steps, completed=state.step, name=settings.network, loss="-", r2="-"
    )
    refuse_target(settings.out / LOG)
    with bar, (settings.out / LOG).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Entry._fields)

        def write(entry: Entry) -> None:
            numbers = ("" if value is None else f"{value:.6g}" for value in entry[1:])
            writer.writerow([entry.step, *numbers])

        for entry in state.history:
            write(entry)

        def report(entry: Entry) -> None:
            write(entry)
            file.flush()
            bar.update(task, completed=entry.step)
            if entry.loss is not None:
                bar.update(task, loss=f"{entry.loss:.4f}")
            if entry.median_r2 is not None:
                bar.update(task, r2=f"{entry.median_r2:.4f}")
            if progress is not None:
                progress(entry)

        yield report


def plot(history: list[Entry], path: Path) -> None:
    """Loss and accuracy over the steps as a PNG; nothing happens where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    losses = [(entry.step, entry.loss) for entry in history if entry.loss is not None]
    axes.loglog(*zip(*losses, strict=True))
    axes.set(xlabel="step", ylabel="loss")
    measured = [(entry.step, 1 - entry.median_r2) for entry in history if entry.median_r2 is not None]
    if measured:
        other = axes.twinx()
        other.loglog(*zip(*measured, strict=True), "C1.-")
        other.set_ylabel("1 - median R2 of held-out spectra", color="C1")
    with replacing(path, durable=False) as file:
        figure.savefig(file, dpi=120, format="png")
