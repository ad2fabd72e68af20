"""Counters of few bits: cameras count to 255, 65,535 or 2^32 - 1 and begin again at 0."""

from typing import NamedTuple

from cars_rt.protocol.limits import MAX_BLOCK, MAX_COUNT

FEWEST_BITS = 4  # below that, a counter that begins again says little


class Wrap(NamedTuple):
    """How a counter goes on after it began again at 0: the number that is meant, and what follows from it."""

    number: int
    base: int
    bits: int | None


class Counter:
    """Turns the numbers that a publisher sends, which begin again at 0, into numbers that go on."""

    __slots__ = ("base", "bits")

    def __init__(self) -> None:
        self.base = 0  # to be added to what is sent
        self.bits: int | None = None  # of the counter, once it began again

    def continued(self, sent: int, last: int, expected: int) -> Wrap | None:
        """What a number below the expected one means if the counter began again. It is the first number, from
        the expected one on, that a counter of as few bits as possible would show like this. None if there
        is none.

        last: the number before it, as it goes on.
        """
        bits = (last - self.base).bit_length() if self.bits is None else self.bits
        if bits < FEWEST_BITS or sent >> bits:
            return None
        number = expected + ((sent - expected + self.base) & ((1 << bits) - 1))
        return Wrap(number, number - sent, bits) if number <= MAX_COUNT - MAX_BLOCK else None

    def take(self, wrap: Wrap) -> None:
        """Note that the counter did begin again."""
        self.base, self.bits = wrap.base, wrap.bits

    def before(self, sent: int) -> int:
        """What a number meant before the counter began again the last time."""
        return sent + self.base - (self.base if self.bits is None else 1 << self.bits)

    def total(self, sent: int, least: int) -> int:
        """A total that is `least` at least: as it was sent, unless the counter began again since."""
        if sent >= least:
            return sent
        if self.bits is not None:
            return sent + -(-(least - sent) >> self.bits << self.bits)
        if self.base:
            return max(sent + self.base, sent)
        full = least.bit_length() > FEWEST_BITS and least & (least - 1) == 0
        return least if full and not sent else sent
