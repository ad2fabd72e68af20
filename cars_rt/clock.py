"""How a source's clock stands to ours, from the ages of its messages.

An age is the difference of two clocks plus the time that a message took. What it took varies, and is next to
nothing for a message that came when nobody waited for anything; the difference of the clocks stays. So the
least age of a run tells the two apart: ahead, it is negative; behind, it stays large from the run's first
message on, while a real delay begins small and grows.
"""

LAG_NS = 1_000_000_000  # no source holds every message of a run for so long
DAY_NS = 86_400 * LAG_NS  # and no message at all: such time stamps are of another unit, or of a file
UNDATED_NS = 10**17  # before 1973: Unix time in s, ms or us, or of a computer that knows no date
DRIFT = 1e-4  # by how much two clocks may run apart, relative: more than any quartz does


class SourceClock:
    """The clock of one run's source. It is told of every message that is received.

    `prompt`: the message cannot have waited for us for longer than a part of LAG_NS.
    """

    __slots__ = (
        "_back_ns", "_least_ns", "_moves", "_near_at_ns", "_near_ns", "_prompt", "_start_ns", "early_ns",
        "frames", "last_ns", "undated",
    )  # fmt: skip

    def __init__(self) -> None:
        self.early_ns = 0  # how far a time stamp was ahead of our clock, at most
        self.frames = 0
        self.undated = False  # whether a time stamp was none of now, nor of any file
        self.last_ns = 0  # time stamp of the last frame
        self._least_ns: int | None = None
        self._near_ns = 0  # the least age, which may grow by DRIFT,
        self._near_at_ns = 0  # since then
        self._moves = False  # whether two frames have different time stamps
        self._start_ns: int | None = None  # age of a prompt start
        self._prompt = False  # whether a prompt frame came
        self._back_ns: int | None = None  # age of a frame whose time stamp is far before the last one's

    def start(self, age_ns: int, prompt: bool) -> None:
        """The run's first message; not if it is said again for those who came late."""
        self._least_ns = age_ns
        if prompt:
            self._start_ns = age_ns

    def frame(self, time_ns: int, received_ns: int, prompt: bool) -> None:
        """A frame with this time stamp was received then (both Unix time)."""
        age = received_ns - time_ns
        self.undated |= time_ns < UNDATED_NS
        self._moves |= self.frames > 0 and time_ns != self.last_ns
        if not self.frames:
            self._near_ns, self._near_at_ns = age if self._least_ns is None else self._least_ns, received_ns
        if self._back_ns is not None:  # the clock was set back, if this one is as old
            self._least_ns = self._near_ns = min(age, self._back_ns)
            self._back_ns, self._near_at_ns = None, received_ns
        elif time_ns < self.last_ns - LAG_NS:
            self._back_ns = age
        if self._least_ns is None or age < self._least_ns:
            self._least_ns = age
        if age < self._near(received_ns):
            self._near_ns, self._near_at_ns = age, received_ns
        self.last_ns = time_ns
        self._prompt |= prompt
        self.frames += 1

    def at(self, ours_ns: int) -> int | None:
        """What it showed when ours showed that, at least; None where its time stamps stand still, or tell of
        no time. A later time stamp is of a frame that had not been received then."""
        near = self._near(ours_ns)
        return ours_ns - near if self._moves and near < DAY_NS else None

    def _near(self, ours_ns: int) -> int:
        """The least age of a message then: one that waits gets older faster than clocks run apart."""
        return self._near_ns + int(max(ours_ns - self._near_at_ns, 0) * DRIFT)

    @property
    def lag_ns(self) -> int:
        """How far the source's clock is behind ours; 0 if it is not, or if ages may be real delays."""
        least = self._least_ns
        if not self.frames or least is None or least <= LAG_NS:
            return 0
        # Of frames that all waited for us, the start may tell: it did not.
        sure = self._prompt or least > DAY_NS or (self._start_ns is not None and least >= self._start_ns // 2)
        return least if sure else 0
