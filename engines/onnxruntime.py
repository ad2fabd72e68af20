"""ONNX Runtime: on the CPU, the reference engine in the core install; and on NVIDIA GPUs."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, ClassVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cars_rt.engines.base import Engine, EngineError, Slab, usable_cores
from cars_rt.engines.graph import COUNTS, DARK
from cars_rt.engines.soundness import said
from cars_rt.engines.steady import steady
from cars_rt.installation import pip_install
from cars_rt.printable import counted

LEAST_ROWS = 2  # spectra for which another core is woken


class OnnxRuntime(Engine):
    """Runs the graph on the CPU in float32, from the input slab to the output slabs in place.

    Cores share a batch by its rows, each from the first node to the last: they wait for each other once and
    not at each node, and what a sum is made of does not depend on how many they are.
    """

    name: ClassVar[str] = "onnxruntime"
    reentrant: ClassVar[bool] = True
    provider: ClassVar[str] = "CPUExecutionProvider"
    options: ClassVar[dict[str, Any]] = {}
    _pool: ThreadPoolExecutor | None = None  # of the lanes but the first, which is the thread that launches
    _session: Any = None  # once it is compiled, until it is closed
    _bindings: list[list[Any]]
    _given: dict[str, NDArray[Any]]

    @classmethod
    def unavailable(cls) -> str | None:
        """Always available: it is part of the core install."""
        return None

    def _compile(self, threads: int) -> None:
        threads = threads or usable_cores()
        self._lanes = min(threads, max(self.max_batch // LEAST_ROWS, 1)) if self.reentrant else 1
        if self._lanes > 1:
            self._pool = ThreadPoolExecutor(self._lanes - 1, "onnxruntime")
        self._load(self.graph.parameters, np.zeros(self.graph.pixels, np.float32))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False)
        self._session, self._bindings, self._given = None, [], {}
        super().close()

    def _load(self, parameters: Mapping[str, NDArray[Any]], dark: Slab) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised, and told by the code that catches them
        try:
            content, fixed = steady(self.graph.onnx, parameters)
            self._session = onnxruntime.InferenceSession(
                content, options, providers=[(self.provider, self.options)]
            )
        except Exception as error:  # ONNX Runtime raises a dozen kinds of its own
            raise EngineError(
                f"ONNX Runtime cannot compile {self.graph.model.card.name}: {said(error)}"
            ) from None
        if self.provider not in self._session.get_providers():  # it falls back without an error
            raise EngineError(
                f"ONNX Runtime has {self.provider} but cannot use it; install the CUDA and cuDNN libraries "
                "that its version asks for, or use onnxruntime"
            )
        self._bindings = [[self._session.io_binding() for _ in range(self._lanes)] for _ in self.inputs]
        self._given = {}
        self._fixed = {name: parameters[name] for name in fixed}
        self._give({DARK: dark, **parameters})

    def set_dark(self, dark: Slab) -> None:
        self._give({DARK: np.asarray(dark, np.float32)})

    def _set(self, parameters: Mapping[str, NDArray[Any]]) -> bool:
        """Those that are constants here are compiled in, which takes tens of milliseconds."""
        if all(np.array_equal(value, parameters[name]) for name, value in self._fixed.items()):
            self._give(parameters)
        else:
            self._load(parameters, self._given[DARK])
        return True

    def _give(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Where the session is on a GPU, what is bound is copied there now, and not with each batch."""
        for name in values.keys() - self._fixed.keys():
            value = values[name]
            kept = self._given[name] = np.array(value, order="C")
            for binding in (each for lanes in self._bindings for each in lanes):
                binding.bind_input(name, "cpu", 0, kept.dtype.type, kept.shape, kept.ctypes.data)

    def launch(self, slab: int, rows: int) -> None:
        """Computes at once; the GIL is free meanwhile. Each lane has a share of the rows."""
        lanes = min(self._lanes, max(rows // LEAST_ROWS, 1))
        bounds = [rows * lane // lanes for lane in range(lanes + 1)]
        others = [
            self._pool.submit(self._run, slab, lane, bounds[lane], bounds[lane + 1])
            for lane in range(1, lanes)
            if self._pool is not None
        ]
        try:
            self._run(slab, 0, 0, bounds[1])
        finally:
            wait(others)
        for each in others:
            each.result()

    def _run(self, slab: int, lane: int, first: int, last: int) -> None:
        binding, place = self._bindings[slab][lane], ("cpu", 0, np.float32)
        shape = (last - first, self.graph.pixels)
        binding.bind_input(COUNTS, *place, shape, self.inputs[slab][first:].ctypes.data)
        for name, result in self.results(slab).items():
            binding.bind_output(name, *place, shape, result[first:].ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime failed on {counted(last - first, 'spectrum')}: {said(error)}"
            ) from None

    def wait(self, slab: int) -> None:
        """Nothing is left to wait for."""

    def describe(self) -> str:
        device = self.provider.removesuffix("ExecutionProvider")
        return f"{self.name} {onnxruntime.__version__}, {device}, {self.precision}"


class OnnxRuntimeCuda(OnnxRuntime):
    """The same on an NVIDIA GPU; it copies between the slabs and the GPU itself."""

    name: ClassVar[str] = "onnxruntime-cuda"
    reentrant: ClassVar[bool] = False
    provider: ClassVar[str] = "CUDAExecutionProvider"
    options: ClassVar[dict[str, Any]] = {"use_tf32": "0"}  # float32 means float32

    @classmethod
    def fragile(cls) -> bool:
        """As all that runs kernels on a GPU."""
        return True

    @classmethod
    def unavailable(cls) -> str | None:
        """Needs the other build of the package."""
        if cls.provider in onnxruntime.get_available_providers():
            return None
        return f"needs the package onnxruntime-gpu in place of onnxruntime: {pip_install('onnxruntime-gpu')}"
