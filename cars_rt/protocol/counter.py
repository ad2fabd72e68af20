"""Counters that begin again: cameras count to 255, 65,535 or 2^32 - 1, drivers to the end of a line."""

from typing import NamedTuple

from cars_rt.protocol.limits import MAX_BLOCK, MAX_COUNT

FEWEST = 16  # numbers of a turn that is guessed: below that, a counter that begins again says little
FEWEST_SEEN = 8  # the same of a turn whose last and first number came one after the other


class Wrap(NamedTuple):
    """How a counter goes on after it began again: the number that is meant, and what follows from it."""

    number: int
    base: int
    turn: int | None
    low: int = 0


class Counter:
    """Turns the numbers that a publisher sends, which begin again, into numbers that go on."""

    __slots__ = ("base", "first", "low", "turn")

    def __init__(self, first: int = 0) -> None:
        self.base = 0  # to be added to what is sent
        self.turn: int | None = None  # how many numbers the counter has, if it began again
        self.low = 0  # the first of them
        self.first = first  # the first number that came

    def begins(self, sent: int) -> bool:
        """Whether a counter may begin again with this number."""
        return sent in (0, 1, self.first)

    def continued(self, sent: int, last: int, expected: int) -> Wrap | None:
        """What a number below the expected one means if the counter began again. It is the first number, from
        the expected one on, that the counter would show like this; if its turn is not known, a counter of as
        few bits as possible. None if there is none.

        last: the number before it, as it goes on.
        """
        turn, low = self.turn, self.low
        if turn is None or max(sent, last - self.base) >= low + turn:  # it counts further than it seemed
            turn, low = 1 << (last - self.base).bit_length(), 0
            if turn < FEWEST or sent >= turn:
                return None
        number = expected + (sent - expected + self.base) % turn
        return Wrap(number, number - sent, turn, low) if number <= MAX_COUNT - MAX_BLOCK else None

    def fallen(self, sent: int, expected: int) -> Wrap | None:
        """The expected number, though a lower one was sent: that of a counter of any length."""
        if expected > MAX_COUNT - MAX_BLOCK:
            return None
        turn = expected - self.base - sent
        return Wrap(expected, expected - sent, turn if turn >= FEWEST_SEEN else None, sent)

    def guesses(self, wrap: Wrap | None) -> bool:
        """Whether a wrap is not of the turn that is known."""
        return self.turn is None or wrap is None or wrap.turn != self.turn

    def take(self, wrap: Wrap) -> None:
        """Note that the counter did begin again."""
        self.base, self.turn, self.low = wrap.base, wrap.turn, wrap.low

    def before(self, sent: int) -> int:
        """What a number meant before the counter began again the last time."""
        return sent + self.base - (self.base if self.turn is None else self.turn)

    def total(self, sent: int, least: int) -> int:
        """A total that is `least` at least: as it was sent, unless the counter began again since."""
        if sent >= least:
            return sent
        if self.turn is not None:
            return sent + -(-(least - sent) // self.turn) * self.turn
        if self.base:
            return max(sent + self.base, sent)
        full = least >= FEWEST and least & (least - 1) == 0
        return least if full and not sent else sent
