"""`cars-rt listen`: what is said of publishers that keep the protocol, and of each that does not."""

import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from helpers import AXIS, PATIENCE_S, Published, a_frame, a_start, an_end, spectra_of

from cars_rt.engines import ModelError, compose, load_model
from cars_rt.judge import Judge
from cars_rt.kinds import Kind
from cars_rt.physics.axis import from_wavelength
from cars_rt.protocol import End, Fault, Frame, Reason, Start, encode, reader
from cars_rt.slips import HINTS, REMEDIES

CURVE = spectra_of(4)  # smooth, as spectra are
NOW = time.time_ns()


def sent(*messages: Start | Frame | End | list[bytes], stream: Any = "raw") -> tuple[list[str], Judge]:
    """What is said of these messages, the verdict last."""
    judge = Judge(stream)
    lines: list[str] = []
    for number, message in enumerate(messages):
        parts = message if isinstance(message, list) else [bytes(part) for part in encode(message)]
        lines += judge.read(parts, NOW + number * 10_000_000)
    return lines + judge.verdict(), judge


def start(**fields: Any) -> Start:
    return a_start(**{"time_ns": NOW, "block": 4} | fields)


def frame(sequence: int = 0, index: int | None = None, counts: Any = CURVE, **fields: Any) -> Frame:
    index = 4 * sequence if index is None else index
    return a_frame(sequence, counts, **{"index": index, "time_ns": NOW} | fields)


def raw(message: Start | Frame | End, change: Any) -> list[bytes]:
    """The parts of a message with its header changed."""
    topic, header, *arrays = (bytes(part) for part in encode(message))
    fields = msgpack.unpackb(header)
    change(fields)
    return [topic, msgpack.packb(fields), *arrays]


END = an_end(1, 4, time_ns=NOW)


def test_publisher_that_keeps_the_protocol() -> None:
    said, judge = sent(start(spectra=8, scan=(2, 4), exposure_s=0.01), frame(), frame(1), an_end(2, 8))
    assert said[-1] == "this driver keeps the protocol: 1 run ended, 8 spectra, nothing refused"
    assert not judge.found and said[1].startswith("  axis: 160 pixels, 800 to 1500 cm-1")
    assert "uint16, at most 4 spectra each; 8 spectra, scan 2 x 4, exposure 0.01 s" in said[2]
    assert sent(start(), frame())[0][-1].startswith("so far this driver keeps the protocol: 0 runs ended, 4")
    assert sent()[0] == ["nothing to judge: no run came in 0 messages"]


def swapped(message: Start | Frame) -> list[bytes]:
    *before, array = (bytes(part) for part in encode(message))
    size = 8 if isinstance(message, Start) else 2
    return [*before, np.frombuffer(array, f"<u{size}").astype(f">u{size}").tobytes()]


