"""The engine that a run needs, while it is being opened, and another one that computes until it is there."""

from collections.abc import Callable, Sequence

from cars_rt.daemon.compute.worker import Worker
from cars_rt.engines import AUTO, EngineError, engine_class, quick_engines

STAND_IN_S = 1.0  # how long spectra wait for an engine that may compile for minutes


class Opening:
    """An engine that compiles for minutes, or that was asked for by name and fails, does not keep spectra
    waiting: one that opens in seconds stands in for it.

    Who owns it calls `look` often, and once it is `over` takes the worker that works, if one does.
    """

    def __init__(
        self,
        wanted: Worker,
        engine: str,
        another: Callable[[Sequence[str]], Worker] | None,
        *,
        stands_in: bool = False,
    ) -> None:
        """engine: as it was asked for. another: makes a worker like it, of the first of some engines that
        works; None: nothing stands in for it. stands_in: it stands in itself, for one that goes on compiling
        beside it."""
        self.wanted, self.stands_in = wanted, stands_in
        self.other: Worker | None = None  # that stands in for it
        self._engine, self._another = engine, another

    def look(self) -> None:
        """Begin to open a stand-in when that is due."""
        if self._another is not None and self.other is None and (self._late or self._replaceable):
            self.other = self._another(quick_engines(self._engine))

    @property
    def over(self) -> bool:
        """Whether one of them works, or none does."""
        wanted, other = self.wanted, self.other
        if wanted.works or (other is not None and other.works):
            return True
        gone = wanted.ready.done() or wanted.overdue()
        return gone and (not self._replaceable if other is None else other.ready.done())

    @property
    def _late(self) -> bool:
        compiling = self.wanted.compiling
        return compiling.slow and not self.wanted.ready.done() and compiling.seconds > STAND_IN_S

    @property
    def _replaceable(self) -> bool:
        """Whether it failed, and another engine would do: `auto` has tried them all."""
        wanted = self.wanted
        return (
            self._another is not None
            and wanted.ready.done()
            and isinstance(wanted.ready.exception(), EngineError)
            and self._engine != AUTO
            and engine_class(self._engine).retrieves
        )
