"""How far an engine has come that is being opened, told to whoever waits for it.

Who waits calls `told`; the engine calls `say` in the thread that opens it, or keeps `listener()` for another
one. What opens an engine in a process of its own passes on what is said there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str], None]


def _nobody(text: str) -> None:
    """Nobody waits."""


_listener: ContextVar[Listener] = ContextVar("listener", default=_nobody)


@contextmanager
def told(listener: Listener) -> Iterator[None]:
    """Have this listener called with a few words now and then, from any thread, while engines are opened in
    here, in this thread."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


def listener() -> Listener:
    """Who waits for the engine that is opened in this thread."""
    return _listener.get()


def say(text: str) -> None:
    """Tell who waits for the engine that is opened in this thread."""
    listener()(text)
