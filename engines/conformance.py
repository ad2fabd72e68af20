"""What every engine must keep, as checks that an engine from another package can be run through:

    from cars_rt.engines.conformance import failures
    assert failures(MyEngine) == []

Each check raises NonConformanceError, in one sentence, or returns.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cars_rt.engines.agreement import TOLERANCES, check, compare, difference, probe
from cars_rt.engines.base import Engine, EngineError, Slab
from cars_rt.engines.graph import RAMAN, Graph, compose
from cars_rt.engines.model import Model, load_model
from cars_rt.engines.registry import REFERENCE, engine_class
from cars_rt.physics.overlap import Overlap
from cars_rt.protocol import DEVIATION

AXIS = np.linspace(800, 1500, 190)  # short, so that a spectrum costs little; a network sees these pixels
MAX_BATCH = 8


class NonConformanceError(AssertionError):
    """An engine that breaks the contract, in one sentence."""


def subjects(model: Model | None = None) -> dict[str, Graph]:
    """Graphs of a model, the default one: with one output and with two."""
    given = model or load_model()
    sets = ((RAMAN,), (RAMAN, DEVIATION))
    return {" and ".join(names): compose(_with(given, names), AXIS) for names in sets}


def failures(cls: type[Engine], model: Model | None = None) -> list[str]:
    """Run all checks on an engine: what it breaks, nothing if it conforms.

    Raises EngineError if it cannot run here.
    """
    if reason := cls.unavailable():
        raise EngineError(f"{cls.name}: {reason}")
    found = []
    for outputs, graph in subjects(model).items():
        with cls(graph, MAX_BATCH, threads=1) as engine:
            for each in CHECKS:
                try:
                    each(engine)
                except (NonConformanceError, EngineError) as error:
                    found.append(f"{each.__name__} ({outputs}): {error}")
    return found


def slabs_are_alike(engine: Engine) -> None:
    """Two or more slabs; each array (max_batch, pixels) float32, contiguous, its own memory."""
    count, deviations = len(engine.inputs), len(engine.deviations)
    _require(count >= 2 and len(engine.outputs) == count, "it has fewer than two pairs of slabs")
    _require(
        deviations == (count if DEVIATION in engine.graph.outputs else 0), "it has deviations for nothing"
    )
    arrays = [*engine.inputs, *engine.outputs, *chain(*engine.others.values())]
    for array in arrays:
        shape = (engine.max_batch, engine.graph.pixels)
        _require(array.shape == shape and array.dtype == np.float32, f"a slab is {array.dtype} {array.shape}")
        _require(array.flags.c_contiguous and array.flags.writeable, "a slab is not contiguous and writable")
    for number, array in enumerate(arrays):
        _require(not any(np.shares_memory(array, other) for other in arrays[:number]), "slabs share memory")


def says_what_it_is(engine: Engine) -> None:
    """Name and precision in the description; available, and more than once; what it is asked beforehand."""
    _require(engine.name in engine.describe(), f"its name is not in {engine.describe()!r}")
    _require(engine.precision in TOLERANCES, f"the precision {engine.precision!r} is unknown")
    _require(type(engine).unavailable() is None, "it runs, and says that it cannot")
    for ask in ("last_resort", "fragile"):
        try:
            answer = getattr(type(engine), ask)()
        except Exception as error:
            raise NonConformanceError(f"{ask}() raises {type(error).__name__}: {error}") from None
        _require(isinstance(answer, bool), f"{ask}() gives {answer!r}, not True or False")


def equals_the_reference(engine: Engine) -> None:
    """Within its precision, all outputs."""
    counts = probe(engine.graph, 2 * MAX_BATCH + 3)
    expected = _reference(engine, counts)
    for name, result in engine.retrieve(counts).items():
        compare(f"its {name}", result, expected[name], engine.precision, expected[RAMAN])
    check(engine)


def every_batch_equals_its_rows(engine: Engine) -> None:
    """Batches of every size up to max_batch, and more spectra than that."""
    counts = probe(engine.graph, 2 * MAX_BATCH + 3)
    together = engine.retrieve(counts)
    for rows in range(1, engine.max_batch + 1):
        for name, result in engine.retrieve(counts[:rows]).items():
            _same(engine, result, together[name][:rows], f"{name} in a batch of {rows}")


def slabs_may_be_under_way_together(engine: Engine) -> None:
    """Two launches before the first wait."""
    counts = probe(engine.graph, 2 * MAX_BATCH).reshape(2, MAX_BATCH, -1)
    expected = [engine.retrieve(part) for part in counts]
    for slab in (0, 1):
        engine.inputs[slab][:] = counts[slab]
    for step in (engine.launch, lambda slab, rows: engine.wait(slab)):
        for slab in (0, 1):
            step(slab, MAX_BATCH)
    for slab in (0, 1):
        for name, result in engine.results(slab).items():
            _same(engine, result, expected[slab][name], f"{name} of slab {slab} beside another")


def partial_batch_leaves_other_rows_alone(engine: Engine) -> None:
    """Rows beyond the batch keep what was in them."""
    for result in engine.results(1).values():
        result[:] = -7
    engine.inputs[1][:] = probe(engine.graph, MAX_BATCH)
    engine.launch(1, 3)
    engine.wait(1)
    for name, result in engine.results(1).items():
        _require(bool((result[3:] == -7).all()), f"a batch of 3 writes more than 3 rows of {name}")
        _require(bool((result[:3] != -7).any()), f"a batch of 3 writes nothing into {name}")


def dark_is_subtracted(engine: Engine) -> None:
    """From the next batch on, until there is another one; the caller's array is copied."""
    counts = probe(engine.graph, MAX_BATCH)
    dark = np.linspace(900, 300, engine.graph.pixels).astype(np.float32)
    plain = engine.retrieve(counts)
    given = dark.copy()
    engine.set_dark(given)
    given[:] = 1e6
    dimmed = engine.retrieve(counts + dark)
    engine.set_dark(np.zeros_like(dark))
    again = engine.retrieve(counts)
    for name, result in plain.items():
        _same(engine, dimmed[name], result, f"{name} with a dark", factor=10)
        _require(np.array_equal(again[name], result), f"{name} still knows an earlier dark")


