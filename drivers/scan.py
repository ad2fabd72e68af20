"""The scan that a camera knows nothing of: said by flags."""

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from cars_rt.drivers.base import InstrumentError
from cars_rt.drivers.order import MOST_FRAMES, Order

MOST = 2**31 - 1  # frames in one run, as cameras count them


@dataclass(frozen=True, kw_only=True)
class ScanSettings:
    """How many spectra, and where they belong."""

    spectra: int | None = None
    """How many, one for each point; if not given, as many as the scan has, or until stopped."""

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
        if not 1 <= self.frames_per_point <= MOST_FRAMES:
            raise InstrumentError(
                f"--frames-per-point {self.frames_per_point}: from 1 to {MOST_FRAMES} can be added up"
            )
        if self.flyback < 0 or (self.spectra is not None and self.spectra < 1):
            raise InstrumentError("--spectra is at least 1, and --flyback not negative")
        order = Order(snake=self.order == "snake", frames=self.frames_per_point, flyback=self.flyback)
        about: dict[str, Any] = {"order": order, "triggered": self.triggered}
        if self.scan is None:
            if order.snake or order.flyback or self.step_um:
                raise InstrumentError("--order, --flyback and --step-um need --scan")
            return about | {"spectra": self._frames(self.spectra, 1)}
        if not re.fullmatch(r"[1-9]\d{0,5}(x[1-9]\d{0,5}){1,2}", self.scan):
            raise InstrumentError(f"--scan {self.scan}: give rows and columns, such as 256x256 or 10x256x256")
        *planes, rows, columns = map(int, self.scan.split("x"))
        about["order"] = replace(order, rows=rows)
        about["scan"] = rows * (planes[0] if planes else 1), columns
        points = about["scan"][0] * columns if self.spectra is None else self.spectra
        about["spectra"] = self._frames(points, columns)
        if self.step_um is not None:
            try:
                between_rows, between_columns = (float(each) for each in self.step_um.split("x"))
            except ValueError:
                between_rows = between_columns = math.nan
            if not all(0 < each < math.inf for each in (between_rows, between_columns)):
                raise InstrumentError(f"--step-um {self.step_um}: give two numbers above 0, such as 0.5x0.5")
            about["step_um"] = between_rows, between_columns
        return about

    def _frames(self, points: int | None, columns: int) -> int | None:
        """Frames of the camera in which so many points are measured, with the flight back of each whole
        row."""
        if points is None:
            return None
        frames = (points + points // columns * self.flyback) * self.frames_per_point
        if frames > MOST:
            raise InstrumentError(
                f"{frames} images would be taken (--scan, --spectra, --frames-per-point, --flyback), and "
                f"{MOST} are the most in one run"
            )
        return frames
