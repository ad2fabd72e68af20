"""All instruments of a room, until all of them are over or somebody says stop."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

from cars_rt.console import EXIT_ERROR, EXIT_INCOMPLETE
from cars_rt.printable import counted
from cars_rt.room.instrument import Instrument
from cars_rt.room.part import Role

TURN_S = 0.05  # between two looks at the processes


class Room:
    """Starts, watches and ends the parts of every instrument."""

    def __init__(self, instruments: Sequence[Instrument]) -> None:
        self.instruments = list(instruments)
        self.stopping = False

    @property
    def ready(self) -> bool:
        """Whether every instrument can measure."""
        return all(each.ready for each in self.instruments)

    @property
    def code(self) -> int:
        """The exit code: whether a part was given up, was started again, or says that it lost something."""
        if any(each.failed for each in self.instruments):
            return EXIT_ERROR
        return EXIT_INCOMPLETE if any(each.incomplete(self.stopping) for each in self.instruments) else 0

    def describe(self) -> str:
        """How it stands, in one line."""
        keepers = [keeper for each in self.instruments for keeper in each.keepers]
        states = Counter(str(each.condition) for each in keepers)
        said = ", ".join(f"{count} {state}" for state, count in states.items())
        restarts = sum(each.restarts for each in self.instruments)
        return f"{len(keepers)} parts: {said}" + (f", {counted(restarts, 'restart')}" if restarts else "")

    def last_words(self) -> list[str]:
        """The last words of parts that were started again or did not end well."""
        said = []
        for each in (keeper for instrument in self.instruments for keeper in instrument.keepers):
            restarts = f"{counted(each.restarts.total, 'restart')}, " if each.restarts.total else ""
            # A recorder says by its code that a run was stopped, too, which is no news to who stopped it.
            ended = each.code and (each.part.role is not Role.RECORDER or each.code != EXIT_INCOMPLETE)
            if restarts or ended:
                said.append(f"{each.part.name}: {restarts}{each.condition} with exit code {each.code}")
        return said

    def stop(self) -> None:
        """Ask all parts to end, in order. Callable from a signal handler."""
        self.stopping = True

    def serve(self, on_turn: Callable[[], None] = lambda: None) -> int:
        """Work until everything has ended. Returns the exit code. Nothing is left running, whatever
        happens."""
        try:
            while not all(each.over for each in self.instruments):
                for each in self.instruments:
                    if self.stopping:
                        each.stop()
                    each.turn()
                on_turn()
                time.sleep(TURN_S)
            return self.code
        finally:
            for each in self.instruments:
                each.kill()
                for keeper in each.keepers:
                    keeper.said.close()
