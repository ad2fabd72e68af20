"""Connections that do what no program of CARS-RT does, byte by byte."""

import socket
import struct
from urllib.parse import urlsplit

import msgpack

OLD_GREETING = b"\x01\x00"  # of ZMTP 1.0: the length of an identity that is empty


def where(address: str) -> tuple[str, int]:
    """HOST and PORT of tcp://HOST:PORT."""
    split = urlsplit(address)
    return str(split.hostname), int(split.port or 0)


def connected(address: str) -> socket.socket:
    """A plain connection on tcp."""
    connection = socket.create_connection(where(address), 10)
    connection.settimeout(10)
    return connection


def handshaken(address: str, kind: bytes) -> socket.socket:
    """A peer of ZMTP 3.1 without keys, of this kind of socket, that has been let in."""
    connection = connected(address)
    shake(connection, kind)
    return connection


def shake(connection: socket.socket, kind: bytes) -> None:
    """Greeting and READY, as ZMTP 3.1 wants them."""
    connection.sendall(greeting())
    theirs = b""
    while len(theirs) < 64:
        more = connection.recv(64 - len(theirs))
        assert more, "cut off in the greeting"
        theirs += more
    connection.sendall(ready(kind))
    assert connection.recv(4096), "cut off after READY"


def greeting() -> bytes:
    """Of ZMTP 3.1, without keys."""
    return b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)


def ready(kind: bytes) -> bytes:
    """What follows it, of this kind of socket."""
    content = b"\x05READY" + b"\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    return bytes([4, len(content)]) + content


def part(content: bytes, more: bool) -> bytes:
    """A message part of ZMTP 3, of any length."""
    return struct.pack(">BQ", 2 | more, len(content)) + content


def old_part(content: bytes, more: bool = False) -> bytes:
    """A message part of ZMTP 1.0, shorter than 255 bytes."""
    return bytes([len(content) + 1, more]) + content


def smuggled(content: bytes) -> bytes:
    """The body of a request over HTTP in which a peer of ZMTP 1.0 finds a message, wherever its first parts
    end: a row of empty frames, on which each length in the header leads sooner or later."""
    return b"\x01" * 400 + b"\x03\x02\x01\x01" + old_part(b"", more=True) + old_part(content)


def a_request(do: str, **arguments: object) -> bytes:
    """A request to control, as a stranger would make it."""
    return bytes(msgpack.packb({"cars_rt": 1, "request": do, **arguments}))
