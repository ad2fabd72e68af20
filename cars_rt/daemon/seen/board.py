"""Whether the daemon is alive and ready, and its last snapshot, for those who look from other threads."""

import time

from cars_rt.daemon.seen.snapshot import Snapshot, State

ALIVE_S = 30.0  # a loop that did not turn for so long hangs


class StatusBoard:
    """The last snapshot, and whether the loop that posts them is alive and ready.

    One thread posts, any may read: a snapshot never changes, and replacing one is a single step.
    """

    def __init__(self, first: Snapshot) -> None:
        self._last = (first, time.monotonic())

    def post(self, snapshot: Snapshot) -> None:
        """Replace the snapshot. Called by the loop's thread, whenever the loop turned."""
        self._last = (snapshot, time.monotonic())

    @property
    def snapshot(self) -> Snapshot:
        """The last one."""
        return self._last[0]

    @property
    def age_s(self) -> float:
        """Seconds since the last one."""
        return time.monotonic() - self._last[1]

    def not_alive(self) -> str | None:
        """Why the loop counts as hung, or None."""
        age = self.age_s
        return f"the loop has not turned for {age:.0f} s" if age > ALIVE_S else None

    def not_ready(self) -> str | None:
        """Why spectra would not be taken and answered now, or None."""
        snapshot = self.snapshot
        if reason := self.not_alive():
            return reason
        if snapshot.state is State.STOPPING:
            return "stopping"
        waits = snapshot.waits_for
        return None if snapshot.ready else f"starting: {waits or 'not warm yet'}"
