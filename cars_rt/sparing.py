"""A log that nobody can fill: so many lines of a kind in some seconds, and the number of all others."""

import logging
import time

LINES = 50  # of one kind
WINDOW_S = 10.0  # in so many seconds
KINDS = 1_000  # that are told apart


class Sparing(logging.Filter):
    """Lets pass the first LINES records of a kind in WINDOW_S. A kind is a logger and a text before its
    arguments are put in. The first one after that says how many were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}  # when the window began, records in it

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = (record.name, str(record.msg)), time.monotonic()
        if kind not in self._seen and len(self._seen) >= KINDS:
            self._seen.clear()
        begin, count = self._seen.get(kind, (now, 0))
        if now - begin > WINDOW_S:
            if count > LINES:
                record.msg = f"{record.getMessage()} (and {count - LINES} more such lines in between)"
                record.args = None
            begin, count = now, 0
        self._seen[kind] = begin, count + 1
        return count < LINES
