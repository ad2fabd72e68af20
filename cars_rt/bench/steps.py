"""What all measurements share: how far they are, and how busy the computer was before."""

import os
from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int, str], None]  # done, total, what is being measured


class Steps:
    """Counts what is done, for a progress bar."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def begin(self, text: str) -> None:
        """The next step begins, and this is what it does."""
        self._progress(self._done, self._total, text)
        self._done += 1


def load_average() -> float | None:
    """Processes that were busy in the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
