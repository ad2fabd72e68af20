"""Several models on the same spectra of one protocol."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from cars_rt.engines import EngineError, ModelError
from cars_rt.engines.base import hardware, usable_cores
from cars_rt.physics.quantity import RATIO
from cars_rt.training.data.batch import Batch
from cars_rt.training.data.distribution import DISTRIBUTIONS, Distribution
from cars_rt.training.data.protocols import Vector2022
from cars_rt.training.evaluation.bias import Bias, bias
from cars_rt.training.evaluation.candidates import Candidate
from cars_rt.training.evaluation.linearity import Linearity, linearity
from cars_rt.training.evaluation.scores import Retrieve, Scores, judge
from cars_rt.training.evaluation.speed import BATCHES, Speed, speed
from cars_rt.training.settings import HELD_OUT_SEED, TrainingError

log = logging.getLogger("cars_rt.training")

#: Few, since all spectra of a batch of `bcars` share a camera and its axis.
BATCH = 16
DILUTED = 256  # spectra of each concentration, unless fewer are evaluated
CAMERAS = 24  # that the bias is measured with, unless fewer are evaluated
CAMERA = torch.linspace(400, 3200, 1340)  # cm-1, an axis to measure speed on


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One model on one protocol."""

    model: str
    target: str
    trained_on: str
    protocol: str
    seed: int
    hardware: str
    load: float | None  # average before, of other programs; None where the system does not tell
    accuracy: dict[str, Any]
    cases: dict[str, dict[str, Any]]  # of a protocol that has cases; the spectra are of each
    linearity: Linearity | None
    bias: Bias | None
    speed: list[Speed]
    scores: Scores = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """All but the spectra, for programs."""
        lines = self.linearity
        return {
            **{key: getattr(self, key) for key in ("model", "target", "trained_on", "protocol", "seed")},
            "hardware": self.hardware,
            "load": self.load,
            "accuracy": self.accuracy,
            "cases": self.cases,
            "linearity": lines
            and {
                "dilutions": [each._asdict() for each in lines.dilutions],
                "largest_change": lines.largest_change,
            },
            "bias": self.bias and self.bias._asdict(),
            "speed": [each._asdict() for each in self.speed],
        }


def fits(model: Candidate, protocol: str) -> bool:
    """Whether a model's result and the protocol's truth are the same quantity."""
    return model.target == _known(protocol)(0, 1, 1).target


