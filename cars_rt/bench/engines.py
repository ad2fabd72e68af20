"""How fast models are on engines: all in turn, round by round, against references of the same round."""

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np

from cars_rt.bench.floor import PRODUCT, multiply_adds, product_graph
from cars_rt.bench.pipeline import BenchError
from cars_rt.bench.settings import EngineBenchSettings
from cars_rt.bench.steps import Progress, Steps, load_average
from cars_rt.engines import (
    DEFAULT_MODEL,
    Engine,
    EngineError,
    Graph,
    ModelError,
    bundled_models,
    compose,
    engine_class,
    load_model,
    reason_against,
    require,
    retrieving,
)
from cars_rt.engines.agreement import probe
from cars_rt.engines.base import hardware, usable_cores
from cars_rt.engines.graph import FIRST_CM1, WIDEST_CM1
from cars_rt.engines.registry import AUTO, REFERENCE
from cars_rt.engines.rehearsal import rehearse
from cars_rt.protocol import MAX_BLOCK, MAX_PIXELS

PUBLISHED = ("specnet", "cnn-gru")
STEP_CM1 = 2.0
WARM_UPS = 2
ANY = "any"


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one engine in batches of one size."""

    model: str
    engine: str
    about: str  # in the engine's own words
    batch: int
    multiply_adds: int  # for one spectrum
    rates: list[float] = field(default_factory=list)  # spectra/s, by round
    times_ms: list[float] = field(default_factory=list)  # of each batch, all rounds

    @property
    def rate(self) -> float:
        """Spectra/s, the median of the rounds."""
        return median(self.rates)

    @property
    def operations(self) -> float:
        """Multiply-adds per second in the fastest batch."""
        return self.multiply_adds * self.batch / min(self.times_ms) * 1e3

    def percentile(self, percent: float) -> float:
        """Of the time of one batch, ms."""
        return float(np.percentile(self.times_ms, percent))

    def ratio(self, other: "Cell") -> float:
        """This one's rate over another one's, the median of the rounds."""
        return median(mine / its for mine, its in zip(self.rates, other.rates, strict=True))


@dataclass(frozen=True, slots=True)
class Skipped:
    """A model that an engine does not run, or not right."""

    model: str
    engine: str  # ANY: the model does not suit the axis
    reason: str


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What `measure` found."""

    hardware: str
    load_before: float | None  # processes that others kept busy; None where the system does not tell
    settings: EngineBenchSettings
    cells: list[Cell]
    floors: dict[str, Cell]  # by engine: one matrix product
    references: tuple[str, ...]  # models, on ONNX Runtime
    skipped: list[Skipped]

    def ratios(self, cell: Cell) -> dict[str, float]:
        """Of a cell's rate to the references' in batches of the same size, by model."""
        return {
            each.model: cell.ratio(each)
            for each in self.cells
            if each.model in self.references and each.engine == REFERENCE and each.batch == cell.batch
        }

    def share(self, cell: Cell) -> float | None:
        """Of the floor: multiply-adds per second over those of one matrix product on the same engine.

        Of the fastest batch of each, since a floor is what can be reached undisturbed.
        """
        floor = self.floors.get(cell.engine)
        return None if floor is None else cell.operations / floor.operations


