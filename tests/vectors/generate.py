"""Writes the test vectors of the wire format: messages as bytes beside what they mean.

Run it after a change of the format: python tests/vectors/generate.py
It uses nothing of cars_rt, so that the bytes are a second opinion, not an echo.
"""

import json
import math
import struct
from pathlib import Path
from typing import Any

import msgpack

CODES = {"uint8": "B", "uint16": "H", "uint32": "I", "float32": "f", "float64": "d"}
TIME = 1_700_000_000_123_456_789  # does not fit a float64

Array = tuple[str, str, list[int], list[float]]  # name, dtype, shape, values in row-major order
AXIS: Array = ("raman_shift", "float64", [3], [600.0, 1601.5, 3100.25])


def message(
    header: dict[str, Any], *arrays: Array, packed: bytes | None = None, topic: str | None = None
) -> list[bytes]:
    """The parts of a message. `packed` and `topic` replace what the header would give."""
    if arrays and "arrays" not in header:
        header["arrays"] = [[name, dtype, shape] for name, dtype, shape, _ in arrays]
    return [
        (topic or f"{header['stream']}.{header['kind']}").encode(),
        msgpack.packb(header) if packed is None else packed,
        *(struct.pack(f"<{len(values)}{CODES[dtype]}", *values) for _, dtype, _, values in arrays),
    ]


def head(stream: str, kind: str) -> dict[str, Any]:
    """The fields that every header begins with."""
    return {"cars_rt": 1, "kind": kind, "stream": stream, "run": "run-1"}


def start(stream: str = "raw", **fields: Any) -> dict[str, Any]:
    """The smallest start header."""
    dtype = "float32" if stream == "raman" else "uint16"
    return head(stream, "start") | {
        "time_ns": TIME, "source": "camera", "dtype": dtype, "block": 4, "sequence": 0, "index": 0,
    } | fields  # fmt: skip


def frame(stream: str = "raw", **fields: Any) -> dict[str, Any]:
    """The smallest frame header."""
    return head(stream, "frame") | {"sequence": 0, "index": 0, "time_ns": TIME} | fields


def end(stream: str = "raw", **fields: Any) -> dict[str, Any]:
    """The smallest end header as encode writes it."""
    return (
        head(stream, "end")
        | {"time_ns": TIME, "frames": 1, "spectra": 2, "reason": "complete", "lost": {}}
        | fields
    )


def without(header: dict[str, Any], key: str) -> dict[str, Any]:
    """The header without one key."""
    return {name: value for name, value in header.items() if name != key}


COUNTS: Array = ("counts", "uint16", [2, 3], [1, 258, 65535, 0, 4660, 7])
RAMAN: Array = ("raman", "float32", [2, 3], [0.5, -1.25, 3e5, 0.0, 1.0, 2.0])


