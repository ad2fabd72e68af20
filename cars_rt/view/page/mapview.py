"""The map: a picture that grows as the scan does, with colours made in the browser."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CustomJSTickFormatter,
    DataRange1d,
    HoverTool,
    MetricLength,
    ScaleBar,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from cars_rt.view.page.image import Image, Ranges, new_mapper
from cars_rt.view.page.limits import Limits
from cars_rt.view.page.theme import Theme, paint
from cars_rt.view.picture import Picture, Window, alike, limits, rgba
from cars_rt.view.quantity import Composite, Quantity
from cars_rt.view.scan import Scan

LIMITS_S = 0.5  # between two looks at the percentiles
CLOSE = 0.02  # limits that differ by less of their range stay
VALUE = ("value", "@image{0.0000}")
# Around the plot; with its axis at the left; with the colour bar: it is not laid out anew for longer labels.
BORDER, AXIS, BAR = 8, 72, 94
# Labels of the colour bar: as many digits as tell one tick from the next, and some 8 characters at most.
LABEL = """
    const digit = (number) => Math.floor(Math.log10(Math.abs(number)) + 1e-9);
    const within = (number, most) => Math.max(Math.min(number, most), 0);
    const first = digit(Math.max(...ticks.map(Math.abs)));
    const last = ticks.length > 1 ? digit(ticks[1] - ticks[0]) : first - 2;
    const plain = -3 <= first && first <= 6;
    const text = tick === 0 ? "0" : plain ? tick.toFixed(within(-last, 5 - Math.max(first, 0)))
        : tick.toExponential(within(digit(tick) - last, 2));
    return text.replace("e+", "e").replaceAll("-", "\u2212");
