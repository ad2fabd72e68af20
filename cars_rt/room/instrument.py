"""The parts of one instrument: driver, daemon, recorder and display, from the first start to the last end."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

from cars_rt.console import EXIT_INCOMPLETE
from cars_rt.engines.registry import engine_names
from cars_rt.room.glance import Glance
from cars_rt.room.keeper import Condition, Keeper
from cars_rt.room.part import ENDING, Role
from cars_rt.trust.flags import OFF

log = logging.getLogger("cars_rt.room")

PATIENCE_S = 30.0  # for a part that others wait for at the start
UNSEEN_S = 10.0  # for a daemon that does not say how it is
HANGS = 3  # answers in a row in which a daemon said that its loop stands still
UNREAD_S = 10.0  # for a driver to end whose spectra a paused daemon does not read
END_S = 60.0  # for a part to end when it was asked to; a daemon gives slow subscribers 10 s
DRAIN_S = 120.0  # for a daemon to finish the run of a driver that ended


class Instrument:
    """One chain of programs. `turn` has to be called several times a second until `over`."""

    def __init__(self, keepers: Sequence[Keeper]) -> None:
        """keepers: in the order in which they are started."""
        self.keepers = list(keepers)
        said_at = {each.part.role: each.part.http for each in self.keepers}
        self._glance = Glance(said_at.get(Role.DAEMON), said_at.get(Role.VIEW))
        self._begun = time.monotonic()
        self._asked = self._hanging = 0
        self._engine = ""  # the one that the daemon found fastest
        self._ending: Iterator[None] | None = None
        self.over = False

    @property
    def status(self) -> dict[str, Any] | None:
        """The daemon's last answer; None if it gives none or is not there."""
        return self._glance.status

    @property
    def label(self) -> str:
        """Its name in the file; empty where there is one."""
        return self.keepers[0].part.label

    @property
    def ready(self) -> bool:
        """Whether a run can begin, as far as can be seen."""
        running = all(each.condition is Condition.RUNNING for each in self.keepers)
        said = self.status or {}
        return running and (not self._watched or bool(said.get("ready") or said.get("gathering")))

    @property
    def _paused(self) -> bool:
        """Whether the daemon reads nothing until it is told to, or stopped."""
        return (self.status or {}).get("state") == "paused"

    @property
    def _watched(self) -> list[Keeper]:
        """The daemon, if it says over HTTP how it is."""
        return [each for each in self._of(Role.DAEMON) if each.part.http not in (None, OFF)]

    @property
    def failed(self) -> bool:
        """Whether a part that a measurement cannot be without had to be given up."""
        return any(each.failed for each in self.keepers)

    @property
    def restarts(self) -> int:
        """Restarts of all its parts."""
        return sum(each.restarts.total for each in self.keepers)

    def incomplete(self, stopped: bool) -> bool:
        """Whether a part said that something was lost, or was started again. stopped: somebody ended the
        room, so that the exit code of a recorder whose run has no end does not tell of losses."""
        codes = [
            each.code
            for each in self.keepers
            if not (stopped and each.part.role is Role.RECORDER and each.code == EXIT_INCOMPLETE)
        ]
        return self.restarts > 0 or any(code not in (0, None) for code in codes)

    def turn(self) -> None:
        """Look after every part once."""
        if self.over:
            return
        for each in self.keepers:
            each.look(self._start)
        self._look_for_hang()
        if self._ending is None and (why := self._why_end()):
            log.info("%s%s: the other parts end, too", f"{self.label}: " if self.label else "", why)
            self.stop()
        if self._ending is not None and next(self._ending, self) is self:
            self.over = True

    def stop(self) -> None:
        """Begin to end the parts, along the stream, so that everything that was measured arrives."""
        if self._ending is None:
            self._ending = self._end()

    def kill(self) -> None:
        """End every process at once."""
        self._glance.close()
        for each in self.keepers:
            each.kill()

    def _of(self, role: Role) -> list[Keeper]:
        return [each for each in self.keepers if each.part.role is role]

    def _start(self, keeper: Keeper) -> None:
        if self._ending is not None:
            keeper.stop()
            return
        if not keeper.start_at and not self._may_start(keeper.part.role):
            return
        heard = [each for each in self.keepers if each.part.role in keeper.part.hearers and not each.over]
        keeper.start(len(heard), *self._known(keeper))

    def _known(self, keeper: Keeper) -> list[str]:
        """Flags for the next life of a part that died.

        They name the fastest engine for a daemon: to look for it takes seconds, in which spectra go by. If
        the daemon dies again it looks. A display that was seen opens no more browsers: its page comes back.
        """
        if keeper.part.role is Role.VIEW:
            given = any(flag.startswith("--no-browser") for flag in keeper.part.command)  # once at most
            return ["--no-browser"] if keeper.said.linked and not given else []
        named = any(flag.startswith("--engine=") for flag in keeper.part.command)
        if keeper.part.role is not Role.DAEMON or named or not self._engine or not keeper.restarts.first:
            return []
        return [f"--engine={self._engine}"]

    def _may_start(self, role: Role) -> bool:
        """Whether the parts before this one are ready, or were given time enough.

        The display subscribes to results, too. The daemon waits for the recorder and must not take the
        display for it. And the driver begins when there is somebody to show its first spectrum.
        """
        waited_s = time.monotonic() - self._begun
        if waited_s > PATIENCE_S:
            return True
        match role:
            case Role.VIEW:
                said = self.status or {}
                seen = bool(said.get("ready")) and not said.get("gathering")
                return seen or (not self._watched and waited_s > UNSEEN_S)
            case Role.DRIVER:
                return self._glance.shown or all(each.over for each in self._of(Role.VIEW))
            case _:
                return True

    def _why_end(self) -> str:
        """Why the instrument is to end, in words; empty if it is not."""
        if gone := [each for each in self.keepers if each.failed]:
            return f"the {gone[0].part.name} is given up"
        for role, what in ((Role.DRIVER, "has measured what it was to"), (Role.DAEMON, "was stopped")):
            parts = self._of(role)
            if parts and all(each.condition is Condition.ENDED for each in parts):
                return f"the {parts[0].part.name} {what}"
        return ""

    def _look_for_hang(self) -> None:
        """End a daemon that says that its loop stands still, so that it is started again."""
        if self._glance.asked == self._asked:
            return
        self._asked = self._glance.asked
        name = (self.status or {}).get("engine_name")
        self._engine = name if name in engine_names() else self._engine
        hangs = self.status is not None and self.status.get("alive") is False
        self._hanging = self._hanging + 1 if hangs else 0
        if self._hanging >= HANGS:
            self._hanging = 0
            for each in self._of(Role.DAEMON):
                each.hang("its loop does not turn")

    def _end(self) -> Iterator[None]:
        """One step after the other; yields while it waits."""
        for role in ENDING:
            parts = self._of(role)
            if role is Role.DAEMON:
                yield from self._drain()
            for each in parts:
                each.stop()
            begin = time.monotonic()
            while any(not each.over for each in parts):
                waited_s = time.monotonic() - begin
                if role is Role.DRIVER and self._paused and waited_s > UNREAD_S:
                    for each in self._of(Role.DAEMON):  # it reads again once it is stopped
                        each.stop()
                if waited_s > END_S:
                    for each in (each for each in parts if not each.over):
                        log.error("the %s did not end within %g s: it is killed", each.part.name, END_S)
                        each.kill()
                yield

    def _drain(self) -> Iterator[None]:
        """Until the daemon has published the run that the driver ended."""
        if not self._of(Role.DRIVER):
            return
        fresh = self._glance.asked + 2  # the answer under way may have been asked for before the driver ended
        deadline = time.monotonic() + DRAIN_S
        while any(each.pid is not None for each in self._watched):
            said = self.status if self._glance.asked >= fresh else None
            if said is not None and (said.get("run") is None or self._paused):
                return
            if time.monotonic() > deadline:
                log.warning("the daemon has not finished the run within %g s: it is stopped", DRAIN_S)
                return
            yield
