"""Engines tried in a process of their own: whether they compile, whether they agree, how fast they are.

A driver may crash its process, and a compiler or a device may hang it for good, GIL and all (bfloat16 on
a processor without AMX has been seen to). So the process is one that may be lost.
"""

import atexit
import faulthandler
import io
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cars_rt.engines.agreement import ALONE, COMPUTES, check, probe
from cars_rt.engines.base import Engine, EngineError
from cars_rt.engines.graph import Graph
from cars_rt.engines.model import Card, Model
from cars_rt.engines.registry import compiled, engine_class
from cars_rt.engines.underway import say, told
from cars_rt.installation import python

ROWS = 64  # of the batch that is measured: what it is like under load
FEW = (1, 2, 1, 3, 1, 1, 4, 2)  # rows of one batch after the other: what it is like otherwise
ROUNDS, ROUND_S = 3, 0.1
PARAMETER = "parameter "  # before the names of a graph's parameters
UNDERWAY = b"underway "  # before what a process says of how far it is
ANSWER = b"answer "  # before what came of an engine; other lines are of whatever else prints
TIMEOUT = b"Timeout ("  # begins what faulthandler says when it ends a process
CRASHED, HUNG = "crashed when it was tried", "hung when it was tried"  # begin the reason against such engines
ENDING_S = 5.0  # what a driver may take to let the process end


@dataclass(frozen=True)
class Tried:
    """What came of one engine: why it cannot be used, or how it did."""

    rate: float = 0.0  # spectra/s in batches of ROWS; 0: not measured
    rate_of_few: float = 0.0  # spectra/s in batches of FEW rows
    reason: str = ""
    difference: float = 0.0  # from the reference, of a spectrum's maximum
    about: str = ""  # as the engine describes itself
    open_s: float = 0.0  # that it took to load and compile, s

    @property
    def merit(self) -> float:
        """What engines are compared by: under load the one rate matters, for latency the other. A share of
        either is worth as much."""
        return math.sqrt(self.rate * self.rate_of_few)

    @property
    def lost(self) -> bool:
        """Whether it would take with it whatever process opens it."""
        return self.reason.startswith((CRASHED, HUNG))


class GivenUpError(EngineError):
    """Nobody wants to know any more what would have come of an engine."""


