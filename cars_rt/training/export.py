"""From a checkpoint to the ONNX model that engines run, with its card inside."""

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cars_rt.engines.model import CARD_KEY, CLASSICAL, MAX_NAME, is_word
from cars_rt.installation import pip_install
from cars_rt.printable import printable
from cars_rt.storage import refuse_missing_folder, refuse_target, replacing
from cars_rt.training.calibration import SEED as CALIBRATION_SEED
from cars_rt.training.calibration import calibrate
from cars_rt.training.checkpoint import TOLD, finished, kept_reference, load
from cars_rt.training.data.distribution import distribution, measured_by
from cars_rt.training.evaluation.scores import evaluate, retrieve
from cars_rt.training.networks import Published, Retrieval, inputs
from cars_rt.training.networks.layers import PHASES
from cars_rt.training.settings import HELD_OUT_SEED, TrainingError

OPSET = 17
VERSION = "1"
SCALED = {"mean": "counts over their mean", "minmax": "counts between 0 and 1"}
TARGETS = {"ratio": "Im{chi_R} / chi_NR", "chi3": "Im chi_R with max |chi_R| = 1"}
TOLERANCE = 2e-4  # of the largest value, between ONNX Runtime and torch, both float32


def export(
    checkpoint: Path,
    output: Path,
    name: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the averaged weights of a checkpoint as ONNX and return the card.

    Input `spectrum` (batch, length) float32, scaled as the card says; outputs `raman` and, where the
    network has it, `deviation`, the same shape. Both sizes are dynamic; the length is a multiple of the
    card's stride. The file is compared with torch at several sizes before it takes its place
    (atomically). `progress` is told the batches that the deviation's calibration has done and will do, which
    takes a minute or two.
    Raises TrainingError for an unusable checkpoint or name, a missing package, a failed comparison or, unless
    `overwrite`, an output that exists; StorageError if its folder is not there.
    """
    if not is_word(name) or name in CLASSICAL:
        raise TrainingError(
            f"{printable(name, MAX_NAME)!r} is no name of a model: give one of 1 to {MAX_NAME} characters in "
            f"one line that is not {' or '.join(CLASSICAL)}"
        )
    refuse_missing_folder(output.absolute().parent)  # before the minutes that the calibration takes
    refuse_target(output)
    if output.exists() and not overwrite:
        raise _exists(output)
    content = load(checkpoint)
    trained_on, reference = content["settings"]["data"], kept_reference(content, checkpoint)
    model = finished(content, distribution(trained_on, reference)(0, 1, 1).lengths, checkpoint)
    judged = distribution(measured_by(trained_on), reference)
    data = judged(HELD_OUT_SEED, 16, 1)
    if isinstance(model, Retrieval) and not content.get("calibrated"):
        calibrate(model, judged(CALIBRATION_SEED, 64, 1), progress)
    card = {
        "name": name,
        "version": VERSION,
        "network": content["network"],
        "grid_step_cm1": round(data.grid_step, 6),
        **({"pitch_cm1": list(data.pitch_cm1)} if "pitch" in model.inputs else {}),
        "stride": model.stride,
        "min_length": model.min_length,
        "fixed_length": model.fixed_length,
        "scaling": data.scaling,
        "target": data.target,
        "description": "Removes the non-resonant background of broadband CARS spectra: "
        f"{SCALED[data.scaling]} in, {TARGETS[data.target]} out.",
        "training": _training(content, model),
        "accuracy": {data.name: evaluate(retrieve(model), data, 64)},
    }
    serialized = to_onnx(model, card)
    compare(serialized, model)
    try:
        with replacing(output, overwrite=overwrite) as file:
            file.write(serialized)
    except FileExistsError:  # made meanwhile
        raise _exists(output) from None
    return card


def _exists(output: Path) -> TrainingError:
    return TrainingError(f"{output} exists already; choose another name or give --overwrite")


def _training(content: dict[str, Any], model: Retrieval | Published) -> dict[str, Any]:
    settings = content["settings"]
    if missing := {*TOLD, "steps"} - settings.keys():
        raise TrainingError(f"the checkpoint does not say {sorted(missing)[0]} of its training")
    return {
        **{key: settings[key] for key in TOLD},
        **({"reference": Path(settings["reference"]).name} if settings.get("reference") else {}),
        **({"start": Path(settings["start"]).name} if settings.get("start") else {}),
        "steps": content["step"],
        "planned_steps": content["step"] if settings.get("minutes") else settings["steps"],
        "spectra": content["step"] * settings["batch"],
        "hours": round(content.get("seconds", 0) / 3600, 2),
        "hardware": content.get("hardware", "not recorded"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "torch": content.get("torch", "not recorded"),
    }


def to_onnx(model: Retrieval | Published, card: dict[str, Any]) -> bytes:
    """The model with its card as serialized ONNX. Raises TrainingError if the onnx package is missing."""
    try:
        import onnx
    except ImportError:
        raise TrainingError(f"exporting needs the package onnx: {pip_install('onnx')}") from None
    points = 8 * model.stride if not model.fixed_length else model.fixed_length
    example = inputs(model, torch.rand(2, points) + 0.5, torch.full((points,), 2.0))
    sizes = {0: "batch", 1: "length"}
    given, outputs = list(model.inputs), list(model.outputs)
    dynamic = dict.fromkeys(("spectrum", *outputs), sizes) | {"pitch": {1: "length"}}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # The older exporter on purpose: it leaves a lean file, without stack traces in the nodes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, example, path, dynamo=False, opset_version=OPSET, input_names=given,
            output_names=outputs, dynamic_axes={name: dynamic[name] for name in (*given, *outputs)},
        )  # fmt: skip
        graph = onnx.load(path)
    _simplify(graph, outputs)
    graph.graph.name = str(card["name"])
    graph.producer_name, graph.producer_version, graph.doc_string = "cars-rt", str(card["version"]), ""
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del graph.metadata_props[:]
    graph.metadata_props.add(key=CARD_KEY, value=json.dumps(card, indent=1))
    onnx.checker.check_model(graph, full_check=True)
    return bytes(graph.SerializeToString())


def _simplify(graph: Any, outputs: list[str]) -> None:
    """Give every computed Reshape a constant shape (0: as the input), let recurrent layers start from
    zero by default, and drop the nodes that computed either.

    All such reshapes of the networks keep the batch and are (b, length) -> (b, t, phases) or back, so
    engines need no shape arithmetic."""
    import onnx

    constants = {node.output[0] for node in graph.graph.node if node.op_type == "Constant"}
    for node in graph.graph.node:
        if node.op_type == "Reshape" and node.input[1] not in constants:
            shape = [0, -1] if node.output[0] in outputs else [0, -1, PHASES]
            constant = onnx.numpy_helper.from_array(np.array(shape, np.int64), node.output[0] + "_shape")
            graph.graph.initializer.append(constant)
            node.input[1] = constant.name
        elif node.op_type == "GRU" and len(node.input) > 5:
            node.input[5] = ""
    while True:
        used = {name for node in graph.graph.node for name in node.input} | set(outputs)
        dead = [node for node in graph.graph.node if not used.intersection(node.output)]
        if not dead:
            break
        for node in dead:
            graph.graph.node.remove(node)
    for initializer in [each for each in graph.graph.initializer if each.name not in used]:
        graph.graph.initializer.remove(initializer)


def compare(serialized: bytes, model: Retrieval | Published) -> None:
    """Compare an ONNX model with torch at several batch sizes and lengths.

    Raises TrainingError if they differ by more than `TOLERANCE`, or if onnxruntime is missing."""
    try:
        import onnxruntime
    except ImportError:
        raise TrainingError(f"the export is checked with onnxruntime: {pip_install('onnxruntime')}") from None
    session = onnxruntime.InferenceSession(serialized, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    stride = model.stride
    shortest = -(-model.min_length // stride) * stride
    lengths = [shortest, shortest + stride, 45 * stride, 50 * stride]
    if model.fixed_length:
        lengths = [model.fixed_length] * 2
    for batch, length in zip((1, 3, 16, 2), lengths, strict=False):
        spectrum = np.exp(0.5 * random.standard_normal((batch, length))).astype(np.float32)
        spectrum[0, :5] = (-1.0, 0.0, 1e-9, 100.0, -1e-3)  # the network must stand zeros and negatives
        pitch = random.uniform(0.7, 5, (1, length)).astype(np.float32)
        given = dict(zip(model.inputs, (spectrum, pitch), strict=False))
        found = session.run(list(model.outputs), given)
        with torch.no_grad():
            expected = model(*map(torch.from_numpy, given.values()))
        for name, values, wanted in zip(model.outputs, found, expected, strict=True):
            difference = float(np.abs(values - wanted.numpy()).max()) / max(1.0, float(wanted.abs().max()))
            if values.shape != wanted.shape or not difference < TOLERANCE:
                raise TrainingError(
                    f"the ONNX model's {name} differs from torch by {difference:.1e} at {batch} x {length}"
                )
