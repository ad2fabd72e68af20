"""A camera's own clock, as Unix time; pure."""

import math
import time
from collections.abc import Callable

from cars_rt.clock import DRIFT

JUMP_NS = 1e9  # by which an image seldom comes less late than all before it


class Ticks:
    """Unix times of a clock that counts from anywhere.

    An image arrives some time after its stamp was made, never before: the smallest difference so far is the
    best guess of where the clock began. It may grow by DRIFT, so that clocks that run apart are followed.
    A clock that goes back by a second is another one from there; by less, stamps are only out of order. A
    stamp that is too large makes that difference too small: it is believed if the next one agrees.
    A counter of few bits begins again after `highest`; how often it did meanwhile is known by this computer's
    clock, so images may stay away for longer than a turn takes.
    """

    def __init__(
        self, per_s: float, now: Callable[[], int] = time.time_ns, *, highest: int | None = None
    ) -> None:
        """per_s: ticks in a second. now: Unix time, ns. highest: the last number before the clock's counter
        begins again at 0, such as 2**32 - 1; None: it never does. Raises ValueError for what cannot be."""
        if not 0 < per_s <= 1e12:
            raise ValueError(f"a clock of {per_s:g} ticks in a second cannot be")
        if highest is not None and not highest >= per_s:
            raise ValueError(
                f"a clock that begins again after {highest} ticks, within a second, tells no time"
            )
        self._turn = None if highest is None else highest + 1
        self._ns = 1e9 / per_s
        self._now = now
        self._first = 0  # tick, from which the others are counted: a float64 holds the rest
        self._begin = 0.0  # ns, of that tick after the first arrival's Unix time
        self._arrived = 0  # Unix time at which the first one came
        self._last = math.inf  # ns, elapsed on the camera's clock: it begins with the first stamp
        self._doubted: float | None = None  # the guess before the last stamp, where that one is far below it
        self._said = 0

    def time_ns(self, ticks: int) -> int:
        """The Unix time of a stamp that has just come, ns; never after now, nor before the last one."""
        now = self._now()
        since, elapsed = float(now - self._arrived), (ticks - self._first) * self._ns
        if self._turn is not None:
            turn = self._turn * self._ns
            elapsed += turn * round((since - self._begin - elapsed) / turn)
        if elapsed < self._last - JUMP_NS:
            self._first, self._arrived, self._doubted = ticks, now, None
            since = elapsed = self._begin = self._last = 0.0
        begins = since - elapsed
        if self._doubted is not None and begins > self._begin + JUMP_NS:
            self._begin = self._doubted
        self._doubted = self._begin if begins < self._begin - JUMP_NS else None
        self._begin = min(begins, self._begin + (elapsed - self._last) * DRIFT)
        self._last = elapsed
        self._said = max(self._said, min(self._arrived + int(self._begin + elapsed), now))
        return self._said
