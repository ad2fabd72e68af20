"""Where an instrument lives: in the loop that publishes, or in a thread or a process of its own."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pickle import PickleError
from typing import Any

import numpy as np

from cars_rt.accounting import Cause
from cars_rt.drivers.base import Acquisition, Block, Gap, Instrument, InstrumentError, Waiting, Yielded
from cars_rt.stops import STOPS

log = logging.getLogger("cars_rt.drivers")

BUFFER_MB = 64.0  # of counts between the instrument's thread and the loop that publishes
LOOK_S = 0.1  # between two looks whether the instrument still gives a sign
SAFE_PATH = "PYTHONSAFEPATH"  # environment, as Python names it
ENDS_S = 5.0  # that an instrument gets to stop and close; then it is left alone, or its process ended

Make = Callable[[], Instrument]

_NOTHING = object()  # no answer came


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


class InThread(Instrument):
    """An instrument whose every method, its constructor included, is called in one thread of its own.

    What it yields is copied into a queue of `buffer_mb`. When that is full, what comes is lost, and counted
    under `overload`, so that the camera is never held up. Raises what the instrument raises, and
    InstrumentError if it yields nothing for `silent_s` and two exposures.
    """

    def __init__(self, make: Make, silent_s: float = 30.0, buffer_mb: float = BUFFER_MB) -> None:
        self._limit_s = self._silent_s = silent_s
        self._room = int(buffer_mb * 1e6)
        self._changed = threading.Condition()
        self._orders: deque[str] = deque()
        self._answers: deque[Any] = deque()  # of orders: a value, or the error
        self._queue: deque[Yielded | BaseException | None] = deque()  # None: that was all
        self._size = 0  # bytes of counts in it
        self._number: int | None = None  # of the block that came last
        self._stop = self._hangs = False
        self._sign_at = time.monotonic()
        self._thread = threading.Thread(target=self._work, args=(make,), daemon=True, name="instrument")
        self._thread.start()
        self._answer()

    def acquisition(self) -> Acquisition:
        about: Acquisition = self._order("acquisition")
        exposure = about.exposure_s if isinstance(about, Acquisition) else None
        self._limit_s = self._silent_s + 2 * (exposure or 0.0)
        return about

    def frames(self) -> Iterator[Yielded]:
        with self._changed:
            self._stop = False
            self._queue.clear()
            self._size, self._number = 0, None
        self._sign_at = time.monotonic()
        self._send("frames")
        try:
            while True:
                given = self._next()
                if given is None:
                    return
                if isinstance(given, BaseException):
                    raise given
                yield given
        finally:
            with self._changed:
                self._stop = True
            if not self._hangs and self._answer(ENDS_S) is _NOTHING:
                self._hangs = True

    def halt(self) -> bool:
        with self._changed:
            self._stop = True
        self._limit_s = min(self._limit_s, self._limit_s - self._silent_s + ENDS_S)
        self._sign_at = time.monotonic()
        return True

    def close(self) -> None:
        if self._thread.is_alive():
            with self._changed:
                self._stop = True
            self._send("close")
            self._thread.join(0 if self._hangs else ENDS_S)
            if self._thread.is_alive():
                log.warning("the instrument does not close: its library hangs, and is left alone")

    def _order(self, what: str) -> Any:
        self._sign_at = time.monotonic()
        self._send(what)
        return self._answer()

    def _send(self, order: str) -> None:
        if self._hangs and order != "close":
            raise InstrumentError("the instrument did not stop its last run: its library hangs")
        with self._changed:
            self._orders.append(order)
            self._changed.notify_all()

    def _answer(self, patience_s: float | None = None) -> Any:
        """What an order brought, or raises the error; with patience, the answer is for nobody."""
        deadline = time.monotonic() + (patience_s or 0.0)
        with self._changed:
            while not self._answers:
                self._changed.wait(LOOK_S)
                if patience_s is None:
                    self._check()
                elif time.monotonic() > deadline or not self._thread.is_alive():
                    return _NOTHING
            value = self._answers.popleft()
        if isinstance(value, BaseException) and patience_s is None:
            raise value
        return value

    def _next(self) -> Yielded | BaseException | None:
        with self._changed:
            if not self._queue:
                self._changed.wait(LOOK_S)
            if not self._queue:
                self._check()
                return Waiting()
            given = self._queue.popleft()
            self._size -= _bytes(given)
            return given

    def _check(self) -> None:
        silent = time.monotonic() - self._sign_at
        if silent > self._limit_s:
            self._hangs = True
            raise InstrumentError(
                f"the instrument has given no sign for {silent:.0f} s: its library hangs, or it was unplugged"
            )
        if not self._thread.is_alive() and not self._answers:
            raise InstrumentError("the thread of the instrument has ended")

    def _work(self, make: Make) -> None:  # this and the following, in the thread of the instrument
        try:
            instrument = make()
        except BaseException as error:
            self._reply(error)
            return
        self._reply(None)
        while True:
            with self._changed:
                while not self._orders:
                    self._changed.wait()
                order = self._orders.popleft()
            value: Any = None
            try:
                match order:
                    case "acquisition":
                        value = instrument.acquisition()
                    case "frames":
                        self._fill(instrument)
                    case "close":
                        instrument.close()
            except BaseException as error:
                value = error
            if order == "close":
                if isinstance(value, Exception):
                    log.warning("the instrument did not close properly: %s", value)
                return
            self._reply(value)

    def _fill(self, instrument: Instrument) -> None:
        try:
            frames = instrument.frames()
            for given in frames:
                self._sign_at = time.monotonic()
                self._put(given)
                if self._stop:
                    break
            close = getattr(frames, "close", None)
            if close:
                close()
        except BaseException as error:
            self._put(error)
        else:
            self._put(None)

    def _put(self, given: Any) -> None:
        with self._changed:
            size, again = _bytes(given), False
            if isinstance(given, Block) and given.number is not None:
                again, self._number = given.number == self._number, given.number
            last = self._queue[-1] if self._queue else None
            if size and self._size and self._size + size > self._room:
                if again:
                    return  # a copy of an image that came already: nobody lacks it
                counts = given.counts if isinstance(given, Block) else given
                given = Gap(len(counts), Cause.OVERLOAD)
                if isinstance(last, Gap) and last.cause is Cause.OVERLOAD:
                    self._queue[-1] = Gap(last.spectra + given.spectra, last.cause)
                    return
            elif isinstance(given, Waiting) and last is not None:
                return  # what waits in the queue is news enough
            else:
                self._size += size
                given = _kept(given)
            self._queue.append(given)
            self._changed.notify_all()

    def _reply(self, value: Any) -> None:
        with self._changed:
            self._answers.append(value)
            self._changed.notify_all()


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
        self._exposure_s = (about.exposure_s or 0.0) if isinstance(about, Acquisition) else 0.0
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


def _bytes(given: Any) -> int:
    counts = given.counts if isinstance(given, Block) else given
    return counts.nbytes if isinstance(counts, np.ndarray) else 0


def _kept(given: Any) -> Any:
    """A copy of counts, stamped with the time at which they came: it may be long until they are published."""
    if isinstance(given, np.ndarray):
        copy = given.copy()
        return Block(copy, time_ns=time.time_ns()) if copy.ndim == 2 and len(copy) else copy
    if isinstance(given, Block) and isinstance(given.counts, np.ndarray):
        came_ns = time.time_ns() if given.time_ns is None else given.time_ns
        return replace(given, counts=given.counts.copy(), time_ns=came_ns)
    return given
