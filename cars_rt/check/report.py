"""What was found: a line for each part, and what they come to."""

from dataclasses import dataclass
from enum import StrEnum

from cars_rt.check.load import Load

ENOUGH = 1.5  # head-room below which it is tight: programs share the computer, and cameras come in bursts


class Verdict(StrEnum):
    """What a line comes to, the worst last."""

    OK = "ok"
    NOT_MEASURED = "not measured"
    TIGHT = "tight"
    TOO_SLOW = "too slow"
    FAILS = "fails"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One part of the way."""

    name: str
    verdict: Verdict
    unit: str = ""
    required: float | None = None
    measured: float | None = None
    head_room: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    verdict: Verdict
    summary: str
    rate: float  # spectra per second, required
    pixels: int
    assumed: bool  # there was no driver to measure
    lines: list[Line]

    @property
    def ready(self) -> bool:
        """Whether the experiment can go ahead."""
        return self.verdict in (Verdict.OK, Verdict.TIGHT)


def compared(name: str, required: float, measured: float, unit: str, note: str) -> Line:
    """A line whose verdict follows from the head-room."""
    head_room = measured / required
    verdict = Verdict.OK if head_room >= ENOUGH else Verdict.TIGHT if head_room >= 1 else Verdict.TOO_SLOW
    return Line(
        name=name,
        verdict=verdict,
        unit=unit,
        required=required,
        measured=measured,
        head_room=head_room,
        note=note,
    )


def report_of(load: Load, lines: list[Line]) -> Report:
    """The worst line decides; the source comes first, and need not be there."""
    order = list(Verdict)
    judged = [line.verdict for line in lines if (line.name, line.verdict) != ("source", Verdict.NOT_MEASURED)]
    verdict = max(judged, key=order.index)
    what = f"{load.rate:,.0f} spectra/s of {load.start.pixels} pixels"
    if load.assumed:
        what += " (assumed: nothing came from a driver)"
    known = [(line.head_room, line.name) for line in lines if line.head_room is not None]
    least, weakest = min(known)
    if verdict in (Verdict.TOO_SLOW, Verdict.FAILS):
        bad = [f"{line.name} {line.verdict}" for line in lines if line.verdict in ("too slow", "fails")]
        summary = f"NOT READY for {what}: {', '.join(bad)}"
    else:
        word = "TIGHT" if verdict is Verdict.TIGHT else "READY"
        summary = f"{word}: {what}, head-room {least:.1f}x ({weakest})"
    return Report(verdict, summary, load.rate, load.start.pixels, load.assumed, lines)
