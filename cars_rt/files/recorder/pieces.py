"""The files that are being written, by run."""

from collections.abc import Iterator, Sequence
from itertools import chain

from cars_rt.files.recorder.piece import Piece


class Pieces:
    """Each run has one; two where a file was just split, or where a stream goes on in another one."""

    def __init__(self) -> None:
        self._by_run: dict[str, list[Piece]] = {}

    def __iter__(self) -> Iterator[Piece]:
        return chain.from_iterable(self._by_run.values())

    def __len__(self) -> int:
        """Runs that have any."""
        return len(self._by_run)

    def __contains__(self, run: str) -> bool:
        return run in self._by_run

    @property
    def spectra(self) -> int:
        """Spectra that they have, those of several streams counted once."""
        counts = ([rows.count for rows in each.recording.rows.values()] for each in self)
        return sum(max(each, default=0) for each in counts)

    @property
    def stored_bytes(self) -> int:
        """Bytes that they take on the disk."""
        return sum(each.stored_bytes for each in self)

    @property
    def given_bytes(self) -> int:
        """Bytes of their rows, before any compression."""
        return sum(each.given_bytes for each in self)

    def of(self, run: str) -> Sequence[Piece]:
        """The files of a run, the one begun first in front."""
        return self._by_run.get(run, ())

    def add(self, piece: Piece) -> None:
        """Note a file that was begun."""
        self._by_run.setdefault(piece.run, []).append(piece)

    def remove(self, piece: Piece) -> None:
        """Note that a file is closed."""
        self._by_run[piece.run].remove(piece)
        if not self._by_run[piece.run]:
            del self._by_run[piece.run]
