"""How long to wait before a program that died is started again, and when to leave it. Pure."""

from dataclasses import dataclass

FIRST_S = 0.5  # a daemon that is back so soon misses only what the driver's buffer does not hold
MOST_S = 30.0
LONG_S = 60.0  # after so long a life the next pause is the shortest again
LIMIT = 8  # restarts in a row; with their pauses they take a minute and a half


@dataclass
class Restarts:
    """Deaths and pauses of one program."""

    limit: int = LIMIT
    total: int = 0  # restarts so far
    _row: int = 0  # deaths without a long life between

    @property
    def first(self) -> bool:
        """Whether the next life is the first one after a death, and not another attempt."""
        return self._row == 1

    def pause_s(self, lived_s: float) -> float | None:
        """The pause after a life of so long, s; None: it is not started again."""
        if lived_s >= LONG_S:
            self._row = 0
        if self._row >= self.limit:
            return None
        self._row += 1
        self.total += 1
        return float(min(FIRST_S * 2 ** (self._row - 1), MOST_S))
