"""How fast the model runs, computed as the daemon computes it."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.check.load import Load
from cars_rt.check.processor import Costs
from cars_rt.check.report import Line, Verdict, compared
from cars_rt.check.settings import CheckSettings, Progress
from cars_rt.engines import Engine, EngineError, Model, ModelError, compose, open_engine
from cars_rt.engines.base import usable_cores
from cars_rt.latency import Latencies
from cars_rt.physics.axis import AxisError

BATCHES = (1, 16, 256)  # greedy batching: one spectrum at low rates, what has come meanwhile under load
FASTER = 1.1  # a smaller batch that is so much faster is worth a word


def measure_engine(
    settings: CheckSettings, model: Model, load: Load, costs: Costs, progress: Progress
) -> Line:
    """Several sizes of batch, one after the other."""
    start = load.start
    threads = settings.threads or max(usable_cores() // 2, 1)  # as the daemon
    progress("engine", 0)
    try:
        graph = compose(model, start.raman_shift, deviation=False)
        with open_engine(settings.engine, graph, max(settings.max_batch, start.block), threads) as engine:
            engine.set_dark(np.zeros(start.pixels, np.float32) if start.dark is None else start.dark.copy())
            sizes = sorted({min(max(size, start.block), engine.max_batch) for size in BATCHES})
            rates: dict[int, float] = {}
            times: dict[int, Latencies] = {}
            for number, size in enumerate(sizes):
                progress("engine", (number + 0.1) / len(sizes))
                rates[size], times[size], costs["engine"] = _batches(
                    engine, load.counts, size, settings.seconds / len(sizes)
                )
            about = engine.describe()
    except (EngineError, ModelError, AxisError) as error:
        return Line(name="engine", verdict=Verdict.FAILS, note=str(error))
    alone = times[sizes[0]]
    note = f"{model.card.name} on {about}; {sizes[0]} at once takes {alone.percentile(50):.1f} ms, "
    note += f"p99 {alone.percentile(99):.1f} ms; "
    note += ", ".join(f"{size} at once {rates[size]:,.0f}/s" for size in sizes)
    # What has piled up is computed in the largest batches: only their rate makes up for a pause.
    fastest = max(rates, key=rates.__getitem__)
    if rates[fastest] > FASTER * rates[sizes[-1]]:
        note += f"; --max-batch {fastest} would be faster"
    return compared("engine", load.rate, rates[sizes[-1]], "spectra/s", note)


def _batches(
    engine: Engine, counts: NDArray[Any], size: int, seconds: float
) -> tuple[float, Latencies, float]:
    """Spectra per second, time of one batch, and processor time of one spectrum, as the daemon computes."""
    batch, times, done = np.resize(counts, (size, counts.shape[1])), Latencies(), 0
    for _ in range(2):  # the first ones set memory up
        engine.launch(0, size)
        engine.wait(0)
    begin, busy = time.perf_counter(), time.process_time()
    now = begin
    while not done or now < begin + seconds:
        engine.inputs[0][:size] = batch
        engine.launch(0, size)
        engine.wait(0)
        if not np.isfinite(engine.outputs[0][:size]).all():
            raise EngineError(f"{engine.name} gives values that are not finite for these spectra")
        before, now = now, time.perf_counter()
        times.add((now - before) * 1e3)
        done += size
    return done / (now - begin), times, (time.process_time() - busy) / done
