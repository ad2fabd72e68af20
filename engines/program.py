"""A deployment graph as a list of PyTorch calls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from cars_rt.engines import constants
from cars_rt.engines.operators import Operator, UnsupportedError, operator

DTYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.BOOL: torch.bool,
}


@dataclass(frozen=True)
class Replacement:
    """A function of one tensor that stands for a part of a graph."""

    function: Operator
    takes: str
    gives: tuple[str, ...]
    made: frozenset[str]  # the names of all that this part makes, its results among them


class Program:
    """Calls one operator after the other, in the types that the graph says. No shape is fixed; nothing waits
    for the device.
    """

    def __init__(self, content: bytes, device: torch.device, replacement: Replacement | None = None) -> None:
        """content: an ONNX graph. replacement: what computes a part of it at once. Raises UnsupportedError
        for an operator that is not here, protobuf's errors for what is no graph."""
        graph = onnx.load_model_from_string(content).graph
        self._device = device
        self._constants = {entry.name: _tensor(entry) for entry in graph.initializer}
        self._outputs = [value.name for value in graph.output]
        steps = []
        waiting = replacement
        for node in _needed(graph):
            if replacement and node.output[0] in replacement.made:
                if waiting:
                    steps.append(_Step(waiting.function, [waiting.takes], list(waiting.gives)))
                    waiting = None
                continue
            if node.op_type == "Constant" and (made := constants.made(node)) is not None:
                self._constants[node.output[0]] = _tensor(made)
                continue
            attributes = {entry.name: _attribute(entry) for entry in node.attribute}
            steps.append(self._step(node, attributes))
        self._steps = steps
        last = {name: number for number, step in enumerate(steps) for name in step.inputs}
        kept = {*self._constants, *self._outputs}
        for number, step in enumerate(steps):
            step.done = [
                name
                for name in {*step.inputs, *step.outputs}
                if last.get(name, number) == number and name not in kept
            ]

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The graph's outputs by name, float32."""
        values: dict[str, Any] = {"": None, **self._constants, **inputs}
        for step in self._steps:
            found = step(values)
            values.update(zip(step.outputs, found if isinstance(found, tuple) else (found,), strict=False))
            for name in step.done:
                values.pop(name, None)
        return {name: values[name] for name in self._outputs}

    def _step(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> "_Step":
        names = []
        for name in node.input:
            constant = self._constants.get(name)
            if constant is not None and (constant.is_floating_point() or _is_index(node, name)):
                name = f"{name} there"
                self._constants[name] = self._placed(constant)
            names.append(name)
        fixed = [self._constants.get(name) for name in names]
        if node.op_type == "ConstantOfShape":
            attributes["device"] = self._device
        try:
            function = operator(node.op_type, attributes, fixed)
        except UnsupportedError as error:
            raise UnsupportedError(f"{error} (node {node.name or node.output[0]})") from None
        return _Step(function, names, list(node.output))

    def _placed(self, constant: Tensor) -> Tensor:
        """On the device; a convolution's weights there in the order that its matrix units take."""
        if self._device.type != "cpu" and constant.ndim == 4:
            return constant.to(self._device, memory_format=torch.channels_last)
        return constant.to(self._device)


class _Step:
    """One operator, and the names of what it takes and gives."""

    def __init__(self, function: Operator, inputs: list[str], outputs: list[str]) -> None:
        self.function, self.inputs, self.outputs = function, inputs, outputs
        self.done: list[str] = []  # what nobody needs after this

    def __call__(self, values: Mapping[str, Any]) -> Any:
        return self.function(*(values[name] for name in self.inputs))


def _needed(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that an output is computed from, in their order."""
    wanted = {value.name for value in graph.output}
    found = []
    for node in reversed(graph.node):
        if not wanted.isdisjoint(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]


def _is_index(node: onnx.NodeProto, name: str) -> bool:
    """Whether it may be a list of places in spectra, which lies where they do."""
    return node.op_type == "Gather" and name == node.input[1]


def _tensor(proto: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(proto).copy())


def _attribute(entry: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    if isinstance(value, bytes):
        return value.decode()
    if entry.name == "to":
        if value not in DTYPES:
            kind = onnx.TensorProto.DataType.Name(value).lower()
            raise UnsupportedError(f"numbers of the type {kind} (operator Cast)")
        return DTYPES[value]
    return list(value) if entry.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value
