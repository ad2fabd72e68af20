"""Addresses as people give them: checked before ZeroMQ sees them.

ZeroMQ takes tcp://localhost:99999 and publishes at port 34463, takes :80x for 80, and waits for ever for a
name that does not exist.
"""

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Any, Self

from cars_rt.errors import CarsRtError
from cars_rt.protocol import StreamName
from cars_rt.trust.loopback import is_loopback

RAW_ADDRESS = "tcp://127.0.0.1:5555"  # where drivers publish
RAMAN_ADDRESS = "tcp://127.0.0.1:5556"  # where the daemon publishes
PREVIEW_ADDRESS = "tcp://127.0.0.1:5557"  # where it publishes the preview
SPECTRA_ADDRESS = "tcp://127.0.0.1:5560"  # where it publishes whole spectra for displays
CONTROL_ADDRESS = "tcp://127.0.0.1:5558"  # where it takes requests
RECORDER_ADDRESS = "tcp://127.0.0.1:5559"  # where the recorder does

FORM = "give it as tcp://HOST:PORT"
ANY = "*"  # as a host: every address of this computer; as a port: one that the system chooses
LARGEST_PORT = 65_535
#: Hosts that are every address of this computer, and where its own programs find what is there.
EVERYWHERE = {ANY: "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


class AddressError(CarsRtError, ValueError):
    """What is no address, with the reason and the remedy in one sentence."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a socket binds or connects to."""

    host: str  # a name, an interface, a number without brackets, or ANY
    port: int  # 0: one that the system chooses

    @classmethod
    def to_bind(cls, text: str) -> Self:
        """Where to publish. Raises AddressError."""
        return cls._parse(text, f"cannot publish at {text}", binds=True)

    @classmethod
    def to_connect(cls, text: str) -> Self:
        """Where somebody publishes. Raises AddressError."""
        return cls._parse(text, f"cannot connect to {text!r}", binds=False)

    @classmethod
    def to_serve(cls, text: str) -> Self:
        """HOST:PORT, of HTTP. Raises AddressError."""
        cannot, form = f"cannot serve HTTP at {text!r}", "give it as HOST:PORT, or as none"
        if "/" in text:
            raise AddressError(f"{cannot}: {form}")
        return cls._split(text, cannot, form, binds=True)

    @classmethod
    def _parse(cls, text: str, cannot: str, *, binds: bool) -> Self:
        scheme, separator, rest = text.partition("://")
        if scheme != "tcp" or not separator:
            other = f"{scheme} is not supported, only tcp; " if separator else ""
            raise AddressError(f"{cannot}: {other}{FORM}")
        return cls._split(rest, cannot, FORM, binds=binds)

    @classmethod
    def _split(cls, text: str, cannot: str, form: str, *, binds: bool) -> Self:
        host, _, port = text.rpartition(":")
        if not host:
            raise AddressError(f"{cannot}: {form}")
        host = _host(host, cannot)
        if host == ANY and not binds:
            raise AddressError(f"{cannot}: * is every address of this computer; name one, such as 127.0.0.1")
        if port == ANY and binds:
            return cls(host, 0)
        if not (port.isascii() and port.isdecimal() and int(port[:9]) <= LARGEST_PORT and len(port) < 10):
            said = f"the port must be a number from 1 to {LARGEST_PORT}, not {port[:20]!r}"
            raise AddressError(f"{cannot}: {said}; {form}")
        if not int(port) and not binds:
            raise AddressError(f"{cannot}: nobody publishes at port 0; {form}")
        return cls(host, int(port))

    @property
    def local(self) -> str:
        """The host at which programs on this computer find what is bound there."""
        return EVERYWHERE.get(self.host, self.host)

    @property
    def v6(self) -> bool:
        """Whether the host is a number of IPv6."""
        return ":" in self.host

    def resolve(self) -> bool:
        """Whether to reach it by IPv6 alone. Raises OSError where the name does not exist."""
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return all(family == socket.AF_INET6 for family, *_ in found)

    def meets(self, other: "Address") -> bool:
        """Whether two sockets with these addresses would get into each other's way."""
        if not self.port or self.port != other.port:
            return False
        one, two = _plain(self.host), _plain(other.host)
        return one == two or ANY in (one, two)

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.v6 else self.host
        return f"tcp://{host}:{self.port or ANY}"


def _host(text: str, cannot: str) -> str:
    """Without brackets, checked."""
    bracketed = text.startswith("[") and text.endswith("]")
    inside = text[1:-1] if bracketed else text
    if bracketed or ":" in text:
        try:
            ipaddress.IPv6Address(inside)
        except ValueError:
            raise AddressError(f"{cannot}: {inside!r} is no address of IPv6, such as [::1]") from None
        if not bracketed:
            raise AddressError(f"{cannot}: an address of IPv6 stands in brackets, such as [{inside}]")
        return inside
    if text == ANY:
        return text
    if re.fullmatch(r"[0-9.]+", text):
        try:
            ipaddress.IPv4Address(text)
        except ValueError:
            raise AddressError(f"{cannot}: {text} is no address of IPv4, such as 127.0.0.1") from None
    elif not _NAME.fullmatch(text):
        raise AddressError(f"{cannot}: {text!r} is no name of a computer; {FORM}")
    return text


def _plain(host: str) -> str:
    """The host in a form that is equal for equal hosts."""
    if host in EVERYWHERE:
        return ANY
    return "localhost" if is_loopback(host) else host.lower()


def port_of(address: str) -> int:
    """The port of tcp://HOST:PORT; 0, which nobody has, of what has none."""
    port = address.rpartition(":")[2]
    return int(port) if port.isdecimal() else 0


def remedy(stream: StreamName) -> str:
    """Where a stream is, in a phrase, for whoever looks for it in the wrong place."""
    match stream:
        case "raw":
            return f"the raw stream is at the driver's --publish address, usually {RAW_ADDRESS}"
        case "raman":
            return f"the raman stream is at the daemon's --publish address, usually {RAMAN_ADDRESS}"
        case "preview":
            return f"the preview stream is at the daemon's --preview address, usually {PREVIEW_ADDRESS}"


def cannot_bind(doing: str, address: str, error: Any, in_use: str, how: str = "") -> str:
    """Why one cannot publish or serve something at an address, and what to do. error: an OSError or ZeroMQ's.
    in_use: if that is since another program has it. how: " with" the flag that another port is chosen by."""
    match error.errno:
        case errno.EADDRINUSE:
            reason = in_use
        case errno.EADDRNOTAVAIL | errno.ENODEV:
            reason = "this computer has no such address; 127.0.0.1 always works"
        case errno.EACCES:
            reason = f"the system does not allow it; choose a port above 1023{how}"
        case _:
            reason = str(error.strerror or error)
    return f"cannot {doing} at {address}: {reason}"
