"""What recordings of a run say of themselves, and whether it is what is in them: receipts, extent, times."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import MAX_RANGES
from cars_rt.files.hdf5 import opened

MOST_NAMED = 4  # ranges of missing spectra that are named one by one


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    true: bool
    text: str
    told: bool = False  # whether it is named in the verdict, as something that the recording lacks


@dataclass(frozen=True, eq=False, slots=True)
class Stream:
    """What a recording says of one stream."""

    name: str
    attrs: dict[str, Any]
    index: NDArray[np.int64]
    time_ns: NDArray[np.int64]
    raman_shift: NDArray[np.float64]
    dark: NDArray[Any] | None = None

    @property
    def announced(self) -> int:
        return int(self.attrs.get("announced", -1))

    @property
    def planned(self) -> int | None:
        """Spectra of the whole run, as its start said."""
        planned = self.attrs.get("spectra")
        return None if planned is None else int(planned)

    @property
    def lost(self) -> dict[str, int]:
        return dict(json.loads(self.attrs.get("lost", "{}")))

    @property
    def makers(self) -> Iterator[tuple[int, str, str, str]]:
        """From which index on which model (the beginning of its hash), engine and dark made the results."""
        for first, made_by in json.loads(self.attrs.get("made_by", "[]")):
            digest, engine, dark = [*made_by.split(" "), "", ""][:3]
            yield first, digest, engine, dark


def receipt(stream: Stream) -> Iterator[Finding]:
    """Every spectrum announced is there or named as lost."""
    if stream.announced < 0:
        yield Finding(False, f"{stream.name}: the run never ended, so there is no receipt")
        yield _without_receipt(stream)
        return
    rows, lost = len(stream.index), sum(stream.lost.values())
    yield Finding(
        rows + lost == stream.announced,
        f"{stream.name}: {rows} in the file + {lost} lost = {stream.announced} announced",
    )
    unique = bool((np.diff(stream.index) > 0).all())
    yield Finding(unique, f"{stream.name}: every spectrum is there once, in order")
    gone = _gaps(stream.index, stream.announced)
    ranges = json.loads(stream.attrs.get("ranges", "[]"))
    named = _merged((first, first + spectra) for _, first, spectra in ranges)
    within = all(any(low <= first and last <= high for low, high in gone) for first, last in named)
    same = gone == named or (len(ranges) >= MAX_RANGES and within)
    missing = sum(high - low for low, high in gone)
    yield Finding(same, f"{stream.name}: the {missing} that are not there are those named as lost")


def number(stream: Stream) -> str:
    return "not known" if stream.announced < 0 else str(stream.announced)


def _without_receipt(stream: Stream) -> Finding:
    """What is there of a run whose recorder was killed or is still writing."""
    rows, planned = len(stream.index), stream.planned
    last = int(stream.index.max(initial=-1))
    gaps = [f"{first} to {end - 1}" for first, end in _gaps(stream.index, last + 1)]
    if planned is None:
        gaps.append(f"whatever came after {last}")
    elif planned > last + 1:
        gaps.append(f"{last + 1} to {planned - 1}")
    named = ", ".join(
        [*gaps[:MOST_NAMED], *(["..."] if len(gaps) > MOST_NAMED + 1 else []), *gaps[MOST_NAMED:][-1:]]
    )
    of = "" if planned is None else f" of {planned} planned"
    missing = f"missing are spectra {named}" if named else "none is missing"
    return Finding(True, f"{stream.name}: {rows}{of} spectra are in the file; {missing}", told=True)


def extent(path: Path, stream: Stream) -> Iterator[Finding]:
    """Which part of its run the file is, if it is not all of it."""
    with opened(path) as file:
        about = {name: plain(value) for name, value in file.attrs.items()}
    if about.get("part"):
        others = [
            f"{word} it {about[name]}"
            for name, word in (("previous_part", "before"), ("next_part", "after"))
            if about.get(name)
        ]
        first = int(stream.index[0]) if len(stream.index) else 0
        text = f"this is part {about['part']} of a recording, from spectrum {first} on ({', '.join(others)})"
        yield Finding(True, text, told=True)
        return
    if about.get("began_at"):
        yield Finding(True, f"recording began at spectrum {about['began_at']} of the run", told=True)
    planned = stream.planned
    if planned is not None and 0 <= stream.announced < planned:
        ended = {"stopped": "was stopped", "failed": "failed"}.get(
            str(stream.attrs.get("reason")), "ended early"
        )
        text = f"it {ended}: {len(stream.index)} of {planned} planned spectra are in the file"
        yield Finding(True, text, told=True)


def _gaps(index: NDArray[np.int64], announced: int) -> list[tuple[int, int]]:
    """Ranges that are missing of 0 to announced, each as (first, after the last). Takes no memory for
    them."""
    there = np.unique(index)
    end = max(announced, int(there.max(initial=-1)) + 1)
    edges = np.concatenate([[-1], there, [end]]).astype(np.int64)
    at = np.flatnonzero(np.diff(edges) > 1)
    return [(int(edges[each]) + 1, int(edges[each + 1])) for each in at]


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges in order; those that touch become one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(each for each in ranges if each[0] < each[1]):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def times(counts: Stream, raman: Stream) -> Finding:
    """Each result carries the time stamp of its counts."""
    common, rows, results = np.intersect1d(counts.index, raman.index, return_indices=True)
    same = bool((counts.time_ns[rows] == raman.time_ns[results]).all())
    return Finding(same, f"{len(common)} spectra are in both and have the same time stamps")


def plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
