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
    sure: bool = False


class Counter:
    """Turns the numbers that a publisher sends, which begin again, into numbers that go on."""

    __slots__ = ("base", "first", "low", "sure", "turn")

    def __init__(self, first: int = 0) -> None:
        self.base = 0  # to be added to what is sent
        self.turn: int | None = None  # how many numbers the counter has, if it began again
        self.low = 0  # the first of them
        self.sure = False  # whether its turn is more than a guess from one time that it began again
        self.first = first  # the first number that came

    def begins(self, sent: int, within: int = 1) -> bool:
        """Whether a counter may begin again with this number, or with one of so many from it down."""
        return any(0 <= sent - low < within for low in (0, 1, self.first))

    def goes_on(self, number: int) -> Wrap:
        """A number that did not begin again."""
        return Wrap(number, self.base, self.turn, self.low, self.sure)

    def continued(self, sent: int, last: int, expected: int) -> Wrap | None:
        """What a number below the expected one means if the counter began again. It is the first number, from
        the expected one on, that the counter would show like this; if its turn is not known, a counter of as
        few bits as possible, which counts from 1 if it did at first. None if there is none.

        last: the number before it, as it goes on.
        """
        turn, low = self.turn, self.low
        if turn is None or max(sent, last - self.base) >= low + turn:  # it counts further than it seemed
            low = int(self.first == 1 <= sent)
            turn = (1 << (last - self.base).bit_length()) - low
            if turn < FEWEST - low or sent >= turn + low:
                return None
        number = expected + (sent - expected + self.base) % turn
        sure = turn == self.turn and (self.sure or number == expected)
        return Wrap(number, number - sent, turn, low, sure) if number <= MAX_COUNT - MAX_BLOCK else None

    def fallen(self, sent: int, expected: int, turns: int = 1) -> Wrap | None:
        """The expected number, though a lower one was sent: that of a counter of any length, which began
        again so many times."""
        if expected > MAX_COUNT - MAX_BLOCK:
            return None
        turn, rest = divmod(expected - self.base - sent, turns)
        low = max((low for low in (0, 1, self.first) if low <= sent), default=sent)
        return Wrap(expected, expected - sent, None if rest or turn < FEWEST_SEEN else turn, low)

    def take(self, wrap: Wrap) -> None:
        """Note that the counter did begin again."""
        _, self.base, self.turn, self.low, self.sure = wrap

    def earlier(self, sent: int, least: int) -> range:
        """What a number may have meant before, the latest first: not less than this."""
        return range(sent + self.base, least - 1, -(self.turn or max(self.base, 1)))

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
