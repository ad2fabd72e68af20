"""The scan that a camera knows nothing of: said by flags."""

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from cars_rt.drivers.base import InstrumentError
from cars_rt.drivers.order import Order


@dataclass(frozen=True, kw_only=True)
class ScanSettings:
    """How many spectra, and where they belong."""

    spectra: int | None = None
    """How many; if not given, as many as the scan has, or until stopped."""

    scan: str | None = None
    """Rows x columns of the scan, or planes x rows x columns, such as 256x256; the camera's images follow its
    points."""

    order: Literal["rows", "snake"] = "rows"
    """rows: each from its beginning; snake: every second one backwards."""

    frames_per_point: int = 1
    """Frames at each point, which are added up."""

    flyback: int = 0
    """Points after each row that are measured while the scan flies back, and left out."""

    step_um: str | None = None
    """Distance of rows and of columns, in um, such as 0.5x0.5."""

    triggered: bool = False
    """The run begins with the first image, which waits for a trigger."""

    def __post_init__(self) -> None:
        self.about()

    def about(self) -> dict[str, Any]:
        """Fields of an Acquisition. Raises InstrumentError."""
        if self.frames_per_point < 1 or self.flyback < 0 or (self.spectra is not None and self.spectra < 1):
            raise InstrumentError("--spectra and --frames-per-point are at least 1, --flyback not negative")
        order = Order(snake=self.order == "snake", frames=self.frames_per_point, flyback=self.flyback)
        about: dict[str, Any] = {"order": order, "spectra": self.spectra, "triggered": self.triggered}
        if self.scan is None:
            if order.snake or order.flyback or self.step_um:
                raise InstrumentError("--order, --flyback and --step-um need --scan")
            return about
        if not re.fullmatch(r"[1-9]\d{0,5}(x[1-9]\d{0,5}){1,2}", self.scan):
            raise InstrumentError(f"--scan {self.scan}: give rows and columns, such as 256x256 or 10x256x256")
        *planes, rows, columns = map(int, self.scan.split("x"))
        about["order"] = replace(order, rows=rows)
        about["scan"] = rows * (planes[0] if planes else 1), columns
        if self.spectra is None:
            about["spectra"] = about["scan"][0] * (columns + self.flyback) * self.frames_per_point
        if self.step_um is not None:
            try:
                between_rows, between_columns = (float(each) for each in self.step_um.split("x"))
            except ValueError:
                between_rows = between_columns = math.nan
            if not all(0 < each < math.inf for each in (between_rows, between_columns)):
                raise InstrumentError(f"--step-um {self.step_um}: give two numbers above 0, such as 0.5x0.5")
            about["step_um"] = between_rows, between_columns
        return about
