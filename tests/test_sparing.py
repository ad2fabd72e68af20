"""Lines of one kind are limited in a log, and the others counted."""

import logging

import pytest

from cars_rt import sparing
from cars_rt.sparing import LINES, WINDOW_S, Sparing


def record(text: str, *args: object, name: str = "cars_rt.daemon") -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "x.py", 1, text, args, None)


def test_flood_of_one_kind_is_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(sparing.time, "monotonic", lambda: now[0])
    sparingly = Sparing()
    passed = [sparingly.filter(record("run %s begins", number)) for number in range(LINES + 30)]
    assert passed == [True] * LINES + [False] * 30
    assert sparingly.filter(record("run %s ended", 7)) and sparingly.filter(
        record("run %s begins", 1, name="x")
    )
    now[0] += WINDOW_S + 1
    after = record("run %s begins", "last")
    assert sparingly.filter(after)
    assert after.getMessage() == "run last begins (and 30 more such lines in between)"
    quiet = record("run %s begins", "next")
    assert sparingly.filter(quiet) and quiet.getMessage() == "run next begins"


def test_kinds_without_end_take_no_memory() -> None:
    sparingly = Sparing()
    assert all(sparingly.filter(record(f"text {number}")) for number in range(3 * sparing.KINDS))
    assert len(sparingly._seen) <= sparing.KINDS
