"""Starts that were refused: why what follows them has no run."""

from collections.abc import Sequence

from cars_rt.protocol.errors import ProtocolError
from cars_rt.protocol.fields import Part, name_of, unpack
from cars_rt.protocol.limits import MAX_TEXT

MOST = 64  # runs that are kept in mind


class RefusedStarts:
    """Why the starts of runs were refused, by run, the last ones."""

    def __init__(self) -> None:
        self._why: dict[str, str] = {}

    def note(self, parts: Sequence[Part], why: str) -> None:
        """A message was refused: keep it in mind if it is a start, as far as that can be read."""
        if not parts or not bytes(parts[0]).endswith(b".start"):
            return
        try:
            header = unpack(parts[1])
            run = name_of(header.get("run"), "run")
        except (ProtocolError, IndexError):
            return
        if header.get("kind") == "start":
            self._why.pop(run, None)
            self._why[run] = why[:MAX_TEXT]
            if len(self._why) > MOST:
                del self._why[next(iter(self._why))]

    def why(self, run: str) -> str | None:
        """Why the start of a run was refused; None if it was not, as far as is known."""
        return self._why.get(run)

    @property
    def last(self) -> str | None:
        """The run whose start was refused last, since one was taken."""
        return next(reversed(self._why), None)

    def clear(self) -> None:
        """A start was taken."""
        self._why.clear()
