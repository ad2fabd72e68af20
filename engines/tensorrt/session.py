"""A plan on the GPU: buffers, streams and contexts for batches up to its size."""

import traceback
from dataclasses import dataclass
from functools import partial
from typing import Any

from cars_rt.engines.base import EngineError, Slab, batch_sizes
from cars_rt.engines.graph import COUNTS, DARK
from cars_rt.engines.tensorrt.device import Device
from cars_rt.engines.tensorrt.messages import Messages
from cars_rt.engines.tensorrt.product import Product
from cars_rt.engines.tensorrt.recipe import Key, profile_of

ROW = 4  # bytes of a number in a row


@dataclass(frozen=True)
class Slot:
    """What one slab has on the GPU."""

    counts: int  # address, (batch, pixels) float32
    results: dict[str, int]  # address of each output, the same shape
    uploaded: Any  # events
    computed: Any
    downloaded: Any


class Session:
    """Computes batches with a plan, several under way at once: one is copied in, one computed, one copied
    out, each kind of work on its own stream.

    Each size of batch has an execution context of its own, as a captured graph demands; they share their
    scratch memory, since one stream runs them one after the other.
    Raises EngineError if the plan does not suit this GPU or version or has other inputs and outputs than
    the graph, OutOfMemoryError if the GPU's memory does not suffice. Call `close` then, too.
    """

    def __init__(
        self,
        device: Device,
        product: Product,
        plan: bytes,
        key: Key,
        pixels: int,
        outputs: tuple[str, ...],
        slabs: int,
        kernels: bytes = b"",
    ) -> None:
        """kernels: what `kernels` gave for this plan on this GPU earlier, or nothing."""
        self.batch = key.profiles[-1][2]
        self.graphs: dict[tuple[int, int], Any] = {}  # of (slab, size), where work could be captured
        self._device, self._key, self._pixels, self._outputs = device, key, pixels, outputs
        self._sizes = batch_sizes(self.batch)
        self._contexts: dict[int, Any] = {}
        self._config: Any = None
        self._cache: Any = None
        self._trt = product.load()
        self._messages = Messages(self._trt)
        self._runtime = self._trt.Runtime(self._messages.logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        try:
            if self._engine is None:
                raise self._messages.error(f"{product.title} cannot load the plan of {key.model} on this GPU")
            self._check()
            self._config, self._cache = self._configure(kernels) if product.ahead else (None, None)
            self._upload, self._compute, self._download = (device.stream() for _ in range(3))
            self._dark = device.allocate(pixels * ROW)
            self._slots = [self._slot() for _ in range(slabs)]
            self._dark_there = device.event()
            self._open()
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # a context in there would outlive its engine
            self.close()
            raise

    @property
    def kernels(self) -> bytes:
        """Kernels that were compiled for this GPU when the plan was opened, which TensorRT-RTX does only
        then; empty for TensorRT."""
        return b"" if self._cache is None else bytes(memoryview(self._cache.serialize()))

    def set_dark(self, dark: Slab) -> None:
        """Subtract this dark (1, pixels), pinned, from batches launched from now on."""
        self._device.upload(self._dark, dark, self._compute)  # in order with what is computed
        self._device.record(self._dark_there, self._compute)
        self._device.wait(self._dark_there)

    def launch(self, slab: int, counts: Slab, results: dict[str, Slab]) -> None:
        """Begin computing counts (rows, pixels) into results, of the same shape, in the slab's place.

        More rows than the plan takes at once are computed in parts, one after the other.
        """
        device, slot = self._device, self._slots[slab]
        for part in parts(len(counts), self.batch):
            device.hold(self._upload, slot.computed)  # the part before has been read,
            device.upload(slot.counts, counts[part], self._upload)
            device.record(slot.uploaded, self._upload)
            device.hold(self._compute, slot.uploaded)
            device.hold(self._compute, slot.downloaded)  # and its results fetched
            self._enqueue(slab, next(size for size in self._sizes if size >= part.stop - part.start))
            device.record(slot.computed, self._compute)
            device.hold(self._download, slot.computed)
            for name, result in results.items():
                device.download(result[part], slot.results[name], self._download)
            device.record(slot.downloaded, self._download)

    def wait(self, slab: int) -> None:
        """Return when the slab's results are there."""
        self._device.wait(self._slots[slab].downloaded)

    def close(self) -> None:
        """Let go of contexts, engine and runtime, in this order. The device's memory is the device's."""
        self.graphs.clear()
        self._contexts.clear()
        self._config = self._cache = None
        self._engine = None
        self._runtime = None

    def _check(self) -> None:
        """The plan's inputs and outputs are the graph's."""
        expected = {COUNTS: (-1, self._pixels), DARK: (self._pixels,)}
        expected |= dict.fromkeys(self._outputs, (-1, self._pixels))
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        found = {name: tuple(engine.get_tensor_shape(name)) for name in names}
        if found != expected or any(
            engine.get_tensor_dtype(name) != self._trt.DataType.FLOAT for name in names
        ):
            raise EngineError(f"the plan of {self._key.model} is for another graph: it has {found}")

    def _slot(self) -> Slot:
        size = self.batch * self._pixels * ROW
        allocate, event = self._device.allocate, self._device.event
        results = {name: allocate(size) for name in self._outputs}
        return Slot(allocate(size), results, event(), event(), event())

    def _configure(self, kernels: bytes) -> tuple[Any, Any]:
        """How TensorRT-RTX compiles kernels: all of them before the first batch, or what is captured would
        be those that stand in for them."""
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(
            self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        config.dynamic_shapes_kernel_specialization_strategy = (
            self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        cache = config.create_runtime_cache()
        if kernels:
            cache.deserialize(kernels)  # False if they are of another GPU or version: compiled again
        config.set_runtime_cache(cache)
        return config, cache

    def _open(self) -> None:
        """A context for each size; computed once each, so that nothing is set up while it measures."""
        needed = max(int(self._engine.device_memory_size_v2), 1)
        scratch = self._device.allocate(needed)
        for size in self._sizes:
            context = self._engine.create_execution_context(
                self._config or self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
            )
            if context is None:
                raise self._messages.error(f"no context for batches of {size}")
            self._contexts[size] = context
            context.set_device_memory(scratch, needed)
            profile = profile_of(size, self._key.profiles)
            if not context.set_optimization_profile_async(profile, self._compute):
                raise self._messages.error(f"no profile for batches of {size}")
            if not context.set_input_shape(COUNTS, (size, self._pixels)) or context.infer_shapes():
                raise self._messages.error(f"the plan refuses batches of {size}")
            self._enqueue(0, size)
            self._settle()
            for slab in range(len(self._slots)):
                graph = self._device.capture(self._compute, partial(self._enqueue, slab, size))
                if graph is None:  # a loop, or a package without graphs: as well without
                    break
                self.graphs[slab, size] = graph
            self._enqueue(0, size)
            self._settle()

    def _enqueue(self, slab: int, size: int) -> None:
        graph = self.graphs.get((slab, size))
        if graph is not None:
            self._device.replay(graph, self._compute)
            return
        context, slot = self._contexts[size], self._slots[slab]
        addresses = {COUNTS: slot.counts, DARK: self._dark} | slot.results
        self._messages.clear()
        if not all(context.set_tensor_address(name, at) for name, at in addresses.items()):
            raise self._messages.error("an address is refused")
        if not context.execute_async_v3(self._compute):
            raise self._messages.error(f"a batch of {size} was not computed")

    def _settle(self) -> None:
        event = self._slots[0].computed
        self._device.record(event, self._compute)
        self._device.wait(event)


def parts(rows: int, batch: int) -> list[slice]:
    """So many rows in slices of at most a batch."""
    return [slice(first, min(first + batch, rows)) for first in range(0, rows, batch)]
