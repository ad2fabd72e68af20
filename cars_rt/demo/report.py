"""What the demo says at the end: totals, agreement with the truth, a picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.demo.display import BAND_CM1, BAND_NAME
from cars_rt.files.filters import load_filters
from cars_rt.files.written import read_rows
from cars_rt.storage import replacing

VISIBLE = 5.0  # strongest line over noise; below, there is little to agree with


@dataclass(frozen=True)
class Agreement:
    """Pearson correlation with the ground truth, per spectrum whose strongest line is visible."""

    median: float
    tenth_percentile: float
    spectra: int


def agreement(recording: Path, truth: Path) -> Agreement | None:
    """Compare a recording with the simulator's truth; None if they share no visible spectrum."""
    load_filters()
    with h5py.File(recording) as recorded, h5py.File(truth) as true:
        visible = np.flatnonzero(true["strongest_over_noise"][()] > VISIBLE)
        wanted = true["index"][()][visible]
        index = read_rows(recorded["raman"], "index")
        rows = np.searchsorted(index, wanted)
        there = rows < len(index)
        there[there] = index[rows[there]] == wanted[there]
        rows, visible = rows[there], visible[there]
        if not len(rows):
            return None
        correlation = np.concatenate(
            [
                _correlation(recorded["raman/raman"][rows[part]], true["raman"][visible[part]])
                for part in np.array_split(np.arange(len(rows)), max(len(rows) // 1024, 1))
            ]
        )
    return Agreement(float(np.median(correlation)), float(np.percentile(correlation, 10)), len(correlation))


def picture(recording: Path, truth: Path, target: Path) -> bool:
    """Draw the image at one band and one spectrum before and after; False if matplotlib is missing."""
    try:
        from matplotlib.colors import PowerNorm
        from matplotlib.figure import Figure

        from cars_rt.show.picture import scale_bar
    except ImportError:
        return False
    load_filters()
    with h5py.File(recording) as file, h5py.File(truth) as true:
        shift = file["raman/raman_shift"][()]
        raman, counts = file["raman/raman"], file["raw/counts"]
        image, step_um = _image(file, shift), file.attrs.get("step_um")
        row = _interesting(true, len(counts))
        before, after = counts[row], raman[row]
        truth_row = int(np.searchsorted(true["index"][()], row))
        expected = true["raman"][truth_row]
    figure = Figure(figsize=(13, 6), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 1.35))
    map_, top = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[0, 1])
    bottom = figure.add_subplot(grid[1, 1], sharex=top)
    scale = PowerNorm(
        0.5, vmin=0, vmax=float(np.nanpercentile(image, 99.5))
    )  # cells are fainter than solvents
    shown = map_.imshow(image, cmap="inferno", norm=scale)
    map_.set_title(f"raman at {BAND_NAME.replace('cm-1', 'cm⁻¹')}")  # as its axis, not as a terminal
    map_.set_xticks([])
    map_.set_yticks([])
    if step_um is not None:
        scale_bar(map_, image.shape, step_um)
    map_.plot(row % image.shape[1], row // image.shape[1], "c+", markersize=12)
    figure.colorbar(shown, ax=map_, shrink=0.8, label="Im χR / χNR")
    top.plot(shift, before, "0.35", linewidth=0.8)
    top.set_ylabel("camera counts")
    top.set_title("the spectrum at the cross: as measured, and without background")
    bottom.plot(shift, expected, "0.7", linewidth=2.5, label="truth")
    bottom.plot(shift, after, "C3", linewidth=0.9, label="CARS-RT")
    bottom.set_ylabel("raman = Im χR / χNR")
    bottom.set_xlabel("raman shift (cm⁻¹)")
    bottom.legend()
    with replacing(target, durable=False) as file:
        figure.savefig(file, dpi=110, format="png")
    return True


def _image(file: h5py.File, shift: NDArray[np.float64]) -> NDArray[np.float32]:
    low, high = np.searchsorted(shift, BAND_CM1)
    rows, columns = (int(size) for size in file.attrs["scan"])
    image = np.full(rows * columns, np.nan, np.float32)
    image[read_rows(file["raman"], "index")] = file["raman/raman"][:, low:high].mean(axis=1)
    return image.reshape(rows, columns)


def _interesting(true: h5py.File, recorded: int) -> int:
    """A spectrum with much of one substance and something of others."""
    index = true["index"][()]
    names = list(true.attrs["substances"])
    toluene = true["concentrations"][:, names.index("toluene")]
    candidates = np.where(index < recorded, toluene, -1)
    return int(index[int(np.argmax(candidates))])


def _correlation(found: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    found = found - found.mean(axis=1, keepdims=True, dtype=np.float64)
    expected = expected - expected.mean(axis=1, keepdims=True, dtype=np.float64)
    norm = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    result: NDArray[np.float64] = (found * expected).sum(axis=1) / np.maximum(norm, 1e-12)
    return result
