"""The values in a message's header, each checked by itself, from bytes of which nothing is known."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import msgpack

from cars_rt.kinds import Fault
from cars_rt.protocol.errors import ProtocolError
from cars_rt.protocol.limits import (
    MAX_CARD,
    MAX_COUNT,
    MAX_FACTS,
    MAX_HEADER_BYTES,
    MAX_ITEMS,
    MAX_NAME,
    MAX_TEXT,
    MAX_TIME,
    VERSION,
)
from cars_rt.protocol.messages import Facts

MAGIC = "cars_rt"  # the header key that holds the protocol version

Header: TypeAlias = dict[str, Any]
Part: TypeAlias = bytes | bytearray | memoryview
Number = TypeVar("Number", int, float)


def unpack(part: Part) -> Header:
    """The header in this part of a message, of our protocol version. Raises ProtocolError, as all here."""
    if len(part) > MAX_HEADER_BYTES:
        raise ProtocolError(Fault.OVERSIZED, f"header of {len(part)} bytes, the limit is {MAX_HEADER_BYTES}")
    try:
        header = msgpack.unpackb(
            part, raw=False, strict_map_key=True, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(Fault.HEADER, f"the header is not msgpack ({type(error).__name__})") from None
    if not isinstance(header, dict):
        raise ProtocolError(Fault.HEADER, "the header is not a msgpack map")
    if MAGIC not in header:
        raise ProtocolError(Fault.MAGIC, f"not a CARS-RT message: the header has no key {MAGIC!r}")
    version = header[MAGIC]
    if type(version) is not int or version != VERSION:
        shown = version if type(version) is int else type(version).__name__
        raise ProtocolError(Fault.VERSION, f"protocol version {shown}; this program speaks version {VERSION}")
    return header


def text_of(header: Header, key: str, limit: int = MAX_TEXT) -> str:
    """A text of at most `limit` characters."""
    value = header.get(key)
    if not isinstance(value, str):
        raise ProtocolError(Fault.FIELD, f"{key} must be text")
    if len(value) > limit:
        raise ProtocolError(Fault.OVERSIZED, f"{key} has {len(value)} characters, the limit is {limit}")
    return value


def name_of(value: object, what: str) -> str:
    """A word that programs compare and that is safe to print."""
    if not isinstance(value, str) or not (
        0 < len(value) <= MAX_NAME and value.isascii() and value.isprintable()
    ):
        raise ProtocolError(Fault.FIELD, f"{what} must be 1 to {MAX_NAME} printable ASCII characters")
    return value


def count_of(header: Header, key: str, most: int = MAX_COUNT, shown: str = "2**53") -> int:
    """A number of things, at most `most`. Error texts call that limit `shown`."""
    value = header.get(key)
    if type(value) is not int or not 0 <= value <= most:
        lacks = ", and is missing" if value is None else ""
        raise ProtocolError(Fault.FIELD, f"{key} must be an integer from 0 to {shown}{lacks}")
    return value


def optional_count(header: Header, key: str) -> int | None:
    """The same, or None."""
    return None if header.get(key) is None else count_of(header, key)


def time_of(header: Header, key: str) -> int:
    """Nanoseconds since 1970."""
    return count_of(header, key, MAX_TIME, "2**63 - 1")


def optional_time(header: Header, key: str) -> int | None:
    """The same, or None."""
    return None if header.get(key) is None else time_of(header, key)


def positive(header: Header, key: str) -> float | None:
    """A positive finite number, or None."""
    value = header.get(key)
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
        raise ProtocolError(Fault.FIELD, f"{key} must be a positive number")
    return float(value)


def pair(header: Header, key: str, kind: type[Number]) -> tuple[Number, Number] | None:
    """Two positive numbers of one kind, or None."""
    value = header.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise ProtocolError(Fault.FIELD, f"{key} must be two numbers")
    accepted = (int,) if kind is int else (int, float)
    if not all(type(number) in accepted and 0 < kind(number) <= MAX_COUNT for number in value):
        raise ProtocolError(Fault.FIELD, f"{key} must be two positive numbers")
    return kind(value[0]), kind(value[1])


def texts(header: Header, key: str) -> dict[str, str] | None:
    """Names to texts, or None."""
    value = header.get(key)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ProtocolError(Fault.FIELD, f"{key} must be a map of texts")
    return {name_of(name, f"a key of {key}"): text_of(value, name, MAX_CARD) for name in value}


def facts(header: Header, key: str) -> Facts | None:
    """See check_facts; None where there are none."""
    value = header.get(key)
    return None if value is None else check_facts(value, key)


def check_facts(value: object, what: str) -> Facts:
    """A map of at most MAX_FACTS names to texts, finite numbers or short lists of them, from elsewhere.

    Raises ProtocolError.
    """
    if not isinstance(value, Mapping):
        raise ProtocolError(Fault.FIELD, f"{what} must be a map")
    if len(value) > MAX_FACTS:
        raise ProtocolError(Fault.OVERSIZED, f"{what} has {len(value)} entries, the limit is {MAX_FACTS}")
    return {
        name_of(name, f"a key of {what}"): _fact(fact, f"{name} of {what}") for name, fact in value.items()
    }


def _fact(value: object, what: str) -> str | int | float | list[float]:
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise ProtocolError(
                Fault.OVERSIZED, f"{what} has {len(value)} characters, the limit is {MAX_TEXT}"
            )
        return value
    if isinstance(value, list):
        if len(value) > MAX_FACTS:
            raise ProtocolError(Fault.OVERSIZED, f"{what} has {len(value)} numbers, the limit is {MAX_FACTS}")
        return [_finite(each, what) for each in value]
    return _finite(value, what)


def _finite(value: object, what: str) -> int | float:
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int and -MAX_COUNT <= value <= MAX_TIME:
        return value
    raise ProtocolError(Fault.FIELD, f"{what} must be text, a finite number, or a list of such numbers")
