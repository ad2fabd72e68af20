"""How often each flag is raised, on good and on bad spectra, and what it costs: the table of docs/fitness.md.

    python tests/scripts/fitness.py [--model cnn] [--batches 100] [FILE.csv ...]

Good: held-out spectra of the distribution `bcars` (needs torch), the simulator's mixtures, measured files.
Bad: made of the good ones, or of noise. Not part of the test suite: it takes some minutes.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cars_rt.engines import Engine, Model, compose, load_model, open_engine
from cars_rt.engines.model import Card, ModelError
from cars_rt.engines.sampling import points_for
from cars_rt.files.formats import read_spectra
from cars_rt.physics.fitness import NAMES, Fitness, Flag, named
from cars_rt.physics.microscope import SATURATION, Microscope, Simulator
from cars_rt.training.data.bcars import Bcars

Floats = NDArray[np.float64]
Counts = NDArray[np.float32]
SEED = 20_251_125  # not one that anything was trained with
REVERSED = "axis reversed"
INSTRUMENTS: tuple[dict[str, float], ...] = (
    {},
    {"exposure_ms": 0.1},
    {"probe_width": 5.0, "resolution": 3.0, "ripple": 0.03},
    {"exposure_ms": 1.4, "ripple": 0.005},
    {"pixels": 1600},
)


def distribution(batches: int, card: Card) -> Iterator[tuple[Floats, Counts, Counts]]:
    """Axis (p,), counts above dark (64, p) and the true raman (64, p), where the model takes the axis."""
    spectra = Bcars(SEED, 64)
    for number in range(batches):
        batch = spectra[number * 7]  # from many pools and cameras
        axis = batch.shift.double().numpy()
        try:
            points_for(card, axis)
        except ModelError:
            continue
        yield axis, batch.counts.numpy(), batch.raman.numpy()


def mixtures(each: int) -> Iterator[tuple[Floats, Counts]]:
    """The same of the simulator: neat substances and mixtures of all dilutions, on five instruments."""
    rng = np.random.default_rng(SEED)
    for seed, settings in enumerate(INSTRUMENTS):
        simulator = Simulator(Microscope(seed=seed, **settings))  # type: ignore[arg-type]
        count = len(simulator.substances)
        fractions = rng.dirichlet(np.full(count, 0.25), each) * rng.uniform(0, 1, (each, 1))
        fractions[:count] = np.eye(count)
        yield simulator.raman_shift, simulator.measure(fractions).astype(np.float32) - simulator.dark


def bad(axis: Floats, counts: Counts, rng: np.random.Generator) -> Iterator[tuple[str, Floats, Counts]]:
    """Everything that is wrong with spectra (k, p), made of good ones."""
    k, p = counts.shape
    low = axis.min()
    yield REVERSED, axis, counts[:, ::-1]
    yield "axis times 1.3", (axis - low) * 1.3 + low, counts
    yield "axis + 400 cm-1", axis + 400, counts
    yield "less the mean of all", axis, counts - counts.mean(axis=0)
    yield "beam blocked", axis, rng.normal(0, 20, (k, p))
    yield "little light (0.1 of the noise)", axis, rng.normal(2, 20, (k, p))
    yield "beam blocked, too high a dark, cut at 0", axis, np.maximum(rng.normal(-40, 20, (k, p)), 0)
    yield "one photon for twelve pixels", axis, rng.poisson(1 / 12, (k, p))
    hill = (np.linspace(-1, 1, p) - rng.uniform(-1, 1, (k, 1))) / rng.uniform(0.4, 1.5, (k, 1))
    smooth = 20_000 * np.exp(-(hill**2)) + 200
    yield "fluorescence (legitimate)", axis, smooth + rng.normal(size=(k, p)) * np.sqrt(2 * smooth + 400)
    step = np.where(np.arange(p) > rng.integers(p // 10, p * 9 // 10, (k, 1)), 15_000.0, 5_000.0)
    yield "step", axis, step + rng.normal(size=(k, p)) * np.sqrt(2 * step + 400)
    yield "random walk", axis, rng.uniform(1e3, 3e4, (k, 1)) * np.exp(rng.normal(0, 0.05, (k, p)).cumsum(1))
    spiked, at = counts.copy(), rng.integers(10, p - 10, k)
    spiked[np.arange(k), at] += rng.uniform(0.2, 2, k) * spiked.max(axis=1)
    yield "cosmic ray", axis, spiked
    yield "clipped, full scale unknown", axis, np.minimum(counts, np.quantile(counts, 0.9, 1, keepdims=True))


class Table:
    """Spectra and flags, by what they are."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.counted: dict[str, tuple[int, Counter[str]]] = {}

    def add(
        self, what: str, axis: Floats, counts: NDArray[np.floating], full_scale: float | None = None
    ) -> tuple[Counts, NDArray[np.uint8]]:
        """Compute and look at counts (k, p): raman and flags."""
        counts = np.ascontiguousarray(counts, np.float32)
        with open_engine("onnxruntime", compose(self.model, axis), 64, 1) as engine:
            raman = engine.run(counts)
        flags = Fitness(axis).flags(counts, raman, None, full_scale)
        spectra, found = self.counted.get(what, (0, Counter()))
        self.counted[what] = spectra + len(counts), found + Counter(named(flags))
        return raman, flags

    def show(self) -> None:
        print("| spectra | number |", " | ".join(NAMES.values()), "|\n|---|---|" + "---|" * len(Flag))
        for what, (spectra, found) in self.counted.items():
            shares = " | ".join(f"{100 * found[name] / spectra:.2f}" for name in NAMES.values())
            print(f"| {what} | {spectra} | {shares} |")


