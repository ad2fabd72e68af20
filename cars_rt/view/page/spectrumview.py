"""The spectrum: what the camera saw and what came of it, on one axis of raman shift."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, count
from typing import Any

import numpy as np
from bokeh.models import (
    BoxAnnotation,
    BoxSelectTool,
    ColumnDataSource,
    DataRange1d,
    HoverTool,
    LabelSet,
    Legend,
    LegendItem,
    LinearAxis,
    Plot,
    Range1d,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from cars_rt.physics.quantity import quantity
from cars_rt.physics.substances import SUBSTANCES
from cars_rt.protocol import Band
from cars_rt.view.page.theme import PINNED, Theme, paint
from cars_rt.view.peaks import peaks
from cars_rt.view.scan import Spectrum

LOWEST_LOG = 1e-4  # of the highest point: below, a logarithm shows noise
STRONG = 0.08  # of a substance's strongest line; fainter ones are not marked
WIDE, TALL = 0.06, 0.04  # of a label, as shares of a plot on a small screen
EDGE = WIDE / 2
ROOM = 0.25  # of the range, half of it above the highest peak, whose label is cut by the frame otherwise
TOOLS = "pan,wheel_zoom,xbox_select,reset,save"
LINES = {each.name: each for each in SUBSTANCES}


class SpectrumView:
    """One browser's spectrum, twice: with a linear scale and with a logarithmic one, one of them visible."""

    def __init__(self, dragged: Callable[[float, float], None]) -> None:
        self.result = ColumnDataSource({"x": [], "y": [], "low": [], "high": []})
        self.raw = ColumnDataSource({"x": [], "y": []})
        self.pinned = ColumnDataSource({"xs": [], "ys": [], "colour": [], "name": []})
        self.tops = ColumnDataSource({"x": [], "y": [], "text": [], "align": []})
        self.marks = ColumnDataSource({"x": [], "bottom": [], "top": [], "colour": [], "name": []})
        self.labelled = False
        self._axis: NDArray[np.float64] | None = None
        self.shown: Spectrum | None = None
        self._substances: Sequence[str] = ()
        self._parts: list[dict[str, Any]] = []
        self.has_log = False
        self.linear = self._figure("spectrum", "linear", dragged)
        self.log = self._figure("spectrum_log", "log", dragged)
        self.log.visible = False
        self.plots: tuple[Any, Any] = self.linear, self.log

    def _figure(self, name: str, scale: Any, dragged: Callable[[float, float], None]) -> Any:
        plot = figure(
            name=name,
            sizing_mode="stretch_both",
            tools=TOOLS,
            active_drag="xbox_select",
            y_axis_type=scale,
            active_scroll="wheel_zoom",
            toolbar_location="above",
            toolbar_sticky=False,  # titles are long
            x_range=DataRange1d(range_padding=0.0),
            min_border=8,
            x_axis_label="raman shift (cm⁻¹)",
            y_axis_label=quantity(None).symbol,
        )
        plot.select(BoxSelectTool)[0].persistent = False
        plot.extra_y_ranges = {"counts": DataRange1d()}
        raw = plot.line("x", "y", source=self.raw, line_width=1.2, y_range_name="counts")
        shade = plot.varea("x", "low", "high", source=self.result, fill_alpha=0.22)
        pinned = plot.multi_line("xs", "ys", source=self.pinned, line_color="colour", line_width=1.2)
        line = plot.line("x", "y", source=self.result, line_width=1.6)
        plot.extra_y_ranges["counts"].renderers = [raw]
        plot.y_range = DataRange1d(renderers=[line, shade, pinned] if scale == "linear" else [line, pinned])
        plot.x_range.renderers = [line]
        plot.add_layout(LinearAxis(y_range_name="counts", axis_label="camera counts"), "right")
        plot.extra_y_ranges["marks"] = Range1d(0, 1)
        marks = plot.segment(
            "x",
            "bottom",
            "x",
            "top",
            source=self.marks,
            line_color="colour",
            line_width=1.5,
            y_range_name="marks",
        )
        tops = LabelSet(
            x="x",
            y="y",
            text="text",
            source=self.tops,
            y_offset=4,
            text_align="align",
            text_font_size="13px",
        )
        plot.add_layout(tops)
        band = BoxAnnotation(fill_alpha=0.14, line_alpha=0.5, visible=False, propagate_hover=True)
        other = BoxAnnotation(fill_alpha=0.10, line_alpha=0.5, line_dash="dashed", visible=False)
        plot.add_layout(band)
        plot.add_layout(other)
        counted = LegendItem(label="camera counts", renderers=[raw])
        legend = Legend(
            items=[
                LegendItem(label="result", renderers=[line]),
                counted,
                LegendItem(label={"field": "name"}, renderers=[pinned]),
                LegendItem(label={"field": "name"}, renderers=[marks]),
            ],
            orientation="horizontal",
            ncols=3,  # of long names more would lie beyond the plot
            location="top_left",
            border_line_color=None,
            padding=0,
            margin=0,
            spacing=8,
            label_text_font_size="13px",
        )
        plot.add_layout(legend, "above")
        plot.add_tools(
            HoverTool(
                tooltips=[("cm⁻¹", "@x{0.0}"), ("result", "@y{0.0000}")], renderers=[line], mode="vline"
            )
        )
        self._parts.append(
            {
                "raw": raw,
                "shade": shade,
                "line": line,
                "tops": tops,
                "band": band,
                "other": other,
                "legend": legend,
                "counted": counted,
            }
        )
        plot.on_event("selectiongeometry", lambda event: _drag(event, dragged))
        return plot

    def show(self, axis: NDArray[np.float64], spectrum: Spectrum) -> None:
        """Draw a spectrum on its axis (p,)."""
        if self._axis is None or not np.array_equal(axis, self._axis):
            self._axis = axis
            self.pinned.data = {"xs": [], "ys": [], "colour": [], "name": []}
            self.mark_substances(self._substances)
        if spectrum is self.shown:
            return
        self.shown = spectrum
        raman, x = spectrum.raman, axis.astype(np.float32)
        spread = spectrum.deviation if spectrum.deviation is not None else np.zeros_like(raman)
        self.result.data = {"x": x, "y": self._loggable(raman), "low": raman - spread, "high": raman + spread}
        counts = spectrum.counts
        self.raw.data = {"x": x, "y": counts} if counts is not None else {"x": x[:0], "y": x[:0]}
        for parts in self._parts:
            parts["counted"].visible = counts is not None
        self.label()
        for plot in self.plots:
            plot.title.text = spectrum.title

    def of(self, model: Mapping[str, str] | None) -> None:
        """What results are from now on, by the model of their run's start."""
        for plot in self.plots:
            plot.left[0].axis_label = quantity((model or {}).get("target")).symbol

    def clear(self) -> None:
        """Nothing is shown: what was there is of an earlier run. What was pinned stays."""
        self.shown = None
        self.result.data = {name: [] for name in self.result.data}
        self.raw.data = {name: [] for name in self.raw.data}
        self.label()
        for plot in self.plots:
            plot.title.text = ""

    def _loggable(self, raman: NDArray[np.float32]) -> NDArray[np.float32]:
        """The values as they are; with a logarithmic scale, without those that are not above zero."""
        if not self.has_log or not np.isfinite(raman).any():
            return raman
        floor = np.nanmax(raman) * LOWEST_LOG
        return np.where(raman > floor, raman, np.float32(np.nan))

    def label(self) -> None:
        """Name the peaks, if that is wished."""
        for plot in self.plots:
            plot.y_range.range_padding = ROOM if self.labelled else 0.1
        shown, axis = self.shown, self._axis
        found = peaks(shown.raman) if self.labelled and shown is not None else np.zeros(0, np.intp)
        if shown is None or axis is None or not len(found):
            if len(self.tops.data["x"]):
                self.tops.data = {"x": [], "y": [], "text": [], "align": []}
            return
        place, height = _shares(axis)[found], _shares(shown.raman)[found]
        apart = legible(place, height)
        found, place = found[apart], place[apart]
        self.tops.data = {
            "x": axis[found],
            "y": shown.raman[found],
            "text": [f"{each:.0f}" for each in axis[found]],
            "align": ["left" if at < EDGE else "right" if at > 1 - EDGE else "center" for at in place],
        }

    def peaks(self) -> list[float]:
        """Where the peaks are that have labels, cm-1."""
        return [float(each) for each in self.tops.data["x"]]

    def pin(self) -> None:
        """Keep what is shown, to compare."""
        if self.shown is None or self._axis is None:
            return
        old = {name: list(values)[-(len(PINNED) - 1) :] for name, values in self.pinned.data.items()}
        taken = set(old["colour"])
        colour = next(each for each in PINNED if each not in taken)
        name = self.shown.place or self.shown.title
        many = (f"{name} ({number})" for number in count(2))  # such as of the same pixel in several runs
        name = next(each for each in chain([name], many) if each not in old["name"])
        new = {"xs": self._axis, "ys": self.shown.raman, "colour": colour, "name": name}
        self.pinned.data = {name: [*old[name], new[name]] for name in old}

    def unpin(self) -> None:
        """Forget what was kept."""
        self.pinned.data = {"xs": [], "ys": [], "colour": [], "name": []}

    def mark_bands(self, band: Band, other: Band | None) -> None:
        """Show which part of the axis the map is made of."""
        for parts in self._parts:
            parts["band"].update(left=band.low, right=band.high, visible=True)
            if other is None:
                parts["other"].visible = False
            else:
                parts["other"].update(left=other.low, right=other.high, visible=True)

    def mark_substances(self, names: Sequence[str]) -> None:
        """Show lines of these substances, keys of LINES."""
        self._substances = names
        marks: dict[str, list[Any]] = {name: [] for name in self.marks.data}
        low, high = (-np.inf, np.inf) if self._axis is None else (self._axis.min(), self._axis.max())
        for number, name in enumerate(self._substances):
            substance, strongest = LINES[name], max(LINES[name].strength)
            for position, strength in zip(substance.position, substance.strength, strict=True):
                if low <= position <= high and strength >= STRONG * strongest:
                    marks["x"].append(position)
                    marks["bottom"].append(0.0)
                    marks["top"].append(0.05 + 0.2 * strength / strongest)
                    marks["colour"].append(PINNED[number % len(PINNED)])
                    marks["name"].append(name)
        self.marks.data = marks

    def set_log(self, on: bool) -> None:
        """A logarithmic scale, or a linear one."""
        self.has_log = on
        self.linear.visible, self.log.visible = not on, on
        if self.shown is not None and self._axis is not None:
            shown, self.shown = self.shown, None
            self.show(self._axis, shown)

    def paint(self, theme: Theme) -> None:
        """Another theme."""
        for plot, parts in zip(self.plots, self._parts, strict=True):
            _paint(plot, parts, theme)


def legible(place: NDArray[np.float64], height: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which labels (n,) at these shares of a plot's sides are written: those that cover no higher one."""
    kept = np.zeros(len(place), bool)
    for each in np.argsort(height)[::-1]:
        near = (np.abs(place - place[each]) < WIDE) & (np.abs(height - height[each]) < TALL)
        kept[each] = not (near & kept).any()
    return kept


def _shares(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Values from lowest to highest as numbers from 0 to 1."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return (np.asarray(values, np.float64) - low) / ((high - low) or 1.0)


def _paint(plot: Plot, parts: dict[str, Any], theme: Theme) -> None:
    paint(plot, theme)
    parts["raw"].glyph.line_color = theme.raw
    parts["line"].glyph.line_color = theme.result
    parts["shade"].glyph.fill_color = theme.shade
    parts["tops"].text_color = theme.ink
    parts["legend"].update(label_text_color=theme.ink, background_fill_color=theme.paper)
    for name in ("band", "other"):
        parts[name].update(fill_color=theme.mark, line_color=theme.mark)


def _drag(event: Any, dragged: Callable[[float, float], None]) -> None:
    geometry = event.geometry
    if event.final and "x0" in geometry and "x1" in geometry:
        dragged(geometry["x0"], geometry["x1"])
