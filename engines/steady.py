"""A graph for ONNX Runtime whose results depend to no bit on the batch, the place in it, or the threads.

So a spectrum that the daemon computes by itself, as at low rates, and the same spectrum that `process`
computes among others, on one core, have the same result. Four operators are written otherwise for that:

- A mean or sum over the channels of one spectrum alone, or the taps of its splines, goes in another order
  than over those of several: ONNX Runtime takes the batch of one for no dimension at all. A convolution of
  width one is the same mean or sum, and adds in one order.
- A product with a matrix that is an input is cut into blocks by the number of threads, and one row has a
  way of its own. A constant matrix is packed beforehand, and is always cut alike: so parameters become
  constants where they are factors of a product.
- Sines, some other curves (`BY_PACKETS`) and means of points go by packets of four, and what lies before or
  behind whole packets is computed otherwise. Where a spectrum is no whole number of packets, it is padded.
- A logarithm goes by packets, too, and each thread begins where it likes. That of a sum over one value is the
  same logarithm, and goes value by value; it costs 2 us more for a spectrum of 1340 pixels.

What a model computes in another type than float32 stays as it is, as do a linear Resize and RNN, of which
the batch changes the last digits.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cars_rt.engines.constants import constants

CHANNELS = 1  # the axis
BY_PACKETS = frozenset({"Atan", "Cos", "Mish", "Sin", "Softplus"})
PACKET = 4  # values of float32 that Eigen computes at once
OPSET = 13  # and newer: logarithms and points are seen to; the shipped models have 17 and 18
AXES_ARE_INPUTS = 18  # the opset since which they are, of reductions other than the sum


def steady(
    serialized: bytes, parameters: Mapping[str, NDArray[Any]] | None = None
) -> tuple[bytes, frozenset[str]]:
    """The same graph so written, and the names of the parameters that are constants in it. parameters: of a
    deployment graph, by name."""
    model = onnx.load_model_from_string(serialized)
    factors = {name for node in model.graph.node if node.op_type == "MatMul" for name in node.input}
    fixed = {name: value for name, value in (parameters or {}).items() if name in factors}
    inputs = [value for value in model.graph.input if value.name not in fixed]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in fixed.items())
    writing = _Writing(model)
    nodes = [each for node in model.graph.node for each in writing.again(node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString()), frozenset(fixed)


class _Writing:
    """Writes the nodes of a model otherwise; what they read besides becomes constants of the model."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._constants = model.graph.initializer
        self._opset = next((entry.version for entry in model.opset_import if not entry.domain), 1)
        inferred = onnx.shape_inference.infer_shapes(model).graph
        values = [*inferred.input, *inferred.value_info, *inferred.output]
        self._shapes = {
            each.name: [at.dim_value for at in each.type.tensor_type.shape.dim] for each in values
        }
        floats = onnx.TensorProto.FLOAT
        self._other = {each.name for each in values if each.type.tensor_type.elem_type != floats}
        self._known = constants(model.graph)

    def again(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """What takes the place of a node: itself, where it is steady."""
        shape = self._shapes.get(node.input[0], []) if node.input else []
        if self._other.intersection(node.input[:1]):
            return iter([node])
        if node.op_type in ("ReduceMean", "ReduceSum"):
            axes = self._axes(node, len(shape))
            if axes == [CHANNELS] and len(shape) > CHANNELS + 1 and shape[CHANNELS]:
                return self._convolved(node, shape)
            if axes == [len(shape) - 1] and self._uneven(shape):
                return self._reduced_padded(node, shape)
        elif node.op_type in BY_PACKETS and self._uneven(shape):
            return self._padded(node, shape)
        elif node.op_type == "Log" and self._opset >= OPSET:
            return self._summed(node)
        return iter([node])

    def _uneven(self, shape: list[int]) -> bool:
        return self._opset >= OPSET and bool(shape) and shape[-1] % PACKET != 0

    def _convolved(self, node: onnx.NodeProto, shape: list[int]) -> Iterator[onnx.NodeProto]:
        width = shape[CHANNELS]
        weight = 1 / width if node.op_type == "ReduceMean" else 1
        share = np.full((1, width, *[1] * (len(shape) - 2)), weight, np.float32)
        kept = node.output[0] if _keeps(node) else f"{node.output[0]}/kept"
        given = [node.input[0], self._constant(node, "share", share)]
        yield helper.make_node("Conv", given, [kept], node.name)
        if kept == node.output[0]:
            return
        if self._opset >= OPSET:
            channels = self._constant(node, "channels", np.array([CHANNELS], np.int64))
            yield helper.make_node("Squeeze", [kept, channels], [*node.output])
        else:
            yield helper.make_node("Squeeze", [kept], [*node.output], axes=[CHANNELS])

    def _padding(self, node: onnx.NodeProto, shape: list[int]) -> tuple[str, onnx.NodeProto]:
        pads = np.zeros(2 * len(shape), np.int64)
        pads[-1] = -shape[-1] % PACKET
        padded = f"{node.output[0]}/padded"
        return padded, helper.make_node("Pad", [node.input[0], self._constant(node, "pads", pads)], [padded])

    def _padded(self, node: onnx.NodeProto, shape: list[int]) -> Iterator[onnx.NodeProto]:
        source, padding = self._padding(node, shape)
        whole = f"{node.output[0]}/whole"
        bounds = [
            self._constant(node, name, np.array([value], np.int64))
            for name, value in (("begin", 0), ("end", shape[-1]), ("last", len(shape) - 1))
        ]
        yield padding
        yield helper.make_node(node.op_type, [source], [whole], node.name)
        yield helper.make_node("Slice", [whole, *bounds], [*node.output])

    def _reduced_padded(self, node: onnx.NodeProto, shape: list[int]) -> Iterator[onnx.NodeProto]:
        source, padding = self._padding(node, shape)
        reduced = onnx.NodeProto()
        reduced.CopyFrom(node)
        reduced.input[0] = source
        yield padding
        if node.op_type == "ReduceMean":
            reduced.output[0] = f"{node.output[0]}/smaller"
            more = np.float32((shape[-1] + -shape[-1] % PACKET) / shape[-1])
            factor = self._constant(node, "factor", np.array(more))
            yield reduced
            yield helper.make_node("Mul", [reduced.output[0], factor], [*node.output])
        else:
            yield reduced

    def _summed(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        last = self._constant(node, "last", np.array([-1], np.int64))
        apart = f"{node.output[0]}/apart"
        yield helper.make_node("Unsqueeze", [node.input[0], last], [apart])
        if self._opset >= AXES_ARE_INPUTS:
            yield helper.make_node("ReduceLogSum", [apart, last], [*node.output], node.name, keepdims=0)
        else:
            yield helper.make_node("ReduceLogSum", [apart], [*node.output], node.name, axes=[-1], keepdims=0)

    def _axes(self, node: onnx.NodeProto, rank: int) -> list[int]:
        """What a reduction goes over, from the first dimension on; none where that is not known."""
        axes = next((list(each.ints) for each in node.attribute if each.name == "axes"), [])
        tensor = self._known.get(node.input[1]) if len(node.input) > 1 else None
        if tensor is not None and list(tensor.dims) == [1]:
            axes = numpy_helper.to_array(tensor).tolist()
        return [axis % rank for axis in axes] if rank else []

    def _constant(self, node: onnx.NodeProto, name: str, value: NDArray[Any]) -> str:
        full = f"{node.output[0]}/{name}"
        self._constants.append(numpy_helper.from_array(value, full))
        return full


def _keeps(node: onnx.NodeProto) -> bool:
    """Whether what a reduction goes over stays as a dimension of one."""
    return all(each.i for each in node.attribute if each.name == "keepdims")
