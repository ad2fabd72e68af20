"""The wire format: the committed bytes, round trips, limits, nonsense, and the order of a run."""

import json
import random
import re
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays_of
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripts.fuzz_protocol import ODD, check, corpus, deep, mutate, same

from cars_rt.accounting import Cause, Ledger, Problem, Range
from cars_rt.protocol import (
    DTYPES,
    MAX_BLOCK,
    MAX_PAYLOAD_BYTES,
    MAX_PIXELS,
    VERSION,
    Band,
    Closed,
    End,
    Event,
    Fault,
    Frame,
    Message,
    ProtocolError,
    Reason,
    RunReader,
    Start,
    decode,
    encode,
    limits,
    topic,
)
from cars_rt.protocol.messages import DELAYS, FLAGS, MAIN_ARRAY, NETWORK_OUTPUTS
from cars_rt.sockets import Subscriber

VECTORS = Path(__file__).parents[1] / "vectors"
VALID: list[dict[str, Any]] = json.loads((VECTORS / "valid.json").read_text(encoding="utf-8"))
INVALID: list[dict[str, Any]] = json.loads((VECTORS / "invalid.json").read_text(encoding="utf-8"))

TIME = 1_700_000_000_000_000_000


def parts_of(message: Message) -> list[bytes]:
    """The message as a socket delivers it."""
    return [bytes(part) for part in encode(message)]


def a_start(**fields: Any) -> Start:
    """A start of the raw stream: 3 pixels of uint16, up to 8 spectra in a frame."""
    start = Start("raw", "run-1", TIME, "camera", np.array([600.0, 1600.0, 3100.0]), "uint16", 8)
    return replace(start, **fields)


def a_frame(sequence: int = 0, index: int = 0, spectra: int = 1, **fields: Any) -> Frame:
    """A frame that belongs to a_start."""
    frame = Frame("raw", "run-1", sequence, index, TIME, {"counts": np.full((spectra, 3), 258, np.uint16)})
    return replace(frame, **fields)


def an_end(frames: int = 0, spectra: int = 0, **fields: Any) -> End:
    """The end of a_start's run."""
    return replace(End("raw", "run-1", TIME, frames, spectra, Reason.COMPLETE), **fields)


def fault_of(parts: list[Any]) -> Fault:
    """The fault of a message that must be refused."""
    with pytest.raises(ProtocolError) as caught:
        decode(parts)
    return caught.value.fault


def changed(message: Message, *removed: str, **fields: Any) -> list[bytes]:
    """The parts of a message with header fields replaced or removed, unchecked."""
    parts = parts_of(message)
    header = msgpack.unpackb(parts[1]) | fields
    parts[1] = msgpack.packb({key: value for key, value in header.items() if key not in removed})
    return parts


# -- the committed bytes ------------------------------------------------------------------------------


def vector_message(vector: dict[str, Any]) -> Message:
    """The message that a vector describes, built from its readable half alone."""
    fields = {key: value for key, value in vector["header"].items() if value is not None}
    arrays = {
        name: np.array(array["values"], DTYPES[array["dtype"]]).reshape(array["shape"])
        for name, array in vector["arrays"].items()
    }
    kind = fields["kind"]
    for key in ("cars_rt", "kind", "arrays", "future", "x"):
        fields.pop(key, None)
    if kind == "start":
        for key in ("scan", "step_um"):
            if key in fields:
                fields[key] = tuple(fields[key])
        return Start(**fields, raman_shift=arrays["raman_shift"], dark=arrays.get("dark"))
    if kind == "frame":
        if "bands" in fields:
            fields["bands"] = tuple(Band(*each) for each in fields["bands"])
        return Frame(**fields, arrays=arrays)
    ranges = tuple(Range(*each) for each in fields.get("ranges", ()))
    return End(**fields | {"reason": Reason(fields["reason"]), "ranges": ranges})


@pytest.mark.parametrize("vector", VALID, ids=lambda vector: vector["name"])
def test_committed_bytes_mean_what_they_say(vector: dict[str, Any]) -> None:
    parts = [bytes.fromhex(part) for part in vector["parts"]]
    assert same(decode(parts), vector_message(vector))


@pytest.mark.parametrize(
    "vector", [vector for vector in VALID if vector["canonical"]], ids=lambda vector: vector["name"]
)
def test_messages_become_the_committed_bytes(vector: dict[str, Any]) -> None:
    assert [part.hex() for part in parts_of(vector_message(vector))] == vector["parts"]


@pytest.mark.parametrize("vector", INVALID, ids=lambda vector: vector["name"])
def test_committed_bytes_are_refused_with_their_fault(vector: dict[str, Any]) -> None:
    assert fault_of([bytes.fromhex(part) for part in vector["parts"]]) == vector["fault"]


def test_vectors_cover_every_fault_field_and_dtype() -> None:
    assert {vector["fault"] for vector in INVALID} == set(Fault)
    written = {(v["header"]["kind"], key) for v in VALID if v["canonical"] for key in v["header"]}
    for kind, message in (("start", Start), ("frame", Frame), ("end", End)):
        fields = set(message.__dataclass_fields__) - {"arrays", "raman_shift", "dark"}
        assert fields <= {key for owner, key in written if owner == kind}
    main = {array["dtype"] for v in VALID for name, array in v["arrays"].items() if name == "counts"}
    assert main == set(DTYPES)


def test_generator_writes_the_committed_vectors() -> None:
    scope: dict[str, Any] = {"__name__": "generate", "__file__": str(VECTORS / "generate.py")}
    exec(compile((VECTORS / "generate.py").read_text(encoding="utf-8"), "generate.py", "exec"), scope)
    assert json.loads(json.dumps(scope["valid"]())) == VALID
    assert scope["invalid"]() == INVALID


# -- round trips --------------------------------------------------------------------------------------

