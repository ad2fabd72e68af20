"""`cars-rt build`: plans of TensorRT, ahead of the first run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray
from rich.progress import Progress as Bar
from rich.progress import TaskID
from rich.table import Table
from rich.text import Text

from cars_rt.cli.app import Logs, progress_bar
from cars_rt.console import Logging, Terminal, fail, log, start_logging
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.protocol import MAX_BLOCK, MAX_PIXELS

if TYPE_CHECKING:
    from cars_rt.engines.tensorrt.layers import Layer

MEGABYTE = 2**20


def build(
    model: str = DaemonSettings.model,
    *,
    like: Path | None = None,
    axis: str | None = None,
    pixels: int | None = None,
    max_batch: int = DaemonSettings.max_batch,
    deviation: bool = DaemonSettings.deviation,
    cache: Path | None = None,
    inspect: Annotated[bool, Parameter(help="Show the layers.")] = False,
    logs: Logs = Logging(),
) -> None:
    """Build a model with TensorRT for an instrument, so that the daemon need not at its first run.

    A plan is for one model, one number of pixels and one version of TensorRT: a calibration or another
    grating needs no other, as long as the model takes the pixels as they are (docs/engines.md).
    TensorRT-RTX builds without a GPU, too, for all RTX cards; TensorRT builds for the GPU that is there.

    Example: cars-rt build cnn --pixels 1340

    Parameters
    ----------
    model
        Name of a shipped model, or the path of an .onnx file.
    like
        A file of spectra (.h5, .npz, .csv) whose axis is the instrument's.
    axis
        In its place an axis of even steps: LOW:HIGH:PIXELS in cm-1.
    pixels
        In its place the number of pixels alone, for a trained model that takes them as they are.
    max_batch
        Most spectra computed at once; that of `run`.
    deviation
        For a daemon that sends it, too; as in `run`.
    cache
        Folder for plans; the daemon finds it if CARS_RT_CACHE names it, too.
    """
    from cars_rt.engines import ModelError, axis_for, compose, load_model
    from cars_rt.engines.base import EngineError
    from cars_rt.engines.tensorrt.engine import plan_of
    from cars_rt.engines.tensorrt.gpu import find_gpu
    from cars_rt.engines.tensorrt.layers import fused_layers, read_layers
    from cars_rt.engines.tensorrt.plans import Plans
    from cars_rt.engines.tensorrt.product import choose
    from cars_rt.engines.tensorrt.recipe import recipe

    start_logging(logs)
    if not 1 <= max_batch <= MAX_BLOCK:
        fail(f"--max-batch must be from 1 to {MAX_BLOCK}, not {max_batch}")
    if sum(given is not None for given in (like, axis, pixels)) != 1:
        fail("say for what: --pixels N, --like FILE, or --axis LOW:HIGH:PIXELS")
    if pixels is not None and pixels > MAX_PIXELS:
        fail(f"--pixels must be from 2 to {MAX_PIXELS}, not {pixels}")
    loaded = load_model(model)
    try:
        shift = _axis(like, axis) if pixels is None else axis_for(loaded, pixels)
    except ModelError as error:
        fail(f"{error}; in place of --pixels give --like FILE or --axis LOW:HIGH:PIXELS")
    graph = compose(loaded, shift, deviation=deviation)
    try:
        gpu = find_gpu()
    except EngineError as error:
        log.debug("%s", error)
        gpu = None
    product = choose(gpu)
    made = recipe(graph, product, gpu, max_batch)
    plans = Plans(cache)
    with progress_bar() as bar:
        plan = plan_of(made, gpu, plans, _Phases(bar))
        if inspect and gpu is not None:  # a plan of its own, which tells more and may be slower
            told = recipe(graph, product, gpu, max_batch, detailed=True)
            layers = fused_layers(product, plan_of(told, gpu, plans, _Phases(bar)))
        elif inspect:
            layers = read_layers(made)
    try:
        if plans.load(made.key.name) is None:
            plans.store(made.key.name, plan)  # once more, to hear why it is not there
    except EngineError as error:
        fail(f"{error}; name another folder with --cache")
    if inspect:
        _show(layers)
    log.info(
        "%s for %d pixels, %s, batches up to %d, %s %s for %s: %.1f MB in %s",
        made.key.model,
        graph.pixels,
        made.key.precision,
        max_batch,
        product.title,
        made.key.version,
        made.key.target,
        len(plan) / MEGABYTE,
        plans.path(made.key.name),
    )


def _show(layers: "list[Layer]") -> None:
    out = Terminal()
    out.make_room()
    table = Table("layer", "kind", "output", box=None, pad_edge=False)
    for layer in layers:
        table.add_row(Text(layer.name), layer.kind, layer.output)
    out.print(table)


def _axis(like: Path | None, axis: str | None) -> NDArray[np.float64]:
    if like is not None:
        from cars_rt.files.formats import read_spectra

        return read_spectra(like).raman_shift
    try:
        low, high, pixels = str(axis).split(":")
        if not 2 <= int(pixels) <= MAX_PIXELS:
            raise ValueError
        return np.linspace(float(low), float(high), int(pixels))
    except ValueError:
        fail(f"--axis takes LOW:HIGH:PIXELS in cm-1, such as 400:3400:1340, not {axis!r}")


class _Phases:
    """The builder's phases as lines under each other, gone when they are over."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._tasks: dict[str, tuple[TaskID, int]] = {}

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        depth = self._tasks[parent][1] + 1 if parent in self._tasks else 0
        self._tasks[phase] = (self._bar.add_task("  " * depth + phase, total=steps), depth)

    def step(self, phase: str, done: int) -> None:
        if phase in self._tasks:
            self._bar.update(self._tasks[phase][0], completed=done)

    def finish(self, phase: str) -> None:
        if phase in self._tasks:
            self._bar.remove_task(self._tasks.pop(phase)[0])
