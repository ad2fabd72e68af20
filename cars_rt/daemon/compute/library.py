"""Models that are asked for by name while the daemon runs: each is read in a thread, one at a time."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cars_rt.daemon.compute.jobs import Jobs
from cars_rt.engines import EngineError, Model, load_model, takes_reference
from cars_rt.engines.classical import KK
from cars_rt.errors import CarsRtError
from cars_rt.sockets.control import Answer

log = logging.getLogger("cars_rt.daemon")

READ_S = 30.0  # how long a request waits for a model to be read


@dataclass
class _Reading:
    """A model that is being read, and what for."""

    model: Future[Model]
    then: Callable[[Model], None]
    answer: Answer
    since: float  # monotonic time
    given_up: bool = False


class Library:
    """Reads models for requests. A slow disk may take long, and the loop must not wait for it."""

    def __init__(self, load: Callable[[str], Model], bell: str) -> None:
        """load: a model by its name or path; called in the thread. bell: as for Jobs."""
        self._load, self._bell = load, bell
        self._thread: Jobs | None = None
        self._reading: _Reading | None = None

    def ask(self, name: str, then: Callable[[Model], None], answer: Answer) -> None:
        """Call `then` with the model as soon as it is read, or answer why it could not be.

        Raises EngineError while another one is being read.
        """
        if self._reading is not None:
            raise EngineError("another model is still being read; ask again when it is done")
        if self._thread is None:
            self._thread = Jobs("reads models", self._bell, lambda: None)
        model = self._thread.ask(partial(self._load, name))
        self._reading = _Reading(model, then, answer, time.monotonic())

    def settle(self) -> None:
        """Go on with a model that is read. The loop calls it whenever the bell rang, and now and then.

        Raises what `then` raised unless it is an error for people: the answer says it in either case.
        """
        reading = self._reading
        if reading is None:
            return
        if not reading.model.done():
            if not reading.given_up and time.monotonic() - reading.since > READ_S:
                reading.given_up = True  # no other one is read before the system returns from this one
                reading.answer(f"the model could not be read within {READ_S:g} s; nothing was changed", {})
            return
        self._reading = None
        if reading.given_up:
            return
        try:
            model = reading.model.result()
        except (CarsRtError, ValueError) as error:
            reading.answer(str(error), {})
            return
        except Exception as error:
            reading.answer(f"the model cannot be read: {type(error).__name__}: {error}", {})
            return
        try:
            reading.then(model)
        except (CarsRtError, ValueError) as error:
            reading.answer(str(error), {})
        except Exception as error:
            reading.answer(f"the daemon failed on this request: {type(error).__name__}: {error}", {})
            raise  # to be counted as what it is, a mistake of ours

    def close(self) -> None:
        """The daemon stops: nobody gets a model any more."""
        if self._thread is not None:
            self._thread.close()
        reading, self._reading = self._reading, None
        if reading is not None and not reading.given_up:
            reading.answer("the daemon stops", {})


def load_with(model: str, reference: Path | None) -> Model:
    """A model by its name or path, with the reference if it takes one. Raises ModelError."""
    if model == KK and reference is None:
        log.warning(
            "model %s without --reference: the background is estimated from each spectrum, so what the "
            "instrument itself has that is as narrow as a line looks like one, and broad bands come out "
            "too low (docs/retrieval.md)", model,
        )  # fmt: skip
    return load_model(model, reference if takes_reference(model) else None)
