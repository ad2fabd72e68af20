"""What a worker of a Dask cluster does: one range of spectra into one part, with an engine that it keeps.

Nothing but names and numbers comes from the client. The file is opened here, within the task; the engine is
made once in each process of a worker and stays in the one thread that made it, whatever thread a task runs
in.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines import Engine, Model
from cars_rt.files.offline.parts import write_part
from cars_rt.files.offline.recipe import Recipe, made_from
from cars_rt.files.offline.retrieval import Maker, Retrieval, chosen, engine_for
from cars_rt.files.spectra import SpectraError


@dataclass(frozen=True)
class Task:
    """A range of one file. expected: what `made_from` says of it where the client is."""

    source: Path
    recipe: Recipe
    expected: str
    first: int = 0
    last: int = 0
    part: Path = field(default_factory=Path)


class Bench:
    """An engine and its thread, for one file and recipe at a time."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "engine")
        self._key: tuple[Any, ...] = ()
        self._model: Model | None = None
        self._engine: Engine | None = None
        self._held = ExitStack()

    def maker(self, task: Task) -> Maker:
        """What would make the results."""
        return self._thread.submit(self._make, task).result()

    def compute(self, task: Task) -> int:
        """Make the part, unless it is there; how many spectra it has."""
        return self._thread.submit(self._compute, task).result()

    def _make(self, task: Task) -> Maker:
        with task.recipe.opened(task.source) as spectra:
            return self._retrieval(task, spectra).maker

    def _compute(self, task: Task) -> int:
        if not task.part.exists():
            rows: list[dict[str, NDArray[Any]]] = []
            with task.recipe.opened(task.source) as spectra:
                self._retrieval(task, spectra).rows(task.first, task.last, rows.append)
            write_part(task.part, {name: np.concatenate([each[name] for each in rows]) for name in rows[0]})
        return task.last - task.first

    def _retrieval(self, task: Task, spectra: Any) -> Retrieval:
        key = (task.source, task.recipe, task.expected)
        if self._key != key:
            self._held.close()
            self._key = ()
            self._model = chosen(task.recipe, spectra)
            if made_from(task.source, spectra, self._model) != task.expected:
                raise SpectraError(
                    f"a worker sees another {task.source} than the client, or has another model: share the "
                    "folder and install the same release everywhere"
                )
            self._engine = self._held.enter_context(engine_for(spectra, self._model, task.recipe.engine))
            self._key = key
        assert self._model is not None and self._engine is not None
        return Retrieval(task.source, spectra, self._model, self._engine)


_bench: Bench | None = None
_lock = Lock()


def bench() -> Bench:
    """That of this process."""
    global _bench
    with _lock:
        _bench = _bench or Bench()
        return _bench


def maker_of(task: Task) -> Maker:
    """In a worker: the engine that it has for a task."""
    return bench().maker(task)


def compute(task: Task) -> int:
    """In a worker: one part."""
    return bench().compute(task)
