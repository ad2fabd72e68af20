"""Loss accounting: where every spectrum that a source announced ended."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple, Self, TypeAlias

from cars_rt.kinds import TOLD, Cause, Fault, Kind, in_words

__all__ = ["MAX_RANGES", "Cause", "Kind", "Ledger", "Problem", "Range", "Trouble"]

MAX_RANGES = 512  # of lost spectra that a run keeps apart; beyond it only totals, so that memory is bounded


class Range(NamedTuple):
    """Consecutive spectra of a run that were lost, and the cause as it looked when they were missed."""

    cause: str
    first: int  # index of the first one in the run
    spectra: int


Trouble: TypeAlias = Kind | Fault | Cause


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: its cause, how many spectra it cost (0 where that cannot be known), and a sentence.

    `kind` is finer than the cause: each kind deserves one line in a log. `first` is the
    index of the first spectrum it cost; negative where that is not known.
    """

    cause: Cause
    spectra: int
    text: str
    kind: Trouble
    first: int = 0

    @property
    def heading(self) -> str:
        """What a line about it begins with: the cause, or the kind where it cost nothing, or less."""
        return (self.kind if self.spectra <= 0 and self.kind in TOLD else self.cause).value


@dataclass(slots=True)
class Ledger:
    """What one stage counted in one run.

    Every announced spectrum is either in `spectra` (passed on) or in `lost` under one cause.
    REPEATED is kept apart in `surplus`, since a copy is not a loss. `problems` counts findings by
    kind, also those whose spectra are unknown: a malformed message costs as many MISSING spectra as
    the next sequence number shows.
    """

    frames: int = 0
    spectra: int = 0
    surplus: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    ranges: list[Range] = field(default_factory=list)  # at most MAX_RANGES

    def passed(self, spectra: int) -> None:
        """Count one frame of `spectra` spectra as passed on."""
        self.frames += 1
        self.spectra += spectra

    def found(self, problem: Problem) -> None:
        """Count a problem."""
        self.problems[problem.kind.value] += 1
        if problem.cause is Cause.REPEATED:
            self.surplus += problem.spectra
        else:
            self.set_lost(problem.cause, self.lost[problem.cause.value] + problem.spectra)
            if problem.spectra and problem.first >= 0:
                self.note(Range(problem.cause.value, problem.first, problem.spectra))

    def set_lost(self, cause: Cause, spectra: int) -> None:
        """Correct what one cause has cost, when a total becomes known."""
        self.lost[cause.value] = spectra
        if spectra <= 0:
            del self.lost[cause.value]

    def note(self, lost: Range) -> None:
        """Keep which spectra were lost; what follows on and has the same cause is one range. Fewer than none
        were not lost, though a range that ends with them says so."""
        last = self.ranges[-1] if self.ranges else None
        if lost.spectra < 0:
            ends = [(each.cause, each.first + each.spectra) for each in self.ranges]
            if (wrong := (lost.cause, lost.first - lost.spectra)) in ends:
                each = self.ranges.pop(at := ends.index(wrong))
                if each.spectra > -lost.spectra:
                    self.ranges.insert(at, each._replace(spectra=each.spectra + lost.spectra))
        elif last and last.cause == lost.cause and last.first + last.spectra == lost.first:
            self.ranges[-1] = last._replace(spectra=last.spectra + lost.spectra)
        elif len(self.ranges) < MAX_RANGES:
            self.ranges.append(lost)

    def within(self, announced: int | None) -> Self:
        """Let ranges end where the run does, whose end may correct what was noted before. Returns itself."""
        if announced is not None:
            cut = (each._replace(spectra=min(each.spectra, announced - each.first)) for each in self.ranges)
            self.ranges = [each for each in cut if each.spectra > 0]
        return self

    @property
    def total_lost(self) -> int:
        """Spectra lost, all causes together."""
        return self.lost.total() if self.lost else 0  # asked for with every frame

    def describe(self) -> str:
        """Losses by cause, then findings that cost no known number of spectra, in one phrase."""
        found = {kind: count for kind, count in self.problems.items() if self.lost.get(kind) != count}
        lost, seen = in_words(self.lost) or "none", in_words(found)  # what both say is said once
        return f"{lost} ({seen})" if seen else lost
