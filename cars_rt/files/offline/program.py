"""From a file of counts to a file of results."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines import AUTO, DEFAULT_MODEL, Model, reason_against
from cars_rt.engines import retrieving as retrieving_engines
from cars_rt.files.offline.recipe import Recipe, made_from
from cars_rt.files.offline.retrieval import Maker, Retrieval, chosen, retrieving
from cars_rt.files.recording import Without, partial_path
from cars_rt.files.results import STREAMED, writable, writing_results
from cars_rt.files.resumed import (
    STREAM,
    Filled,
    Origin,
    damage_of,
    earlier_path,
    mend_left,
    resuming,
    room_needed,
    rows_of,
)
from cars_rt.files.spectra import Spectra, SpectraError
from cars_rt.files.written import DAMAGE
from cars_rt.physics.fitness import NAMES, named
from cars_rt.protocol import FLAGS, NETWORK_OUTPUTS, Start

log = logging.getLogger("cars_rt")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Processed:
    """What was done."""

    spectra: int
    pixels: int
    model: str
    engine: str
    flagged: Mapping[str, int]  # spectra computed now that have a flag, by its name
    computed: int  # spectra; the others were there from an earlier attempt
    damage: str  # which spectra have no result, since a disk has spoiled their counts


def process(
    source: Path,
    target: Path,
    *,
    model: str = DEFAULT_MODEL,
    reference: Path | None = None,
    engine: str = AUTO,
    pump_nm: float | None = None,
    axis: Path | None = None,
    calibration: Path | None = None,
    scheduler: str | None = None,
    overwrite: bool = True,
    again: bool = True,
    may_replace: Callable[[Path], bool] = lambda target: False,
    progress: Progress = lambda done, total: None,
) -> Processed:
    """Remove the background from every spectrum of a file; what else the file says of them goes along.

    model: as `load_offline` takes it. reference: spectra of a non-resonant sample. pump_nm:
    of files whose axis is in nm, also of the reference's. axis: a file with the axis of one that has none.
    calibration: as `open_calibrated` takes it. scheduler: address of a Dask scheduler whose workers compute;
    the target is .h5 then. overwrite: replace a target that is there, and delete what another model, engine
    or other counts have begun of it, which is put aside otherwise. again: also a target that holds these very
    results. may_replace: asked about a target that is there and may not be overwritten. progress is called
    with the spectra done and in all. Raises SpectraError, ModelError, EngineError or AxisError. The target is
    written completely or not at all; of an .h5 file what was done before Ctrl-C, a kill or an error is
    kept beside it, and the next call goes on from there.
    """
    inputs = {"input": source, "reference": reference, "axis": axis, "calibration": calibration}
    streamed = target.suffix.lower() in STREAMED
    on_the_way = [partial_path(target), earlier_path(target)] if streamed else []
    for name, path in inputs.items():
        for each in (target, *on_the_way):
            if path is not None and path.exists() and each.exists() and each.samefile(path):
                why = ", and results lie there until they are whole" if each in on_the_way else ""
                raise SpectraError(f"{each} is the {name}{why}; choose another name for the result")
    if reference is not None and reference.exists() and source.exists() and reference.samefile(source):
        log.warning("%s is its own reference: results of 0 say nothing of the sample", source)
    recipe = Recipe(model, reference, engine, pump_nm, axis, calibration)
    with recipe.opened(source) as spectra:
        wanted = chosen(recipe, spectra)
        if wanted.unused:
            log.warning("%s: %s", source, wanted.unused)
        _compare_darks(source, spectra, wanted)
        if not again and (done := _done(source, target, spectra, wanted, engine)) is not None:
            return done
        may_delete, overwrite = overwrite, overwrite or may_replace(target)  # what is unfinished is no target
        writable(target, overwrite=overwrite)
        if streamed:
            mend_left(target)
        if scheduler is not None:
            if not streamed:
                raise SpectraError(f"{target}: with --scheduler results are written as .h5")
            from cars_rt.files.offline.cluster import process_on_cluster

            told = partial(origin, source, spectra, wanted)
            maker, filled = process_on_cluster(
                scheduler, source, target, spectra, wanted, recipe, told,
                overwrite=overwrite, delete_others=may_delete, progress=progress,
            )  # fmt: skip
            log.info("%s: %s", source, spectra.axis_said)
        else:
            if engine == AUTO:
                engine = _begun_with(target, made_from(source, spectra, wanted))
            with retrieving(source, spectra, wanted, engine) as retrieval:
                size = len(spectra.counts), retrieval.row_bytes
                needed = math.prod(size)
                if streamed:
                    made = made_from(source, spectra, wanted)
                    needed = room_needed(target, made, retrieval.maker.description, *size)
                writable(target, needed, overwrite=overwrite)
                log.info("%s: %s", source, spectra.axis_said)  # before the work, which may be for nothing
                if streamed:
                    filled = _fill_recording(target, source, retrieval, overwrite, may_delete, progress)
                else:
                    filled = _fill_arrays(target, source, retrieval, overwrite, progress)
                maker = retrieval.maker
        total, pixels = spectra.counts.shape
        return Processed(
            total, pixels, wanted.card.name, maker.description, in_order(filled.flagged), filled.computed,
            filled.damage,
        )  # fmt: skip


def _compare_darks(source: Path, spectra: Spectra, model: Model) -> None:
    """Say if only the spectra or only the reference have a dark: an offset that one still has is in all."""
    reference = getattr(model, "reference", None)
    if reference is None or reference.dark is None or reference.dark == (spectra.dark is not None):
        return
    has, lacks = (reference.source, source) if reference.dark else (source, reference.source)
    log.warning(
        "%s has a dark, which is subtracted, and %s has none: put one beside its spectra, unless they are "
        "above dark already", has, lacks,
    )  # fmt: skip


def _done(source: Path, target: Path, spectra: Spectra, model: Model, engine: str) -> Processed | None:
    """What was done, if the target holds all results of these counts, model and engine already."""
    if target.suffix.lower() not in STREAMED or not target.exists():
        return None
    total, pixels = spectra.counts.shape
    rows, made_with = rows_of(target, made_from(source, spectra, model))
    if rows != total or engine not in (AUTO, made_with.split(" ")[0]):
        return None
    return Processed(total, pixels, model.card.name, made_with, {}, 0, damage_of(target))


def _begun_with(target: Path, made: str) -> str:
    """The engine of an earlier attempt, whose rows are of use to the same engine alone; else auto."""
    for path in (partial_path(target), earlier_path(target)):
        rows, made_with = rows_of(path, made)
        name = made_with.split(" ")[0]
        if rows > 0 and name in retrieving_engines() and reason_against(name) is None:
            return name
    return AUTO


def _fill_recording(
    target: Path,
    source: Path,
    retrieval: Retrieval,
    overwrite: bool,
    delete_others: bool,
    progress: Progress,
) -> Filled:
    """Into a recording."""
    total, flagged = len(retrieval.spectra.counts), Counter[str]()
    told = origin(source, retrieval.spectra, retrieval.model, retrieval.maker)
    align = retrieval.engine.max_batch
    with resuming(
        target, total, told, align=align, overwrite=overwrite, delete_others=delete_others
    ) as results:
        there = results.written

        def take(rows: dict[str, NDArray[Any]]) -> None:
            flagged.update(named(rows[FLAGS]))
            results.append(rows)

        progress(there, total)
        retrieval.rows(there, total, take, lambda done: progress(done, total))
    return Filled(total - there, flagged, str(results.without))


def _fill_arrays(
    target: Path, source: Path, retrieval: Retrieval, overwrite: bool, progress: Progress
) -> Filled:
    """The same into memory, for the formats that are written at once."""
    spectra, flagged, without = retrieval.spectra, Counter[str](), Without()
    total = len(spectra.counts)
    arrays: dict[str, NDArray[Any]] = {"raman_shift": spectra.raman_shift}
    arrays |= {} if spectra.dark is None else {"dark": spectra.dark}
    card = retrieval.model.provenance(retrieves=retrieval.engine.retrieves)
    attrs = {f"model_{name}": text for name, text in card.items() if name != "name"}
    attrs = {"model": card["name"], **attrs, "engine": retrieval.engine.describe()}
    attrs |= {**spectra.about, **spectra.receipt, **spectra.written}
    with writing_results(
        target, total, arrays, attrs, row_bytes=retrieval.row_bytes, overwrite=overwrite
    ) as results:

        def take(rows: dict[str, NDArray[Any]]) -> None:
            flagged.update(named(rows[FLAGS]))
            first, raman = results.written, rows[STREAM]
            without.add(rows.get("index", np.arange(first, first + len(raman))), raman)
            results.append(**rows)

        retrieval.rows(0, total, take, lambda done: progress(done, total))
        if damage := str(without):
            results.attrs[DAMAGE] = damage
    return Filled(total, flagged, damage)


def origin(source: Path, spectra: Spectra, model: Model, maker: Maker) -> Origin:
    """What the results say of where they come from: all that the source says, and what was done."""
    said = model.provenance(retrieves=maker.retrieves)
    said |= {"engine": maker.description, "made_by": maker.made_by}
    said |= {"dark": maker.dark, FLAGS: " ".join(NAMES.values())}  # of the bits, lowest first
    said |= {name: meaning for name, meaning in NETWORK_OUTPUTS.items() if name in maker.outputs}
    said |= {"reference": f"none; {model.unused}"} if model.unused else {}
    known = spectra.about
    modified_ns = source.stat().st_mtime_ns
    about: dict[str, Any] = {
        "run": source.stem,
        "source": source.name,
        "block": 1,
        "time_ns": modified_ns,
    } | known
    start = Start(
        stream=STREAM,
        raman_shift=spectra.raman_shift,
        dtype="float32",
        dark=spectra.dark,
        model=said,
        **about,
    )
    notes = {
        "source": source.name,
        "axis": spectra.axis_said,
        "time_is_of": "the run" if "time_ns" in known else "the file",
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    text = made_from(source, spectra, model)
    arrays: dict[str, NDArray[Any]] = {}
    if (reference := getattr(model, "reference", None)) is not None:
        notes["reference"] = reference.source
        arrays = {"reference": reference.counts, "reference_raman_shift": reference.raman_shift}
    return Origin(
        start, text, maker.made_by, maker.description, spectra.receipt, notes, spectra.written, arrays
    )


def in_order(flagged: Counter[str]) -> dict[str, int]:
    """Counts by flag in the order of the bits."""
    order = [str(flag) for flag in named(np.full(1, 255, np.uint8))]
    return {name: flagged[name] for name in order if name in flagged}
