"""A model that is to be evaluated, whatever it is: a file, a shipped model, a training's checkpoint.

All go through the deployment graph, as the daemon composes it for a camera: counts in, pixels out.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from cars_rt.engines import REFERENCE, Card, Engine, EngineError, Model, compose, load_model, open_engine
from cars_rt.training.checkpoint import finished, kept_reference, load
from cars_rt.training.data.batch import Batch
from cars_rt.training.data.distribution import DISTRIBUTIONS, distribution
from cars_rt.training.evaluation.scores import Retrieve
from cars_rt.training.export import to_onnx
from cars_rt.training.settings import TrainingError


@dataclass(frozen=True)
class Candidate:
    """A model by name, and how to run it."""

    name: str
    target: str  # "ratio" or "chi3"; see `cars_rt.engines.model.Card`
    trained_on: str
    on: Callable[[int], Retrieve]
    """The model on so many threads, as a function of spectra on any axis that suits it."""
    seed: int | None = None  # of what it was trained on


def candidate(name: str) -> Candidate:
    """A training's checkpoint (.pt), a model's file (.onnx), or one by name, `kk` included.

    Raises TrainingError or ModelError, in one sentence, if there is none or it cannot be used.
    """
    return of_model(of_checkpoint(Path(name)) if Path(name).suffix == ".pt" else load_model(name))


def told_apart(names: Sequence[str], given: Sequence[str]) -> list[str]:
    """The names of models; those that several have, with what each was given as."""
    return [
        f"{name} ({each})" if names.count(name) > 1 else name for name, each in zip(names, given, strict=True)
    ]


def of_model(model: Model) -> Candidate:
    """Any model, in ONNX Runtime on the CPU. Running it raises ModelError or EngineError."""

    card, training = model.card, model.card.training

    def on(threads: int) -> Retrieve:
        open_: dict[tuple[bytes, int], Engine] = {}  # the last axis only: each takes memory

        def run(batch: Batch) -> tuple[Tensor, ...]:
            axis, counts = batch.shift.double().numpy(), batch.counts.numpy()
            key = (axis.tobytes(), len(counts))
            if key not in open_:
                while open_:
                    open_.popitem()[1].close()
                graph = compose(model, axis)
                try:  # what the daemon would not run is not measured
                    open_[key] = open_engine(REFERENCE, graph, len(counts), threads)
                except EngineError as error:
                    raise EngineError(f"{card.name} on {error}") from None
            return tuple(map(torch.from_numpy, open_[key].retrieve(counts).values()))

        return run

    return Candidate(card.name, card.target, str(training.get("data", "")), on, training.get("seed"))


def of_checkpoint(path: Path) -> Model:
    """The model that a training's checkpoint would make. Raises TrainingError."""
    content = load(path)
    name, data = str(content["network"]), str(content.get("settings", {}).get("data"))
    if data not in DISTRIBUTIONS:
        raise TrainingError(f"{path} was trained on '{data}', which is not known here")
    drawn = distribution(data, kept_reference(content, path))(0, 1, 1)
    network = finished(content, drawn.lengths, path)
    card = Card(
        name=f"{path.parent.name or name} ({content['step']} steps)",
        version="0",
        grid_step_cm1=drawn.grid_step,
        stride=network.stride,
        min_length=network.min_length,
        scaling=drawn.scaling,
        target=drawn.target,
        description="A training's checkpoint.",
        training={"data": data, "seed": content["settings"].get("seed")},
        accuracy={},
        fixed_length=network.fixed_length,
        pitch_cm1=drawn.pitch_cm1 if "pitch" in network.inputs else (),
    )
    made = to_onnx(network, asdict(card))
    return Model(made, card, hashlib.sha256(made).hexdigest())
