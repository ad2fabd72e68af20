"""What every output of the daemon can do, and all of them in turn."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import ClassVar

from cars_rt.daemon.batch import Batch, Entry
from cars_rt.daemon.mishaps import Mishaps
from cars_rt.daemon.run import Run
from cars_rt.daemon.seen.metric import Metric
from cars_rt.latency import Latencies
from cars_rt.sockets import Publisher


class Output(ABC):
    """One stream that the daemon publishes. The loop calls all of this; nothing here may wait."""

    name: ClassVar[str]  # in words, as "the preview"
    needed: ClassVar[bool]  # whether a run fails if it does; a mistake in another costs that one alone
    publisher: Publisher

    def __init__(self) -> None:
        self.unsent: list[tuple[Run, Entry, str]] = []  # frames that could not be made a message, and why
        self.latencies: dict[str, Latencies] = {}  # by stage

    @abstractmethod
    def open(self, run: Run) -> None:
        """A run begins; `run.published` is how."""

    def say_again(self, run: Run) -> None:
        """Something else makes the results of the run from now on, as `run.published` says."""
        if run.published is not None and run.published.model is not None:
            self.publisher.say_again(run.published.run, run.published.model)

    def prepare(self, batch: Batch) -> None:
        """A batch goes to the engine: say what is to be computed beside the results."""

    @abstractmethod
    def take(self, batch: Batch) -> None:
        """A batch is computed. An output that cannot send all of it now holds it until it has."""

    def work(self) -> None:
        """Send what there is room for. Called in every turn of the loop."""

    @abstractmethod
    def end(self, run: Run) -> None:
        """A run is over: `run.closed` is how, and all its batches were taken."""

    def serve(self) -> None:
        """Look after subscribers. Called about every tenth of a second, and when `due_s` is over."""
        self.publisher.serve()

    @property
    def due_s(self) -> float:
        """How soon it wants to be served, s."""
        return self.publisher.due_s

    def metrics(self) -> Iterator[Metric]:
        """What it counts, beside latencies and refused connections."""
        return iter(())

    @abstractmethod
    def close(self, linger_s: float | None) -> bool:
        """Close, if need be after linger_s; False if subscribers had not taken everything by then."""


class Outputs:
    """All outputs, one after the other."""

    def __init__(self, each: Sequence[Output], mishaps: Mishaps) -> None:
        self._all, self._mishaps = list(each), mishaps

    def __iter__(self) -> Iterator[Output]:
        return iter(self._all)

    @property
    def stalls(self) -> int:
        """How often a subscriber of a needed output was found to have stopped reading."""
        return sum(output.publisher.stalls for output in self._all if output.needed)

    def open(self, run: Run) -> None:
        """See Output."""
        self._each(lambda output: output.open(run))

    def say_again(self, run: Run) -> None:
        """See Output."""
        self._each(lambda output: output.say_again(run))

    def prepare(self, batch: Batch) -> None:
        """See Output."""
        self._each(lambda output: output.prepare(batch))

    def take(self, batch: Batch) -> None:
        """See Output."""
        self._each(lambda output: output.take(batch))

    def work(self) -> None:
        """See Output."""
        for output in self._all:  # in every turn of the loop
            output.work()

    def end(self, run: Run) -> None:
        """See Output."""
        self._each(lambda output: output.end(run))

    def serve(self, due: bool = False) -> None:
        """See Output. due: only those that are due now."""
        self._each(lambda output: output.serve(), [each for each in self._all if not due or each.due_s <= 0])

    @property
    def due_s(self) -> float:
        """How soon one of them wants to be served, s."""
        return min([output.due_s for output in self._all])

    def _each(self, do: Callable[[Output], object], these: Sequence[Output] | None = None) -> None:
        """A mistake in one that is needed is the run's; any other output fails alone. these: not all."""
        for output in self._all if these is None else these:
            with nullcontext() if output.needed else self._mishaps.contained(output.name):
                do(output)
