"""A graph for ONNX Runtime whose results do not depend, to the last bit, on how many spectra share a batch.

Over the channels of one spectrum alone ONNX Runtime sums in another order than over those of several: it
takes the batch of one for no dimension at all. A convolution of width one is the same mean, and sums in one
order. So a spectrum that the daemon computes by itself, as at low rates, and the same spectrum that `process`
computes among others have the same result.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

CHANNELS = 1  # the axis


def steady(serialized: bytes) -> bytes:
    """The same graph with its means over channels so written, if there are any."""
    model = onnx.load_model_from_string(serialized)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        each.name: [at.dim_value for at in each.type.tensor_type.shape.dim] for each in inferred.value_info
    }
    changed = False
    for node in model.graph.node:
        shape = shapes.get(node.input[0], []) if node.input else []
        if not _is_mean_of_channels(node) or len(shape) <= CHANNELS + 1 or not shape[CHANNELS]:
            continue
        width = shape[CHANNELS]
        share = np.full((1, width, *[1] * (len(shape) - 2)), 1 / width, np.float32)
        weights = f"{node.output[0]}/share"
        model.graph.initializer.append(numpy_helper.from_array(share, weights))
        node.CopyFrom(helper.make_node("Conv", [node.input[0], weights], [*node.output], node.name))
        changed = True
    return bytes(model.SerializeToString()) if changed else serialized


def _is_mean_of_channels(node: onnx.NodeProto) -> bool:
    """Whether it takes the mean of the channels alone and keeps their place."""
    given = {each.name: each for each in node.attribute}
    return (
        node.op_type == "ReduceMean"
        and "axes" in given
        and list(given["axes"].ints) == [CHANNELS]
        and ("keepdims" not in given or given["keepdims"].i == 1)
    )
