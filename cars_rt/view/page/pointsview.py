"""Point measurements: spectra over time as a waterfall, and the daemon's bands as curves."""

import threading
import time
from collections.abc import Callable

from bokeh.models import ColumnDataSource, DataRange1d
from bokeh.plotting import figure

from cars_rt.physics.quantity import quantity
from cars_rt.view.page.image import Image, Ranges, new_mapper
from cars_rt.view.page.limits import Limits
from cars_rt.view.page.theme import PINNED, Theme, paint
from cars_rt.view.picture import limits
from cars_rt.view.quantity import Quantity
from cars_rt.view.scan import Scan
from cars_rt.view.trace import Curve, Waterfall

EVERY_S = 0.25  # a waterfall is sent whole, so not at each turn
MOST_CURVES = 6


class PointsView:
    """One browser's view of a run without a scan."""

    title = "spectra in time"  # of the waterfall, whose colours have limits

    def __init__(self, tapped: Callable[[float, float], None], wished: Limits) -> None:
        self.curves = ColumnDataSource({"xs": [], "ys": [], "colour": [], "name": []})
        self.mapper = new_mapper()
        tools = "pan,wheel_zoom,reset,save"
        self.waterfall = figure(
            name="waterfall",
            sizing_mode="stretch_both",
            tools=tools,
            active_scroll="wheel_zoom",
            title=self.title,
            toolbar_location="above",
            x_axis_label="raman shift (cm⁻¹)",
            y_axis_label="spectrum",
            x_range=DataRange1d(range_padding=0),
            y_range=DataRange1d(range_padding=0, flipped=True),
        )
        self.image = Image(self.waterfall, self.mapper)
        self.waterfall.on_event("tap", lambda event: tapped(0.0, event.y))
        self.trend = figure(
            name="trend",
            sizing_mode="stretch_both",
            tools=tools,
            toolbar_location="above",
            x_axis_label="spectrum",
            title="bands in time",
            x_range=DataRange1d(range_padding=0),
        )
        self.trend.multi_line(
            "xs", "ys", source=self.curves, line_color="colour", line_width=1.4, legend_field="name"
        )
        self.trend.legend.update(
            location="top_left",
            label_text_font_size="13px",
            padding=4,
            background_fill_alpha=0.6,
            border_line_color=None,
        )
        self._waterfall: Waterfall | None = None
        self._curves: list[Curve] = []
        self._due = 0.0
        self._wished = wished
        self.ranges: Ranges = []  # from where to where colours reach; empty where there are no numbers yet
        self._whole = True  # other curves are shown than were sent

    def show(self, scan: Scan, chosen: list[Quantity]) -> None:
        """Show these bands of a run."""
        if self._waterfall is None or self._waterfall.scan is not scan:
            self._waterfall = Waterfall(scan)
        self._curves = [Curve(scan, each) for each in chosen[:MOST_CURVES]]
        few = f": {MOST_CURVES} of {len(chosen)}" if len(chosen) > MOST_CURVES else ""
        self.trend.title.text = f"bands in time{few}"
        self.waterfall.yaxis.axis_label = self.trend.xaxis.axis_label = (
            "spectrum" if scan.numbers is None else "place in the list"
        )
        self.trend.yaxis.axis_label = quantity((scan.start.model or {}).get("target")).symbol
        self._whole = True

    @property
    def behind(self) -> bool:
        """Whether there is more to send than was read in one go."""
        return self._waterfall is not None and any(each.behind for each in (self._waterfall, *self._curves))

    def clear(self) -> None:
        """Show nothing, and let the run's memory go."""
        self._waterfall, self._curves = None, []

    def update(self, lock: threading.Lock) -> bool:
        """Send what is new. Returns whether there was anything."""
        fall = self._waterfall
        if fall is None or time.monotonic() < self._due:
            return False
        changed = [each.update(lock) for each in (fall, *self._curves)]
        if not any(changed) and not self._whole:
            return False
        self._whole, self._due = False, time.monotonic() + (0 if self.behind else EVERY_S)
        values = fall.values
        if values.size:
            height = len(values) * fall.step
            self.image.lay(values.copy(), fall.low, fall.first, fall.high - fall.low, height)
            found = limits(values)
            if ranges := self._wished.given(self.title, 1) or ([] if found is None else [found]):
                self.ranges = ranges
                self.mapper.update(low=ranges[0][0], high=ranges[0][1])
        drawn = [each.drawn() for each in self._curves]
        xs, ys = [x for x, _ in drawn], [y for _, y in drawn]
        self.curves.data = {
            "xs": xs,
            "ys": ys,
            "colour": list(PINNED[: len(xs)]),
            "name": [each.quantity.title for each in self._curves],
        }
        return True

    def paint(self, theme: Theme) -> None:
        """Another theme."""
        paint(self.waterfall, theme)
        paint(self.trend, theme)
        self.trend.legend.update(label_text_color=theme.ink, background_fill_color=theme.ground)
