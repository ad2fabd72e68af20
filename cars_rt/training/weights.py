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
from cars_rt.training.networks.layers import PHASES
from cars_rt.training.settings import TrainingError


def start_from(network: Retrieval | Published, source: str) -> None:
    """Give a network the weights of a checkpoint (.pt), an .onnx file, or a shipped model's name.

    Raises TrainingError if there are none, or if they are another architecture's.
    """
    path = Path(source)
    if path.suffix == ".pt":
        load_weights(network, load(path)["average"], path)
        return
    try:
        model = load_model(source)
    except ModelError as error:
        raise TrainingError(str(error)) from None
    graph = onnx.load_model_from_string(model.onnx).graph
    weights = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
    weights |= dict(_recurrent(graph, network, weights))
    weights = _widened(weights, network, older=model.card.name == network.name)
    wanted = network.state_dict()
    if not {name for name, _ in network.named_parameters()} <= weights.keys():
        raise TrainingError(f"the model {source} is of another architecture than this network")
    load_weights(network, {name: weights.get(name, value) for name, value in wanted.items()}, path)


def _widened(weights: dict[str, Tensor], network: nn.Module, older: bool) -> dict[str, Tensor]:
    """With zeros for inputs that a layer of the network has more, the last ones; and without the head of
    one that gives other fields, but of an older version of the same, which gives less, with what it gives."""
    found, learnt = dict(weights), {name for name, _ in network.named_parameters()}
    for name, wanted in network.state_dict().items():
        given = weights.get(name)
        if given is None or given.shape == wanted.shape:
            continue
        missing = [large - small for large, small in zip(wanted.shape, given.shape, strict=True)]
        if name not in learnt:  # of how it is computed now
            found[name] = wanted
        elif name.startswith("head."):
            found[name] = _longer(given, wanted) if older and len(given) < len(wanted) else wanted
        elif missing[1:2] and missing[1] > 0 and not any(missing[:1] + missing[2:]):
            found[name] = torch.cat([given, given.new_zeros(given.shape[0], missing[1], *given.shape[2:])], 1)
    return found


def _longer(given: Tensor, wanted: Tensor) -> Tensor:
    """A head's weights with fields between the older ones and the deviation."""
    rest = wanted[len(given) - PHASES : -PHASES].to(given)
    return torch.cat([given[:-PHASES], rest, given[-PHASES:]])


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
