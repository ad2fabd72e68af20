"""A change of what computes that is under way."""

from dataclasses import dataclass

from cars_rt.daemon.compute.worker import Worker
from cars_rt.engines import Model
from cars_rt.sockets.control import Answer


@dataclass
class Change:
    """A worker that is being compiled, and what for."""

    worker: Worker
    model: Model
    engine: str
    answer: Answer | None = None  # of a request
    repairs: bool = False
    awaited: bool = False  # what was asked for from the start; another engine stands in for it
    before: Worker | None = None  # compiled for an earlier axis, which the worker may have follow

    def tell(self, description: str) -> None:
        """Answer the request, if there was one, that the engine of this description computes now."""
        if self.answer is not None:
            card = self.model.card
            told = {"model": card.name, "version": card.version, "sha256": self.model.sha256}
            self.answer(None, told | {"engine": description})