@pytest.mark.parametrize(
    ("kind", "text", "messages"),
    [
        ("byte order", "smooth only with their bytes swapped", [start(), swapped(frame()), END]),
        ("byte order", "with its bytes swapped the axis is one", [swapped(start())]),
        ("pixel numbers", "0, 1, 2, ...: pixel numbers", [start(raman_shift=np.arange(160.0)), frame(), END]),
        ("unit of the axis", "may be nanometres", [start(raman_shift=np.linspace(650, 720, 160))]),
        ("unit of the axis", "absolute wavenumbers", [start(raman_shift=np.linspace(12e3, 16e3, 160))]),
        ("unit of the axis", "far below 0", [start(raman_shift=np.linspace(-3200, -800, 160))]),
        ("unit of time", "in milliseconds", [start(time_ns=NOW // 10**6), frame(), END]),
        ("unit of time", "time_ns of frame 0 is in seconds", [start(), frame(time_ns=NOW // 10**9), END]),
        ("clock", "3.6e+03 s behind", [start(time_ns=NOW - 3600 * 10**9), frame(), END]),
        ("clock", "3.6e+03 s ahead", [start(time_ns=NOW + 3600 * 10**9), frame(), END]),
        ("clock", "goes back", [start(), frame(), frame(1, time_ns=NOW - 10**9)]),
        ("exposure", "an exposure of 5000 s", [start(exposure_s=5000.0), frame(), END]),
        ("exposure", "frames/s came, each exposed for 5 s",
         [start(exposure_s=5.0), *(frame(each) for each in range(60)), an_end(60, 240)]),
        ("scan", "no whole number of scans", [start(spectra=10, scan=(3, 4)), frame()]),
        ("full scale", "full_scale is 255", [start(full_scale=255.0), frame(), END]),
        ("constant", "all counts of frame 0 are 7", [start(), frame(counts=np.full((1, 160), 7, np.uint16))]),
        ("index back", "index counts spectra, not frames", [start(), frame(), frame(1, 1)]),
        ("serpentine", "falls from 6 to 5 within a line, as of a scan there and back; see 'Scans that are",
         [start(scan=(2, 4), block=1), *(frame(each, index, spectra_of(1), time_ns=NOW + each)
                                         for each, index in enumerate([0, 1, 2, 3, 7, 6, 5, 4]))]),
        ("wrap", "sequence and index of the publisher began again",
         [start(), *(frame(each % 16, time_ns=NOW + each) for each in range(20))]),
        ("sequence jump", "the sequence jumps from 1 to 3", [start(), frame(), frame(3)]),
        ("source skip", "the source skips", [start(), frame(), frame(1, 8)]),
        ("repeat", "came again", [start(), frame(), frame()]),
        ("shape", "159 pixels where start announced 160", [start(), frame(counts=CURVE[:, 1:].copy())]),
        ("dtype", "dtype uint32", [start(), frame(counts=CURVE.astype(np.uint32))]),
        ("second start", "never came", [start(), frame(), start(run="two"), frame(run="two")]),
        ("second start", "its spectra are refused",
         [start(), frame(), start(raman_shift=AXIS + 9), frame(1), END]),
        ("start changed", "with another exposure_s (0.5 instead of none)",
         [start(), frame(), start(exposure_s=0.5), frame(1), END]),
        ("no end", "left without an end", [start(), frame(), start(run="two")]),
        ("run again", "begins once more", [start(), frame(), END, start(run="two"), start()]),
        ("wrong totals", "end says 1 sent, but 4 came", [start(), frame(), an_end(1, 1)]),
        ("wrong totals", "says 1 frames, though frame 1 came", [start(), frame(), frame(1), an_end(1, 8)]),
        ("wrong totals", "end says 5 spectra announced, but 4 sent and 0 lost",
         [start(), frame(), an_end(1, 4, announced=5)]),
        ("not complete", "though 4 of the 8 spectra planned", [start(spectra=8), frame(), END]),
        ("more than planned", "8 spectra were measured, 4 planned",
         [start(spectra=4), frame(), frame(1), an_end(2, 8)]),
        ("no end", "end says interrupted", [start(), frame(), an_end(1, 4, reason=Reason.INTERRUPTED)]),
        ("source skip", "does index begin at 1 in place of 0", [start(), frame(0, 1), END]),
        ("sequence jump", "the sequence begins at 1 in place of 0", [start(), frame(1, 0), an_end(2, 4)]),
        ("field", "lost of 'camera' must be", [start(), raw(END, lambda f: f.update(lost={"camera": -1}))]),
        ("tail missing", "the run had 5 frames", [start(), frame(), an_end(5, 20)]),
        ("tail missing", "the run had 5 frames, and none came that could be read", [start(), an_end(5, 20)]),
        ("tail missing", "4 frames, though 1 held all of its spectra", [start(), frame(), an_end(4, 4)]),
        ("source skip", "the source skips spectrum 4: 1 spectrum missing", [start(), frame(), frame(1, 5)]),
        ("field", "2**53, and is missing", [raw(start(), lambda f: f.pop("block"))]),
        ("no start", "came, but no start", [frame(), frame(1), END]),
        ("field", "reason must be one of", [start(), frame(), raw(END, lambda f: f.update(reason="done"))]),
        ("magic", "no key 'cars_rt'", [raw(start(), lambda f: f.pop("cars_rt"))]),
        ("truncated", "bytes", [start(), [*encode(frame())[:2], b"123"]]),
    ],
)  # fmt: skip
def test_each_slip_is_told_with_its_remedy(kind: str, text: str, messages: list[Any]) -> None:
    said, judge = sent(*messages)
    (line,) = [line for line in said if text in line]
    assert line.endswith(f" -> {REMEDIES[kind]}") and judge.found[kind]
    assert line.startswith("hint: " if kind in HINTS else "FAULT: ") and "wrap" not in HINTS
    assert ("does not keep the protocol" in said[-1]) == any(each not in HINTS for each in judge.found)
    assert ("; worth a look: " in said[-1]) == all(each in HINTS for each in judge.found)


def test_each_slip_of_starts_that_are_refused_is_told_and_told_again_of_the_next_run() -> None:
    """While one listens, the driver is mended and started again. Nearly all slips are of one kind."""
    slips = [{"source": 5}, {"scan": [0, 1]}, {"exposure_s": 0}, {"exposure_s": 0}]
    messages = list[Any]()
    for number, slip in enumerate(slips):
        run = f"run-{number}"
        wrong = raw(start(run=run), lambda fields, slip=slip: fields.update(slip))
        messages += [wrong, frame(run=run), wrong, frame(1, run=run), an_end(2, 8, run)]
    said, judge = sent(*messages)
    faults = [line.split(" must")[0] for line in said if line.startswith("FAULT")]
    assert faults == ["FAULT: source", "FAULT: scan", "FAULT: exposure_s", "FAULT: exposure_s"], said
    assert judge.found == {"field": 8}  # what follows from them is no slip of its own
    said, _ = sent(
        start(), *(raw(frame(), lambda f, key=key: f.pop(key)) for key in ("index", "time_ns")), END
    )
    assert (
        sum(line.startswith("FAULT: index must") or line.startswith("FAULT: time_ns") for line in said) == 2
    )


@pytest.mark.parametrize(
    "messages",
    [
        [frame(), raw(frame(1), lambda f: f.pop("index")), frame(2), an_end(3, 12)],
        [frame(), frame(1), raw(frame(2), lambda f: f.pop("index")), an_end(3, 12)],
        [frame(), frame(1, 999), frame(2), an_end(3, 12)],
        [frame(), frame(1), raw(an_end(2, 8), lambda f: f.update(reason="done")), start(run="two")],
    ],
)
def test_what_follows_from_a_refusal_is_no_fault_of_its_own(messages: list[Any]) -> None:
    """A gap is not for want of room at the socket, nor a run without an end, where a message was refused."""
    said, judge = sent(start(spectra=12), *messages)
    assert sum(line.startswith("FAULT") for line in said) == judge.faults == 1, said
    lost = [frame(), raw(frame(1), lambda f: f.pop("index")), frame(3, 8), an_end(4, 12)]  # and one more
    assert sent(start(spectra=12), *lost)[1].found["sequence jump"] == 1


def test_a_run_that_was_under_way_is_judged_from_there_on_and_told_so() -> None:
    """Its start is old because it began long ago, not for a clock that is wrong."""
    began = NOW - 200 * 10**9
    said, judge = sent(start(time_ns=began, sequence=50, index=200), frame(50), an_end(51, 204, time_ns=NOW))
    (line,) = [line for line in said if "was under way when we came, begun 200 s before" in line]
    assert "200 spectra went by" in line and "begin `cars-rt listen` before it" in line
    assert not judge.found and said[-1].startswith("this driver keeps the protocol: 1 run ended, 4 spectra")
    just_now, judge = sent(start(sequence=1, index=4), frame(1))  # a driver that did not wait for anybody
    assert judge.found == {"joined late": 1} and any("after bind" in line for line in just_now)
    _, judge = sent(start(time_ns=began, sequence=50, index=200), frame(50, time_ns=began))
    assert judge.found == {"clock": 1}  # by the frames, which are new


def test_a_start_that_waited_for_the_engine_is_no_sign_of_a_wrong_clock() -> None:
    """That of results keeps the driver's time."""
    old = NOW - 200 * 10**9
    results = start(stream="raman", dtype="float32", model={"name": "cnn"}, time_ns=old)
    assert not sent(results, stream="raman")[1].found and sent(start(time_ns=old))[1].found == {"clock": 1}


def test_a_daemon_may_say_that_its_driver_sent_no_end() -> None:
    results = start(stream="raman", dtype="float32")
    interrupted = an_end(0, 0, stream="raman", reason=Reason.INTERRUPTED)
    assert not sent(results, interrupted, stream="raman")[1].found


def test_the_formula_that_is_advised_is_that_of_anti_stokes_light() -> None:
    """With the other sign the axis falls below 0, and results have the wrong sign."""
    advised = "1e7 / wavelength_nm - 1e7 / pump_nm"
    assert pytest.approx(from_wavelength([700.0, 701.0], 785.0)[0]) == 1e7 / 700.0 - 1e7 / 785.0
    assert advised in REMEDIES[Kind.UNIT_OF_AXIS]
    with pytest.raises(ModelError, match=re.escape(advised)):
        compose(load_model("kk"), np.linspace(700, 710, 160))


def test_there_is_a_remedy_for_whatever_a_receiver_refuses() -> None:
    code = Path(reader.__file__).read_text(encoding="utf-8")
    kinds = {Kind[name] for name in re.findall(r"\bKind\.([A-Z_]+)\b", code)}
    assert {Kind.INDEX_BACK, Kind.SEQUENCE_JUMP, Kind.UNKNOWN_RUN, Kind.REPEAT} <= kinds
    assert {*Fault} | kinds - {Kind.STREAM} <= set(REMEDIES)


def test_the_command_ends_with_a_verdict_and_its_exit_status() -> None:
    def command(address: str, *more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "cars_rt", "listen", address, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    with Published() as good, Published() as bad, Published("preview") as other:
        programs = [
            command(good.address, "--runs", "2"),
            command(bad.address),
            command(other.address, "--seconds", "60"),
        ]
        good.wait()
        for name in ("one", "two"):
            good.run(name, CURVE, 2)
        bad.wait()
        bad.say(start(), frame(), replace(frame(), sequence=1, index=1), an_end(2, 8))
        for program in programs[:2]:
            while program.poll() is None:
                other.publisher.serve()
                time.sleep(0.01)
        said = [program.communicate(timeout=PATIENCE_S)[0] for program in programs[:2]]
        while programs[2].poll() is None:
            other.publisher.serve()
            time.sleep(0.01)
        said.append(programs[2].communicate()[0])
    assert [program.returncode for program in programs] == [0, 3, 1], said
    assert "this driver keeps the protocol: 2 runs ended, 8 spectra" in said[0]
    assert "FAULT: frame 1 begins at spectrum 1" in said[1] and "does not keep the protocol" in said[1]
    assert "the preview stream is published there, not the raw stream; the raw stream is at" in said[2]
