"""Fuzzes the wire format: whatever the bytes, decode gives a Message or raises ProtocolError.

python tests/scripts/fuzz_protocol.py --seconds 60 [--seed N]  mutations of the test vectors, no extra package
python tests/scripts/fuzz_protocol.py --atheris [libFuzzer flags]  guided by coverage, if atheris is installed

Exits with 1 and the message in hex at the first thing that must not happen.
"""

import argparse
import json
import random
import sys
import time
import warnings
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from cars_rt.protocol import Closed, Fault, Message, ProtocolError, RunReader, Start, decode, encode

Parts = list[bytes]

VECTORS = Path(__file__).parents[1] / "vectors"


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


#: What a header field should never be, and what it may only sometimes be.
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 127, 4096, 4097, 65_536, 65_537, 2**31, 2**53 - 1,
    2**53, 2**53 + 1, 2**62, 2**63 - 2,
    2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0.0, -0.0, 1.0, 0.5, 1e308, 5e-324,
    float("nan"), float("inf"), -float("inf"),
    "", "raw", "raman", "start", "frame", "end", "counts", "raman_shift", "dark", "uint8", "uint16",
    "float32", "float64", "complete", "run-1", "run-2", "\0", "a\nb", "µ", "x" * 64, "x" * 65,
    "x" * 1025, "x" * 40_000,
    b"", b"raw", b"\xff\xfe", [], {}, [1, 2], [0, 0], [1, 0], [-1, -1], [2**32, 2**32], [0, 2**40],
    [1.5, 2.5], [1] * 1025, {"a": "b"}, {"a": 1}, {b"a": "b"}, {"overload": 2**63},
    [["counts", "uint16", [2, 3]]], [["counts", "uint16", [2, 3], 4]], [[None, None, None]],
    deep(10), deep(400), deep(600),
    msgpack.ExtType(5, b"abc"), msgpack.Timestamp(1, 2),
]  # fmt: skip

#: Bytes that mean something to msgpack: lengths that lie, half texts, extension types.
TOKENS = [
    b"\xc0", b"\xc1", b"\xc3", b"\xcf" + b"\xff" * 8, b"\xd3\x80" + b"\0" * 7, b"\xcb\x7f\xf8" + b"\0" * 6,
    b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc7\x0c\xff" + b"\xff" * 12,
    b"\xd6\xff\0\0\0\0", b"\xd4\x05\0",
    b"\x81", b"\x9f", b"\xdc\xff\xff" * 500, b"\x91" * 2000, b"\xa4\xed\xa0\x80\x80", b"\xff", b"\0",
]  # fmt: skip


def corpus() -> list[Parts]:
    """The messages of the committed vectors, the valid ones first."""
    return [
        [bytes.fromhex(part) for part in vector["parts"]]
        for name in ("valid.json", "invalid.json")
        for vector in json.loads((VECTORS / name).read_text(encoding="utf-8"))
    ]


def mutate(rng: random.Random, messages: list[Parts]) -> Parts:
    """One message, changed a few times in the ways that senders and networks go wrong, and in some others."""
    parts = list(rng.choice(messages))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        rng.choice((_change_field, _change_field, _change_bytes, _change_bytes, _change_parts))(
            rng, parts, messages
        )
    return parts


def _change_field(rng: random.Random, parts: Parts, messages: list[Parts]) -> None:
    """Read the header, set, remove, rename or nest a value somewhere in it, and write it again."""
    try:
        header = msgpack.unpackb(parts[1], strict_map_key=False)
        at: Any = header
        within: Any = None
        key: Any = None
        while isinstance(at, dict | list) and at:
            within, key = at, rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
            at = within[key]
            if rng.random() < 0.5:
                break
        if within is None:
            raise IndexError
        match rng.randrange(6):
            case 0:
                del within[key]
            case 1 if isinstance(within, dict):
                within[rng.choice(["x", "lost", "arrays", "model", "", 7, -1, b"run", None, 1.5])] = at
            case 2 if isinstance(at, int | float) and type(at) is not bool:
                within[key] = at + rng.choice([1, -1, 0.5, 2**32, -at, at])
            case _:
                within[key] = rng.choice(ODD)
        parts[1] = msgpack.packb(header)
    except (IndexError, ValueError, TypeError, OverflowError, msgpack.UnpackException):
        _change_bytes(rng, parts, messages)


def _change_bytes(rng: random.Random, parts: Parts, messages: list[Parts]) -> None:
    """Flip bits, cut, insert, repeat, or put in a piece of another message."""
    if not parts:
        return
    number = min(rng.choice((0, 1, 1, 1, 2, 3)), len(parts) - 1)
    data = bytearray(parts[number])
    at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 64))
    match rng.randrange(7):
        case 0 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 1 if at < len(data):
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xC0, 0xFF, rng.randrange(256)))
        case 2:
            del data[at:]
        case 3:
            del data[at : at + length]
        case 4:
            data[at:at] = rng.choice(TOKENS)
        case 5:
            data[at:at] = data[at : at + length]
        case _:
            other = rng.choice(messages)
            piece = rng.choice(other) if other else rng.randbytes(length)
            begin = rng.randrange(len(piece) + 1)
            data[at : at + length] = piece[begin : begin + length]
    parts[number] = bytes(data)


