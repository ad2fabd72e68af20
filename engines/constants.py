"""The constants of an ONNX graph, whichever way it makes them."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MAKING = frozenset({"Constant", "Identity"})  # operators that only make or rename one
KINDS = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}


def constants(
    graph: onnx.GraphProto, outside: Mapping[str, TensorProto] | None = None
) -> dict[str, TensorProto]:
    """All that are known by name: initializers, what `Constant` makes, and other names of those. outside: of
    the graph around this one."""
    found = {**(outside or {}), **{each.name: each for each in graph.initializer}}
    for node in graph.node:
        if node.op_type == "Constant" and (tensor := made(node)) is not None:
            found[node.output[0]] = tensor
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def made(node: onnx.NodeProto) -> TensorProto | None:
    """What a `Constant` gives; None where that is no array of numbers."""
    for entry in node.attribute:
        if entry.name == "value":
            tensor: TensorProto = entry.t
            return tensor
        if entry.name in KINDS:
            return numpy_helper.from_array(np.array(helper.get_attribute_value(entry), KINDS[entry.name]))
    return None
