"""OpenVINO on Intel processors and graphics."""

import io
import math
import platform
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines.base import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    Engine,
    EngineError,
    Slab,
    usable_cores,
)
from cars_rt.engines.graph import COUNTS, DARK, NETWORK
from cars_rt.engines.soundness import said
from cars_rt.installation import install_extra

if TYPE_CHECKING:
    import openvino


PHASES = frozenset({"Cos", "Sin"})
LAYERS = frozenset({"Convolution", "ConvolutionBackpropData", "GRUSequence", "GroupConvolution", "MatMul"})
BARE = frozenset({"Const", "Parameter", "Result"})  # compute nothing


class OpenVino(Engine):
    """Runs the graph on the processor in float32, from the input slab to the output slabs in place."""

    name: ClassVar[str] = "openvino"
    precision: str = FLOAT32
    device: ClassVar[str] = "CPU"
    hint: ClassVar[str] = "f32"  # explicit: by itself OpenVINO takes less where the hardware has it

    @classmethod
    def unavailable(cls) -> str | None:
        """Needs the package; loads nothing."""
        return None if find_spec("openvino") else f"needs the package openvino: {install_extra('openvino')}"

    def _compile(self, threads: int) -> None:
        import openvino

        core = openvino.Core()
        properties: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": self.hint,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if self.device == "CPU":
            # One batch at a time is under way: all threads belong to one stream, and the hint for throughput
            # was no faster.
            properties |= {"INFERENCE_NUM_THREADS": threads or usable_cores(), "NUM_STREAMS": 1}
        try:
            model = core.read_model(io.BytesIO(self.graph.onnx))
            if self.precision != FLOAT32:
                kept = exact(model)
                if all_of_it(model, kept):
                    # Nothing is won with some curves in less, and OpenVINO fails on such a mixture.
                    self.precision = FLOAT32
                    properties["INFERENCE_PRECISION_HINT"] = OpenVino.hint
                else:
                    model = marked(core, model, kept)
            self._compiled = core.compile_model(model, self.device, properties)
            self._about = str(core.get_property(self.device, "FULL_DEVICE_NAME"))
        except Exception as error:  # OpenVINO raises RuntimeError and others of its own
            raise EngineError(
                f"OpenVINO cannot compile {self.graph.model.card.name}: {reason(error)}"
            ) from None
        dark = np.zeros(self.graph.pixels, np.float32)
        self._given = {DARK: dark, **{name: value.copy() for name, value in self.graph.parameters.items()}}
        self._requests = [self._request(openvino) for _ in self.inputs]

    def _request(self, openvino: Any) -> "openvino.InferRequest":
        request = self._compiled.create_infer_request()
        read = {name for port in self._compiled.inputs for name in port.names}
        for name in self._given.keys() & read:  # of what no node reads, such as a pitch, there is no input
            request.set_tensor(name, openvino.Tensor(self._given[name], shared_memory=True))
        return request

    def set_dark(self, dark: Slab) -> None:
        self._given[DARK][:] = dark

    def _set(self, parameters: Mapping[str, NDArray[Any]]) -> bool:
        for name, value in parameters.items():
            self._given[name][:] = value
        return True

    def launch(self, slab: int, rows: int) -> None:
        """Returns at once; OpenVINO's threads compute."""
        import openvino

        request = self._requests[slab]
        try:
            for name, array in {COUNTS: self.inputs[slab], **self.results(slab)}.items():
                request.set_tensor(name, openvino.Tensor(array[:rows], shared_memory=True))
            request.start_async()
        except Exception as error:
            raise EngineError(f"OpenVINO failed on {rows} spectra: {reason(error)}") from None

    def wait(self, slab: int) -> None:
        try:
            self._requests[slab].wait()
        except Exception as error:
            raise EngineError(f"OpenVINO failed: {reason(error)}") from None

    def close(self) -> None:
        self._requests = []
        self._compiled, self._given = None, {}
        super().close()

    def describe(self) -> str:
        from openvino import __version__ as version

        return f"{self.name} {version.split('-')[0]}, {self.device} ({self._about}), {self.precision}"


