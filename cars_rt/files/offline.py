"""`cars-rt process`: the deployment graph on a file, without sockets.

Read, computed and written piece by piece, so that memory does not grow with the file. While one piece is
computed, the one before it gets its flags and is written.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines import (
    AUTO,
    DEFAULT_MODEL,
    Engine,
    EngineError,
    Model,
    compose,
    load_offline,
    open_engine,
)
from cars_rt.engines.classical import MEM, Classical, MaximumEntropyEngine
from cars_rt.engines.graph import RAMAN
from cars_rt.engines.model import RATIO
from cars_rt.files.formats import open_spectra
from cars_rt.files.measurement import COLUMNS
from cars_rt.files.results import Results, writable, writing_results
from cars_rt.files.spectra import Spectra, SpectraError
from cars_rt.physics.fitness import Fitness, named
from cars_rt.protocol import FLAGS

BATCH = 64
PIECE_BYTES = 8 * 2**20  # of counts in float32 that are computed between two looks at the files


@dataclass(frozen=True, slots=True)
class Processed:
    """What was done."""

    spectra: int
    pixels: int
    model: str
    sha256: str
    engine: str
    flagged: Mapping[str, int]  # spectra that have a flag, by its name
    axis: str = ""  # what was taken as the axis, for people


def process(
    source: Path,
    target: Path,
    *,
    model: str = DEFAULT_MODEL,
    reference: Path | None = None,
    engine: str = AUTO,
    pump_nm: float | None = None,
    overwrite: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Processed:
    """Remove the background from every spectrum of a file; what else the file says of them goes along.

    model: as `load_model` takes it, or mem. reference: spectra of a non-resonant sample, for kk and mem.
    pump_nm: of text whose axis is in nm, also of the reference's. overwrite: replace a target that is
    there. progress is called with the spectra done and in all.
    Raises SpectraError, ModelError, EngineError or AxisError; the target is written completely or not at
    all.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise SpectraError(f"{target} is the input; choose another name for the result")
    writable(target, overwrite=overwrite)
    with open_spectra(source, pump_nm) as spectra:
        chosen = load_offline(model, reference, pump_nm)
        total, pixels = spectra.counts.shape
        with _engine(engine, chosen, spectra.raman_shift, min(BATCH, total)) as opened:
            if spectra.dark is not None:
                opened.set_dark(spectra.dark)
            arrays: dict[str, NDArray[Any]] = {"raman_shift": spectra.raman_shift}
            arrays |= {} if spectra.dark is None else {"dark": spectra.dark}
            attrs = {**_made_by(chosen, opened), **spectra.about, **spectra.receipt}
            row_bytes = 4 * pixels * len(opened.graph.outputs)
            with writing_results(
                target, total, arrays, attrs, row_bytes=row_bytes, overwrite=overwrite
            ) as results:
                ratio = opened.retrieves and chosen.card.target == RATIO
                flagged = _compute(spectra, opened, ratio, results, source, progress)
            description, axis = opened.describe(), spectra.axis_said
    return Processed(total, pixels, chosen.card.name, chosen.sha256, description, flagged, axis)


def _compute(
    spectra: Spectra,
    engine: Engine,
    ratio: bool,
    results: Results,
    source: Path,
    progress: Callable[[int, int], None],
) -> dict[str, int]:
    """Everything from counts to results; how many spectra have which flag."""
    total, pixels = spectra.counts.shape
    batch = engine.max_batch
    piece = max(PIECE_BYTES // (4 * pixels) // batch, 1) * batch
    fitness, flagged = Fitness(spectra.raman_shift), Counter[str]()

    def settle(first: int, counts: NDArray[np.float32], found: dict[str, NDArray[np.float32]]) -> None:
        raman, flags = found[RAMAN], np.zeros(len(counts), np.uint8)
        if not np.isfinite(raman).all():
            spectrum = first + int(np.argwhere(~np.isfinite(raman))[0, 0])
            raise SpectraError(
                f"{source}: the result of spectrum {spectrum} is not finite; its counts are too large"
            )
        for begin in range(0, len(counts), batch):
            rows = slice(begin, begin + batch)
            implied = raman[rows] if ratio else None
            flags[rows] = fitness.flags(counts[rows], implied, spectra.dark, spectra.saturates_at)
        flagged.update(named(flags))
        results.append(**found, **{FLAGS: flags}, **_columns(spectra, first, first + len(counts)))

    before: Future[None] | None = None
    with ThreadPoolExecutor(1, "settle") as other:
        for first in range(0, total, piece):
            last = min(first + piece, total)
            counts = spectra.counts[first:last].astype(np.float32)
            found = {name: np.empty(counts.shape, np.float32) for name in engine.graph.outputs}
            for begin in range(0, len(counts), batch):
                rows = slice(begin, begin + batch)
                for name, values in engine.retrieve(counts[rows]).items():
                    found[name][rows] = values
                progress(min(first + begin + batch, last), total)
            if before is not None:
                before.result()
            before = other.submit(settle, first, counts, found)
        if before is not None:
            before.result()
    order = [str(flag) for flag in named(np.full(1, 255, np.uint8))]
    return {name: flagged[name] for name in order if name in flagged}


def _columns(spectra: Spectra, first: int, last: int) -> dict[str, NDArray[Any]]:
    """What is known of these spectra, one row for each."""
    rows = {name: values[first:last] for name, values in spectra.columns.items()}
    if spectra.scan is not None and "position" not in rows:
        index = rows.get("index", np.arange(first, last))
        rows["position"] = np.stack(np.divmod(index, spectra.scan[1]), axis=1)
    return {name: values.astype(COLUMNS[name][1], copy=False) for name, values in rows.items()}


def _made_by(model: Model, engine: Engine) -> dict[str, str]:
    """The model and the engine, as they stand in the file."""
    said = {f"model_{name}": text for name, text in model.provenance.items() if name != "name"}
    return {"model": model.card.name, **said, "engine": engine.describe()}


def _engine(name: str, model: Model, raman_shift: NDArray[np.float64], max_batch: int) -> Engine:
    """What runs a model here; `mem` is no graph and has an engine of its own."""
    if not (isinstance(model, Classical) and model.card.name == MEM):
        return open_engine(name, compose(model, raman_shift), max_batch)
    if name != AUTO:
        raise EngineError(f"the model {MEM} runs on no engine; leave --engine out")
    return MaximumEntropyEngine.of(model, raman_shift, max_batch)
