"""A room on the terminal: a line for each part, and above them what they say; elsewhere all that they say."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from cars_rt.console import Below, console
from cars_rt.kinds import in_words
from cars_rt.printable import counted, printable
from cars_rt.room.instrument import Instrument
from cars_rt.room.keeper import Condition, Keeper
from cars_rt.room.part import Role
from cars_rt.room.said import Line

log = logging.getLogger("cars_rt.room")

REFRESH_S = 0.5
COLOURS = {Role.DRIVER: "cyan", Role.DAEMON: "green", Role.RECORDER: "magenta", Role.VIEW: "blue"}
STATES = {Condition.RUNNING: "green", Condition.GIVEN_UP: "bold red", Condition.WAITING: "yellow"}


class Shown(Below):
    """What people see of a room."""

    def __init__(self, *, everything: bool) -> None:
        """everything: each line of each part also on a terminal, where otherwise warnings are shown."""
        super().__init__()
        self._least = logging.WARNING if self._live is not None and not everything else logging.DEBUG
        self._next = 0.0

    def line(self, name: str, line: Line) -> None:
        """A part said something. Called from any thread."""
        if line.level < self._least and not line.link:
            return
        if self._live is not None:
            colour = COLOURS.get(Role(name.partition("-")[0]), "")
            style = (
                "red" if line.level >= logging.ERROR else "yellow" if line.level >= logging.WARNING else ""
            )
            console.say(Text.assemble((f"{name} | ", colour), (line.text, style)))
        else:
            # The part itself has already left out repetitions, so each text counts as new here.
            log.log(line.level, f"{name} | {line.text}", extra={"part": name})

    def refresh(self, instruments: list[Instrument]) -> None:
        """Draw the lines again, if it is time."""
        now = time.monotonic()
        if self._live is None or now < self._next:
            return
        self._next = now + REFRESH_S
        table = Table.grid(padding=(0, 2))
        for instrument in instruments:
            for keeper in instrument.keepers:
                state = Text(str(keeper.condition), STATES.get(keeper.condition, "dim"))
                restarts = counted(keeper.restarts.total, "restart") if keeper.restarts.total else ""
                does = Text(describe(keeper, instrument.status, now), no_wrap=True, overflow="ellipsis")
                table.add_row(Text(keeper.part.name, COLOURS[keeper.part.role]), state, restarts, does)
        self.draw(table)


def describe(keeper: Keeper, status: Mapping[str, Any] | None, now: float) -> str:
    """What a part does, in one line."""
    if keeper.condition is Condition.WAITING:
        left = keeper.start_at - now
        return f"is started again in {left:.0f} s" if keeper.start_at else "not started yet"
    last = keeper.said.last.text.partition("\n")[0]
    if keeper.part.role is not Role.DAEMON or status is None or keeper.condition is not Condition.RUNNING:
        return last
    lost = in_words(known) if isinstance(known := status.get("lost"), dict) else ""
    text = (
        f"{status.get('state')}, {status.get('spectra_in')} spectra in, {status.get('spectra_out')} out, "
        f"lost: {lost or 'none'}"
    )
    waits = status.get("waits_for")
    return printable(f"{text}; {waits}" if waits else text, 300)
