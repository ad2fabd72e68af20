"""Every network of the registry, untrained, as a model: what engines must be able to run."""

import json
import warnings
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch

from cars_rt.engines import Model, load_model
from cars_rt.engines.model import CARD_KEY
from cars_rt.training.networks import NETWORKS, build

NAMES = list(NETWORKS)


@cache
def untrained(name: str) -> Model:
    """With the names, the scaling and the length that a trained one has."""
    torch.manual_seed(0)
    network = build(name, [1000]).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():  # would hide what lies before it
                parameter.normal_(0, 0.02)
    fixed = network.fixed_length
    sizes = {0: "batch"} if fixed else {0: "batch", 1: "length"}
    names = list(network.outputs)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network,
            (torch.rand(2, fixed or 8 * network.stride) + 0.5,),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["spectrum"],
            output_names=names,
            dynamic_axes=dict.fromkeys(("spectrum", *names), sizes),
        )
        proto = onnx.load(path)
        card: dict[str, Any] = {"name": name, "version": "0", "grid_step_cm1": 2, "stride": network.stride}
        card |= {"min_length": network.min_length, "fixed_length": fixed}
        card |= {"scaling": "minmax" if fixed else "mean", "target": "chi3" if fixed else "ratio"}
        proto.metadata_props.add(key=CARD_KEY, value=json.dumps(card))
        path.write_bytes(proto.SerializeToString())
        return load_model(str(path))
