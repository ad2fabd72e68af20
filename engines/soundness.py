"""Whether an ONNX file is a network that `cars_rt.engines.graph` can compose, and if not, why not."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

import onnx
from google.protobuf.message import Message
from onnx import AttributeProto, TensorProto, ValueInfoProto, numpy_helper

from cars_rt.engines.constants import constants
from cars_rt.protocol import NETWORK_OUTPUTS

Kind = TypeVar("Kind", bound=Message)
OUTPUTS = ("raman", *NETWORK_OUTPUTS)
PITCH = "pitch"  # the name of a second input
MOST_TURNS = 10_000  # of a loop: nothing stops an engine amid a batch
#: These end with what they go through, as long as that may be: by themselves, but not one within another.
THROUGH = frozenset({"GRU", "LSTM", "RNN", "Scan", "SequenceMap"})
OLDEST = 10  # opset: since then a Slice takes its ends as inputs, as in what is composed around a network
HALVES = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
LONGEST_SAID = 200  # characters of what a checker or an engine says


def fault(model: onnx.ModelProto, fixed_length: int) -> str | None:
    """What is wrong with a network that takes spectra (batch, length) float32, and perhaps the `PITCH` of
    their points (1, length), or None.

    fixed_length: the length that its card says, 0 for any. What continues the words "the model X ..." is
    returned; it names the remedy where there is one.
    """
    elsewhere = sorted({_location(each) for each in _within(model, TensorProto) if each.data_location})
    if elsewhere:
        return (
            f"keeps its weights in another file ({', '.join(elsewhere)}), for which no hash would vouch; "
            "make one file of the two: python -c \"import onnx; onnx.save(onnx.load('OLD'), 'NEW')\""
        )
    if model.functions:  # nobody composes them, and calls within calls take a checker any time
        return (
            'defines functions of its own; put them in place: python -c "import onnx, onnx.inliner as i; '
            "onnx.save(i.inline_local_functions(onnx.load('OLD')), 'NEW')\""
        )
    if any(graph.sparse_initializer for graph in _within(model, onnx.GraphProto)):
        return "has sparse weights (sparse_initializer), which are not taken; export it with dense ones"
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker's own, and others of what it is written in
        return f"is no sound ONNX: {said(error)}"
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 1)
    if opset < OLDEST:
        return f"has the opset {opset} and needs {OLDEST} or newer; export it with a newer one, such as 17"
    if endless := _endless(model.graph, {}, MOST_TURNS):
        return (
            f"has a {endless}, and no constant says that it ends after {MOST_TURNS:,} turns; export it with "
            "all steps written out"
        )
    weights = {entry.name for entry in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    pitch = [value for value in inputs if value.name == PITCH and len(inputs) == 2]
    inputs = [value for value in inputs if value not in pitch]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        return f"has {len(inputs)} inputs ({names}); it must have one, spectra (batch, length)"
    if pitch and (_unlike_spectra(pitch[0]) or pitch[0].type.tensor_type.shape.dim[0].dim_value != 1):
        return f"takes a {PITCH!r} that is not (1, length) of float32"
    if wrong := _unlike_spectra(inputs[0]):
        return f"takes {wrong} as {inputs[0].name!r}, not spectra (batch, length) of float32"
    batch, length = inputs[0].type.tensor_type.shape.dim
    if batch.dim_value:
        return f"takes batches of {batch.dim_value} only; export it with a first dimension that is free"
    if length.dim_value != fixed_length and length.dim_value:
        return (
            f"takes {length.dim_value} points only, and its card says "
            f"{f'fixed_length {fixed_length}' if fixed_length else 'nothing of a fixed_length'}"
        )
    for value in model.graph.output:
        if value.name in OUTPUTS and (wrong := _unlike_spectra(value)):
            return f"gives {wrong} as {value.name!r}, not spectra (batch, length) of float32"
    return None


def length_given(model: onnx.ModelProto, output: str, length: int) -> int | None:
    """How many points an output has if the network is given so many; None where that cannot be told."""
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    constants = {entry.name for entry in asked.graph.initializer}
    for value in asked.graph.input:
        if value.name not in constants and not value.type.tensor_type.shape.dim[1].dim_value:
            value.type.tensor_type.shape.dim[1].dim_value = length
    for value in asked.graph.output:  # what it says of itself is not asked
        value.type.tensor_type.ClearField("shape")
    del asked.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(asked, data_prop=True)
    shape = next(v.type.tensor_type.shape for v in inferred.graph.output if v.name == output)
    return (shape.dim[1].dim_value or None) if len(shape.dim) == 2 else None


def computes_in_half(model: onnx.ModelProto) -> bool:
    """Whether a graph itself, and not an engine's choice, has numbers of 16 bits."""
    made = (entry.i for entry in _within(model, AttributeProto) if entry.name == "to")
    return not HALVES.isdisjoint({*made, *(each.data_type for each in _within(model, TensorProto))})


def said(error: BaseException) -> str:
    """The first line of an error, not too long."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return first if len(first) <= LONGEST_SAID else first[:LONGEST_SAID] + "..."


def _unlike_spectra(value: ValueInfoProto) -> str:
    """What a value is instead of (batch, length) float32; nothing if it is that."""
    if not value.type.HasField("tensor_type"):
        return "something else than a tensor"
    tensor = value.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        return f"numbers of type {TensorProto.DataType.Name(tensor.elem_type).lower()}"
    return "" if len(tensor.shape.dim) == 2 else f"{len(tensor.shape.dim)} dimensions"


def _location(tensor: TensorProto) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "nowhere")


def _endless(graph: onnx.GraphProto, outside: Mapping[str, TensorProto], most: int) -> str:
    """What may take more turns than that, with those within it; nothing if all ends. outside: constants
    around it."""
    known = constants(graph, outside)
    for node in graph.node:
        within = most
        if node.op_type in THROUGH:
            if most < MOST_TURNS:
                return f"{node.op_type} within another loop"
            within = 1
        elif node.op_type == "Loop":
            turns = _turns(known.get(node.input[0])) if node.input else None
            if turns is None or turns > most:
                return "Loop"
            within = most // max(turns, 1)
        for body in (each for entry in node.attribute for each in (entry.g, *entry.graphs)):
            if endless := _endless(body, known, within):
                return endless
    return ""


def _turns(constant: TensorProto | None) -> int | None:
    """The number in a constant, None if there is none."""
    if constant is None or any(size != 1 for size in constant.dims):
        return None
    try:
        return int(numpy_helper.to_array(constant).item())
    except (ValueError, TypeError):
        return None


def _within(message: Message, kind: type[Kind]) -> Iterator[Kind]:
    """All messages of a kind, wherever ONNX may have one. Of tensors: initializers, attributes, branches,
    functions."""
    if isinstance(message, kind):
        yield message
    for field, value in message.ListFields():
        if isinstance(value, Message):
            yield from _within(value, kind)
        elif field.type == field.TYPE_MESSAGE:  # a list of them
            for each in value:
                yield from _within(each, kind)
