"""Maps and spectra as a picture for a talk: units, a scale bar, colours that read as they are, gaps seen."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import patheffects, rc_context
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray

from cars_rt.physics.fitness import NAMES
from cars_rt.printable import drawable
from cars_rt.show.bands import Floats
from cars_rt.show.errors import ShowError
from cars_rt.show.shown import Shown, limits
from cars_rt.storage import replacing

FORMATS = (".png", ".svg", ".pdf")
MISSING = "#b9c2cc"  # of places without a spectrum: no colour of the maps
COLOURS = "viridis"  # perceptually uniform, also for the colour-blind
CHANNELS = ("#ff0000", "#00ff00", "#0000ff")
POINTS = ("#d62728", "#ff7f0e", "#17becf", "#e377c2", "#8c564b", "#7f7f7f", "#bcbd22", "#9467bd")
FLAG_COLOURS = ("#d62728", "#4d4d4d", "#ff7f0e", "#9467bd")
NICE = np.array([1, 2, 5])
LEAST_FLAGGED = 0.002  # of the spectra; fewer cannot be seen in a map, and the caption says them
LEAST_DPI, MOST_DPI = 10, 1200  # 15 by 7 inches have 0.6 GB of pixels then
ROOM = 7.5, 6.5  # inches for the maps


def draw(shown: Shown, path: Path, dpi: int = 150) -> None:
    """Write the picture; its format is that of the path's ending. Raises ShowError, OSError."""
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise ShowError(f"{path}: a picture ends in {', '.join(FORMATS)}")
    if not LEAST_DPI <= dpi <= MOST_DPI:
        raise ShowError(f"--dpi must be from {LEAST_DPI} to {MOST_DPI}, not {dpi}")
    if len(shown.points) > len(POINTS):
        raise ShowError(f"a picture has colours for {len(POINTS)} points (--at), not {len(shown.points)}")
    figure = compose(shown)
    with replacing(path) as file, rc_context({"svg.fonttype": "none"}):  # words stay words, to be edited
        figure.savefig(file, dpi=dpi, format=kind[1:])


