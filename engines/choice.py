"""Opening an engine: the one that was named, or the fastest one that works and agrees."""

import hashlib
import logging
import re

from cars_rt.engines.agreement import check
from cars_rt.engines.base import Engine, EngineError
from cars_rt.engines.graph import Graph
from cars_rt.engines.registry import (
    AUTO,
    REFERENCE,
    compiled,
    engine_class,
    reason_against,
    require,
    retrieving,
)
from cars_rt.engines.rehearsal import Tried, rehearse

log = logging.getLogger("cars_rt.engines")

Attempts = dict[str, Tried]
SPARE = "only if no other works"
#: By model or graph, batch, threads and candidates.
_rehearsed: dict[tuple[str, int, int, tuple[str, ...]], Attempts] = {}
_said: set[str] = set()  # of engines chosen, once each


def open_engine(name: str, graph: Graph, max_batch: int, threads: int = 0) -> Engine:
    """A compiled engine, checked on a probe batch; `auto` takes the fastest that passes.

    `auto` tries the engines in a process of their own, once for a model, unless there is only one.
    Raises EngineError with the reason (all reasons, for `auto`).
    """
    if name != AUTO:
        require(name)
        try:
            _rehearsed_alone(name, graph, max_batch, threads)
            return _open(name, graph, max_batch, threads)
        except EngineError as error:
            raise EngineError(f"{name}: {error}") from error
    against = {each: reason_against(each) for each in retrieving()}
    usable = [each for each, reason in against.items() if reason is None]
    spare = [each for each in usable if engine_class(each).last_resort()]
    attempts = {each: Tried(reason=reason) for each, reason in against.items() if reason is not None}
    attempts |= _tried(graph, [each for each in usable if each not in spare], max_batch, threads)
    ranked = sorted(
        (each for each, tried in attempts.items() if not tried.reason), key=lambda each: -attempts[each].merit
    )
    # If the process itself could not be had, the reference is still there.
    for candidate in [*ranked, *spare, *([] if REFERENCE in ranked else [REFERENCE])]:
        try:
            engine = _open(candidate, graph, max_batch, threads)
        except EngineError as error:
            attempts[candidate] = Tried(reason=str(error))
            continue
        attempts |= {each: Tried(reason=SPARE) for each in spare if each not in attempts}
        _say(engine, attempts, set(against) - set(usable))
        return engine
    raise EngineError(
        "; ".join(f"{each}: {tried.reason}" for each, tried in attempts.items() if tried.reason)
    )


def _tried(graph: Graph, candidates: list[str], max_batch: int, threads: int) -> Attempts:
    if len(candidates) < 2:
        return {each: Tried() for each in candidates}
    key = (graph.model.sha256, max_batch, threads, tuple(candidates))
    if key not in _rehearsed:
        _rehearsed[key] = rehearse(graph, candidates, max_batch, threads)
    return dict(_rehearsed[key])


def _rehearsed_alone(name: str, graph: Graph, max_batch: int, threads: int) -> None:
    """Try an engine that may crash where only a child process is lost; what it compiles there is kept on
    disk. Once for a graph. Raises EngineError with the reason."""
    if not engine_class(name).fragile:
        return
    key = (hashlib.sha256(graph.onnx).hexdigest(), max_batch, threads, (name,))
    if key not in _rehearsed:
        _rehearsed[key] = rehearse(graph, [name], max_batch, threads, rates=False)
    if reason := _rehearsed[key][name].reason:
        del _rehearsed[key]  # what was wrong may have been mended when it is asked for again
        raise EngineError(reason)


def _open(name: str, graph: Graph, max_batch: int, threads: int) -> Engine:
    engine = compiled(name, graph, max_batch, threads)
    try:
        check(engine)
    except BaseException:
        engine.close()
        raise
    return engine


def _say(engine: Engine, attempts: Attempts, absent: set[str]) -> None:
    """One line, once: what was chosen, and what went wrong with another one that is there; the rest of it for
    those who look closer. `cars-rt doctor` has it all, with the remedies."""

    def about(name: str) -> str:
        tried = attempts.get(name, Tried())
        return without_remedy(tried.reason) or (
            f"{tried.rate:,.0f} spectra/s" if tried.rate else "not measured"
        )

    others = {name: f"{name}: {about(name)}" for name in attempts if name != engine.name}
    failed = [text for name, text in others.items() if name not in absent and _went_wrong(attempts[name])]
    line = "; ".join([f"engine {engine.describe()}, {about(engine.name)}", *failed])
    log.log(logging.DEBUG if line in _said else logging.INFO, "%s", line)
    _said.add(line)
    log.debug("other engines: %s", "; ".join(others.values()))


def _went_wrong(tried: Tried) -> bool:
    return bool(tried.reason) and tried.reason != SPARE


def without_remedy(reason: str) -> str:
    """What an engine says against itself, less what to do about it: what a semicolon or a command begins."""
    return re.split(r"; |: (?=.*\bpip\b.* install )", reason, maxsplit=1)[0]
