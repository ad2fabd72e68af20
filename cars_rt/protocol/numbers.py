"""Which frame and spectrum of a run come next, even if the counters of its publisher begin again.

A frame whose numbers go back is a copy or a straggler, or the counters began again, or it was damaged.
What is likeliest is believed at once, and taken back if the next frame goes on from where the run was before.
"""

from copy import copy
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import NamedTuple

from cars_rt.protocol.counter import Counter, Wrap
from cars_rt.protocol.limits import MAX_BLOCK, MAX_COUNT
from cars_rt.protocol.messages import End, Frame, Start
from cars_rt.protocol.recent import SIZE, Recent
from cars_rt.protocol.turning import Due, both_of, index_of, sequence_of

RESTART_NS = 2 * 10**9  # no program that died measures again within this
PACE = 3  # a pause is longer than so many usual ones

GUESSED = ", as a guess: a few spectra more or less may be missing"


class Verdict(Enum):
    """What a frame's numbers make of it."""

    FOLLOWS = auto()  # it is the next one, or some before it are missing
    GOES_BACK = auto()  # the same; its index is before what came, for good
    REPEAT = auto()  # a copy, or one that was missing and comes too late
    NUMBER_BACK = auto()  # no copy, and it cannot be placed
    INDEX_BACK = auto()  # the next frame, with an index that cannot be
    IMPLAUSIBLE = auto()  # a jump that the next frame has to bear out


@dataclass(frozen=True, slots=True)
class Before:
    """Where a run was before a frame whose numbers may be damaged, counting it as the frame that was due."""

    sequence: int
    index: int
    sequences: Counter
    indices: Counter


class Place(NamedTuple):
    """Where a frame belongs."""

    frame: Frame  # with numbers that go on
    verdict: Verdict
    text: str = ""  # why, if it is not in order; if its counters began again just now, that they did
    before: Before | None = None  # what the next frame may show to be so instead
    back: bool = False  # this one did: the jump of the last frame was none
    anew: bool = False  # a start that was said again explains the jump of its sequence


