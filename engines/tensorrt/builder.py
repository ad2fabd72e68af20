"""From a recipe to a serialized plan, by the product's builder."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cars_rt.engines.base import EngineError
from cars_rt.engines.tensorrt.gpu import Gpu
from cars_rt.engines.tensorrt.messages import Messages
from cars_rt.engines.tensorrt.product import TURING
from cars_rt.engines.tensorrt.recipe import Recipe, shapes

MEGABYTE = 2**20


class Progress(Protocol):
    """Is told of the builder's phases, which are nested, from any thread."""

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase begins, inside its parent if it has one."""

    def step(self, phase: str, done: int) -> None:
        """So many of its steps are done."""

    def finish(self, phase: str) -> None:
        """A phase is over, also if its steps are not all done."""


class Percent:
    """A Progress that tells how much of the outermost phase is done, in percent, whenever that has grown.

    All steps of a phase count alike, and a phase within a step counts as the part of it that is done."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell
        #: Of each phase that is not over its parent, its steps, and how many are done.
        self._open: dict[str, tuple[str | None, int, int]] = {}
        self._told = 0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        self._open[phase] = parent, max(steps, 1), 0

    def step(self, phase: str, done: int) -> None:
        if phase in self._open:
            parent, steps, _ = self._open[phase]
            self._open[phase] = parent, steps, done
            self._look(phase)

    def finish(self, phase: str) -> None:
        self._open.pop(phase, None)

    def _look(self, phase: str) -> None:
        share, outer = 0.0, phase
        for _ in range(len(self._open)):  # no further, should a phase name itself as its parent
            parent, steps, done = self._open[outer]
            share = min((done + share) / steps, 1.0)
            if parent not in self._open:
                break
            outer = str(parent)
        if (percent := int(100 * share)) > self._told:
            self._told = percent
            self._tell(percent)


@dataclass(frozen=True)
class Built:
    """What the builder made."""

    plan: bytes
    timings: bytes  # what it measured, for the next time; empty if the product keeps nothing


def build(recipe: Recipe, gpu: Gpu | None, timings: bytes = b"", progress: Progress | None = None) -> Built:
    """Build a plan. timings: what an earlier build measured, or nothing.

    Raises EngineError if the graph cannot be read, naming the node, or not be built, with the builder's
    reason; OutOfMemoryError if that is the GPU's memory.
    """
    product = recipe.product
    trt = product.load()
    messages = Messages(trt)
    builder = product.make("Builder", messages)
    network = parse(trt, builder, messages, recipe)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.key.workspace_mb * MEGABYTE)
    config.clear_flag(trt.BuilderFlag.TF32)  # its 10 bits of a number are too few for phases
    if recipe.key.detailed:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if product.ahead:  # without it TensorRT-RTX refuses to have its work captured
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    for each in recipe.key.profiles:
        profile = builder.create_optimization_profile()
        for name, (smallest, usual, largest) in shapes(each, recipe.pixels).items():
            profile.set_shape(name, smallest, usual, largest)
        if config.add_optimization_profile(profile) < 0:
            raise messages.error(f"{product.title} refuses batches of {each[0]} to {each[2]}")
    if product.ahead and gpu is not None and gpu.capability == TURING:
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM75, 0)
    cache = config.create_timing_cache(timings) if product.timing_cache else None
    if cache is not None:
        config.set_timing_cache(cache, False)
    monitor, stopped = _monitor(trt, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if stopped:
        raise stopped[0]
    if plan is None:
        raise messages.error(f"{product.title} cannot build {recipe.key.model} in {recipe.key.precision}")
    measured = b"" if cache is None else bytes(memoryview(cache.serialize()))
    return Built(bytes(memoryview(plan)), measured)


def parse(trt: Any, builder: Any, messages: Messages, recipe: Recipe) -> Any:
    """The recipe's graph as TensorRT's network. Raises EngineError that names the node."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, messages.logger)
    title, reasons = recipe.product.title, []
    if parser.parse(recipe.onnx):
        if not network.num_outputs:  # of a damaged file, since in ONNX every field may be absent
            raise EngineError(f"{title} cannot read {recipe.key.model} at the file: it holds no graph")
        return network
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        place = f"{error.node_operator()} {error.node_name()}".strip() or "the file"
        code = error.code().name.lower().replace("_", " ")
        reasons.append(f"{place} ({code}): {' '.join(error.desc().split())}")
    if not reasons:
        raise messages.error(f"{title} cannot read {recipe.key.model}")
    raise EngineError(f"{title} cannot read {recipe.key.model} at {reasons[0]}")


def _monitor(trt: Any, progress: Progress | None) -> tuple[Any, list[BaseException]]:
    """A monitor for TensorRT that tells a Progress, and a list of what it raised. An exception must not pass
    through TensorRT's C++ code: it is kept in the list, and the build is stopped."""
    stopped: list[BaseException] = []

    def guarded(tell: Callable[[Progress], None]) -> bool:
        try:
            if progress is not None:
                tell(progress)
        except BaseException as error:  # Ctrl-C, too, since the main thread may be the one that builds
            stopped.append(error)
        return not stopped

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc] # of a module that is found at run time
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            guarded(lambda each: each.start(phase, parent, steps))

        def step_complete(self, phase: str, step: int) -> bool:
            return guarded(lambda each: each.step(phase, step + 1))

        def phase_finish(self, phase: str) -> None:
            guarded(lambda each: each.finish(phase))

    return Monitor(), stopped
