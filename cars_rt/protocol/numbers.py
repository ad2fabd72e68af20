"""Which frame and spectrum of a run come next, even if the counters of its publisher begin again."""

from dataclasses import replace

from cars_rt.protocol.counter import FEWEST, FEWEST_SEEN, Counter, Wrap
from cars_rt.protocol.limits import MAX_BLOCK, MAX_COUNT
from cars_rt.protocol.messages import End, Frame, Start
from cars_rt.protocol.recent import SIZE, Recent

PACE = 3  # factor by which a gap may differ from what the time since the last frame suggests
NEAR = 8  # frames: so many may be lost where counters begin again; more, and just to the first number, hardly
RESTART_NS = 5 * 10**8  # no program that died measures again within this


class Numbers:
    """The numbers of one run's frames. The reader tells it of every frame that is in order (`advance`)."""

    __slots__ = (
        "_broken", "_doubted", "_first_ns", "_first_sequence", "_last", "_recent", "_said",
        "index", "indices", "run", "sequence", "sequences",
    )  # fmt: skip

    def __init__(self, run: Start | None = None) -> None:
        self.run = run
        self.sequence = self.index = 0  # expected next
        self.sequences, self.indices = Counter(), Counter()
        self._recent = Recent()
        self._doubted: tuple[int, int] | None = None  # sequence and index that would confirm a gap
        self._said: tuple[int, int, int] | None = None  # of a start that was said again, and where it was
        self._broken = False  # numbers went back, and not as those of a counter do: nothing more is guessed
        self._first_ns = self._first_sequence = 0  # of the first frame in order
        self._last: Frame | None = None  # the last frame in order

    def advance(self, frame: Frame) -> int:
        """Expect the frame after this one next. Returns the number of its spectra."""
        spectra = len(frame.block)
        sequence, last = frame.sequence, self._last
        if last is None:
            self._begin(frame)
        else:
            if sequence != self.sequence:
                self._recent.skip(self.sequence, sequence - self.sequence)
            if frame.time_ns <= last.time_ns:
                self._recent.mark(last)
                self._recent.mark(frame)
        self._recent.note(frame)
        self._last = frame
        self.sequence = sequence + 1
        self.index = frame.index + spectra
        return spectra

    def displaced(self, frame: Frame) -> int:
        """Count a frame whose index cannot be as the one that comes next. Returns its index then."""
        index, self._broken = self.index, True
        self.advance(replace(frame, index=index))
        return index

    def said_again(self, start: Start) -> None:
        """A start of this run came again, with what it says comes next."""
        self._said = self.sequence, start.sequence, start.index

    @property
    def fresh(self) -> bool:
        """Whether no frame came yet."""
        return self._last is None

    def copy(self, frame: Frame) -> bool:
        """Whether this very frame came before."""
        return self._came(frame) is True

    def late(self, frame: Frame) -> bool:
        """Whether it may be one that was missing, and comes too late."""
        last = self._last
        return (last is None or frame.time_ns <= last.time_ns) and self._came(frame) is None

    def note_late(self, frame: Frame) -> None:
        """It came at last: what comes with its number from here on is a copy, or another one."""
        self._recent.note(frame)
        self._recent.mark(frame)

    def _came(self, frame: Frame) -> bool | None:
        """Whether it came before; None if none with its number did. Of what was too long ago nobody knows:
        that is no copy then, since what is not counted as one is told and lost, and a copy is neither."""
        if self._last is None or frame.sequence < self._first_sequence:
            return None
        if not 0 < self.sequence - frame.sequence <= SIZE:
            return False
        if frame.sequence == self._last.sequence:
            self._recent.mark(self._last)
        return self._recent.came(frame)

    def _begin(self, frame: Frame) -> None:
        self._first_ns, self._first_sequence = frame.time_ns, frame.sequence
        self.sequences, self.indices = Counter(frame.sequence), Counter(frame.index)

    def continued(self, frame: Frame) -> tuple[Frame, str | None]:
        """The frame with numbers that go on, although the publisher's counters began again. Also a sentence
        if they began again just now.

        They did if it is no copy, and its numbers are exactly those that follow; or if one number is, and the
        other fell back; or if both fell back to where counters begin, as soon as a next frame comes. After a
        gap, the time that went by must make it plausible, and the next frame must confirm it.
        """
        sent, last = (frame.sequence, frame.index), self._last
        sequences, indices = self.sequences, self.indices
        number, index = sent[0] + sequences.base, sent[1] + indices.base
        if last is None or max(number, index) > MAX_COUNT - MAX_BLOCK:
            return frame, None
        if sequences.base and number > self.sequence:
            before = replace(frame, sequence=sequences.before(sent[0]))
            if self.copy(before) or self.late(before):  # a straggler, not a jump ahead that took no time
                return before, None
        if sequences.base or indices.base:
            frame = replace(frame, sequence=number, index=index)
        least = self.index
        if indices.turn is not None:  # each frame that is missing held a spectrum
            least += max(number - self.sequence, 0)
        back = number < self.sequence, index < least
        if not any(back) and not (sequences.base and number > self.sequence and index == self.index):
            return frame, None
        if back[0] and self.copy(frame):
            return frame, None
        one: Wrap | None = Wrap(number, sequences.base, sequences.turn, sequences.low)
        two: Wrap | None = Wrap(index, indices.base, indices.turn, indices.low)
        if back[0]:
            one = sequences.continued(sent[0], self.sequence - 1, self.sequence)
        if back[1]:
            unsure = self._broken and indices.turn is None
            two = None if unsure else indices.continued(sent[1], last.index, least)
        if not (back[1] and self.late(frame)):
            one, two = self._fallen(frame, sent, (one, two), back)
        if one is None or two is None:
            return frame, None
        gap = one.number - self.sequence, two.number - self.index
        if gap != (0, 0):
            if (self._broken and back[1]) or not self._plausible(frame, gap, back, two):
                return frame, None
            doubted, self._doubted = self._doubted, (number + 1, index + len(frame.block))
            if doubted is None or index != doubted[1] or (back[1] and number != doubted[0]):
                return frame, None
            self._doubted = None
        sequences.take(one)
        indices.take(two)
        which = "sequence and index" if all(back) else "index" if back[1] else "sequence"
        did = "began again" if any(back) else "jumped"
        return (
            replace(frame, sequence=one.number, index=two.number),
            f"{which} of the publisher {did} after {self.sequence} frames and {self.index} spectra, as "
            "counters do that begin again; the numbers go on here",
        )

    def _fallen(
        self,
        frame: Frame,
        sent: tuple[int, int],
        wraps: tuple[Wrap | None, Wrap | None],
        back: tuple[bool, bool],
    ) -> tuple[Wrap | None, Wrap | None]:
        """How the counters go on, where one of them shows that the other fell back from any number, or where
        both fell back at once to where counters begin. Otherwise as it is guessed in `wraps`."""
        one, two = wraps
        due, due_index = self.sequence, self.index
        sequences, indices = self.sequences, self.indices
        exact = one is not None and one.number == due, two is not None and two.number == due_index
        if exact[1]:
            # With what seems to be missing, a whole turn of the index may be, too.
            missing = 0 if one is None else one.number - due
            if not exact[0] and (not self.turned(missing, 0) or self._at_once(frame, one)):
                one = sequences.fallen(sent[0], due)
        elif exact[0]:
            fallen = indices.fallen(sent[1], due_index)
            known = self._broken or not indices.guesses(two)
            if fallen is not None and fallen.turn is not None and indices.begins(sent[1]) and not known:
                two = fallen
        elif all(back):
            began = sequences.begins(sent[0]) and indices.begins(sent[1])
            if began and sequences.guesses(one) and indices.guesses(two):
                restarted = self._said == (due, *sent)
                if not (restarted or self._broken) and self._at_once(frame, one):
                    return sequences.fallen(sent[0], due), indices.fallen(sent[1], due_index)
                self._broken |= restarted or one is not None
        elif back[0] and two is not None and self.run is not None:
            spectra = two.number - due_index
            if one is None or one.number - due > spectra:  # more frames than spectra: it counts otherwise
                number = due + -(-spectra // self.run.block)
                one = Wrap(number, number - sent[0], None, sent[0])
        return one, two

    def _at_once(self, frame: Frame, guess: Wrap | None) -> bool:
        """Whether it comes as soon after the last frame as the next one does, or after a pause, rather than
        after so many as would be missing by this guess, or after a restart."""
        last = self._last
        if last is None:
            return False
        came, took = self.sequence - 1 - self._first_sequence, last.time_ns - self._first_ns
        waited = frame.time_ns - last.time_ns
        if came < FEWEST_SEEN - 1 or waited < 0:
            return False
        if guess is not None:
            missing, frames = guess.number - self.sequence, waited * came  # of which one takes `took`
            if missing > PACE and waited <= self._recent.longest(self.sequence):
                return True
            if 2 * frames > (missing + 2) * took and (
                missing < NEAR or 3 * took * (missing + 1) < 4 * frames < 5 * took * (missing + 1)
            ):
                return False
        return waited * came <= PACE * took or waited <= RESTART_NS

    def beyond(self, frame: Frame) -> bool:
        """Whether it jumps to a number that the counter did not reach when it began again."""
        counter, last = self.sequences, self._last
        if counter.turn is None or last is None:
            return False
        return last.sequence < counter.base + counter.low + counter.turn <= frame.sequence != self.sequence

    def uncertain(self, frame: Frame) -> bool:
        """Whether what is missing before this frame may be longer by a whole turn of the index."""
        return self._turns(self.indices.turn, frame.sequence - self.sequence, frame.index - self.index)

    def turned(self, frames: int, spectra: int) -> bool:
        """Whether more frames than spectra are missing because the index began again, if its turn is as
        short as what came allows."""
        turn = self.indices.turn
        if turn is None:
            last = 0 if self._last is None else self._last.index - self.indices.base
            turn = max(1 << last.bit_length(), FEWEST)
        return self._turns(turn, frames, spectra)

    def totals(self, end: End, here: int) -> End:
        """The end with totals that go on, if the counters that they come from began again. here: spectra that
        came."""
        spectra = self.indices.total(end.spectra, here)
        announced = end.announced
        if announced is not None:
            announced = self.indices.total(announced, max(self.index, spectra))
        frames = self.sequences.total(end.frames, self.sequence)
        return replace(end, frames=frames, spectra=spectra, announced=announced)

    def _turns(self, turn: int | None, frames: int, spectra: int) -> bool:
        """Whether so many missing frames may hold another turn of the index than these spectra: then nobody
        can tell."""
        return turn is not None and self.run is not None and spectra + turn <= frames * self.run.block

    def _plausible(self, frame: Frame, gap: tuple[int, int], back: tuple[bool, bool], index: Wrap) -> bool:
        """Whether so many frames and spectra may be missing before a frame whose counters began again."""
        frames, spectra = gap
        run, last = self.run, self._last
        if run is None or last is None or not 0 <= frames <= spectra or frame.time_ns <= last.time_ns:
            return False
        if run.spectra is not None and index.number + len(frame.block) > run.spectra:
            return False
        if self._turns(index.turn, frames, spectra):
            return False
        if back[0] != back[1]:  # the other counter went on, and tells how much is missing
            return back[0] or spectra <= frames * run.block or self.indices.turn is not None
        if self.sequences.turn is not None:
            return True  # it happened before
        came, took = self.sequence - 1 - self._first_sequence, last.time_ns - self._first_ns
        if came < 1:
            return False
        usual = (frame.time_ns - last.time_ns) * came  # frames in this time, times `took`
        return usual <= PACE * (frames + 1) * took and (frames + 1) * took <= PACE * usual
