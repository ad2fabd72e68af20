"""What is wrong with what a publisher sends, or legal and most likely a slip, and what to do about it.

Pure. Slips are such as a clock in milliseconds, pixel numbers as an axis, bytes in the wrong order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Kind, Trouble
from cars_rt.physics.axis import may_be_wavelengths
from cars_rt.printable import printable
from cars_rt.protocol import End, Fault, Frame, Part, Reason, Start

SECOND_NS = 1_000_000_000
CLOCK_S = 1.0  # a clock that is further ahead than this is not set
WAITED_S = 5.0  # and so far behind may be what waited on the way
SWAPPED = 8.0  # a spectrum that is so much smoother with its bytes swapped has them swapped

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
    Kind.WRONG_TOTALS: "frames of end is the sequence that would have come next, spectra counts spectra, and "
    "announced is spectra + the sum of lost",
    Kind.NOT_COMPLETE: "the reason is stopped where the measurement ended before all that start planned",
    Kind.MORE_THAN_PLANNED: "spectra of start counts all that are planned: of a stack all planes, with "
    "scan = [planes x rows, columns]; leave it out where nobody knows",
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
    Kind.MORE_THAN_PLANNED, Kind.CONSTANT, Kind.CLOCK, Kind.SMALL_MESSAGES,
})  # fmt: skip


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


def about_start(start: Start, now_ns: int, again: bool, under_way: bool) -> Iterator[Finding]:
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


def about_frame(frame: Frame, run: Start, now_ns: int) -> Iterator[Finding]:
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


def about_end(end: End, announced: int, run: Start, sequence: int) -> Iterator[Finding]:
    """end: as it was sent. announced: spectra of the run, by all that came. sequence: of the next frame."""
    if end.reason is Reason.INTERRUPTED and end.stream == "raw":  # a daemon passes on that none came
        yield Finding(Kind.NO_END, "end says interrupted, which receivers say of a run that had no end")
    if end.frames < sequence:
        yield Finding(Kind.WRONG_TOTALS, f"end says {end.frames} frames, though frame {sequence - 1} came")
    lost = sum(end.lost.values())
    if end.stream != "preview" and end.announced not in (None, end.spectra + lost):
        text = f"end says {end.announced} spectra announced, but {end.spectra} sent and {lost} lost"
        yield Finding(Kind.WRONG_TOTALS, text)
    if run.spectra is None or run.stream != "raw":
        return
    if announced > run.spectra:
        yield Finding(Kind.MORE_THAN_PLANNED, f"{announced} spectra were measured, {run.spectra} planned")
    elif announced < run.spectra and end.reason is Reason.COMPLETE:
        text = f"end says complete, though {announced} of the {run.spectra} spectra planned were measured"
        yield Finding(Kind.NOT_COMPLETE, text)


def _rough(block: NDArray[np.float64]) -> float:
    """How much neighbours differ, as a share of what they are; infinite where that is no number."""
    with np.errstate(all="ignore"):
        step, size = np.abs(np.diff(block, axis=-1)).mean(), np.abs(block).mean()
        rough = float(step / size) if size else 0.0
    return rough if np.isfinite(rough) else np.inf


def swapped_axis(parts: Sequence[Part]) -> bool:
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
