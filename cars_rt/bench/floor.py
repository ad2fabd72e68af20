"""The least time that a network could take: its multiply-adds, at the rate of one large matrix product."""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

from cars_rt.engines import Card, Graph, Model
from cars_rt.engines.graph import COUNTS, DARK, NETWORK, RAMAN

PRODUCT = "matrix product"
SIDE = 1024  # of the matrix: large enough that caches are used well, small enough that they hold it

Shape: TypeAlias = tuple[int, ...]


def product_graph() -> Graph:
    """Spectra of SIDE points by a matrix (SIDE, SIDE), as a graph that every engine runs."""
    matrix = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32) / SIDE
    nodes = [
        helper.make_node("Sub", [COUNTS, DARK], ["signal"]),
        # The name says that it belongs to the network: engines may compute it in half precision.
        helper.make_node("MatMul", ["signal", f"{NETWORK}matrix"], [RAMAN], f"{NETWORK}product"),
    ]
    counts, raman = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", SIDE]) for name in (COUNTS, RAMAN)
    )
    dark = helper.make_tensor_value_info(DARK, TensorProto.FLOAT, [SIDE])
    graph = helper.make_graph(
        nodes, PRODUCT, [counts, dark], [raman], [numpy_helper.from_array(matrix, f"{NETWORK}matrix")]
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    card = Card(PRODUCT, "1", 2.0, 1, 2, "mean", "ratio", "One matrix product.", {}, {})
    return Graph(content.SerializeToString(), np.arange(500.0, 500.0 + SIDE), Model(b"", card, ""))


def multiply_adds(graph: Graph) -> int:
    """Multiply-adds for one spectrum in convolutions, matrix products and recurrent layers.

    Counted from the shapes that arrays have when ONNX Runtime computes one spectrum.
    """
    proto = onnx.load_model_from_string(graph.fixed)
    nodes = [node for node in proto.graph.node if node.op_type in COUNTS_OF]
    shapes: dict[str, Shape] = {each.name: tuple(each.dims) for each in proto.graph.initializer}
    wanted = {name for node in nodes for name in (*node.input, *node.output) if name} - set(shapes)
    known = {each.name for each in (*proto.graph.input, *proto.graph.output)}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted - known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = {COUNTS: np.ones((1, graph.pixels), np.float32), DARK: np.zeros(graph.pixels, np.float32)}
    names = [each.name for each in session.get_outputs()]
    shapes |= {name: array.shape for name, array in given.items()}
    shapes |= {name: array.shape for name, array in zip(names, session.run(names, given), strict=True)}
    return sum(COUNTS_OF[node.op_type](node, shapes) for node in nodes)


def _convolution(node: NodeProto, shapes: dict[str, Shape]) -> int:
    return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])


def _transposed_convolution(node: NodeProto, shapes: dict[str, Shape]) -> int:
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _product(node: NodeProto, shapes: dict[str, Shape]) -> int:
    transposed = any(each.name == "transA" and each.i for each in node.attribute)
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else -1]


def _recurrent(node: NodeProto, shapes: dict[str, Shape]) -> int:
    steps = math.prod(shapes[node.input[0]][:2])  # length and batch
    return steps * sum(math.prod(shapes[name]) for name in node.input[1:3])


COUNTS_OF: dict[str, Callable[[NodeProto, dict[str, Shape]], int]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "MatMul": _product,
    "Gemm": _product,
    "GRU": _recurrent,
    "LSTM": _recurrent,
}
