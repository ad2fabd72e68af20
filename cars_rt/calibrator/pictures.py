"""What was found, and what was not, as a picture. Needs matplotlib."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from cars_rt.calibration.lamp_fit import LampFit
from cars_rt.calibration.recognise import Recognised
from cars_rt.storage import replacing

Array = NDArray[np.float64]

NAMED = 24  # lines with their names


def draw_lamp(fit: LampFit, counts: Array, path: Path) -> None:
    """A lamp's spectrum with its lines, and the residuals. Raises ImportError, OSError."""
    figure, (above, below) = _figure(2)
    pixels = len(counts)
    wavelength = fit.wavelength(np.linspace(-1, 1, pixels))
    above.semilogy(wavelength, np.maximum(counts - np.percentile(counts, 10), 1), "k", lw=0.6)
    lines = fit.lamp.vacuum_nm[fit.line]
    above.vlines(
        lines[fit.used], 1, above.get_ylim()[1], "C0", lw=0.5, alpha=0.6, label="lines that are used"
    )
    rest = lines[~fit.used]
    above.vlines(rest, 1, above.get_ylim()[1], "C1", lw=0.5, ls=":", label="seen, and too close to another")
    order = np.argsort(-fit.peaks.height[fit.peak])[:NAMED]
    for row in order:
        above.annotate(
            fit.lamp.names[fit.line[row]], (lines[row], fit.peaks.height[fit.peak[row]]), (0, 3),
            textcoords="offset points", fontsize=7, rotation=90, ha="center", va="bottom",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3},
        )  # fmt: skip
    above.set(
        xlabel="wavelength in vacuum (nm)", ylabel="counts above background", xlim=sorted(wavelength[[0, -1]])
    )
    above.set_ylim(1, 100 * above.get_ylim()[1])  # room for names and the legend above the highest line
    above.set_title(
        f"{fit.lamp.name} lamp: {fit.used.sum()} lines used, residual {fit.residual:.3f} cm⁻¹ (rms)",
        fontsize=11,
    )
    above.legend(loc="upper right", fontsize=8)
    place = fit.peaks.place[fit.peak]
    _residuals(below, place, fit.residual_cm1, fit.used, pixels)
    _save(figure, path)


def draw_standard(found: Recognised, before: Array | None, path: Path) -> None:
    """A standard's retrieved spectrum with its lines, the residuals, and what was wrong with the axis before.

    Raises ImportError, OSError.
    """
    figure, axes = _figure(2 if before is None else 3)
    match, pixels = found.match, len(found.raman)
    u = np.linspace(-1, 1, pixels)
    shift, certain = match.axis(u), match.lines.certain[match.line]
    above = axes[0]
    above.plot(shift, found.raman, "k", lw=0.7)
    known = match.lines.position[match.line]
    top = found.raman.max()
    for value, sure, peak in zip(known, certain, match.peak, strict=True):
        above.axvline(value, color="C0" if sure else "C1", lw=0.6, ls="-" if sure else ":")
        height = found.peaks.height[peak]
        above.annotate(f"{value:.1f}", (value, min(height, top)), fontsize=7, rotation=90, ha="right")
    above.set(xlabel="raman shift (cm⁻¹), calibrated", ylabel="retrieved raman", xlim=(shift[0], shift[-1]))
    above.set_ylim(top=1.2 * top)  # room for the value at the highest line
    above.set_title(
        f"{match.standard.name}: {len(match.peak)} lines; blue: by ASTM E1840, orange: known less well",
        fontsize=11,
    )
    place = found.peaks.place[match.peak]
    here = match.axis(2 * place / (pixels - 1) - 1)
    _residuals(axes[1], place, here - known, match.used & certain, pixels, "by ASTM E1840 and used")
    if before is not None:
        own = before[::-1] if found.descending else before
        last = axes[2]
        last.plot(shift, own - shift, "C3", lw=1.2, label="axis before, less the calibrated one")
        line_own = np.interp(place, np.arange(pixels), own)
        last.plot(
            known[certain],
            (line_own - known)[certain],
            "C0o",
            ms=4,
            label="lines by the axis before, less E1840",
        )
        last.axhline(0, color="k", lw=0.5)
        last.set(xlabel="raman shift (cm⁻¹), calibrated", ylabel="error (cm⁻¹)", xlim=(shift[0], shift[-1]))
        inside = slice(int(place.min()), int(place.max()) + 1)
        worst = np.abs(own - shift)[inside].max()
        last.set_title(
            f"what was wrong with the axis before: up to {worst:.1f} cm⁻¹ between the lines", fontsize=11
        )
        last.legend(fontsize=8)
        last.grid(alpha=0.3)
    _save(figure, path)


def draw_unmatched(attempt: Any, path: Path) -> None:
    """The spectrum on its pixels with the lines that were found, and where those of the closest guess would
    be. Raises ImportError, OSError."""
    values, peaks, guess = attempt[:3]
    figure, (only,) = _figure(1)
    of_standards = isinstance(guess, list)  # best first
    if of_standards:
        guess = guess[0] if guess else None
    pixels = len(values)
    only.plot(np.arange(pixels), values, "k", lw=0.7)
    if len(peaks):
        tops = np.interp(peaks.place, np.arange(pixels), values)
        only.plot(peaks.place, tops, "C3v", ms=5, label=f"{len(peaks)} lines that stand out")
    if guess is not None:
        of_lamp = isinstance(guess, LampFit)
        curve: Polynomial = guess.wavelength if of_lamp else guess.axis
        lines = guess.lamp.vacuum_nm if of_lamp else guess.lines.position
        name = guess.lamp.name if of_lamp else guess.standard.name
        along = curve(np.linspace(-1, 1, pixels))
        way = 1 if along[0] < along[-1] else -1
        at = np.interp(lines, along[::way], np.arange(pixels)[::way], np.nan, np.nan)
        for number, place in enumerate(at[np.isfinite(at)]):
            only.axvline(
                place,
                color="C0",
                lw=0.5,
                alpha=0.6,
                label=f"lines of {name}, closest guess" if not number else None,
            )
    only.set(xlabel="pixel", ylabel="retrieved raman" if of_standards else "counts")
    only.set_title("not matched", fontsize=11)
    if only.get_legend_handles_labels()[0]:  # where nothing stands out there is nothing to explain
        only.legend(fontsize=8)
    _save(figure, path)


def _residuals(
    axes: Any, place: Array, residual: Array, used: NDArray[np.bool_], pixels: int, label: str = "used"
) -> None:
    axes.axhline(0, color="k", lw=0.5)
    axes.plot(place[used], residual[used], "C0o", ms=4, label=label)
    largest = float(np.abs(residual[used]).max()) if used.any() else 1.0
    limit = max(1.5 * largest, min(1.1 * float(np.abs(residual).max()), 5.0), 0.1)
    axes.plot(
        place[~used],
        np.clip(residual[~used], -limit, limit),
        "C1x",
        ms=4,
        label="not used, or known less well",
    )
    axes.set(xlabel="pixel", ylabel="residual (cm⁻¹)", xlim=(0, pixels - 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _figure(rows: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4 * rows), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(rows, 1))


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as file:
        figure.savefig(file, dpi=100, format="png")