def scale_of_counts_does_not_matter(engine: Engine) -> None:
    """Any laser power or exposure, and any unit: counts, volts or watts."""
    counts = probe(engine.graph, MAX_BATCH)
    plain = engine.run(counts)
    for factor in (1e-12, 1e-9, 0.1, 10, 1e12):
        scaled = engine.run(counts * np.float32(factor))
        _same(engine, scaled, plain, f"raman of counts times {factor:g}", factor=10)


def no_light_gives_nothing(engine: Engine) -> None:
    """Noise about the dark, noise without what is below 0, a dark that is too high, one lit pixel, zeros:
    raman is 0, and a deviation above all raman that there is, in any unit; a lit spectrum beside them stays
    as it is."""
    good = probe(engine.graph, MAX_BATCH)
    expected = engine.retrieve(good)
    noise = np.resize(np.array([3, -5, 1, 4, -2, -3, 5, -3], np.float32), engine.graph.pixels)
    pixel = np.where(np.arange(len(noise)) == len(noise) // 3, np.float32(50), 0)
    width = Overlap.on(engine.graph.raman_shift).width  # of pixels that count together
    cut = np.repeat(np.maximum(np.random.default_rng(6).normal(-5, 5, len(noise)), 0), width)[: len(noise)]
    unlit = np.stack([noise, cut.astype(np.float32), noise - 500, pixel, 0 * noise])
    none = slice(len(unlit))
    lit = slice(len(unlit), None)
    for factor in (1e-9, 1, 1e9):
        counts = good * np.float32(factor)
        counts[none] = unlit * np.float32(factor)
        found = engine.retrieve(counts)
        _require(bool((found[RAMAN][none] == 0).all()), f"raman without light is not 0 (unit {factor:g})")
        least = found.get(DEVIATION, np.ones((5, 1)))[none].min()
        _require(bool(least >= 1), f"the deviation without light is {least:.2g} (unit {factor:g})")
        for name, result in found.items():
            _same(
                engine, result[lit], expected[name][lit], f"{name} beside none (unit {factor:g})", factor=10
            )


def odd_counts_stay_finite(engine: Engine) -> None:
    """Empty, negative and overflowing spectra beside a good one, which they do not touch."""
    good = probe(engine.graph, 3)
    expected = engine.retrieve(good)
    for value in (0, -1, -40_000, 4e9):
        counts = good.copy()
        counts[0], counts[1, ::2] = value, value
        for name, result in engine.retrieve(counts).items():
            _require(bool(np.isfinite(result).all()), f"{name} of counts of {value:g} is not finite")
            _same(
                engine,
                result[2:],
                expected[name][2:],
                f"{name} beside counts of {value:g}",
            )


def deviation_is_positive(engine: Engine) -> None:
    """Where there is one."""
    found = engine.retrieve(probe(engine.graph, MAX_BATCH)).get(DEVIATION)
    _require(found is None or bool((found > 0).all()), "a deviation is not positive")


def slabs_compute_at_once(engine: Engine) -> None:
    """Of a reentrant engine: each in a thread of its own, time and again, as one after the other."""
    if not engine.reentrant:
        return
    counts = probe(engine.graph, MAX_BATCH)
    expected = engine.retrieve(counts)

    def compute(slab: int) -> list[dict[str, Slab]]:
        found = []
        for _ in range(20):
            engine.inputs[slab][:] = np.roll(counts, slab, axis=0)
            engine.launch(slab, MAX_BATCH)
            engine.wait(slab)
            found.append({name: values.copy() for name, values in engine.results(slab).items()})
        return found

    with ThreadPoolExecutor(len(engine.inputs)) as pool:
        for slab, rounds in enumerate(pool.map(compute, range(len(engine.inputs)))):
            for found in rounds:
                for name, values in found.items():
                    what = f"{name} of slabs that are under way at once"
                    _same(engine, values, np.roll(expected[name], slab, axis=0), what)


def another_one_comes_and_goes(engine: Engine) -> None:
    """An engine beside it, closed again, changes nothing; what is no graph is refused with EngineError."""
    counts = probe(engine.graph, MAX_BATCH)
    before = engine.retrieve(counts)
    with type(engine)(engine.graph, 2, slabs=1, threads=1) as other:
        _same(engine, other.run(counts), before[RAMAN], "raman of a second engine")
    _require(not other.inputs, "it keeps its slabs when it is closed: close has to call super().close()")
    try:
        half = replace(engine.graph, onnx=engine.graph.onnx[: len(engine.graph.onnx) // 2])
        type(engine)(half, 2, slabs=1, threads=1).close()
    except EngineError:
        pass
    except Exception as error:
        raise NonConformanceError(f"half a graph raises {type(error).__name__}, not EngineError") from None
    else:
        raise NonConformanceError("half a graph is accepted")
    for name, result in engine.retrieve(counts).items():
        _same(engine, result, before[name], f"{name} after another engine was closed")


def another_axis_is_taken_or_refused(engine: Engine) -> None:
    """A graph that differs in its parameters alone: it is computed from then on, or nothing has changed."""
    before = engine.graph
    other = compose(before.model, 1.01 * before.raman_shift[::-1])
    counts = probe(other, MAX_BATCH)
    plain = engine.retrieve(counts)
    if engine.adopt(other):
        expected = _reference(engine, counts)
        for name, result in engine.retrieve(counts).items():
            compare(f"its {name} on another axis", result, expected[name], engine.precision, expected[RAMAN])
        _require(engine.adopt(before), "it takes another axis, and then not the one of before")
    for name, result in engine.retrieve(counts).items():
        _same(engine, result, plain[name], f"{name} after another axis")


CHECKS: tuple[Callable[[Engine], None], ...] = (
    slabs_are_alike,
    says_what_it_is,
    equals_the_reference,
    every_batch_equals_its_rows,
    slabs_may_be_under_way_together,
    partial_batch_leaves_other_rows_alone,
    dark_is_subtracted,
    scale_of_counts_does_not_matter,
    no_light_gives_nothing,
    odd_counts_stay_finite,
    deviation_is_positive,
    another_axis_is_taken_or_refused,
    slabs_compute_at_once,
    another_one_comes_and_goes,
)


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise NonConformanceError(sentence)


def _same(engine: Engine, result: Slab, expected: Slab, what: str, factor: float = 1) -> None:
    found = difference(result, expected)
    allowed = factor * TOLERANCES[engine.precision]
    _require(found <= allowed, f"{what} differs by {found:.2g} of the maximum")


def _reference(engine: Engine, counts: Slab) -> dict[str, Slab]:
    with engine_class(REFERENCE)(engine.graph, len(counts), slabs=1) as reference:
        return reference.retrieve(counts)


def _with(model: Model, outputs: tuple[str, ...]) -> Model:
    """The model with these outputs; where it knows no deviation, it is given a tenth of |raman| and a bit."""
    proto = onnx.load_model_from_string(model.onnx)
    graph = proto.graph
    if DEVIATION not in [value.name for value in graph.output]:
        graph.initializer.append(numpy_helper.from_array(np.array([0.1], np.float32), "a tenth"))
        graph.node.append(helper.make_node("Abs", [RAMAN], ["size"]))
        graph.node.append(helper.make_node("Mul", ["size", "a tenth"], ["share"]))
        graph.node.append(helper.make_node("Add", ["share", "a tenth"], [DEVIATION]))
        graph.output.append(helper.make_tensor_value_info(DEVIATION, TensorProto.FLOAT, ["batch", "length"]))
    kept = [value for value in graph.output if value.name in outputs]
    del graph.output[:]
    graph.output.extend(kept)
    return replace(model, onnx=proto.SerializeToString())
