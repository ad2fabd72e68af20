"""An output that collects what was computed and publishes it in bundles, for those who look."""

import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Cause, Ledger
from cars_rt.daemon.outputs.base import Output
from cars_rt.daemon.run import Run
from cars_rt.protocol import Band, End, Frame, StreamName
from cars_rt.sockets import Publisher
from cars_rt.trust.curve import Access

INTERVAL_S = 0.05
LINGER_S = 0.2  # how long a close waits for those who look
STALL_S = 1.0  # and others are not kept waiting for one that does not read


@dataclass(frozen=True, eq=False, slots=True)
class Piece:
    """Consecutive spectra of one run, made by one model."""

    index: int  # of the first one
    arrays: dict[str, NDArray[Any]]  # (k, ...) each
    made_by: str
    bands: tuple[Band, ...] | None = None
    epoch: int = 0  # about when it was measured: another one leaves in another message

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


class Bundles(Output):
    """Publishes 20 times a second, in messages of `block` spectra at most; drops rather than waits.

    Subclasses add pieces in `take`, and say in `open` how their start differs. Raises StreamError if the
    address cannot be bound.
    """

    needed = False

    def __init__(self, address: str, stream: StreamName, buffer_mb: float, security: Access) -> None:
        super().__init__()
        self.publisher = Publisher(
            address, stream, buffer_mb=buffer_mb, overload="drop-newest", stall_s=STALL_S, security=security
        )
        self._run: Run | None = None  # the open one
        self._ledger = Ledger()
        self._pieces: list[Piece] = []
        self._block = 1  # spectra in one message
        self._due = 0.0

    def _begin(self, run: Run, block: int) -> None:
        """A run begins, whose messages hold so many spectra at most."""
        assert run.published is not None
        self._run, self._ledger, self._block = run, Ledger(), block
        start = replace(run.published, stream=self.publisher.stream, block=block)
        self.publisher.open(start, self._ledger)

    @property
    def due_s(self) -> float:
        """How soon there is something to publish, s, or somebody to look after."""
        due_s = self.publisher.due_s
        return min(max(self._due - time.monotonic(), 0.0), due_s) if self._pieces else due_s

    def serve(self) -> None:
        """Call it often: who comes late gets a start, and the last spectra of a pause are shown."""
        self.publisher.serve()
        if self._pieces and time.monotonic() >= self._due:
            self.publish()

    def publish(self) -> None:
        """Send what has come together since the last time."""
        self._due = time.monotonic() + INTERVAL_S
        pieces, self._pieces = joined(self._pieces), []
        if self._run is None:
            return
        for piece in pieces:
            for begin in range(0, len(piece), self._block):
                part = {name: array[begin : begin + self._block] for name, array in piece.arrays.items()}
                time_ns, arrays = self._message(part)
                self.publisher.send(
                    Frame(
                        self.publisher.stream,
                        self._run.start.run,
                        self.publisher.sequence,
                        piece.index + begin,
                        time_ns,
                        arrays,
                        made_by=piece.made_by,
                        bands=piece.bands,
                    )
                )

    @abstractmethod
    def _message(self, part: dict[str, NDArray[Any]]) -> tuple[int, dict[str, NDArray[Any]]]:
        """The time stamp of a message, and its arrays: from those of a part of a piece."""

    def end(self, run: Run) -> None:
        """The run is over; what did not leave here is `upstream`, as it was not lost on the way."""
        self.publish()
        assert run.closed is not None
        end, ledger, first = run.closed.end, self._ledger, run.start.sequence
        self._run = None
        announced = end.spectra if end.announced is None else end.announced

        def totals() -> End:
            missing = announced - ledger.spectra
            return replace(
                end,
                stream=self.publisher.stream,
                frames=first + ledger.frames,
                spectra=ledger.spectra,
                announced=announced,
                lost={Cause.UPSTREAM.value: missing} if missing > 0 else {},
                ranges=(),
            )

        self.publisher.end(totals)

    def close(self, linger_s: float | None) -> bool:
        """Close after LINGER_S at most, whatever the limit: who is late misses the last bundles."""
        return self.publisher.close(LINGER_S)


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Pieces that follow on as one."""
    groups: list[list[Piece]] = []
    following: tuple[object, ...] | None = None
    for piece in pieces:
        if (piece.index, piece.made_by, piece.bands, piece.epoch) == following:
            groups[-1].append(piece)
        else:
            groups.append([piece])
        following = piece.index + len(piece), piece.made_by, piece.bands, piece.epoch
    return [replace(group[0], arrays=_stacked([each.arrays for each in group])) for group in groups]


def _stacked(each: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([arrays[name] for arrays in each]) for name in each[0]}