COUNT, TIMES = st.integers(0, 2**53), st.integers(0, 2**63 - 1)
NAME = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
FACT = st.integers(-(2**53), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
SIZES = st.integers(1, 2**53)
METRES = st.floats(min_value=0, max_value=1e15, exclude_min=True)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def starts(draw: st.DrawFn) -> Start:
    shifts = st.floats(-limits.MAX_RAMAN_SHIFT, limits.MAX_RAMAN_SHIFT)
    axis = sorted(draw(st.lists(shifts, min_size=2, max_size=20, unique=True)), reverse=draw(st.booleans()))
    stream = draw(st.sampled_from(["raw", "raman"]))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    return Start(
        stream=stream,
        run=draw(NAME),
        time_ns=draw(TIMES),
        source=draw(TEXT),
        raman_shift=np.array(axis),
        dtype=draw(st.sampled_from([*DTYPES])) if stream == "raw" else "float32",
        block=draw(st.integers(1, MAX_BLOCK)),
        spectra=draw(maybe(COUNT)),
        scan=draw(maybe(st.tuples(SIZES, SIZES))),
        step_um=draw(maybe(st.tuples(METRES, METRES))),
        exposure_s=draw(maybe(POSITIVE)),
        full_scale=draw(maybe(POSITIVE)),
        dark=draw(maybe(arrays_of.arrays(np.float32, len(axis), elements=finite))),
        sequence=draw(COUNT),
        index=draw(COUNT),
        model=draw(maybe(st.dictionaries(NAME, TEXT, max_size=5))),
        calibration=draw(maybe(st.dictionaries(NAME, TEXT | FACT | st.lists(FACT, max_size=5), max_size=5))),
    )


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    stream = draw(st.sampled_from(["raw", "raman"]))
    main = MAIN_ARRAY[stream]
    spectra = draw(st.integers(1, 6))
    arrays = {main: draw(arrays_of.arrays(DTYPES[draw(st.sampled_from([*DTYPES]))], (spectra, 4)))}
    known = {main, FLAGS, DELAYS, *NETWORK_OUTPUTS}  # whose type and shape are given
    for name in draw(st.lists(NAME.filter(lambda name: name not in known), max_size=3, unique=True)):
        shape = draw(st.sampled_from([(spectra,), (spectra, 2), (spectra, 0)]))
        arrays[name] = draw(arrays_of.arrays(DTYPES[draw(st.sampled_from([*DTYPES]))], shape))
    return Frame(
        stream=stream,
        run=draw(NAME),
        sequence=draw(st.integers(0, 2**53 - 1)),
        index=draw(st.integers(0, 2**53 - 6)),
        time_ns=draw(TIMES),
        arrays=arrays,
        time_in_ns=draw(maybe(TIMES)),
        time_out_ns=draw(maybe(TIMES)),
        lost=draw(maybe(COUNT)),
    )


ENDS = st.builds(
    End,
    stream=st.sampled_from(["raw", "raman"]),
    run=NAME,
    time_ns=COUNT,
    frames=COUNT,
    spectra=COUNT,
    reason=st.sampled_from(Reason),
    announced=maybe(COUNT),
    lost=st.dictionaries(NAME, COUNT, max_size=6),
    ranges=st.lists(st.builds(Range, NAME, COUNT, COUNT), max_size=6).map(tuple),
)


@settings(max_examples=200, deadline=None)
@given(starts() | frames() | ENDS)
def test_what_is_written_is_read(message: Message) -> None:
    parts = parts_of(message)
    back = decode(parts)
    assert same(back, message)
    assert parts_of(back) == parts
    for kind in (bytearray, memoryview):
        assert same(decode([kind(part) for part in parts]), message)


def test_arrays_are_read_only_views_of_the_parts() -> None:
    parts = [bytearray(part) for part in encode(a_frame())]
    counts = decode(parts).counts  # type: ignore[union-attr]
    parts[2][0] = 7
    assert counts[0, 0] == 7 + 256
    with pytest.raises(ValueError, match="read-only"):
        counts[0, 0] = 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_any_memory_layout_is_sent_row_by_row_and_little_endian(order: str) -> None:
    counts = np.arange(24, dtype=f"{order}u2").reshape(4, 6)[::2, ::-2]
    back = decode(parts_of(a_frame(arrays={"counts": counts})))
    assert isinstance(back, Frame)
    assert (back.counts == counts).all()
    assert back.counts.dtype == np.dtype("<u2")


def test_contiguous_counts_are_sent_without_a_copy() -> None:
    counts = np.zeros((4, 6), np.uint16)
    assert np.shares_memory(np.frombuffer(encode(a_frame(arrays={"counts": counts}))[2]), counts)


def test_start_takes_numpy_numbers_and_other_float_types() -> None:
    start = a_start(
        spectra=np.prod((3, 4)), exposure_s=np.float32(0.5), raman_shift=np.array([600, 700, 800]),
        dark=np.array([1.0, 2.0, 3.0]),
    )  # fmt: skip
    back = decode(parts_of(start))
    assert isinstance(back, Start)
    assert back.dark is not None
    assert (back.spectra, back.exposure_s) == (12, 0.5)
    assert (back.raman_shift.dtype, back.dark.dtype) == (np.float64, np.float32)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (a_start(run=""), Fault.FIELD),
        (a_start(raman_shift=np.array([1.0, 1.0])), Fault.AXIS),
        (a_start(dtype="int16"), Fault.DTYPE),
        (a_start(block=MAX_BLOCK + 1), Fault.OVERSIZED),
        (a_start(source="\ud800"), Fault.FIELD),
        (a_start(source=object()), Fault.FIELD),
        (a_start(spectra=2**64), Fault.FIELD),
        (a_start(stream="raman", dtype="float32", model={"card": "x" * 40_000}), Fault.OVERSIZED),
        (a_start(model={str(n): "x" * 32_000 for n in range(3)}), Fault.OVERSIZED),
        (a_frame(run="r\n"), Fault.FIELD),
        (a_frame(sequence=-1), Fault.FIELD),
        (a_frame(index=2**53), Fault.FIELD),
        (a_frame(lost=1.5), Fault.FIELD),
        (a_frame(arrays={}), Fault.FIELD),
        (a_frame(spectra=0), Fault.SHAPE),
        (a_frame(spectra=MAX_BLOCK + 1), Fault.OVERSIZED),
        (a_frame(arrays={"counts": np.zeros(3, np.uint16)}), Fault.SHAPE),
        (a_frame(arrays={"counts": np.zeros((1, 3), np.int16)}), Fault.DTYPE),
        (a_frame(arrays={"counts": np.zeros((1, 3), object)}), Fault.DTYPE),
        (a_frame(arrays={"counts": np.zeros((1, MAX_PIXELS + 1), np.uint8)}), Fault.OVERSIZED),
        (a_frame(arrays={name: np.zeros((1, 3)) for name in ("counts", *"abcdef")}), Fault.PARTS),
        (a_frame(arrays={name: np.zeros((1, 3)) for name in ("counts", "\n")}), Fault.FIELD),
        (a_frame(arrays={"counts": np.zeros((1, 3)), "a": np.zeros((1, 1, 1))}), Fault.SHAPE),
        (an_end(spectra=-1), Fault.FIELD),
        (an_end(lost={"": 1}), Fault.FIELD),
    ],
)
def test_what_no_receiver_accepts_is_not_written(message: Message, fault: Fault) -> None:
    with pytest.raises(ProtocolError) as caught:
        encode(message)
    assert caught.value.fault == fault


