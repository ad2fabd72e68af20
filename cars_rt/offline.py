"""`cars-rt process`: the deployment graph on a file, without sockets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cars_rt.engines import AUTO, DEFAULT_MODEL, compose, load_model, open_engine
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
    engine: str = AUTO,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Processed:
    """Remove the background from every spectrum of a file.

    progress is called with the spectra done and in all. Raises SpectraError, ModelError, EngineError
    or AxisError; the target is written completely or not at all.
    """
    writable(target, (".npz", ".h5", ".hdf5", ".csv"))
    if target.exists() and source.exists() and target.samefile(source):
        raise SpectraError(f"{target} is the input; choose another name for the result")
    spectra = read_spectra(source)
    chosen = load_model(model)
    graph = compose(chosen, spectra.raman_shift)
    counts, total = spectra.counts, len(spectra.counts)
    fitness, flags = Fitness(spectra.raman_shift), np.zeros(total, np.uint8)
    found = {name: np.empty(counts.shape, np.float32) for name in graph.outputs}
    raman = found[RAMAN]
    with open_engine(engine, graph, min(BATCH, total)) as opened:
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
