"""The layers of a plan, for people."""

import json
from dataclasses import dataclass
from typing import Any

from cars_rt.engines.tensorrt.builder import parse
from cars_rt.engines.tensorrt.messages import Messages
from cars_rt.engines.tensorrt.product import Product
from cars_rt.engines.tensorrt.recipe import Recipe


@dataclass(frozen=True)
class Layer:
    """One layer and what it gives."""

    name: str
    kind: str
    output: str  # type and shape; -1 stands for the batch


def read_layers(recipe: Recipe) -> list[Layer]:
    """Layers as TensorRT reads them from the graph, before it fuses any, without constants and the
    arithmetic of shapes; needs no GPU.

    Raises EngineError if it cannot read the graph."""
    trt = recipe.product.load()
    messages = Messages(trt)
    builder = recipe.product.make("Builder", messages)
    network = parse(trt, builder, messages, recipe)
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return [
        _read(layer) for layer in layers if layer.type != trt.LayerType.CONSTANT and _computes(trt, layer)
    ]


def fused_layers(product: Product, plan: bytes) -> list[Layer]:
    """Layers that a plan runs. Only where `find_gpu` found one. Raises EngineError for a plan of another GPU
    or version."""
    trt = product.load()
    messages = Messages(trt)
    runtime = product.make("Runtime", messages)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise messages.error(f"{product.title} cannot load the plan on this GPU")
    described = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return parse_layers(described)


def parse_layers(described: str) -> list[Layer]:
    """What an engine inspector says, in JSON: a list of names, or of objects where it knows more."""
    found = []
    for entry in json.loads(described)["Layers"]:
        if isinstance(entry, str):
            found.append(Layer(entry, "", ""))
            continue
        outputs = [
            # One field up to TensorRT 10, two since 11.
            f"{output.get('Format/Datatype') or output.get('Datatype', '')} {output.get('Dimensions', '')}"
            for output in entry.get("Outputs", [])
        ]
        found.append(Layer(entry.get("Name", ""), entry.get("LayerType", ""), ", ".join(outputs)))
    return found


def _computes(trt: Any, layer: Any) -> bool:
    floats = (trt.DataType.FLOAT, trt.DataType.HALF)
    return any(layer.get_output(index).dtype in floats for index in range(layer.num_outputs))


def _read(layer: Any) -> Layer:
    kind = layer.type.name.lower().replace("_", " ")
    output = layer.get_output(0)
    try:
        shape = str(tuple(output.shape))
    except ValueError:  # of unknown rank
        shape = "?"
    return Layer(layer.name, kind, f"{output.dtype.name.lower()} {shape}")