def valid() -> list[dict[str, Any]]:
    """Messages that must be read. `canonical`: cars_rt writes exactly these bytes."""
    vectors: list[dict[str, Any]] = []

    def add(name: str, header: dict[str, Any], *arrays: Array, packed: bytes | None = None) -> None:
        known = message(header, *arrays, packed=packed)
        vectors.append(
            {
                "name": name,
                "canonical": not name.startswith("tolerated"),
                "parts": [part.hex() for part in known],
                "header": header,
                "arrays": {key: {"dtype": d, "shape": s, "values": v} for key, d, s, v in arrays},
            }
        )

    add("smallest start, raw", start(), AXIS)
    everything = {
        "time_ns": TIME, "source": "Spektrometer 3 µm", "dtype": "uint32", "block": 4096,
        "spectra": 200_000, "scan": [400, 500], "step_um": [0.5, 0.25], "exposure_s": 0.0035,
        "full_scale": 65535.0, "sequence": 12, "index": 2**40,
    }  # fmt: skip
    dark: Array = ("dark", "float32", [3], [100.5, 101.0, 99.25])
    add("start with every field, raw", head("raw", "start") | everything, AXIS, dark)
    model = {"name": "unet", "version": "3", "sha256": "ab" * 32, "target": "ratio", "engine": "CPU"}
    add("smallest start, raman", start("raman"), AXIS)
    falling: Array = ("raman_shift", "float64", [3], [3100.25, 1601.5, -600.0])
    add(
        "start with every field, raman",
        head("raman", "start") | everything | {"dtype": "float32", "model": model},
        falling,
        dark,
    )
    calibration = {
        "id": "ab12", "kind": "standard", "time": "2026-11-02T10:00:00Z", "instrument": "Spektrometer 3 µm",
        "coefficients": [398.5, 1.5, -0.00025], "residual_cm1": 0.25, "pixels": 3,
    }  # fmt: skip
    add("start with a calibration, raw", start(calibration=calibration), AXIS)
    instrument = {"model": "Kamera 3 µm", "gain": 2, "temperature_c": -60.5, "region": [0, 10, 1340, 4]}
    add("start with an instrument's settings, raw", start(instrument=instrument), AXIS)
    add("start with a calibration, raman", start("raman", calibration=calibration), AXIS)
    for dtype in CODES:
        real = dtype.startswith("float")
        values = [1.5, -2.25, 0.0, 4096.0] if real else [1, 2, 250, 0]
        if dtype == "uint32":
            values[0] = 0x01020304
        add(f"frame of {dtype}", frame(), ("counts", dtype, [2, 2], values))
    add("frame of one spectrum", frame(sequence=7, index=70), ("counts", "uint16", [1, 3], [1, 258, 65535]))
    add(
        "frame at the greatest numbers", frame(sequence=2**53 - 1, index=2**53 - 2, time_ns=2**63 - 1), COUNTS
    )
    add("smallest frame, raman", frame("raman"), RAMAN)
    times = {"time_in_ns": TIME + 1, "time_out_ns": TIME + 2, "lost": 5, "made_by": "a1b2 onnxruntime start"}
    add("frame with every field, raman", frame("raman", sequence=1, index=2, **times), RAMAN)
    flags: Array = ("flags", "uint8", [2], [0, 9])
    deviation: Array = ("deviation", "float32", [2, 3], [0.5, 0.25, 0.125, 2.0, 1.0, 0.0625])
    add("frame with flags, raman", frame("raman", sequence=1, index=2, **times), RAMAN, flags)
    add(
        "frame with every array, raman", frame("raman", sequence=1, index=2, **times), RAMAN, flags, deviation
    )
    delays: Array = ("delays", "float64", [2], [0.0, 0.001])
    add(
        "frame that joins two blocks, raman",
        frame("raman", sequence=1, index=2, **times),
        RAMAN,
        flags,
        delays,
    )
    bands = {"bands": [["CH", 2800.0, 3050.0], ["amide I", 1630.0, 1690.0]]}
    latest = (
        ("latest_counts", "float32", [3], [1.0, 2.0, 3.0]),
        ("latest_raman", "float32", [3], [0.5, 0.25, 0.0]),
    )
    add(
        "frame with every array, preview",
        frame("preview", sequence=1, index=2, made_by="a1b2 onnxruntime start", **bands),
        ("bands", "float32", [2, 2], [0.5, 0.25, 1.5, -0.25]),
        flags,
        *latest,
    )
    add("smallest end, raw", end())
    add("end with every field, raw", end(reason="failed", lost={"overload": 3, "driver jam": 1}, announced=6))
    ranges = [["missing", 0, 4], ["driver jam", 7, 1]]
    add(
        "end with ranges, raman",
        end("raman", reason="complete", lost={"missing": 4, "driver jam": 1}, announced=5, ranges=ranges),
    )
    add("smallest end, raman", end("raman"))
    for reason in ("complete", "stopped", "failed", "interrupted"):
        lost = {"missing": 1, "upstream": 2, "rejected": 3, "overload": 4, "engine": 5}
        add(f"end {reason}, raman", end("raman", reason=reason, lost=lost, announced=17))

    add("tolerated: the least a start needs", without(without(start(), "sequence"), "index"), AXIS)
    add("tolerated: the least an end needs", without(end(), "lost"))
    nil = dict.fromkeys(
        (
            "spectra",
            "scan",
            "step_um",
            "exposure_s",
            "full_scale",
            "sequence",
            "index",
            "model",
            "calibration",
            "instrument",
        )
    )
    add("tolerated: nil for optional fields of start", start(**nil), AXIS)
    add("tolerated: nil for optional fields of end", end(lost=None, announced=None, arrays=None))
    add("tolerated: keys in another order", dict(reversed(start(arrays=[list(AXIS[:3])]).items())), AXIS)
    add("tolerated: unknown keys", end(future={"a": [1, None, True]}, x="y"))
    add("tolerated: an unknown array in start", start(), ("future", "uint8", [1, 2], [1, 2]), AXIS)
    add(
        "tolerated: flags in the names of others, raw",
        frame(),
        COUNTS,
        ("flags", "float32", [2], [0.5, 0.25]),
    )
    add("tolerated: an unknown array in frame", frame("raman"), RAMAN, ("sigma", "float32", [2], [0.5, 0.25]))
    wide = frame(sequence=1, index=1, arrays=[list(COUNTS[:3])])
    narrow = msgpack.packb({"sequence": 1, "index": 1})[1:]
    broad = narrow.replace(b"\xa8sequence\x01", b"\xa8sequence\xcf" + (1).to_bytes(8, "big"))
    broad = broad.replace(b"\xa5index\x01", b"\xa5index\xd3" + (1).to_bytes(8, "big"))
    add("tolerated: wide integers", wide, COUNTS, packed=msgpack.packb(wide).replace(narrow, broad))
    return vectors


