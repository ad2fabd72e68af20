"""What a receipt must say, worked out from what was really sent on and really came out.

Nothing here uses the project's accounting: each spectrum of a run is one entry of an array, and the rules
are those of docs/protocol.md.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.kinds import Kind
from chaos.proxy import KNOWN, Passed
from chaos.wire import Seen

Lost = list[tuple[str, int, int]]  # cause, index of the first, how many; in order


@dataclass(slots=True)
class Truth:
    """What a receiver got of one run."""

    fate: NDArray[np.str_]  # (n,): "" if it came in good order, otherwise the cause
    problems: Counter[str] = field(default_factory=Counter)
    surplus: int = 0

    @property
    def announced(self) -> int:
        return len(self.fate)

    @property
    def arrived(self) -> int:
        return int((self.fate == "").sum())

    @property
    def lost(self) -> dict[str, int]:
        return dict(Counter(str(cause) for cause in self.fate if cause))

    @property
    def ranges(self) -> Lost:
        return ranges_of(self.fate)


def ranges_of(fate: NDArray[np.str_]) -> Lost:
    """Neighbours with the same cause are one range."""
    ranges: Lost = []
    for index, cause in enumerate(fate):
        if not cause:
            continue
        if ranges and ranges[-1][0] == cause and sum(ranges[-1][1:]) == index:
            ranges[-1] = (str(cause), ranges[-1][1], ranges[-1][2] + 1)
        else:
            ranges.append((str(cause), index, 1))
    return ranges


def judge(run: str, passed: Sequence[Passed], came: Sequence[Passed] | None = None) -> Truth:
    """What a receiver of these messages, in this order, must say of a run.

    came: what the publisher had sent, where it may have lost spectra before sending: they are `upstream`.
    """
    ours = [each for each in passed if each.run == run]
    begin = next(number for number, each in enumerate(passed) if each.run == run and each.kind == "start")
    start = passed[begin]
    end = next((each for each in ours if each.kind == "end"), None)
    stop = next(
        (
            number
            for number, each in enumerate(passed)
            if number > begin and each.kind == "start" and each.run != run
        ),
        len(passed),
    )
    if end is not None:
        stop = passed.index(end)
    problems: Counter[str] = Counter()
    fates: dict[int, str] = {}
    next_sequence, reached, surplus = start.sequence, start.index, 0
    if start.index:
        problems["joined late"] += 1
    for each in passed[begin + 1 : stop]:
        if each.kind != "frame":
            continue
        if each.spoilt and each.spoilt not in KNOWN:
            problems[each.spoilt] += 1
        elif each.run != run:
            before = [other.run for other in passed[:begin] if other.kind in ("start", "end")]
            problems["after end" if before and each.run == before[-1] else "unknown run"] += 1
        elif each.sequence < next_sequence:
            problems["repeat"] += 1
            surplus += each.spectra
        else:
            if each.sequence > next_sequence:
                problems["sequence jump"] += 1
            elif each.index > reached:
                problems["source skip"] += 1
            next_sequence, reached = each.sequence + 1, each.index + each.spectra
            if each.spoilt:
                problems[each.spoilt] += 1
            for index in range(each.index, reached):
                fates[index] = "rejected" if each.spoilt else ""
    announced = reached
    if end is not None:
        announced = end.announced
        if end.frames > next_sequence:
            problems["tail missing"] += 1
        elif announced > reached:
            problems["source skip"] += 1
    elif stop < len(passed):
        problems["second start"] += 1
    sent = (
        None if came is None else _indices(each for each in came if each.run == run and each.kind == "frame")
    )
    fate = np.full(announced, "missing", dtype="U16")
    if sent is not None and end is not None:
        fate[[index for index in range(announced) if index not in sent]] = "upstream"
    for index, cause in fates.items():
        fate[index] = cause
    return Truth(fate, problems, surplus)


def _indices(frames: Iterable[Passed]) -> set[int]:
    return {index for frame in frames for index in range(frame.index, frame.index + frame.spectra)}


def came_out(messages: Sequence[Seen]) -> NDArray[np.int64]:
    """Indices of the spectra in these frames, in their order; every one is what its header says it is."""
    frames = [seen for seen in messages if seen.kind == "frame"]
    assert all(seen.genuine for seen in frames), "a spectrum is not the one that its frame says it is"
    if not frames:
        return np.zeros(0, np.int64)
    return np.concatenate([seen.index + np.arange(seen.spectra) for seen in frames])


def disagreements(
    receipt: Mapping[str, Any], fate: NDArray[np.str_], problems: Mapping[str, int] | None = None
) -> list[str]:
    """Where a receipt (an `end` header, or totals of a summary) is not the truth. Nothing if it is all true.

    fate: per announced spectrum "" if it was sent, otherwise the cause.
    """
    lost = dict(Counter(str(cause) for cause in fate if cause))
    sent = int((fate == "").sum())
    said = {
        "announced": receipt["announced"],
        "sent": receipt["sent"] if "sent" in receipt else receipt["spectra"],
        "lost": {cause: count for cause, count in receipt.get("lost", {}).items() if count},
        "ranges": merged(receipt.get("ranges", ())),
    }
    true: dict[str, Any] = {"announced": len(fate), "sent": sent, "lost": lost, "ranges": ranges_of(fate)}
    if problems is not None:
        # Where nothing comes in time on busy cores, that is said, and is true.
        heard = {kind: count for kind, count in receipt["problems"].items() if kind != Kind.CLOCK}
        said["problems"], true["problems"] = heard, dict(problems)
    return [f"{name}: says {said[name]}, but it is {true[name]}" for name in said if said[name] != true[name]]


def merged(ranges: Iterable[Sequence[Any]]) -> Lost:
    """Ranges of a receipt, neighbours of the same cause as one."""
    result: Lost = []
    for cause, first, count in ranges:
        if result and result[-1][0] == cause and result[-1][1] + result[-1][2] == first:
            result[-1] = (cause, result[-1][1], result[-1][2] + count)
        else:
            result.append((cause, first, count))
    return result