class _Children:
    """The processes in which engines are tried, by the thread that waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[int, subprocess.Popen[bytes] | None] = {}  # None: between two of them
        self._given_up: set[int] = set()

    def begin(self) -> None:
        """This thread tries engines from now on."""
        with self._lock:
            self._running[threading.get_ident()] = None

    def answers(self, content: bytes) -> tuple[list[bytes], int | None, str]:
        """What a process answers that is given this content; its exit status, or None if patience with an
        engine ended it; what that engine computed then, empty if nothing. What it says of how far it is, is
        passed on. Raises OSError if there can be none, GivenUpError after `give_up`."""
        me = threading.get_ident()
        with self._lock:
            if me in self._given_up:
                raise GivenUpError("given up")
            self._running[me] = child = subprocess.Popen(
                python("-m", __name__),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        said, impatient, computes = [], False, ""
        with child:
            assert child.stdin is not None and child.stdout is not None
            with suppress(OSError):  # it has ended, as its status says; the kind depends on the system
                child.stdin.write(content)
            with suppress(OSError):
                child.stdin.close()
            for line in child.stdout:
                if line.startswith(UNDERWAY):
                    text = line.removeprefix(UNDERWAY).decode(errors="replace").strip()
                    if text.startswith(COMPUTES):
                        computes = text.removeprefix(COMPUTES).strip(": ")
                    say(text)
                elif line.startswith(ANSWER):
                    said.append(line.removeprefix(ANSWER))
                    computes = ""
                elif line.startswith(TIMEOUT):
                    impatient = True
        if me in self._given_up:
            raise GivenUpError("given up")
        return said, None if impatient else child.returncode, computes

    def end(self) -> None:
        """This thread tries no more."""
        with self._lock:
            self._running.pop(threading.get_ident(), None)
            self._given_up.discard(threading.get_ident())

    def give_up(self, thread: int) -> None:
        with self._lock:
            if thread in self._running:
                self._given_up.add(thread)
                if (child := self._running[thread]) is not None:
                    child.kill()

    def give_up_all(self) -> None:
        for thread in list(self._running):
            self.give_up(thread)


_children = _Children()
#: What compiles for minutes shall not outlive who wanted it.
atexit.register(_children.give_up_all)


def give_up(thread: int | None) -> None:
    """Have `rehearse` in this thread end now, with GivenUpError; nothing if it is not there."""
    if thread is not None:
        _children.give_up(thread)


def rehearse(
    graph: Graph, names: list[str], max_batch: int, threads: int, *, rates: bool = True
) -> dict[str, Tried]:
    """Try engines one after the other; takes as long as they take, and ends even if they do not. rates: also
    measure how fast they are. Raises GivenUpError after `give_up`."""
    _children.begin()
    try:
        return _rehearsed(graph, names, max_batch, threads, rates)
    finally:
        _children.end()


def _rehearsed(graph: Graph, names: list[str], max_batch: int, threads: int, rates: bool) -> dict[str, Tried]:
    found: dict[str, Tried] = {}
    while left := [name for name in names if name not in found]:
        try:
            said, status, computes = _children.answers(_packed(graph, left, max_batch, threads, rates))
        except OSError as error:
            return found | {name: Tried(reason=f"cannot be tried: {error}") for name in left}
        for line in said:
            answer = json.loads(line)
            name = answer.pop("name")
            found[name] = Tried(**answer)
        lost = next((name for name in left if name not in found), None)
        if lost is not None:  # it took the process with it
            found[lost] = Tried(reason=_against(lost, status, computes))
    return found


def _against(name: str, status: int | None, computes: str) -> str:
    if status is not None:
        return f"{CRASHED} (exit status {status})"
    patience_s = engine_class(name).patience_s
    if computes:
        said = f"is too slow for this model: more than {patience_s:g} s for {computes}"
        return said if computes == ALONE else f"{said}; `cars-rt run --max-batch` makes batches smaller"
    return f"{HUNG}: no sign of it for {patience_s:g} s"


def rate(engine: Engine, batches: Sequence[int] = (ROWS,)) -> float:
    """Spectra per second in batches of so many rows, over and over, the best of a few rounds."""
    batches = [min(engine.max_batch, rows) for rows in batches]
    engine.inputs[0][: max(batches)] = probe(engine.graph, max(batches))
    best = np.inf
    for _ in range(ROUNDS):
        say(f"{COMPUTES}: batches of {', '.join(map(str, batches))}")
        end = time.perf_counter() + ROUND_S
        while True:
            begin = time.perf_counter()
            for rows in batches:
                engine.launch(0, rows)
                engine.wait(0)
            now = time.perf_counter()
            best = min(best, now - begin)
            if now > end:
                break
        if best > ROUNDS * ROUND_S:  # a slow model's, of which one is enough
            break
    return float(sum(batches) / best)


# -- in the process -----------------------------------------------------------------------------------------


def main() -> None:
    """Read what to try from standard input; write a line for each engine as soon as it is known."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    print(file=answers)  # what was printed until now may have ended within a line
    os.dup2(2, 1)  # drivers print what they like
    graph, names, max_batch, threads, rates = _unpacked(sys.stdin.buffer.read())

    def be_patient() -> None:
        # A thread of C++ ends the process in time, even if nothing in it runs any more.
        faulthandler.dump_traceback_later(engine_class(name).patience_s, exit=True, file=answers)

    def underway(text: str) -> None:
        be_patient()
        print(f"{UNDERWAY.decode()}{text}", file=answers, flush=True)

    for name in names:
        try:
            be_patient()
            begin = time.perf_counter()
            with told(underway), compiled(name, graph, max_batch, threads) as engine:
                open_s = time.perf_counter() - begin
                underway("it is compiled")
                difference = check(engine)
                measured, of_few = (rate(engine), rate(engine, FEW)) if rates else (0.0, 0.0)
                tried = Tried(measured, of_few, "", difference, engine.describe(), open_s)
        except Exception as error:
            tried = Tried(reason=str(error) or type(error).__name__)
        print(ANSWER.decode() + json.dumps({"name": name} | asdict(tried)), file=answers, flush=True)
    faulthandler.dump_traceback_later(ENDING_S, exit=True)


def _packed(graph: Graph, names: list[str], max_batch: int, threads: int, rates: bool) -> bytes:
    about = {
        "names": names,
        "max_batch": max_batch,
        "threads": threads,
        "rates": rates,
        "outputs": graph.outputs,
        "sha256": graph.model.sha256,
        "card": asdict(graph.model.card),
    }
    parameters: dict[str, Any] = {PARAMETER + name: value for name, value in graph.parameters.items()}
    stream = io.BytesIO()
    np.savez(
        stream,
        about=np.array(json.dumps(about)),
        graph=np.frombuffer(graph.onnx, np.uint8),
        model=np.frombuffer(graph.model.onnx, np.uint8),
        raman_shift=graph.raman_shift,
        **parameters,
    )
    return stream.getvalue()


def _unpacked(content: bytes) -> tuple[Graph, list[str], int, int, bool]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        about = json.loads(str(arrays["about"]))
        model = Model(arrays["model"].tobytes(), Card(**about["card"]), about["sha256"])
        names = [name for name in arrays if name.startswith(PARAMETER)]
        parameters = {name.removeprefix(PARAMETER): arrays[name] for name in names}
        content, outputs = arrays["graph"].tobytes(), tuple(about["outputs"])
        graph = Graph(content, arrays["raman_shift"], model, outputs, parameters)
    return graph, about["names"], about["max_batch"], about["threads"], about["rates"]


if __name__ == "__main__":
    main()