# -- nonsense -----------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=80), max_size=8), st.sampled_from(["raw.start", "raw.frame", "raw.end", ""])
)
def test_random_bytes(parts: list[bytes], first: str) -> None:
    check(parts, RunReader("raw"))
    check([first.encode(), *parts], RunReader("raw"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXT | st.integers(0, 9) | st.binary(), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_valid_messages_with_any_value_in_any_field(data: st.DataObject) -> None:
    vector = data.draw(st.sampled_from(VALID))
    parts = [bytes.fromhex(part) for part in vector["parts"]]
    header = msgpack.unpackb(parts[1])
    key = data.draw(st.sampled_from(list(header)))
    header[key] = data.draw(VALUES)
    check([parts[0], msgpack.packb(header), *parts[2:]], RunReader("raw"))


@pytest.mark.parametrize("kind", ["start", "frame", "end"])
def test_every_field_refuses_odd_values_or_makes_sense_of_them(kind: str) -> None:
    for vector in VALID:
        if vector["header"]["kind"] == kind and vector["canonical"]:
            parts = [bytes.fromhex(part) for part in vector["parts"]]
            for key in vector["header"]:
                for value in ODD:
                    try:
                        header = msgpack.packb(vector["header"] | {key: value})
                    except ValueError:  # deeper than msgpack itself writes
                        continue
                    check([parts[0], header, *parts[2:]], RunReader("raw"))


def test_mutated_messages() -> None:
    rng, messages, reader = random.Random(2), corpus(), RunReader("raw")
    outcomes = {check(mutate(rng, messages), reader) for _ in range(30_000)}
    assert outcomes == {"start", "frame", "end", *(f"fault {fault}" for fault in Fault)}


# -- limits -------------------------------------------------------------------------------------------


def test_header_size() -> None:
    room = limits.MAX_HEADER_BYTES - len(changed(an_end(), future="")[1])
    fits = changed(an_end(), future="x" * (room - 2))  # the text's length takes two bytes more
    assert len(fits[1]) == limits.MAX_HEADER_BYTES
    assert isinstance(decode(fits), End)
    assert fault_of(changed(an_end(), future="x" * (room - 1))) == Fault.OVERSIZED


def test_pixels() -> None:
    axis = np.linspace(0, 4000, MAX_PIXELS + 1)
    largest = decode(parts_of(a_start(raman_shift=axis[:-1])))
    assert isinstance(largest, Start)
    assert largest.pixels == MAX_PIXELS
    arrays = [["raman_shift", "float64", [len(axis)]]]
    parts = changed(a_start(), arrays=arrays)
    assert fault_of([*parts[:2], axis.tobytes()]) == Fault.OVERSIZED
    wide = changed(a_frame(), arrays=[["counts", "uint8", [1, len(axis)]]])
    assert fault_of([*wide[:2], bytes(len(axis))]) == Fault.OVERSIZED


def test_block() -> None:
    assert isinstance(decode(parts_of(a_start(block=MAX_BLOCK))), Start)
    assert fault_of(changed(a_start(), block=MAX_BLOCK + 1)) == Fault.OVERSIZED
    assert isinstance(decode(parts_of(a_frame(spectra=MAX_BLOCK))), Frame)
    tall = changed(a_frame(), arrays=[["counts", "uint8", [MAX_BLOCK + 1, 1]]])
    assert fault_of([*tall[:2], bytes(MAX_BLOCK + 1)]) == Fault.OVERSIZED


@pytest.mark.parametrize(
    ("dtype", "bytes_each"), [("uint8", 4), ("uint16", 4), ("float32", 4), ("float64", 8)]
)
def test_a_start_announces_only_frames_that_fit_as_counts_and_as_result(dtype: str, bytes_each: int) -> None:
    pixels = 2**15
    axis = np.linspace(0, 4000, pixels)
    most = MAX_PAYLOAD_BYTES // pixels // bytes_each
    start = a_start(raman_shift=axis, dtype=dtype, block=most)
    assert isinstance(decode(parts_of(start)), Start)
    result = replace(start, stream="raman", dtype="float32")
    assert isinstance(decode(parts_of(result)), Start)
    assert fault_of(changed(start, block=most + 1)) == Fault.OVERSIZED


def test_payload() -> None:
    zeros = bytes(MAX_PAYLOAD_BYTES + 2)
    largest = changed(a_frame(), arrays=[["counts", "uint16", [1024, MAX_PAYLOAD_BYTES // 2048]]])
    assert isinstance(decode([*largest[:2], memoryview(zeros)[:-2]]), Frame)
    over = [["counts", "uint8", [1, 1]], ["more", "uint8", [1, MAX_PAYLOAD_BYTES + 1]]]
    parts = changed(a_frame(), arrays=over)
    assert fault_of([*parts[:2], b"\0", memoryview(zeros)[:-1]]) == Fault.OVERSIZED
    assert fault_of([*largest[:2], zeros]) == Fault.OVERSIZED


def test_texts_and_names() -> None:
    assert isinstance(decode(changed(a_start(), source="µ" * limits.MAX_TEXT)), Start)
    assert fault_of(changed(a_start(), source="µ" * (limits.MAX_TEXT + 1))) == Fault.OVERSIZED
    assert isinstance(decode(changed(a_start(), model={"card": "x" * limits.MAX_CARD})), Start)
    assert fault_of(changed(a_start(), model={"card": "x" * (limits.MAX_CARD + 1)})) == Fault.OVERSIZED
    assert isinstance(decode(changed(an_end(), run="r" * limits.MAX_NAME)), End)
    for name in ("", "r" * (limits.MAX_NAME + 1), "tab\t", "µ", b"bytes"):
        assert fault_of(changed(an_end(), run=name)) == Fault.FIELD
        assert fault_of(changed(an_end(), lost={name: 1})) == Fault.FIELD
        assert fault_of(changed(a_start(), model={name: "x"})) == Fault.FIELD
        assert fault_of(changed(a_frame(), arrays=[[name, "uint16", [1, 3]]])) == Fault.FIELD


LIES = [
    [2**63 - 1], [2**63 - 1, 2**63 - 1], [MAX_PAYLOAD_BYTES, 1], [4096, 65_536], [1, MAX_PAYLOAD_BYTES],
    [0, 2**62], [2**32, 2**32], [-1, -(2**40)],
]  # fmt: skip


@pytest.mark.parametrize("shape", LIES, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_a_lying_shape_costs_no_memory(shape: list[int], dtype: str) -> None:
    messages = [
        changed(a_frame(), arrays=[["counts", dtype, shape]]),
        [*changed(a_start(), arrays=[["raman_shift", "float64", [3]], ["dark", dtype, shape]]), b"\0" * 4],
    ]
    assert _peak(lambda: [fault_of(parts) for parts in messages]) < 200_000


@pytest.mark.parametrize(
    "lie",
    [b"\xdc\xff\xff" * 500, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
     b"\xdb\xff\xff\xff\xff", b"\xc6\x7f\xff\xff\xff"],
    ids=lambda lie: lie[:5].hex(),
)  # fmt: skip
def test_a_lying_header_costs_no_memory(lie: bytes) -> None:
    header = b"\x81\xa1x" + lie
    parts = [topic("raw", "end"), header + b"\xc0" * (limits.MAX_HEADER_BYTES - len(header))]
    assert _peak(lambda: fault_of(parts)) < 1_000_000


def test_a_deep_header() -> None:
    assert isinstance(decode(changed(an_end(), future=deep(400))), End)  # an unknown key is nobody's business
    header = msgpack.packb({"cars_rt": VERSION})[:-1] + b"\x91" * 60_000 + b"\xc0"
    assert fault_of([topic("raw", "end"), header]) == Fault.HEADER


def _peak(work: Callable[[], object]) -> int:
    """The most memory that was allocated at once, bytes."""
    work()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# -- the order of a run -------------------------------------------------------------------------------


@dataclass
class Read:
    """A reader and what it said."""

    reader: RunReader
    events: list[Event]

    @classmethod
    def of(cls, *messages: Message) -> "Read":
        reader = RunReader("raw")
        return cls(reader, [event for message in messages for event in reader.read(parts_of(message))])

    @property
    def passed(self) -> list[int]:
        return [event.index for event in self.events if isinstance(event, Frame)]

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events if isinstance(event, Problem)]

    @property
    def closed(self) -> Closed:
        (closed,) = (event for event in self.events if isinstance(event, Closed))
        return closed

    @property
    def lost(self) -> dict[str, int]:
        return dict(self.closed.ledger.lost)


def test_a_run_without_loss() -> None:
    read = Read.of(a_start(), a_frame(0, 0, 2), a_frame(1, 2, 3), an_end(2, 5, announced=5))
    assert [type(event) for event in read.events] == [Start, Frame, Frame, Closed]
    assert (read.closed.ledger.frames, read.closed.ledger.spectra, read.lost) == (2, 5, {})
    assert read.reader.run is None


def test_an_empty_run() -> None:
    read = Read.of(a_start(), an_end(0, 0))
    assert read.kinds == []
    assert read.closed.end.announced == 0


def test_a_gap_is_missing() -> None:
    read = Read.of(a_start(), a_frame(0, 0, 2), a_frame(3, 9, 1), an_end(4, 10, announced=10))
    assert read.kinds == ["sequence jump"]
    assert read.passed == [0, 9]
    assert read.lost == {"missing": 7}


def test_a_skip_of_the_source_is_upstream() -> None:
    read = Read.of(a_start(), a_frame(0, 4), a_frame(1, 10), an_end(2, 2, announced=11))
    assert read.kinds == ["source skip", "source skip"]
    assert read.lost == {"upstream": 9}


def test_totals_tell_upstream_loss_from_missing_frames() -> None:
    """A jump of both sequence and index hides how much of it the source had skipped: end says."""
    read = Read.of(a_start(), a_frame(0, 0), a_frame(3, 10), an_end(4, 4, announced=11))
    assert read.reader.run is None
    assert read.lost == {"missing": 2, "upstream": 7}


def test_without_announced_the_skips_that_were_seen_stay_upstream() -> None:
    read = Read.of(a_start(), a_frame(0, 0), a_frame(1, 4), an_end(3, 3))
    assert read.lost == {"upstream": 3, "missing": 1}
    assert read.closed.end.announced == 6


@pytest.mark.parametrize("again", [0, 1])
def test_a_repeat_and_a_straggler_are_not_passed_on(again: int) -> None:
    read = Read.of(a_start(), a_frame(0, 0), a_frame(1, 1), a_frame(again, again), an_end(2, 2))
    assert read.kinds == ["repeat"]
    assert read.passed == [0, 1]
    assert (read.lost, read.closed.ledger.surplus) == ({}, 1)


def test_an_index_that_counts_frames_is_explained() -> None:
    """The commonest mistake of a new driver: index + 1 for a block of four."""
    read = Read.of(
        a_start(), a_frame(0, 0, 4), a_frame(1, 1, 4), a_frame(2, 4, 4), an_end(3, 12, announced=12)
    )
    assert read.kinds == ["index back", "index back"]
    assert any("index counts spectra" in event.text for event in read.events if isinstance(event, Problem))
    assert read.passed == [0]
    assert read.lost == {"rejected": 8}


@pytest.mark.parametrize("lie", [{"index": 2**40}, {"sequence": 40, "index": 90}])
def test_a_damaged_number_costs_its_frame_and_not_all_that_follow(lie: dict[str, int]) -> None:
    frames = [replace(a_frame(n, n), **(lie if n == 3 else {})) for n in range(10)]
    read = Read.of(a_start(spectra=10), *frames, an_end(10, 10, announced=10))
    assert read.kinds == ["implausible", "sequence jump"]
    assert read.passed == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert read.lost == {"missing": 1} and read.closed.ledger.ranges == [("missing", 3, 1)]


@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("lost", [(), (101,), (99,)])
@pytest.mark.parametrize(
    "lie", [(2**40, 0), (50, 0), (-50, 0), (0, 50), (0, 1), (0, 2**40), (50, 50), (2**20, 2**30)]
)
def test_a_damaged_number_costs_nothing_if_the_next_frame_goes_on_from_before(
    lie: tuple[int, int], lost: tuple[int, ...], block: int
) -> None:
    """One that is too high was believed, and all frames after it were refused, to the end of the run."""
    frames = [
        replace(a_frame(n, n * block, block), time_ns=TIME + n * 10**6) for n in range(300) if n not in lost
    ]
    at = next(place for place, frame in enumerate(frames) if frame.sequence == 100)
    odd = frames[at]
    frames[at] = replace(odd, sequence=odd.sequence + lie[0], index=odd.index + lie[1])
    spectra = 300 * block
    read = Read.of(a_start(block=block), *frames, an_end(300, spectra, announced=spectra))
    ledger = read.closed.ledger
    assert ledger.spectra >= (300 - 2 * len(lost)) * block and not ledger.lost["upstream"]
    assert read.closed.end.announced == spectra == ledger.spectra + ledger.total_lost
    assert read.passed[-190:] == [n * block for n in range(110, 300)]
    if not lost:
        assert not ledger.lost and not ledger.ranges


@pytest.mark.parametrize("late_ms", [0, 3])
def test_a_copy_of_the_frame_after_a_loss_is_one(late_ms: int) -> None:
    """It was taken for one after damaged numbers: the loss was taken back, and the copy was passed on."""
    times = [TIME + n * 10**6 for n in range(20)]
    frames = [replace(a_frame(n, n), time_ns=times[n]) for n in range(20)]
    after = replace(frames[11], time_ns=frames[11].time_ns - (3 - late_ms) * 10**5)
    read = Read.of(a_start(), *frames[:10], after, after, *frames[12:], an_end(20, 20, announced=20))
    assert read.passed == [n for n in range(20) if n != 10] and read.lost == {"missing": 1}
    assert read.kinds == ["sequence jump", "repeat"]


@pytest.mark.parametrize("odd", [(0, -100), (-100, -100), (-50, 0)])
@pytest.mark.parametrize("lost", [99, 101])
def test_of_two_gaps_the_nearer_one_is_believed(odd: tuple[int, int], lost: int) -> None:
    """A damaged number beside a loss put the rest of the run elsewhere, and all was called complete."""
    frames = [replace(a_frame(n, n), time_ns=TIME + n * 10**6) for n in range(300)]
    frames[100] = replace(frames[100], sequence=100 + odd[0], index=100 + odd[1])
    read = Read.of(
        a_start(), *(f for n, f in enumerate(frames) if n != lost), an_end(300, 300, announced=300)
    )
    assert read.passed[-190:] == list(range(110, 300)) and read.closed.end.announced == 300
    assert read.closed.ledger.spectra >= 298


def test_one_frame_that_is_sent_again_with_another_time_costs_itself_alone() -> None:
    frames = [replace(a_frame(n, n), time_ns=TIME + n * 10**6) for n in range(40)]
    for again in 19, 18, 5:
        odd = replace(frames[again], time_ns=frames[19].time_ns + 1000)
        read = Read.of(a_start(), *frames[:20], odd, *frames[20:])
        assert read.passed == list(range(40)) and dict(read.reader.ledger.lost) == {"rejected": 1}


def test_a_jump_beyond_the_plan_is_believed_when_the_next_frame_bears_it_out() -> None:
    frames = [a_frame(n, n) for n in (0, 1, 2, 12, 13, 14, 15)]
    read = Read.of(a_start(spectra=5), *frames, an_end(16, 16, announced=16))
    assert read.kinds == ["implausible", "sequence jump"]
    assert read.passed == [0, 1, 2, 13, 14, 15]
    assert read.lost == {"missing": 10} and read.closed.ledger.ranges == [("missing", 3, 10)]


def test_a_publisher_that_was_restarted_leaves_a_gap_and_is_no_liar() -> None:
    """It joined late itself: spectra 2 to 4 went by, and its end counts what it sent since."""
    before, after = (a_frame(n, n) for n in (0, 1)), (a_frame(n, n) for n in (5, 6, 7))
    end = an_end(8, 3, announced=8, lost={"missing": 5})
    read = Read.of(a_start(), *before, a_start(sequence=5, index=5), *after, end)
    assert read.kinds == ["sequence jump"] and read.passed == [0, 1, 5, 6, 7]
    assert read.lost == {"missing": 3} and read.closed.ledger.ranges == [("missing", 2, 3)]


def test_a_publisher_that_was_restarted_may_have_joined_more_or_less_before() -> None:
    """Its sequence jumps further than its index, which a start that was said again explains."""
    before, after = (a_frame(0, 0, 3), a_frame(1, 3, 2)), (a_frame(9, 9, 2), a_frame(10, 11, 4))
    end = an_end(11, 6, announced=15, lost={"missing": 9})
    read = Read.of(a_start(), *before, a_start(sequence=9, index=9), *after, end)
    assert read.kinds == ["sequence jump"] and read.passed == [0, 3, 9, 11]
    assert read.lost == {"missing": 4} and read.closed.ledger.ranges == [("missing", 5, 4)]
    alone = [a_frame(0, 300, 3), a_frame(1, 303, 2), a_frame(9, 306, 2), a_frame(10, 308, 4)]
    lone = Read.of(a_start(index=300), *alone)
    assert lone.kinds == ["joined late", "implausible", "sequence jump"] and lone.passed == [300, 303, 308]


def test_a_publisher_that_was_restarted_without_a_loss_is_no_trouble() -> None:
    """It numbers its frames otherwise, and each spectrum came: there was a warning that 0 were missing."""
    before, after = (a_frame(0, 0, 3), a_frame(1, 3, 2)), (a_frame(9, 5, 2), a_frame(10, 7, 4))
    end = an_end(11, 6, announced=11, lost={"missing": 5})
    read = Read.of(a_start(), *before, a_start(sequence=9, index=5), *after, end)
    assert read.kinds == [] and read.passed == [0, 3, 5, 7] and read.lost == {}


def test_joined_blocks_keep_the_time_of_each_spectrum() -> None:
    delays = np.array([0.0, 0.001000001, -0.5])
    arrays = {"raman": np.zeros((3, 3), np.float32), "delays": delays}
    (joined,) = (decode(parts_of(Frame("raman", "run-1", 0, 0, TIME, arrays))),)
    assert isinstance(joined, Frame)
    assert joined.times_ns.tolist() == [TIME, TIME + 1_000_001, TIME - 500_000_000]
    assert a_frame(0, 0, 2).times_ns.tolist() == [TIME, TIME]


def test_what_comes_outside_of_runs_is_not_the_runs() -> None:
    other = a_frame(1, 1, run="other")
    read = Read.of(a_frame(), a_start(), an_end(), a_frame(), other)
    assert read.kinds == ["unknown run", "after end", "unknown run"]
    assert not read.closed.ledger.problems


def test_a_missing_tail_is_settled_at_the_end() -> None:
    read = Read.of(a_start(), a_frame(0, 0, 2), an_end(3, 6, announced=8, lost={"overload": 2}))
    assert read.kinds == ["tail missing"]
    assert read.lost == {"missing": 4, "upstream": 2}


def test_the_start_said_again_is_ignored() -> None:
    again = a_start(sequence=1, index=2)
    read = Read.of(a_start(), a_frame(0, 0, 2), again, a_frame(1, 2), an_end(2, 3))
    assert [type(event) for event in read.events] == [Start, Frame, Frame, Closed]
    assert read.lost == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dark": np.full(3, 300, np.float32)}, "dark"),
        ({"exposure_s": 0.5}, "exposure_s (0.5 instead of "),
        ({"full_scale": 4095.0}, "full_scale (4095 instead of none)"),
        ({"step_um": (0.5, 0.25)}, "step_um (0.5 x 0.25 instead of "),
        ({"scan": (5, 7)}, "scan (5 x 7 instead of "),
        ({"spectra": 3}, "spectra (3 instead of "),
        ({"block": 2}, "block (2 instead of "),
        ({"source": "another"}, "source ('another' instead of "),
        ({"time_ns": TIME + 1}, f"time_ns ({TIME + 1} instead of "),
        ({"instrument": {"gain": 3}}, "instrument"),
        ({"calibration": {"id": "other"}}, "calibration"),
    ],
)
def test_what_is_other_in_a_start_said_again_is_told_once(change: dict[str, Any], said: str) -> None:
    """The first value holds: results go on, and nobody finds out later that another one was said."""
    first, again = a_start(), a_start(sequence=1, index=2, **change)
    read = Read.of(first, a_frame(0, 0, 2), again, a_frame(1, 2), again, a_frame(2, 3), an_end(3, 4))
    assert read.kinds == ["start changed"] and read.passed == [0, 2, 3] and read.lost == {}
    problem = read.events[2]
    assert isinstance(problem, Problem) and problem.heading == "start changed"
    assert f"with another {said}" in problem.text and "what it was at first holds" in problem.text
    both = a_start(sequence=3, index=4, **change | {"full_scale": 77.0, "exposure_s": 0.7})
    assert Read.of(first, again, both, both).kinds == ["start changed"] * 2  # another field is told, too


def test_the_model_may_be_another_where_a_daemon_goes_on() -> None:
    """Each frame of results says what computed it."""
    first = a_start(stream="raman", dtype="float32", model={"name": "cnn"})
    reader = RunReader("raman")
    events = [*reader.accept(first), *reader.accept(replace(first, sequence=1, model={"name": "rnn"}))]
    assert [type(event) for event in events] == [Start]


def test_spectra_whose_axis_changes_within_the_run_are_refused() -> None:
    """Taken with the axis of before they would be other spectra, and nobody would know."""
    axis = a_start().raman_shift
    for changed in (axis + 100, axis[:-1]):
        again = a_start(sequence=1, index=2, raman_shift=changed)
        end = an_end(3, 4, announced=4)
        read = Read.of(a_start(), a_frame(0, 0, 2), again, a_frame(1, 2), again, a_frame(2, 3), end)
        assert read.passed == [0] and read.lost == {"rejected": 2}
        assert read.kinds == ["second start"] * 3
        assert "another axis; its spectra are refused" in read.events[2].text
    read = Read.of(a_start(), again, an_end(0, 0), a_start(), a_frame(0, 0), an_end(1, 1))
    assert read.passed == [0]  # the next run begins anew


def test_a_driver_that_begins_anew_with_the_same_run_is_refused_also_beyond_where_it_had_been() -> None:
    """Half of its new run was taken for the rest of the old one, under one index range."""
    old = [replace(a_frame(number, number), time_ns=TIME + number) for number in range(50)]
    later = TIME + 10**10
    new = [replace(a_frame(number, number), time_ns=later + number) for number in range(80)]
    end = an_end(80, 80, announced=80)
    read = Read.of(a_start(), *old, a_start(time_ns=later), *new, end)
    assert read.passed == list(range(50)) and read.lost == {"rejected": 80}
    assert set(read.kinds) >= {"start changed", "number back", "wrong totals"}


def test_a_late_subscriber_misses_the_beginning() -> None:
    read = Read.of(a_start(sequence=5, index=20), a_frame(5, 20, 2), an_end(6, 20, announced=22))
    assert read.kinds == ["joined late"]
    assert read.passed == [20]
    assert read.lost == {"missing": 18, "upstream": 2}


def test_a_second_start_interrupts_the_first_run() -> None:
    second = a_start(run="run-2", time_ns=TIME + 5)
    read = Read.of(a_start(), a_frame(0, 3, 2), second, a_frame(0, 0, run="run-2"))
    assert [type(event) for event in read.events] == [Start, Problem, Frame, Problem, Closed, Start, Frame]
    assert read.kinds == ["source skip", "second start"]
    end = read.closed.end
    assert (end.run, end.reason, end.time_ns) == ("run-1", Reason.INTERRUPTED, TIME + 5)
    assert (end.frames, end.spectra, end.announced, end.lost) == (1, 2, 5, {"upstream": 3})
    assert read.reader.run is not None
    assert read.reader.ledger.spectra == 1


def test_messages_of_another_run_change_nothing_here() -> None:
    other = a_frame(0, 0, 8, run="other")
    read = Read.of(other, a_start(), other, an_end(1, 9, run="other"), a_frame(0, 0), an_end(1, 1))
    assert read.kinds == ["unknown run"] * 3
    assert read.passed == [0]
    assert read.lost == {}
    assert read.closed.ledger.problems == {"unknown run": 2}


def test_stragglers_of_the_run_before() -> None:
    read = Read.of(a_start(), an_end(0, 0), a_frame(0, 0), an_end(0, 0))
    assert read.kinds == ["after end"]


def test_an_id_used_twice_is_a_new_run() -> None:
    run = (a_start(), a_frame(0, 0), an_end(1, 1))
    events = Read.of(*run, *run).events
    assert [type(event) for event in events] == [Start, Frame, Closed] * 2


def test_a_start_that_its_end_overtook_is_no_second_run() -> None:
    """Of a driver that says it from a loop of its own. All spectra of the run were missing once more."""
    run, late = (a_start(), a_frame(0, 0, 2), an_end(1, 2)), a_start(sequence=1, index=2)
    read = Read.of(*run, late, a_start(run="run-2"), late, a_frame(0, 0, run="run-2"))
    assert [type(event) for event in read.events] == [Start, Frame, Closed, Problem, Start, Problem, Frame]
    assert read.kinds == ["after end"] * 2
    for other in (replace(late, index=1), replace(late, time_ns=TIME + 1)):  # the id was used again
        assert Read.of(*run, other).kinds == ["joined late"]
    goes_on = Read.of(*run, late, a_frame(0, 0, 2), a_frame(1, 2), a_frame(2, 3))
    assert goes_on.kinds == ["after end", "after end", "joined late"] and goes_on.passed == [0, 2, 3]
    reader = RunReader("raw")
    assert reader.accept(a_start()) and reader.interrupt(TIME)
    assert isinstance(reader.accept(late)[0], Start)


@pytest.mark.parametrize(("reason", "goes_on"), [(Reason.STOPPED, True), (Reason.COMPLETE, False)])
def test_results_may_go_on_after_a_daemon_was_stopped(reason: Reason, goes_on: bool) -> None:
    """The next one has the same run, and begins where it came."""
    first, reader = a_start(stream="raman", dtype="float32", model={"name": "cnn"}), RunReader("raman")
    assert reader.accept(first) and reader.accept(an_end(0, 2, stream="raman", reason=reason))
    assert isinstance(reader.accept(replace(first, sequence=2, index=2))[0], Start) is goes_on


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (np.zeros((1, 3), np.uint8), "dtype"),
        (np.zeros((1, 4), np.uint16), "shape"),
        (np.zeros((1, 0), np.uint16), "shape"),
        (np.zeros((9, 3), np.uint16), "shape"),
    ],
)
def test_a_frame_that_start_did_not_announce_is_rejected(wrong: Any, kind: str) -> None:
    spectra = len(wrong)
    read = Read.of(a_start(), a_frame(arrays={"counts": wrong}), a_frame(1, spectra), an_end(2, spectra + 1))
    assert read.kinds == [kind]
    assert read.passed == [spectra]
    assert read.lost == {"rejected": spectra}


@pytest.mark.parametrize("at", [0, 3, 9])
@pytest.mark.parametrize(
    ("shape", "held"),
    [
        ((64, 4), 4), ((64, 3), 3), ((4, 63), 4), ((3, 63), 4), ((70, 60), 4), ((5, 64), 4), ((9, 64), 4),
        ((9, 64), 9), ((5, 64), 5),
    ],
)  # fmt: skip
def test_a_frame_of_a_wrong_shape_moves_no_spectrum_after_it(
    shape: tuple[int, int], held: int, at: int
) -> None:
    """Its shape says nothing of its length: the next one's index does, or the end."""
    start = a_start(raman_shift=np.linspace(600, 3100, 64), block=4, spectra=36 + held)
    sizes = [held if number == at else 4 for number in range(10)]
    indices = [sum(sizes[:number]) for number in range(11)]
    frames = [
        a_frame(
            number,
            indices[number],
            time_ns=TIME + number,
            arrays={"counts": np.ones(shape if number == at else (4, 64), np.uint16)},
        )
        for number in range(10)
    ]
    for ends in (an_end(10, indices[10]), an_end(10, indices[10], announced=indices[10])):
        read = Read.of(start, *frames, ends)
        assert read.passed == [index for number, index in enumerate(indices[:10]) if number != at]
        assert set(read.kinds) == {"shape"} and read.lost == {"rejected": held}
        assert read.closed.end.announced == indices[10]
        assert read.closed.ledger.ranges == [Range("rejected", indices[at], held)]
    read = Read.of(
        start, *frames[: at + 1], *frames[at + 2 :], an_end(10, indices[10])
    )  # the next one is lost
    assert read.passed == [index for number, index in enumerate(indices[:10]) if number not in (at, at + 1)]
    assert read.closed.end.announced == indices[10] and sum(read.lost.values()) == held + 4 * (at < 9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_counts_that_are_not_finite_are_rejected(value: float, dtype: str) -> None:
    counts = np.ones((2, 3), dtype)
    counts[1, 2] = value
    read = Read.of(a_start(dtype=dtype), a_frame(arrays={"counts": counts}), an_end(1, 2))
    assert read.kinds == ["nan"]
    assert read.lost == {"rejected": 2}


def test_results_that_are_not_finite_are_passed_on() -> None:
    reader = RunReader("raman")
    raman = np.full((1, 3), np.nan, np.float32)
    events = reader.read(parts_of(a_start(stream="raman", dtype="float32")))
    events += reader.read(parts_of(a_frame(stream="raman", arrays={"raman": raman})))
    assert [type(event) for event in events] == [Start, Frame]


def test_malformed_messages_and_other_streams_are_problems() -> None:
    reader = RunReader("raman")
    (malformed,) = reader.read([b"raman.end", b"\xc1"])
    (other,) = reader.read(parts_of(an_end()))
    assert isinstance(malformed, Problem)
    assert isinstance(other, Problem)
    assert (malformed.cause, malformed.kind, other.kind) == (Cause.REJECTED, "header", "stream")


def test_an_end_that_denies_what_came_is_corrected() -> None:
    read = Read.of(a_start(), a_frame(0, 0, 5), an_end(0, 0, announced=0))
    assert read.kinds == ["wrong totals"]
    assert (read.closed.end.spectra, read.closed.end.announced, read.lost) == (5, 5, {})


def test_ranges_of_what_was_lost_end_where_the_run_does() -> None:
    """Also where its end tells that what was noted lay elsewhere."""
    read = Read.of(a_start(), a_frame(0, 0), a_frame(2, 14), an_end(3, 3, announced=5))
    assert read.closed.ledger.ranges == [Range("missing", 1, 4)]
    read = Read.of(a_start(), a_frame(0, 0), a_frame(2, 14), an_end(3, 3, announced=1))
    assert all(each.first + each.spectra <= 3 for each in read.closed.ledger.ranges)


def test_lost_spectra_that_come_after_all_leave_their_range_also_if_it_is_not_the_last() -> None:
    ledger = Ledger()
    for lost in (("missing", 4, 3), ("missing", 20, 8), ("rejected", 30, 2), ("missing", 23, -5)):
        ledger.note(Range(*lost))
    assert ledger.ranges == [("missing", 4, 3), ("missing", 20, 3), ("rejected", 30, 2)]
    ledger.note(Range("missing", 20, -3))
    assert ledger.ranges == [("missing", 4, 3), ("rejected", 30, 2)]


def test_interrupt() -> None:
    reader = RunReader("raw")
    assert reader.interrupt(TIME) is None
    for message in (a_start(), a_frame(0, 0), a_frame(3, 7)):
        reader.read(parts_of(message))
    closed = reader.interrupt(TIME, Reason.STOPPED)
    assert closed is not None
    assert (closed.end.frames, closed.end.spectra, closed.end.announced) == (4, 8, 8)
    assert (closed.ledger.spectra, dict(closed.ledger.lost)) == (2, {"missing": 6})
    assert closed.end.reason == Reason.STOPPED
    assert reader.run is None


@dataclass
class Sent:
    """A valid run as its publisher sent it, and what it knows."""

    start: Start
    frames: list[Frame]
    end: End


@st.composite
def runs(draw: st.DrawFn) -> Sent:
    sent, index = [], 0
    for sequence, (skip, spectra) in enumerate(
        draw(st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 5]), st.integers(1, 4)), max_size=12))
    ):
        index += skip
        sent.append(a_frame(sequence, index, spectra))
        index += spectra
    index += draw(st.sampled_from([0, 0, 3]))
    total = sum(len(frame.block) for frame in sent)
    lost = {"overload": index - total} if index > total else {}
    return Sent(a_start(), sent, an_end(len(sent), total, announced=index, lost=lost))


