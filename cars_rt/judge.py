"""Whether a publisher keeps the protocol: what it sends, each fault with its remedy.

Pure: parts and times in, lines out. What a receiver refuses, the reader finds; what else is wrong, or most
likely a slip, `slips` does.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from cars_rt.accounting import Cause, Kind, Problem
from cars_rt.printable import printable, without_numbers
from cars_rt.protocol import (
    Closed,
    End,
    Fault,
    Frame,
    Part,
    ProtocolError,
    Reason,
    RunReader,
    Start,
    StreamName,
    decode,
)  # fmt: skip
from cars_rt.slips import (
    HINTS,
    SECOND_NS,
    WAITED_S,
    Finding,
    about_end,
    about_frame,
    about_start,
    swapped_axis,
)

START_AGAIN_S = 5  # start is said again about once a second
EXPOSED = 10.0  # exposures at the same time that no camera makes; milliseconds for seconds are a thousand
MOST_TOLD = 64  # lines of one run
MOST_RUNS_TOLD = 16  # runs of which the start was refused, without one in between that was taken
MANY = 2_000  # messages per second that are worth an advice


class Judge:
    """Reads one stream of one publisher. Every kind of finding is told once in a run, and counted."""

    def __init__(self, stream: StreamName) -> None:
        self.stream = stream
        self.reader = RunReader(stream)
        self.ended = 0  # runs, however
        self.runs = self.spectra = self.messages = 0  # runs: that their publisher ended
        self.elsewhere: str | None = None  # that another stream is published there, in a phrase
        self.found: Counter[str] = Counter()  # findings by kind, in all runs
        self._told: set[str] = set()  # kinds, in this run; of refused messages their sentences
        self._refused: str | None = None  # the run whose start was refused last
        self._runs_refused = 0  # since a start was taken
        self._known: set[str] = set()  # ids of runs
        self._waited = self._since = 0  # frames before the first start, and since when they come
        self._under_way_s = 0.0  # how long before we came the run had begun, if it was not just now
        self._began = self._bytes = self._frames = self._time = 0
        self._exposure_s: float | None = None
        self._sequence = 0  # of the frame that was due before this message
        self._gone = 0  # frames that were refused since the last one: their gap is no other fault
        self._end_refused = False  # that of the open run

    @property
    def faults(self) -> int:
        """Findings against the protocol."""
        return sum(count for kind, count in self.found.items() if kind not in HINTS)

    def read(self, parts: Sequence[Part], now_ns: int) -> list[str]:
        """What there is to say about one message."""
        self.messages += 1
        lines: list[str] = []
        self._sequence, run = self.reader.sequence, self.reader.run
        for event in self.reader.read(parts):
            match event:
                case Problem():
                    lines += self._problem(event, parts, now_ns)
                case Start():
                    lines += self._start(event, now_ns)
                case Frame():
                    self._bytes += sum(len(part) for part in parts)
                    lines += self._frame(event, now_ns)
                case Closed():
                    lines += self._closed(event, now_ns, run, _end_in(parts))
        return lines

    def vanished(self, now_ns: int) -> list[str]:
        """What there is to say when the publisher went away."""
        closed = self.reader.interrupt(now_ns)
        return [] if closed is None else self._closed(closed, now_ns)

    def cut_off(self) -> list[str]:
        """What there is to say about a message that was too long to be one."""
        return self._tell([Finding(Kind.CUT_OFF, "a message does not end")])

    def late(self, start_came: bool) -> list[str]:
        """What there is to say about a second subscriber that came in mid-run."""
        if start_came:
            return ["a subscriber that comes in mid-run gets start: good"]
        return self._tell([Finding(Kind.NO_START, "a subscriber that comes in mid-run gets no start")])

    def verdict(self) -> list[str]:
        """What there is to say at the end; the last line is the verdict."""
        who = "driver" if self.stream == "raw" else "publisher"
        lines = []
        if self._waited and not self._known and not self.faults:
            lines += self._tell([Finding(Kind.NO_START, f"{self._waited} frames came, but no start")])
        if self.reader.run is not None:
            lines.append(f"the run goes on; {self.reader.ledger.spectra} spectra of it came so far")
        if again := ", ".join(f"{count} x {kind}" for kind, count in self.found.items() if count > 1):
            lines.append(f"found more than once: {again}")
        spectra = self.spectra + (self.reader.ledger.spectra if self.reader.run is not None else 0)
        if self.faults:
            lines.append(
                f"this {who} does not keep the protocol: {self.faults} fault{'s' * (self.faults > 1)}"
            )
        elif not self.runs and self.reader.run is None:
            lines.append(f"nothing to judge: no run came in {self.messages} messages")
        else:
            so_far = "" if self.runs else "so far "
            came = f"{self.runs} run{'s' * (self.runs != 1)} ended, {spectra} spectra"
            hints = ", ".join(sorted(self.found))
            look = f"; worth a look: {hints}" if hints else ""
            lines.append(f"{so_far}this {who} keeps the protocol: {came}, nothing refused{look}")
        return lines

    # -- one kind of event each -----------------------------------------------------------------------

    def _tell(self, findings: Iterator[Finding] | list[Finding]) -> list[str]:
        lines = []
        for finding in findings:
            self.found[finding.kind.value] += 1
            kind = finding.kind
            key = without_numbers(finding.text) if isinstance(kind, Fault) else kind
            if key not in self._told and len(self._told) < MOST_TOLD:
                self._told.add(key)
                lines.append(str(finding))
        return lines

    def _problem(self, problem: Problem, parts: Sequence[Part], now_ns: int) -> list[str]:
        kind, text = problem.kind, problem.text
        of = bytes(parts[0]).rpartition(b".")[2] if parts else b""
        self._gone += of == b"frame" and problem.cause is Cause.REJECTED and not problem.spectra
        self._end_refused |= of == b"end" and isinstance(kind, Fault)
        if self._is_known(problem, parts):
            return []
        if problem.kind is Kind.STREAM:
            self.elsewhere = text
            return []
        if (refused := self.reader.refused.last) and refused != self._refused and isinstance(kind, Fault):
            self._refused, self._runs_refused = refused, self._runs_refused + 1
            if self._runs_refused <= MOST_RUNS_TOLD:  # what was wrong with the one before may be so here, too
                self._told.clear()
        if problem.kind is Kind.UNKNOWN_RUN and refused:
            return []  # what is wrong with its start was told
        if problem.kind is Kind.UNKNOWN_RUN and not self._known:
            self._waited += 1  # we came in mid-run: start has to come again
            self._since = self._since or now_ns
            late = now_ns - self._since > START_AGAIN_S * SECOND_NS
            return self._tell([Finding(Kind.NO_START, "frames come, but no start")]) if late else []
        if problem.kind is Kind.JOINED_LATE and (self._waited or self._under_way_s):
            return []
        if problem.kind in (Fault.AXIS, Kind.NAN, Fault.FIELD) and swapped_axis(parts):
            kind, text = Kind.BYTE_ORDER, f"{text}; with its bytes swapped the axis is one"
        return self._tell([Finding(kind, text)])

    def _is_known(self, problem: Problem, parts: Sequence[Part]) -> bool:
        """Whether it is but what follows from a refusal that was told."""
        gap = 0
        if problem.kind is Kind.SEQUENCE_JUMP:
            gap = self.reader.sequence - 1 - self._sequence
        elif problem.kind is Kind.TAIL_MISSING and (end := _end_in(parts)) is not None:
            gap = end.frames - self._sequence
        if 0 < gap <= self._gone:
            self._gone = 0
            return True
        return self._end_refused and problem.kind is Kind.SECOND_START

    def _start(self, start: Start, now_ns: int) -> list[str]:
        self._told.clear()
        self._runs_refused = 0
        self._gone, self._end_refused = 0, False
        self._began, self._bytes, self._frames, self._time = now_ns, 0, 0, 0
        self._exposure_s = start.exposure_s
        axis, planned = start.raman_shift, f"{start.spectra} spectra" if start.spectra else "until stopped"
        scan = f", scan {start.scan[0]} x {start.scan[1]}" if start.scan else ""
        exposure = f", exposure {start.exposure_s:g} s" if start.exposure_s else ""
        dark = "" if start.dark is None else ", with a dark"
        lines = [
            printable(f"run {start.run} from {start.source}"),
            f"  axis: {start.pixels} pixels, {axis[0]:g} to {axis[-1]:g} cm-1, "
            f"{np.abs(np.diff(axis)).min():.3g} to {np.abs(np.diff(axis)).max():.3g} cm-1 apart",
            f"  frames: {start.dtype}, at most {start.block} spectra each; {planned}{scan}{exposure}{dark}",
        ]
        again, age_s = start.run in self._known, (now_ns - start.time_ns) / SECOND_NS
        self._under_way_s = age_s if start.sequence and not self._known and age_s > WAITED_S else 0.0
        if self._under_way_s:
            lines.append(
                f"  it was under way when we came, begun {age_s:.0f} s before by its time_ns: {start.index} "
                "spectra went by, and its beginning is not judged; for that, begin `cars-rt listen` before it"
            )
        self._known.add(start.run)
        return lines + self._tell(about_start(start, now_ns, again, bool(self._under_way_s)))

    def _frame(self, frame: Frame, now_ns: int) -> list[str]:
        self._frames += 1
        self._gone = 0
        if self._frames > 16 and self._frames % 64:  # a sample is enough, and costs little
            return []
        run = self.reader.run
        findings = list(about_frame(frame, run, now_ns)) if run is not None and self.stream == "raw" else []
        if frame.time_ns < self._time:
            findings.append(Finding(Kind.CLOCK, "time_ns goes back from one frame to a later one"))
        self._time = frame.time_ns
        return self._tell(findings)

    def _closed(
        self, closed: Closed, now_ns: int, run: Start | None = None, sent: End | None = None
    ) -> list[str]:
        """What there is to say of a run that is over. sent: its end as it came; None if none did."""
        end, ledger = closed.end, closed.ledger
        self.ended += 1
        self.runs += end.reason is not Reason.INTERRUPTED
        self.spectra += ledger.spectra
        seconds = max(now_ns - self._began, 1) / SECOND_NS
        lines = [
            f"  end ({end.reason.value}): {ledger.spectra} of {end.announced} spectra came, "
            f"lost: {ledger.describe()}",
            f"  {ledger.spectra / seconds:.4g} spectra/s in {ledger.frames / seconds:.4g} frames/s, "
            f"{self._bytes / seconds / 1e6:.3g} MB/s",
        ]
        findings = []
        if run is not None and sent is not None:
            known = ledger.problems[Kind.WRONG_TOTALS.value]
            sequence = 0 if ledger.problems[Kind.WRAP.value] else self.reader.sequence
            about = about_end(sent, end.announced or 0, run, sequence)
            findings += [each for each in about if not (known and each.kind is Kind.WRONG_TOTALS)]
        elif not self._end_refused:
            findings.append(Finding(Kind.NO_END, "the run was left without an end"))
        if seconds > 0.5 and ledger.frames / seconds * (self._exposure_s or 0.0) > EXPOSED:
            text = f"{ledger.frames / seconds:.3g} frames/s came, each exposed for {self._exposure_s:g} s"
            findings.append(Finding(Kind.EXPOSURE, text))
        if ledger.frames / seconds > MANY and seconds > 0.5:
            findings.append(
                Finding(Kind.SMALL_MESSAGES, f"{ledger.frames / seconds:.0f} messages per second")
            )
        return lines + self._tell(findings)


def _end_in(parts: Sequence[Part]) -> End | None:
    """The end in these parts; None if it is another message, or none."""
    try:
        message = decode(parts)
    except ProtocolError:
        return None
    return message if isinstance(message, End) else None
