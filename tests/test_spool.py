"""Standard error that nobody waits for."""

import io
import threading
from typing import Any

import pytest
from helpers import PATIENCE_S

from cars_rt.spool import MOST, Spool


class Terminal(io.RawIOBase):
    """Takes three bytes every other time, and nothing while it stands still or when it is closed."""

    def __init__(self) -> None:
        self.shown = b""
        self.goes, self.gone, self.asked = threading.Event(), False, threading.Event()
        self.full = False

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int | None:
        self.asked.set()
        assert self.goes.wait(PATIENCE_S)
        if self.gone:
            raise OSError(5, "the terminal was closed")
        self.full = not self.full
        if self.full:
            return None
        self.shown += bytes(piece[:3])
        return len(piece[:3])


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


def test_who_writes_goes_on_where_a_terminal_stands_still_and_what_is_left_out_is_counted(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(terminal, lambda count: text.write(f"{count} left out\n"))
    text = io.TextIOWrapper(spool, "utf-8", write_through=True)
    text.write("line 0\n")
    assert terminal.asked.wait(PATIENCE_S) and not spool.behind
    for number in range(1, MOST + 8):
        text.write(f"line {number}\n")
        text.flush()
    assert spool.behind and not terminal.shown
    monkeypatch.setattr("cars_rt.spool.AGAIN_S", 0)
    terminal.goes.set()
    assert spool.drain(PATIENCE_S) and not spool.behind
    kept = [f"line {number}" for number in range(MOST + 1)]
    assert terminal.shown.decode().splitlines() == [*kept, "7 left out"]


def test_who_writes_goes_on_where_a_terminal_is_closed(terminal: Terminal) -> None:
    """And a disk may be full for a while: what is missing there is told, too."""
    terminal.goes.set()
    terminal.gone = True
    told: list[int] = []
    spool = Spool(terminal, told.append)
    spool.write(b"into the void")
    assert spool.drain(PATIENCE_S) and not told
    terminal.gone = False
    spool.write(b"here again")
    assert spool.drain(PATIENCE_S) and told == [1] and terminal.shown == b"here again"
