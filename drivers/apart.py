"""Where an instrument lives: in the loop that publishes, or in a thread or a process of its own."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pickle import PickleError
from typing import Any

from cars_rt.drivers.base import Acquisition, Instrument, InstrumentError, Yielded
from cars_rt.drivers.threaded import ENDS_S, InThread, Make
from cars_rt.stops import STOPS

log = logging.getLogger("cars_rt.drivers")

SAFE_PATH = "PYTHONSAFEPATH"  # environment, as Python names it


def placed(make: Make) -> Instrument:
    """The instrument that `make` makes, where its class says that it lives. Raises what `make` raises.

    make: the class, or a functools.partial of it; one that lives in a process must be picklable.
    """
    made: Any = getattr(make, "func", make)
    lives = getattr(made, "lives", "here")
    if lives == "here":
        return make()
    silent_s = float(made.silent_s)
    return InProcess(make, silent_s) if lives == "process" else InThread(make, silent_s)


class InProcess(Instrument):
    """An instrument in a process of its own, which is ended when it hangs, and whose death is an error.

    There it lives in a thread of its own, with that thread's queue. The pipe between them is of these two
    processes alone; multiprocessing pickles what goes through it. Raises InstrumentError with what the
    instrument said, and if it gave no sign for `silent_s` and two exposures, or its process died.
    """

    def __init__(self, make: Make, silent_s: float = 30.0) -> None:
        self._silent_s = silent_s
        self._exposure_s = 0.0
        here, there = multiprocessing.get_context("spawn").Pipe()
        self._pipe: Connection = here
        self._process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(there, make, silent_s), daemon=True, name="instrument"
        )
        try:
            with _no_file_for_a_module():
                self._process.start()
        except (AttributeError, TypeError, PickleError) as error:
            here.close()
            there.close()
            raise InstrumentError(
                f"its class and settings must be importable, since it lives in a process of its own: {error}"
            ) from None
        there.close()
        try:
            self._receive("made", silent_s + 60.0)  # a new process imports everything first
        except BaseException:
            self._end(ENDS_S)
            raise

    def acquisition(self) -> Acquisition:
        self._tell("acquisition")
        about: Acquisition = self._receive("acquisition", self._silent_s + ENDS_S)
        self._exposure_s = 0.0
        self._heed(about)
        return about

    def frames(self) -> Iterator[Yielded]:
        self._tell("frames")
        over = False
        try:
            while True:
                what, given = self._take(self._silent_s + ENDS_S + 2 * self._exposure_s)
                if what == "end":
                    over = True
                    return
                self._heed(given)
                yield given
        finally:
            if not over:
                with suppress(InstrumentError):
                    self._tell("stop")
                    deadline = time.monotonic() + ENDS_S
                    while self._take(max(deadline - time.monotonic(), 0.0))[0] != "end":
                        pass

    def halt(self) -> bool:
        self._tell("stop")
        return True

    def close(self) -> None:
        with suppress(InstrumentError):
            self._tell("close")
        self._end(ENDS_S)

    def _heed(self, given: Yielded) -> None:
        if isinstance(given, Acquisition):
            self._exposure_s = given.exposure_s or 0.0

    def _end(self, patience_s: float) -> None:
        self._process.join(patience_s)
        if self._process.is_alive():
            log.warning("the process of the instrument does not end by itself, and is ended")
            self._process.kill()
            self._process.join()
        self._pipe.close()

    def _tell(self, order: str) -> None:
        try:
            self._pipe.send(order)
        except (OSError, ValueError):
            raise self._died() from None

    def _receive(self, wanted: str, patience_s: float) -> Any:
        """The answer to an order."""
        while True:
            what, value = self._take(patience_s)
            if what == wanted:
                return value

    def _take(self, patience_s: float) -> tuple[str, Any]:
        what = "said"
        while what == "said":
            try:
                if not self._pipe.poll(patience_s):
                    silent = f"gave no sign for {patience_s:.0f} s: its library hangs"
                    raise InstrumentError(f"the process of the instrument {silent}")
                what, value = self._pipe.recv()
            except (EOFError, OSError):
                raise self._died() from None
            if what == "said":
                log.log(*value)
        if what == "error":
            raise InstrumentError(value)
        return what, value

    def _died(self) -> InstrumentError:
        self._process.join(ENDS_S)
        code = self._process.exitcode
        how = f"exit code {code}"
        if code is not None and code < 0:
            with suppress(ValueError):
                how = f"signal {signal.Signals(-code).name}"
        return InstrumentError(f"the process of the instrument died ({how}): its library crashed")


@contextmanager
def _no_file_for_a_module() -> Iterator[None]:
    """A process that begins meanwhile takes no file in the current folder, such as socket.py, for a module of
    Python's: multiprocessing has no other way to say so."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


def _serve(connection: Connection, make: Make, silent_s: float) -> None:
    """The process of an instrument: does what is ordered, and passes on what is yielded."""
    for number in STOPS:  # they reach all of a terminal or a group; the program then orders a stop
        signal.signal(number, signal.SIG_IGN)
    pipe = _Shared(connection)
    logging.getLogger("cars_rt").addHandler(pipe)
    instrument: InThread | None = None
    with suppress(EOFError, OSError):  # the program has gone
        try:
            instrument = InThread(make, silent_s)
            pipe.send(("made", None))
            while (order := pipe.recv()) != "close":
                if order == "acquisition":
                    pipe.send(("acquisition", instrument.acquisition()))
                elif order == "frames":
                    _pass_on(pipe, instrument)
        except InstrumentError as error:
            pipe.send(("error", str(error)))
        except (EOFError, OSError):
            raise
        except BaseException as error:
            pipe.send(("error", f"the driver failed: {type(error).__name__}: {error}"))
    if instrument is not None:
        instrument.close()


def _pass_on(pipe: "_Shared", instrument: InThread) -> None:
    frames = instrument.frames()
    for given in frames:
        pipe.send(("given", given))
        if pipe.poll() and pipe.recv() == "stop":
            instrument.halt()  # and on with what it has measured
    frames.close()  # type: ignore[attr-defined]
    pipe.send(("end", None))


class _Shared(logging.Handler):
    """The process's end of the pipe, for the threads that yield and those that log."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(logging.INFO)
        self.recv, self.poll, self._pipe, self._one = pipe.recv, pipe.poll, pipe, threading.Lock()

    def send(self, message: tuple[str, Any]) -> None:
        with self._one:
            self._pipe.send(message)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            self.send(("said", (record.levelno, record.getMessage())))
