"""Whatever comes over the wire: one clear line for each kind, a count, and the daemon goes on.

All tests talk to the same daemon, one run each, so that it also has to survive all of them.
"""

import itertools
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
from helpers import (
    AXIS,
    Collected,
    Published,
    a_frame,
    a_line,
    a_start,
    an_end,
    daemon_in_thread,
    spectra_of,
    wait_until,
)
from hostile.peers import part, shake

from cars_rt.daemon.loop import Daemon
from cars_rt.daemon.receipt import Receipt
from cars_rt.protocol import MAX_PAYLOAD_BYTES, End, Frame, Start, encode

COUNTS = spectra_of(1)
FIRST = time.time_ns()  # the time stamp of each run's first frame
RUNS = (f"run-{number}" for number in itertools.count())
Maker = Callable[[str, int, int], list[bytes]]


def parts_of(message: Start | Frame | End, **fields: object) -> list[bytes]:
    """A message; fields change its header, None takes a field out."""
    parts = [bytes(part) for part in encode(message)]
    header = msgpack.unpackb(parts[1]) | fields
    parts[1] = msgpack.packb({key: value for key, value in header.items() if value is not None})
    return parts


@dataclass
class Line:
    source: Published
    daemon: Daemon
    results: Collected

    def totals(self, run: str) -> Receipt:
        """What the daemon says of a run, once all of it has come out."""
        self.results.until(lambda all_: any(closed.end.run == run for closed in all_.closed))
        wait_until(lambda: any(totals.run == run for totals in self.daemon.receipts))
        (totals,) = (totals for totals in self.daemon.receipts if totals.run == run)
        (end,) = (closed.end for closed in self.results.closed if closed.end.run == run)
        sent = sum(len(frame.block) for frame in self.results.frames if frame.run == run)
        assert totals.sent == end.spectra == sent
        assert totals.announced == end.announced == totals.sent + sum(totals.lost.values())
        return totals


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    with a_line() as (source, daemon, results):
        yield Line(source, daemon, results)


def warnings(caplog: pytest.LogCaptureFixture, text: str) -> int:
    records = [record for record in caplog.records if record.levelno == logging.WARNING]
    return sum(record.getMessage().startswith(text) for record in records)


def frame(run: str, sequence: int, index: int, **fields: object) -> list[bytes]:
    return parts_of(a_frame(sequence, COUNTS, run, index=index), **fields)


def axis(values: list[float]) -> Maker:
    def make(run: str, sequence: int, index: int) -> list[bytes]:
        start = parts_of(a_start(run, AXIS[: len(values)]))
        return [*start[:2], np.array(values, np.float64).tobytes()]

    return make


def other_counts(counts: np.ndarray) -> Maker:  # type: ignore[type-arg]
    return lambda run, sequence, index: parts_of(a_frame(sequence, counts, run, index=index))


