"""A thread that calls functions one after the other, and rings a bell after each."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import zmq

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False, slots=True)
class _Job:
    """What to call, for whom, and who goes on with what it returns."""

    function: Callable[[], Any]
    future: Future[Any]
    then: "Jobs | None" = None
    begins: bool = False  # it returns as soon as something is under way, and what waits for that


class Jobs:
    """Each method returns at once. Futures hold what a function returned or raised; when one is done, a
    message on the bell wakes whoever polls there."""

    def __init__(self, name: str, bell: str, at_end: Callable[[], None]) -> None:
        """bell: address of a ZeroMQ PULL socket in this process. at_end: what the thread does last."""
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._at_end = at_end
        self._bell: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._bell.setsockopt(zmq.LINGER, 0)
        self._bell.connect(bell)
        # A daemon thread: an engine that hangs for good must not keep the process.
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def ask(self, function: Callable[[], Result]) -> "Future[Result]":
        """Have a function called."""
        return self._put(_Job(function, Future()))

    def ask_first(
        self, function: Callable[[], Callable[[], Result]], then: "Jobs | None"
    ) -> "Future[Result]":
        """Have a function called that returns a second one, which the thread of `then` calls, or this thread
        if that is None. The future is that of the second function."""
        return self.ask(lambda: function()()) if then is None else self._put(_Job(function, Future(), then))

    def ask_begun(
        self, function: Callable[[], Callable[[], Callable[[], Result]]], then: "Jobs"
    ) -> "Future[Result]":
        """As `ask_first` of what the function returns, but of several in a row the next one's function is
        called before what the one before returned. All else that is asked for comes after both."""
        return self._put(_Job(function, Future(), then, begins=True))

    @property
    def thread(self) -> int | None:
        """The thread's number, while it is there."""
        return self._thread.ident if self._thread.is_alive() else None

    def close(self) -> None:
        """Let the thread end once it has done what it was asked for; does not wait for it."""
        self._queue.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False if it hangs."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _put(self, job: _Job) -> "Future[Any]":
        self._queue.put(job)
        return job.future

    def _serve(self) -> None:
        begun: _Job | None = None
        while True:
            if begun is not None and self._queue.empty():
                self._finish(begun)
                begun = None
            job = self._queue.get()
            if begun is not None and not (job is not None and job.begins):
                self._finish(begun)
                begun = None
            if job is None:
                break
            if not job.begins:
                self._finish(job)
                continue
            before, begun = begun, self._begin(job)
            if before is not None:
                self._finish(before)
        self._at_end()
        del self._at_end  # it may know who knows us, and Python rarely gets to such a circle
        self._bell.close()

    def _begin(self, job: _Job) -> _Job | None:
        """What is left to do of a job; None if it failed."""
        try:
            return _Job(job.function(), job.future, job.then)
        except BaseException as error:
            self._failed(job, error)
            return None

    def _finish(self, job: _Job) -> None:
        try:
            found = job.function()
        except BaseException as error:  # also SystemExit and the like: this thread goes on
            self._failed(job, error)
            return
        if job.then is not None:
            job.then._queue.put(_Job(found, job.future))
            return
        job.future.set_result(found)
        self._ring()

    def _failed(self, job: _Job, error: BaseException) -> None:
        job.future.set_exception(_harmless(error))
        self._ring()

    def _ring(self) -> None:
        with suppress(zmq.Again):  # the queue of rings is full: the listener is awake already, or gone
            self._bell.send(b"", zmq.NOBLOCK)


def _harmless(error: BaseException) -> Exception:
    """The error in a form that does not end the process where the result is read."""
    return error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
