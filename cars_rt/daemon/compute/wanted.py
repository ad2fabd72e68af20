"""Which engine was asked for, and why another one computes."""

import logging

from cars_rt.daemon.compute.worker import Worker
from cars_rt.engines import AUTO, EngineError, engine_class, require

log = logging.getLogger("cars_rt.daemon")


class Wanted:
    """The engine that was asked for at the start or by a reload.

    One that cannot run here has others in its place, since spectra that come shall be computed.
    Raises EngineError if there is none of this name, or if none may replace it: that is not wanted, or it
    retrieves nothing.
    """

    def __init__(self, engine: str, *, stand_in: bool = True) -> None:
        """stand_in: others may replace it."""
        self.owed = False  # it was given up for something more urgent, and is to be compiled once more
        self._unusable = ""
        try:
            self.engine = known(engine)
        except EngineError as error:
            if not stand_in or not engine_class(engine).retrieves:
                raise
            self.engine, self._unusable = AUTO, str(error)
            log.warning("%s; in its place computes the fastest engine that works", error)
        self.instead = self._unusable  # why another one computes, in words; empty if none does

    @property
    def title(self) -> str:
        """For people."""
        return "the fastest engine" if self.engine == AUTO else self.engine

    def change(self, engine: str) -> None:
        """Another one was asked for, and computes."""
        self.engine, self._unusable, self.instead, self.owed = engine, "", "", False

    def met(self, computing: Worker) -> bool:
        """Whether this is what was asked for, and nothing in its place."""
        named = self.engine in (AUTO, computing.engine.name)
        return named and self.instead == self._unusable and not self.owed

    def computes(self) -> None:
        """It does."""
        self.instead, self.owed = self._unusable, False

    def compiles(self, computing: Worker) -> None:
        """It will take long; until then another one computes."""
        log.info(
            "%s is being compiled, which may take minutes the first time; until then computes %s",
            self.title, computing.engine.describe(),
        )  # fmt: skip
        self.instead = self._with_reason(f"{self.title} is to be compiled again")

    def failed(self, reason: str, computing: Worker) -> None:
        """It cannot compute; another one does, and goes on."""
        self.instead, self.owed = reason, False
        log.warning("%s; in its place computes %s", reason, computing.engine.describe())

    def progress(self, worker: Worker) -> str:
        """That it is being compiled, since when, and how far that is."""
        so_far = worker.compiling.so_far
        text = f"{self.title} is being compiled, which may take minutes the first time ({so_far})"
        return self._with_reason(text)

    def _with_reason(self, text: str) -> str:
        return f"{self._unusable}; {text}" if self._unusable else text


def known(engine: str) -> str:
    """The engine's name. Raises EngineError if there is none of it here."""
    if engine != AUTO:
        require(engine)
    return engine
