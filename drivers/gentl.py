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

    def __init__(
        self, acquirer: Any, pixel_format: str, columns: int, rows: int, per_s: float | None = None
    ) -> None:
        """per_s: ticks of the camera's clock in a second, where the producer does not say it."""
        self._acquirer, self._set = acquirer, (pixel_format, columns, rows)
        self.incomplete = 0  # that came since the last complete one
        told = type("Incomplete", (import_module("harvesters.core").Callback,), {"emit": self._emit})()
        acquirer.add_callback(acquirer.Events.INCOMPLETE_BUFFER, told)
        self._per_s = per_s
        self._clock: Ticks | None = None
        self._names = import_module("harvesters.util.pfnc").dict_by_ints

    def next(self, patience_s: float) -> Any:
        """The next complete one, to be queued again; None if none comes for so long, or one is incomplete.

        The method `fetch` of harvesters waits for as long as images are incomplete.
        """
        buffer = self._acquirer.try_fetch(timeout=patience_s, is_raw=True)
        if buffer is not None:
            self.incomplete = 0
        return buffer

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
        ticks: int | None = said(buffer, "timestamp_ns")
        per_s: float | None = 1e9
        if ticks is None:
            ticks, device = said(buffer, "timestamp"), said(said(buffer, "parent"), "parent")
            per_s = said(device, "timestamp_frequency") or self._per_s
        if not (ticks and per_s):
            return None
        self._clock = self._clock or Ticks(per_s)
        return self._clock.time_ns(ticks)

    def _emit(self, context: object = None) -> None:
        self.incomplete += 1


def said(module: Any, name: str) -> Any:
    """What a producer says of a module; None if it does not."""
    try:
        return getattr(module, name)
    except Exception:  # of many kinds
        return None
