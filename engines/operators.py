"""ONNX operators as PyTorch functions: those that the networks and their deployment graphs use.

An operator is made once from its node's attributes and constant inputs, and then called with tensors.
Shapes and other integers stay on the CPU, so that nothing waits for a GPU and a CUDA graph can be captured.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Operator = Callable[..., Any]
Attributes = Mapping[str, Any]


class UnsupportedError(ValueError):
    """An operator, or a form of it, that is not here."""


def operator(kind: str, attributes: Attributes, constants: list[Tensor | None]) -> Operator:
    """The function for a node. constants: its inputs, None where they are computed. Raises
    UnsupportedError."""
    if kind == "GRU":
        return gru(attributes, constants)
    if kind == "Gather":
        return gather(attributes, constants[1])
    if kind in PLAIN:
        if attributes:  # of an older opset, where it says by them what is an input today
            raise UnsupportedError(f"the operator {kind} with {', '.join(sorted(attributes))}")
        return PLAIN[kind]
    if kind not in WITH_ATTRIBUTES:
        known = ", ".join(sorted(["GRU", "Gather", *PLAIN, *WITH_ATTRIBUTES]))
        raise UnsupportedError(f"the operator {kind}; there are {known}")
    function = WITH_ATTRIBUTES[kind]
    return lambda *inputs: function(attributes, *inputs)


def convolution(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Conv in one or two dimensions."""
    ndim = weight.ndim - 2
    x, padding = _padded(attributes, x, ndim)
    function = _of_dimensions(ndim, functional.conv1d, functional.conv2d)
    return function(  # type: ignore[no-any-return]
        x,
        weight,
        bias,
        attributes.get("strides", [1] * ndim),
        padding,
        attributes.get("dilations", [1] * ndim),
        attributes.get("group", 1),
    )


def transposed(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """ConvTranspose in one or two dimensions."""
    ndim = weight.ndim - 2
    pads = attributes.get("pads", [0] * (2 * ndim))
    if attributes.get("auto_pad", "NOTSET") != "NOTSET" or pads[:ndim] != pads[ndim:]:
        raise UnsupportedError("ConvTranspose with padding that differs at both ends")
    function = _of_dimensions(ndim, functional.conv_transpose1d, functional.conv_transpose2d)
    return function(  # type: ignore[no-any-return]
        x,
        weight,
        bias,
        attributes.get("strides", [1] * ndim),
        pads[:ndim],
        attributes.get("output_padding", [0] * ndim),
        attributes.get("group", 1),
        attributes.get("dilations", [1] * ndim),
    )


def gru_parameters(weights: Tensor, recurrent: Tensor, bias: Tensor, layer: int = 0) -> dict[str, Tensor]:
    """A GRU's weights (directions, 3 hidden, inputs or hidden) and biases (directions, 6 hidden) as ONNX has
    them, by the names that torch.nn.GRU has for those of a layer. ONNX has the gates in the order update,
    reset, hidden; PyTorch has reset first."""
    found = {}
    for number, suffix in enumerate(("", "_reverse")[: len(weights)]):
        parts = (weights[number], recurrent[number], *bias[number].chunk(2))
        for kind, value in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), parts, strict=True):
            update, reset, new = value.chunk(3)
            found[f"{kind}_l{layer}{suffix}"] = torch.cat([reset, update, new])
    return found


def gru(attributes: Attributes, constants: list[Tensor | None]) -> Operator:
    """GRU over constant weights; PyTorch's own, which is cuDNN's on a GPU."""
    weights, recurrent, bias = (constants + [None] * 3)[1:4]
    direction = attributes.get("direction", "forward")
    if (
        weights is None
        or recurrent is None
        or bias is None
        or direction == "reverse"
        or not attributes.get("linear_before_reset", 0)
        or {"activations", "clip", "layout"} & {key for key, value in attributes.items() if value}
    ):
        raise UnsupportedError("GRU other than PyTorch exports it")
    hidden = int(attributes["hidden_size"])
    layer = torch.nn.GRU(weights.shape[2], hidden, bidirectional=direction == "bidirectional")
    with torch.no_grad():
        for name, value in gru_parameters(weights, recurrent, bias).items():
            getattr(layer, name).copy_(value)
    layer = layer.to(weights.device, weights.dtype).eval()
    layer.flatten_parameters()

    def run(x: Tensor, *inputs: Tensor | None) -> tuple[Tensor, Tensor]:
        lengths, state = (inputs + (None,) * 5)[3:5]
        if lengths is not None:
            raise UnsupportedError("GRU with a length of its own for each sequence")
        y, last = layer(x, None if state is None else state.to(x))
        steps, batch, _ = y.shape
        return y.view(steps, batch, -1, hidden).transpose(1, 2), last

    return run


def gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha A B + beta C, A and B transposed on demand."""
    product = (a.T if attributes.get("transA") else a) @ (b.T if attributes.get("transB") else b)
    product = product * attributes["alpha"] if attributes.get("alpha", 1.0) != 1 else product
    return product if c is None else product + attributes.get("beta", 1.0) * c


def normalisation(
    attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """BatchNormalization with running statistics."""
    return functional.batch_norm(x, mean, variance, scale, bias, eps=attributes.get("epsilon", 1e-5))


def reduction(function: Callable[..., Tensor]) -> Operator:
    """ReduceX; the axes are an attribute, or an input since opset 13 (sum) or 18."""

    def run(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = attributes.get("axes") if axes is None else axes.tolist()
        if not chosen and attributes.get("noop_with_empty_axes"):
            return x
        return function(x, dim=chosen or list(range(x.ndim)), keepdim=bool(attributes.get("keepdims", 1)))

    return run


def gather(attributes: Attributes, constant: Tensor | None) -> Operator:
    """Gather: one index, or an array of them, whose dimensions take the place of the axis. constant: the
    indices, where the graph has them; some may count from the end, which a GPU takes for no place at all."""
    of_shapes = None if constant is None else constant.cpu()
    from_start = of_shapes is not None and bool((of_shapes >= 0).all())

    def run(x: Tensor, indices: Tensor) -> Tensor:
        axis = attributes.get("axis", 0) % x.ndim
        if of_shapes is not None and x.device != indices.device:  # nothing is to wait for a copy
            indices = of_shapes
        places = indices if from_start else indices % x.shape[axis]
        found = x.index_select(axis, places.reshape(-1))
        return found.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])

    return run


def sliced(
    x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    """Slice, forwards."""
    count = len(starts)
    places = [slice(None)] * x.ndim
    for axis, start, end, step in zip(
        range(count) if axes is None else axes.tolist(),
        starts.tolist(),
        ends.tolist(),
        [1] * count if steps is None else steps.tolist(),
        strict=True,
    ):
        if step < 1:
            raise UnsupportedError("Slice backwards")
        places[axis] = slice(start, end, step)
    return x[tuple(places)]


def reshaped(attributes: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    """0 keeps a length, -1 is what is left."""
    lengths = [
        x.shape[place] if length == 0 and not attributes.get("allowzero") else length
        for place, length in enumerate(shape.tolist())
    ]
    return x.reshape(lengths)


def squeezed(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Without the axes of length 1."""
    chosen = attributes.get("axes") if axes is None else axes.tolist()
    return x.squeeze() if chosen is None else x.squeeze(tuple(chosen))


def unsqueezed(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """With new axes of length 1."""
    chosen = attributes["axes"] if axes is None else axes.tolist()
    ndim = x.ndim + len(chosen)
    for axis in sorted(axis % ndim for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def flattened(attributes: Attributes, x: Tensor) -> Tensor:
    """Two dimensions, split at an axis."""
    first = 1
    for length in x.shape[: attributes.get("axis", 1)]:  # from the end if it is negative
        first *= length
    return x.reshape(first, -1)


def divided(a: Tensor, b: Tensor) -> Tensor:
    """Integers towards 0."""
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")


def clipped(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Between two bounds, each optional."""
    return x if low is None and high is None else torch.clamp(x, low, high)


def constant_of_shape(attributes: Attributes, shape: Tensor) -> Tensor:
    """Filled with one value."""
    value = attributes.get("value", torch.zeros(1))
    device = attributes["device"] if value.is_floating_point() else None
    return torch.full(shape.tolist(), value.item(), dtype=value.dtype, device=device)


def folded(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """Of any number of inputs, from two at a time."""

    def run(first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)
        return first

    return run


def _padded(attributes: Attributes, x: Tensor, ndim: int) -> tuple[Tensor, list[int]]:
    """The input, padded here if both ends differ, and the padding that is left for the convolution."""
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise UnsupportedError(f"Conv with auto_pad {attributes['auto_pad']}")
    pads = attributes.get("pads", [0] * (2 * ndim))
    if pads[:ndim] == pads[ndim:]:
        return x, pads[:ndim]
    ends = [length for axis in reversed(range(ndim)) for length in (pads[axis], pads[axis + ndim])]
    return functional.pad(x, ends), [0] * ndim


def _of_dimensions(ndim: int, one: Operator, two: Operator) -> Operator:
    if ndim not in (1, 2):
        raise UnsupportedError(f"a convolution in {ndim} dimensions")
    return one if ndim == 1 else two


PLAIN: dict[str, Operator] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "Atan": torch.atan,
    "Clip": clipped,
    "Cos": torch.cos,
    "Div": divided,
    "Exp": torch.exp,
    "Expand": lambda x, shape: x * torch.ones(shape.tolist(), dtype=x.dtype, device=x.device),
    "Identity": lambda x: x,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Max": folded(torch.maximum),
    "Min": folded(torch.minimum),
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Pow": torch.pow,
    "Relu": torch.relu,
    "Shape": lambda x: torch.tensor(x.shape),
    "Sigmoid": torch.sigmoid,
    "Sin": torch.sin,
    "Slice": sliced,
    "Softplus": functional.softplus,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Sum": folded(torch.add),
    "Tanh": torch.tanh,
}
WITH_ATTRIBUTES: dict[str, Operator] = {
    "BatchNormalization": normalisation,
    "Cast": lambda attributes, x: x.to(attributes["to"]),
    "Concat": lambda attributes, *parts: torch.cat(parts, attributes["axis"]),
    "ConstantOfShape": constant_of_shape,
    "Conv": convolution,
    "ConvTranspose": transposed,
    "Flatten": flattened,
    "Gemm": gemm,
    "LeakyRelu": lambda attributes, x: functional.leaky_relu(x, attributes.get("alpha", 0.01)),
    "ReduceMax": reduction(torch.amax),
    "ReduceMean": reduction(torch.mean),
    "ReduceMin": reduction(torch.amin),
    "ReduceSum": reduction(torch.sum),
    "Reshape": reshaped,
    "Squeeze": squeezed,
    "Transpose": lambda attributes, x: x.permute(attributes.get("perm") or list(range(x.ndim))[::-1]),
    "Unsqueeze": unsqueezed,
}