@settings(max_examples=200, deadline=None)
@given(runs(), st.data())
def test_every_announced_spectrum_is_passed_on_or_lost_under_a_cause(run: Sent, data: st.DataObject) -> None:
    """Frames dropped, doubled and swapped on the way, the start said again or only then."""
    way: list[Message] = []
    joined = data.draw(st.integers(0, len(run.frames)))
    for number, frame in enumerate(run.frames):
        if number == joined:
            before = run.frames[number - 1] if number else None
            index = before.index + len(before.block) if before else 0
            way.append(replace(run.start, sequence=number, index=index))
        way += [frame] * data.draw(st.sampled_from([0, 1, 1, 1, 2]))
    if data.draw(st.booleans()) or joined == len(run.frames):
        way.insert(0, run.start)
    first = next(number for number, message in enumerate(way) if isinstance(message, Start))
    body = way[first + 1 :]
    for _ in range(data.draw(st.integers(0, 4)) if body else 0):
        one, two = (data.draw(st.integers(0, len(body) - 1)) for _ in "ab")
        body[one], body[two] = body[two], body[one]

    read = Read.of(*way[: first + 1], *body, run.end, run.end)
    ledger, end = read.closed.ledger, read.closed.end
    assert read.passed == sorted(set(read.passed))
    sizes = {frame.index: len(frame.block) for frame in run.frames}
    assert ledger.spectra == sum(sizes[index] for index in read.passed)
    assert end.announced == run.end.announced == ledger.spectra + ledger.total_lost
    assert ledger.lost[Cause.UPSTREAM] == run.end.announced - run.end.spectra
    assert ledger.lost[Cause.MISSING] == run.end.spectra - ledger.spectra
    assert "wrong totals" not in read.kinds


