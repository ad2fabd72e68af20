"""Whether a driver scans there and back and sends each spectrum with its place, so that index falls."""

from cars_rt.protocol.messages import Frame

#: Falls, one directly after the other: no damaged number explains them, nor a counter that begins again.
ENOUGH = 2


class Serpentine:
    """Looks at the frames of one run that are not simply the next ones."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None  # sequence and index, as they were sent
        self._fell = -1  # sequence of the frame at which index fell last
        self._falls = 0  # one directly after the other
        self._told = False

    def fall(self, frame: Frame, columns: int) -> str:
        """That index falls within lines of so many columns, once; empty otherwise."""
        last, self._last = self._last, (frame.sequence, frame.index)
        if last is None or not columns or last != (frame.sequence - 1, frame.index + len(frame.block)):
            return ""
        if last[1] // columns != frame.index // columns:
            return ""
        self._falls = self._falls + 1 if self._fell == frame.sequence - 1 else 1
        self._fell = frame.sequence
        if self._falls < ENOUGH or self._told:
            return ""
        self._told = True
        return (
            f"index falls from {last[1]} to {frame.index} within a line, as of a scan there and back; see "
            "'Scans that are not row by row' in docs/protocol.md"
        )
