"""The short way for frames of an orderly stream, which differ from one another only in numbers.

A header that was checked in full is kept as a layout: its bytes, and where the numbers lie in them. A header
with the same bytes around its numbers says the same, so that only its numbers need a check. Every other
header goes the long way, through the codec.
"""

import struct
from collections.abc import Mapping, Sequence
from operator import itemgetter

import msgpack
import numpy as np

from cars_rt.protocol.codec import encode
from cars_rt.protocol.fields import Part
from cars_rt.protocol.limits import MAX_COUNT, MAX_TIME
from cars_rt.protocol.messages import DELAYS, DTYPES, Frame

NUMBERS = ("sequence", "index", "time_ns")
TIMES = ("time_in_ns", "time_out_ns")  # of the result stream: both, or none of them
LEARN_AFTER = 16  # frames that go the long way before a layout is made: that costs as much as one of them

#: msgpack's integers by their first byte: how struct reads them, the smallest one that is written like this,
#: and the largest one that the protocol allows. A number below 128 is its own first byte, and has no layout.
INTEGERS = {
    0xCC: ("B", 0x80, 0xFF),
    0xCD: ("H", 0x100, 0xFFFF),
    0xCE: ("I", 0x1_0000, 0xFFFF_FFFF),
    0xCF: ("q", 0x1_0000_0000, MAX_TIME),  # larger numbers read as negative
}


class _Header:
    """A header as bytes that stay and numbers that change."""

    __slots__ = ("constants", "names", "offsets", "ranges", "size", "struct")

    def __init__(self, header: bytes, numbers: Mapping[str, tuple[int, int]]) -> None:
        """numbers: for each name the offset of the number's first byte, and this byte."""
        self.size = len(header)
        self.names = sorted(numbers, key=lambda name: numbers[name][0])
        self.ranges = {name: INTEGERS[numbers[name][1]][1:] for name in self.names}
        parts, at = [">"], 0
        for name in self.names:
            offset, first = numbers[name]
            code = INTEGERS[first][0]
            parts.append(f"{offset + 1 - at}s{code}")
            at = offset + 1 + struct.calcsize(f">{code}")
        self.struct = struct.Struct("".join([*parts, f"{len(header) - at}s"]))
        self.constants: tuple[bytes, ...] = self.struct.unpack(header)[::2]


def _analysed(header: bytes) -> _Header | None:
    """Where the numbers lie in a header that the codec accepted; None if one of them is too small or odd."""
    unpacker = msgpack.Unpacker(strict_map_key=True)
    unpacker.feed(header)
    found: dict[str, tuple[int, int]] = {}
    for _ in range(unpacker.read_map_header()):
        key = unpacker.unpack()
        offset = unpacker.tell()
        unpacker.skip()
        if key in NUMBERS or key in TIMES:
            if header[offset] not in INTEGERS:
                return None
            found[key] = (offset, header[offset])  # if a key comes twice, the last value counts
    times = sum(name in found for name in TIMES)
    return _Header(header, found) if len(found) - times == len(NUMBERS) and times in (0, len(TIMES)) else None


class FrameLayout:
    """Reads frames that are like one that was read the long way and passed on.

    `of` makes one of such a frame, where that is possible.
    """

    __slots__ = (
        "_arrays", "_constants", "_frame", "_last_index", "_order", "_parts", "_pick", "_size", "_timed",
        "_topic", "_unpack",
    )  # fmt: skip

    def __init__(self, frame: Frame, parts: Sequence[Part], header: _Header) -> None:
        self._frame = frame
        self._topic = bytes(parts[0])
        self._size = header.size
        self._unpack = header.struct.unpack
        self._constants = header.constants
        self._pick = itemgetter(*range(0, 2 * len(header.names) + 1, 2))
        self._timed = TIMES[0] in header.names
        wanted = (*NUMBERS, *TIMES) if self._timed else NUMBERS
        self._order = itemgetter(*(2 * header.names.index(name) + 1 for name in wanted))
        self._parts = len(parts)
        self._arrays = [
            (name, array.dtype, array.shape, array.nbytes) for name, array in frame.arrays.items()
        ]
        self._last_index = MAX_COUNT - len(frame.block)

    @classmethod
    def of(cls, frame: Frame, parts: Sequence[Part]) -> "FrameLayout | None":
        """parts: those that `frame` was decoded from. None if values of the frame depend on each other."""
        floats = (frame.stream == "raw" and frame.block.dtype.kind == "f") or DELAYS in frame.arrays
        if floats or not all(array.size for array in frame.arrays.values()):
            return None
        header = _analysed(bytes(parts[1]))
        return None if header is None else cls(frame, parts, header)

    def read(self, parts: Sequence[Part], sequence: int, index: int) -> Frame | None:
        """The frame in these parts if it is the next in order; None if it has to go the long way."""
        if len(parts) != self._parts:
            return None
        topic, header, *payloads = parts
        if type(header) is not bytes or len(header) != self._size or topic != self._topic:
            return None
        values = self._unpack(header)
        if self._pick(values) != self._constants:
            return None
        time_in_ns = time_out_ns = None
        if self._timed:
            number, first, time_ns, time_in_ns, time_out_ns = self._order(values)
            if time_in_ns < 0 or time_out_ns < 0:
                return None
        else:
            number, first, time_ns = self._order(values)
        if (
            number != sequence
            or first != index
            or time_ns < 0
            or sequence >= MAX_COUNT
            or index > self._last_index
        ):
            return None
        arrays = {}
        for (name, dtype, shape, nbytes), payload in zip(self._arrays, payloads, strict=True):
            if len(payload) != nbytes:
                return None
            if type(payload) is bytes:
                array = np.ndarray(shape, dtype, payload)
            elif type(payload) is memoryview and payload.itemsize == 1 and payload.c_contiguous:
                array = np.ndarray(shape, dtype, payload)
                array.flags.writeable = False
            else:
                return None
            arrays[name] = array
        like = self._frame
        return Frame(
            like.stream, like.run, sequence, index, time_ns, arrays,
            time_in_ns, time_out_ns, like.lost, like.made_by, like.bands,
        )  # fmt: skip


