"""Maps and spectra as text: two rows of a map in a line by half blocks, spectra by blocks of eighths."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.text import Text

from cars_rt.printable import printable
from cars_rt.show.bands import Floats
from cars_rt.show.shown import Shown, limits

#: Viridis at nine steps, and of places without a spectrum another colour.
STEPS = np.array(
    [
        (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
        (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37),
    ], float,
)  # fmt: skip
MISSING = (185, 194, 204)
SHADES = " ░▒▓█"  # without colours
GAP = "·"
BLOCKS = " ▁▂▃▄▅▆▇█"
SPECTRUM_LINES = 8


def render(shown: Shown, width: int, height: int, *, colour: bool) -> Group:
    """Everything in at most `width` columns, each map in at most `height` lines."""
    parts: list[RenderableType] = []
    main = shown.symbol(shown.main)
    for band, image in zip(shown.bands, shown.maps, strict=True):
        if shown.is_map:
            low, high = limits(image)
            parts.append(Text(f"{band.label}: {main} from {low:.3g} to {high:.3g}", "bold"))
            parts.append(_map(image, shown, width, height, colour=colour))
        else:
            assert shown.numbers is not None
            columns = by_number(image, shown.numbers, width)
            parts += _plot(columns, f"{band.label}: {main}", width, _first_and_last(shown))
    ends = f"{shown.raman_shift[0]:.0f} cm⁻¹", f"{shown.raman_shift[-1]:.0f} cm⁻¹"
    for name, mean in shown.means.items():
        parts += _plot(mean, f"mean {shown.symbol(name)}", width, ends)
    for point in shown.points:
        where = ", ".join(map(str, point.at))
        values = point.spectra[shown.main]
        if np.isfinite(values).any():
            parts += _plot(values, f"({where}): {main}", width, ends)
        else:
            parts.append(Text(f"({where}) was not measured"))
    return Group(*parts, Text(printable(f"{shown.file}: {shown.describe()}", None), "dim"))


def _first_and_last(shown: Shown) -> tuple[str, str]:
    numbers = shown.numbers
    return ("", "") if numbers is None or not len(numbers) else (f"spectrum {numbers[0]}", f"{numbers[-1]}")


def shrunk(image: Floats, rows: int, columns: int) -> Floats:
    """The mean over what falls together, (rows, columns) at most; NaN where nothing was measured."""
    sizes = min(rows, image.shape[0]), min(columns, image.shape[1])
    there = np.isfinite(image)
    total, count = np.where(there, image, 0).astype(float), there.astype(float)
    for axis, size in enumerate(sizes):
        edges = np.linspace(0, image.shape[axis], size, endpoint=False).astype(int)
        total, count = np.add.reduceat(total, edges, axis), np.add.reduceat(count, edges, axis)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / count, np.nan)


def by_number(values: Floats, numbers: NDArray[np.int64], most: int) -> Floats:
    """The mean over what falls together along the numbers (n,), which rise, in `most` columns at most; NaN
    where nothing was measured."""
    if not len(numbers):
        return values
    there = np.isfinite(values)
    from_first, span = numbers - numbers[0], int(numbers[-1] - numbers[0]) + 1
    size = min(most, span)
    columns = (from_first[there] * size) // span
    total = np.bincount(columns, values[there], size)
    with np.errstate(invalid="ignore"):
        return total / np.bincount(columns, minlength=size)


def _map(image: Floats, shown: Shown, width: int, height: int, *, colour: bool) -> Text:
    aspect = 1.0 if shown.step_um is None else shown.step_um[0] / shown.step_um[1]
    tall = image.shape[0] * aspect / image.shape[1]
    columns = max(int(min(width, 2 * height / tall, image.shape[1] * 2)), 1)
    lines = max(min(round(columns * tall / 2), height), 1)
    low, high = limits(image)
    scaled = (shrunk(image, 2 * lines if colour else lines, columns) - low) / (high - low)
    return Text("\n").join(_coloured(scaled) if colour else _shaded(scaled))


def _coloured(scaled: Floats) -> Iterator[Text]:
    colours = _colours(scaled)
    for row in range(0, len(colours), 2):
        line = Text()
        for column in range(colours.shape[1]):
            upper = "#{:02x}{:02x}{:02x}".format(*colours[row, column])
            lower = "#{:02x}{:02x}{:02x}".format(*colours[min(row + 1, len(colours) - 1), column])
            line.append("▀", f"{upper} on {lower}")
        yield line


def _colours(scaled: Floats) -> NDArray[np.int_]:
    at = np.clip(np.nan_to_num(scaled), 0, 1) * (len(STEPS) - 1)
    lower = np.minimum(at.astype(int), len(STEPS) - 2)
    part = (at - lower)[..., None]
    mixed = STEPS[lower] * (1 - part) + STEPS[lower + 1] * part
    return np.where(np.isfinite(scaled)[..., None], mixed, np.array(MISSING)).astype(int)


def _shaded(scaled: Floats) -> Iterator[Text]:
    steps = np.clip(np.nan_to_num(scaled) * len(SHADES), 0, len(SHADES) - 1).astype(int)
    for row, there in zip(steps, np.isfinite(scaled), strict=True):
        yield Text("".join(SHADES[step] if known else GAP for step, known in zip(row, there, strict=True)))


def _plot(values: Floats, title: str, width: int, ends: tuple[str, str]) -> list[RenderableType]:
    """A curve (n,) as columns, the smallest value at the bottom, and what its ends are."""
    columns = shrunk(values[None, :], 1, width)[0]
    there = columns[np.isfinite(columns)]
    low, high = (float(there.min()), float(there.max())) if there.size else (0.0, 0.0)
    span = high - low or 1.0
    levels = np.nan_to_num((columns - low) / span) * SPECTRUM_LINES * 8
    lines = []
    for line in reversed(range(SPECTRUM_LINES)):
        filled = np.clip(np.round(levels - 8 * line), 0, 8).astype(int)
        lines.append("".join(BLOCKS[each] for each in filled).rstrip())
    below = f"{ends[0]}{ends[1]:>{max(len(columns) - len(ends[0]), len(ends[1]) + 1)}}"
    return [
        Text(f"{title} from {low:.4g} to {high:.4g}", "bold"),
        Text("\n".join(lines), "cyan"),
        Text(below, "dim"),
    ]
