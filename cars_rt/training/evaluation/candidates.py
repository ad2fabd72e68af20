"""A model that is to be evaluated, whatever it is: a file, a shipped model, a training's checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from cars_rt.engines import Model, ModelError, load_model
from cars_rt.engines.base import usable_cores
from cars_rt.engines.soundness import said
from cars_rt.training.checkpoint import load, load_weights
from cars_rt.training.data.batch import cropped, padded
from cars_rt.training.data.distribution import DISTRIBUTIONS
from cars_rt.training.evaluation.scores import Retrieve, retrieve
from cars_rt.training.networks import build
from cars_rt.training.settings import TrainingError


@dataclass(frozen=True)
class Candidate:
    """A model by name, and how to run it."""

    name: str
    target: str  # "ratio" or "chi3"; see `cars_rt.engines.model.Card`
    trained_on: str
    grid_step: float  # cm-1
    on: Callable[[int], Retrieve]
    """The model on so many threads, as a function of scaled spectra of any length."""


def candidate(name: str) -> Candidate:
    """A training's checkpoint (.pt), a model's file (.onnx), or a shipped model by name.

    Raises TrainingError or ModelError, in one sentence, if there is none or it cannot be used.
    """
    return _of_checkpoint(Path(name)) if Path(name).suffix == ".pt" else of_model(load_model(name))


def of_model(model: Model) -> Candidate:
    """An ONNX model in ONNX Runtime on the CPU: the network alone, not the deployment graph."""
    card = model.card

    def on(threads: int) -> Retrieve:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = 4  # an error is raised, and said once
        try:
            session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a dozen kinds of its own
            raise ModelError(f"ONNX Runtime cannot compile {card.name}: {said(error)}") from None
        given = session.get_inputs()[0].name
        there = [output.name for output in session.get_outputs()]
        wanted = [name for name in ("raman", "deviation") if name in there]
        if "raman" not in wanted:
            raise ModelError(f"the model {card.name} has no output called 'raman'")

        def run(spectrum: Tensor) -> tuple[Tensor, ...]:
            try:
                found = session.run(wanted, {given: np.ascontiguousarray(spectrum.numpy())})
            except Exception as error:
                raise ModelError(f"{card.name} fails on {spectrum.shape[1]} points: {said(error)}") from None
            if any(each.shape != tuple(spectrum.shape) for each in found):
                raise ModelError(
                    f"the model {card.name} gives other lengths than the {spectrum.shape[1]} points it got"
                )
            return tuple(map(torch.from_numpy, found))

        return _fitted(run, card.stride, card.fixed_length)

    trained_on = str(card.training.get("data", ""))
    return Candidate(card.name, card.target, trained_on, card.grid_step_cm1, on)


def _of_checkpoint(path: Path) -> Candidate:
    content = load(path)
    name, data = str(content["network"]), str(content.get("settings", {}).get("data"))
    if data not in DISTRIBUTIONS:
        raise TrainingError(f"{path} was trained on '{data}', which is not known here")
    trained_on = DISTRIBUTIONS[data](0, 1, 1)
    network = build(name, trained_on.lengths)
    load_weights(network, content["average"], path)
    network.eval()

    def on(threads: int) -> Retrieve:
        run = _fitted(retrieve(network), network.stride, network.fixed_length)

        def limited(spectrum: Tensor) -> tuple[Tensor, ...]:
            before = torch.get_num_threads()
            torch.set_num_threads(threads or usable_cores())
            try:
                return run(spectrum)
            finally:
                torch.set_num_threads(before)

        return limited

    label = f"{path.parent.name or name} ({content['step']} steps)"
    return Candidate(label, trained_on.target, data, trained_on.grid_step, on)


def _fitted(run: Retrieve, stride: int, fixed_length: int) -> Retrieve:
    """For spectra of any length: padded to a multiple of the stride, or resampled to a fixed length."""

    def fitted(spectrum: Tensor) -> tuple[Tensor, ...]:
        length = spectrum.shape[1]
        if fixed_length and length != fixed_length:
            return tuple(_resampled(each, length) for each in run(_resampled(spectrum, fixed_length)))
        return tuple(cropped(each, length) for each in run(padded(spectrum, stride)))

    return fitted


def _resampled(spectra: Tensor, length: int) -> Tensor:
    """(b, n) to (b, length) by linear interpolation from end to end."""
    return torch.nn.functional.interpolate(spectra[:, None], length, mode="linear", align_corners=True)[:, 0]
