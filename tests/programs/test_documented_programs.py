"""Programs and bytes of docs/protocol.md that are not in the vectors: extracted, compiled, run, compared."""

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from helpers import COUNTED, PATIENCE_S, Published, a_frame, a_start, an_end

from cars_rt.daemon.seen.snapshot import Snapshot
from cars_rt.listener import Listener, ListenSettings
from cars_rt.protocol.control import Reply, Request, decode_reply, decode_request
from cars_rt.sockets.free import free_addresses

DOCUMENT = Path(__file__).parents[2].joinpath("docs/protocol.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (code,) = re.findall(rf"```{language}\n(.+?)```", DOCUMENT, re.DOTALL)
    return str(code)


def compiled(name: str, folder: Path, *headers: str) -> Path:
    """The program, or a skip where compiler, library or headers are not installed."""
    compiler = shutil.which("g++")
    if compiler is None or shutil.which("stdbuf") is None:
        pytest.skip("there is no g++ or no stdbuf")
    needed = "".join(f"#include <{header}>\n" for header in headers)
    trial = subprocess.run(
        [compiler, "-x", "c++", "-", "-DMSGPACK_NO_BOOST", "-E", "-o", folder / "trial"],
        input=needed, text=True, capture_output=True, check=False,
    )  # fmt: skip
    if trial.returncode:
        pytest.skip(f"the headers {', '.join(headers)} are not installed")
    source = folder / f"{name}.cpp"
    source.write_text(block(f"cpp {name}"), encoding="utf-8")
    program = folder / name
    flags = ["-std=c++17", "-Wall", "-Werror", "-DMSGPACK_NO_BOOST"]
    subprocess.run([compiler, *flags, source, "-lzmq", "-o", program], check=True, timeout=150)
    return program


@contextmanager
def running(*command: str | Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen([*command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as program:
        try:
            yield program
        finally:
            program.kill()


def test_the_documented_driver_in_cpp_keeps_the_protocol(tmp_path: Path) -> None:
    program = compiled("driver", tmp_path, "zmq.h")
    (address,) = free_addresses(1)
    said: list[str] = []
    with running(program, address, "1") as driver:
        judge = Listener(address, ListenSettings()).listen(said.append)
        assert driver.wait(PATIENCE_S) == 0
    assert (judge.runs, judge.spectra, dict(judge.found)) == (1, 1000, {}), said
    assert "axis: 1024 pixels, 600 to 3157.5 cm-1" in said[1] and "scan 20 x 50" in said[2]


def test_the_documented_subscriber_in_cpp_reads_and_finds_what_is_missing(tmp_path: Path) -> None:
    program = compiled("subscriber", tmp_path, "zmq.hpp", "zmq_addon.hpp", "msgpack.hpp")
    start = a_start(stream="raman", dtype="float32", block=2)
    raman = np.full((2, start.pixels), 0.5, np.float32)

    def frame(sequence: int) -> object:
        return a_frame(sequence, raman, stream="raman", arrays={"raman": raman})

    with Published("raman") as source, running("stdbuf", "-oL", program, source.address) as subscriber:
        source.wait()
        source.say(start, frame(0))  # type: ignore[arg-type]
        source.bytes(b"raman.frame", b"no msgpack \xc1")
        source.say(start, frame(2), an_end(3, 6, stream="raman"))  # type: ignore[arg-type]
        assert subscriber.stdout is not None
        said = []
        watchdog = threading.Timer(PATIENCE_S, subscriber.kill)
        watchdog.start()
        for line in subscriber.stdout:
            said.append(line.strip())
            if line.startswith("end"):
                break
        watchdog.cancel()
    assert said[0] == f"start {start.run}: {start.pixels} pixels, 800 to 1500 cm-1"
    assert said[1] == "spectrum 0: 2 spectra, first value 0.5"
    assert [line for line in said if "ignored" in line]
    assert said[-3:] == [
        "1 frames missing",
        "spectrum 4: 2 spectra, first value 0.5",
        "end (complete): 4 of 6 spectra received",
    ]


def bytes_of(text: str) -> bytes:
    return bytes.fromhex(
        "".join((re.match(r"([0-9a-f]{2} {1,2})*", line + "  ") or [""])[0] for line in text.splitlines())
    )


def test_the_documented_request_and_replies_are_those_of_the_code() -> None:
    request = decode_request(bytes_of(block("hex request")))
    assert request == Request("dark", {"do": "start"}, "read-it-from-the-file")
    replies = [decode_reply(bytes_of(text)) for text in block("hex reply").split("\n\n")]
    assert replies == [Reply(result={"measuring": 1}), Reply(error="no run open")]


def test_the_documented_status_is_that_of_the_daemon() -> None:
    table = re.search(r"What `status` answers.+?\n\n(.+?)\n\n", DOCUMENT, re.DOTALL)
    assert table is not None
    keys = {key for row in table[1].splitlines() for key in re.findall(r"`(\w+)`", row.split("|")[1])}
    known = {*(each.name for each in fields(Snapshot)), *COUNTED}
    assert keys == known - {"metrics", "runs"}, keys ^ known  # runs stands beside another one
    latencies = {"count", "mean_ms", "p50_ms", "p90_ms", "p99_ms", "largest_ms", "depth", "limit"}
    assert all(f"`{name}`" in table[1] for name in latencies | {"runs"})