@st.composite
def any_messages(draw: st.DrawFn) -> Message:
    """Well-formed messages in no order and with no sense."""
    run = {"run": draw(st.sampled_from(["run-1", "run-1", "run-2"]))}
    small = st.integers(0, 12)
    match draw(st.integers(0, 5)):
        case 0:
            return a_start(sequence=draw(small), index=draw(small), **run)
        case 1:
            return an_end(draw(small), draw(small), announced=draw(maybe(small)), **run)
        case _:
            shape = draw(st.sampled_from([(1, 3), (2, 3), (5, 3), (1, 4), (9, 3)]))
            counts = np.zeros(shape, np.uint16)
            return a_frame(draw(small), draw(small), arrays={"counts": counts}, **run)


@settings(max_examples=250, deadline=None)
@given(st.lists(any_messages(), max_size=14))
def test_the_books_balance_whatever_comes(messages: list[Message]) -> None:
    reader = RunReader("raw")
    closed: list[Closed] = []
    for message in messages:
        for event in reader.read(parts_of(message)):
            if isinstance(event, Frame):
                assert reader.run is not None
                assert event.run == reader.run.run
            if isinstance(event, Closed):
                closed.append(event)
    closed += [last] if (last := reader.interrupt(TIME)) else []
    for one in closed:
        assert one.end.announced == one.ledger.spectra + one.ledger.total_lost
        assert all(lost > 0 for lost in one.ledger.lost.values())
        assert all(0 < each.spectra <= one.end.announced - each.first for each in one.ledger.ranges)
        encode(one.end)


