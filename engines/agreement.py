"""Whether an engine agrees with the reference, float32 ONNX Runtime on the CPU, on a probe batch."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray

from cars_rt.engines.base import BFLOAT16, FLOAT16, FLOAT32, Engine, EngineError, Slab
from cars_rt.engines.graph import RAMAN, Graph
from cars_rt.engines.registry import REFERENCE, engine_class
from cars_rt.engines.soundness import computes_in_half
from cars_rt.engines.underway import say
from cars_rt.protocol import DEVIATION

TOLERANCE = 2e-2  # of a spectrum's maximum: what reduced precision may change
TOLERANCES = {FLOAT32: 1e-4, FLOAT16: TOLERANCE, BFLOAT16: TOLERANCE}
R2 = 1 - 5e-4  # of an engine's spectrum against the reference's, at least
IN_FULL = frozenset({"onnxruntime", "openvino"})  # engines that compute in float32, whatever they run on
TINY = float(np.finfo(np.float32).tiny)
MANY = 64  # spectra of a batch that is also compared, as is the largest: engines may compute those otherwise
COMPUTES = "it computes"  # begins what is said of an engine once it has computed something
ALONE = "one spectrum alone"
LEAST = 0.25  # of chi_NR: reduced precision costs as much where there is no line as where there is one


def check(engine: Engine) -> float:
    """Compare an engine with the reference on probe batches, a small one and large ones: the largest
    difference of its outputs, relative to each spectrum's maximum. Raises EngineError if they disagree, or a
    spectrum alone has another result than among others."""
    counts, results = probe(engine.graph), computed(engine)
    if not engine.retrieves:
        return 0.0
    precision = _precision(engine)
    for row in range(len(counts)):
        _require_same(engine, counts, results, np.array([row]), precision)
    if engine.name == REFERENCE:
        if engine.max_batch == 1:  # where each spectrum is alone, none shows whether others matter to it
            with engine_class(REFERENCE)(engine.graph, len(counts), slabs=1) as together:
                _require_same(together, counts, results, np.arange(len(counts)), precision)
        _require_same(engine, counts, results, _repeated(counts, min(MANY, engine.max_batch)), precision)
        return 0.0
    with engine_class(REFERENCE)(engine.graph, len(counts), slabs=1) as reference:
        expected = reference.retrieve(counts)
    worst = max(
        compare(f"its {name}", result, expected[name], precision, expected[RAMAN])
        for name, result in results.items()
    )
    for rows in sorted({min(MANY, engine.max_batch), engine.max_batch}):
        places = _repeated(counts, rows)
        say(f"{COMPUTES}: a batch of {rows}")
        wanted = {name: result[places] for name, result in expected.items()}
        for name, result in engine.retrieve(counts[places]).items():
            what = f"its {name} in a batch of {rows}"
            if not np.isfinite(result).all():
                raise EngineError(f"{what} is not finite")
            worst = max(worst, compare(what, result, wanted[name], precision, wanted[RAMAN]))
    return worst


def _repeated(counts: Slab, rows: int) -> NDArray[np.intp]:
    """Which of the spectra a batch of so many has in its rows."""
    return np.arange(rows) % len(counts)


def _require_same(
    engine: Engine, counts: Slab, results: dict[str, Slab], places: NDArray[np.intp], precision: str
) -> None:
    """Raises EngineError unless a batch of the spectra at these places has their results."""
    say(f"{COMPUTES}: {f'a batch of {len(places)}' if len(places) > 1 else ALONE}")
    for name, found in engine.retrieve(counts[places]).items():
        if not difference(found, results[name][places], results[RAMAN][places]) <= TOLERANCES[precision]:
            raise EngineError(
                f"the {name} of a spectrum depends on those beside it in a batch: export the model as it is "
                "after its training (model.eval()), with the batch as the first dimension of every layer "
                "(batch_first=True)"
            )


def _precision(engine: Engine) -> str:
    """What the network is computed in: less than the engine's own where the model says so."""
    if engine.precision == FLOAT32 and computes_in_half(onnx.load_model_from_string(engine.graph.onnx)):
        return FLOAT16
    return engine.precision


def computed(engine: Engine) -> dict[str, Slab]:
    """What an engine makes of a probe batch. Raises EngineError if that is not finite, or has a negative
    deviation."""
    results = engine.retrieve(probe(engine.graph))
    for name, result in results.items():
        if not np.isfinite(result).all():
            raise EngineError(f"its {name} is not finite on a probe batch")
        if name == DEVIATION and result.min() < 0:
            raise EngineError(f"its {name} is negative on a probe batch: export the model with one above 0")
    return results


def compare(what: str, result: Slab, expected: Slab, precision: str, raman: Slab) -> float:
    """Compare an output (n, pixels) with the reference's; raman: the reference's spectra, the same size.

    Raman itself is also compared by R2. A deviation is not, since it is nearly flat in places. Returns their
    `difference`. Raises EngineError if they differ by more than this precision explains."""
    found = difference(result, expected, raman)
    if not found <= TOLERANCES[precision]:
        raise EngineError(
            f"{what} differs from {REFERENCE} by {found:.2g} of the maximum; "
            f"{TOLERANCES[precision]:g} is allowed in {precision}"
        )
    worst = float(r2(result, expected).min()) if expected is raman else 1.0
    if not worst >= R2:
        raise EngineError(f"{what} has an R2 of {worst:.5f} to {REFERENCE}; at least {R2:g} is allowed")
    return found


def difference(
    result: Slab,
    expected: Slab,
    raman: Slab | None = None,
    least: ArrayLike = TINY,
) -> float:
    """The largest difference between outputs (n, pixels), relative to the maximum of each spectrum of raman;
    without raman, of each expected spectrum. least: what such a maximum is taken to be at least, of all or of
    each (n, 1)."""
    scale = np.abs(expected if raman is None else raman).max(axis=1, keepdims=True)
    return float((np.abs(result - expected) / np.maximum(scale, least)).max())


def recomputed(recorded: Slab, expected: Slab, engines: Sequence[str]) -> float:
    """The largest difference between recorded spectra (n, pixels), made by these engines (n), and what the
    reference makes of the same counts, relative to each spectrum's maximum; where an engine may have computed
    in reduced precision that is taken to be no less than LEAST."""
    least = np.where([each in IN_FULL for each in engines], 1e-6, LEAST)
    return difference(recorded, expected, least=least[:, None])


def r2(result: Slab, expected: Slab) -> NDArray[np.float64]:
    """The coefficient of determination of each spectrum, (n,); 1 where both are the same."""
    error = ((result - expected).astype(np.float64) ** 2).sum(axis=1)
    spread = ((expected - expected.mean(axis=1, keepdims=True)).astype(np.float64) ** 2).sum(axis=1)
    return np.where(error == 0, 1.0, 1 - error / np.maximum(spread, 1e-30))


def probe(graph: Graph, count: int = 3) -> Slab:
    """Spectra (count, pixels) of one to three lines on a falling background, in camera counts; always the
    same."""
    shift = graph.raman_shift
    span, low = np.ptp(shift), shift.min()
    rows = []
    for number in range(count):
        lines = 1 + number % 3
        centres = low + span * (np.arange(lines) + 1 + 0.01 * (number // 3)) / (lines + 1)
        chi = (6.0 / (centres[:, None] - shift - 5j)).sum(axis=0)
        rows.append(30_000 * np.exp(-2 * (shift - low) / span) * np.abs(1 + chi) ** 2)
    return np.array(rows, np.float32)
