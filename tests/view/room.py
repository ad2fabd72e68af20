"""All that stands around a page."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from helpers import AXIS, Collected, Command, Published, a_frame, a_start, daemon_in_thread, spectra_of
from numpy.typing import NDArray

from view.browser import Browser

ROWS, COLUMNS = 12, 16
STEP_UM = (0.5, 0.25)


@dataclass
class Room:
    """A driver, a daemon, somebody who knows the truth, the display and a browser."""

    raw: Published
    daemon: dict[str, Any]  # its settings
    view: Command
    address: str
    browser: Browser
    stack: ExitStack  # of the daemon and who reads it
    truth: Collected

    def start_daemon(self) -> None:
        self.stack.enter_context(daemon_in_thread(self.raw.address, **self.daemon))
        self.truth = self.stack.enter_context(Collected(self.daemon["publish"]))

    def begin(self, run: str, axis: NDArray[np.float64] = AXIS, **fields: Any) -> None:
        """A run begins, and everybody is there."""
        self.raw.wait()
        given: dict[str, Any] = {"scan": (ROWS, COLUMNS), "step_um": STEP_UM, "spectra": ROWS * COLUMNS}
        self.raw.say(a_start(run, axis, **given | {"block": COLUMNS} | fields))

    def rows(self, run: str, rows: range, axis: NDArray[np.float64] = AXIS, skipped: int = 0) -> None:
        """Rows of the scan, one to a frame; `skipped` frames never were."""
        for row in rows:
            counts = spectra_of(COLUMNS, axis, row * COLUMNS)
            self.raw.say(a_frame(row + skipped, counts, run, index=(row + skipped) * COLUMNS))

    def raman(self, run: str, spectra: int) -> NDArray[np.float32]:
        """What the daemon made of it."""
        count = lambda all_: sum(len(each.block) for each in all_.frames if each.run == run)  # noqa: E731
        return self.truth.until(lambda all_: count(all_) >= spectra).raman(run)