def compose(shown: Shown) -> Figure:
    """The picture: maps at the left, spectra at the right, what the file is below."""
    rgb = shown.is_map and len(shown.maps) == 3
    flagged = shown.is_map and sum(shown.flagged.values()) >= LEAST_FLAGGED * shown.measured.size
    panels = (1 if rgb or not shown.is_map else len(shown.maps)) + flagged
    height, width = shown.measured.shape if shown.is_map else (3, 4)
    tall = min(max(_aspect(shown) * height / width, 0.3), 2.5)
    columns, size = _arranged(panels, tall)
    rows, left = -(-panels // columns), columns * (size + 0.9)
    figure = Figure(figsize=(left + 6.4, max(rows * (size * tall + 1.1) + 0.4, 5.0)))
    figure.set_layout_engine("constrained", h_pad=0.12, w_pad=0.06)
    halves: Any = figure.subfigures(1, 2, width_ratios=(left, 6.4))
    maps, spectra = halves
    axes = maps.subplots(rows, columns, squeeze=False).ravel()
    for each in axes[panels:]:
        each.set_axis_off()
    if rgb:
        _rgb(axes[0], shown)
    elif shown.is_map:
        for axis, band, image in zip(axes, shown.bands, shown.maps, strict=False):
            _map(axis, shown, drawable(band.label), image)
    else:
        _list(axes[0], shown)
    if flagged:
        _flags(axes[panels - 1], shown)
    _spectra(spectra, shown)
    figure.supxlabel(_caption(shown), fontsize=8, color="0.35", x=0.01, ha="left")
    return figure


def _arranged(panels: int, tall: float) -> tuple[int, float]:
    """In how many columns maps are largest, and their width in inches."""
    sizes = {}
    for columns in range(1, panels + 1):
        rows = -(-panels // columns)
        sizes[columns] = min(ROOM[0] / columns - 0.9, (ROOM[1] / rows - 0.8) / tall)
    columns = max(sizes, key=lambda each: round(sizes[each], 1))
    return columns, max(sizes[columns], 1.5)


def _map(axes: Any, shown: Shown, title: str, image: Floats) -> None:
    low, high = limits(image)
    drawn = axes.imshow(
        np.ma.masked_invalid(image),
        cmap=COLOURS,
        vmin=low,
        vmax=high,
        interpolation="nearest",
        aspect=_aspect(shown),
    )
    _dress(axes, shown, title)
    _legend(axes, shown, [])
    place = axes.inset_axes([1.02, 0, 0.045, 1])
    bar = axes.figure.colorbar(drawn, cax=place, extend=_extend(image, low, high))
    bar.set_label(_label(shown, shown.main), fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _rgb(axes: Any, shown: Shown) -> None:
    axes.imshow(composite(shown.maps, shown.measured), interpolation="nearest", aspect=_aspect(shown))
    _dress(axes, shown, f"{_label(shown, shown.main)} at three bands")
    handles = []
    for colour, band, image in zip(CHANNELS, shown.bands, shown.maps, strict=True):
        low, high = limits(image)
        handles.append(Patch(color=colour, label=f"{drawable(band.label)}: {low:.3g} to {high:.3g}"))
    _legend(axes, shown, handles)


def composite(maps: list[Floats], measured: NDArray[np.bool_]) -> Floats:
    """Red, green and blue (y, x, 3), each band from 0 to 1 of its own range; missing places in grey."""
    image = np.zeros((*measured.shape, 3))
    for channel, values in enumerate(maps):
        low, high = limits(values)
        image[..., channel] = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
    image[~measured] = [int(MISSING[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return image


def _extend(image: Floats, low: float, high: float) -> str:
    below, above = bool(np.nanmin(image, initial=low) < low), bool(np.nanmax(image, initial=high) > high)
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get((below, above), "both")


def _flags(axes: Any, shown: Shown) -> None:
    """Each spectrum in the colour of its first flag."""
    assert shown.flags is not None
    image = np.zeros(shown.flags.shape, int)
    for number, flag in reversed(list(enumerate(NAMES, 1))):
        image[shown.flags & flag > 0] = number
    image[~shown.measured] = len(NAMES) + 1
    colours = ListedColormap(["white", *FLAG_COLOURS, MISSING])
    axes.imshow(
        image, cmap=colours, vmin=-0.5, vmax=len(NAMES) + 1.5, interpolation="nearest", aspect=_aspect(shown)
    )
    _dress(axes, shown, "flags", points=False)
    counts = shown.flagged
    handles = [
        Patch(color=colour, label=f"{name} ({counts[name]})")
        for colour, name in zip(FLAG_COLOURS, NAMES.values(), strict=True)
        if name in counts
    ]
    _legend(axes, shown, handles)


def _legend(axes: Any, shown: Shown, handles: list[Patch]) -> None:
    """What colours mean, below a map; that of missing places, too."""
    if not shown.measured.all():
        handles = [*handles, Patch(color=MISSING, label="not measured")]
    if handles:
        columns = 2 if len(handles) > 3 else 1
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.03)}
        axes.legend(handles=handles, **place, frameon=False, fontsize=8.5, ncols=columns)


def _dress(axes: Any, shown: Shown, title: str, *, points: bool = True) -> None:
    """What all maps have: title, scale bar, points, and what the colour of missing places means."""
    axes.set_title(title, fontsize=10)
    axes.set_facecolor(MISSING)
    axes.set(xticks=[], yticks=[])
    if shown.step_um is None:
        axes.set_xlabel(f"{shown.measured.shape[1]} × {shown.measured.shape[0]} pixels", fontsize=8)
    else:
        scale_bar(axes, shown.measured.shape, shown.step_um)
    for colour, point in zip(POINTS, shown.points if points else (), strict=False):
        axes.plot(
            point.at[1], point.at[0], "o", markersize=7, markerfacecolor=colour, markeredgecolor="white",
            markeredgewidth=1.2,
        )  # fmt: skip


def scale_bar(axes: Any, shape: tuple[int, ...], step_um: tuple[float, float]) -> None:
    """A bar of about a quarter of the width of a map (rows, columns) whose points are so far apart."""
    length = nice(shape[1] * step_um[1] / 4)
    said = f"{length:g} µm" if length < 1000 else f"{length / 1000:g} mm"
    thick = shape[0] / 80
    bar = AnchoredSizeBar(
        axes.transData, length / step_um[1], said, "lower right", pad=0.4, sep=3, frameon=False,
        color="white", size_vertical=thick, fontproperties={"size": 9, "weight": "bold"},
    )  # fmt: skip
    dark = [patheffects.withStroke(linewidth=2.5, foreground="black")]
    bar.txt_label._text.set_path_effects(dark)
    bar.size_bar.get_children()[0].set(edgecolor="black", linewidth=0.8)
    axes.add_artist(bar)


def _list(axes: Any, shown: Shown) -> None:
    """Without a scan: each band against the number of the spectrum."""
    assert shown.numbers is not None
    numbers = shown.numbers
    gaps = np.flatnonzero(np.diff(numbers) > 1) + 1
    for number, (band, values) in enumerate(zip(shown.bands, shown.maps, strict=True)):
        colour = f"C{number}"
        x, y = np.insert(numbers.astype(float), gaps, np.nan), np.insert(values, gaps, np.nan)
        axes.plot(x, y, linewidth=0.8, color=colour, label=drawable(band.label))
        there = np.isfinite(np.concatenate([[np.nan], y, [np.nan]]))
        alone = there[1:-1] & ~there[:-2] & ~there[2:]  # a line of one point is none
        axes.plot(x[alone], y[alone], ".", markersize=3, color=colour)
    first, last = (int(numbers[0]), int(numbers[-1])) if len(numbers) else (0, 0)
    axes.set(xlabel="spectrum", ylabel=_label(shown, shown.main), xlim=(first, max(last, first + 1)))
    missing = [(numbers[begin] - 0.5, numbers[end - 1] + 0.5) for begin, end in _runs(~shown.measured)]
    missing += [(numbers[gap - 1] + 0.5, numbers[gap] - 0.5) for gap in gaps]
    spans = [(begin, end - begin) for begin, end in missing]
    axes.broken_barh(spans, (0, 1), transform=axes.get_xaxis_transform(), color=MISSING, linewidth=0)
    axes.legend(fontsize=8, frameon=False)
    axes.set_box_aspect(0.75)


def _runs(where: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where what is True in (n,) begins, and where it has ended."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _spectra(figure: Any, shown: Shown) -> None:
    """Counts above, results below, the bands shaded; points in the colours they have in the map."""
    names = [name for name in ("counts", "raman") if name in shown.means]
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=True):
        rgb = shown.is_map and len(shown.bands) == 3
        for number, band in enumerate(shown.bands):
            colour = CHANNELS[number] if rgb else "0.5" if shown.is_map else f"C{number}"
            axes.axvspan(band.low, band.high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(shown.raman_shift, shown.means[name], color="black", linewidth=1.2, label="mean", zorder=3)
        for colour, point in zip(POINTS, shown.points, strict=False):
            where = _where(point.at)
            missing = " (not measured)" if not np.isfinite(point.spectra[name]).any() else ""
            axes.plot(
                shown.raman_shift,
                point.spectra[name],
                color=colour,
                linewidth=0.8,
                label=f"{where}{missing}",
            )
        axes.set_ylabel(_label(shown, name), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0)
    panels[0].set_title("as measured" if names[0] == "counts" else "result", fontsize=10)
    if len(names) == 2:
        panels[1].set_title("result", fontsize=10)
    panels[-1].set_xlabel("Raman shift (cm⁻¹)", fontsize=9)
    panels[0].legend(fontsize=8, frameon=False, loc="best")


def _label(shown: Shown, name: str) -> str:
    """What counts or raman are, with subscripts, in lines that are shorter than an axis."""
    symbol = re.sub(r"χ(N?R)", r"$\\chi_\\mathrm{\1}$", shown.symbol(name))
    return re.sub(r"([,:]) ", r"\1\n", symbol)


def _where(at: tuple[int, ...]) -> str:
    return f"row {at[0]}, column {at[1]}" if len(at) == 2 else f"spectrum {at[0]}"


def nice(length: float) -> float:
    """The largest of 1, 2, 5, 10, ... that is not longer."""
    decade = 10.0 ** np.floor(np.log10(length))
    return float(decade * NICE[length / decade * (1 + 1e-9) >= NICE][-1])


def _aspect(shown: Shown) -> float:
    """How much taller than wide a pixel is."""
    return 1.0 if shown.step_um is None else shown.step_um[0] / shown.step_um[1]


def _caption(shown: Shown) -> str:
    said = [
        shown.file,
        *(shown.about[name] for name in ("sample", "source", "model") if name in shown.about),
    ]
    return "   ·   ".join([*map(drawable, said), shown.describe()])
