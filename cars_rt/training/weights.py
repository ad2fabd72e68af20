"""Weights to start a training from: a checkpoint's, or those of a model (ONNX)."""

from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from cars_rt.engines.model import ModelError, load_model
from cars_rt.engines.operators import gru_parameters
from cars_rt.training.checkpoint import load, load_weights
from cars_rt.training.networks import Published, Retrieval
from cars_rt.training.networks.unbiased import Unbiased
from cars_rt.training.settings import TrainingError


def start_from(network: Retrieval | Published, source: str) -> None:
    """Give a network the weights of a checkpoint (.pt), an .onnx file, or a shipped model's name.

    Raises TrainingError if there are none, or if they are another architecture's.
    """
    path = Path(source)
    if path.suffix == ".pt":
        content = load(path)
        load_weights(network, content["average"], path)
        if content.get("calibrated"):
            _as_trained(network)
        return
    try:
        model = load_model(source)
    except ModelError as error:
        raise TrainingError(str(error)) from None
    graph = onnx.load_model_from_string(model.onnx).graph
    weights = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
    weights |= dict(_recurrent(graph, network, weights))
    bias = weights.get("head.bias")
    weights = _fitting(weights, network)
    wanted = network.state_dict()
    if not {name for name, _ in network.named_parameters()} <= weights.keys():
        raise TrainingError(f"the model {source} is of another architecture than this network")
    load_weights(network, {name: weights.get(name, value) for name, value in wanted.items()}, path)
    if weights.get("head.bias") is bias:  # and not the network's own
        _as_trained(network)


def _as_trained(network: Retrieval | Published) -> None:
    """What is made a model of is set for averages already, and will be once more after this training."""
    if isinstance(network, Unbiased):
        network.set_for_averages(back=True)


def _fitting(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """With the network's own head where the other one gives other fields, and with its own constants, which
    are how it is computed now."""
    found, learnt = dict(weights), {name for name, _ in network.named_parameters()}
    for name, wanted in network.state_dict().items():
        given = weights.get(name)
        other = given is not None and given.shape != wanted.shape
        if other and (name not in learnt or name.startswith("head.")):
            found[name] = wanted
    return found


def _recurrent(
    graph: onnx.GraphProto, network: nn.Module, constants: dict[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """GRU weights by torch's names."""
    nodes = iter(node for node in graph.node if node.op_type == "GRU")
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.GRU):
            continue
        for number in range(layer.num_layers):
            node = next(nodes, None)
            if node is None:
                return
            weights, recurrent, bias = (constants[each] for each in node.input[1:4])
            for key, value in gru_parameters(weights, recurrent, bias, number).items():
                yield f"{name}.{key}", value
