"""TensorRT as an engine: finds the product and the plan, and runs the plan with several slabs under way."""

import atexit
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from typing import Any, ClassVar
from weakref import WeakSet

from numpy.typing import NDArray

from cars_rt.engines.base import Engine, EngineError, Slab
from cars_rt.engines.graph import Graph
from cars_rt.engines.tensorrt.builder import Percent, Progress, build
from cars_rt.engines.tensorrt.device import Device, device_class, page_aligned
from cars_rt.engines.tensorrt.gpu import Gpu, find_gpu
from cars_rt.engines.tensorrt.messages import OutOfMemoryError
from cars_rt.engines.tensorrt.plans import Plans
from cars_rt.engines.tensorrt.product import choose, suited
from cars_rt.engines.tensorrt.recipe import Recipe, recipe
from cars_rt.engines.tensorrt.session import PlanRefusedError, Session
from cars_rt.engines.underway import listener

log = logging.getLogger("cars_rt.engines.tensorrt")


class TensorRT(Engine):
    """Runs the graph on an NVIDIA GPU, with the network in half precision.

    The slabs are pinned, so that the GPU copies them itself, where the system lets them be. Where the GPU's
    memory does not suffice for max_batch, batches are computed in smaller parts.
    """

    name: ClassVar[str] = "tensorrt"
    patience_s: ClassVar[float] = 900.0  # a plan that is not there yet is built for each size of batch
    overlaps = True

    def __init__(
        self,
        graph: Graph,
        max_batch: int,
        slabs: int = 3,
        threads: int = 0,
        *,
        plans: Plans | None = None,
        progress: Progress | None = None,
    ) -> None:
        """plans: where they are kept, if not in the user's folder. progress: is told of the builder's phases
        if the plan is not there yet."""
        self._plans, self._progress = plans, progress
        self._device: Device | None = None
        self._session: Session | None = None
        self._memory: int | None = None
        self._thread = threading.get_ident()
        _alive.add(self)
        super().__init__(graph, max_batch, slabs, threads)

    @classmethod
    def fragile(cls) -> bool:
        """Its library has been seen to end its process."""
        return True

    @classmethod
    def unavailable(cls) -> str | None:
        """Asks the driver first, then what is installed; loads nothing."""
        try:
            suited(find_gpu())
            device_class()
        except EngineError as error:
            return str(error)
        return None

    def _allocate(self, slabs: int) -> list[Slab]:
        return [page_aligned(self.max_batch, self.graph.pixels) for _ in range(slabs)]

    def _compile(self, threads: int) -> None:
        self._gpu = find_gpu()
        self._product = choose(self._gpu)
        self._dark = page_aligned(1, self.graph.pixels)
        plans = Plans() if self._plans is None else self._plans
        batch = fit(self.max_batch, lambda batch: self._open(plans, batch))
        if batch < self.max_batch:
            log.warning(
                "the GPU's memory suffices for batches of %d: larger ones are computed in parts", batch
            )

    def _open(self, plans: Plans, batch: int) -> None:
        made = recipe(self.graph, self._product, self._gpu, batch)
        self.precision = made.key.precision
        if (kept := plans.load(made.key.name)) is not None:
            try:
                self._run_or_close(made, kept, plans)
                return
            except PlanRefusedError as error:
                log.warning("%s; it is built again", error)
                plans.drop(made.key.name)
        self._run_or_close(made, plan_of(made, self._gpu, plans, self._progress), plans)

    def _run_or_close(self, made: Recipe, plan: bytes, plans: Plans) -> None:
        try:
            self._run(made, plan, plans)
        except BaseException:
            self._give_back()
            raise

    def _run(self, made: Recipe, plan: bytes, plans: Plans) -> None:
        self._device = device_class()(self._gpu)
        pinned = self._pin(self._device)
        slabs, kernels = len(self.inputs), made.key.kernels(str(self._gpu))
        known = plans.load(kernels) or b""
        keep = partial(plans.keep, kernels)
        self._session = Session(self._device, self._product, plan, made.key, self.graph, slabs, known, keep)
        self._session.set_dark(self._dark)
        if pinned:  # the driver copies other memory in pieces, which no graph can hold
            for slab, counts in enumerate(self.inputs):
                self._session.bind(slab, counts, self.results(slab))
        self._memory = self._device.memory_in_use()

    def _pin(self, device: Device) -> bool:
        """Whether all arrays are pinned: under WSL and in some containers memory cannot be, and the driver
        copies it twice."""
        for array in (self._dark, *self.inputs, *self.outputs, *chain(*self.others.values())):
            try:
                device.pin(array)
            except EngineError as error:
                log.warning("copies to the GPU and back take longer: memory cannot be pinned (%s)", error)
                return False
        return True

    def set_dark(self, dark: Slab) -> None:
        """Waits until the GPU has it; batches under way are computed with the one before."""
        self._dark[0] = dark
        self._running.set_dark(self._dark)

    def _set(self, parameters: Mapping[str, NDArray[Any]]) -> bool:
        """Waits until the GPU has the parameters."""
        self._running.set(parameters)
        return True

    def launch(self, slab: int, rows: int) -> None:
        """Returns when the work is on the GPU's streams."""
        results = {name: array[:rows] for name, array in self.results(slab).items()}
        self._running.launch(slab, self.inputs[slab][:rows], results)

    def wait(self, slab: int) -> None:
        """Raises EngineError if the GPU failed or is lost."""
        self._running.wait(slab)

    def close(self) -> None:
        """Contexts, engine and runtime first, then the memory, then the GPU, then the slabs."""
        self._give_back()
        super().close()

    def _give_back(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None
        if self._device is not None:
            self._device.close()
        self._device = None

    def describe(self) -> str:
        title = f"{self._product.title} {self._product.load().__version__}"
        parts = [title, self._gpu.name, self.precision]
        if self._device is not None:
            parts.append(self._device.package)
        if self._session is not None:
            parts.append("CUDA graphs {} of {}".format(*self._session.captured))
        return f"tensorrt ({', '.join(parts)})"

    def gpu_memory_bytes(self) -> int | None:
        """Memory of the GPU in use, by all programs, when this engine was ready."""
        return self._memory

    @property
    def _running(self) -> Session:
        if self._session is None:
            raise EngineError("the engine is closed")
        return self._session


_alive: WeakSet[TensorRT] = WeakSet()


@atexit.register
def _close_all() -> None:
    """Close the engines of this thread that were left open, while the driver and TensorRT are still loaded.
    Those of other threads cannot be closed from here."""
    for engine in list(_alive):
        if engine._thread == threading.get_ident():
            engine.close()


def fit(batch: int, attempt: Callable[[int], None]) -> int:
    """The first of batch, half of it, a quarter and so on for which the attempt does not run out of memory.

    Raises EngineError if not even 1 fits, and what else the attempt raises."""
    while True:
        try:
            attempt(batch)
            return batch
        except OutOfMemoryError as error:
            if batch == 1:
                raise EngineError(
                    f"{error}; one spectrum is too much: end other programs on the GPU"
                ) from None
            batch //= 2


def plan_of(made: Recipe, gpu: Gpu | None, plans: Plans, progress: Progress | None = None) -> bytes:
    """The plan of a recipe, from disk or built now. Raises EngineError as `build` and `Plans` do."""

    def fresh() -> bytes:
        timings = made.key.timings
        log.info("building %s for %s with %s", made.key.model, made.key.target, made.product.title)
        waiting = listener()
        percent = Percent(lambda done: waiting(f"its plan {done} %"))
        built = build(made, gpu, plans.load(timings) or b"", progress or percent)
        if built.timings:
            plans.keep(timings, built.timings)
        return built.plan

    return plans.fetch(made.key.name, fresh)
