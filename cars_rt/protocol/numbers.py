"""Which frame and spectrum of a run come next, even if the counters of its publisher begin again.

A frame whose numbers went back is a copy or a straggler, or the counters began again. How much is missing
then says the number that goes on; else the turn that is known; else the time that went by, which is a guess.
Across a gap the next frame has to bear it out. What cannot be placed is refused, and nothing takes its place.
"""

from copy import copy
from dataclasses import replace

from cars_rt.printable import counted
from cars_rt.protocol.counter import FEWEST, FEWEST_SEEN, Counter, Wrap
from cars_rt.protocol.limits import MAX_BLOCK, MAX_COUNT
from cars_rt.protocol.messages import End, Frame, Start
from cars_rt.protocol.recent import SIZE, Recent

NEAR = 8  # frames: so many may be lost where counters begin again; more, and just to the first number, hardly
PACE = 3  # factor by which a gap may differ from what the time since the last frame suggests
RESTART_NS = 5 * 10**8  # no program that died measures again within this

GUESSED = ", as a guess: a few spectra more or less may be missing"


class Numbers:
    """The numbers of one run's frames. The reader tells it of every frame that is in order (`advance`)."""

    __slots__ = (
        "_before", "_doubted", "_even", "_falls", "_first_sequence", "_last", "_odd", "_recent", "_refused",
        "_refused_last", "_restarted", "_said", "_strays", "index", "indices", "run", "sequence", "sequences",
    )  # fmt: skip

    def __init__(self, run: Start | None = None) -> None:
        self.run = run
        self.sequence = self.index = 0  # expected next
        self.sequences, self.indices = Counter(), Counter()
        self._recent = Recent()
        self._doubted: tuple[int, int] | None = None  # sequence and index that would confirm a gap
        self._said: tuple[int, int, int] | None = None  # of a start that was said again, and where it was
        self._before: tuple[Counter, Counter, int] | None = None  # the counters, until they began again
        self._first_sequence = 0  # of the first frame in order
        self._last: Frame | None = None  # the last frame in order
        self._even = True  # all frames hold as many spectra
        self._odd = False  # the last index could not be: no turn of the index is guessed
        self._settle()

    def _settle(self) -> None:
        """A frame is in order."""
        self._refused = self._falls = 0  # frames since then that came and were refused; how often they fell
        self._refused_last: Frame | None = None  # the last of them
        self._strays = 0  # frames since then that are new, by their time, but have a number that was missing
        self._restarted = False  # and they are of a program that began anew: nothing is guessed

    def advance(self, frame: Frame) -> int:
        """Expect the frame after this one next. Returns the number of its spectra."""
        spectra = len(frame.block)
        self._even &= spectra == (spectra if self.run is None else self.run.block)
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
        self._odd = False
        self._settle()
        self.sequence = sequence + 1
        self.index = frame.index + spectra
        return spectra

    def displaced(self, frame: Frame) -> int:
        """Count a frame whose index cannot be as the one that comes next. Returns its index then."""
        index = self.index
        self.advance(replace(frame, index=index))
        self._odd = True
        return index

    def refuse(self, frame: Frame) -> None:
        """A frame that is neither copy nor straggler could not be placed."""
        last = self._last
        self._lower(frame)
        if last is None or frame.time_ns <= last.time_ns:
            return
        if self._came(frame) is None:
            self._strays += 1
            return
        before, self._refused_last = self._refused_last, frame
        self._falls += before is None or frame.sequence <= before.sequence
        self._refused += 1

    def _lower(self, frame: Frame) -> None:
        """A counter whose number 1 came first began at 0 all the same, if a 0 comes."""
        for counter, number in (self.sequences, frame.sequence), (self.indices, frame.index):
            if counter.first == 1 and number == 0:
                counter.first = 0

    @property
    def least(self) -> int:
        """The lowest number that the next frame can have: those that were refused had some, too."""
        return self.sequence + self._refused

    @property
    def settled(self) -> bool:
        """Whether a frame with the expected numbers is the expected one without a further look."""
        guessed = self.sequences.turn is not None and not self.sequences.sure
        return not (self._refused or guessed)

    def said_again(self, start: Start) -> None:
        """A start of this run came again, with what it says comes next."""
        self._said = self.sequence, start.sequence, start.index

    @property
    def fresh(self) -> bool:
        """Whether no frame came yet."""
        return self._last is None

    def older(self, frame: Frame) -> bool:
        """Whether it is from before the last frame, by their clock."""
        return self._last is not None and frame.time_ns < self._last.time_ns

    def copy(self, frame: Frame) -> bool:
        """Whether this very frame came before."""
        return self._came(frame) is True

    def late(self, frame: Frame) -> bool:
        """Whether it may be one that was missing, and comes too late."""
        last = self._last
        return (last is None or frame.time_ns <= last.time_ns) and self._came(frame) is None

    def note_late(self, frame: Frame) -> None:
        """It came at last: what comes with its number from here on is a copy, or another one."""
        self._lower(frame)
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
        self._first_sequence = frame.sequence
        self.sequences, self.indices = Counter(frame.sequence), Counter(frame.index)

    def continued(self, frame: Frame) -> tuple[Frame, str | None]:
        """The frame with numbers that go on, although the publisher's counters began again. Also a sentence
        if they began again just now."""
        sent, last = (frame.sequence, frame.index), self._last
        if last is None or self.run is None:
            return frame, None
        self._even &= len(frame.block) == self.run.block
        self._undo(sent)
        sequences, indices = self.sequences, self.indices
        number, index = sent[0] + sequences.base, sent[1] + indices.base
        if max(number, index) > MAX_COUNT - MAX_BLOCK:
            return frame, None
        if sequences.base and (index != self.index or self.older(frame)):
            least = max(self.run.sequence, self.sequence - SIZE)
            before = [replace(frame, sequence=each) for each in sequences.earlier(sent[0], least)]
            for judged in self.copy, self.late:  # not a jump ahead that took no time
                if found := next(filter(judged, before), None):
                    return found, None
        longer = None
        if (number, index) == (self.sequence, self.index) and (longer := self._longer(sent, frame)):
            number, index = sent[0] + sequences.base, sent[1] + indices.base
        if sequences.base or indices.base:
            frame = replace(frame, sequence=number, index=index)
        least = self.index
        if indices.turn is not None:  # each frame that is missing held a spectrum
            least += max(number - self.sequence, 0)
        back = number < self.sequence, index < least
        if not any(back) or (back[0] and self._old(frame, back[1])):
            return frame, longer
        one, two = self._placed(frame, sent, back)
        if one is None or two is None or one.number < self.least:
            return frame, None
        gap = one.number - self.sequence, two.number - self.index
        if gap != (0, 0):
            if (self._odd and back[1]) or not self._plausible(frame, gap, back, two):
                return frame, None
            doubted, self._doubted = self._doubted, (number + 1, index + len(frame.block))
            confirmed = doubted and index == doubted[1] and (not back[1] or number == doubted[0])
            if not confirmed and (sequences.turn is not None or not one.sure):
                return frame, None
            self._doubted = None
            if sequences.turn is None:
                one, two = one._replace(sure=False), two._replace(sure=False)
        self._before = copy(sequences), copy(indices), one.number + 1
        sequences.take(one)
        indices.take(two)
        which = "sequence and index" if all(back) else "index" if back[1] else "sequence"
        sure = two.sure or not back[1] or (gap == (0, 0) and self._at_once(frame))
        return (
            replace(frame, sequence=one.number, index=two.number),
            f"{which} of the publisher began again after {self.sequence} frames and {self.index} spectra, as "
            f"counters do that begin again; the numbers go on here{'' if sure else GUESSED}",
        )

    def _undo(self, sent: tuple[int, int]) -> None:
        """The counters did not begin again with the last frame, whose numbers were damaged, if this one goes
        on from where they had been."""
        if self._before is not None:
            one, two, due = self._before
            if (sent[0] + one.base, sent[1] + two.base, due) == (self.sequence, self.index, self.sequence):
                self.sequences, self.indices = one, two
            self._before = None

    def _longer(self, sent: tuple[int, int], frame: Frame) -> str | None:
        """Go on further, and say so, where the numbers that are due are beyond a turn that was guessed: some
        frames were missing where the counters began again."""
        one, two = self.sequences, self.indices
        if self._refused or one.turn is None or two.turn is None or one.sure or two.sure:
            return None
        beyond = sent[0] + 1 - one.low - one.turn, sent[1] + len(frame.block) - two.low - two.turn
        if min(beyond) <= 0:
            return None
        first, turns = two.base + two.low, one.base // one.turn
        for counter, missed in zip((one, two), beyond, strict=True):
            counter.base, counter.turn = counter.base + turns * missed, (counter.turn or 0) + missed
        return (
            f"sequence and index of the publisher go on to {sent[0]} and {sent[1]}, beyond where they seemed "
            f"to begin again: what came as spectra {first} to {self.index - 1} belongs "
            f"{counted(turns * beyond[1], 'spectrum')} further on"
        )

    def _old(self, frame: Frame, back: bool) -> bool:
        """Whether a frame whose number went back is a copy, or one that was missing."""
        came, last = self._came(frame), self._last
        if came is not None or last is None or self.run is None or not back:
            return came is True or (came is None and self.older(frame))
        guessed = self.sequences.turn is None and frame.sequence >= self.run.sequence
        return guessed or frame.time_ns <= last.time_ns

    def _placed(
        self, frame: Frame, sent: tuple[int, int], back: tuple[bool, bool]
    ) -> tuple[Wrap | None, Wrap | None]:
        """Where a frame belongs whose sequence or index went back."""
        sequences, indices = self.sequences, self.indices
        if not back[0]:
            return sequences.goes_on(frame.sequence), self._index(sent[1], frame.sequence - self.sequence)
        if not back[1]:
            return self._sequence(sent[0], frame, frame.index - self.index), indices.goes_on(frame.index)
        one, turns = self._both(frame, sent)
        if one is None:
            return None, None
        two = self._index(sent[1], one.number - self.sequence, turns)
        return one, two and two._replace(sure=one.sure)

    def _sequence(self, sent: int, frame: Frame, spectra: int) -> Wrap | None:
        """A sequence that went back, where the index says how many spectra are missing."""
        due = self.sequence
        one = self.sequences.continued(sent, due - 1, due)
        missing = 0 if one is None else one.number - due
        if spectra == 0:  # with what seems to be missing, a whole turn of the index may be, too
            known = one is not None and not missing
            if known or (missing and self.turned(missing, 0) and not self._at_once(frame)):
                return one
            return self.sequences.fallen(sent, due)
        if self.run is not None and (one is None or missing > spectra):  # it counts otherwise
            number = due + -(-spectra // self.run.block)
            one = Wrap(number, number - sent, None, sent)
        return one

    def _index(self, sent: int, frames: int, turns: int = 1) -> Wrap | None:
        """An index that went back, where so many frames are missing."""
        last, indices = self._last, self.indices
        if last is None or (self._odd and indices.turn is None):
            return None
        size = len(last.block)
        known = indices.continued(sent, last.index, self.index + frames)
        if indices.turn is not None and known is not None and (indices.sure or known.number == self.index):
            return known
        if frames == 0 or self._even:
            fallen = indices.fallen(sent, self.index + frames * size, turns)
            if fallen is not None and fallen.turn and indices.begins(sent, (frames + 1) * size):
                return fallen._replace(sure=frames == 0)
        return known

    def _both(self, frame: Frame, sent: tuple[int, int]) -> tuple[Wrap | None, int]:
        """A sequence that went back as the index did: by its turn, or by the clock. Also how often it did."""
        due, sequences, last, strays = self.sequence, self.sequences, self._last, self._strays
        if last is None or self._restarted or (self._refused == 0 and self._said == (due, *sent)):
            self._restarted = True
            return None, 1
        waited = frame.time_ns - last.time_ns
        usual, longest = self._recent.pace(due)
        begins = sequences.begins(sent[0]) and self.indices.begins(sent[1], len(last.block))
        enough = due - self._first_sequence >= FEWEST_SEEN and waited >= 0
        fell = begins and enough and self._refused == 0
        one = sequences.continued(sent[0], due - 1, self.least)
        missing = None if one is None else one.number - due
        if sequences.turn is not None and one is not None and one.turn == sequences.turn:
            if fell and missing and not one.sure and 2 * waited < 3 * usual:
                return sequences.fallen(sent[0], due), 1  # it was guessed too long
            return one, 1
        if missing == 0:
            return one, 1
        frames = waited / usual if usual else 0.0
        if missing is not None and usual and enough:
            off = abs(frames - missing - 1)
            lost = missing + 1 - self._refused
            fits = off <= max(0.5, min(longest / usual, PACE) - 1, lost / 8)
            if fits and not (fell and (missing > NEAR or abs(frames - 1 - strays) <= off)):
                return one, 1
        pause = max(RESTART_NS, PACE * usual, longest)
        if fell and waited <= pause:
            return sequences.fallen(sent[0], due + strays), 1
        if begins and self._refused == 0:
            self._restarted = waited > pause
        return self._learned(frame, sent[0])

    def _learned(self, frame: Frame, sent: int) -> tuple[Wrap | None, int]:
        """The turn that refused frames show, when they begin again at once; and how often they did."""
        before, counter = self._refused_last, self.sequences
        if before is None or self._restarted or not counter.begins(sent):
            return None, 1
        usual, _ = self._recent.pace(self.sequence)
        turn = before.sequence - counter.base + 1 - sent
        if turn < FEWEST_SEEN or 2 * (frame.time_ns - before.time_ns) >= 3 * usual:
            return None, 1
        turns = self._falls + 1
        one = counter.fallen(sent, counter.base + sent + turns * turn, turns)
        return one and one._replace(sure=self._refused >= FEWEST_SEEN), turns

    def _at_once(self, frame: Frame) -> bool:
        """Whether it surely comes as soon after the last frame as the next one does."""
        usual, longest = self._recent.pace(self.sequence)
        waited = 0 if self._last is None else frame.time_ns - self._last.time_ns
        return 2 * max(waited, longest) <= 3 * usual

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
        usual, _ = self._recent.pace(self.sequence)  # of both nothing but the clock tells
        return frames * usual <= PACE * (frame.time_ns - last.time_ns)
