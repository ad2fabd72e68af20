"""What became of the spectra of a run, and of all runs."""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cars_rt.accounting import MAX_RANGES, Ledger, Range
from cars_rt.physics.fitness import shares
from cars_rt.protocol import Closed, End
from cars_rt.storage import file_name, write_text

log = logging.getLogger("cars_rt.daemon")


@dataclass(frozen=True, slots=True)
class Receipt:
    """One run, in spectra: announced = sent + sum(lost); received is what came in order."""

    run: str
    reason: str
    announced: int
    received: int
    sent: int
    frames_sent: int
    surplus: int  # came twice or too late; not a loss
    lost: Mapping[str, int]  # by cause
    ranges: list[Range]  # of spectra lost: cause, index of the first, how many
    problems: Mapping[str, int]  # what was wrong with messages, by kind
    made_by: list[tuple[int, str]]  # from which index on results were made by what
    flagged: Mapping[str, int]  # spectra computed that have a flag, by its name
    stalls: int  # how often a subscriber stopped reading and was left out
    source: str = ""
    begun_ns: int = 0
    first_sequence: int = 0  # of the first frame sent; more than 0 if the run was joined late
    ended_ns: int = 0

    @classmethod
    def of(cls, closed: Closed, after: Ledger, **about: Any) -> "Receipt":
        """From what was counted until spectra were received (closed) and from then on (after)."""
        before, end = closed.ledger, closed.end
        return cls(
            run=end.run,
            reason=end.reason.value,
            announced=end.spectra if end.announced is None else end.announced,
            received=before.spectra,
            sent=after.spectra,
            frames_sent=after.frames,
            surplus=before.surplus,
            lost=dict(before.lost + after.lost),
            ranges=sorted(before.ranges + after.ranges, key=lambda lost: lost.first)[:MAX_RANGES],
            problems=dict(before.problems + after.problems),
            **about,
        )

    def end(self, end: End) -> End:
        """The `end` message of the results, from the one of the counts."""
        return replace(
            end,
            stream="raman",
            time_ns=self.ended_ns,
            frames=self.first_sequence + self.frames_sent,
            spectra=self.sent,
            announced=self.announced,
            lost=self.lost,
            ranges=tuple(self.ranges),
        )

    def report(self) -> None:
        """One line in the log."""
        log.log(
            logging.WARNING if self.lost else logging.INFO,
            "run %s %s: %d spectra announced, %d received, %d sent; lost: %s",
            self.run, self.reason, self.announced, self.received, self.sent,
            Ledger(lost=Counter(self.lost), problems=Counter(self.problems)).describe(),
        )  # fmt: skip
        if self.flagged:
            log.warning("run %s: %s", self.run, shares(self.flagged, self.received))

    def write(self, folder: Path) -> None:
        """Write it as RUN.json; a folder that cannot be written costs a warning, not the run."""
        path = folder / file_name(self.run, ".json")
        try:
            write_text(path, json.dumps(asdict(self), indent=2) + "\n", durable=False)
        except OSError as error:
            log.warning("the receipt %s cannot be written: %s", path, error.strerror or error)


@dataclass(slots=True)
class Totals:
    """All runs that were closed, and everything that happened outside of runs. Only grows."""

    lost: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
