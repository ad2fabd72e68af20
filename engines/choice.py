"""Opening an engine: the one that was named, or the fastest one that works and agrees."""

import hashlib
import logging
import re
import time

from cars_rt.engines import remembered
from cars_rt.engines.agreement import check, computed
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
from cars_rt.engines.rehearsal import GivenUpError, Tried, rehearse

log = logging.getLogger("cars_rt.engines")

Attempts = dict[str, Tried]
SPARE = "only if no other works"
LONG_S = 60.0  # an engine that is given more than this to open may take minutes
#: By model, batch, threads and candidates: when (monotonic, s), and what came of it.
_rehearsed: dict[tuple[str, int, int, tuple[str, ...]], tuple[float, Attempts]] = {}
_safe: set[str] = set()  # what is fragile and has been opened in this process, as `_one` names it
_said: set[str] = set()  # what was logged of chosen engines, so that each is logged once


def open_engine(name: str, graph: Graph, max_batch: int, threads: int = 0, lanes: int = 0) -> Engine:
    """A compiled engine, checked on a probe batch; `auto` takes the fastest that passes.

    lanes: batches that are wanted under way at once, of an engine that can do that (`reentrant`): it gets a
    slab for each, and the cores in equal shares.
    `auto` tries the engines in a process of their own, once for a model, unless there is only one; what it
    found is kept on disk (see `remembered`).
    Raises EngineError with the reason (for `auto` that of the reference engine), GivenUpError after
    `give_up`.
    """
    if name != AUTO:
        require(name)
        try:
            return _open(name, graph, max_batch, threads, lanes)
        except GivenUpError:
            raise
        except EngineError as error:
            raise EngineError(f"{name}: {error}") from error
    return _fastest(graph, max_batch, threads, lanes, recalling=True)


def _fastest(graph: Graph, max_batch: int, threads: int, lanes: int, *, recalling: bool) -> Engine:
    against = {each: reason_against(each) for each in retrieving()}
    usable = [each for each, reason in against.items() if reason is None]
    spare = [each for each in usable if engine_class(each).last_resort()]
    candidates = [each for each in usable if each not in spare]
    attempts = {each: Tried(reason=reason) for each, reason in against.items() if reason is not None}
    recalled, found = _tried(graph, candidates, max_batch, threads, recalling=recalling)
    attempts |= found
    ranked = sorted(
        (each for each, tried in attempts.items() if not tried.reason), key=lambda each: -attempts[each].merit
    )
    # If no process could be started, the reference engine is still there. All others are compared with it.
    lost = attempts.get(REFERENCE, Tried()).lost
    last = [] if lost else [*spare, *([] if REFERENCE in ranked else [REFERENCE])]
    for candidate in [*ranked, *last]:
        try:
            engine = _open(candidate, graph, max_batch, threads, lanes)
        except GivenUpError:  # no other is wanted either
            raise
        except EngineError as error:
            if recalled:  # it is true no longer: all are tried anew
                _forget(graph, candidates, max_batch, threads)
                return _fastest(graph, max_batch, threads, lanes, recalling=False)
            attempts[candidate] = Tried(reason=str(error))
            continue
        attempts |= {each: Tried(reason=SPARE) for each in spare if each not in attempts}
        _say(engine, attempts, set(against) - set(usable))
        return engine
    # What all others are judged by fails: they have nothing to add, whatever they are.
    log.debug("engines: %s", "; ".join(f"{each}: {tried.reason}" for each, tried in attempts.items()))
    raise EngineError(f"{REFERENCE}: {attempts[REFERENCE].reason}")


def adopted(engine: Engine, graph: Graph) -> bool:
    """Have an open engine compute another graph, if that takes no compiling; it was checked when it was
    opened, so a probe batch need only be computed. Raises EngineError if that fails: it is of no use then."""
    if not engine.adopt(graph):
        return False
    computed(engine)
    return True


def takes_long(name: str) -> bool:
    """Whether opening an engine may take minutes the first time: it compiles, or `auto` may choose one that
    does. Never raises."""
    names = retrieving() if name == AUTO else [name]
    return any(_compiles(each) and reason_against(each) is None for each in names)


def quick_engines(besides: str) -> list[str]:
    """Engines that retrieve and open in seconds, if they work here, those thought fastest first."""
    return [each for each in retrieving() if each != besides and not _compiles(each)]


def _compiles(name: str) -> bool:
    try:
        cls = engine_class(name)
        return cls.patience_s > LONG_S and not cls.last_resort()
    except Exception:  # where it is asked for, it says why it cannot
        return False


def _tried(
    graph: Graph, candidates: list[str], max_batch: int, threads: int, *, recalling: bool
) -> tuple[bool, Attempts]:
    """Whether it is known from disk how the candidates do, and how that is."""
    if len(candidates) < 2:
        return False, {each: Tried() for each in candidates}
    key = (graph.model.sha256, max_batch, threads, tuple(candidates))
    if key in _rehearsed:
        since, found = _rehearsed[key]
        failed = any(tried.reason for tried in found.values())
        if not failed or time.monotonic() - since <= remembered.FAILURE_BELIEVED_S:
            return False, dict(found)
    about = remembered.facts(graph, candidates, max_batch, threads)
    known = remembered.recall(about) if recalling else None
    if known is None:
        found = rehearse(graph, candidates, max_batch, threads)
        if not all(tried.reason for tried in found.values()):
            remembered.remember(about, found)
        _safe.update(_one(each, graph, max_batch, threads) for each in found if not found[each].reason)
    attempts = found if known is None else known
    _rehearsed[key] = time.monotonic(), attempts
    return known is not None, dict(attempts)


def _forget(graph: Graph, candidates: list[str], max_batch: int, threads: int) -> None:
    _rehearsed.pop((graph.model.sha256, max_batch, threads, tuple(candidates)), None)
    remembered.forget(remembered.facts(graph, candidates, max_batch, threads))


def _open(name: str, graph: Graph, max_batch: int, threads: int, lanes: int) -> Engine:
    """An engine that is fragile is first tried where only a child process is lost, which also keeps on disk
    what it compiles. That is so once for a graph: what went well is remembered, but not while the engine is
    opened here."""
    if not engine_class(name).fragile():
        return _opened(name, graph, max_batch, threads, lanes)
    about = remembered.facts(graph, [name], max_batch, threads, exactly=True)
    one, known = _one(name, graph, max_batch, threads), remembered.recall(about)
    if known is None and one not in _safe:
        known = rehearse(graph, [name], max_batch, threads, rates=False)
        if reason := known[name].reason:
            raise EngineError(reason)
    remembered.forget(about)
    engine = _opened(name, graph, max_batch, threads, lanes)
    _safe.add(one)
    remembered.remember(about, known or {name: Tried()})
    return engine


def _one(name: str, graph: Graph, max_batch: int, threads: int) -> str:
    return f"{name} {hashlib.sha256(graph.onnx).hexdigest()} {max_batch} {threads}"


def _opened(name: str, graph: Graph, max_batch: int, threads: int, lanes: int) -> Engine:
    engine = compiled(name, graph, max_batch, threads, lanes)
    try:
        check(engine)
    except BaseException:
        engine.close()
        raise
    return engine


def _say(engine: Engine, attempts: Attempts, absent: set[str]) -> None:
    """Log, once, what was chosen and what went wrong with other engines that are there. Details are logged
    below that level. `cars-rt doctor` shows everything, with the remedies."""

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
    """The reason against an engine without its remedy, which begins at a semicolon or a command."""
    return re.split(r"; |: (?=.*\bpip\b.* install )", reason, maxsplit=1)[0]
