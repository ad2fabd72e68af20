"""The short way for frames: it must say exactly what the long way says, whatever the bytes."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from scripts.fuzz_protocol import corpus, mutate, same

from cars_rt.accounting import Problem
from cars_rt.protocol import (
    Closed,
    End,
    Event,
    Frame,
    FrameWriter,
    ProtocolError,
    Reason,
    RunReader,
    Start,
    StreamName,
    encode,
)
from cars_rt.protocol.layout import LEARN_AFTER, FrameLayout

TIME = 1_700_000_000_123_456_789
LARGEST = 2**53
FIRSTS = [0, 200, 60_000, 70_000, 2**32 - 8, 2**40, LARGEST - 60]  # numbers of every width, and between two

Parts = list[bytes]


class LongWay(RunReader):
    """A reader that never takes the short way."""

    def read(self, parts: Any) -> list[Event]:
        self._missed = -1
        assert self._layout is None
        return super().read(parts)


def a_start(stream: StreamName, first: int) -> Start:
    dtype = "uint16" if stream == "raw" else "float32"
    axis = np.array([600.0, 1600.0, 3100.0])
    return Start(stream, "run-1", TIME, "camera", axis, dtype, 8, sequence=first, index=first)


def a_frame(stream: StreamName, number: int, spectra: int = 1, **given: Any) -> Frame:
    array = np.full((spectra, 3), number % 999, np.uint16 if stream == "raw" else np.float32)
    more: dict[str, Any] = {"arrays": {"counts" if stream == "raw" else "raman": array}}
    if stream == "raman":
        flags = np.full(spectra, number % 256, np.uint8)
        more["arrays"] |= {"flags": flags, "deviation": array / 7}
        more |= {"time_in_ns": TIME + 5, "time_out_ns": TIME + number % 1000, "lost": 3, "made_by": "cnn"}
    return Frame(**{"stream": stream, "run": "run-1", "sequence": number, "index": number,
                    "time_ns": TIME + number % 1000} | more | given)  # fmt: skip


def as_bytes(message: Any) -> Parts:
    return [bytes(part) for part in encode(message)]


def reordered(parts: Parts, rng: random.Random) -> Parts:
    """The same header as another sender might write it: other order of keys, a field of the future."""
    header = list(msgpack.unpackb(parts[1]).items())
    rng.shuffle(header)
    return [parts[0], msgpack.packb(dict(header) | {"future": [1, "x"]}), *parts[2:]]


def stream_of(stream: StreamName, first: int, foreign: bool) -> Iterator[Parts]:
    """A start, then frames in order for ever, as the sender writes them."""
    yield as_bytes(a_start(stream, first))
    number = first
    while True:
        parts = as_bytes(a_frame(stream, number))
        yield reordered(parts, random.Random(1)) if foreign else parts
        number += 1


def agree(one: list[Event], two: list[Event]) -> bool:
    return len(one) == len(two) and all(map(_agree, one, two))


def _agree(one: Event, two: Event) -> bool:
    if isinstance(one, Problem) or isinstance(two, Problem):
        return one == two
    if isinstance(one, Closed):
        return isinstance(two, Closed) and one.ledger == two.ledger and same(one.end, two.end)
    return not isinstance(two, Closed) and same(one, two)


def both(stream: StreamName, sent: Iterator[Parts], frames: int) -> tuple[RunReader, RunReader]:
    """Two readers that have seen the same, one of which has learned the layout."""
    short, long = RunReader(stream), LongWay(stream)
    for _ in range(1 + frames):
        parts = next(sent)
        assert agree(short.read(parts), long.read(parts))
    return short, long


@pytest.mark.parametrize("foreign", [False, True], ids=["our header", "another's"])
@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("stream", ["raw", "raman"])
def test_frames_in_order_are_read_alike(stream: StreamName, first: int, foreign: bool) -> None:
    sent = stream_of(stream, first, foreign)
    short, long = both(stream, sent, 2 * LEARN_AFTER)
    assert (short._layout is not None) == (first > 0)  # small numbers have no layout
    for _ in range(min(200, LARGEST - first - 2 * LEARN_AFTER)):
        parts = next(sent)
        one, two = short.read(parts), long.read(parts)
        assert agree(one, two)
        assert [type(event) for event in one] == [Frame]
    assert short.ledger == long.ledger


@pytest.mark.parametrize(("sequence", "index", "spectra"), [(40, 100, 1), (100, 40, 1), (100, 97, 3)])
def test_beyond_the_last_numbers_is_judged_alike(sequence: int, index: int, spectra: int) -> None:
    """Where sequence or index is so close to the limit that there is no room for the next frame's."""
    begin = replace(a_start("raw", LARGEST), sequence=LARGEST - sequence, index=LARGEST - index)
    short, long = both("raw", iter([as_bytes(begin)]), 0)
    refused = 0
    for number in range(45):
        topic, header, payload = as_bytes(a_frame("raw", 200, spectra))
        fields_ = msgpack.unpackb(header)
        fields_ |= {"sequence": begin.sequence + number, "index": begin.index + number * spectra}
        if max(fields_["sequence"], fields_["index"]) <= LARGEST:
            parts = [topic, msgpack.packb(fields_), payload]
            one, two = short.read(parts), long.read(parts)
            assert agree(one, two)
            refused += isinstance(one[0], Problem) and number > 0
    assert short._layout is not None and refused == 1


