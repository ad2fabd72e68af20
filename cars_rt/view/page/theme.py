"""Colours of the page's plots, for a bright room and a dark one."""

from dataclasses import dataclass
from typing import Any

from bokeh.models import Plot


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours as CSS has them."""

    paper: str
    ground: str  # within the axes
    ink: str
    faint: str  # grid lines
    missing: str  # pixels that nobody has seen
    missing_lines: str
    raw: str
    result: str
    shade: str
    mark: str


THEMES = {
    "light": Theme(
        "#ffffff",
        "#ffffff",
        "#1c2430",
        "#e6e9ee",
        "#e9ebef",
        "#c4c9d2",
        "#8a94a3",
        "#c2372b",
        "#c2372b",
        "#0b66c3",
    ),
    "dark": Theme(
        "#12161c",
        "#171c24",
        "#dfe5ee",
        "#2a323d",
        "#232a34",
        "#3b4553",
        "#7f8b9b",
        "#ff8a5c",
        "#ff8a5c",
        "#5fb4ff",
    ),
}
PINNED = ("#0b66c3", "#1b8a5a", "#8a4fc9", "#b8860b", "#c2185b", "#00838f")


def paint(plot: Plot, theme: Theme) -> None:
    """Give a plot these colours."""
    plot.background_fill_color, plot.border_fill_color = theme.ground, theme.paper
    plot.outline_line_color = theme.faint
    for axis in [*plot.left, *plot.right, *plot.below, *plot.above]:
        for name in (
            "axis_line_color",
            "major_tick_line_color",
            "minor_tick_line_color",
            "major_label_text_color",
            "axis_label_text_color",
        ):
            _set(axis, name, theme.ink)
        _set(axis, "axis_label_text_font_size", "14px")
        _set(axis, "axis_label_text_font_style", "normal")
        _set(axis, "major_label_text_font_size", "13px")
        _set(axis, "title_text_color", theme.ink)
        _set(axis, "background_fill_color", theme.paper)
    for each in plot.center:
        _set(each, "grid_line_color", theme.faint)
    plot.title.update(text_color=theme.ink, text_font_size="15px")


def _set(model: Any, name: str, value: str) -> None:
    if name in model.properties():
        setattr(model, name, value)
