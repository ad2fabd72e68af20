"""Whether two recordings of a run, counts and results, belong together and their receipts are true."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.engines import (
    REFERENCE,
    TOLERANCE,
    Engine,
    EngineError,
    Model,
    ModelError,
    compose,
    load_offline,
    open_engine,
)
from cars_rt.engines.agreement import recomputed
from cars_rt.engines.classical import MEM, Classical, MaximumEntropyEngine
from cars_rt.errors import CarsRtError
from cars_rt.files.hdf5 import numbers, opened, readable_attrs, stored
from cars_rt.files.measurement import ABOUT, TARGET, judged
from cars_rt.files.receipts import Finding, Stream, extent, number, plain, receipt, times
from cars_rt.files.recording import named, partial_path, unreadable
from cars_rt.files.unreadable import explained
from cars_rt.files.written import is_recording, read_rows, rows_written, stored_rows
from cars_rt.physics.axis import AxisError
from cars_rt.physics.fitness import NAMES, Fitness, Flag
from cars_rt.physics.quantity import RATIO
from cars_rt.protocol.messages import FLAGS, MAIN_ARRAY
from cars_rt.protocol.saturation import largest_count
from cars_rt.storage import StorageError

PROBES = 64  # spectra computed again; all of them would take as long as the run
SLOW_PROBES = 8  # the same of `mem`
JUDGED = 4096  # spectra whose flags are found again, which is faster
AT_THRESHOLD = 0.01  # of them that may be `unlike` or not, by the last bit of a sum
PASSTHROUGH = "passthrough"  # the engine that says nothing of spectra
_OF_START = ("none", "start")  # darks that the recording of the counts holds


class VerifyError(CarsRtError, ValueError):
    """A file that is not a recording, with the reason in one sentence."""


@dataclass(frozen=True, eq=False, slots=True)
class _Basis:
    """What results are computed from beside the counts: that of the counts' recording, and of the results'
    what a calibration gave them. said: names of the latter."""

    raman_shift: NDArray[np.float64]
    dark: NDArray[Any] | None
    full_scale: float | None
    said: tuple[str, ...]


def verify(
    raw: Path,
    result: Path,
    *,
    model: str | None = None,
    reference: Path | None = None,
    engine: str = REFERENCE,
) -> list[Finding]:
    """Check the recording of the counts against the recording of the results; both may be one file.

    model: name or path, if the results were made with one that is not shipped. reference: the one that kk
    was given, if it was. Raises VerifyError if a
    file is no recording.
    """
    counts, raman = _read(raw, "raw"), _read(result, "raman")
    try:
        return _findings(raw, result, counts, raman, model, reference, engine)
    except VerifyError:
        raise
    except StorageError as error:
        raise VerifyError(str(error)) from None
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        raise VerifyError(
            f"{raw} and {result} are no recordings: what they say of themselves is not readable"
        ) from None


def _findings(
    raw: Path,
    result: Path,
    counts: Stream,
    raman: Stream,
    model: str | None,
    reference: Path | None,
    engine: str,
) -> list[Finding]:
    damage = "; ".join(
        said for path, name in ((raw, "raw"), (result, "raman")) if (said := _damage(path, name))
    )
    basis = _basis(counts, raman)
    findings = [
        Finding(
            counts.attrs["run"] == raman.attrs["run"],
            f"both are of one run ({counts.attrs['run']}; {raman.attrs['run']})",
        ),
        *_calibrated(raman, basis),
        Finding(
            np.array_equal(basis.raman_shift, raman.raman_shift),
            f"both have the same axis of {len(raman.raman_shift)} points",
        ),
        Finding(
            counts.announced == raman.announced,
            f"both announce the same number of spectra ({number(counts)}; {number(raman)})",
        ),
        *extent(raw, counts),
        *(() if result == raw else extent(result, raman)),
        *receipt(counts),
        *receipt(raman),
        times(counts, raman),
        Finding(not damage, damage or "every spectrum can be read"),
    ]
    points = len(counts.raman_shift), len(raman.raman_shift)
    if points[0] != points[1]:
        said = f"results of {points[1]} points cannot be computed again from counts of {points[0]}"
        return [*findings, Finding(False, said)]
    if not damage:
        findings += [
            _again(raw, result, counts, raman, basis, model, reference, engine),
            _flagged(raw, result, counts, raman, basis),
        ]
    return findings


def _basis(counts: Stream, raman: Stream) -> _Basis:
    """What the counts have counts; `process --calibration` gives another axis, and a dark and a full scale
    where there are none. A daemon's results hold no dark of their own."""
    own = raman.attrs.get("calibration") in (None, counts.attrs.get("calibration"))
    same_size = counts.raman_shift.shape == raman.raman_shift.shape
    axis = counts.raman_shift if own or not same_size else raman.raman_shift
    dark = raman.dark if counts.dark is None else counts.dark
    scales = counts.attrs.get("full_scale"), raman.attrs.get("full_scale")
    full_scale = scales[0] if scales[0] is not None else scales[1]
    of_results = {
        "axis": not np.array_equal(axis, counts.raman_shift),
        "dark": counts.dark is None and dark is not None,
        "full scale": scales[0] is None and full_scale is not None,
    }
    return _Basis(axis, dark, full_scale, tuple(name for name, is_so in of_results.items() if is_so))