def _change_parts(rng: random.Random, parts: Parts, messages: list[Parts]) -> None:
    """Drop, repeat, swap, add or replace whole parts."""
    other = rng.choice(messages) or [b""]
    match rng.randrange(5):
        case 0 if parts:
            del parts[rng.randrange(len(parts))]
        case 1 if parts:
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(parts))
        case 2 if len(parts) > 1:
            one, two = rng.sample(range(len(parts)), 2)
            parts[one], parts[two] = parts[two], parts[one]
        case 3 if parts:
            parts[rng.randrange(len(parts))] = rng.choice(other)
        case _:
            parts.insert(
                rng.randrange(len(parts) + 1), rng.choice([b"", rng.randbytes(24), rng.choice(other)])
            )


def same(one: Message, two: Message) -> bool:
    """Whether two messages say the same, bit by bit."""
    return type(one) is type(two) and all(
        _same_value(getattr(one, field.name), getattr(two, field.name)) for field in fields(one)
    )


def _same_value(one: Any, two: Any) -> bool:
    if isinstance(one, np.ndarray):
        return bool(
            isinstance(two, np.ndarray)
            and one.dtype == two.dtype
            and one.shape == two.shape
            and one.tobytes() == two.tobytes()
        )
    if isinstance(one, dict):
        return list(one) == list(two) and all(_same_value(one[key], two[key]) for key in one)
    return type(one) is type(two) and one == two


def check(parts: Parts, reader: RunReader) -> str:
    """Decode and read a message. Returns its kind or the fault; raises for what must not happen."""
    try:
        message = decode(parts)
    except ProtocolError as error:
        if not isinstance(error.fault, Fault) or not 0 < len(str(error)) < 4096:
            raise AssertionError(
                f"a fault without a name or with an endless text: {error.fault!r}"
            ) from error
        outcome = f"fault {error.fault}"
    else:
        outcome = type(message).__name__.lower()
        try:
            if not same(decode(encode(message)), message):
                raise AssertionError("what was read and written again is another message")
        except ProtocolError as error:
            # A header close to the limit may grow where defaults are written out.
            if error.fault != Fault.OVERSIZED:
                raise AssertionError(f"what was read cannot be written: {error}") from error
    for event in reader.read(parts):
        if isinstance(event, Start) and event.stream != reader.stream:
            raise AssertionError("a start of another stream was passed on")
        if (
            isinstance(event, Closed)
            and event.end.announced != event.ledger.spectra + event.ledger.total_lost
        ):
            raise AssertionError(f"spectra unaccounted for: {event.end}, {event.ledger}")
    return outcome


def run(seconds: float, seed: int) -> int:
    """Fuzz for a while. The exit status."""
    rng = random.Random(seed)
    messages = corpus()
    reader = RunReader("raw")
    seen: Counter[str] = Counter()
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        for _ in range(200):
            parts = mutate(rng, messages)
            try:
                seen[check(parts, reader)] += 1
            except Exception as error:
                print(f"FAILED after {seen.total()} executions, seed {seed}: {type(error).__name__}: {error}")
                print(json.dumps([part.hex() for part in parts]))
                return 1
    rate = seen.total() / (time.monotonic() - begin)
    print(f"{seen.total()} executions, {rate:.0f}/s, seed {seed}, nothing but messages and ProtocolError")
    for outcome, count in seen.most_common():
        print(f"{count:12d}  {outcome}")
    return 0


def run_atheris(flags: list[str]) -> int:
    """Fuzz with libFuzzer, guided by coverage. Its bytes are parts, each after its 2-byte length."""
    try:
        import atheris  # type: ignore[import-not-found]
    except ImportError:
        print("atheris is not installed: pip install atheris, or leave out --atheris", file=sys.stderr)
        return 2

    def one(data: bytes) -> None:
        parts = []
        while len(data) >= 2:
            length = int.from_bytes(data[:2], "little")
            parts.append(data[2 : 2 + length])
            data = data[2 + length :]
        check(parts, RunReader("raw"))

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *flags], one)
    atheris.Fuzz()
    return 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="the same seed gives the same messages")
    parser.add_argument("--atheris", action="store_true")
    settings, rest = parser.parse_known_args()
    warnings.simplefilter("error")
    if settings.atheris:
        return run_atheris(rest)
    if rest:
        parser.error(f"unknown: {' '.join(rest)}")
    return run(settings.seconds, random.randrange(2**32) if settings.seed is None else settings.seed)


if __name__ == "__main__":
    sys.exit(main())
