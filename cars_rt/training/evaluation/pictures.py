"""Evaluations as a picture: distributions, reliability, and spectra with what became of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cars_rt.printable import drawable
from cars_rt.storage import replacing
from cars_rt.training.evaluation.comparison import Evaluation
from cars_rt.training.evaluation.metrics import DECADES, Floats

SHOWN = 4  # typical spectra, and worst ones
GOOD = (0.60, 0.76)  # of the points within their deviation
WORST_R2 = -1.0  # drawn at the edge below it
AXIS = {"chi3": "Im χR, scaled", "ratio": "raman = Im χR / χNR"}


def draw(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Write a PNG of models on one protocol: how they are distributed, and single spectra.

    Typical spectra are those nearest to the median R2 of the first model, the worst are its worst; the
    other models are drawn into the same. Raises OSError if the file cannot be written."""
    figure = Figure(figsize=(15, 14), layout="constrained")
    rows: Any = figure.subfigures(3, 1, height_ratios=[1, 1.3, 1.3])
    first = evaluations[0]
    count, seed = first.accuracy["spectra"], first.seed
    figure.suptitle(f"{first.protocol}: {count:,} spectra never seen (seed {seed})", fontsize=14)
    left, middle, right = rows[0].subplots(1, 3)
    _distribution(left, evaluations)
    _errors(middle, evaluations)
    _reliability(right, evaluations)
    seen = np.flatnonzero(first.scores.visible)
    order = seen[np.argsort(first.scores.r2[seen])]
    centre = max(0, len(order) // 2 - SHOWN // 2)
    _examples(rows[1], evaluations, order[centre : centre + SHOWN], "Typical spectra (at the median R2)")
    _examples(rows[2], evaluations, order[:SHOWN], "The worst spectra")
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """As PNG, beside the target and renamed when complete. Raises OSError."""
    with replacing(path) as file:
        figure.savefig(file, dpi=100, format="png")


def _distribution(axes: Any, evaluations: Sequence[Evaluation]) -> None:
    """The share of spectra above each R2, on an axis that opens up towards 1."""
    for number, each in enumerate(evaluations):
        lost = 1 - np.maximum(np.sort(each.scores.r2[each.scores.visible]), WORST_R2)
        share = np.arange(len(lost), 0, -1) / len(lost)
        median = each.accuracy["median_r2"]
        of_all = "none is visible" if median is None else f"median {median:.4f}"
        label = f"{drawable(each.model)}: {of_all}"
        axes.plot(np.maximum(lost, 1e-5), share, f"C{number}", label=label)
    axes.set(xscale="log", ylim=(0, 1), xlabel="R2", ylabel="share of spectra at least as good")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1 - value:.6g}"))
    axes.invert_xaxis()
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize=9)
    axes.set_title("R2 of single spectra")


def _errors(axes: Any, evaluations: Sequence[Evaluation]) -> None:
    everything = np.concatenate([np.log10(each.scores.square + 1e-12) for each in evaluations])
    low, high = np.quantile(everything, [0.001, 1])
    bins = np.logspace(float(low), float(high), 50)
    for number, each in enumerate(evaluations):
        mean = each.accuracy["mean_square_error"]
        axes.hist(each.scores.square, bins, histtype="stepfilled", color=f"C{number}", alpha=0.35)
        axes.axvline(mean, color=f"C{number}", label=f"{drawable(each.model)}: mean {mean:.2e}")
    axes.set(xscale="log", xlabel="mean square error", ylabel="spectra", title="Error of single spectra")
    axes.legend(loc="upper left", fontsize=9)
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # room for the legend


def _reliability(axes: Any, evaluations: Sequence[Evaluation]) -> None:
    """The share of points within their deviation, by decade of the reported signal."""
    axes.axhspan(*(100 * share for share in GOOD), color="0.9")
    axes.axhline(68.3, color="0.5", linewidth=0.8)
    giving = [each for each in evaluations if "within_deviation_by_reported" in each.accuracy]
    for number, each in enumerate(evaluations):
        if each in giving:
            shares = each.accuracy["within_deviation_by_reported"]
            percent = [100 * shares.get(name, np.nan) for name in DECADES]
            overall = f"{drawable(each.model)}: {each.accuracy['within_deviation']:.1%} of all"
            axes.plot(range(len(DECADES)), percent, f"C{number}o-", label=overall)
    axes.set_xticks(range(len(DECADES)), [name.replace(" ", "\n", 1) for name in DECADES], fontsize=9)
    axes.set(
        xlim=(-0.3, len(DECADES) - 0.7),
        ylim=(0, 100),
        xlabel="reported signal",
        ylabel="points within their deviation (%)",
    )
    axes.set_title("Reliability of the deviation (grey: 60 to 76 %)")
    if giving:
        axes.legend(loc="lower left", fontsize=9)
    else:
        axes.text(2, 40, "none of these models gives one", ha="center")


def _examples(figure: Any, evaluations: Sequence[Evaluation], places: Any, title: str) -> None:
    figure.suptitle(title)
    above, below = figure.subplots(2, SHOWN, sharex="col", height_ratios=[3, 1], squeeze=False)
    for place, top, bottom in zip(places, above, below, strict=False):
        one = evaluations[0].scores.samples[place]
        found = [each.scores.samples[place] for each in evaluations]
        highest = float(max(one.truth.max(), *(each.predicted.max() for each in found)))
        top.plot(one.shift, _strip(one.spectrum, highest), "0.6", linewidth=0.7, label="input, any scale")
        top.plot(one.shift, one.truth, "k", linewidth=1.8, label="truth")
        for number, (each, sample) in enumerate(zip(evaluations, found, strict=True)):
            top.plot(sample.shift, sample.predicted, f"C{number}", linewidth=1, label=drawable(each.model))
            bottom.plot(sample.shift, sample.predicted - sample.truth, f"C{number}", linewidth=0.8)
            if sample.deviation is not None:
                band = {"color": f"C{number}", "alpha": 0.25, "linewidth": 0, "label": "± deviation"}
                bottom.fill_between(sample.shift, -sample.deviation, sample.deviation, **band)
        top.set_title(f"R2 {', '.join(f'{each.scores.r2[place]:.4f}' for each in evaluations)}", fontsize=10)
        top.set_ylim(-0.62 * highest, 1.1 * highest)
        top.set_yticks([tick for tick in top.get_yticks() if 0 <= tick <= 1.1 * highest])
        bottom.set_xlabel("raman shift (cm⁻¹)")
        for axes in (top, bottom):
            axes.axhline(0, color="0.7", linewidth=0.6, zorder=0)
    above[0].set_ylabel(AXIS[evaluations[0].target])
    below[0].set_ylabel("error")
    handles, labels = (
        mine + others
        for mine, others in zip(
            above[0].get_legend_handles_labels(), below[0].get_legend_handles_labels(), strict=True
        )
    )
    figure.legend(handles, labels, loc="outside lower center", ncols=8, fontsize=9)


def _strip(spectrum: Any, highest: float) -> Floats:
    """A spectrum moved into the strip under the result."""
    low, span = float(spectrum.min()), max(float(np.ptp(spectrum)), 1e-12)
    return np.asarray(highest * (-0.58 + 0.42 * (spectrum - low) / span))