class OpenVinoBf16(OpenVino):
    """The same in bfloat16, where the processor has tiles for it.

    Without them (AMX), on an Intel Xeon of model 207 with only AVX-512 for bfloat16, OpenVINO 2026.4
    compiled the graph and then did not end its first inference. From 2025.4 on it did not with them either,
    where a grouped convolution of single channels was in bfloat16; the one of our networks is kept out of it.
    What leaves nothing to bfloat16 (`cnn-kk`, `rnn-kk`) is computed in float32, as `describe` says.
    """

    name: ClassVar[str] = "openvino-bf16"
    precision: str = BFLOAT16
    hint: ClassVar[str] = "bf16"

    @classmethod
    def unavailable(cls) -> str | None:
        """Needs AMX too."""
        if not _amx():
            return "this processor has no AMX for bfloat16, or the system does not say so; use openvino"
        return super().unavailable()


class OpenVinoGpu(OpenVino):
    """On Intel graphics, in half precision."""

    name: ClassVar[str] = "openvino-gpu"
    precision: str = FLOAT16
    device: ClassVar[str] = "GPU"
    hint: ClassVar[str] = "f16"

    @classmethod
    def unavailable(cls) -> str | None:
        """Needs Intel graphics with a driver."""
        if reason := super().unavailable():
            return reason
        import openvino

        if not any(device.startswith("GPU") for device in openvino.Core().available_devices):
            return "finds no Intel graphics; install their compute driver, or use openvino"
        return None


def marked(core: "openvino.Core", model: "openvino.Model", kept: Collection[str]) -> "openvino.Model":
    """The same, with the nodes of these names to be kept in float32: OpenVINO reads them from its own format
    alone."""
    import openvino

    core.set_property({"ENABLE_MMAP": False})  # the file is gone when the model is compiled
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.xml"
        openvino.serialize(model, file, file.with_suffix(".bin"))
        tree = ElementTree.parse(file)
        for layer in tree.iter("layer"):
            if layer.get("name") in kept and layer.get("type") not in BARE:
                about = layer.find("rt_info")
                about = ElementTree.SubElement(layer, "rt_info") if about is None else about
                ElementTree.SubElement(about, "attribute", name="precise", version="0")
        tree.write(file)
        return core.read_model(file)


def exact(model: "openvino.Model") -> set[str]:
    """Names of the nodes that stay in float32: all around the network, and its phases, that is what a phase
    is computed from, and what follows up to a layer. The result is a product of them; the 8 bits of a
    bfloat16 would be seen in it."""
    nodes = model.get_ordered_ops()  # each after those that it reads
    reads = {
        node.get_friendly_name(): {value.get_node().get_friendly_name() for value in node.input_values()}
        for node in nodes
    }
    found: set[str] = set()
    for node in reversed(nodes):
        if node.get_type_name() in PHASES or node.get_friendly_name() in found:
            found |= {node.get_friendly_name()} | reads[node.get_friendly_name()]
    of_parameters: set[str] = set()
    of_counts: set[str] = set()
    for node in nodes:
        name = node.get_friendly_name()
        if name in (COUNTS, DARK) or not reads[name].isdisjoint(of_counts):
            of_counts.add(name)
        elif node.get_type_name() == "Parameter" or not reads[name].isdisjoint(of_parameters):
            of_parameters.add(name)
    found |= of_parameters  # what the axis alone decides: a few numbers, for all spectra
    for node in nodes:
        name = node.get_friendly_name()
        if node.get_type_name() not in LAYERS and not reads[name].isdisjoint(found):
            found.add(name)
    # Counts and all that they are scaled by: half precision has not their range.
    found |= {name for name in reads if not name.startswith(NETWORK)}
    return found


def all_of_it(model: "openvino.Model", kept: Collection[str]) -> bool:
    """Whether nearly all weights are of layers that are kept, as where the network itself gives a phase."""
    weights = {True: 0, False: 0}
    for node in model.get_ordered_ops():
        if node.get_type_name() in LAYERS:
            given = (value.get_partial_shape() for value in node.input_values())  # spectra have any number
            size = sum(math.prod(shape.to_shape()) for shape in given if shape.is_static)
            weights[node.get_friendly_name() in kept] += size
    return 10 * weights[False] < weights[True]


def reason(error: BaseException) -> str:
    """What OpenVINO says last: before it come its own files and lines."""
    lines = str(error).strip().splitlines()
    return said(RuntimeError(lines[-1]) if lines else error)


def _amx() -> bool:
    if platform.system() != "Linux":
        return False
    try:
        return " amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
