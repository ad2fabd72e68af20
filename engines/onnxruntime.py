"""ONNX Runtime: on the CPU, the reference engine in the core install; and on NVIDIA GPUs."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cars_rt.engines.base import Engine, EngineError, Slab, usable_cores
from cars_rt.engines.graph import COUNTS, DARK
from cars_rt.engines.soundness import said
from cars_rt.engines.steady import steady
from cars_rt.installation import pip_install


class OnnxRuntime(Engine):
    """Runs the graph on the CPU in float32, from the input slab to the output slabs in place."""

    name: ClassVar[str] = "onnxruntime"
    reentrant: ClassVar[bool] = True
    provider: ClassVar[str] = "CPUExecutionProvider"
    options: ClassVar[dict[str, Any]] = {}

    @classmethod
    def unavailable(cls) -> str | None:
        """Always available: it is part of the core install."""
        return None

    def _compile(self, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        # Spinning threads would take the cores that the driver and the recorder need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # errors are raised, and told by the code that catches them
        try:
            self._session = onnxruntime.InferenceSession(
                steady(self.graph.onnx), options, providers=[(self.provider, self.options)]
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
        self._bindings = [self._session.io_binding() for _ in self.inputs]
        self._given: dict[str, NDArray[Any]] = {}
        self._give({DARK: np.zeros(self.graph.pixels, np.float32), **self.graph.parameters})

    def set_dark(self, dark: Slab) -> None:
        self._give({DARK: np.asarray(dark, np.float32)})

    def _set(self, parameters: Mapping[str, NDArray[Any]]) -> bool:
        self._give(parameters)
        return True

    def _give(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Where the session is on a GPU, what is bound is copied there now, and not with each batch."""
        for name, value in values.items():
            kept = self._given[name] = np.array(value, order="C")
            for binding in self._bindings:
                binding.bind_input(name, "cpu", 0, kept.dtype.type, kept.shape, kept.ctypes.data)

    def launch(self, slab: int, rows: int) -> None:
        """Computes at once: here and on ONNX Runtime's own threads, and the GIL is free meanwhile."""
        binding, shape, place = self._bindings[slab], (rows, self.graph.pixels), ("cpu", 0, np.float32)
        binding.bind_input(COUNTS, *place, shape, self.inputs[slab].ctypes.data)
        for name, result in self.results(slab).items():
            binding.bind_output(name, *place, shape, result.ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed on {rows} spectra: {said(error)}") from None

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
    def unavailable(cls) -> str | None:
        """Needs the other build of the package."""
        if cls.provider in onnxruntime.get_available_providers():
            return None
        return f"needs the package onnxruntime-gpu in place of onnxruntime: {pip_install('onnxruntime-gpu')}"
