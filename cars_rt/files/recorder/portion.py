"""What of a run is in one file, in the words of a receipt. Pure."""

from collections import Counter
from dataclasses import replace

from cars_rt.accounting import Ledger, Range
from cars_rt.kinds import Cause, Outside
from cars_rt.protocol import Closed, Frame, Reason


def within(frame: Frame, first: int, limit: int | None) -> Frame | None:
    """The part of a frame from `first` up to `limit`; None if there is none."""
    size = len(frame.block)
    low = max(first - frame.index, 0)
    high = size if limit is None else min(limit - frame.index, size)
    if low == 0 and high == size:
        return frame
    if low >= high:
        return None
    arrays = {name: values[low:high] for name, values in frame.arrays.items()}
    return replace(frame, index=frame.index + low, arrays=arrays)


def portion(closed: Closed, rows: int, first: int, limit: int | None, before: Outside) -> Closed:
    """The receipt of a file with `rows` spectra of a run, from `first` on and, if there is a limit, up to it.

    What came before counts as lost by the cause `before`, so that rows and losses still add up to what was
    announced. What was lost within and is not known by range (see MAX_RANGES) is missing.
    """
    end, ledger = closed.end, closed.ledger
    if not first and limit is None:
        return closed
    announced = ledger.spectra + ledger.total_lost if end.announced is None else end.announced
    last = announced if limit is None else min(limit, announced)
    first = min(first, last)
    ranges = [Range(before.value, 0, first)] if first else []
    for cause, begins, spectra in ledger.ranges:
        low, high = max(begins, first), min(begins + spectra, last)
        if low < high:
            ranges.append(Range(cause, low, high - low))
    lost: Counter[str] = Counter()
    for cause, _, spectra in ranges:
        lost[cause] += spectra
    rest = last - rows - lost.total()
    if rest:
        lost[Cause.MISSING.value] += rest
    reason = Reason.STOPPED if last < announced and end.reason is Reason.COMPLETE else end.reason
    receipt = Ledger(ledger.frames, rows, ledger.surplus, +lost, ledger.problems, ranges)
    upstream = lost[Cause.UPSTREAM.value]
    return Closed(
        replace(
            end,
            spectra=last - upstream,
            announced=last,
            reason=reason,
            lost={Cause.UPSTREAM.value: upstream} if upstream else {},
            ranges=(),
        ),
        receipt,
    )
