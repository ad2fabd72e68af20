"""When a browser is sent more: after it has drawn, and as often as the daemon and other browsers bear."""

EVERY_S, BUSY_S = 0.075, 0.4  # between two pictures, and where the daemon has no head-room
PER_SPECTRUM_S, CROWDED_S = 0.27e-3, 0.27  # for each spectrum/s of a daemon on the same few cores, at most
SHARE_S = 0.03  # more for each browser, so that many together cost the server no more than a few
REST = 0.5  # of the time that the browser took to draw, before it gets more
LOST_S, MOST_LOST_S = 5.0, 60.0  # after so long without a word from the browser it is sent more anyhow


def pause_s(*, busy: bool = False, pages: int = 1, crowding: float = 0.0) -> float:
    """Between two pictures. busy: the daemon has no head-room. pages: browsers that look. crowding: spectra/s
    of a daemon that shares few cores with the browser, 0 where it does not: each drawing delays some of
    them."""
    if busy:
        return BUSY_S
    return max(EVERY_S, SHARE_S * pages, min(crowding * PER_SPECTRUM_S, CROWDED_S))


class Pace:
    """The pace of one browser. Times are of one monotonic clock, s."""

    def __init__(self) -> None:
        self.tick = 0  # of what was sent last
        self._drawn = 0
        self._sent_at = self._due = 0.0
        self._lost_s = LOST_S

    def may_send(self, now: float) -> bool:
        """Whether it has drawn what it was sent, and rested. A tab that nobody looks at never draws."""
        if self._drawn != self.tick and now - self._sent_at < self._lost_s:
            return False
        return now >= self._due

    def sent(self, now: float) -> int:
        """Something is sent. Returns the tick that the browser will say when it has drawn it."""
        if self._drawn != self.tick:  # over a slow network what was sent may be on its way still
            self._lost_s = min(2 * self._lost_s, MOST_LOST_S)
        self.tick += 1
        self._sent_at = now
        return self.tick

    def drawn(self, tick: int, now: float, pause: float) -> bool:
        """The browser says that it has drawn this. Returns whether it is what was sent last.

        pause: from one picture to the next, s, where the browser draws faster than that.
        """
        if tick != self.tick or self._drawn == tick:
            return False
        self._drawn, self._lost_s = tick, min(max(LOST_S, 2 * (now - self._sent_at)), MOST_LOST_S)
        self._due = max(self._due, self._sent_at + pause, now + REST * (now - self._sent_at))
        return True

    def rest(self, until: float) -> None:
        """Nothing more is sent before."""
        self._due = until