@pytest.mark.parametrize(
    ("make", "kind", "said", "cost"),
    [
        (lambda *_: [b"raw.frame", b"\xc1"], "header", "rejected: the header is not msgpack", 0),
        (lambda *_: [b"raw.frame"], "parts", "rejected: a message has 2 to 8 parts", 0),
        (lambda *at: frame(*at, cars_rt=None), "magic", "rejected: not a CARS-RT message", 0),
        (lambda *at: frame(*at, cars_rt=2), "version", "rejected: protocol version 2; this program", 0),
        (lambda *at: [*frame(*at)[:2], b"\0" * 313], "truncated", "rejected: counts: 313 bytes where 320", 0),
        (lambda *at: frame(*at)[:2], "parts", "rejected: the header lists other arrays", 0),
        (
            lambda *at: frame(*at, arrays=[["counts", "uint16", [2**20, 2**20]]]),
            "oversized",
            "rejected: counts: more than 67108864 bytes",
            0,
        ),
        (
            lambda *at: [*frame(*at, arrays=[["counts", "uint16", [0, len(AXIS)]]])[:2], b""],
            "shape",
            "rejected: the frame holds no spectrum",
            0,
        ),
        (
            lambda *at: frame(*at, arrays=[["counts", "complex128", [1, len(AXIS)]]]),
            "dtype",
            "rejected: counts: dtype must be one of",
            0,
        ),
        (other_counts(COUNTS.astype(np.float32)), "dtype", "rejected: frame 1: dtype float32 where start", 1),
        (other_counts(COUNTS[:, 1:]), "shape", "rejected: frame 1: 159 pixels where start announced 160", 1),
        (other_counts(spectra_of(3)), "shape", "rejected: frame 1: 3 spectra where start announced", 3),
        (
            lambda run, *at: frame("lost", *at),
            "unknown run",
            "rejected: run lost is under way, but no start of it came",
            0,
        ),
        (lambda *_: parts_of(an_end(1, run="lost")), "unknown run", "rejected: end of the unknown run", 0),
        (
            lambda run, *_: frame(run, 0, 0, time_ns=FIRST),
            "repeat",
            "repeated: frame 0 came again or too late",
            0,
        ),
        (axis([1, 2, 2, 3]), "axis", "rejected: the raman-shift axis is not strictly monotonic", 0),
        (axis([1, 3, 2]), "axis", "rejected: the raman-shift axis is not strictly monotonic", 0),
        (axis([1, np.nan, 3]), "axis", "rejected: raman_shift is nan at pixel 1, and must be", 0),
        (axis([1, np.inf]), "axis", "rejected: raman_shift is inf at pixel 1", 0),
    ],
)
def test_bad_message_is_said_once_and_counted_and_the_run_goes_on(
    make: Maker, kind: str, said: str, cost: int, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    run, sequence, index = next(RUNS), 1, 1
    line.source.say(a_start(run), a_frame(0, COUNTS, run, time_ns=FIRST))
    for _ in range(2):
        line.source.bytes(*make(run, sequence, index))
        if cost:  # such a frame has its place in the run
            sequence, index = sequence + 1, index + cost
    line.source.bytes(*frame(run, sequence, index))
    line.source.say(an_end(sequence + 1, index + 1, run))
    totals = line.totals(run)
    assert totals.sent == 2
    assert totals.problems == {kind: 2}
    assert totals.lost == ({"rejected": 2 * cost} if cost else {})
    assert warnings(caplog, said) == 1


def test_a_start_said_again_otherwise_is_said_in_log_and_status(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """Results go on with the first exposure; a line for each field, though both are of one kind."""
    run, began = next(RUNS), time.time_ns()
    first = a_start(run, time_ns=began, exposure_s=0.1)
    warm, longer = replace(first, instrument={"gain": 2}), replace(first, exposure_s=0.2)
    line.source.say(first, a_frame(0, COUNTS, run), warm, longer, warm, longer, an_end(1, run=run))
    totals = line.totals(run)
    assert totals.sent == 1 and totals.problems == {"start changed": 2} and totals.lost == {}
    assert line.daemon.parts.runs.book.problems["start changed"] == 2  # as `ctl status` shows them
    assert warnings(caplog, "start changed: start of run") == 2
    assert "exposure_s (0.2 instead of 0.1); what it was at first holds" in caplog.text


def test_runs_that_are_refused_on_one_connection_each_have_their_line(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a run there is no ledger of its own in which a first time would be counted."""
    bad, before = axis([1, 2, 2, 3]), line.daemon.parts.runs.book.problems["unknown run"]
    runs = [next(RUNS) for _ in range(2)]
    for run in runs:
        for _ in range(3):
            line.source.bytes(*bad(run, 0, 0))
            line.source.bytes(*frame(run, 0, 0))
    wait_until(lambda: line.daemon.parts.runs.book.problems["unknown run"] == before + 6)
    assert warnings(caplog, "rejected: the raman-shift axis is not") == 1
    for run in runs:
        said = f"rejected: run {run} is under way, but its start was refused: the raman-shift axis is not"
        assert warnings(caplog, said) == 1
    for slip in ({"scan": [0, 1]}, {"exposure_s": 0}):  # another one, though of one kind
        line.source.bytes(*parts_of(a_start("other"), **slip))
    wait_until(lambda: warnings(caplog, "rejected: exposure_s must be"))
    assert warnings(caplog, "rejected: scan must be") == 1
    good = next(RUNS)
    line.source.say(a_start(good), a_frame(0, COUNTS, good), an_end(1, run=good))
    assert line.totals(good).sent == 1
    line.source.bytes(*bad("another", 0, 0))
    wait_until(lambda: warnings(caplog, "rejected: the raman-shift axis is not") == 2)


def test_sequence_jump_counts_what_is_missing(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    run = next(RUNS)
    line.source.say(
        a_start(run), *(a_frame(number, COUNTS, run) for number in (0, 4, 5, 9)), an_end(10, run=run)
    )
    totals = line.totals(run)
    assert (totals.sent, totals.lost, totals.problems) == (4, {"missing": 6}, {"sequence jump": 2})
    assert warnings(caplog, "missing: the sequence jumps from 1 to 4: 3 spectra missing") == 1


def test_missing_tail_is_counted_at_the_end(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    run = next(RUNS)
    line.source.say(a_start(run), a_frame(0, COUNTS, run), an_end(8, run=run))
    assert line.totals(run).lost == {"missing": 7}
    assert warnings(caplog, "missing: the run had 8 frames, the last one that came is 0") == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_counts_that_are_not_finite_are_rejected(
    value: float, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    run, good = next(RUNS), COUNTS.astype(np.float64)
    bad = good.copy()
    bad[0, 17] = value
    line.source.say(
        a_start(run, dtype="float64"),
        *(a_frame(number, bad if number in (1, 2) else good, run) for number in range(4)),
        an_end(4, run=run),
    )
    totals = line.totals(run)
    assert (totals.sent, totals.lost, totals.problems) == (2, {"rejected": 2}, {"nan": 2})
    assert warnings(caplog, "rejected: frame 1: counts that are NaN, infinite or too large for float32") == 1


def test_second_start_closes_the_first_run(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    first, second = next(RUNS), next(RUNS)
    line.source.say(a_start(first), a_frame(0, COUNTS, first), a_start(second))
    line.source.say(a_frame(0, COUNTS, second), an_end(1, run=second))
    totals = line.totals(second)
    assert line.totals(first).reason == "interrupted" and line.totals(first).sent == 1
    assert totals.reason == "complete" and totals.lost == {}
    assert warnings(caplog, f"second start: the end of run {first} never came; run {second} begins") == 1


def test_message_beyond_the_limit_costs_the_connection_not_the_daemon(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """ZeroMQ cuts the connection before it takes the memory; the daemon comes back by itself."""
    run, publisher = next(RUNS), line.source.publisher
    publisher.open(a_start(run))
    publisher.send(a_frame(0, COUNTS, run))
    line.results.until(lambda all_: any(frame.run == run for frame in all_.frames))
    line.source.bytes(b"raw.frame", bytes(MAX_PAYLOAD_BYTES + 1))

    def gone() -> bool:
        publisher.serve()
        return publisher.subscribers == 0

    wait_until(gone)
    line.source.wait()
    publisher.send(a_frame(1, COUNTS, run))
    publisher.end(an_end(2, run=run))
    totals = line.totals(run)
    assert (totals.sent, totals.lost, totals.problems) == (2, {}, {"connection cut": 1})
    assert f"{line.source.address}: connection cut, for a message beyond 64 MB" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="what flows in is watched on Linux only")
def test_message_that_does_not_end_is_told_in_the_receipt_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood in the status alone. What a driver that was cut off had under way is not known."""
    monkeypatch.setattr("cars_rt.sockets.subscriber.VANISHED_S", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        daemon_in_thread(
            f"tcp://127.0.0.1:{server.getsockname()[1]}", engine="passthrough", flight=tmp_path
        ) as daemon,
    ):
        with closing(server.accept()[0]) as peer:
            peer.settimeout(20)
            shake(peer, b"PUB")
            for message in (a_start(), a_frame(0, COUNTS)):
                *parts, last = encode(message)
                peer.sendall(b"".join(part(bytes(each), more=True) for each in parts))
                peer.sendall(part(bytes(last), more=False))
            peer.settimeout(2)  # cut off, or not read any more
            with suppress(OSError):
                for _ in range(2000):
                    peer.sendall(part(bytes(2**20), more=True))
        server.close()
        wait_until(lambda: daemon.receipts)
        (receipt,) = daemon.receipts
    assert (receipt.reason, receipt.sent) == ("interrupted", 1)
    assert receipt.problems == {"cut off: the driver": 1}
    (file,) = tmp_path.glob("*.h5")
    assert file.name.endswith("-cut-off.h5")


def test_address_of_another_stream_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with Published("raman") as source, daemon_in_thread(source.address, engine="passthrough"):
        said = f"{source.address}: rejected: the raman stream is published there"
        wait_until(lambda: source.publisher.serve() or said in caplog.text)