class Numbers:
    """The numbers of one run's frames. The reader tells it of every frame that is in order (`advance`)."""

    __slots__ = (
        "_again_ns", "_before", "_begun", "_doubted", "_even", "_frames", "_recent", "_refused",
        "_refused_last", "_resumed", "_spectra", "_turned_ns", "index", "indices", "run", "sequence",
        "sequences",
    )  # fmt: skip

    def __init__(self, run: Start | None = None) -> None:
        self.run = run
        self.sequence = self.index = 0  # expected next
        self.sequences, self.indices = Counter(), Counter()
        self._recent = Recent()
        self._doubted: tuple[int, int] | None = None  # what the next one sends if the last one was right
        self._before: Before | None = None  # the last frame's numbers may be damaged: if not, so it is
        self._begun: Before | None = None  # where counters began again, or frames came that had been missing
        self._resumed = 0, 0  # sequence and index of the next frame, by a start that was said again
        self._again_ns = 0  # time of a start that was said again with another time
        self._turned_ns = 0, 0  # times of the frames before and after both counters began again
        self._frames = self._spectra = 0  # in order
        self._even = True  # all frames hold as many spectra
        self._refused = 0  # frames since the last one in order that came and could not be placed
        self._refused_last: Frame | None = None  # the last of them

    # -- what the reader tells -----------------------------------------------------------------------

    def advance(self, frame: Frame, before: Before | None = None) -> int:
        """Expect the frame after this one next. Returns the number of its spectra."""
        spectra = len(frame.block)
        if (last := self._recent.last) is None:
            self.sequences, self.indices = Counter(frame.sequence), Counter(frame.index)
        else:
            self._even &= spectra == len(last.block)
        self._recent.take(frame)
        self._before, self._doubted = before, None
        self._refused, self._refused_last = 0, None
        self._frames += 1
        self._spectra += spectra
        self.sequence = frame.sequence + 1
        self.index = frame.index + spectra
        return spectra

    def displaced(self, frame: Frame) -> int:
        """Count a frame whose index cannot be as the one that comes next. Returns its index then."""
        index, doubted = self.index, self._doubted
        self.advance(replace(frame, index=index))
        self._doubted = doubted
        return index

    def said_again(self, start: Start) -> bool:
        """A start of this run came again, with what it says comes next. Whether it is of a driver that began
        anew where the counters seemed to begin again."""
        self._resumed = start.sequence, start.index
        if self.run is None or start.time_ns == self.run.time_ns:
            return False
        self._again_ns = start.time_ns
        before, after = self._turned_ns
        return before < start.time_ns <= after

    @property
    def settled(self) -> bool:
        """Whether a frame with the expected numbers is the expected one without a further look."""
        return not self._refused

    def older(self, frame: Frame) -> bool:
        """Whether it is from before the last frame, by their clock."""
        return self._recent.last is not None and frame.time_ns < self._recent.last.time_ns

    def totals(self, end: End, here: int) -> End:
        """The end with totals that go on, if the counters that they come from began again. here: spectra that
        came."""
        spectra = self.indices.total(end.spectra, here)
        announced = end.announced
        if announced is not None:
            announced = self.indices.total(announced, max(self.index, spectra))
        frames = min(self.sequences.total(end.frames, self.sequence), MAX_COUNT)
        return replace(end, frames=frames, spectra=spectra, announced=announced)

    # -- where a frame belongs -----------------------------------------------------------------------

    def place(self, frame: Frame) -> Place:
        """Where a frame belongs."""
        sent, last, run = (frame.sequence, frame.index), self._recent.last, self.run
        if run is None:
            return Place(frame, Verdict.FOLLOWS)
        self._even &= last is None or len(frame.block) == len(last.block)
        number, index = sent[0] + self.sequences.base, sent[1] + self.indices.base
        if max(number, index) > MAX_COUNT - MAX_BLOCK:
            return self._jump(frame, sent)
        exact = (number, index) == (self.sequence, self.index)
        if not exact and (begun := self._from_begun(frame)) is not None:
            return begun
        if last is not None and (there := self._from_before(frame, exact)) is not None:
            text = f"frame {last.sequence} had damaged numbers"
            if (due := self.index - len(last.block)) != last.index:
                text += f": what was passed on as spectrum {last.index} was spectrum {due}"
            moved = replace(frame, sequence=there[0], index=there[1])
            return Place(moved, Verdict.FOLLOWS, text, back=True)
        if self.sequences.turn is not None and not (exact and not self.older(frame)):
            least = max(run.sequence, self.sequence - SIZE)
            before = self.sequences.earlier(sent[0], least, self.sequence)
            for judged in self._recent.copied, self._recent.late:  # not a jump ahead that took no time
                if (found := next((each for each in before if judged(frame, each)), None)) is not None:
                    return self._repeat(replace(frame, sequence=found))
        frames, spectra = number - self.sequence, index - self.index
        moved = frame if (number, index) == sent else replace(frame, sequence=number, index=index)
        turn, none = self.indices.turn, spectra == 0
        fewer = spectra < frames or (turn is not None and spectra + turn <= frames * run.block)
        if none and (turn is None or self._takes_no_time(frame, frames)):
            fewer = False  # it is the sequence that jumps
        fewer &= not self._anew(sent)
        back = frames < 0, spectra < 0 or fewer
        if not any(back) or last is None:
            return self._jump(moved, sent)
        if back[0] and self._old(moved, back[1]):
            return self._back(moved, sent)
        return self._turned(moved, sent, back, last)

    def _jump(self, frame: Frame, sent: tuple[int, int]) -> Place:
        """A frame with expected numbers or such beyond them."""
        run, anew = self.run, self._anew(sent)
        assert run is not None
        frames, spectra = frame.sequence - self.sequence, frame.index - self.index
        if (frames < self._refused and not self._goes_on(frame)) or spectra < 0:
            return self._back(frame, sent)
        if anew or (self._recent.last is None and not spectra):
            frames = 0
        text = ""
        if frames > spectra > 0:
            text = f"the sequence jumps by {frames}, index by {spectra}, though each frame holds a spectrum"
        elif spectra and run.spectra is not None and frame.index + len(frame.block) > run.spectra:
            text = f"index jumps beyond the {run.spectra} spectra that start announced"
        elif self._beyond(frame):
            text = f"the sequence jumps by {frames}, beyond where it began again before"
        if text and sent != self._doubted:
            text = f"frame {frame.sequence} with spectrum {frame.index}: {text}"
            return self._doubt(frame, sent, Verdict.IMPLAUSIBLE, text)
        more = spectra > frames * run.block  # than the frames that are missing can hold
        doubtful = frames > spectra or more or self._takes_no_time(frame, frames)
        before = self._as_due(frame) if doubtful and not anew else None
        return Place(frame, Verdict.FOLLOWS, before=before, anew=anew)

    def _goes_on(self, frame: Frame) -> bool:
        """Whether it is just the one that is due, and none that goes on from frames that were refused. One
        that was sent again, with another time, is no beginning of them."""
        refused, last = self._refused_last, self._recent.last
        due = (frame.sequence, frame.index) == (self.sequence, self.index)
        if refused is None or last is None or not due:
            return False
        again = self._refused == 1 and refused.sequence == last.sequence
        return again or refused.sequence + 1 != frame.sequence

    def _anew(self, sent: tuple[int, int]) -> bool:
        """Whether a start that was said again explains that the sequence jumps to this frame."""
        frames, spectra = sent[0] - self._resumed[0], sent[1] - self._resumed[1]
        return self._resumed[0] > self.sequence - self.sequences.base and 0 <= frames <= spectra

    def _turned(self, frame: Frame, sent: tuple[int, int], back: tuple[bool, bool], last: Frame) -> Place:
        """A frame of which a number went back, though it is no repeat."""
        sequences, indices, due = self.sequences, self.indices, self._due(frame, last)
        one: Wrap | None
        if all(back):
            restarted = last.time_ns < self._again_ns <= frame.time_ns
            one, two = (None, None) if restarted else both_of(sequences, indices, sent, due)
        elif back[1]:
            one = sequences.goes_on(frame.sequence)
            odd = self._doubted is not None and indices.turn is None  # the last index could not be either
            two = None if odd else index_of(indices, sent[1], due, frame.sequence - self.sequence)
        else:
            one = sequence_of(sequences, sent[0], due, frame.index - self.index)
            two = indices.goes_on(frame.index)
        if one is None or two is None or not self._fits(frame, one.number, two.number):
            return self._jump(frame, sent)
        late = all(back) and self._may_be_late(frame)
        planned = self.run.spectra if self.run else None
        if late and planned is not None and two.number + len(frame.block) > planned:
            return self._jump(frame, sent)
        before = self._as_due(frame)
        if late:
            self._begun = Before(self.sequence, self.index, copy(sequences), copy(indices))
        if all(back):
            self._turned_ns = last.time_ns, frame.time_ns
        sequences.take(one)
        indices.take(two)
        which = "sequence and index" if all(back) else "index" if back[1] else "sequence"
        gap = one.number > self.sequence
        sure = not late and (two.sure or not back[1] or (not gap and due.at_once))
        text = (
            f"{which} of the publisher began again after {self.sequence} frames and {self.index} spectra, as "
            f"counters do that begin again; the numbers go on here{'' if sure else GUESSED}"
        )
        return Place(replace(frame, sequence=one.number, index=two.number), Verdict.FOLLOWS, text, before)

    def _back(self, frame: Frame, sent: tuple[int, int]) -> Place:
        """A frame whose numbers went back, for a reason that nobody knows."""
        if frame.sequence < self.sequence + self._refused:
            last = self._recent.last
            if self._recent.late(frame, frame.sequence) or self._recent.copied(frame, frame.sequence):
                return self._repeat(frame)
            text = f"frame {frame.sequence} is no copy, but has a number from before (next is "
            text += f"{self.sequence + self._refused}): is its counter stuck, or a driver restarted with the "
            text += "same run id?"
            later = last is not None and frame.time_ns > last.time_ns
            if later and self._recent.came(frame, frame.sequence) is not None:  # by its number it is not late
                self._refused += 1
                self._refused_last = frame
            return Place(frame, Verdict.NUMBER_BACK, text)
        text = f"frame {frame.sequence} begins at spectrum {frame.index}, which is not after the last one "
        text += f"(next is {self.index}; index counts spectra, not frames)"
        if sent == self._doubted:
            return Place(frame, Verdict.GOES_BACK, text)
        return self._doubt(frame, sent, Verdict.INDEX_BACK, text)

    def _doubt(self, frame: Frame, sent: tuple[int, int], verdict: Verdict, text: str) -> Place:
        self._doubted = sent[0] + 1, sent[1] + len(frame.block)
        return Place(frame, verdict, text)

    def _repeat(self, frame: Frame) -> Place:
        text = f"frame {frame.sequence} came again or too late (next is {self.sequence})"
        if self._recent.late(frame, frame.sequence):
            self._recent.take_late(frame)
        return Place(frame, Verdict.REPEAT, text)

    # -- what the last frame may have been instead -----------------------------------------------------

    def _as_due(self, frame: Frame) -> Before:
        """How the run goes on if this frame is the one that was due, with damaged numbers."""
        counters = copy(self.sequences), copy(self.indices)
        return Before(self.sequence + 1, self.index + len(frame.block), *counters)

    def _from_before(self, frame: Frame, exact: bool) -> tuple[int, int] | None:
        """Go back, and say where to, if this frame goes on from where the run was before the last one, and
        not from that."""
        before = self._before
        if before is None or exact or self.older(frame):
            return None
        number, index = frame.sequence + before.sequences.base, frame.index + before.indices.base
        frames, spectra = number - before.sequence, index - before.index
        now = frame.sequence + self.sequences.base, frame.index + self.indices.base
        if self._recent.copied(frame, now[0]) or self._recent.late(frame, now[0]):
            return None
        ahead = now[0] - self.sequence, now[1] - self.index
        farther = min(ahead) < 0 or spectra < ahead[1] or (frames, spectra) < ahead  # and more is missing
        if not (farther and 0 <= frames <= spectra):
            return None
        self.sequence, self.index = before.sequence, before.index
        self.sequences, self.indices = before.sequences, before.indices
        return number, index

    def _from_begun(self, frame: Frame) -> Place | None:
        """Go back to where counters seemed to begin again, if this frame goes on from there, and those since
        can all be some that had been missing."""
        begun = self._begun
        if begun is None or self.older(frame):
            return None
        number, index = frame.sequence + begun.sequences.base, frame.index + begun.indices.base
        all_missing = self.sequence - self.sequences.base <= self._recent.first
        if not (all_missing and 0 <= number - begun.sequence <= index - begun.index):
            return None
        first, last = begun.index, self.index - 1
        text = f"what was passed on as spectra {first} to {last} had been missing and came late: it was "
        text += f"{first - self.indices.base} to {last - self.indices.base}"
        self.sequence, self.index = begun.sequence, begun.index
        self.sequences, self.indices, self._begun = begun.sequences, begun.indices, None
        return Place(replace(frame, sequence=number, index=index), Verdict.FOLLOWS, text, back=True)

    def _takes_no_time(self, frame: Frame, frames: int) -> bool:
        """Whether a frame comes sooner than so many could have been sent before it, as far as is known."""
        if self._recent.last is None or frames <= 0:
            return False
        missing = self._missing(frame, self._recent.last)
        return missing is None or 2 * missing < frames

    def _old(self, frame: Frame, back: bool) -> bool:
        """Whether a frame whose number went back, and its index, too, is a copy, or one that was missing."""
        came, last = self._recent.came(frame, frame.sequence), self._recent.last
        if came is not None or last is None or not back:
            return came is True or (came is None and self.older(frame))
        waited = frame.time_ns - last.time_ns
        return waited <= 0 or (self._may_be_late(frame) and 2 * waited < self._recent.shortest())

    def _may_be_late(self, frame: Frame) -> bool:
        """Whether a frame whose numbers went back may be one that was missing, sent again with another time:
        as far as anybody knows, counters do not begin again."""
        run, number = self.run, frame.sequence
        missing = run is not None and number >= run.sequence and self._recent.came(frame, number) is None
        return missing and self.sequences.turn is None

    # -- what is missing ------------------------------------------------------------------------------

    def _due(self, frame: Frame, last: Frame) -> Due:
        """What is known of what is missing before this frame."""
        run, refused = self.run, self._refused_last
        assert run is not None
        usual, longest = self._recent.pace()
        waited = frame.time_ns - last.time_ns
        soon = refused is not None and 2 * (frame.time_ns - refused.time_ns) < 3 * usual
        return Due(
            sequence=self.sequence,
            index=self.index,
            refused=self._refused,
            last=(last.sequence, last.index),
            spectra=len(last.block),
            mean=self._spectra / self._frames,
            even=self._even,
            block=run.block,
            columns=run.scan[1] if run.scan else 0,
            missing=self._missing(frame, last),
            steady=longest <= PACE * usual,
            at_once=2 * max(waited, longest) <= 3 * usual,
            after_refused=refused.sequence - self.sequences.base if refused is not None and soon else 0,
            paused=waited > max(RESTART_NS, PACE * usual, longest),
        )

    def _missing(self, frame: Frame, last: Frame) -> float | None:
        """How many frames are missing before this one by the clock, if it can tell."""
        usual, _ = self._recent.pace()
        waited = frame.time_ns - last.time_ns
        return waited / usual - 1 if usual and waited >= 0 else None

    def _beyond(self, frame: Frame) -> bool:
        """Whether it jumps to a number that the counter did not reach when it began again."""
        counter, last = self.sequences, self._recent.last
        if counter.turn is None or last is None:
            return False
        return last.sequence < counter.base + counter.low + counter.turn <= frame.sequence != self.sequence

    def _fits(self, frame: Frame, sequence: int, index: int) -> bool:
        """Whether a frame may have these numbers."""
        run = self.run
        frames, spectra = sequence - self.sequence, index - self.index
        if run is None or frames < self._refused or not 0 <= frames <= spectra:
            return False
        return not spectra or run.spectra is None or index + len(frame.block) <= run.spectra
