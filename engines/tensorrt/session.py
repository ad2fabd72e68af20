"""A plan on the GPU: buffers, streams, contexts and CUDA graphs for batches up to its size."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines.base import EVEN, EngineError, Slab, batch_sizes
from cars_rt.engines.graph import COUNTS, DARK, Graph
from cars_rt.engines.tensorrt.device import Device
from cars_rt.engines.tensorrt.messages import Messages, OutOfMemoryError
from cars_rt.engines.tensorrt.product import Product, invalidity
from cars_rt.engines.tensorrt.recipe import Key, profile_of
from cars_rt.engines.underway import say

NUMBER = 4  # bytes of a float32
FEW = 16  # up to so many rows, starting a batch takes much of its time


class PlanRefusedError(EngineError):
    """A plan that this version, GPU or driver does not take."""


@dataclass(frozen=True)
class Slot:
    """What one slab has on the GPU."""

    counts: int  # address, (batch, pixels) float32
    results: dict[str, int]  # address of each output, the same shape
    uploaded: Any  # events
    computed: Any
    downloaded: Any
    ended: Any  # comes with `downloaded`; a thread that waits for it sleeps


@dataclass(slots=True)
class Prepared:
    """Computes batches of one size in the memory of one slab."""

    context: Any  # an execution context, its shapes and addresses set
    graph: Any = None  # the CUDA graph of its work; None where that cannot be captured


class Session:
    """Computes batches with a plan, several under way at once: one is copied in, one computed, one copied
    out, each kind of work on its own stream.

    Each size of batch in each slab's place has an execution context of its own, whose shapes and addresses
    never change: a captured graph demands that. The contexts share their scratch memory, since one stream
    runs them one after the other.
    Raises EngineError if the plan does not suit this GPU or version or has other inputs and outputs than
    the graph, OutOfMemoryError if the GPU's memory does not suffice. Call `close` then, too.
    """

    def __init__(
        self,
        device: Device,
        product: Product,
        plan: bytes,
        key: Key,
        graph: Graph,
        slabs: int,
        kernels: bytes = b"",
        keep: Callable[[bytes], None] = lambda kernels: None,
    ) -> None:
        """graph: of which the plan was made, without its parameters; `set` gives others later.
        keep: is given the kernels that TensorRT-RTX compiles for this GPU when it opens a plan, after each
        size of batch; TensorRT's are in the plan. kernels: the last that it was given for this plan on this
        GPU, or nothing."""
        self.batch = key.profiles[-1][2]
        self._device, self._key, self._graph, self._pixels = device, key, graph, graph.pixels
        self._sizes = batch_sizes(self.batch)
        self._few = [size for size in self._sizes if size <= FEW]
        self._prepared: dict[tuple[int, int], Prepared] = {}  # by slab and size
        self._whole: dict[tuple[int, int], Prepared] = {}  # likewise, with graphs that hold the copies, too
        self._capturing = True  # False once a capture has failed: no other one is tried
        self._config: Any = None
        self._cache: Any = None
        self._kernels, self._keep = kernels, keep
        self._trt = product.load()
        self._messages = Messages(self._trt)
        self._engine: Any = None
        self._runtime = product.make("Runtime", self._messages)
        try:
            refused = f"{product.title} cannot load the plan of {key.model} on this GPU"
            if reasons := invalidity(self._trt, self._runtime, plan):
                raise PlanRefusedError(refused + reasons)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                error = self._messages.error(refused)
                raise error if isinstance(error, OutOfMemoryError) else PlanRefusedError(str(error))
            self._check()
            self._config, self._cache = self._configure() if product.ahead else (None, None)
            self._upload, self._compute, self._download = (device.stream() for _ in range(3))
            self._given = {DARK: device.allocate(graph.pixels * NUMBER)}
            self._given |= {name: device.allocate(value.nbytes) for name, value in graph.parameters.items()}
            self._slots = [self._slot() for _ in range(slabs)]
            self._end = [slot.downloaded for slot in self._slots]
            self._given_there = device.event()
            # Before anything is computed: some are indices into spectra, and memory that nobody has
            # written holds indices outside of them.
            self.set(graph.parameters)
            self._open()
        except BaseException as error:
            # A context that a frame of the traceback still holds would outlive its engine.
            traceback.clear_frames(error.__traceback__)
            self.close()
            raise

    @property
    def captured(self) -> tuple[int, int]:
        """How many CUDA graphs there are, and of how many that could be: one for each size in each slab's
        place, and for a small size another one that holds the copies, too."""
        computing = sum(each.graph is not None for each in self._prepared.values())
        return computing + len(self._whole), len(self._slots) * (len(self._sizes) + len(self._few))

    def set_dark(self, dark: Slab) -> None:
        """Subtract this dark (1, pixels), pinned, from batches launched from now on."""
        self.set({DARK: dark})

    def set(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Compute with these parameters in batches launched from now on. A captured graph reads them from the
        same addresses each time, so it need not be captured again."""
        kept = {name: np.ascontiguousarray(value) for name, value in values.items()}
        for name, value in kept.items():
            self._device.upload(self._given[name], value, self._compute)  # in order with what is computed
        self._device.record(self._given_there, self._compute)
        self._device.wait(self._given_there)

    def bind(self, slab: int, counts: Slab, results: dict[str, Slab]) -> None:
        """Promise to launch this slab only with the first rows of these pinned arrays. Then one graph copies
        a batch of a small size in, computes it and copies it out, begun by one call in place of ten, if that
        can be captured."""
        device = self._device
        for size in self._few if self._capturing else []:
            context = self._context(slab, size)

            def enqueue(size: int = size, context: Any = context) -> None:
                device.upload(self._slots[slab].counts, counts[:size], self._compute)
                self._execute(context, size)
                for name, result in results.items():
                    device.download(result[:size], self._slots[slab].results[name], self._compute)

            self._execute(context, size)
            self._settle()
            if (graph := device.capture(self._compute, enqueue)) is None:
                self._capturing = False
                return
            self._whole[slab, size] = Prepared(context, graph)

    def launch(self, slab: int, counts: Slab, results: dict[str, Slab]) -> None:
        """Begin computing counts (rows, pixels) into results, of the same shape, in the slab's place.

        More rows than the plan takes at once are computed in parts, one after the other.
        """
        device, slot = self._device, self._slots[slab]
        if (whole := self._whole.get((slab, len(counts)))) is not None:
            device.hold(self._compute, slot.downloaded)
            device.replay(whole.graph, self._compute)
            device.record(slot.computed, self._compute)
            device.record(slot.downloaded, self._compute)
            self._end[slab] = slot.downloaded
            return
        for part in parts(len(counts), self.batch):
            device.hold(self._upload, slot.computed)  # until the counts of the part before have been read
            device.upload(slot.counts, counts[part], self._upload)
            device.record(slot.uploaded, self._upload)
            device.hold(self._compute, slot.uploaded)
            device.hold(self._compute, slot.downloaded)  # until the results of the part before are fetched
            self._enqueue(slab, next(size for size in self._sizes if size >= part.stop - part.start))
            device.record(slot.computed, self._compute)
            device.hold(self._download, slot.computed)
            for name, result in results.items():
                device.download(result[part], slot.results[name], self._download)
            device.record(slot.downloaded, self._download)
        self._end[slab] = slot.downloaded
        if len(counts) >= EVEN:  # a smaller batch is done sooner than a sleeping thread wakes up
            device.record(slot.ended, self._download)
            self._end[slab] = slot.ended

    def wait(self, slab: int) -> None:
        """Return when the slab's results are there."""
        self._device.wait(self._end[slab])

    def close(self) -> None:
        """Wait for what is under way, then let go of graphs, contexts, engine and runtime, in this order. The
        device's memory is the device's. Never raises: the GPU may be gone."""
        self._device.settle()
        for each in (*self._whole.values(), *self._prepared.values()):
            if each.graph is not None:
                self._device.forget(each.graph)
        self._whole.clear()
        self._prepared.clear()
        self._config = self._cache = None
        self._engine = None
        self._runtime = None

    def _check(self) -> None:
        """The plan's inputs and outputs are the graph's."""
        floats = self._trt.DataType.FLOAT
        expected = {COUNTS: (floats, (-1, self._pixels)), DARK: (floats, (self._pixels,))}
        expected |= dict.fromkeys(self._graph.outputs, (floats, (-1, self._pixels)))
        for name, value in self._graph.parameters.items():
            expected[name] = (floats if value.dtype == np.float32 else self._trt.DataType.INT32, value.shape)
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        found = {
            name: (engine.get_tensor_dtype(name), tuple(engine.get_tensor_shape(name))) for name in names
        }
        if found != expected:
            raise EngineError(f"the plan of {self._key.model} is for another graph: it has {found}")

    def _slot(self) -> Slot:
        size = self.batch * self._pixels * NUMBER
        allocate, event = self._device.allocate, self._device.event
        results = {name: allocate(size) for name in self._graph.outputs}
        return Slot(allocate(size), results, event(), event(), event(), event(blocking=True))

    def _configure(self) -> tuple[Any, Any]:
        """What TensorRT-RTX is told of how to compile kernels: all of them before the first batch. Otherwise
        it begins with slower ones, and the graphs would hold those for good."""
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(
            self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        config.dynamic_shapes_kernel_specialization_strategy = (
            self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        cache = config.create_runtime_cache()
        if self._kernels:
            cache.deserialize(self._kernels)  # False for another GPU or version; they are then compiled again
        config.set_runtime_cache(cache)
        return config, cache

    def _open(self) -> None:
        """Prepare each size for each slab and compute with it once, so that nothing is left to be set up when
        spectra come."""
        needed = max(int(self._engine.device_memory_size_v2), 1)
        self._scratch = self._device.allocate(needed), needed
        for number, size in enumerate(self._sizes):
            say(f"its kernels {100 * number // len(self._sizes)} %")
            for slab in range(len(self._slots)):
                made = self._prepared[slab, size] = Prepared(self._context(slab, size))
                self._enqueue(slab, size)
                self._settle()
                if self._capturing and (graph := self._capture(made.context, size)) is not None:
                    made.graph = graph
                elif (
                    self._capturing
                ):  # recurrent layers are loops, which may not be captured; pycuda has no graphs
                    self._capturing = False
                    # Nobody knows what the attempt has left in the context.
                    made.context = self._context(slab, size)
                self._enqueue(slab, size)
                self._settle()
            self._store()

    def _store(self) -> None:
        """Whoever lost patience with this process would otherwise have the same compiled again."""
        if self._cache is None:
            return
        if (compiled := bytes(memoryview(self._cache.serialize()))) != self._kernels:
            self._kernels = compiled
            self._keep(compiled)

    def _context(self, slab: int, size: int) -> Any:
        """An execution context with scratch memory, profile, shapes and addresses set, in this order."""
        refused = f"batches of {size}"
        context = self._engine.create_execution_context(
            self._config or self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if context is None:
            raise self._messages.error(f"no context for {refused}")
        context.set_device_memory(*self._scratch)
        profile = profile_of(size, self._key.profiles)
        if not context.set_optimization_profile_async(profile, self._compute):
            raise self._messages.error(f"no profile for {refused}")
        slot = self._slots[slab]
        addresses = {COUNTS: slot.counts} | self._given | slot.results
        if not context.set_input_shape(COUNTS, (size, self._pixels)) or context.infer_shapes():
            raise self._messages.error(f"the plan refuses {refused}")
        if not all(context.set_tensor_address(name, at) for name, at in addresses.items()):
            raise self._messages.error("an address is refused")
        return context

    def _capture(self, context: Any, size: int) -> Any | None:
        """What a context computes as a CUDA graph, or None."""
        capturable = getattr(context, "is_stream_capturable", None)  # TensorRT-RTX knows
        if capturable is not None and not capturable(self._compute):
            return None
        return self._device.capture(self._compute, lambda: self._execute(context, size))

    def _enqueue(self, slab: int, size: int) -> None:
        prepared = self._prepared[slab, size]
        if prepared.graph is not None:
            self._device.replay(prepared.graph, self._compute)
            return
        self._execute(prepared.context, size)

    def _execute(self, context: Any, size: int) -> None:
        self._messages.clear()
        if not context.execute_async_v3(self._compute):
            raise self._messages.error(f"a batch of {size} was not computed")

    def _settle(self) -> None:
        event = self._slots[0].computed
        self._device.record(event, self._compute)
        self._device.wait(event)


def parts(rows: int, batch: int) -> list[slice]:
    """So many rows in slices of at most a batch."""
    return [slice(first, min(first + batch, rows)) for first in range(0, rows, batch)]