def _calibrated(raman: Stream, basis: _Basis) -> Iterator[Finding]:
    """What of the results' own was taken to compute them again."""
    if basis.said:
        which = judged(raman.attrs, ABOUT, strict=False).get("calibration", {}).get("id", "that is not named")
        said = ", ".join(basis.said)
        text = f"the results were made with {said} of the calibration {which}, not of the counts"
        yield Finding(True, text, told=True)


def _damage(path: Path, stream: str) -> str:
    """What of it a disk or a copy has spoiled, in a phrase; empty if nothing."""
    with opened(path) as file:
        group = stored(file, stream, h5py.Group)
        return named(unreadable({stream: group}, {stream: rows_written(group)}))


def _again(
    raw: Path,
    result: Path,
    counts: Stream,
    raman: Stream,
    basis: _Basis,
    model: str | None,
    reference: Path | None,
    engine: str,
) -> Finding:
    """Compute some results again from the counts."""
    name = model or str(raman.attrs.get("model_name", ""))
    try:
        loaded = load_offline(name, reference)
    except ModelError as error:
        return Finding(False, f"the results cannot be computed again: {error}")
    made = {str(raman.attrs.get("model_sha256"))[:16], *(digest for _, digest, _, _ in raman.makers)}
    # Another instrument's reference was left out.
    both = loaded, loaded.of_source(raman.attrs.get("source"))
    chosen = next((each for each in both if each.sha256[:16] in made), None)
    if chosen is None:
        return Finding(
            False, f"the model {name} here is not the one that made the results; give --model or --reference"
        )
    known, rows, results = np.intersect1d(counts.index, raman.index, return_indices=True)
    mine = _made_with(raman, known, chosen)
    others, rows, results = int((~mine).sum()), rows[mine], results[mine]
    if others and not len(rows):
        return Finding(False, "no result was made with a model and a dark that are at hand")
    if not len(rows):
        return Finding(False, "no spectrum is in both files")
    most = SLOW_PROBES if _is_mem(chosen) else PROBES
    chosen_few = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))
    engines = _engines(raman, known[mine][chosen_few])
    with opened(raw) as file:
        group = stored(file, "raw", h5py.Group)
        some = _some(group, "counts", rows[chosen_few])
    with opened(result) as file:
        made_group = stored(file, "raman", h5py.Group)
        recorded = _some(made_group, "raman", results[chosen_few])
        tolerance = TOLERANCE + _rounding(stored(made_group, "raman", h5py.Dataset))
    passed = np.array([each == PASSTHROUGH for each in engines])
    try:
        computed = some.astype(np.float32) - np.float32(0 if basis.dark is None else basis.dark)
        if not passed.all():
            computed[~passed] = _computed(some[~passed], chosen, basis, engine)
    except (EngineError, ModelError, AxisError) as error:
        return Finding(False, f"the results cannot be computed again: {error}")
    worst = recomputed(recorded, computed, engines)
    text = f"{len(some)} results computed again from the counts differ by at most {worst:.1e} of the maximum"
    if others:
        text += f" ({others} were made with another model or a dark measured at the daemon)"
    return Finding(worst <= tolerance, text)


def _computed(counts: NDArray[Any], model: Model, basis: _Basis, engine: str) -> NDArray[np.float32]:
    """What a model makes of counts (k, p). Raises EngineError, ModelError or AxisError."""
    if isinstance(model, Classical) and _is_mem(model):
        made: Engine = MaximumEntropyEngine.of(model, basis.raman_shift, len(counts))
    else:
        made = open_engine(engine, compose(model, basis.raman_shift), len(counts))
    with made as ready:
        if basis.dark is not None:
            ready.set_dark(basis.dark)
        return ready.run(counts)


def _is_mem(model: Model) -> bool:
    """Whether no engine runs it, and each spectrum takes long."""
    return isinstance(model, Classical) and model.card.name == MEM


def _rounding(results: h5py.Dataset) -> float:
    """By how much of itself a result may differ from what was computed, since it was rounded."""
    bits = readable_attrs(results).get("mantissa_bits")
    return 0.0 if bits is None else 0.5 ** (max(int(bits), 1) + 1)


