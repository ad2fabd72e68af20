"""What became of the spectra of a run, and of all runs."""

import json
import logging
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cars_rt.accounting import MAX_RANGES, Ledger, Range
from cars_rt.daemon.filing import Filing
from cars_rt.daemon.mishaps import Mishaps
from cars_rt.daemon.seen import metric
from cars_rt.daemon.seen.metric import Metric
from cars_rt.physics.fitness import NAMES, Flag, shares
from cars_rt.protocol import Closed, End
from cars_rt.storage import file_name, numbered, write_text

log = logging.getLogger("cars_rt.daemon")

SPIKE = NAMES[Flag.SPIKE]
COSMIC = 0.01  # of the spectra: so many cosmic rays are nothing to be warned of

KEPT = 1_000  # receipts; those before are in the log, and in files with --receipts


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
    made_by: list[tuple[int, str]]  # from which index on, and what made the results
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
            usual = self.flagged.keys() <= {SPIKE} and self.flagged[SPIKE] < COSMIC * self.received
            log.log(
                logging.INFO if usual else logging.WARNING,
                "run %s: %s", self.run, shares(self.flagged, self.received),
            )  # fmt: skip

    def write(self, folder: Path) -> None:
        """Write it as RUN.json, or RUN-2.json where that is there already; a folder that cannot be written
        costs a warning, not the run."""
        path = first = folder / file_name(self.run, ".json")
        try:
            for path in numbered(first):
                if not path.exists():
                    break
            if path != first:
                log.warning(
                    "there is a receipt of a run %s already, so this one is %s: the daemon was started again "
                    "amid the run, or the driver gives an id twice", self.run, path,
                )  # fmt: skip
            write_text(path, json.dumps(asdict(self), indent=2) + "\n", durable=False)
        except OSError as error:
            log.warning("the receipt %s cannot be written: %s", path, error.strerror or error)


class Book:
    """The receipts of the last runs, and what was counted in all runs and outside of them. Only grows."""

    def __init__(self, folder: Path | None, filing: Filing) -> None:
        """folder: where `filing` writes receipts; None: nowhere."""
        self.receipts: deque[Receipt] = deque(maxlen=KEPT)
        self.closed = 0  # runs
        self.problems: Counter[str] = Counter()  # findings, by kind
        self.filing = filing
        self._folder = folder
        self.lost: Counter[str] = Counter()  # spectra of runs that are over, by cause

    def enter(self, made: Receipt, mishaps: Mishaps) -> None:
        """A run is closed."""
        self.receipts.append(made)
        self.closed += 1
        with mishaps.contained("a receipt"):
            made.report()
            if (folder := self._folder) is not None:
                self.filing.ask("a receipt", lambda: made.write(folder))

    def metrics(self) -> Iterator[Metric]:
        """What is counted here."""
        yield metric.Counter("cars_rt_runs", "Runs closed.", self.closed)
        text, found = "Findings about messages, by kind.", dict(self.problems)
        yield metric.Counter("cars_rt_problems", text, found, "kind", "problems")
