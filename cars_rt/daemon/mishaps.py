"""Mistakes of this program itself: each costs what was handled just then, and is counted and logged."""

import errno
import logging
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cars_rt.kinds import Kind
from cars_rt.printable import printable

log = logging.getLogger("cars_rt.daemon")


class Mishaps:
    """Counts mistakes of ours by what they cost, among the daemon's other findings."""

    def __init__(self, findings: Counter[str]) -> None:
        """findings: where they are counted, as `failed: WHAT`."""
        self._findings = findings

    def note(self, what: str, error: Exception) -> str:
        """Count a failure. Returns what went wrong, in a sentence. what: one of few phrases, as "a
        request"."""
        kind = f"{Kind.FAILED}: {what}"
        self._findings[kind] += 1
        # Not the error's own words alone: they seldom say where it was.
        where = traceback.extract_tb(error.__traceback__)[-1:]
        place = "".join(f" ({Path(each.filename).name}:{each.lineno})" for each in where)
        text = printable(f"{type(error).__name__}: {error}{place}", 500)
        level = logging.ERROR if self._findings[kind] == 1 else logging.DEBUG
        log.log(level, "%s failed and is left out: %s; more are counted. %s", what, text, _remedy(error))
        log.debug("where that was", exc_info=error)
        return text

    @contextmanager
    def contained(self, what: str) -> Iterator[None]:
        """A mistake within costs `what` alone."""
        try:
            yield
        except Exception as error:
            self.note(what, error)


def _remedy(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "Allow more files and connections at once (ulimit -n), or have fewer programs connect"
    return "Please report this"
