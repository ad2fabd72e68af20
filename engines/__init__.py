"""Inference engines and the shipped models.

An engine runs the deployment graph of one model on one instrument's axis. `open_engine` picks one by
name, compiles it and checks it against the reference before it serves.
"""

from importlib import import_module

import numpy as np

from cars_rt.engines.base import Engine, EngineError
from cars_rt.engines.graph import Graph, compose
from cars_rt.engines.model import DEFAULT_MODEL, Card, Model, ModelError, load_model, shipped_models

__all__ = [
    "AUTO",
    "DEFAULT_MODEL",
    "ENGINES",
    "TOLERANCE",
    "Card",
    "Engine",
    "EngineError",
    "Graph",
    "Model",
    "ModelError",
    "compose",
    "engine_class",
    "load_model",
    "open_engine",
    "retrieving",
    "shipped_models",
]

#: name: module and class; imported only when asked for, since most need packages of their own.
ENGINES = {
    "tensorrt": ("cars_rt.engines.tensorrt.engine", "TensorRT"),
    "onnxruntime": ("cars_rt.engines.onnxruntime", "OnnxRuntime"),
    "passthrough": ("cars_rt.engines.passthrough", "Passthrough"),
}
REFERENCE = "onnxruntime"
AUTO = "auto"
TOLERANCE = 2e-2  # of the spectrum's maximum: what reduced precision may change


def engine_class(name: str) -> type[Engine]:
    """The engine of this name. Raises EngineError if there is none."""
    if name not in ENGINES:
        raise EngineError(f"no engine is called {name!r}; there are {', '.join([AUTO, *ENGINES])}")
    module, cls = ENGINES[name]
    found: type[Engine] = getattr(import_module(module), cls)
    return found


def retrieving() -> list[str]:
    """Engines that run models, the fastest first."""
    return [name for name in ENGINES if engine_class(name).retrieves]


def open_engine(name: str, graph: Graph, max_batch: int, threads: int = 0) -> Engine:
    """A compiled engine, checked on a probe batch; `auto` takes the first of `retrieving` that passes.

    Raises EngineError with the reason (all reasons, for `auto`).
    """
    reasons = []
    for candidate in retrieving() if name == AUTO else [name]:
        cls = engine_class(candidate)
        reason = cls.unavailable()
        if reason is None:
            try:
                return _checked(cls(graph, max_batch, threads=threads))
            except EngineError as error:
                reason = str(error)
        reasons.append(f"{candidate}: {reason}")
    raise EngineError("; ".join(reasons))


def _checked(engine: Engine) -> Engine:
    try:
        check(engine)
    except EngineError:
        engine.close()
        raise
    return engine


def check(engine: Engine) -> None:
    """Compare an engine with the reference on a probe batch. Raises EngineError if they disagree."""
    probe = _probe(engine.graph)
    result = engine.run(probe)
    if not np.isfinite(result).all():
        raise EngineError(f"{engine.name} gives values that are not finite on a probe batch")
    if engine.name == REFERENCE or not engine.retrieves:
        return
    with engine_class(REFERENCE)(engine.graph, len(probe), slabs=1) as reference:
        expected = reference.run(probe)
    deviation = float(np.max(np.abs(result - expected)) / np.max(np.abs(expected)))
    if deviation > TOLERANCE:
        raise EngineError(f"{engine.name} differs from {REFERENCE} by {deviation:.2g} of the maximum")


def _probe(graph: Graph) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Spectra of one to three lines on a falling background, in camera counts; always the same."""
    shift = graph.raman_shift
    span, low = np.ptp(shift), shift.min()
    rows = []
    for lines in (1, 2, 3):
        centres = low + span * (np.arange(lines) + 1) / (lines + 1)
        chi = (6.0 / (centres[:, None] - shift - 5j)).sum(axis=0)
        rows.append(30_000 * np.exp(-2 * (shift - low) / span) * np.abs(1 + chi) ** 2)
    return np.array(rows, np.float32)
