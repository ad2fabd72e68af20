"""`chain.cu` on an NVIDIA GPU, beside PyTorch: compiled by NVRTC, launched on the current stream."""

import ctypes
import functools
import hashlib
import logging
from importlib.resources import files
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from cars_rt.engines.base import EngineError
from cars_rt.engines.chained.chain import Chain, UnchainedError
from cars_rt.engines.chained.table import Table, packed, slopes, tabulate
from cars_rt.engines.program import Replacement
from cars_rt.engines.tensorrt.plans import Plans

log = logging.getLogger("cars_rt.engines.torch")

THREADS = 384  # of a block, as chain.cu is compiled for
LEAST = (8, 0)  # compute capability that has its instructions
RESERVED = 1024  # bytes of shared memory that each block takes beside its own


class Kernel:
    """A chain as one call, a block to a spectrum. Weights lie on the GPU once, a table for each length that
    comes."""

    def __init__(self, content: bytes, device: torch.device) -> None:
        """content: an ONNX graph. Raises UnchainedError, with the reason, where it cannot be."""
        self._chain = chain = Chain(onnx.load_model_from_string(content).graph)
        self._device = device
        self._properties: Any = torch.cuda.get_device_properties(device)
        capability = torch.cuda.get_device_capability(device)
        if capability < LEAST:
            raise UnchainedError("compute capability {}.{} lacks its instructions".format(*capability))
        weights, biases = packed(chain)
        self._weights = torch.from_numpy(weights).to(device)  # this also makes the context for the module
        self._biases = torch.from_numpy(biases).to(device)
        self._function = _function("sm_{}{}".format(*capability))
        self._largest = _allow(self._function, self._properties)
        self._slopes = slopes(chain)
        self._tables: dict[int, tuple[Table, Tensor]] = {}

    def __call__(self, features: Tensor) -> tuple[Tensor, ...]:
        """(b, channels, 1, points) float32 to the results, float32. Raises UnchainedError where a spectrum
        does not fit into a multiprocessor."""
        features = features.contiguous()
        spectra, channels, _, points = features.shape
        table, layers = self._tables.get(points) or self._table(points)
        shared = table.shared_bytes
        if shared > self._largest:
            raise UnchainedError(f"a spectrum of {points} columns takes {shared >> 10} KiB of shared memory")
        last = self._chain.convolutions[-1].channels
        result = torch.empty(spectra, last, 1, table.points, device=features.device)
        weights, biases = self._weights.data_ptr(), self._biases.data_ptr()
        values = (
            *(features.data_ptr(), result.data_ptr(), channels, points, last * table.points),
            *(table.row, table.size, layers.data_ptr(), len(table.layers), weights, biases, self._slopes),
        )
        _launch(self._function, spectra, shared, values)
        return (result,) * len(self._chain.outputs)

    @property
    def replacement(self) -> Replacement:
        """What it is in the graph's place."""
        return Replacement(self, self._chain.input, self._chain.outputs, self._chain.made)

    @property
    def roomy(self) -> bool:
        """Whether two blocks go into a multiprocessor, of all lengths that came. Where only one does, the GPU
        waits for it at each step, and many spectra are computed faster one convolution after the other."""
        room = self._properties.shared_memory_per_multiprocessor
        return all(2 * (table.shared_bytes + RESERVED) <= room for table, _ in self._tables.values())

    def _table(self, points: int) -> tuple[Table, Tensor]:
        table = tabulate(self._chain, points)
        layers = torch.from_numpy(table.layers.view(np.int32)).to(self._device)
        self._tables[points] = table, layers
        return table, layers


_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
_TYPES = (
    *(_POINTER, _POINTER, _INT, _INT, _INT, _INT, _INT),
    *(_POINTER, _INT, _POINTER, _POINTER, ctypes.c_uint),
)


def _launch(function: Any, blocks: int, shared: int, values: tuple[int, ...]) -> None:
    from cuda.bindings import driver

    stream = torch.cuda.current_stream().cuda_stream
    _answer(driver.cuLaunchKernel(function, blocks, 1, 1, THREADS, 1, 1, shared, stream, (values, _TYPES), 0))


def _allow(function: Any, properties: Any) -> int:
    """Let each launch ask for as much shared memory as there is, bytes, which is returned. The same for all
    networks, since they share the function, and may be launched by several threads."""
    from cuda.bindings import driver

    attributes = driver.CUfunction_attribute
    fixed = attributes.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES
    most = int(properties.shared_memory_per_block_optin)
    most -= int(_answer(driver.cuFuncGetAttribute(fixed, function)))
    asked = attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    _answer(driver.cuFuncSetAttribute(function, asked, most))
    return most


@functools.cache
def _function(architecture: str) -> Any:
    """Loaded into the current context. Raises UnchainedError."""
    binary = kept(architecture)
    try:
        from cuda.bindings import driver
    except ImportError as error:  # it was there when the binary was compiled
        raise UnchainedError(f"it needs the package cuda-bindings ({error})") from None
    module = _answer(driver.cuModuleLoadData(binary))
    return _answer(driver.cuModuleGetFunction(module, b"chain"))


def source() -> bytes:
    """The kernel and the instructions that it is made of."""
    folder = files("cars_rt.engines.chained")
    return b"".join(folder.joinpath(name).read_bytes() for name in ("instructions.cuh", "chain.cu"))


def kept(architecture: str) -> bytes:
    """As `compiled`, which is done once: the binary is kept beside the plans of TensorRT, by the hash of its
    source."""
    digest = hashlib.sha256(source()).hexdigest()[:16]
    try:
        return Plans().fetch(f"chain-{architecture}-{digest}", lambda: compiled(architecture))
    except EngineError as error:
        log.warning("%s; the kernel is compiled at each start", error)
        return compiled(architecture)


def compiled(architecture: str) -> bytes:
    """The kernel for an architecture, such as "sm_90"; needs no GPU. Raises UnchainedError."""
    try:
        from cuda.bindings import nvrtc

        program = _answer(nvrtc.nvrtcCreateProgram(source(), b"chain.cu", 0, [], []))
        options = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17"]
        _answer(nvrtc.nvrtcCompileProgram(program, len(options), options))
        binary = b" " * int(_answer(nvrtc.nvrtcGetCUBINSize(program)))
        _answer(nvrtc.nvrtcGetCUBIN(program, binary))
        nvrtc.nvrtcDestroyProgram(program)
        return binary
    except UnchainedError:
        raise
    except Exception as error:  # one of them is not there, of which each release says so otherwise
        raise UnchainedError(f"it needs cuda-bindings and NVRTC ({str(error).splitlines()[0]})") from None


def _answer(answer: tuple[Any, ...]) -> Any:
    """What a function of NVIDIA's gives after its code. Raises UnchainedError."""
    code, *values = answer
    if int(code) != 0:
        raise UnchainedError(f"NVIDIA's driver or compiler says {code.name}")
    return values[0] if values else None
