"""An image in a plot: where it lies on the axes, and the colours that the browser gives its numbers."""

from typing import Any, TypeAlias

import numpy as np
from bokeh import palettes
from bokeh.models import ColumnDataSource, LinearColorMapper
from bokeh.plotting import figure
from numpy.typing import NDArray

Ranges: TypeAlias = list[tuple[float, float]]  # from where to where colours reach, for each channel
PALETTES = {
    "viridis": palettes.Viridis256,
    "cividis": palettes.Cividis256,
    "inferno": palettes.Inferno256,
    "magma": palettes.Magma256,
    "plasma": palettes.Plasma256,
    "grey": palettes.Greys256[::-1],
}


class Image:
    """Values (rows, columns) on the axes of a plot: numbers, float32, or colours, uint32."""

    def __init__(self, plot: figure, mapper: LinearColorMapper | None = None) -> None:
        """mapper: gives numbers their colours. Without it the values are colours."""
        self.source = ColumnDataSource()
        self.lay(np.zeros((1, 1), np.uint32 if mapper is None else np.float32), 0, 0, 0, 0)
        where: dict[str, Any] = {"source": self.source, "x": "x", "y": "y", "dw": "dw", "dh": "dh"}
        if mapper is None:
            self.drawn = plot.image_rgba("image", **where)
        else:
            self.drawn = plot.image("image", color_mapper=mapper, **where)

    def lay(self, values: NDArray[Any], x: float, y: float, width: float, height: float) -> None:
        """Show these values, the first one at x, y of the axes."""
        self.source.data = {"image": [values], "x": [x], "y": [y], "dw": [width], "dh": [height]}

    def change(self, values: NDArray[Any], rows: slice) -> None:
        """Send these rows of the values again, the others are as they were."""
        part: Any = (0, rows, slice(0, values.shape[1]))
        self.source.patch({"image": [(part, values[rows].ravel())]})


def new_mapper() -> LinearColorMapper:
    """What gives numbers their colours; NaN has none."""
    return LinearColorMapper(palette=PALETTES["viridis"], low=0, high=1, nan_color=(0, 0, 0, 0))
