"""Which frame and spectrum of a run come next, even if the counters of its publisher begin again at 0."""

from dataclasses import replace

from cars_rt.protocol.counter import FEWEST_BITS, Counter, Wrap
from cars_rt.protocol.limits import MAX_BLOCK, MAX_COUNT
from cars_rt.protocol.messages import End, Frame, Start

PACE = 3  # factor by which a gap may differ from what the time since the last frame suggests


class Numbers:
    """The numbers of one run's frames. The reader tells it of every frame that is in order (`advance`)."""

    __slots__ = (
        "_doubted", "_first_ns", "_first_sequence", "_last_index", "_last_ns",
        "index", "indices", "run", "sequence", "sequences",
    )  # fmt: skip

    def __init__(self, run: Start | None = None) -> None:
        self.run = run
        self.sequence = self.index = 0  # expected next
        self.sequences, self.indices = Counter(), Counter()
        self._doubted: tuple[int, int] | None = None  # sequence and index that would confirm a gap
        self._first_ns: int | None = None  # time stamp of the first frame in order
        self._last_ns = self._last_index = 0  # time stamp and index of the last one
        self._first_sequence = 0

    def advance(self, frame: Frame) -> int:
        """Expect the frame after this one next. Returns the number of its spectra."""
        spectra = len(frame.block)
        self.sequence = frame.sequence + 1
        self.index = frame.index + spectra
        self._last_index, self._last_ns = frame.index, frame.time_ns
        if self._first_ns is None:
            self._first_ns, self._first_sequence = frame.time_ns, frame.sequence
        return spectra

    def later(self, frame: Frame) -> bool:
        """Whether it is later than every frame that was in order, and so no copy of one."""
        return self._first_ns is not None and frame.time_ns > self._last_ns

    def continued(self, frame: Frame) -> tuple[Frame, str | None]:
        """The frame with numbers that go on, although the publisher's counters began again at 0. Also a
        sentence if they began again just now.

        They did if the frame is later than all others and its numbers are exactly those that follow. After a
        gap, the time that went by must make it plausible, and the next frame must confirm it.
        """
        sent = frame.sequence, frame.index
        number, index = sent[0] + self.sequences.base, sent[1] + self.indices.base
        if max(number, index) > MAX_COUNT - MAX_BLOCK:
            return frame, None
        if self.sequences.base and frame.time_ns <= self._last_ns and number > self.sequence:
            # This is a straggler from before the counter began again, not a jump ahead that took no time.
            return replace(frame, sequence=self.sequences.before(sent[0])), None
        if self.sequences.base or self.indices.base:
            frame = replace(frame, sequence=number, index=index)
        least = self.index
        if self.indices.bits is not None:  # each frame that is missing held a spectrum
            least += max(number - self.sequence, 0)
        back = number < self.sequence, index < least
        first_ns = self._first_ns
        if not any(back) or first_ns is None or not first_ns < frame.time_ns >= self._last_ns:
            return frame, None
        one: Wrap | None = Wrap(number, self.sequences.base, self.sequences.bits)
        two: Wrap | None = Wrap(index, self.indices.base, self.indices.bits)
        if back[0] and not sent[0] and index == self.index:  # the index proves it, whatever the last number
            one = Wrap(self.sequence, self.sequence, None)
        elif back[0]:
            one = self.sequences.continued(sent[0], self.sequence - 1, self.sequence)
        if back[1]:
            two = self.indices.continued(sent[1], self._last_index, least)
        if one is None or two is None:
            return frame, None
        gap = one.number - self.sequence, two.number - self.index
        if gap != (0, 0):
            if not self._plausible(frame, gap, back, two):
                return frame, None
            if (number, index) != self._doubted:
                self._doubted = number + 1, index + len(frame.block)
                return frame, None
            self._doubted = None
        self.sequences.take(one)
        self.indices.take(two)
        which = "sequence and index" if all(back) else "sequence" if back[0] else "index"
        return (
            replace(frame, sequence=one.number, index=two.number),
            f"{which} of the publisher began again after {self.sequence} frames and {self.index} spectra, as "
            "counters of few bits do; the numbers go on here",
        )

    def uncertain(self, frame: Frame) -> bool:
        """Whether what is missing before this frame may be longer by a whole turn of the index."""
        return self._turns(self.indices.bits, frame.sequence - self.sequence, frame.index - self.index)

    def turned(self, frames: int, spectra: int) -> bool:
        """Whether more frames than spectra are missing because the index began again, if it has as few bits
        as what came allows."""
        bits = self.indices.bits
        if bits is None:
            bits = max((self._last_index - self.indices.base).bit_length(), FEWEST_BITS)
        return self._turns(bits, frames, spectra)

    def totals(self, end: End, here: int) -> End:
        """The end with totals that go on, if the counters that they come from began again. here: spectra that
        came."""
        spectra = self.indices.total(end.spectra, here)
        announced = end.announced
        if announced is not None:
            announced = self.indices.total(announced, max(self.index, spectra))
        frames = self.sequences.total(end.frames, self.sequence)
        return replace(end, frames=frames, spectra=spectra, announced=announced)

    def _turns(self, bits: int | None, frames: int, spectra: int) -> bool:
        """Whether so many missing frames may hold another turn of the index than these spectra: then nobody
        can tell."""
        return bits is not None and self.run is not None and spectra + 2**bits <= frames * self.run.block

    def _plausible(self, frame: Frame, gap: tuple[int, int], back: tuple[bool, bool], index: Wrap) -> bool:
        """Whether so many frames and spectra may be missing before a frame whose counters began again."""
        frames, spectra = gap
        run, first_ns = self.run, self._first_ns
        if run is None or first_ns is None or not 0 <= frames <= spectra or frame.time_ns <= self._last_ns:
            return False
        if run.spectra is not None and index.number + len(frame.block) > run.spectra:
            return False
        if self._turns(index.bits, frames, spectra):
            return False
        if back[0] != back[1]:  # the other counter went on, and tells how much is missing
            return back[0] or spectra <= frames * run.block or self.indices.bits is not None
        if self.sequences.bits is not None:
            return True  # it happened before
        came, took = self.sequence - 1 - self._first_sequence, self._last_ns - first_ns
        if came < 1:
            return False
        usual = (frame.time_ns - self._last_ns) * came  # frames in this time, times `took`
        return usual <= PACE * (frames + 1) * took and (frames + 1) * took <= PACE * usual
