"""The network of a deployment graph in half precision, everything around it in float32.

TensorRT computes in the types that the graph names (strong typing), and so does our program of PyTorch
calls. So the graph is rewritten: layers that do the work get float16 weights, with casts where float32 meets
float16.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.defs import OpSchema, get_schema

from cars_rt.engines.constants import MAKING, constants
from cars_rt.engines.graph import NETWORK

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "GRU", "LSTM", "MatMul", "RNN"})
#: A phase of many radians, and the logarithm that it is made of, lose their digits in half precision.
PHASE = frozenset({"Cos", "Log", "Sin"})
#: These stay float32 themselves: they overflow early, or an attribute and not an input says their type.
FLOAT32_ONLY = PHASE | {"Cast", "ConstantOfShape", "Exp", "EyeLike", "Pow", "Reciprocal"}
#: Layers that find the slow background that a phase is computed from, where digits do not matter.
ROUGH = tuple(f"{NETWORK}/{part}/" for part in ("trunk", "mix", "head"))
HALF = "/half"  # appended to the name of a value: the same value in half precision


def halve(serialized: bytes) -> tuple[bytes, int]:
    """A composed graph with its network in float16, and how many nodes that are (0: none is suited).

    Half precision goes to the network's layers (convolutions, products, recurrent layers) and to what is
    between two of them. Layers that a phase is computed from stay float32, unless they are `ROUGH`, and so do
    inputs and outputs of the graph.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(serialized))
    graph = model.graph
    fixed = _take_constants(graph)
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 1)
    floats = {value.name for value in (*graph.value_info, *graph.input, *graph.output) if _is_float(value)}
    floats |= {name for name, array in fixed.items() if array.dtype == np.float32}
    chosen = _chosen(list(graph.node), floats, opset)

    nodes: list[onnx.NodeProto] = []
    initializers: dict[str, NDArray[np.generic]] = {}
    there: set[str] = set()  # values that exist in half precision
    float32_users = {value.name for value in graph.output}
    for index, node in enumerate(graph.node):
        if index not in chosen:
            float32_users |= _used(node)
    for index, node in enumerate(graph.node):
        if index not in chosen:
            nodes.append(node)
            continue
        inputs, outputs = _convertible(node, floats, opset)
        for name in sorted({node.input[at] for at in inputs} - there):
            if name in fixed:
                initializers[name + HALF] = fixed[name].astype(np.float16)
            else:
                nodes.append(
                    helper.make_node("Cast", [name], [name + HALF], name + HALF, to=TensorProto.FLOAT16)
                )
            there.add(name)
        half = onnx.NodeProto()
        half.CopyFrom(node)
        for at in inputs:
            half.input[at] += HALF
        float32_users |= {name for at, name in enumerate(node.input) if at not in inputs}
        nodes.append(half)
        for at in outputs:
            name = node.output[at]
            half.output[at] += HALF
            there.add(name)
            if name in float32_users:
                nodes.append(helper.make_node("Cast", [name + HALF], [name], name, to=TensorProto.FLOAT))

    used = float32_users
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(fixed[name], name) for name in fixed if name in used)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in initializers.items())
    onnx.checker.check_model(model)
    return model.SerializeToString(), len(chosen)


def _take_constants(graph: onnx.GraphProto) -> dict[str, NDArray[np.generic]]:
    """All constants by name; nodes that only make or rename one are taken out of the graph."""
    found = constants(graph)
    kept = [node for node in graph.node if node.op_type not in MAKING or node.output[0] not in found]
    del graph.node[:]
    graph.node.extend(kept)
    return {name: numpy_helper.to_array(each) for name, each in found.items()}


def _chosen(nodes: list[onnx.NodeProto], floats: set[str], opset: int) -> set[int]:
    """The nodes, by their place, that are to be half."""
    made_by = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    sources = [{made_by[name] for name in _used(node) if name in made_by} for node in nodes]
    before_phase = _upstream({i for i, node in enumerate(nodes) if node.op_type in PHASE}, sources)
    before_phase -= {i for i in before_phase if nodes[i].output[0].startswith(ROUGH)}
    suited = {i for i, node in enumerate(nodes) if _is_suited(node, floats, opset)} - before_phase
    layers = {i for i in suited if nodes[i].op_type in LAYERS}
    before_layer = _upstream(layers, sources)
    after_layer: set[int] = set()
    for index in range(len(nodes)):  # in topological order, as ONNX demands
        if sources[index] & (layers | after_layer):
            after_layer.add(index)
    return layers | (suited & before_layer & after_layer)


def _upstream(begin: set[int], sources: list[set[int]]) -> set[int]:
    """Everything that these nodes are computed from, without themselves unless one feeds another."""
    found: set[int] = set()
    waiting = list(begin)
    while waiting:
        fresh = sources[waiting.pop()] - found
        found |= fresh
        waiting += fresh
    return found


def _is_suited(node: onnx.NodeProto, floats: set[str], opset: int) -> bool:
    if node.domain or node.op_type in FLOAT32_ONLY or not node.output[0].startswith(NETWORK):
        return False
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        return False
    inputs, outputs = _convertible(node, floats, opset)
    return bool(inputs) and bool(outputs)


def _convertible(node: onnx.NodeProto, floats: set[str], opset: int) -> tuple[list[int], list[int]]:
    """Which inputs and outputs are float32 and may be float16, by their places."""
    schema = get_schema(node.op_type, opset)

    def those(names: list[str], parameters: list[OpSchema.FormalParameter]) -> list[int]:
        return [
            at
            for at, name in enumerate(names)
            if name in floats and "tensor(float16)" in parameters[min(at, len(parameters) - 1)].types
        ]

    return those(list(node.input), list(schema.inputs)), those(list(node.output), list(schema.outputs))


def _used(node: onnx.NodeProto) -> set[str]:
    """Names of the values that a node reads, those inside its branches and loops too."""
    found = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for inner in graph.node:
                found |= _used(inner)
            found |= {value.name for value in graph.output}
    return found


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)
