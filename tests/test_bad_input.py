"""Whatever comes over the wire: one clear line for each kind, a count, and the daemon goes on."""

import logging
from collections.abc import Callable

import msgpack
import numpy as np
import pytest
from helpers import (
    AXIS,
    PATIENCE_S,
    Collected,
    Published,
    a_frame,
    a_start,
    an_end,
    daemon_in_thread,
    spectra_of,
    wait_until,
)

from cars_rt.protocol import MAX_PAYLOAD_BYTES, Frame, Start, encode

COUNTS = spectra_of(1)


def changed(message: Start | Frame, *, drop: tuple[str, ...] = (), **fields: object) -> list[bytes]:
    """A message with other header fields than it should have."""
    parts = [bytes(part) for part in encode(message)]
    header = msgpack.unpackb(parts[1]) | fields
    parts[1] = msgpack.packb({key: value for key, value in header.items() if key not in drop})
    return parts


def unread(source: Published) -> None:
    source.bytes(b"raw.frame", b"\xc1 this is no msgpack")


def other_magic(source: Published) -> None:
    source.bytes(*changed(a_frame(1, COUNTS), drop=("cars_rt",), other=1))


def other_version(source: Published) -> None:
    source.bytes(*changed(a_frame(1, COUNTS), cars_rt=2))


def truncated(source: Published) -> None:
    *first, payload = (bytes(part) for part in encode(a_frame(1, COUNTS)))
    source.bytes(*first, payload[:-7])


def without_payload(source: Published) -> None:
    source.bytes(*(bytes(part) for part in encode(a_frame(1, COUNTS))[:2]))


def oversized(source: Published) -> None:
    source.bytes(*changed(a_frame(1, COUNTS), arrays=[["counts", "uint16", [2**20, 2**20]]]))


def other_dtype(source: Published) -> None:
    source.say(a_frame(1, COUNTS.astype(np.float32)))


def other_shape(source: Published) -> None:
    source.say(a_frame(1, COUNTS[:, :-1]))


def larger_block(source: Published) -> None:
    source.say(a_frame(1, np.repeat(COUNTS, 3, axis=0), index=1))


def unknown_run(source: Published) -> None:
    source.say(a_frame(1, COUNTS, "nobody-knows"))


def unknown_end(source: Published) -> None:
    source.say(an_end(1, run="nobody-knows"))


def empty_block(source: Published) -> None:
    frame = a_frame(1, COUNTS, index=1)
    source.bytes(*changed(frame, arrays=[["counts", "uint16", [0, len(AXIS)]]])[:2], b"")


def repeat(source: Published) -> None:
    source.say(a_frame(0, COUNTS))


def jump(source: Published) -> None:
    source.say(a_frame(4, COUNTS))


def axis_of(axis: list[float]) -> Callable[[Published], None]:
    def send(source: Published) -> None:
        start = changed(a_start("other", AXIS[: len(axis)]))
        source.bytes(*start[:2], np.array(axis, np.float64).tobytes())

    return send


@pytest.mark.parametrize(
    ("send", "kind", "line", "lost"),
    [
        (unread, "header", "rejected: the header is not msgpack", {}),
        (other_magic, "magic", "rejected: not a CARS-RT message", {}),
        (other_version, "version", "rejected: protocol version 2; this program speaks version 1", {}),
        (truncated, "truncated", "rejected: counts: 313 bytes where 320 were announced", {}),
        (without_payload, "parts", "rejected: the header lists other arrays", {}),
        (oversized, "oversized", "rejected: counts: more than 67108864 bytes", {}),
        (other_dtype, "dtype", "rejected: frame 1: dtype float32 where start announced uint16", 1),
        (other_shape, "shape", "rejected: frame 1: 159 pixels where start announced 160", 1),
        (larger_block, "shape", "rejected: frame 1: 3 spectra where start announced at most 1", 3),
        (unknown_run, "unknown run", "rejected: frame of the unknown run nobody-knows", {}),
        (unknown_end, "unknown run", "rejected: end of the unknown run nobody-knows", {}),
        (empty_block, "shape", "rejected: the frame holds no spectrum", {}),
        (repeat, "repeat", "repeated: frame 0 came again or too late", {}),
        (jump, "sequence jump", "missing: the sequence jumps from 1 to 4: 3 spectra missing", {"missing": 3}),
        (axis_of([1, 2, 2, 3]), "axis", "rejected: the raman-shift axis is not strictly monotonic", {}),
        (axis_of([1, np.nan, 3]), "axis", "rejected: raman_shift is not within", {}),
        (axis_of([1, np.inf]), "axis", "rejected: raman_shift is not within", {}),
    ],
)
def test_bad_message_is_said_and_counted_and_the_run_goes_on(
    send: Callable[[Published], None],
    kind: str,
    line: str,
    lost: dict[str, int] | int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    counted = {"rejected": 2 * lost} if isinstance(lost, int) else lost
    with (
        Published() as source,
        daemon_in_thread(source.address) as daemon,
        Collected(daemon.publisher.address) as results,
    ):
        source.wait()
        source.say(a_start(), a_frame(0, COUNTS))
        sequence = index = 1
        if send is jump:
            send(source)
            sequence = index = 5
        elif isinstance(lost, int):  # such a frame has its place in the sequence, twice here
            for _ in range(2):
                parts = _collect(send)
                source.bytes(*_placed(parts, sequence, index))
                sequence, index = sequence + 1, index + lost
        else:
            send(source)
            send(source)
        source.say(a_frame(sequence, COUNTS, index=index), an_end(sequence + 1, index + 1))
        results.ends()
        wait_until(lambda: daemon.runs)
    (totals,) = daemon.runs
    assert totals.problems[kind] == (1 if send is jump else 2)
    assert totals.lost == counted
    assert totals.announced == totals.sent + sum(totals.lost.values())
    assert totals.sent == results.spectra == (3 if send is jump else 2)
    end = results.closed[0].end
    assert end.announced == end.spectra + sum(end.lost.values())
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len([record for record in warned if line.split(" 1")[0] in record.getMessage()]) == 1
    assert line in caplog.text


def _collect(send: Callable[[Published], None]) -> list[bytes]:
    sent: list[bytes] = []

    class Catch:
        def say(self, message: Frame) -> None:
            sent.extend(bytes(part) for part in encode(message))

    send(Catch())  # type: ignore[arg-type]
    return sent


def _placed(parts: list[bytes], sequence: int, index: int) -> list[bytes]:
    header = msgpack.unpackb(parts[1]) | {"sequence": sequence, "index": index}
    return [parts[0], msgpack.packb(header), *parts[2:]]
