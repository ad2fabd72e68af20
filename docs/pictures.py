"""Draw the pictures of the documentation from measured spectra.

README, before and after, with lines of the literature: python docs/pictures.py toluene.csv docs/toluene.png
docs/retrieval.md: python docs/pictures.py toluene.csv amdc.txt sucrose.txt docs/retrieval.png
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cars_rt.engines import ModelError, compose, load_model, open_engine
from cars_rt.files.formats import read_spectra
from cars_rt.files.offline import process

# Toluene in the Raman shift standard ASTM E1840, cm-1, and the CH3 stretch.
LINES = (521.7, 786.5, 1003.6, 1030.6, 1211.4, 1605.1, 2920.0, 3057.1)


def draw(source: Path, target: Path) -> None:
    """Process one measured toluene spectrum and draw it."""
    spectra = read_spectra(source)
    graph = compose(load_model(), spectra.raman_shift)
    with open_engine("auto", graph, 1) as engine:
        raman = engine.run(spectra.counts[:1])[0]
    shift = spectra.raman_shift
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(shift, spectra.counts[0], "0.35", linewidth=0.9)
    top.set_ylabel("camera counts")
    top.set_title("Neat toluene, 1 ms on a 1340-pixel camera: as measured")
    bottom.plot(shift, raman, "C3", linewidth=1.1)
    for line in LINES:
        near = np.abs(shift - line) < 6
        height = raman[near].max()
        bottom.annotate(
            f"{line:g}", (line, height), (0, 12), textcoords="offset points", ha="center", fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "0.6"},
        )  # fmt: skip
    bottom.set_ylim(-0.05 * raman.max(), 1.18 * raman.max())
    bottom.set_ylabel("raman = Im χR / χNR")
    bottom.set_xlabel("raman shift (cm⁻¹); numbers: Raman lines of toluene (ASTM E1840)")
    bottom.set_title("The same spectrum out of CARS-RT")
    figure.savefig(target, dpi=100)


def draw_retrieval(sources: list[Path], target: Path) -> None:
    """Counts of the first file and ratio spectra of the others, by a network and by classical retrieval."""
    figure = Figure(figsize=(11, 3 * len(sources)), layout="constrained")
    rows = np.atleast_1d(figure.subplots(len(sources), 1))
    for axes, source in zip(rows, sources, strict=True):
        shift = read_spectra(source).raman_shift
        ratio = source != sources[0]
        with tempfile.TemporaryDirectory() as folder:
            ones, result = Path(folder) / "ones.npz", Path(folder) / "result.npz"
            np.savez(ones, raman_shift=shift, spectra=np.ones(len(shift)))
            for model, colour in (("cnn", "0.6"), ("mem", "C0"), ("kk", "C3")):
                reference = ones if ratio and model != "cnn" else None
                try:
                    process(source, result, model=model, reference=reference)
                except ModelError as error:
                    print(f"{source}: {error}")
                    continue
                with np.load(result) as file:
                    axes.plot(shift, file["raman"][0], colour, linewidth=1.1, label=model)
        axes.axhline(0, color="0.8", linewidth=0.6)
        axes.set_title(source.stem + (", a ratio: the reference is 1" if ratio else ", counts, no reference"))
        axes.set_ylabel("Im χR / χNR")
        axes.legend()
    rows[-1].set_xlabel("raman shift (cm⁻¹)")
    figure.savefig(target, dpi=90)


if __name__ == "__main__":
    *files, picture = map(Path, sys.argv[1:])
    if len(files) == 1:
        draw(files[0], picture)
    else:
        draw_retrieval(files, picture)