# -- the documentation --------------------------------------------------------------------------------

DOCUMENT = Path(__file__).parents[2].joinpath("docs/protocol.md").read_text(encoding="utf-8")


def test_documented_bytes_are_the_committed_ones() -> None:
    vectors = {vector["name"]: vector["parts"] for vector in VALID}
    blocks = re.findall(r'In the vectors: "(.+?)"\.\n\n```hex\n(.+?)```', DOCUMENT, re.DOTALL)
    assert len(blocks) == 4
    for name, block in blocks:
        parts = [
            "".join(re.match(r"([0-9a-f]{2} {1,2})*", line + "  ").group().replace(" ", "") for line in part)  # type: ignore[union-attr]
            for part in (paragraph.splitlines() for paragraph in block.strip().split("\n\n"))
        ]
        assert parts == vectors[name]


def test_documented_limits_faults_and_names_are_those_of_the_code() -> None:
    for value in (
        limits.MAX_HEADER_BYTES, MAX_PIXELS, MAX_PAYLOAD_BYTES, limits.MAX_CARD, int(limits.MAX_RAMAN_SHIFT),
    ):  # fmt: skip
        assert f"{value:,}" in DOCUMENT
    fields = {field for kind in (Start, Frame, End) for field in kind.__dataclass_fields__} - {"arrays"}
    for name in [*Fault, *Reason, *fields, *DTYPES, *(set(Cause) - {Cause.REPEATED})]:
        assert f"`{name}`" in DOCUMENT


def test_the_documented_driver_makes_a_run_without_loss(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.+?)```", DOCUMENT, re.DOTALL)
    script = tmp_path / "driver.py"
    script.write_text(code, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    reader = RunReader("raw")
    events: list[Event] = []
    with (
        Subscriber(address, "raw") as subscriber,
        subprocess.Popen([sys.executable, script, address]) as driver,
    ):
        while not any(isinstance(event, Closed) for event in events):
            parts = subscriber.receive(20)
            assert parts is not None, "the driver sent nothing for 20 s"
            events += reader.read(parts)
        assert driver.wait(20) == 0
    start, *frames, closed = events
    assert isinstance(start, Start)
    assert isinstance(closed, Closed)
    assert (start.scan, start.pixels, closed.ledger.spectra) == ((20, 50), 1024, 1000)
    assert all(isinstance(frame, Frame) for frame in frames)
    assert not closed.ledger.lost
