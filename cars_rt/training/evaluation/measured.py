"""Models on measured spectra, through the deployment graph as the daemon uses it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines import REFERENCE, EngineError, Model, ModelError, compose, open_engine
from cars_rt.engines.graph import RAMAN
from cars_rt.files.formats import FORMATS, read_spectra
from cars_rt.files.spectra import SpectraError
from cars_rt.physics.substances import TOLUENE
from cars_rt.printable import drawable
from cars_rt.protocol import DEVIATION
from cars_rt.training.evaluation.metrics import TOLERANCE, peaks
from cars_rt.training.evaluation.pictures import save
from cars_rt.training.evaluation.report import Table

INSTRUMENT = (2300.0, 2500.0)  # cm-1, where optics and air (N2 at 2331) have structure of their own
SILENT = (1900.0, 2250.0)  # cm-1, where hardly any molecule has a line
CH = (2800.0, 3100.0)  # cm-1, where nearly all have their strongest


@dataclass(frozen=True)
class Expected:
    """What is known of a substance; cm-1."""

    lines: tuple[float, ...]  # that should be found
    tolerance: float
    every: tuple[float, ...] | None  # line it has; a peak elsewhere is false. None: not all are known


#: By the beginning of a file's name. Toluene: the lines of the Raman shift standard ASTM E1840.
EXPECTED = {
    "toluene": Expected((521.7, 786.5, 1003.6, 1030.6, 1211.4, 1605.1, 3057.1), TOLERANCE, TOLUENE.position),
    "hepg2": Expected((2850.0, 2930.0), 10.0, None),  # CH2 and CH3 stretch: bands, not lines
}


@dataclass(frozen=True, eq=False)
class Retrieved:
    """One measured spectrum and what a model made of it."""

    file: str  # its name with the ending: a folder may hold one spectrum in several formats
    model: str
    raman_shift: NDArray[np.float64] = field(repr=False)  # (p,), cm-1, ascending
    counts: NDArray[np.float32] = field(repr=False)  # (p,)
    raman: NDArray[np.float32] = field(repr=False)  # (p,)
    deviation: NDArray[np.float32] | None = field(repr=False)  # (p,), of a model that gives it
    peaks: list[float]  # cm-1
    lines: dict[float, float | None]  # expected line to the nearest peak within the tolerance
    false: list[float] | None  # peaks outside INSTRUMENT that the substance has no line for
    silent: float | None  # largest |raman| in SILENT over the largest in CH; None where the axis ends before

    def as_json(self) -> dict[str, Any]:
        """All but the spectra, for programs."""
        names = ("file", "model", "peaks", "false", "silent")
        return {name: getattr(self, name) for name in names} | {
            "lines": {f"{line:g}": peak for line, peak in self.lines.items()}
        }


def spectra_in(place: Path) -> list[Path]:
    """A file itself, or the files of spectra in a folder by name. Raises SpectraError if there are none."""
    if not place.is_dir():
        return [place]
    files = sorted(path for path in place.iterdir() if path.suffix.lower() in FORMATS)
    if not files:
        raise SpectraError(f"the folder {place} holds no file that ends in one of {', '.join(FORMATS)}")
    return files


def retrieve_measured(
    models: Mapping[str, Model],
    files: Sequence[Path],
    left_out: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Retrieved]:
    """The first spectrum of every file through every model, by the names that they have in the results.

    left_out is told, in a sentence, of a model that cannot take a file's axis, cannot be run (it is not tried
    on later files) or has no finite result of its spectrum, and of one of several files that cannot be read.
    Raises SpectraError if the only one cannot be read."""
    result: list[Retrieved] = []
    fit = dict(models)
    for number, path in enumerate(files):
        try:
            spectra = read_spectra(path)
        except SpectraError as error:
            if len(files) == 1:
                raise
            left_out(str(error))
            continue
        for name, model in list(fit.items()):
            try:
                graph = compose(model, spectra.raman_shift)
            except ModelError as error:
                left_out(f"{path.name}: {error}")
                continue
            counts = spectra.counts[:1].astype(np.float32)
            try:
                with open_engine(REFERENCE, graph, 1) as engine:
                    if spectra.dark is not None:
                        engine.set_dark(spectra.dark)
                    found = {output: values[0] for output, values in engine.retrieve(counts).items()}
            except EngineError as error:
                left_out(f"{path.name}: {name} is left out from here on: {error}")
                del fit[name]
                continue
            if not all(np.isfinite(values).all() for values in found.values()):
                left_out(f"{path.name}: the result of {name} is not finite")
                continue
            given = spectra.raman_shift, counts[0], found[RAMAN], found.get(DEVIATION)
            result.append(judged(path.name, name, *given))
        progress(number + 1, len(files))
    return result


def judged(
    file: str,
    model: str,
    raman_shift: NDArray[np.float64],
    counts: NDArray[np.float32],
    raman: NDArray[np.float32],
    deviation: NDArray[np.float32] | None = None,
) -> Retrieved:
    """Compare one result with what is known of the substance that the file is named after; all (p,)."""
    if raman_shift[0] > raman_shift[-1]:
        raman_shift, counts, raman = raman_shift[::-1], counts[::-1], raman[::-1]
        deviation = None if deviation is None else deviation[::-1]
    found = [round(float(peak), 1) for peak in peaks(raman.astype(np.float64), raman_shift)]
    expected = next((known for name, known in EXPECTED.items() if file.lower().startswith(name)), None)
    lines: dict[float, float | None] = {}
    false = None
    if expected is not None:
        lines = {line: _nearest(found, line, expected.tolerance) for line in expected.lines}
    if expected is not None and expected.every is not None:
        elsewhere = [peak for peak in found if not INSTRUMENT[0] <= peak <= INSTRUMENT[1]]
        false = [peak for peak in elsewhere if _nearest(expected.every, peak, expected.tolerance) is None]
    silent, stretch = (raman[(raman_shift >= low) & (raman_shift <= high)] for low, high in (SILENT, CH))
    level = None
    if len(silent) and len(stretch) and stretch.max() > 0:
        level = round(float(np.abs(silent).max() / stretch.max()), 4)
    return Retrieved(file, model, raman_shift, counts, raman, deviation, found, lines, false, level)


def _nearest(places: Sequence[float], to: float, tolerance: float) -> float | None:
    best = min(places, key=lambda place: abs(place - to), default=math.inf)
    return best if abs(best - to) <= tolerance else None


def table(results: Sequence[Retrieved]) -> Table:
    """One row for each spectrum and model."""
    rows = []
    for each in results:
        found = sum(peak is not None for peak in each.lines.values())
        missed = ", ".join(f"{line:g}" for line, peak in each.lines.items() if peak is None)
        false = "" if each.false is None else f"{len(each.false)}"
        rows.append([
            each.file, each.model, f"{found} of {len(each.lines)}" if each.lines else "", missed,
            false, ", ".join(f"{peak:g}" for peak in each.false or []),
            "" if each.silent is None else f"{each.silent:.1%}", f"{len(each.peaks)}",
        ])  # fmt: skip
    columns = ["spectrum", "model", "lines found", "missed", "false peaks", "at"]
    return Table("Measured spectra", [*columns, "silent region, of the CH peak", "peaks in all"], rows)


def draw_measured(results: Sequence[Retrieved], path: Path) -> None:
    """Write a PNG with a row for each spectrum: as measured, and all models below and above the silent
    region, each on its own scale, with its deviation as a band. Lines that should be found are
    ticks, red where the first model missed them. Raises OSError if the file cannot be written."""
    from matplotlib.figure import Figure

    files = list(dict.fromkeys(each.file for each in results))
    names = list(dict.fromkeys(each.model for each in results))
    figure = Figure(figsize=(16, 0.6 + 2.7 * len(files)), layout="constrained")
    grid = figure.subplots(len(files), 3, squeeze=False, width_ratios=[1, 1.7, 1.3])
    for (left, *right), file in zip(grid, files, strict=True):
        of_file = [each for each in results if each.file == file]
        shift = of_file[0].raman_shift
        left.plot(shift, of_file[0].counts, "0.35", linewidth=0.8)
        left.set(title=drawable(file), ylabel="as measured", xlabel="raman shift (cm⁻¹)")
        for axes, inside in zip(right, (shift < SILENT[0], shift >= SILENT[0]), strict=True):
            if inside.any():
                _draw_part(axes, of_file, inside, names)
            else:
                axes.set_axis_off()
    handles = {label: line for row in grid for line, label in zip(*row[1].get_legend_handles_labels())}  # noqa: B905
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(names))
    save(figure, path)


def _draw_part(axes: Any, results: Sequence[Retrieved], inside: NDArray[np.bool_], names: list[str]) -> None:
    first = results[0]
    shift = first.raman_shift[inside]
    for each in results:
        colour, raman = f"C{names.index(each.model)}", each.raman[inside]
        axes.plot(shift, raman, colour, linewidth=1, label=drawable(each.model))
        if each.deviation is not None:
            low, high = (raman + sign * each.deviation[inside] for sign in (-1, 1))
            axes.fill_between(shift, low, high, color=colour, alpha=0.2, linewidth=0)
    highest = float(np.median([each.raman[inside].max() for each in results]))
    for line, peak in first.lines.items():
        if shift[0] <= line <= shift[-1]:
            colour = "0.2" if peak is not None else "C3"
            axes.plot([line, line], [1.05 * highest, 1.13 * highest], colour, linewidth=1)
            at = {"ha": "center", "va": "bottom", "rotation": 90, "fontsize": 8, "color": colour}
            axes.text(line, 1.15 * highest, f"{line:g}", **at)
    for region, text in ((SILENT, "silent"), (INSTRUMENT, "instrument, air")):
        if shift[0] <= region[1] and region[0] <= shift[-1]:
            axes.axvspan(*region, color="0.94", zorder=0)
            axes.text(sum(region) / 2, 0.9 * highest, text, ha="center", fontsize=8, color="0.4")
    axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    axes.set(xlim=(shift[0], shift[-1]), ylim=(-0.1 * highest, 1.6 * highest))
    axes.set(ylabel="raman", xlabel="raman shift (cm⁻¹)")
