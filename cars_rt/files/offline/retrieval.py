"""An engine on the counts of one file: rows of results, piece by piece."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines import AUTO, Engine, EngineError, Model, compose, load_offline, open_engine
from cars_rt.engines.base import usable_cores
from cars_rt.engines.classical import MEM, Classical, MaximumEntropyEngine
from cars_rt.engines.graph import RAMAN
from cars_rt.files.measurement import COLUMNS, NOWHERE
from cars_rt.files.offline.recipe import Recipe
from cars_rt.files.places import positions
from cars_rt.files.spectra import Spectra, SpectraError, readable
from cars_rt.physics.fitness import Fitness
from cars_rt.physics.quantity import RATIO
from cars_rt.protocol import FLAGS

log = logging.getLogger("cars_rt.offline")

MOST_NAMED = 8  # spectra that cannot be read, of those that are computed at once
BATCH = 64  # spectra; more are no faster on a processor
PIECE_BYTES = 8 * 2**20  # of counts in float32 that are computed between two looks at the files
LANE_BYTES = 2 * 2**20  # the same, where each core has a piece of its own
LARGEST = float(np.finfo(np.float32).max)  # a sum of counts that engines can compute
MOST_LANES = 16  # each takes some 30 MB for what a network computes on the way

Rows = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Maker:
    """What made results, as they say it: the engine by its name and in a few words, whether it runs the
    model, the graph's outputs, model with engine and dark as recordings have it, and which dark was
    subtracted."""

    engine: str
    description: str
    retrieves: bool
    outputs: tuple[str, ...]
    made_by: str
    dark: str


class Retrieval:
    """Computes what the daemon would send. All calls come from the thread that opened it.

    spectra: the counts, which must stay open. model: what is done to them.
    """

    def __init__(self, path: Path, spectra: Spectra, model: Model, engine: Engine) -> None:
        self.spectra, self.model, self.engine = spectra, model, engine
        self._path = path
        self._fitness = Fitness(spectra.raman_shift)
        self._outputs = engine.graph.outputs
        self._is_ratio = engine.retrieves and model.card.target == RATIO
        if spectra.dark is not None:
            engine.set_dark(spectra.dark)

    @property
    def maker(self) -> "Maker":
        """What makes the results."""
        dark = "none" if self.spectra.dark is None else "start"
        made_by = f"{self.model.sha256[:16]} {self.engine.name} {dark}"
        engine, outputs = self.engine, tuple(self._outputs)
        return Maker(engine.name, engine.describe(), engine.retrieves, outputs, made_by, dark)

    @property
    def row_bytes(self) -> int:
        """Bytes of all results of one spectrum."""
        return 4 * len(self.spectra.raman_shift) * len(self.engine.graph.outputs)

    def rows(
        self,
        first: int,
        last: int,
        take: Callable[[Rows], None],
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Results of the spectra from first to before last, in order, as arrays with a row for each: what the
        model gives, flags, and what the file says of each spectrum.

        take: never called twice at a time, perhaps in another thread. progress: called with how many are
        computed. Raises SpectraError for counts or results that are none, and what `take` raises.
        """
        way = self._in_lanes if self.engine.reentrant else self._in_turn
        way(first, last, take, progress)

    def _in_lanes(
        self, first: int, last: int, take: Callable[[Rows], None], progress: Callable[[int], None]
    ) -> None:
        """Each core takes a piece all the way from the file to its flags. No core waits for another one
        within a batch, and its data stay in its cache."""
        piece = self._piece(LANE_BYTES)
        slabs = SimpleQueue[int]()
        for slab in range(len(self.engine.inputs)):
            slabs.put(slab)

        def whole(begin: int) -> Rows:
            counts, slab = self._read(begin, min(begin + piece, last)), slabs.get()
            try:
                found = self._compute(counts, slab)
            finally:
                slabs.put(slab)
            return self._judge(begin, counts, found)

        lanes = len(self.engine.inputs)
        with ThreadPoolExecutor(lanes, "lane") as pool:
            waiting = deque[Future[Rows]]()
            starts = range(first, last, piece)
            try:
                for number, begin in enumerate(starts):
                    for ahead in starts[number + len(waiting) : number + lanes + 2]:
                        waiting.append(pool.submit(whole, ahead))
                    take(waiting.popleft().result())
                    progress(min(begin + piece, last))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _piece(self, size: int) -> int:
        """How many spectra, in whole batches, take so many bytes as float32."""
        pixels, batch = len(self.spectra.raman_shift), self.engine.max_batch
        return max(size // (4 * pixels) // batch, 1) * batch

    def _in_turn(
        self, first: int, last: int, take: Callable[[Rows], None], progress: Callable[[int], None]
    ) -> None:
        """Overlap the steps: one piece is computed while the next is read, earlier ones get their flags, and
        one is taken."""
        slow = isinstance(self.engine, MaximumEntropyEngine)  # a piece takes minutes, and a stop loses it
        piece = self._piece(0 if slow else PIECE_BYTES)
        starts = range(first, last, piece)
        judges = max(usable_cores() // 4, 1)
        with (
            ThreadPoolExecutor(1, "read") as reader,
            ThreadPoolExecutor(judges, "flags") as judging,
            ThreadPoolExecutor(1, "write") as writer,
        ):
            reading = deque[Future[NDArray[np.float32]]]()
            taken = deque[Future[None]]()
            pools = (reader, judging, writer)
            try:
                for number, begin in enumerate(starts):
                    for ahead in starts[number + len(reading) : number + 2]:
                        reading.append(reader.submit(self._read, ahead, min(ahead + piece, last)))
                    counts = reading.popleft().result()
                    found = self._compute(counts, 0, partial(_say, progress, begin))
                    judged = judging.submit(self._judge, begin, counts, found)
                    taken.append(writer.submit(_pass_on, judged, take))
                    while len(taken) > judges + 1:
                        taken.popleft().result()
                while taken:
                    taken.popleft().result()
            except BaseException:
                for pool in pools:
                    pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _read(self, first: int, last: int) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):  # infinite counts have no finite result, which is said then
            return readable(self.spectra.counts, first, last).astype(np.float32, copy=False)

    def _compute(
        self, counts: NDArray[np.float32], slab: int, progress: Callable[[int], None] = lambda done: None
    ) -> Rows:
        engine, found = self.engine, {name: np.empty(counts.shape, np.float32) for name in self._outputs}
        for begin in range(0, len(counts), engine.max_batch):
            batch, _ = _without_spoiled(counts[begin : begin + engine.max_batch])
            rows = slice(begin, begin + len(batch))
            engine.inputs[slab][: len(batch)] = batch
            engine.launch(slab, len(batch))
            engine.wait(slab)
            for name, values in engine.results(slab).items():
                found[name][rows] = values[: len(batch)]
            progress(rows.stop)
        return found

    def _judge(self, first: int, counts: NDArray[np.float32], found: Rows) -> Rows:
        """The results with their flags and what is known of their spectra."""
        raman = found[RAMAN]
        for values in found.values():
            if not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values))[0, 0])
                why = f"{self.model.card.name} cannot retrieve such counts; choose another --model"
                if np.abs(counts[row]).sum(dtype=np.float64) > LARGEST:
                    why = "its counts are too large"
                raise SpectraError(f"{self._path}: the result of spectrum {first + row} is not finite; {why}")
        spectra, flags = self.spectra, np.zeros(len(counts), np.uint8)
        counts, spoiled = _without_spoiled(counts)
        for begin in range(0, len(counts), BATCH):
            rows = slice(begin, begin + BATCH)
            implied = raman[rows] if self._is_ratio else None
            flags[rows] = self._fitness.flags(counts[rows], implied, spectra.dark, spectra.saturates_at)
        if spoiled.any():
            flags[spoiled] = 0  # nobody knows what is wrong with them
            for values in found.values():
                values[spoiled] = np.nan
            which = ", ".join(str(first + row) for row in np.flatnonzero(spoiled)[:MOST_NAMED])
            log.warning(
                "%s: %d of the spectra cannot be read, and NaN stands for their results: row %s%s",
                self._path, spoiled.sum(), which, ", ..." if spoiled.sum() > MOST_NAMED else "",
            )  # fmt: skip
        return {**found, FLAGS: flags, **self._columns(first, first + len(counts))}

    def _columns(self, first: int, last: int) -> Rows:
        """What is known of these spectra, one row for each."""
        rows = {name: values[first:last] for name, values in self.spectra.columns.items()}
        if self.spectra.scan is not None and "position" not in rows:
            index = rows.get("index", np.arange(first, last))
            there = positions(index, self.spectra.scan[1])
            rows["position"] = np.where((index == NOWHERE)[:, None], NOWHERE, there)
        return {name: values.astype(COLUMNS[name][1], copy=False) for name, values in rows.items()}


