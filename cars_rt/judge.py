"""Whether a publisher keeps the protocol: what it sends, each fault with its remedy.

Pure: parts and times in, lines out. What a receiver refuses, the reader finds; what is legal and most likely
a slip (a clock in milliseconds, pixel numbers as an axis, bytes in the wrong order) is found here.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Kind, Problem, Trouble
from cars_rt.physics.axis import may_be_wavelengths
from cars_rt.printable import printable, without_numbers
from cars_rt.protocol import Closed, Fault, Frame, Part, Reason, RunReader, Start, StreamName

#: What to do about each kind of problem that the reader reports.
REMEDIES = {
    Fault.PARTS: "send topic, header and a part for each entry of the header's arrays, as one message",
    Kind.FAILED: "please report it: this is a mistake of CARS-RT's own",
    Fault.MAGIC: "put cars_rt = 1 into every header",
    Fault.VERSION: "this program speaks version 1: put cars_rt = 1 into every header",
    Fault.HEADER: "the second part is one msgpack map and nothing else; its keys are text (str, not bin)",
    Fault.FIELD: "compare the field with the tables of docs/protocol.md",
    Fault.OVERSIZED: "send smaller blocks; docs/protocol.md lists the limits",
    Fault.TRUNCATED: "an array part has exactly shape x bytes of its dtype, row after row, without padding",
    Fault.DTYPE: "counts have the dtype of start, which is uint8, uint16, uint32, float32 or float64; "
    "raman_shift is float64, dark float32",
    Fault.SHAPE: "counts are (spectra, pixels), pixels as in raman_shift, 1 to block spectra; one is "
    "(1, pixels)",
    Fault.AXIS: "raman_shift holds finite float64 in cm-1, each larger than the one before (or each smaller)",
    Kind.CUT_OFF: "send the last part of each message without ZMQ_SNDMORE; its header says how many it has, "
    "and nothing of a topic that has no subscription",
    Kind.NAN: "replace what the camera did not measure, or leave the spectrum out and let index jump",
    Kind.REPEAT: "sequence is 0, 1, 2, ..., one more with every frame of the run",
    Kind.NUMBER_BACK: "sequence grows by one with every frame of the run, and a new run has a new run id",
    Kind.WRAP: "count on where a counter of few bits begins again: sequence and index reach any number",
    Kind.INDEX_BACK: "index counts spectra, not frames: it grows by the number of spectra of each frame",
    Kind.SERPENTINE: "send each row as one frame, every second one reversed, or leave scan out and sort "
    "afterwards",
    Kind.IMPLAUSIBLE: "sequence counts frames, index counts spectra, and no index reaches the spectra of "
    "start",
    Kind.SEQUENCE_JUMP: "number frames as they are sent; if that is so, ZeroMQ dropped some: set a larger "
    "SNDHWM before bind, send larger blocks, or use XPUB with XPUB_NODROP",
    Kind.SOURCE_SKIP: "nothing, if the camera lost them: that is how to say it",
    Kind.JOINED_LATE: "wait a second or two after bind, or for the subscriber (XPUB), before the first "
    "frame; or `cars-rt listen` came too late",
    Kind.UNKNOWN_RUN: "send start before the first frame and again about once a second, with the same run id",
    Kind.AFTER_END: "send end last, after all frames, and say start no more after it",
    Kind.TAIL_MISSING: "frames of end is the sequence that would have come next; if that is so, ZeroMQ "
    "dropped the last ones: close with LINGER, set a larger SNDHWM before bind",
    Kind.WRONG_TOTALS: "spectra of end counts spectra, not frames, and announced is spectra + the sum "
    "of lost",
    Kind.SECOND_START: "send end before the next start, and give each run an id of its own",
    Kind.START_CHANGED: "say start again as it was, with sequence and index of the next frame; what changes "
    "belongs to another run",
    Kind.RUN_AGAIN: "give every run a new id, such as a UUID: with an old one its frames are taken for "
    "repeats",
    Kind.NO_END: "send end also when the measurement is stopped or fails (reason stopped or failed)",
    Kind.NO_START: "send start again about once a second, with sequence and index of the next frame",
    Kind.BYTE_ORDER: "arrays are little-endian; LabVIEW and Java write big-endian",
    Kind.PIXEL_NUMBERS: "send the Raman shift of each pixel, in cm-1",
    Kind.UNIT_OF_AXIS: "send Raman shift in cm-1: 1e7 / wavelength_nm - 1e7 / pump_nm",
    Kind.UNIT_OF_TIME: "time_ns is Unix time in nanoseconds, a 64-bit integer",
    Kind.CLOCK: "let NTP or PTP set the clock, and take time_ns when the camera has delivered",
    Kind.EXPOSURE: "exposure_s is in seconds",
    Kind.SCAN: "spectra is rows x columns of scan where the scan is done once",
    Kind.FULL_SCALE: "full_scale is the count at which the camera saturates; no count is above it",
    Kind.CONSTANT: "look at what the camera's buffer holds when it is sent",
    Kind.SMALL_MESSAGES: "put several spectra into a frame: fewer, larger messages cost less",
}  # fmt: skip

#: Not against the protocol, and worth a look.
HINTS = frozenset({
    Kind.SOURCE_SKIP, Kind.JOINED_LATE, Kind.UNIT_OF_AXIS, Kind.EXPOSURE, Kind.SCAN, Kind.FULL_SCALE,
    Kind.CONSTANT, Kind.CLOCK, Kind.SMALL_MESSAGES,
})  # fmt: skip

SECOND_NS = 1_000_000_000
START_AGAIN_S = 5  # start is said again about once a second
CLOCK_S = 1.0  # a clock that is further ahead than this is not set
WAITED_S = 5.0  # and so far behind may be what waited on the way
SWAPPED = 8.0  # a spectrum that is so much smoother with its bytes swapped has them swapped
EXPOSED = 10.0  # exposures at the same time that no camera makes; milliseconds for seconds are a thousand
MOST_TOLD = 64  # lines of one run
MANY = 2_000  # messages per second that are worth an advice


@dataclass(frozen=True)
class Finding:
    """One finding and what to do about it. A fault is against the protocol, a hint is not."""

    kind: Trouble
    text: str

    @property
    def fault(self) -> bool:
        """Whether it is against the protocol."""
        return self.kind not in HINTS

    def __str__(self) -> str:
        to_do = REMEDIES.get(self.kind, "see docs/protocol.md")
        return printable(f"{'FAULT' if self.fault else 'hint'}: {self.text} -> {to_do}")


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
        self._known: set[str] = set()  # ids of runs
        self._waited = self._since = 0  # frames before the first start, and since when they come
        self._under_way_s = 0.0  # how long before we came the run had begun, if it was not just now
        self._began = self._bytes = self._frames = self._time = 0
        self._exposure_s: float | None = None

    @property
    def faults(self) -> int:
        """Findings against the protocol."""
        return sum(count for kind, count in self.found.items() if kind not in HINTS)

    def read(self, parts: Sequence[Part], now_ns: int) -> list[str]:
        """What there is to say about one message."""
        self.messages += 1
        lines: list[str] = []
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
                    lines += self._closed(event, now_ns)
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
        if problem.kind is Kind.STREAM:
            self.elsewhere = text
            return []
        if (refused := self.reader.refused.last) and refused != self._refused and isinstance(kind, Fault):
            self._refused = refused  # a new run: what was wrong with the one before may be so here, too
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
        if problem.kind in (Fault.AXIS, Kind.NAN, Fault.FIELD) and _swapped_axis(parts):
            kind, text = Kind.BYTE_ORDER, f"{text}; with its bytes swapped the axis is one"
        return self._tell([Finding(kind, text)])

    def _start(self, start: Start, now_ns: int) -> list[str]:
        self._told.clear()
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
        return lines + self._tell(_about_start(start, now_ns, again, bool(self._under_way_s)))

    def _frame(self, frame: Frame, now_ns: int) -> list[str]:
        self._frames += 1
        if self._frames > 16 and self._frames % 64:  # a sample is enough, and costs little
            return []
        run = self.reader.run
        findings = list(_about_frame(frame, run, now_ns)) if run is not None and self.stream == "raw" else []
        if frame.time_ns < self._time:
            findings.append(Finding(Kind.CLOCK, "time_ns goes back from one frame to a later one"))
        self._time = frame.time_ns
        return self._tell(findings)

    def _closed(self, closed: Closed, now_ns: int) -> list[str]:
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
        if end.reason is Reason.INTERRUPTED:
            findings.append(Finding(Kind.NO_END, "the run was left without an end"))
        if seconds > 0.5 and ledger.frames / seconds * (self._exposure_s or 0.0) > EXPOSED:
            text = f"{ledger.frames / seconds:.3g} frames/s came, each exposed for {self._exposure_s:g} s"
            findings.append(Finding(Kind.EXPOSURE, text))
        if ledger.frames / seconds > MANY and seconds > 0.5:
            findings.append(
                Finding(Kind.SMALL_MESSAGES, f"{ledger.frames / seconds:.0f} messages per second")
            )
        return lines + self._tell(findings)


# -- what is legal and most likely a slip -----------------------------------------------------------------


def _about_start(start: Start, now_ns: int, again: bool, under_way: bool) -> Iterator[Finding]:
    axis = start.raman_shift
    if again:
        yield Finding(Kind.RUN_AGAIN, f"run {start.run} had ended and begins once more")
    steps = np.diff(axis)
    low, high = float(axis.min()), float(axis.max())
    if start.pixels > 2 and low in (0.0, 1.0) and np.all(np.abs(steps) == 1):
        yield Finding(
            Kind.PIXEL_NUMBERS, f"the axis is {axis[0]:g}, {axis[1]:g}, {axis[2]:g}, ...: pixel numbers"
        )
    elif low > 5_000:
        yield Finding(
            Kind.UNIT_OF_AXIS, f"{low:g} to {high:g} is beyond every Raman shift: absolute wavenumbers?"
        )
    elif low < -high / 2:
        yield Finding(
            Kind.UNIT_OF_AXIS, f"{low:g} to {high:g} lies far below 0: anti-Stokes shifts count as positive"
        )
    elif high - low < 20 and high < 20:
        yield Finding(
            Kind.UNIT_OF_AXIS, f"{low:g} to {high:g} looks like metres, micrometres or electronvolts"
        )
    elif may_be_wavelengths(axis):
        yield Finding(Kind.UNIT_OF_AXIS, f"{low:g} to {high:g} may be nanometres")
    # A start of results keeps the driver's time, and comes when the engine is compiled.
    old = under_way or start.stream != "raw"
    if (note := _clock(start.time_ns, now_ns)) and not (old and note[0] is Kind.CLOCK):
        yield Finding(note[0], f"time_ns of start is {note[1]}")
    if start.exposure_s is not None and not 1e-6 <= start.exposure_s <= 600:
        yield Finding(Kind.EXPOSURE, f"an exposure of {start.exposure_s:g} s")
    if (
        start.scan is not None
        and start.spectra is not None
        and start.spectra % (start.scan[0] * start.scan[1])
    ):
        yield Finding(Kind.SCAN, f"{start.spectra} spectra are no whole number of scans of {start.scan}")


def _about_frame(frame: Frame, run: Start, now_ns: int) -> Iterator[Finding]:
    block = frame.block
    if note := _clock(frame.time_ns, now_ns):
        yield Finding(note[0], f"time_ns of frame {frame.sequence} is {note[1]}")
    if block.dtype.itemsize > 1:
        swapped = block.view(block.dtype.newbyteorder()).astype(np.float64)
        if _rough(block.astype(np.float64)) > SWAPPED * _rough(swapped):
            yield Finding(
                Kind.BYTE_ORDER,
                f"the counts of frame {frame.sequence} are smooth only with their bytes swapped",
            )
            return
    largest = float(block.max())
    if run.full_scale is not None and largest > run.full_scale:
        yield Finding(Kind.FULL_SCALE, f"counts up to {largest:g}, full_scale is {run.full_scale:g}")
    if largest == float(block.min()) and block.shape[1] > 1:
        yield Finding(Kind.CONSTANT, f"all counts of frame {frame.sequence} are {largest:g}")


def _rough(block: NDArray[np.float64]) -> float:
    """How much neighbours differ, as a share of what they are; infinite where that is no number."""
    with np.errstate(all="ignore"):
        step, size = np.abs(np.diff(block, axis=-1)).mean(), np.abs(block).mean()
        rough = float(step / size) if size else 0.0
    return rough if np.isfinite(rough) else np.inf


def _swapped_axis(parts: Sequence[Part]) -> bool:
    """Whether the third part is an axis with its bytes swapped."""
    if len(parts) < 3 or len(parts[2]) < 16 or len(parts[2]) % 8:
        return False
    axis = np.frombuffer(parts[2], ">f8")
    with np.errstate(all="ignore"):
        steps = np.diff(axis)
        return bool(
            np.all(np.isfinite(axis) & (np.abs(axis) < 1e5)) and (np.all(steps > 0) or np.all(steps < 0))
        )


def _clock(time_ns: int, now_ns: int) -> tuple[Kind, str] | None:
    """What is wrong with a time: the kind of finding and a phrase; None if nothing is."""
    for unit, factor in (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6)):
        if 0.5 < time_ns * (SECOND_NS // factor) / now_ns < 2:
            return Kind.UNIT_OF_TIME, f"in {unit}"
    off = (time_ns - now_ns) / SECOND_NS
    if -WAITED_S < off < CLOCK_S:
        return None
    return Kind.CLOCK, f"{abs(off):.3g} s {'ahead of' if off > 0 else 'behind'} this computer's clock"
