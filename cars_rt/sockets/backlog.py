"""What waits for room at a publisher, and what a full queue drops; no sockets, no clock."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Literal, TypeAlias

from cars_rt.accounting import Ledger
from cars_rt.protocol import End, Frame, Start

#: What a publisher does with frames when a subscriber is too slow and the queue is full.
Overload: TypeAlias = Literal["block", "drop-oldest", "drop-newest"]

OVERHEAD_BYTES = 1024  # of a frame beside its spectra


class Answer(Enum):
    """What becomes of a frame that has to wait."""

    KEEP = auto()  # there is room for it
    WAIT = auto()  # there is no room: its owner keeps it and asks again
    DROP = auto()  # there is no room, and it is lost


@dataclass(slots=True)
class Waiting:
    """A message that waits for room, and the ledger of its run."""

    message: Start | Frame | Callable[[], End]  # the totals of an end are final only when it leaves
    ledger: Ledger
    size: int = 0  # bytes, of a frame
    payload: Sequence[Any] = ()  # of a frame: its arrays, in ZeroMQ's memory

    @property
    def spectra(self) -> int:
        """Spectra of a frame; 0 for other messages."""
        return len(self.message.block) if isinstance(self.message, Frame) else 0


class Backlog:
    """Messages in the order in which they leave. Frames take at most `room` bytes of memory, others none.

    One frame always has room, however large it is. Starts and ends are never dropped.
    """

    def __init__(self, limit: int, overload: Overload) -> None:
        """limit: bytes, of this queue and of what ZeroMQ keeps of a run together."""
        self.limit = self.room = limit
        self.overload = overload
        self.size = 0  # bytes
        self.spectra = 0
        self.starts = 0  # runs whose start waits
        self._queue: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def share(self, elsewhere: int) -> None:
        """Leave so many bytes of the limit to ZeroMQ's own queue, but half of it at most."""
        self.room = max(self.limit - elsewhere, self.limit // 2)

    def make_room(self, size: int) -> tuple[Answer, list[Waiting]]:
        """What becomes of a frame of `size` bytes, and which frames are dropped to make room for it."""
        dropped: list[Waiting] = []
        while self.size and self.size + size > self.room:
            match self.overload:
                case "block":
                    return Answer.WAIT, dropped
                case "drop-newest":
                    return Answer.DROP, dropped
                case "drop-oldest":
                    dropped.append(self._remove_oldest_frame())
        return Answer.KEEP, dropped

    def add(self, waiting: Waiting) -> None:
        """Let it wait behind all others."""
        self._queue.append(waiting)
        self._count(waiting, 1)

    def say(self, run: str, model: Mapping[str, str]) -> None:
        """This makes the results of a run from now on, whose start may still wait."""
        for each in self._queue:
            if isinstance(each.message, Start) and each.message.run == run:
                each.message = replace(each.message, model=model)

    def first(self) -> Waiting:
        """The message that leaves next. Raises IndexError if none waits."""
        return self._queue[0]

    def remove_first(self) -> None:
        """It has left. Raises IndexError if none waits."""
        self._count(self._queue.popleft(), -1)

    def clear(self) -> list[Waiting]:
        """All that waited, in order; nothing waits any more."""
        everything = list(self._queue)
        self._queue.clear()
        self.size = self.spectra = self.starts = 0
        return everything

    def _remove_oldest_frame(self) -> Waiting:
        number = next(n for n, each in enumerate(self._queue) if isinstance(each.message, Frame))
        oldest = self._queue[number]
        del self._queue[number]
        self._count(oldest, -1)
        return oldest

    def _count(self, waiting: Waiting, sign: int) -> None:
        self.size += sign * waiting.size
        self.spectra += sign * waiting.spectra
        self.starts += sign * isinstance(waiting.message, Start)
