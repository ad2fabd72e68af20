"""Draw the README's picture: a measured spectrum before and after, lines of the literature beside it.

python docs/pictures.py toluene.csv docs/toluene.png
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cars_rt.engines import compose, load_model, open_engine
from cars_rt.spectra import read_spectra

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


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
