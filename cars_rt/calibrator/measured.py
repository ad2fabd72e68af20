"""The mean of some spectra, from a file or from a driver that is running."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Kind
from cars_rt.calibration import Calibration, CalibrationError
from cars_rt.client import Client
from cars_rt.files.columns import PIXELS
from cars_rt.files.formats import MOST_LINE_BYTES, MOST_LINES, MOST_TEXT_BYTES, TEXT, any_axis, open_spectra
from cars_rt.files.spectra import Spectra, SpectraError, may_be_above_dark, said_of
from cars_rt.files.tables import parse
from cars_rt.files.units import CM1, NM
from cars_rt.physics.axis import AxisError, judged_raman_shift
from cars_rt.physics.darkness import LOOKED_AT, noise_of
from cars_rt.physics.fitness import FULL_OF_MEAN
from cars_rt.protocol import Facts
from cars_rt.source import Source
from cars_rt.storage import refuse_no_table
from cars_rt.trust.curve import ClientKeys

PIECE_BYTES = 8 * 2**20
PATIENCE_S = 60.0  # for the first spectrum of a stream


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """The mean of some spectra. counts: (p,) float64, dark not subtracted. axis: (p,) in `unit` (cm-1, nm, or
    empty where it is not said), None for pixel numbers. full_scale: as stated. largest: the count that its
    numbers can hold, by which it is judged here where nothing is stated, and which no calibration keeps.
    saturated: (p,), pixels at the one or the other."""

    counts: NDArray[np.float64]
    spectra: int
    where: str
    axis: NDArray[np.float64] | None = None
    unit: str = ""
    noise: float = 0.0  # of one pixel of one spectrum
    dark: NDArray[np.float64] | None = None
    exposure_s: float | None = None
    full_scale: float | None = None
    largest: float | None = None
    source: str = ""
    settings: Facts = field(default_factory=dict)
    time_ns: int = 0

    @property
    def saturates_at(self) -> float | None:
        return self.largest if self.full_scale is None else self.full_scale

    @property
    def saturated(self) -> NDArray[np.bool_]:
        if (full := self.saturates_at) is None:
            return np.zeros(len(self.counts), np.bool_)
        return np.asarray(self.counts >= FULL_OF_MEAN * full)

    @property
    def may_be_above_dark(self) -> bool:
        """Whether another program may have subtracted the dark: not of what comes from a driver."""
        return not is_address(self.where) and may_be_above_dark(self.exposure_s, self.source)

    @property
    def above_dark(self) -> NDArray[np.float64]:
        return self.counts if self.dark is None else self.counts - self.dark


def measured(
    where: str,
    most: int | None = None,
    security: ClientKeys | None = None,
    judge: Callable[[Measured], object] = lambda given: None,
) -> Measured:
    """The mean of the first `most` spectra (all of a file, 100 of a stream if not said) at an address
    such as tcp://127.0.0.1:5555, or in a file. judge: is given what a driver says before it is measured, and
    raises what is wrong with that. Raises SpectraError, StreamError or NoDataError."""
    if is_address(where):
        return _of_stream(where, 100 if most is None else most, security, judge)
    return _of_file(Path(where), most)


def is_address(where: str) -> bool:
    """Of a driver, rather than the name of a file."""
    return "://" in where


def _of_stream(
    address: str, most: int, security: ClientKeys | None, judge: Callable[[Measured], object]
) -> Measured:
    late = frozenset({Kind.JOINED_LATE})  # a mean loses nothing by it
    with Client(Source(address, "raw", security, expected=late), PATIENCE_S) as stream:
        for run in stream:
            total, count, start, noise = np.zeros(run.start.pixels), 0, run.start, 0.0
            said = start.instrument or {}
            judge(
                Measured(counts=total, spectra=0, where=address, source=start.source, settings=said,
                         exposure_s=start.exposure_s)
            )  # fmt: skip
            for frame in run:
                rows = frame.counts[: most - count]
                noise = noise if count else noise_of(rows[:LOOKED_AT])
                total += rows.sum(axis=0, dtype=np.float64)
                count += len(rows)
                if count >= most:
                    break
            if not count:
                continue
            axis = _judged(start.raman_shift)
            return Measured(
                counts=total / count,
                noise=noise,
                spectra=count,
                where=address,
                axis=axis,
                unit="" if axis is None else "cm-1",
                dark=None if start.dark is None else np.asarray(start.dark, np.float64),
                exposure_s=start.exposure_s,
                full_scale=start.full_scale,
                largest=start.saturates_at,
                source=start.source,
                settings=said,
                time_ns=time.time_ns(),
            )
    raise CalibrationError(f"{address}: no spectrum came")


def _of_file(path: Path, most: int | None) -> Measured:
    if path.suffix.lower() in TEXT and path.exists():
        return _of_text(path, most)
    try:
        with open_spectra(path) as spectra:
            return _mean(spectra, path, most, spectra.raman_shift)
    except SpectraError:
        with open_spectra(path, given=any_axis) as spectra:
            return _mean(spectra, path, most, None)


def _of_text(path: Path, most: int | None) -> Measured:
    with said_of(path):
        refuse_no_table(path, MOST_TEXT_BYTES, MOST_LINE_BYTES, MOST_LINES)
        table = parse(path.read_bytes())
        rows = table.counts[:most]
        if not np.isfinite(rows).all():
            raise SpectraError("holds counts that are not finite")
        axis = table.axis if table.unit == NM else None if table.unit == PIXELS else _judged(table.axis)
        largest = 65_535.0 if rows.max() <= 65_535 and np.array_equal(rows, np.round(rows)) else None
    return Measured(
        counts=rows.mean(axis=0),
        noise=noise_of(rows[:LOOKED_AT]),
        spectra=len(rows),
        where=str(path),
        axis=axis,
        unit="" if axis is None else table.unit or CM1,
        dark=table.dark,
        largest=largest,
        time_ns=path.stat().st_mtime_ns,
    )


def _mean(spectra: Spectra, path: Path, most: int | None, axis: NDArray[np.float64] | None) -> Measured:
    total, pixels = len(spectra.counts), spectra.counts.shape[1]
    count = total if most is None else min(most, total)
    # All of it becomes the property of the camera's pixels, in their own order.
    order = slice(None, None, -1 if spectra.turned else 1)
    step = max(PIECE_BYTES // (8 * pixels), 1)
    summed = np.zeros(pixels)
    for first in range(0, count, step):
        summed += spectra.counts[first : min(first + step, count)].sum(axis=0, dtype=np.float64)
    return Measured(
        counts=summed[order] / count,
        noise=noise_of(spectra.counts[: min(count, LOOKED_AT)]),
        spectra=count,
        where=str(path),
        axis=None if axis is None else axis[order],
        unit="" if axis is None else "cm-1",
        dark=None if spectra.dark is None else np.asarray(spectra.dark, np.float64)[order],
        exposure_s=spectra.exposure_s,
        full_scale=spectra.full_scale,
        largest=spectra.saturates_at,
        source=spectra.source or "",
        settings=spectra.instrument or {},
        time_ns=spectra.time_ns or path.stat().st_mtime_ns,
    )


def with_dark_of(calibration: Calibration, given: Measured) -> Measured:
    """The same with the dark that a calibration has for it, if it came without one; unless it may be above
    its dark already."""
    if given.dark is not None or given.may_be_above_dark:
        return given
    dark = calibration.dark(given.exposure_s, calibration.region, given.settings)
    return given if dark is None else replace(given, dark=np.asarray(dark, np.float64))


def doubts_of_dark(calibration: Calibration, given: Measured) -> Iterator[str]:
    """Sentences where `with_dark_of` takes none of the darks that there are, or one made otherwise."""
    if given.dark is None and given.may_be_above_dark and calibration.darks:
        yield (
            f"its dark is not subtracted from {given.where}: the exposure is not known of it, and the dark "
            "may be subtracted already; if it is not, give --exposure-ms, as for the dark"
        )
    elif given.dark is None:
        yield from calibration.doubts_of_dark(given.exposure_s, calibration.region, given.settings)


def _judged(axis: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The axis, or None for what is none, such as pixel numbers."""
    try:
        return judged_raman_shift(axis)
    except AxisError:
        return None