def cost(engine: Engine, counts: Counts) -> None:
    """Time of the flags beside that of the engine, microseconds per spectrum, the fastest of some rounds."""
    fitness, raman = Fitness(engine.graph.raman_shift), engine.run(counts)
    for rows in (1, 8, 64, 256):
        some, result = counts[:rows], raman[:rows]
        times = [_seconds(call) for _ in range(30) for call in (
            lambda some=some, result=result: fitness.flags(some, result, None, SATURATION),
            lambda some=some: engine.run(some),
        )]  # fmt: skip
        flags, network = (1e6 * min(times[each::2]) / rows for each in (0, 1))
        print(f"batch {rows}: flags {flags:.0f} us, engine {network:.0f} us: {100 * flags / network:.1f} %")


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("files", nargs="*", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, rng = load_model(given.model), np.random.default_rng(SEED)
    table, later = Table(model), []
    errors: tuple[list[float], list[float]] = ([], [])
    for number, (axis, counts, truth) in enumerate(distribution(given.batches, model.card)):
        clipped = (counts >= counts.max(axis=1, keepdims=True) - 0.5).sum(axis=1) >= 3
        raman, flags = table.add("`bcars`, held out", axis, counts[~clipped])
        wrong = np.sqrt(((raman - truth[~clipped]) ** 2).mean(axis=1))
        for unlike in (0, 1):
            errors[unlike].extend(wrong[((flags & Flag.UNLIKE) != 0) == unlike])
        if clipped.any():
            # Of a camera that says its full scale: what it cuts is at it.
            top = counts[clipped].max(axis=1, keepdims=True)
            raised = np.where(counts[clipped] < top - 0.5, counts[clipped] * SATURATION / top, SATURATION)
            table.add("`bcars`, the strongest lines clipped", axis, raised, SATURATION)
        if number % 4 == 0:
            later.append(("bcars", axis, counts[~clipped], raman))
    for axis, counts in mixtures(400):
        raman, _ = table.add("simulator", axis, counts, SATURATION)
        later.append(("simulator", axis, counts[:100], raman[:100]))
    for path in given.files:
        spectra = read_spectra(path)
        counts, axis = spectra.counts.astype(np.float32), spectra.raman_shift
        raman, _ = table.add(f"measured: {path.stem}", axis, counts, spectra.full_scale)
        if "saturated" not in path.stem:
            later.append((path.stem.split("_")[0], axis, counts, raman))
    for source, axis, counts, raman in later:
        strong = raman.max(axis=1) > 0.5
        for what, shift, made in bad(axis, counts, rng):
            table.add(f"{source}: {what}", shift, made)
            if what == REVERSED and strong.any():
                table.add(f"{source}: {what}, a line above 0.5", shift, made[strong])
    table.show()
    medians = [float(np.median(each)) if each else np.nan for each in errors]
    print(
        f"error of `bcars`, root mean square, median: {medians[0]:.4f}; of those that are unlike: "
        f"{medians[1]:.4f}"
    )
    simulator = Simulator()
    fractions = rng.dirichlet(np.full(len(simulator.substances), 0.25), 256)
    measured = simulator.measure(fractions).astype(np.float32) - simulator.dark
    with open_engine("onnxruntime", compose(model, simulator.raman_shift), 256, 1) as engine:
        cost(engine, measured)


if __name__ == "__main__":
    main()
