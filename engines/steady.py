"""A graph for ONNX Runtime whose results do not depend, to the last bit, on how many spectra share a batch.

Over the channels of one spectrum alone, or the taps of its splines, ONNX Runtime sums in another order than
over those of several: it takes the batch of one for no dimension at all. A convolution of width one is the
same mean or sum, and adds in one order. So a spectrum that the daemon computes by itself, as at low rates,
and the same spectrum that `process` computes among others have the same result.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

CHANNELS = 1  # the axis


def steady(serialized: bytes) -> bytes:
    """The same graph with its means and sums over channels so written, if there are any."""
    model = onnx.load_model_from_string(serialized)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        each.name: [at.dim_value for at in each.type.tensor_type.shape.dim] for each in inferred.value_info
    }
    constants = {
        each.name: numpy_helper.to_array(each) for each in model.graph.initializer if list(each.dims) == [1]
    }
    changed = False
    for node in model.graph.node:
        shape = shapes.get(node.input[0], []) if node.input else []
        if not _is_of_channels(node, constants) or len(shape) <= CHANNELS + 1 or not shape[CHANNELS]:
            continue
        width = shape[CHANNELS]
        weight = 1 / width if node.op_type == "ReduceMean" else 1
        share = np.full((1, width, *[1] * (len(shape) - 2)), weight, np.float32)
        weights = f"{node.output[0]}/share"
        model.graph.initializer.append(numpy_helper.from_array(share, weights))
        node.CopyFrom(helper.make_node("Conv", [node.input[0], weights], [*node.output], node.name))
        changed = True
    return bytes(model.SerializeToString()) if changed else serialized


def _is_of_channels(node: onnx.NodeProto, constants: Mapping[str, NDArray[Any]]) -> bool:
    """Whether it takes the mean or the sum of the channels alone and keeps their place."""
    given = {each.name: each for each in node.attribute}
    if node.op_type not in ("ReduceMean", "ReduceSum") or ("keepdims" in given and not given["keepdims"].i):
        return False
    if "axes" in given:
        return list(given["axes"].ints) == [CHANNELS]
    axes = constants.get(node.input[1]) if len(node.input) > 1 else None
    return axes is not None and axes.tolist() == [CHANNELS]
