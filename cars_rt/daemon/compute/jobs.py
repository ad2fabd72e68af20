"""A thread that does what it is asked for, one after the other, and rings when something is done."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import zmq

Result = TypeVar("Result")


class Jobs:
    """Each method returns at once. Futures hold what a function returned or raised; when one is done, a
    message on the bell wakes whoever polls there."""

    def __init__(self, name: str, bell: str, at_end: Callable[[], None]) -> None:
        """bell: address of a ZeroMQ PULL socket in this process. at_end: the thread's last deed."""
        self._queue: SimpleQueue[tuple[Callable[[], Any], Future[Any], Jobs | None] | None] = SimpleQueue()
        self._at_end = at_end
        self._bell: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._bell.setsockopt(zmq.LINGER, 0)
        self._bell.connect(bell)
        # A daemon thread: an engine that hangs for good must not keep the process.
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def ask(self, function: Callable[[], Result]) -> "Future[Result]":
        """Have a function called."""
        return self._put(function, None)

    def ask_first(
        self, function: Callable[[], Callable[[], Result]], then: "Jobs | None"
    ) -> "Future[Result]":
        """Have a function called that returns another one, for `then` to call; the future is that one's.
        None: it is called here, too."""
        return self.ask(lambda: function()()) if then is None else self._put(function, then)

    def close(self) -> None:
        """Let the thread end once it has done what it was asked for; does not wait for it."""
        self._queue.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False if it hangs."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _put(self, function: Callable[[], Any], then: "Jobs | None") -> "Future[Any]":
        future: Future[Any] = Future()
        self._queue.put((function, future, then))
        return future

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            function, future, then = job
            try:
                found = function()
            except BaseException as error:  # also what is meant to end a program: this thread serves on
                future.set_exception(_harmless(error))
            else:
                if then is not None:
                    then._queue.put((found, future, None))
                    continue
                future.set_result(found)
            with suppress(zmq.Again):  # the queue of rings is full: the listener is awake already, or gone
                self._bell.send(b"", zmq.NOBLOCK)
        self._at_end()
        self._bell.close()


def _harmless(error: BaseException) -> Exception:
    """What may be raised where the result is looked at without ending the process there."""
    return error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
