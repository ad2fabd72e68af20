"""Whether a driver scans there and back and sends each spectrum with its place, so that index falls."""

from cars_rt.protocol.messages import Frame

ENOUGH = 2  # falls that no damaged number explains


class Serpentine:
    """Looks at the frames of one run that are not simply the next ones."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None  # sequence and index, as they were sent
        self._falls = 0

    def fall(self, frame: Frame, columns: int) -> str:
        """That index falls within lines of so many columns, once; empty otherwise."""
        last, self._last = self._last, (frame.sequence, frame.index)
        if last is None or not columns or last != (frame.sequence - 1, frame.index + len(frame.block)):
            return ""
        if last[1] // columns != frame.index // columns:
            return ""
        self._falls += 1
        if self._falls != ENOUGH:
            return ""
        return (
            f"index falls from {last[1]} to {frame.index} within a line, as of a scan there and back; see "
            "'Scans that are not row by row' in docs/protocol.md"
        )
