"""Between which numbers colours are spread: percentiles, or as one browser wished it."""

from cars_rt.view.page.image import Ranges


class Limits:
    """Automatic at first. By hand: for whatever is shown. Fixed, as they were once: for what has a title."""

    def __init__(self) -> None:
        self._by, self._ranges, self._of = "auto", list[tuple[float, float]](), ""

    def wish(self, by: str, ranges: Ranges, of: str) -> None:
        """by: auto, fixed or hand; with one range, or one for each channel. of: a title."""
        self._by, self._ranges, self._of = by, ranges, of

    def by(self, title: str) -> str:
        """How they are for what has this title."""
        return "auto" if self._by == "fixed" and self._of != title else self._by

    def given(self, title: str, channels: int) -> Ranges | None:
        """What was wished for what has this title; None: percentiles."""
        return None if self.by(title) == "auto" else (self._ranges * channels)[:channels]
