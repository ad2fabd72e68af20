"""`cars-rt bench stream` end to end, with rounds too short to mean anything: no assertion on speed."""

import json
import math
import os
import sys
import threading
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from helpers import PATIENCE_S, Command

from cars_rt.bench.peers import _rate
from cars_rt.bench.pipeline import BenchError, Peer, Pipeline, daemon
from cars_rt.bench.settings import StreamBenchSettings
from cars_rt.bench.stream import flags, measure
from cars_rt.sockets.free import free_addresses

SHORT = [
    "--engine",
    "onnxruntime",
    "--rounds",
    "2",
    "--seconds",
    "0.1",
    "--pixels",
    "640",
    "--blocks",
    "1",
    "--blocks",
    "16",
    "--no-realtime",
]


def test_a_tiny_measurement_is_complete(tmp_path: Path) -> None:
    numbers, image = tmp_path / "path.json", tmp_path / "path.png"
    code, answer, said = Command.ran("bench", "stream", *SHORT, "--json", numbers, "--png", image)
    assert code == 0, said
    (report,) = json.loads(numbers.read_text(encoding="utf-8"))
    assert [(each["engine"], each["reference"], each["block"]) for each in report["comparisons"]] == [
        ("passthrough", "bare loop", 1), ("passthrough", "bare loop", 16), ("onnxruntime", "engine alone", 1),
    ]  # fmt: skip
    for each in report["comparisons"]:
        assert len(each["ratios"]) == len(each["daemon_rates"]) == len(each["reference_rates"]) == 2
        assert min(each["ratios"]) <= each["ratio"] <= max(each["ratios"])
        rates = zip(each["ratios"], each["daemon_rates"], each["reference_rates"], strict=True)
        assert all(math.isclose(ratio, mine / other) for ratio, mine, other in rates)
    assert [each["name"] for each in report["latencies"]] == ["bare loop", "passthrough", "onnxruntime"]
    for each in report["latencies"]:
        assert len(each["p50_ms"]) == 2
        for p50, p99, largest in zip(each["p50_ms"], each["p99_ms"], each["largest_ms"], strict=True):
            assert 0 < p50 <= p99 <= largest
    assert report["spectra"] > 100 and report["lost"] == 0
    assert report["settings"]["pixels"] == 640 and "cores" in report["hardware"]
    assert image.read_bytes().startswith(b"\x89PNG")
    assert "none lost" in answer and "bare loop" in answer


def test_the_daemon_has_real_time_priority_as_anywhere_unless_it_is_left() -> None:
    assert "--no-realtime" not in flags(StreamBenchSettings(), 1)
    assert "--no-realtime" in flags(StreamBenchSettings(no_realtime=True), 1)


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    with (
        Pipeline("daemon", daemon("daemon", tmp_path, "--engine", "nonsense")) as broken,
        pytest.raises(BenchError, match="no engine is called 'nonsense'"),
    ):
        broken.passage(pixels=64, block=1, frames=1)


class Lossy:
    """Stands where the bare loop does and leaves out one frame."""

    def __init__(self, raw: str, raman: str) -> None:
        self._thread = threading.Thread(target=self._forward, args=(raw, raman))
        self._thread.start()

    def _forward(self, raw: str, raman: str) -> None:
        with zmq.Context() as context, context.socket(zmq.XPUB) as sink, context.socket(zmq.SUB) as source:
            sink.bind(raman)
            sink.recv()
            source.subscribe("raw.")
            source.connect(raw)
            kind = ""
            while kind != "end":
                _, packed, *arrays = source.recv_multipart()
                header = msgpack.unpackb(packed)
                kind, header["stream"] = header["kind"], "raman"
                if kind == "frame":
                    arrays = [np.frombuffer(arrays[0], "<u2").astype("<f4").tobytes()]
                    if header["sequence"] == 2:
                        continue
                sink.send_multipart([f"raman.{kind}".encode(), msgpack.packb(header), *arrays])
            sink.close(10_000)

    def check(self) -> None:
        """It does not die."""

    def kill(self) -> None:
        self._thread.join(PATIENCE_S)


@pytest.mark.skipif(sys.platform == "win32", reason="has no sessions")
def test_ctrl_c_does_not_reach_the_processes_of_a_measurement() -> None:
    """Their starter ends them; by themselves they would end with tracebacks."""
    raw, raman = free_addresses(2)
    peer = Peer("bare", raw, raman)
    try:
        assert os.getsid(peer._process.pid) != os.getsid(0)
    finally:
        peer.kill()


def test_a_loss_fails_the_measurement() -> None:
    with (
        Pipeline("lossy", Lossy) as lossy,
        pytest.raises(BenchError, match=r"lossy: 16 spectra were sent in blocks of 2, 14 came, 5 frames"),
    ):
        lossy.passage(pixels=64, block=2, frames=8)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"blocks": (0,)}, "--blocks"),
        ({"blocks": ()}, "--blocks"),
        ({"pixels": 1}, "--pixels"),
        ({"rounds": 0}, "--rounds"),
        ({"seconds": math.nan}, "--seconds"),
        ({"seconds": math.inf}, "--seconds"),
        ({"rate": -1.0}, "--rate"),
        ({"rate": math.inf}, "--rate"),
        ({"max_batch": 0}, "--max-batch"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(BenchError, match=reason):
        measure(StreamBenchSettings(**wrong))


def test_a_rate_does_not_count_the_first_burst() -> None:
    """Results come in batches: when the first one began to be computed is not known."""
    ms = 1_000_000
    bursts = [burst * 30 * ms + number for burst in range(5) for number in range(64)]
    assert math.isclose(_rate(bursts, [1] * 320), 4 * 64 / 0.120, rel_tol=1e-3)
    assert math.isclose(
        _rate([number * ms // 10 for number in range(101)], [16] * 101), 160_000, rel_tol=1e-9
    )
    assert _rate([7], [1]) == 0