"""


class MapView:
    """One browser's map of the present scan."""

    def __init__(self, tapped: Callable[[float, float], None], wished: Limits) -> None:
        self.outline = ColumnDataSource({"left": [0], "right": [1], "top": [0], "bottom": [1]})
        self.cross = ColumnDataSource({"x": [], "y": []})
        self.box = ColumnDataSource({"left": [], "right": [], "top": [], "bottom": []})
        self.mapper = new_mapper()
        plot = self.plot = figure(
            name="map",
            sizing_mode="stretch_both",
            match_aspect=True,
            tools="pan,wheel_zoom,box_select,reset,save",
            active_drag="box_select",
            active_scroll="wheel_zoom",
            toolbar_location="above",
            x_range=DataRange1d(range_padding=0.02),
            y_range=DataRange1d(flipped=True, range_padding=0.02),
            min_border=BORDER,
            min_border_left=AXIS,
        )
        self.missing = plot.quad(
            "left",
            "right",
            "top",
            "bottom",
            source=self.outline,
            hatch_pattern="right_diagonal_line",
            hatch_scale=10,
            line_color=None,
        )
        plot.x_range.renderers = plot.y_range.renderers = [self.missing]
        self.numbers, self.colours = Image(plot, self.mapper), Image(plot)
        self.colours.drawn.visible = False
        self.region = plot.quad(
            "left",
            "right",
            "top",
            "bottom",
            source=self.box,
            fill_alpha=0.0,
            line_width=2,
            line_dash="dashed",
            level="overlay",
        )
        self.cursor = plot.scatter(
            "x", "y", source=self.cross, marker="cross", size=18, line_width=2, level="overlay"
        )
        self.halo = plot.scatter(
            "x", "y", source=self.cross, marker="circle", size=13, line_width=2, fill_alpha=0, level="overlay"
        )
        white: dict[str, Any] = {"fill_alpha": 0, "line_color": "white", "level": "annotation"}  # below them
        plot.quad("left", "right", "top", "bottom", source=self.box, line_width=4, **white)
        plot.scatter("x", "y", source=self.cross, marker="circle", size=13, line_width=5, **white)
        plot.scatter("x", "y", source=self.cross, marker="cross", size=18, line_width=4, **white)
        label = CustomJSTickFormatter(code=LABEL)
        self.bar = ColorBar(color_mapper=self.mapper, padding=4, title="", width=14, formatter=label)
        plot.add_layout(self.bar, "right")
        self.scale = ScaleBar(
            range=plot.x_range,
            unit="µm",
            dimensional=MetricLength(),
            location="bottom_left",
            visible=False,
            background_fill_color="#ffffff",
            background_fill_alpha=0.8,
            border_line_color=None,
            label_text_color="#1c2430",
            bar_line_color="#1c2430",
            label_text_font_size="14px",
            padding=6,
            bar_line_width=3,
        )
        plot.add_layout(self.scale)
        self.hover = HoverTool(tooltips=[VALUE], renderers=[self.numbers.drawn], attachment="right")
        plot.add_tools(self.hover)
        plot.on_event("tap", lambda event: tapped(event.x, event.y))
        self._wished = wished
        self.scan: Scan | None = None
        self.top = self._rows = 0  # of the plane shown: its first row in the scan, and how many it has
        self._pictures: list[Picture] = []
        self._ranges: Ranges = []  # of the colours, one for each channel; empty: to be found
        self._known = False  # they are those of numbers
        self._window: Window | None = None
        self._old_limits = False  # the limits are those of earlier values
        self._limits_due = 0.0
        self._whole = True  # all of the picture is to be sent, not only what is new

    def show(
        self, scan: Scan, what: Quantity | Composite, plane: tuple[int, int], zoom: Window | None
    ) -> None:
        """Show this of a scan from now on. Raises QuantityError; then what is shown stays.

        plane: its first row in the scan and its rows. zoom: the part that is looked at, if not all of it.
        """
        quantities = list(what.channels) if isinstance(what, Composite) else [what]
        window = zoom or Window(plane[0], 0, plane[0] + plane[1], scan.shape[1])
        self._pictures = alike(scan, quantities, window)
        new = scan is not self.scan or plane != (self.top, self._rows)
        self.scan, (self.top, self._rows), self._window = scan, plane, window
        self._ranges, self._known = [], False
        composite = isinstance(what, Composite)
        shown, hidden = (self.colours, self.numbers) if composite else (self.numbers, self.colours)
        shown.drawn.visible, hidden.drawn.visible, self.bar.visible = True, False, not composite
        self.plot.min_border_right = BORDER if composite else BAR
        self.hover.renderers = [shown.drawn]
        place = (f"x, y ({_unit(scan)})", "$x{0.0}, $y{0.0}")
        self.hover.tooltips = [place] if composite else [place, VALUE]
        self.plot.title.text = what.title
        if new:
            self._frame(scan)
            self.unmark()
        self._whole = True

    def clear(self) -> None:
        """Show nothing, and let the scan's memory go."""
        self.scan, self._pictures = None, []

    def _frame(self, scan: Scan) -> None:
        down, across = self.steps
        right, bottom = scan.shape[1] * across, self._rows * down
        self.outline.data = {"left": [0], "right": [right], "top": [0], "bottom": [bottom]}
        unit = _unit(scan)
        self.plot.xaxis.axis_label, self.plot.yaxis.axis_label = f"x ({unit})", f"y ({unit})"
        self.scale.visible = scan.step_um is not None

    @property
    def tall(self) -> int:
        """Rows of the scan in each of its cells."""
        return self._pictures[0].tall if self._pictures else 1

    @property
    def steps(self) -> tuple[float, float]:
        """Distance between rows, between columns, in the unit of the axes."""
        return (self.scan.step_um if self.scan else None) or (1.0, 1.0)

    def pixel(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the scan at a place of the axes."""
        down, across = self.steps
        return int(np.floor(y / down)) + self.top, int(np.floor(x / across))

    def update(self, lock: threading.Lock) -> bool:
        """Send what is new. Returns whether there was anything."""
        if not self._pictures or self.scan is None:
            return False
        if any(each.stale for each in self._pictures):
            self._pictures = alike(self.scan, [each.quantity for each in self._pictures], self._window)
            self._whole = True
        changed = [new for each in self._pictures if (new := each.update(lock)) is not None]
        if not changed and not self._whole:
            return self._old_limits and self._relimit()
        rows = slice(
            min((part.start for part in changed), default=0), max((part.stop for part in changed), default=0)
        )
        relimited = self._relimit()
        first = self._pictures[0]
        values: NDArray[Any]
        if len(self._pictures) == 1:
            image, values = self.numbers, first.values
        else:
            image = self.colours
            red, green, blue = (each.values for each in self._pictures)
            values = rgba((red, green, blue), self._ranges)
        if self._whole or (relimited and image is self.colours):
            window, (down, across) = first.window, self.steps
            image.lay(
                values.copy(),
                window.left * across,
                (window.top - self.top) * down,
                values.shape[1] * first.wide * across,
                values.shape[0] * first.tall * down,
            )
            self._whole = False
        else:
            image.change(values, rows)
        return True

    def _relimit(self) -> bool:
        """Find the limits, or follow the percentiles where they are automatic. Returns whether they moved."""
        found, now = self._wished.given(self.title, len(self._pictures)), time.monotonic()
        self._old_limits = found is None and bool(self._ranges) and now < self._limits_due
        if self._old_limits:
            return False
        self._known = found is not None
        if found is None:
            self._limits_due = now + LIMITS_S
            percentiles = [limits(each.values) for each in self._pictures]
            self._known = None not in percentiles
            found = [each or (0.0, 1.0) for each in percentiles]
        if self._ranges and all(map(_alike, found, self._ranges)):
            return False
        self._ranges = found
        if len(found) == 1:
            self.mapper.update(low=found[0][0], high=found[0][1])
        return True

    @property
    def title(self) -> str:
        """What it shows, for people."""
        return str(self.plot.title.text)

    @property
    def ranges(self) -> Ranges:
        """From where to where its colours reach now; empty where there are no numbers yet."""
        return self._ranges if self._known else []

    def mark(self, row: int, column: int) -> None:
        """Show where the spectrum is from."""
        down, across = self.steps
        self.cross.data = {"x": [(column + 0.5) * across], "y": [(row - self.top + 0.5) * down]}
        self.box.data = {key: [] for key in self.box.data}

    def mark_region(self, top: int, left: int, bottom: int, right: int) -> None:
        """Show of which pixels the mean is."""
        down, across = self.steps
        self.cross.data = {"x": [], "y": []}
        self.box.data = {
            "left": [left * across],
            "right": [right * across],
            "top": [(top - self.top) * down],
            "bottom": [(bottom - self.top) * down],
        }

    def unmark(self) -> None:
        """Nothing is chosen."""
        for each in (self.cross, self.box):
            if any(map(len, each.data.values())):  # to set the same once more is sent, too
                each.data = {key: [] for key in each.data}

    def paint(self, theme: Theme) -> None:
        """Another theme."""
        paint(self.plot, theme)
        glyph: Any = self.missing.glyph
        glyph.update(fill_color=theme.missing, hatch_color=theme.missing_lines)
        for each in (self.region, self.cursor, self.halo):
            each.glyph.line_color = theme.mark
        self.bar.update(background_fill_color=theme.paper)


def _unit(scan: Scan) -> str:
    return "pixels" if scan.step_um is None else "µm"


def _alike(one: tuple[float, float], other: tuple[float, float]) -> bool:
    width = max(one[1] - one[0], other[1] - other[0])
    return abs(one[0] - other[0]) <= CLOSE * width and abs(one[1] - other[1]) <= CLOSE * width
