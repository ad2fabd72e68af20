"""Whether two recordings of a run, counts and results, belong together and their receipts are true."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import MAX_RANGES
from cars_rt.engines import AUTO, TOLERANCE, EngineError, Model, ModelError, compose, load_model, open_engine
from cars_rt.errors import CarsRtError
from cars_rt.physics.axis import AxisError
from cars_rt.recording import read_rows

PROBES = 64  # spectra computed again; all of them would take as long as the run


class VerifyError(CarsRtError, ValueError):
    """A file that is not a recording, with the reason in one sentence."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    true: bool
    text: str


@dataclass(frozen=True, eq=False, slots=True)
class _Stream:
    """What a recording says of one stream."""

    name: str
    attrs: dict[str, Any]
    index: NDArray[np.int64]
    time_ns: NDArray[np.int64]
    raman_shift: NDArray[np.float64]

    @property
    def announced(self) -> int:
        return int(self.attrs.get("announced", -1))

    @property
    def lost(self) -> dict[str, int]:
        return dict(json.loads(self.attrs.get("lost", "{}")))


def verify(
    raw: Path,
    result: Path,
    *,
    model: str | None = None,
    reference: Path | None = None,
    engine: str = AUTO,
) -> list[Finding]:
    """Check the recording of the counts against the recording of the results; both may be one file.

    model: name or path, if the results were made with one that is not shipped. reference: the one that kk
    was given, if it was. Raises VerifyError if a
    file is no recording.
    """
    counts, raman = _read(raw, "raw"), _read(result, "raman")
    return [
        Finding(
            counts.attrs["run"] == raman.attrs["run"],
            f"both are of one run ({counts.attrs['run']}; {raman.attrs['run']})",
        ),
        Finding(
            np.array_equal(counts.raman_shift, raman.raman_shift),
            f"both have the same axis of {len(raman.raman_shift)} points",
        ),
        Finding(
            counts.announced == raman.announced,
            f"both announce the same number of spectra ({counts.announced}; {raman.announced})",
        ),
        *_receipt(counts),
        *_receipt(raman),
        _times(counts, raman),
        _again(raw, result, counts, raman, model, reference, engine),
    ]


def _receipt(stream: _Stream) -> Iterator[Finding]:
    """Every spectrum announced is there or named as lost."""
    if stream.announced < 0:
        yield Finding(False, f"{stream.name}: the run never ended, so there is no receipt")
        return
    rows, lost = len(stream.index), sum(stream.lost.values())
    yield Finding(
        rows + lost == stream.announced,
        f"{stream.name}: {rows} in the file + {lost} lost = {stream.announced} announced",
    )
    unique = bool((np.diff(stream.index) > 0).all())
    yield Finding(unique, f"{stream.name}: every spectrum is there once, in order")
    gone = np.ones(max(stream.announced, int(stream.index.max(initial=-1)) + 1), bool)
    gone[stream.index] = False
    ranges = json.loads(stream.attrs.get("ranges", "[]"))
    named = np.zeros(len(gone), bool)
    for _, first, spectra in ranges:
        named[first : first + spectra] = True
    same = np.array_equal(gone, named) or (len(ranges) >= MAX_RANGES and not (named & ~gone).any())
    yield Finding(same, f"{stream.name}: the {int(gone.sum())} that are not there are those named as lost")


def _times(counts: _Stream, raman: _Stream) -> Finding:
    """Each result carries the time stamp of its counts."""
    common, rows, results = np.intersect1d(counts.index, raman.index, return_indices=True)
    same = bool((counts.time_ns[rows] == raman.time_ns[results]).all())
    return Finding(same, f"{len(common)} spectra are in both and have the same time stamps")


def _again(
    raw: Path,
    result: Path,
    counts: _Stream,
    raman: _Stream,
    model: str | None,
    reference: Path | None,
    engine: str,
) -> Finding:
    """Compute some results again from the counts."""
    name = model or str(raman.attrs.get("model_name", ""))
    try:
        chosen = load_model(name, reference)
    except ModelError as error:
        return Finding(False, f"the results cannot be computed again: {error}")
    made = [made_by.split(" ")[0] for _, made_by in json.loads(raman.attrs.get("made_by", "[]"))]
    if not (chosen.sha256 == raman.attrs.get("model_sha256") or chosen.sha256[:16] in made):
        return Finding(
            False, f"the model {name} here is not the one that made the results; give --model or --reference"
        )
    known, rows, results = np.intersect1d(counts.index, raman.index, return_indices=True)
    mine = _made_with(raman, known, chosen)
    others, rows, results = int((~mine).sum()), rows[mine], results[mine]
    if others and not len(rows):
        return Finding(False, "no result was made with a model and a dark that are at hand")
    chosen_few = np.unique(np.linspace(0, len(rows) - 1, min(PROBES, len(rows))).astype(int))
    with h5py.File(raw) as file:
        group = file["raw"]
        some = np.stack([group["counts"][row] for row in rows[chosen_few]]) if len(rows) else None
        dark = group["dark"][()] if "dark" in group else None
    if some is None:
        return Finding(False, "no spectrum is in both files")
    with h5py.File(result) as file:
        recorded = np.stack([file["raman/raman"][row] for row in results[chosen_few]])
    try:
        with open_engine(engine, compose(chosen, counts.raman_shift), len(some)) as opened:
            if dark is not None:
                opened.set_dark(dark)
            computed = opened.run(some)
    except (EngineError, ModelError, AxisError) as error:
        return Finding(False, f"the results cannot be computed again: {error}")
    scale = np.maximum(np.abs(computed).max(axis=1), 1e-6)
    worst = float((np.abs(computed - recorded).max(axis=1) / scale).max())
    text = f"{len(some)} results computed again from the counts differ by at most {worst:.1e} of the maximum"
    if others:
        text += f" ({others} were made with another model or a dark measured at the daemon)"
    return Finding(worst <= TOLERANCE, text)


def _made_with(raman: _Stream, index: NDArray[np.int64], model: Model) -> NDArray[np.bool_]:
    """Which spectra were made with this model and a dark that is in the recording of the counts."""
    changes = json.loads(raman.attrs.get("made_by", "[]"))
    mine = np.ones(len(index), bool)
    for first, made_by in changes:  # each holds from its index on
        digest, _, dark = ([*made_by.split(" "), "", ""])[:3]
        mine[index >= first] = model.sha256.startswith(digest) and dark in ("none", "start")
    return mine


def _read(path: Path, stream: str) -> _Stream:
    try:
        with h5py.File(path) as file:
            if stream not in file or "written" not in file[stream]:
                raise VerifyError(f"{path} holds no recording of the {stream} stream")
            group = file[stream]
            attrs = {name: _plain(value) for name, value in group.attrs.items()}
            index, time_ns = read_rows(group, "index"), read_rows(group, "time_ns")
            return _Stream(stream, attrs, index, time_ns, group["raman_shift"][()])
    except (OSError, KeyError) as error:
        raise VerifyError(f"{path} is not a recording: {error}") from None


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
