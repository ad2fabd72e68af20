"""`cars-rt train`: networks."""

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.config import Dict

from cars_rt.cli.app import Logs, app, needs, progress_bar
from cars_rt.cli.config import in_environment
from cars_rt.console import LOGGED_S, Logging, log, start_logging
from cars_rt.training.settings import TrainSettings

OURS = in_environment("train") + "_"  # begins the names of its flags in the environment


def train(
    *,
    settings: Annotated[TrainSettings, Parameter(name="*")] = TrainSettings(),
    logs: Logs = Logging(),
) -> None:
    """Train a network on simulated spectra.

    Ctrl-C and a power cut cost little: `--resume` goes on from the last checkpoint. Then `export` it.
    With `--reference`, a model learns the envelope of one instrument, in minutes if it starts from one.

    Example: cars-rt train --network cnn --data bcars --out cnn

    Example, for one instrument: cars-rt train --start cnn --reference glass.h5 --steps 1500 --out mine
    """
    needs("torch", "train")
    from cars_rt.training.checkpoint import load
    from cars_rt.training.trainer import train as train_network

    start_logging(logs)
    checkpoint = train_network(settings, given=given(sys.argv, os.environ, app.config))
    measured = [entry for entry in load(checkpoint)["history"] if entry[2] is not None]
    first, last = measured[0], measured[-1]
    log.info("held-out spectra: median R2 %.4f at step %d, %.4f at the end", first[2], first[0], last[2])
    log.info("trained: %s; make a model of it with `cars-rt export %s -o NAME.onnx`", checkpoint, checkpoint)


def given(words: Iterable[str], environment: Iterable[str], sources: Iterable[Any]) -> set[str]:
    """Names of the settings that are given: by flags among a command's words, such as --minutes=0, in the
    environment, or in a file of flags."""
    names = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
    names |= {each[len(OURS) :].lower() for each in environment if each.upper().startswith(OURS)}
    for source in sources:
        if isinstance(source, Dict):
            names |= source.data.get("train", {}).keys()
    return {name.replace("-", "_") for name in names}


def export_model(checkpoint: Path, output: Path, name: str | None, *, overwrite: bool) -> None:
    """Make a model (ONNX with its card) of a training's checkpoint; name: as results will carry it."""
    needs("torch", "train")
    from cars_rt.training.export import export

    with progress_bar() as bar:
        task, logged = bar.add_task("calibrating the deviation", total=None), time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal logged
            bar.update(task, completed=done, total=total)
            if done == 1:
                log.info("the deviation is calibrated first, on %d batches, which takes minutes", total)
            elif bar.disable and time.monotonic() - logged >= LOGGED_S:
                logged = time.monotonic()
                log.info("calibrating the deviation: %d of %d batches", done, total)

        card = export(checkpoint, output, name or output.stem, overwrite=overwrite, progress=show)
    for data, accuracy in card["accuracy"].items():
        judged = data, accuracy["median_r2"], accuracy["visible"]
        if accuracy["visible"]:
            log.info("%s: on held-out spectra of %s the median R2 is %.4f (%d spectra)", output, *judged)