class FrameWriter:
    """Writes the frames of one stream, byte by byte as `encode` does."""

    def __init__(self) -> None:
        self._header: _Header | None = None
        self._missed = 0

    def encode(self, frame: Frame) -> list[Part]:
        """Encode as cars_rt.protocol.encode does. Raises ProtocolError if no receiver would accept the
        frame."""
        if self._header is not None and (parts := self._like_the_last(frame)) is not None:
            self._missed = 0
            return parts
        parts = encode(frame)
        self._missed += 1
        if self._missed >= LEARN_AFTER:
            self._missed = 0
            self._learn(frame, parts)
        return parts

    def _learn(self, frame: Frame, parts: list[Part]) -> None:
        header = _analysed(bytes(parts[1]))
        known = all(array.dtype in DTYPES.values() and array.size for array in frame.arrays.values())
        if header is None or not known or frame.bands is not None:
            return
        self._header = header
        self._pack, self._constants = header.struct.pack, header.constants
        self._ranges = [header.ranges[name] for name in header.names]
        self._timed = TIMES[0] in header.names
        self._topic = parts[0]
        self._same = (frame.stream, frame.run, frame.made_by)
        self._lost = frame.lost
        self._arrays = [(name, array.dtype, array.shape) for name, array in frame.arrays.items()]
        self._last_index = MAX_COUNT - len(frame.block)

    def _like_the_last(self, frame: Frame) -> list[Part] | None:
        """The parts, if this frame differs from the learned one only in numbers of the same width."""
        arrays, lost = frame.arrays, frame.lost
        if (
            (frame.stream, frame.run, frame.made_by) != self._same
            or lost != self._lost
            or type(lost) is not type(self._lost)
            or frame.bands is not None
            or len(arrays) != len(self._arrays)
        ):
            return None
        payload: list[Part] = []
        for (name, array), (known, dtype, shape) in zip(arrays.items(), self._arrays, strict=True):
            if (
                type(array) is not np.ndarray
                or array.dtype is not dtype
                or array.shape != shape
                or name != known
                or not array.flags.c_contiguous
            ):
                return None
            payload.append(array.data.cast("B"))
        sequence, index, time_ns = frame.sequence, frame.index, frame.time_ns
        time_in_ns, time_out_ns = frame.time_in_ns, frame.time_out_ns
        ranges = self._ranges
        if (
            not type(sequence) is type(index) is type(time_ns) is int
            or not ranges[0][0] <= sequence <= ranges[0][1]
            or not ranges[1][0] <= index <= ranges[1][1]
            or not ranges[2][0] <= time_ns <= ranges[2][1]
            or sequence >= MAX_COUNT
            or index > self._last_index
        ):
            return None
        # `encode` writes the numbers in this order.
        if self._timed:
            if (
                not type(time_in_ns) is type(time_out_ns) is int
                or not ranges[3][0] <= time_in_ns <= ranges[3][1]
                or not ranges[4][0] <= time_out_ns <= ranges[4][1]
            ):
                return None
            one, two, three, four, five, six = self._constants
            header = self._pack(
                one, sequence, two, index, three, time_ns, four, time_in_ns, five, time_out_ns, six
            )
        else:
            if time_in_ns is not None or time_out_ns is not None:
                return None
            one, two, three, four = self._constants
            header = self._pack(one, sequence, two, index, three, time_ns, four)
        return [self._topic, header, *payload]
