"""Which address each part of an instrument gets. Pure.

They are the commands' defaults, with ports that are 100 higher for each further instrument. What the file
says for one end holds for the other end, too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cars_rt.room.part import Role
from cars_rt.sockets import RAW_ADDRESS
from cars_rt.sockets.addresses import ANY

STEP = 100  # from the ports of one instrument to those of the next
ADDRESS = re.compile(r"(?:tcp://)?[^\s/]+:\d{1,5}")
#: The flags for a part's own addresses; all other addresses are those of other parts.
BINDS = {
    Role.DRIVER: ("publish",),
    Role.DAEMON: ("publish", "preview", "spectra", "control", "http"),
    Role.RECORDER: ("control",),
    Role.VIEW: ("http",),
}


@dataclass(frozen=True)
class Ends:
    """The addresses of one part, by flag."""

    role: Role
    defaults: Mapping[str, str]  # those of its command
    given: Mapping[str, str] = field(default_factory=dict)  # those that the file gives


def is_address(value: object) -> bool:
    """Whether the default of a flag is an address."""
    return isinstance(value, str) and ADDRESS.fullmatch(value) is not None


def shifted(address: str, number: int) -> str:
    """The same address for the instrument of this number, from 0 on."""
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + STEP * number}"


def wire(number: int, parts: Sequence[Ends]) -> list[dict[str, str]]:
    """The addresses that each part of the instrument of this number gets, by flag; not those given."""
    meant = {default: shifted(default, number) for part in parts for default in part.defaults.values()}
    for part in parts:
        if part.role is Role.DAEMON and "listen" in part.given:  # the driver is not of this room
            meant[RAW_ADDRESS] = part.given["listen"]
    for part in parts:
        for flag in BINDS[part.role]:
            if flag in part.given and flag in part.defaults:
                meant[part.defaults[flag]] = part.given[flag]
    wired = []
    for part in parts:
        own = BINDS[part.role]
        wired.append(
            {
                flag: meant[default] if flag in own else reached(meant[default])
                for flag, default in part.defaults.items()
                if flag not in part.given
            }
        )
    return wired


def reached(address: str) -> str:
    """Where a program on this computer finds what is published at an address of all its interfaces."""
    head, separator, rest = address.rpartition("://")
    host, _, port = rest.rpartition(":")
    local = {ANY: "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host)
    return address if local is None else f"{head}{separator}{local}:{port}"