def invalid() -> list[dict[str, Any]]:
    """Messages that must be refused, each with the fault that cars_rt reports."""
    vectors: list[dict[str, Any]] = []

    def add(name: str, fault: str, parts: list[bytes]) -> None:
        vectors.append({"name": name, "fault": fault, "parts": [part.hex() for part in parts]})

    one = message(frame(), COUNTS)
    add("no part", "parts", [])
    add("a topic alone", "parts", one[:1])
    add("nine parts", "parts", [*one, *[b""] * 6])
    add("an array that the header does not list", "parts", [*one, b""])
    add("an array of the header that is not there", "parts", one[:2])
    add("an end with an array", "parts", message(end(), COUNTS))
    add("no cars_rt key", "magic", message(without(frame(), "cars_rt"), COUNTS))
    add("an empty map", "magic", message(end(), packed=b"\x80"))
    add("version 2", "version", message(frame() | {"cars_rt": 2}, COUNTS))
    add("version true", "version", message(frame() | {"cars_rt": True}, COUNTS))
    add("version 1.0", "version", message(frame() | {"cars_rt": 1.0}, COUNTS))
    whole = msgpack.packb(end())
    add("not msgpack", "header", message(end(), packed=b"\xc1"))
    add("an empty header", "header", message(end(), packed=b""))
    add("a header that is a list", "header", message(end(), packed=b"\x90"))
    add("a cut header", "header", message(end(), packed=whole[:-1]))
    add("a byte after the header", "header", message(end(), packed=whole + b"\xc0"))
    add("an integer as a key", "header", message(end(), packed=msgpack.packb(end() | {7: 1})))  # type: ignore[dict-item]
    add("text that is not UTF-8", "header", message(end(), packed=whole.replace(b"run-1", b"run-\xff")))
    add("a list of 1025", "header", message(end(future=[0] * 1025)))
    add("another stream", "field", message(end() | {"stream": "status"}))
    add("another kind", "field", message(end() | {"kind": "stop"}))
    add("a topic of another kind", "field", message(end(), topic="raw.frame"))
    add("no run", "field", message(without(end(), "run"), topic="raw.end"))
    add("an empty run", "field", message(end() | {"run": ""}))
    add("a run of 65 characters", "field", message(end() | {"run": "r" * 65}))
    add("a run with a line break", "field", message(end() | {"run": "a\nb"}))
    add("no source", "field", message(without(start(), "source"), AXIS))
    add("no block", "field", message(without(start(), "block"), AXIS))
    add("scan of one number", "field", message(start(scan=[5]), AXIS))
    add("scan of zero rows", "field", message(start(scan=[0, 5]), AXIS))
    add("scan of fractions", "field", message(start(scan=[2.0, 5.0]), AXIS))
    add("exposure of zero", "field", message(start(exposure_s=0), AXIS))
    add("exposure NaN", "field", message(start(exposure_s=float("nan")), AXIS))
    add("model that is text", "field", message(start("raman", model="unet"), AXIS))
    for name, calibration in {
        "text": "lamp",
        "a list": [1.0],
        "a map within": {"a": {"b": 1}},
        "NaN": {"a": float("nan")},
        "infinity in a list": {"a": [1.0, float("inf")]},
        "text in a list": {"a": ["b"]},
        "a truth": {"a": True},
        "a name with a line break": {"a\nb": 1},
        "an integer of 2**63": {"a": 2**63},
    }.items():
        add(f"calibration: {name}", "field", message(start(calibration=calibration), AXIS))
    for name, calibration in {
        "33 entries": {f"a{number}": 1 for number in range(33)},
        "33 numbers": {"a": [1] * 33},
        "1025 characters": {"a": "b" * 1025},
    }.items():
        add(f"calibration: {name}", "oversized", message(start(calibration=calibration), AXIS))
    add("instrument: a map within", "field", message(start(instrument={"a": {"b": 1}}), AXIS))
    add("dark with NaN", "field", message(start(), AXIS, ("dark", "float32", [3], [1.0, float("nan"), 1.0])))
    add("a start without axis", "field", message(start()))
    add("a frame without counts", "field", message(frame(), RAMAN))
    add("two arrays of one name", "field", message(frame(), COUNTS, COUNTS))
    add("an array entry of two", "field", message(frame(arrays=[["counts", "uint16"]]), COUNTS))
    add("sequence missing", "field", message(without(frame(), "sequence"), COUNTS))
    add("sequence negative", "field", message(frame(sequence=-1), COUNTS))
    add("sequence true", "field", message(frame(sequence=True), COUNTS))
    add("sequence 0.0", "field", message(frame(sequence=0.0), COUNTS))
    add("index 2**53 + 1", "field", message(frame(index=2**53 + 1), COUNTS))
    add("time 2**63", "field", message(frame(time_ns=2**63), COUNTS))
    add("index that leaves no room", "field", message(frame(index=2**53 - 1), COUNTS))
    add("an unknown reason", "field", message(end(reason="done")))
    add("lost that is a number", "field", message(end(lost=3)))
    add("ranges that are a number", "field", message(end(ranges=3)))
    add("a range of two", "field", message(end(ranges=[["missing", 3]])))
    add("a range with a negative first", "field", message(end(ranges=[["missing", -1, 3]])))
    add("a range without a cause", "field", message(end(ranges=[[None, 1, 3]])))
    add("lost that is negative", "field", message(end(lost={"overload": -3})))
    add("a block of 4097", "oversized", message(start(block=4097), AXIS))
    add("a block of 0", "oversized", message(start(block=0), AXIS))
    add("text of 1025 characters", "oversized", message(start(source="s" * 1025), AXIS))
    huge = frame(arrays=[["counts", "uint16", [4096, 65536]]])
    add("a shape beyond the limit", "oversized", message(huge, COUNTS))
    add("too many spectra", "oversized", message(frame(), ("counts", "uint8", [4097, 1], [1] * 4097)))
    add("a byte too few", "truncated", [*one[:2], one[2][:-1]])
    add("a byte too many", "truncated", [*one[:2], one[2] + b"\0"])
    add("an empty array part", "truncated", [*one[:2], b""])
    add("int16", "dtype", message(frame(arrays=[["counts", "int16", [2, 3]]]), COUNTS))
    add("a dtype that is a number", "dtype", message(frame(arrays=[["counts", 2, [2, 3]]]), COUNTS))
    add("a start with dtype int16", "dtype", message(start(dtype="int16"), AXIS))
    add("raman of uint16", "dtype", message(start("raman", dtype="uint16"), AXIS))
    add("an axis of float32", "dtype", message(start(), ("raman_shift", "float32", [2], [1.0, 2.0])))
    add("dark of float64", "dtype", message(start(), AXIS, ("dark", "float64", [3], [1.0, 1.0, 1.0])))
    add("counts of one dimension", "shape", message(frame(), ("counts", "uint16", [3], [1, 2, 3])))
    add("counts of three", "shape", message(frame(), ("counts", "uint16", [1, 1, 3], [1, 2, 3])))
    add("an empty block", "shape", message(frame(), ("counts", "uint16", [0, 3], [])))
    add("a negative size", "shape", message(frame(arrays=[["counts", "uint16", [-2, -3]]]), COUNTS))
    add("a shape that is a number", "shape", message(frame(arrays=[["counts", "uint16", 6]]), COUNTS))
    add("dark of another length", "shape", message(start(), AXIS, ("dark", "float32", [2], [1.0, 1.0])))
    sigma: Array = ("sigma", "float32", [3], [1.0, 1.0, 1.0])
    add("a second array of other length", "shape", message(frame("raman"), RAMAN, sigma))
    flags: Array = ("flags", "uint8", [2], [0, 1])
    add("flags of float32", "dtype", message(frame("raman"), RAMAN, ("flags", "float32", [2], [0.0, 1.0])))
    add("flags of every point", "shape", message(frame("raman"), RAMAN, ("flags", "uint8", [2, 3], [0] * 6)))
    add("flags of other spectra", "shape", message(frame("raman"), RAMAN, ("flags", "uint8", [1], [0])))
    add("flags that are cut", "truncated", [*message(frame("raman"), RAMAN, flags)[:-1], b"\0"])
    add("flags that do not come", "parts", message(frame("raman"), RAMAN, flags)[:-1])
    wide: Array = ("deviation", "float64", [2, 3], [1.0] * 6)
    add("deviation of float64", "dtype", message(frame("raman"), RAMAN, wide))
    short: Array = ("deviation", "float32", [2, 2], [1.0] * 4)
    add("deviation of fewer points", "shape", message(frame("raman"), RAMAN, short))
    for name, late in {"NaN": math.nan, "two weeks": 1.3e6, "before 1970": -9e5}.items():
        early = frame("raman", time_ns=1)
        add(f"delays of {name}", "field", message(early, RAMAN, ("delays", "float64", [2], [0.0, late])))
    add("delays of float32", "dtype", message(frame("raman"), RAMAN, ("delays", "float32", [2], [0.0, 1.0])))
    add("delays of one spectrum", "shape", message(frame("raman"), RAMAN, ("delays", "float64", [1], [0.0])))
    for name, axis in {
        "one point": [600.0],
        "a repeated point": [600.0, 600.0, 700.0],
        "a turn": [600.0, 700.0, 650.0],
        "NaN": [600.0, float("nan"), 700.0],
        "infinity": [600.0, 700.0, float("inf")],
        "no optical transition": [600.0, 700.0, 100_001.0],
        "huge values that return": [1e308, -1e308, 1e308],
    }.items():
        add(f"axis: {name}", "axis", message(start(), ("raman_shift", "float64", [len(axis)], axis)))
    return vectors


def main() -> None:
    """Write valid.json and invalid.json beside this file, one line for each vector."""
    for name, vectors in (("valid", valid()), ("invalid", invalid())):
        lines = ",\n".join(json.dumps(vector, ensure_ascii=False) for vector in vectors)
        path = Path(__file__).with_name(f"{name}.json")
        path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        print(f"{path.name}: {len(vectors)} vectors, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
