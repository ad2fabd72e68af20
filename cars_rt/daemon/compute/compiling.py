"""A compilation: of a graph, on the first kind of engine that works; how long and how far it is."""

import time
from collections.abc import Sequence

from cars_rt.engines import Engine, EngineError, Graph, open_engine, takes_long
from cars_rt.engines.underway import told
from cars_rt.printable import printable

COMPILE_S = 900.0  # a compilation that takes longer is given up: the slowest known takes some minutes
TOO_LONG = f"it was not compiled within {COMPILE_S / 60:g} minutes"


class Compiling:
    """It has begun when this is made. `open` is called by the engine's thread, all else by anybody."""

    def __init__(self, kinds: Sequence[str], max_batch: int, threads: int) -> None:
        self.slow = False  # it may take minutes
        self._begun = time.monotonic()
        self._underway = ""  # how far it is, in words, where the engine tells
        self._kinds, self._max_batch, self._threads = list(kinds), max_batch, threads

    def open(self, graph: Graph) -> Engine:
        """The engine that computes this graph. Raises EngineError if no kind can, with all reasons."""
        self.slow = any(takes_long(kind) for kind in self._kinds)
        reasons = []
        for kind in self._kinds:
            try:
                with told(self._hear):
                    return open_engine(kind, graph, self._max_batch, self._threads)
            except EngineError as error:
                reasons.append(str(error))
        raise EngineError("; ".join(reasons))

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._begun

    @property
    def so_far(self) -> str:
        """How long it has been compiling, and how far that is, where the engine tells."""
        since = f"{self.seconds:.0f} s so far"
        return f"{since}, {self._underway}" if self._underway else since

    def _hear(self, text: str) -> None:
        self._underway = printable(text)
