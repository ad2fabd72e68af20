"""`cars-rt process`: the deployment graph on a file, without sockets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

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
from cars_rt.engines.graph import DEVIATION, RAMAN
from cars_rt.engines.model import RATIO
from cars_rt.physics.fitness import Fitness, named
from cars_rt.spectra import SpectraError, read_spectra, writable, write_raman

BATCH = 64


@dataclass(frozen=True, slots=True)
class Processed:
    """What was done."""

    spectra: int
    pixels: int
    model: str
    sha256: str
    engine: str
    flagged: Mapping[str, int]  # spectra that have a flag, by its name


def process(
    source: Path,
    target: Path,
    *,
    model: str = DEFAULT_MODEL,
    reference: Path | None = None,
    engine: str = AUTO,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Processed:
    """Remove the background from every spectrum of a file.

    model: as `load_model` takes it, or mem. reference: spectra of a non-resonant sample, for kk and mem.
    progress is called with the spectra done and in all. Raises SpectraError, ModelError, EngineError
    or AxisError; the target is written completely or not at all.
    """
    writable(target, (".npz", ".h5", ".hdf5", ".csv"))
    if target.exists() and source.exists() and target.samefile(source):
        raise SpectraError(f"{target} is the input; choose another name for the result")
    spectra = read_spectra(source)
    chosen = load_offline(model, reference)
    counts, total = spectra.counts, len(spectra.counts)
    fitness, flags = Fitness(spectra.raman_shift), np.zeros(total, np.uint8)
    with _engine(engine, chosen, spectra.raman_shift, min(BATCH, total)) as opened:
        found = {name: np.empty(counts.shape, np.float32) for name in opened.graph.outputs}
        raman = found[RAMAN]
        if spectra.dark is not None:
            opened.set_dark(spectra.dark)
        for first in range(0, total, opened.max_batch):
            last = min(first + opened.max_batch, total)
            batch = counts[first:last].astype(np.float32)
            for name, values in opened.retrieve(batch).items():
                found[name][first:last] = values
            ratio = raman[first:last] if opened.retrieves and chosen.card.target == RATIO else None
            flags[first:last] = fitness.flags(batch, ratio, spectra.dark, spectra.full_scale)
            progress(last, total)
        description = opened.describe()
    if not np.isfinite(raman).all():
        spectrum = int(np.argwhere(~np.isfinite(raman))[0, 0])
        raise SpectraError(
            f"{source}: the result of spectrum {spectrum} is not finite; its counts are too large"
        )
    write_raman(
        target, spectra.raman_shift, raman, chosen.provenance, flags=flags, deviation=found.get(DEVIATION)
    )
    return Processed(total, counts.shape[1], chosen.card.name, chosen.sha256, description, named(flags))


def _engine(name: str, model: Model, raman_shift: NDArray[np.float64], max_batch: int) -> Engine:
    """What runs a model here; `mem` is no graph and has an engine of its own."""
    if not (isinstance(model, Classical) and model.card.name == MEM):
        return open_engine(name, compose(model, raman_shift), max_batch)
    if name != AUTO:
        raise EngineError(f"the model {MEM} runs on no engine; leave --engine out")
    return MaximumEntropyEngine.of(model, raman_shift, max_batch)