def compare(
    models: list[Candidate],
    protocol: str,
    spectra: int = 1000,
    seed: int = HELD_OUT_SEED,
    threads: int = 0,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Evaluation]:
    """Evaluate each model on the same `spectra` spectra of a protocol (of each case, if it has cases).

    threads: of the model, beside one, in the measurement of speed; 0 takes all cores. progress is called
    with what is being done, how many spectra are done and how many there are to do, drawing them included.
    One of several models that cannot be run, or has results that are not finite, is left out, which is
    logged. Raises TrainingError for an unknown protocol, or for a model with another target than the
    protocol's, or that was trained on these spectra, and what is wrong with the last model if all are left
    out.
    """
    make = _known(protocol)
    if not models:
        raise TrainingError(f"there is no model whose result is what {protocol} asks for")
    for model in models:
        if not fits(model, protocol):
            raise TrainingError(_unfit(model, make(0, 1, 1)))
        if (model.trained_on, model.seed) == (protocol, seed):
            raise TrainingError(
                f"the model {model.name} was trained on {protocol} with seed {seed}: choose another --seed, "
                "whose spectra it has never seen"
            )
    if spectra < 1 or threads < 0:
        raise TrainingError("--spectra must be positive, --threads not negative")
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    cases = {name: each(seed, BATCH, 1) for name, each in _cases(protocol).items()}
    total, done = (1 + len(models)) * len(cases) * spectra, 0

    def tick(what: str, batch: Batch) -> None:
        nonlocal done
        done += len(batch.raman)
        progress(what, done, total)

    drawn: dict[str, list[Batch]] = {}
    for name, data in cases.items():
        drawn[name] = []
        for first in range(0, spectra, BATCH):
            drawn[name].append(_first(data[first // BATCH], spectra - first))
            tick(f"drawing {name}", drawn[name][-1])
    found: list[Evaluation] = []
    for model in models:
        try:
            found.append(_evaluation(model, protocol, seed, threads, load, cases, drawn, tick))
        except (EngineError, ModelError, TrainingError) as error:
            if not found and model is models[-1]:
                raise
            log.warning("%s is left out: %s", model.name, error)
    return found


def _evaluation(
    model: Candidate,
    protocol: str,
    seed: int,
    threads: int,
    load: float | None,
    cases: dict[str, Distribution],
    drawn: dict[str, list[Batch]],
    tick: Callable[[str, Batch], None],
) -> Evaluation:
    several = threads or usable_cores()
    run, alone = model.on(several), model.on(1)
    parts: dict[str, Scores] = {}
    for name, batches in drawn.items():
        judged = []
        for batch in batches:
            judged.append(judge(_finite(model, run, f"spectra of {name}"), batch))
            tick(model.name, batch)
        parts[name] = Scores.together(judged)
    scores = Scores.together(parts.values())
    data = next(iter(cases.values()))
    shift = CAMERA if len(data.lengths) > 1 else data[0].shift
    rates = [speed(alone, 1, shift, batch) for batch in BATCHES]
    if several > 1:
        rates += [speed(run, several, shift, batch) for batch in BATCHES]
    counts = model.target == RATIO
    diluted, repeated = (_finite(model, run, what) for what in ("dilutions", "repeated spectra"))
    return Evaluation(
        model.name, model.target, model.trained_on, protocol, seed, hardware(), load, scores.summary(),
        {name: each.summary() for name, each in parts.items()} if len(parts) > 1 else {},
        linearity(diluted, min(DILUTED, len(scores.r2))) if counts else None,
        bias(repeated, seed, max(1, min(CAMERAS, len(scores.r2) // BATCH))) if counts else None,
        rates, scores,
    )  # fmt: skip


def _finite(model: Candidate, run: Retrieve, what: str) -> Retrieve:
    """The same, which raises TrainingError where a result is not finite. what: the spectra, in words."""

    def checked(batch: Batch) -> tuple[torch.Tensor, ...]:
        found = run(batch)
        if not all(torch.isfinite(values).all() for values in found):
            raise TrainingError(f"{model.name} gave values that are not finite for {what}: it is of no use")
        return found

    return checked


def _known(protocol: str) -> Callable[[int, int, int], Distribution]:
    if protocol not in DISTRIBUTIONS:
        raise TrainingError(f"no protocol is called '{protocol}'; there are: {', '.join(DISTRIBUTIONS)}")
    return DISTRIBUTIONS[protocol]


def _unfit(model: Candidate, data: Distribution) -> str:
    """Nothing makes the two comparable: a protocol that scales each spectrum to 1 has no chi_NR to divide
    by, and what it subtracted before scaling cannot be known."""
    words = {"ratio": "Im{chi_R} / chi_NR", "chi3": "Im chi_R scaled to 1"}
    fit = ", ".join(name for name, make in DISTRIBUTIONS.items() if make(0, 1, 1).target == model.target)
    return (
        f"the model {model.name} gives {words[model.target]}, {data.name} asks for {words[data.target]}; "
        f"evaluate it on: {fit}"
    )


def _cases(protocol: str) -> dict[str, Callable[[int, int, int], Distribution]]:
    """The nine of vector2022, by name; of any other protocol itself."""
    if protocol != Vector2022.name:
        return {protocol: _known(protocol)}
    return {
        f"{widest}{number}": partial(Vector2022, case=case)
        for case, (widest, number) in enumerate(Vector2022.cases)
    }


def _first(batch: Batch, count: int) -> Batch:
    counts, raman, noise = (each[:count] for each in (batch.counts, batch.raman, batch.noise))
    return Batch(batch.shift, counts, raman, noise, batch.scaled)
