"""`cars-rt evaluate`: how good models are."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from cars_rt.cli.app import Logs, needs, progress_bar
from cars_rt.console import (
    Logging,
    Terminal,
    fail,
    log,
    refuse_target,
    start_logging,
    write_json,
    writing,
)
from cars_rt.printable import typed
from cars_rt.training.settings import HELD_OUT_SEED

if TYPE_CHECKING:
    from cars_rt.training.evaluation.report import Table

PROTOCOL, SPECTRA, THREADS = "bcars", 1000, 0  # where nothing is said


def evaluate(
    *models: str,
    protocol: str = PROTOCOL,
    all_: Annotated[bool, Parameter(name="--all")] = False,
    measured: Path | None = None,
    spectra: int = SPECTRA,
    seed: int = HELD_OUT_SEED,
    threads: int = THREADS,
    json: Path | None = None,
    png: Path | None = None,
    logs: Logs = Logging(),
) -> None:
    """Measure how accurate models are, side by side, as the daemon runs them: on simulated spectra and
    cameras' axes that they have never seen, or on measured spectra.

    Example: cars-rt evaluate cnn --png cnn.png

    Example: cars-rt evaluate mine.onnx training/checkpoint.pt --protocol crimson2024

    Example: cars-rt evaluate cnn --measured toluene.csv

    Parameters
    ----------
    models
        Names of shipped models, paths of .onnx files or of training checkpoints (.pt).
    protocol
        Where the spectra come from: bcars, crimson2024, crimson2024-axes (the same as cameras see them),
        specnet2020, vector2022, lut2022.
    all_
        Every shipped model whose result is what the protocol asks for, beside those named.
    measured
        In place of a protocol, and without the flags of simulated spectra: a file of measured spectra, or a
        folder of such files. Lines are looked for if the file is named after a substance they are known of
        (toluene, hepg2).
    spectra
        Number of simulated spectra (of each case, for vector2022).
    seed
        Of the simulated spectra; another one gives other spectra.
    threads
        Of the network where speed is measured on several, too; 0 takes all cores.
    json
        Write every number to this file.
    png
        Draw a picture into this file.
    """
    needs("torch", "train")
    needs("scipy", "train")
    if png is not None:
        needs("matplotlib", "train")
    start_logging(logs)
    for flag, path in (("--json", json), ("--png", png)):
        refuse_target(path, flag)
    names = list(dict.fromkeys(models))
    if all_:
        from cars_rt.engines import shipped_models

        names = list(dict.fromkeys([*names, *shipped_models()]))
    if not names:
        fail("name the models to evaluate, or take --all")
    if measured is not None:
        for flag, given, usual in (
            ("--protocol", protocol, PROTOCOL), ("--spectra", spectra, SPECTRA),
            ("--seed", seed, HELD_OUT_SEED), ("--threads", threads, THREADS),
        ):  # fmt: skip
            if given != usual:
                fail(f"{flag} is for simulated spectra; --measured has no use for it")
        _measured(names, measured, json, png)
        return

    from cars_rt.training.evaluation.candidates import candidate, told_apart
    from cars_rt.training.evaluation.comparison import compare, fits
    from cars_rt.training.evaluation.report import conditions, tables

    candidates = [candidate(name) for name in names]
    called = told_apart([each.name for each in candidates], names)
    candidates = [replace(each, name=name) for each, name in zip(candidates, called, strict=True)]
    if all_:
        candidates = [
            each
            for name, each in zip(names, candidates, strict=True)
            if name in models or fits(each, protocol)
        ]
    with progress_bar() as bar:
        task = bar.add_task("starting", total=None)
        evaluations = compare(
            candidates, protocol, spectra, seed, threads,
            lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )  # fmt: skip
    _print(tables(evaluations), conditions(evaluations))
    write_json(json, [each.as_json() for each in evaluations])
    if png is not None:
        from cars_rt.training.evaluation.pictures import draw

        with writing(png):
            draw(evaluations, png)


def _measured(names: list[str], place: Path, json: Path | None, png: Path | None) -> None:
    from cars_rt.engines import load_model
    from cars_rt.training.evaluation.candidates import told_apart
    from cars_rt.training.evaluation.measured import draw_measured, retrieve_measured, spectra_in, table

    if unfit := [name for name in names if name.endswith(".pt")]:
        fail(
            f"{unfit[0]} is a checkpoint; measured spectra need a model: "
            f"cars-rt export {typed(unfit[0])} -o x.onnx"
        )
    loaded, files = [load_model(name) for name in names], spectra_in(place)
    called = told_apart([each.card.name for each in loaded], names)
    models = dict(zip(called, loaded, strict=True))
    with progress_bar() as bar:
        task = bar.add_task("measured spectra", total=len(files))
        results = retrieve_measured(
            models, files, log.warning, lambda done, total: bar.update(task, completed=done)
        )
    if not results:
        fail("none of these models can take any of these spectra")
    _print([table(results)])
    write_json(json, [each.as_json() for each in results])
    if png is not None:
        with writing(png):
            draw_measured(results, png)


def _print(tables: "list[Table]", note: str = "") -> None:
    out = Terminal()
    out.make_room(200)
    for table in tables:
        out.print(Text(table.title, "bold"), soft_wrap=True)
        out.print(table.rich())
        out.print()
    if note:
        out.print(note, soft_wrap=True)
