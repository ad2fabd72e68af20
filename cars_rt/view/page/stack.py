"""Which plane of a stack a page shows, where several lie one under the other in the scan."""

from cars_rt.view.page.orders import OrderError
from cars_rt.view.scan import Scan


class Stack:
    """One plane, which is the whole scan, until there are more."""

    def __init__(self) -> None:
        self.planes, self.plane = 1, 0
        self._wished: tuple[int, int] | None = None  # before there was a scan: the page comes back

    def choose(self, planes: int, plane: int, scan: Scan | None) -> None:
        """Part the scan into so many planes, and show this one. Raises OrderError where that cannot be."""
        if scan is None:
            self._wished = planes, plane
            return
        if scan.points:
            raise OrderError("there is no scan to part into planes")
        if scan.shape[0] % planes:
            raise OrderError(f"{scan.shape[0]} rows cannot be parted into {planes} planes of the same height")
        self.planes, self.plane = planes, min(plane, planes - 1)

    def turn_to(self, scan: Scan, *, other_shape: bool) -> None:
        """Another run is shown; its scan has another shape than the one before."""
        wished, self._wished = self._wished, None
        if other_shape or scan.points:
            self.planes, self.plane = scan.stacked, 0
        if wished is not None and not scan.points and not scan.shape[0] % wished[0]:
            self.choose(*wished, scan)

    def rows(self, scan: Scan) -> tuple[int, int]:
        """The first row of the plane that is shown, and the one after its last."""
        rows = scan.shape[0] // self.planes
        first = scan.first + self.plane * rows
        return first, first + rows
