"""What a buffer holds that a GenTL producer has filled."""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.drivers.pixels import grey
from cars_rt.drivers.ticks import Ticks


class Buffers:
    """Those of one run; what a producer does not say of them is as the camera is set.

    Images are of the bytes as they came: harvesters (1.4.3) fails at Mono10Packed and Mono14p, and leaves the
    padding in.
    """

    def __init__(self, pixel_format: str, columns: int, rows: int, per_s: float | None = None) -> None:
        """per_s: ticks of the camera's clock in a second, where the producer does not say it."""
        self._set = pixel_format, columns, rows
        self._per_s = per_s
        self._clock: Ticks | None = None
        self._names = import_module("harvesters.util.pfnc").dict_by_ints

    def image(self, buffer: Any) -> NDArray[Any]:
        """(rows, columns). Raises ValueError for pixels that are no grey numbers."""
        pixel_format, columns, rows = self._set
        parts = said(buffer, "parts")
        part = parts[0] if parts else buffer
        pixel_format = self._names.get(said(part, "data_format" if parts else "pixel_format"), pixel_format)
        data = np.frombuffer(buffer.raw_buffer, np.uint8, offset=said(part, "data_offset") or 0)
        padding = said(part, "x_padding" if parts else "padding_x") or 0
        return grey(pixel_format, data, said(part, "width") or columns, said(part, "height") or rows, padding)

    def time_ns(self, buffer: Any) -> int | None:
        """Unix time of its stamp; None if it has none, or nobody knows how many ticks are a second."""
        ticks, per_s = said(buffer, "timestamp_ns"), 1e9
        if ticks is None:
            ticks, device = said(buffer, "timestamp"), said(said(buffer, "parent"), "parent")
            per_s = said(device, "timestamp_frequency") or self._per_s
        if not (ticks and per_s):
            return None
        self._clock = self._clock or Ticks(per_s)
        return self._clock.time_ns(ticks)


def said(module: Any, name: str) -> Any:
    """What a producer says of a module; None if it does not."""
    try:
        return getattr(module, name)
    except Exception:  # of many kinds
        return None