def _flagged(raw: Path, result: Path, counts: Stream, raman: Stream, basis: _Basis) -> Finding:
    """Judge some spectra again. `unlike` needs the results as they were computed: where they were rounded it
    is left out, and a few may be at its threshold."""
    known, rows, results = np.intersect1d(counts.index, raman.index, return_indices=True)
    of_start = np.zeros(len(known), bool)  # what nobody is known to have made is left out, too
    for first, _, engine, dark_from in raman.makers:
        of_start[known >= first] = engine != PASSTHROUGH and dark_from in _OF_START
    few = np.unique(np.linspace(0, of_start.sum() - 1, min(JUDGED, int(of_start.sum()))).astype(int))
    known, rows, results = known[of_start][few], rows[of_start][few], results[of_start][few]
    with opened(raw) as file, opened(result) as other:
        group, made = stored(file, "raw", h5py.Group), stored(other, "raman", h5py.Group)
        if stored(made, FLAGS, h5py.Dataset) is None:
            return Finding(True, "no flags are in the file, so none were checked", told=True)
        if not len(rows):
            text = "flags were not checked: none was made by an engine that flags with a dark that is at hand"
            return Finding(True, text, told=True)
        rounded = "mantissa_bits" in other.attrs
        implied = not rounded and raman.attrs.get(TARGET, RATIO) == RATIO
        full_scale = basis.full_scale
        if full_scale is None:
            told = judged(counts.attrs, ABOUT, strict=False).get("instrument")
            full_scale = largest_count(stored_rows(group, "counts").dtype.name, told)
        fitness, differ = Fitness(basis.raman_shift), np.zeros(len(rows), np.uint8)
        for first in range(0, len(rows), PROBES):
            part = slice(first, first + PROBES)
            values = _some(group, "counts", rows[part]).astype(np.float32)
            found = _some(made, "raman", results[part]) if implied else None
            flags = fitness.flags(values, found, basis.dark, full_scale)
            differ[part] = flags ^ _some(made, FLAGS, results[part])
    said = str(raman.attrs.get("model_flags", "")).split() or list(NAMES.values())
    bits = {flag: name for flag, name in NAMES.items() if name in said and (implied or flag != Flag.UNLIKE)}
    wrong = {name: known[(differ & flag) != 0] for flag, name in bits.items()}
    few_unlike = len(wrong.get("unlike", ())) <= max(1, len(rows) * AT_THRESHOLD)
    true = few_unlike and not any(len(each) for name, each in wrong.items() if name != "unlike")
    odd = ", ".join(f"{name} at {len(each)}, first {each[0]}" for name, each in wrong.items() if len(each))
    text = f"the flags of {len(rows)} spectra are those that their counts have ({', '.join(bits.values())})"
    return Finding(true, text + (f", but for {odd}" if odd else ""))


def _some(group: h5py.Group, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
    """These rows (k, p) of a dataset, each read by itself."""
    values = stored_rows(group, name)
    return np.concatenate([values[row : row + 1] for row in rows.tolist()])


def _made_with(raman: Stream, index: NDArray[np.int64], model: Model) -> NDArray[np.bool_]:
    """Which spectra were made with this model and a dark that is in the recording of the counts."""
    mine = np.ones(len(index), bool)
    for first, digest, _, dark in raman.makers:  # each holds from its index on
        mine[index >= first] = model.sha256.startswith(digest) and dark in _OF_START
    return mine


def _engines(raman: Stream, index: NDArray[np.int64]) -> list[str]:
    """The engine that made each of these spectra, by name; "" where nobody is known to have."""
    engines = np.full(len(index), "", dtype=object)
    for first, _, engine, _ in raman.makers:
        engines[index >= first] = engine
    return engines.tolist()


def _read(path: Path, stream: str) -> Stream:
    ours = False
    try:
        with opened(path) as file:
            is_recording(file)  # refuses one of a version to come
            group = stored(file, stream, h5py.Group)
            if group is None or stored(group, "written", h5py.Dataset) is None:
                raise VerifyError(f"{path} holds no recording of the {stream} stream")
            ours = True
            attrs = {name: plain(value) for name, value in group.attrs.items()}
            index, time_ns = read_rows(group, "index"), read_rows(group, "time_ns")
            raman_shift = numbers(group, "raman_shift")
            if raman_shift is None or stored(group, MAIN_ARRAY[stream], h5py.Dataset) is None:
                raise VerifyError(f"{path} holds no spectra of the {stream} stream")
            return Stream(stream, attrs, index, time_ns, raman_shift, numbers(group, "dark"))
    except VerifyError:
        raise
    except StorageError as error:
        known = ours or not error.of_file  # one that is being changed, or needs a plug-in, may be one
        raise VerifyError(
            str(error) if known else f"{path} is not a recording: it {error.strerror}"
        ) from None
    except FileNotFoundError:
        raise VerifyError(f"there is no file {path}{_begun(path)}") from None
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise VerifyError(f"{path} is not a recording: {explained(error)}") from None


def _begun(path: Path) -> str:
    """What is there instead of a recording that does not have its name yet."""
    partial = partial_path(path)
    return f"; {partial.name} is still written, or was cut short (cars-rt repair)" if partial.exists() else ""
