"""An instrument in a thread of its own, for libraries that hold up whoever calls them."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from cars_rt.accounting import Cause
from cars_rt.drivers.base import Acquisition, Block, Gap, Instrument, InstrumentError, Waiting, Yielded

log = logging.getLogger("cars_rt.drivers")

BUFFER_MB = 64.0  # of counts between the instrument's thread and the loop that publishes
LOOK_S = 0.1  # between two looks whether the instrument still gives a sign
ENDS_S = 5.0  # that an instrument gets to stop and close; then it is left alone, or its process ended

Make = Callable[[], Instrument]

_NOTHING = object()  # no answer came


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
        self._dropped = False  # whether there was no room for that one
        self._stop = self._hangs = False
        self._sign_at = time.monotonic()
        self._thread = threading.Thread(target=self._work, args=(make,), daemon=True, name="instrument")
        self._thread.start()
        self._answer()

    def acquisition(self) -> Acquisition:
        about: Acquisition = self._order("acquisition")
        self._limit_s = self._patience_s(about)
        return about

    def frames(self) -> Iterator[Yielded]:
        with self._changed:
            self._stop = False
            self._queue.clear()
            self._size, self._number, self._dropped = 0, None, False
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

    def _patience_s(self, about: Acquisition) -> float:
        exposure = about.exposure_s if isinstance(about, Acquisition) else None
        return self._silent_s + 2 * (exposure or 0.0)

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
        self._silent_s = max(self._silent_s, vars(instrument).get("silent_s", 0.0))
        self._limit_s = self._silent_s
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
                if isinstance(given, Acquisition):
                    self._limit_s = self._patience_s(given)
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
            full = bool(size and self._size) and self._size + size > self._room
            if again and (full or self._dropped):
                return  # a copy of an image that came already, or is lost already
            if size:
                self._dropped = full
            if full:
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
