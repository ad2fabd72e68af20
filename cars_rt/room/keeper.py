"""One part kept at work: started, watched, started again when it died, and asked to end."""

import logging
import os
import secrets
import time
from collections.abc import Callable
from enum import StrEnum

from cars_rt.console import EXIT_INCOMPLETE, EXIT_USAGE, LINK_SECRET
from cars_rt.printable import counted
from cars_rt.room.part import Part, Role
from cars_rt.room.program import Program
from cars_rt.room.restarts import Restarts
from cars_rt.room.said import Said
from cars_rt.sockets.turn import Uninterrupted

log = logging.getLogger("cars_rt.room")

DONE = (0, EXIT_INCOMPLETE)  # exit codes of a program that did its work, and said what was lost


class Condition(StrEnum):
    """How a part stands."""

    WAITING = "waiting"  # to be started, again or for the first time
    RUNNING = "running"
    ENDING = "ending"  # was asked to end
    ENDED = "ended"
    GIVEN_UP = "given up"  # died too often


class Keeper:
    """Keeps one part at work. `look` has to be called now and then."""

    def __init__(self, part: Part, said: Said, restarts: Restarts) -> None:
        self.part, self.said, self.restarts = part, said, restarts
        self.condition = Condition.WAITING
        self.code: int | None = None  # of the last life that ended
        self.start_at = 0.0  # when it is started again
        self._program: Program | None = None
        self._began = 0.0
        # A display that is back lets in the page that it had: no second browser is opened, and nobody knows
        # another secret. In the environment no other user sees it.
        shared = {LINK_SECRET: secrets.token_urlsafe(24)} if part.role is Role.VIEW else {}
        self._environment = os.environ | shared

    @property
    def over(self) -> bool:
        """Whether it runs no more and is not started again."""
        return self.condition in (Condition.ENDED, Condition.GIVEN_UP)

    @property
    def pid(self) -> int | None:
        """The id of its process, if there is one."""
        return self._program.pid if self._program is not None and self._program.running else None

    def start(self, subscribers: int, *more: str) -> None:
        """Begin a life. subscribers: how many it waits for, if it waits for parts of the room. more: flags of
        this life alone."""
        wait = [f"--subscribers={subscribers}"] if self.part.hearers else []
        try:
            with Uninterrupted("SIGTERM", "SIGHUP"):
                self._program = Program(
                    self.part.name, [*self.part.command, *wait, *more], environment=self._environment
                )
        except OSError as error:  # such as no memory left for it
            why = error.strerror or error
            self._wait_or_give_up(f"the {self.part.name} could not be started ({why})", lived_s=0)
            return
        self.said.listen(self._program.output)
        self.said.note(f"started as process {self._program.pid}")
        self._began = time.monotonic()
        self.condition = Condition.RUNNING

    def look(self, start: Callable[["Keeper"], None]) -> None:
        """See whether it died, and call `start` when it is time to begin again."""
        if self.condition is Condition.WAITING:
            if time.monotonic() >= self.start_at:
                start(self)
        elif not self.over and self._program is not None and not self._program.running:
            self._died()

    def stop(self) -> None:
        """Ask it to end. A part that waits to be started again stays down."""
        if self.condition is Condition.WAITING:
            self.condition = Condition.ENDED
        elif self.condition is Condition.RUNNING and self._program is not None:
            self.condition = Condition.ENDING
            self._program.stop()

    def kill(self) -> None:
        """End it at once."""
        if self._program is not None:
            self._program.kill()
            if not self.over:
                self.code = self._program.code
        if not self.over:
            self.condition = Condition.ENDED

    def hang(self, why: str) -> None:
        """It hangs: end this life, so that `look` finds it dead."""
        log.error("the %s hangs (%s): it is ended", self.part.name, why)
        if self._program is not None:
            self._program.kill()

    def _died(self) -> None:
        assert self._program is not None
        self.code = code = self._program.code
        self._program.kill()  # gives its pipes back
        self.said.wait(1)
        name, lived_s = self.part.name, time.monotonic() - self._began
        self.said.note(f"ended with exit code {code} after {lived_s:.1f} s")
        if code in DONE or self.condition is Condition.ENDING:
            if code not in DONE:
                log.warning("the %s ended with exit code %s", name, code)
            self.condition = Condition.ENDED
            return
        how = f"the {name} died (exit code {code}) after {lived_s:.1f} s"
        self._wait_or_give_up(how, lived_s, "its flags are wrong" if code == EXIT_USAGE else "")

    def _wait_or_give_up(self, how: str, lived_s: float, why: str = "") -> None:
        """A life is over: the next one follows, unless there is a reason why not or there were too many."""
        pause_s = None if why else self.restarts.pause_s(lived_s)
        if pause_s is None:
            self.condition = Condition.GIVEN_UP
            why = why or f"{counted(self.restarts.limit, 'restart')} did not help"
            log.error("%s and is not started again: %s; its log is %s", how, why, self.said.path)
            return
        log.error("%s; restart %d follows in %g s", how, self.restarts.total, pause_s)
        self.condition = Condition.WAITING
        self.start_at = time.monotonic() + pause_s

    @property
    def failed(self) -> bool:
        """Whether it was given up and a measurement cannot be without it."""
        return self.condition is Condition.GIVEN_UP and self.part.role is not Role.VIEW
