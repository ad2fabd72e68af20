"""A run of convolutions in half precision, found in a graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

REACH = 2  # points beyond the ends that a convolution may see, which are zeros
UPSAMPLED = 16  # channels that an upsampling's are a multiple of: both its points then fill whole tiles


@dataclass(frozen=True)
class Curve:
    """What a layer takes: which one's output it is (-1: the chain's input), its channels, and whether it goes
    through LeakyReLU first."""

    layer: int
    channels: int
    leaky: bool = False


@dataclass
class Convolution:
    """A convolution of one curve, to which another one may be added."""

    takes: Curve
    weight: NDArray[np.float32]  # (taps, inputs, outputs); of an upsampling one the outputs of two points
    bias: NDArray[np.float32]  # (outputs,), likewise
    channels: int
    step: int
    before: int  # points that the first tap lies before
    after: int
    up: bool
    residual: Curve | None = None

    def points(self, points: int) -> int:
        """Of the output, upsampled or not."""
        if self.up:
            return 2 * points
        return (points + self.before + self.after - len(self.weight)) // self.step + 1


class Chain:
    """Everything between the first cast of a graph to half precision and the cast back, if that is nothing
    but convolutions along the spectrum, LeakyReLU, and sums and concatenations of theirs."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        """Raises UnchainedError if it is anything else."""
        self.convolutions: list[Convolution] = []
        self.slope: float | None = None
        self.channels = 0  # of the input
        self._constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
        self._curves: dict[str, tuple[Curve, ...]] = {}
        uses = [name for node in graph.node for name in node.input]
        made = []
        outputs: list[str] = []
        leaving: list[Curve] = []
        for node in graph.node:
            if not self._curves:
                if _casts_to(node, TensorProto.FLOAT16) and node.input[0] not in self._constants:
                    self.input, self.channels = node.input[0], self._width(graph, node.output[0])
                    self._curves[node.output[0]] = (Curve(-1, self.channels),)
                    made.append(node.output[0])
                continue
            taken = [name for name in node.input if name in self._curves]
            if not taken:
                continue
            if _casts_to(node, TensorProto.FLOAT):
                leaving.extend(self._curves[taken[0]])
                outputs.append(node.output[0])
            else:
                self._curves[node.output[0]] = self._follow(node, uses)
            made.extend(node.output)
        if not outputs:
            raise UnchainedError("there is none")
        if any(each.leaky or each.layer != len(self.convolutions) - 1 for each in leaving):
            raise UnchainedError("what leaves it is not its last convolution")
        self.outputs = tuple(outputs)
        self.made = frozenset(made)  # the names of all that need not be computed otherwise

    def over(self, curve: int, number: int) -> bool:
        """Whether nothing after layer `number` takes this curve."""
        return all(
            each.takes.layer != curve and (each.residual is None or each.residual.layer != curve)
            for each in self.convolutions[number + 1 :]
        )

    def _follow(self, node: onnx.NodeProto, uses: list[str]) -> tuple[Curve, ...]:
        attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        taken = [self._curves[name] for name in node.input if name in self._curves]
        match node.op_type:
            case "Conv":
                return (self._convolution(node, attributes, taken[0]),)
            case "ConvTranspose":
                return (self._upsampling(node, attributes, taken[0]),)
            case "LeakyRelu" | "Relu":
                slope = float(attributes.get("alpha", 0.01)) if node.op_type == "LeakyRelu" else 0.0
                if self.slope not in (None, slope) or not 0 <= slope < 1:
                    raise UnchainedError("it has LeakyReLUs of several kinds")
                if any(each.leaky for each in taken[0]):
                    raise UnchainedError("LeakyReLU follows LeakyReLU")
                self.slope = slope
                return tuple(Curve(each.layer, each.channels, True) for each in taken[0])
            case "Concat" if attributes.get("axis") == 1 and len(taken) == len(node.input):
                return tuple(part for curves in taken for part in curves)
            case "Add" if len(taken) == 2 and len(taken[0]) == len(taken[1]) == 1:
                (one,), (other,) = taken
                fresh, added = (one, other) if one.layer > other.layer else (other, one)
                name = node.input[0] if fresh is one else node.input[1]
                last = self.convolutions[-1]
                known = fresh.layer == len(self.convolutions) - 1 and last.residual is None
                plain = not (fresh.leaky or added.leaky) and added.layer >= 0
                if known and plain and uses.count(name) == 1 and fresh.channels == added.channels:
                    last.residual = added
                    return (fresh,)
        raise UnchainedError(f"it has {node.op_type}")

    def _convolution(
        self, node: onnx.NodeProto, attributes: Mapping[str, Any], takes: tuple[Curve, ...]
    ) -> Curve:
        weight, bias = self._weights(node)
        if weight.ndim != 4:
            raise UnchainedError("it has a convolution of another kind")
        before, after = (list(attributes.get("pads", [0] * 4))[at] for at in (1, 3))
        step = list(attributes.get("strides", [1, 1]))[1]
        if (
            weight.shape[2] != 1
            or attributes.get("group", 1) != 1
            or set(attributes.get("dilations", [1])) != {1}
            or max(before, after) > REACH
            or weight.shape[1] != sum(each.channels for each in takes)
        ):
            raise UnchainedError("it has a convolution of another kind")
        kernel = weight[:, :, 0].transpose(2, 1, 0)
        begin, before_it = 0, None
        for each in takes:  # of a concatenation one after the other, each added to what the last one gave
            part = kernel[:, begin : begin + each.channels]
            begin += each.channels
            self.convolutions.append(
                Convolution(each, part, bias, weight.shape[0], step, before, after, False, before_it)
            )
            before_it = Curve(len(self.convolutions) - 1, weight.shape[0])
            bias = np.zeros_like(bias)
        assert before_it is not None
        return before_it

    def _upsampling(
        self, node: onnx.NodeProto, attributes: Mapping[str, Any], takes: tuple[Curve, ...]
    ) -> Curve:
        weight, bias = self._weights(node)
        channels = weight.shape[1]
        if (
            len(takes) != 1
            or weight.shape[2:] != (1, 2)
            or list(attributes.get("strides", [])) != [1, 2]
            or any(attributes.get("pads", []))
            or any(attributes.get("output_padding", []))
            or attributes.get("group", 1) != 1
            or channels % UPSAMPLED
        ):
            raise UnchainedError("it has an upsampling of another kind")
        kernel = weight[:, :, 0].transpose(0, 2, 1).reshape(1, weight.shape[0], 2 * channels)
        twice = np.concatenate([bias, bias])
        self.convolutions.append(Convolution(takes[0], kernel, twice, channels, 1, 0, 0, True))
        return Curve(len(self.convolutions) - 1, channels)

    def _weights(self, node: onnx.NodeProto) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if len(node.input) < 3 or any(name not in self._constants for name in node.input[1:]):
            raise UnchainedError("it has a convolution whose weights are no constants")
        weight, bias = (self._constants[name].astype(np.float32) for name in node.input[1:])
        return weight, bias

    def _width(self, graph: onnx.GraphProto, name: str) -> int:
        """Channels of the input, as those say that take it."""
        for node in graph.node:
            if node.op_type == "Conv" and node.input[0] == name and node.input[1] in self._constants:
                return int(self._constants[node.input[1]].shape[1])
        raise UnchainedError("it begins with no convolution")


class UnchainedError(Exception):
    """A graph has no chain; says why."""


def _casts_to(node: onnx.NodeProto, dtype: int) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == dtype