def measure(
    settings: EngineBenchSettings, progress: Progress = lambda done, total, text: None
) -> EngineReport:
    """Measure all of it. What an engine cannot run, or computes wrong, is left out and said.

    Raises BenchError for impossible settings, or if nothing is left, EngineError or ModelError for names that
    there are not.
    """
    _check(settings)
    settings = replace(settings, batches=tuple(dict.fromkeys(settings.batches)))
    load = load_average()
    graphs, skipped = _graphs(settings)
    names = _engines(settings)
    threads = settings.threads or max(usable_cores() // 2, 1)
    largest = max(settings.batches)
    opened: list[tuple[str, Engine]] = []
    with ExitStack() as stack:
        for model, graph in graphs.items():
            progress(0, 1, f"trying {model}")
            candidates = [REFERENCE] if settings.published and model in PUBLISHED else names
            # In a process that may be lost; those that did well there are opened here.
            for name, tried in rehearse(graph, candidates, largest, threads, rates=False).items():
                try:
                    if tried.reason:
                        raise EngineError(tried.reason)
                    engine = engine_class(name)(graph, largest, threads=threads)
                except EngineError as error:
                    skipped.append(Skipped(model, name, str(error)))
                else:
                    opened.append((model, stack.enter_context(engine)))
        if all(model == PRODUCT for model, _ in opened):
            why = "; ".join(f"{each.model} on {each.engine}: {each.reason}" for each in skipped)
            raise BenchError(f"no engine runs any of these models: {why}")
        cells = _measured(settings, opened, progress)
    # Ratios are to what was measured: a model that the reference engine left out has no rate.
    there = [model for model, engine in opened if model != PRODUCT and engine.name == REFERENCE]
    first = [DEFAULT_MODEL] if DEFAULT_MODEL in there else there[:1]
    published = tuple(model for model in PUBLISHED if model in there)
    return EngineReport(
        hardware=hardware(),
        load_before=load,
        settings=settings,
        cells=[cell for cell in cells if cell.model != PRODUCT],
        floors={cell.engine: cell for cell in cells if cell.model == PRODUCT},
        references=published if settings.published else tuple(first),
        skipped=skipped,
    )


def _graphs(settings: EngineBenchSettings) -> tuple[dict[str, Graph], list[Skipped]]:
    """Those that there can be for so many pixels, that of the floor last, and the models that cannot be."""
    step = min(STEP_CM1, WIDEST_CM1 / (settings.pixels - 1))
    axis = FIRST_CM1 + step * np.arange(settings.pixels)
    models = {name: load_model(name) for name in settings.models or bundled_models()}
    if settings.published:
        from cars_rt.training.untrained import untrained

        models |= {name: untrained(name) for name in PUBLISHED}
    graphs: dict[str, Graph] = {}
    skipped = []
    for name, model in models.items():
        try:
            graphs[name] = compose(model, axis)
        except ModelError as error:
            skipped.append(Skipped(name, ANY, str(error)))
    return graphs | {PRODUCT: product_graph()}, skipped


def _engines(settings: EngineBenchSettings) -> list[str]:
    for name in settings.engines:
        require(name)
    named = settings.engines or tuple(name for name in retrieving() if reason_against(name) is None)
    return list(dict.fromkeys([*named, REFERENCE]))


def _measured(
    settings: EngineBenchSettings, opened: list[tuple[str, Engine]], progress: Progress
) -> list[Cell]:
    """The floor only in the largest batches."""
    work: list[tuple[Cell, Engine]] = []
    for model, engine in opened:
        operations = multiply_adds(engine.graph)
        engine.inputs[0][:] = probe(engine.graph, engine.max_batch)
        for batch in (max(settings.batches),) if model == PRODUCT else settings.batches:
            work.append((Cell(model, engine.name, engine.describe(), batch, operations), engine))
            _times_ms(engine, batch, 0.0, WARM_UPS)
    steps = Steps(settings.rounds * len(work), progress)
    for number in range(settings.rounds):
        for cell, engine in work:
            steps.begin(f"{cell.model} on {cell.engine}, {cell.batch} at once, round {number + 1}")
            times = _times_ms(engine, cell.batch, settings.seconds)
            cell.rates.append(cell.batch * len(times) / sum(times) * 1e3)
            cell.times_ms.extend(times)
    return [cell for cell, _ in work]


def _times_ms(engine: Engine, batch: int, seconds: float, least: int = 1) -> list[float]:
    """Of batches one after the other, each from the filled slab to the results, copies included."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        begin = time.perf_counter()
        engine.launch(0, batch)
        engine.wait(0)
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def _check(settings: EngineBenchSettings) -> None:
    batches = settings.batches
    if not batches or min(batches) < 1 or max(batches) > MAX_BLOCK:
        raise BenchError(f"--batches must be from 1 to {MAX_BLOCK} spectra, at least one of them")
    if AUTO in settings.engines:
        raise BenchError(
            f"--engines {AUTO} is none that can be measured: without --engines all are that run here"
        )
    if not 2 <= settings.pixels <= MAX_PIXELS:
        raise BenchError(f"--pixels must be from 2 to {MAX_PIXELS}")
    if settings.rounds < 1 or not 0 < settings.seconds < math.inf or settings.threads < 0:
        raise BenchError("--rounds and --seconds must be positive and finite, --threads not negative")
