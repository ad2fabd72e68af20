"""From a checkpoint to the ONNX model that engines run, with its card inside."""

import json
import os
import platform
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cars_rt.training.distribution import GRID_STEP
from cars_rt.training.evaluation import evaluate
from cars_rt.training.networks import NETWORKS, PHASES
from cars_rt.training.settings import TrainingError
from cars_rt.training.trainer import load, load_weights

CARD_KEY = "cars_rt.card"
OPSET = 17
VERSION = "1"
TOLERANCE = 2e-4  # of the largest value, between ONNX Runtime and torch, both float32


def export(
    checkpoint: Path, output: Path, name: str, version: str = VERSION, notes: str = ""
) -> dict[str, Any]:
    """Write the averaged weights of a checkpoint as ONNX and return the card.

    Input `spectrum` (batch, length) float32, counts over their mean; output `raman`, the same shape.
    Both sizes are dynamic; the length is a multiple of the card's stride. The file is compared with
    torch at several sizes before it takes its place (atomically). `notes` go into the card's training.
    Raises TrainingError for an unusable checkpoint, a missing package or a failed comparison.
    """
    content = load(checkpoint)
    if content["network"] not in NETWORKS:
        raise TrainingError(f"{checkpoint} is of an unknown network, '{content['network']}'")
    model = NETWORKS[content["network"]]()
    load_weights(model, content["average"], checkpoint)
    model.eval()
    stride = int(getattr(model, "stride"))
    card = {
        "name": name,
        "version": version,
        "network": content["network"],
        "grid_step_cm1": GRID_STEP,
        "stride": stride,
        "min_length": int(getattr(model, "min_length")),
        "scaling": "mean",
        "target": "ratio",
        "description": "Removes the non-resonant background of broadband CARS spectra: counts over their "
        "mean in, Im{chi_R}/chi_NR out.",
        "training": _training(content, model) | ({"notes": notes} if notes else {}),
        "accuracy": {content["settings"]["data"]: evaluate(model, content["settings"]["data"], stride)},
    }
    serialized = to_onnx(model, card)
    compare(serialized, model, stride, int(card["min_length"]))
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_suffix(".tmp")
    temporary.write_bytes(serialized)
    temporary.replace(output)
    return card


def _training(content: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    settings = content["settings"]
    wanted = ("data", "seed", "batch", "learning_rate", "weight_decay", "warmup", "average", "bfloat16")
    return {
        **{key: settings[key] for key in wanted},
        "steps": content["step"],
        "planned_steps": settings["steps"],
        "spectra": content["step"] * settings["batch"],
        "hours": round(content["seconds"] / 3600, 2),
        "hardware": f"CPU, {os.cpu_count()} cores, {platform.machine()}",
        "parameters": sum(p.numel() for p in model.parameters()),
        "torch": str(torch.__version__).split("+")[0],
    }


def to_onnx(model: nn.Module, card: dict[str, Any]) -> bytes:
    """The model with its card as serialized ONNX. Raises TrainingError if the onnx package is missing."""
    try:
        import onnx
    except ImportError:
        raise TrainingError("exporting needs the package onnx: pip install onnx") from None
    example = torch.rand(2, 8 * int(getattr(model, "stride"))) + 0.5
    sizes = {0: "batch", 1: "length"}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # The older exporter on purpose: it leaves a lean file, without stack traces in the nodes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (example,), path, dynamo=False, opset_version=OPSET, input_names=["spectrum"],
            output_names=["raman"], dynamic_axes={"spectrum": sizes, "raman": sizes},
        )  # fmt: skip
        graph = onnx.load(path)
    _fix_reshapes(graph)
    graph.graph.name = str(card["name"])
    graph.producer_name, graph.producer_version, graph.doc_string = "cars-rt", str(card["version"]), ""
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del graph.metadata_props[:]
    graph.metadata_props.add(key=CARD_KEY, value=json.dumps(card, indent=1))
    onnx.checker.check_model(graph, full_check=True)
    return bytes(graph.SerializeToString())


def _fix_reshapes(graph: Any) -> None:
    """Give every Reshape a constant shape (0: as the input), and drop the nodes that computed it.

    All reshapes of the networks keep the batch and are (b, length) -> (b, t, phases) or back, so
    engines need no shape arithmetic."""
    import onnx

    for node in graph.graph.node:
        if node.op_type == "Reshape":
            shape = [0, -1] if node.output[0] == "raman" else [0, -1, PHASES]
            constant = onnx.numpy_helper.from_array(np.array(shape, np.int64), node.output[0] + "_shape")
            graph.graph.initializer.append(constant)
            node.input[1] = constant.name
    while True:
        used = {name for node in graph.graph.node for name in node.input} | {"raman"}
        dead = [node for node in graph.graph.node if not used.intersection(node.output)]
        if not dead:
            return
        for node in dead:
            graph.graph.node.remove(node)


def compare(serialized: bytes, model: nn.Module, stride: int, min_length: int) -> None:
    """Compare an ONNX model with torch at several batch sizes and lengths.

    Raises TrainingError if they differ by more than `TOLERANCE`, or if onnxruntime is missing."""
    try:
        import onnxruntime
    except ImportError:
        raise TrainingError("the export is checked with onnxruntime: pip install onnxruntime") from None
    session = onnxruntime.InferenceSession(serialized, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    shortest = -(-min_length // stride) * stride
    for batch, length in ((1, shortest), (3, shortest + stride), (16, 45 * stride), (2, 50 * stride)):
        spectrum = np.exp(0.5 * random.standard_normal((batch, length))).astype(np.float32)
        spectrum[0, :5] = (-1.0, 0.0, 1e-9, 100.0, -1e-3)  # the network must stand zeros and negatives
        (found,) = session.run(["raman"], {"spectrum": spectrum})
        with torch.no_grad():
            expected = model(torch.from_numpy(spectrum)).numpy()
        difference = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
        if found.shape != expected.shape or not difference < TOLERANCE:
            raise TrainingError(
                f"the ONNX model differs from torch by {difference:.1e} at {batch} x {length}"
            )