@pytest.mark.parametrize("number", [200, 70_000, LARGEST - 60])
@pytest.mark.parametrize("stream", ["raw", "raman"])
def test_the_short_way_is_taken(stream: StreamName, number: int) -> None:
    parts = as_bytes(a_frame(stream, number))
    layout = FrameLayout.of(a_frame(stream, number), parts)
    assert layout is not None
    again = layout.read(as_bytes(a_frame(stream, number + 1)), number + 1, number + 1)
    assert again is not None and same(again, a_frame(stream, number + 1))
    for array in again.arrays.values():
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize("foreign", [False, True], ids=["our header", "another's"])
@pytest.mark.parametrize("stream", ["raw", "raman"])
def test_mutated_frames_are_judged_alike(stream: StreamName, foreign: bool) -> None:
    """A stream in order, one mutated message in it, and the stream goes on."""
    rng, others = random.Random(5), corpus()
    surprises = 0
    for _ in range(500):
        sent = stream_of(stream, rng.choice(FIRSTS), foreign)
        short, long = both(stream, sent, LEARN_AFTER + rng.randrange(4))
        right = next(sent)
        wrong = mutate(rng, [right]) if rng.random() < 0.9 else mutate(rng, others)
        for parts in (wrong, right, next(sent)):
            one, two = short.read(parts), long.read(parts)
            assert agree(one, two), parts
            surprises += [type(event) for event in one] != [Frame]
        assert short.ledger == long.ledger
    assert surprises > 300


@pytest.mark.parametrize("stream", ["raw", "raman"])
def test_every_single_byte_is_judged_alike(stream: StreamName) -> None:
    """Each bit of the header of the next frame flipped, and each byte cut away."""
    sent = stream_of(stream, 70_000, foreign=False)
    history = [next(sent) for _ in range(1 + LEARN_AFTER)]
    topic, header, *payload = next(sent)
    flips = [bytes(b ^ (1 << bit) if n == at else b for n, b in enumerate(header))
             for at in range(len(header)) for bit in range(8)]  # fmt: skip
    cuts = [header[:at] + header[at + 1 :] for at in range(len(header))]
    for changed in flips + cuts:
        short, long = both(stream, iter(history), LEARN_AFTER)
        parts = [topic, changed, *payload]
        assert agree(short.read(parts), long.read(parts)), changed
        assert short.ledger == long.ledger


def test_parts_of_other_types_are_read_alike() -> None:
    for kind in (bytearray, memoryview, lambda part: memoryview(bytearray(part))):
        sent = stream_of("raw", 70_000, foreign=False)
        short, long = both("raw", sent, LEARN_AFTER)
        topic, header, payload = next(sent)
        parts = [topic, header, kind(payload)]
        one, two = short.read(parts), long.read(parts)
        assert agree(one, two)
        (frame,) = one
        assert isinstance(frame, Frame) and not frame.block.flags.writeable


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_counts_that_may_not_be_finite_always_go_the_long_way(dtype: str) -> None:
    counts = np.ones((1, 3), dtype)
    frame = a_frame("raw", 200, arrays={"counts": counts})
    assert FrameLayout.of(frame, as_bytes(frame)) is None


