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
        lows = {0, self.first} if self.first in (0, 1) else {0, 1, self.first}
        return any(0 <= sent - low < within for low in lows)

    def goes_on(self, number: int) -> Wrap:
        """A number that did not begin again."""
        return Wrap(number, self.base, self.turn, self.low, self.sure)

    def knows(self, sent: int, last: int) -> bool:
        """Whether its turn is known, and neither this number nor the last one, as it goes on, lies beyond."""
        return self.turn is not None and max(sent, last - self.base) < self.low + self.turn

    def turned(self, sent: int, least: int, likely: int) -> Wrap | None:
        """What a number means by the turn that is known: not less than `least`, and then what is next to
        `likely`."""
        turn = self.turn
        if turn is None:
            return None
        number = least + (sent + self.base - least) % turn
        number += max(round((likely - number) / turn), 0) * turn
        return self._wrap(number, sent, turn, self.low, self.sure)

    def of_few_bits(self, sent: int, last: int, least: int) -> Wrap | None:
        """What a number means, from the least one on, if the counter has as few bits as it may have after the
        last number, as it goes on. It counts from 1 if it did at first. None if they are too few."""
        low = int(self.first == 1 <= sent)
        turn = (1 << max(sent, last - self.base).bit_length()) - low
        if turn < FEWEST - low or sent >= turn + low:
            return None
        return self._wrap(least + (sent + self.base - least) % turn, sent, turn, low, False)

    def fallen(self, sent: int, number: int) -> Wrap | None:
        """This number, though a lower one was sent: that of a counter of any length, which began again."""
        turn = number - self.base - sent
        low = max((low for low in (0, 1, self.first) if low <= sent), default=sent)
        return self._wrap(number, sent, None if turn < FEWEST_SEEN else turn, low, False)

    def seen(self, sent: int, number: int) -> Wrap | None:
        """The same, if a turn is to be seen in it: None where it would be too short."""
        one = self.fallen(sent, number)
        return one if one is not None and one.turn else None

    def _wrap(self, number: int, sent: int, turn: int | None, low: int, sure: bool) -> Wrap | None:
        return Wrap(number, number - sent, turn, low, sure) if number <= MAX_COUNT - MAX_BLOCK else None

    def take(self, wrap: Wrap) -> None:
        """Note that the counter did begin again."""
        _, self.base, self.turn, self.low, self.sure = wrap

    def earlier(self, sent: int, least: int, due: int) -> range:
        """What a number may have meant before, the latest first: from the least to what comes before the one
        that is due."""
        step = self.turn or max(self.base, 1)
        latest = sent + self.base
        latest -= max(-(-(latest - due + 1) // step), 0) * step
        return range(latest, least - 1, -step)

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
