"""One part of a room: which command with which flags, and who has to listen before it begins."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a part is, in the order in which parts are started: who listens comes before who speaks."""

    RECORDER = "recorder"
    DAEMON = "daemon"
    VIEW = "view"
    DRIVER = "driver"


#: The order in which they end, so that everything that was measured arrives: along the stream.
ENDING = (Role.DRIVER, Role.DAEMON, Role.RECORDER, Role.VIEW)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A program of one instrument."""

    role: Role
    label: str = ""  # of the instrument; empty where there is one
    command: tuple[str, ...]  # behind `cars-rt`, with its flags
    hearers: tuple[Role, ...] = ()  # that it waits for, by --subscribers; none where the file gives that flag
    http: str | None = None  # HOST:PORT where it says how it is

    @property
    def name(self) -> str:
        """For people, and of its log."""
        return f"{self.role}-{self.label}" if self.label else str(self.role)