def test_a_run_does_not_inherit_the_layout_of_the_last_one() -> None:
    sent = stream_of("raw", 200, foreign=False)
    short, _ = both("raw", sent, LEARN_AFTER)
    assert short._layout is not None
    short.read(as_bytes(End("raw", "run-1", TIME, 200 + LEARN_AFTER, LEARN_AFTER, Reason.COMPLETE)))
    assert short.run is None and short._layout is None
    (problem,) = short.read(next(sent))
    assert isinstance(problem, Problem) and problem.kind == "after end"


ODD: dict[str, list[Any]] = {
    "stream": ["raw", "raman"],
    "run": ["run-2", "", "r\n", np.str_("run-1"), 7],
    "made_by": ["other", None, "", 3],
    "lost": [None, 0, 4, 3.0, True, -1, 2**63, np.int64(3)],
    **{key: [0, 1, -1, 255, 256, 2**32, LARGEST, 2**63, 1.0, True, None, np.int64(70_000), "x"]
       for key in ("sequence", "index", "time_ns", "time_in_ns", "time_out_ns")},
}  # fmt: skip
ODD_ARRAYS: list[Any] = [
    np.zeros((1, 3), np.float64), np.zeros((2, 3), np.float32), np.zeros((1, 4), np.float32),
    np.zeros((0, 3), np.float32), np.zeros(3, np.float32), np.zeros((1, 6), np.float32)[:, ::2],
    np.zeros((1, 3), ">f4"), np.zeros((1, 3), np.uint16), np.zeros((1, 3), object),
    np.zeros((3, 1), np.float32).T, np.ma.zeros((1, 3), np.float32),
    np.array([[1, np.nan, np.inf]], np.float32),
]  # fmt: skip


def written(write: Any, frame: Frame) -> Parts | str:
    """The bytes, or why there are none."""
    try:
        return [bytes(part) for part in write(frame)]
    except ProtocolError as error:
        return f"{error.fault}: {error}"


@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("stream", ["raw", "raman"])
def test_frames_are_written_alike(stream: StreamName, first: int) -> None:
    rng, writer = random.Random(first), FrameWriter()
    for number in range(first, min(first + 300, LARGEST - 1)):
        assert written(writer.encode, a_frame(stream, number)) == as_bytes(a_frame(stream, number))
        if rng.random() < 0.3:
            key = rng.choice([*ODD, "arrays"])
            arrays = {rng.choice(["counts", "raman"]): rng.choice(ODD_ARRAYS)}
            if rng.random() < 0.5:  # odd beside what is in order, or missing, or in another order
                arrays = dict(a_frame(stream, number).arrays)
                name = rng.choice([*arrays, "flags", "deviation"])
                odd_one = arrays.pop(name, None) if rng.random() < 0.3 else rng.choice(ODD_ARRAYS)
                arrays |= {} if odd_one is None else {name: odd_one}
            odd = {key: arrays if key == "arrays" else rng.choice(ODD[key])}
            frame = replace(a_frame(stream, number), **odd)
            try:
                expected = written(encode, frame)
            except Exception as error:  # what no caller gives; the writer shall not hide it
                with pytest.raises(type(error)):
                    writer.encode(frame)
            else:
                assert written(writer.encode, frame) == expected, frame


def test_the_short_way_is_taken_when_writing() -> None:
    writer = FrameWriter()
    for number in range(200, 201 + LEARN_AFTER):
        writer.encode(a_frame("raman", number))
    frame = a_frame("raman", 250)
    assert writer._like_the_last(frame) == encode(frame)
    for part, array in zip(writer.encode(frame)[2:], frame.arrays.values(), strict=True):
        assert np.shares_memory(np.frombuffer(part, np.uint8), array)
