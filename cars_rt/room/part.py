"""One part of a room: which command with which flags, and who has to listen before it begins."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a part is. Parts are started in this order: those that listen before those that speak."""

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
    hearers: tuple[Role, ...] = ()  # parts it waits for (--subscribers); none if the file gives that flag
    http: str | None = None  # HOST:PORT at which it says how it is

    @property
    def name(self) -> str:
        """For people, and as the name of its log."""
        return f"{self.role}-{self.label}" if self.label else str(self.role)