def _without_spoiled(counts: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Counts with zeros for those that cannot be read (see `readable`), and which these are."""
    spoiled = np.isnan(counts[:, 0])
    return (
        (np.where(spoiled[:, None], np.float32(0), counts), spoiled) if spoiled.any() else (counts, spoiled)
    )


def _pass_on(judged: "Future[Rows]", take: Callable[[Rows], None]) -> None:
    take(judged.result())


def _say(progress: Callable[[int], None], begin: int, done: int) -> None:
    progress(begin + done)


def chosen(recipe: Recipe, spectra: Spectra) -> Model:
    """The model of a recipe, without a reference that was measured with another instrument than the spectra.
    Raises ModelError."""
    return load_offline(recipe.model, recipe.reference, recipe.pump_nm).of_source(spectra.source)


@contextmanager
def retrieving(path: Path, spectra: Spectra, model: Model, engine: str = AUTO) -> Iterator[Retrieval]:
    """An engine of this name, opened for these spectra. Raises ModelError or EngineError."""
    with engine_for(spectra, model, engine) as opened:
        yield Retrieval(path, spectra, model, opened)


def engine_for(spectra: Spectra, model: Model, name: str = AUTO) -> Engine:
    """What runs a model here; `mem` is no graph and has an engine of its own. Raises ModelError or
    EngineError."""
    max_batch = min(BATCH, len(spectra.counts))
    if not (isinstance(model, Classical) and model.card.name == MEM):
        lanes = min(usable_cores(), MOST_LANES)
        return open_engine(name, compose(model, spectra.raman_shift), max_batch, lanes=lanes)
    if name not in (AUTO, MaximumEntropyEngine.name):
        raise EngineError(f"the model {MEM} runs on no engine; leave --engine out")
    return MaximumEntropyEngine.of(model, spectra.raman_shift, max_batch)
