"""Bytes to messages and back. Pure: no sockets, no clock.

A message is a ZeroMQ multipart message: topic, msgpack header, then the arrays that the header
lists, raw and little-endian. `decode` raises ProtocolError and nothing else, whatever the bytes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

import msgpack
import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Range
from cars_rt.kinds import Fault
from cars_rt.physics.axis import AxisError, check_raman_shift
from cars_rt.protocol.errors import ProtocolError
from cars_rt.protocol.limits import (
    MAX_BANDS,
    MAX_BLOCK,
    MAX_CARD,
    MAX_COUNT,
    MAX_FACTS,
    MAX_HEADER_BYTES,
    MAX_ITEMS,
    MAX_NAME,
    MAX_PARTS,
    MAX_PAYLOAD_BYTES,
    MAX_PIXELS,
    MAX_RAMAN_SHIFT,
    MAX_TEXT,
    MAX_TIME,
    VERSION,
)
from cars_rt.protocol.messages import (
    DEVIATION,
    DTYPES,
    FLAGS,
    LATEST,
    MAIN_ARRAY,
    STREAMS,
    Band,
    End,
    Facts,
    Frame,
    Message,
    Reason,
    Start,
    StreamName,
)

MAGIC = "cars_rt"  # the header key that holds the protocol version
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

Header = dict[str, Any]
Part = bytes | bytearray | memoryview
Number = TypeVar("Number", int, float)


def topic(stream: StreamName, kind: str) -> bytes:
    """The first part of a message; subscribe to a prefix of it, such as b"raman."."""
    return f"{stream}.{kind}".encode()


def encode(message: Message) -> list[Part]:
    """Message parts, ready for a multipart send. Arrays are not copied where they are contiguous.

    Raises ProtocolError for a message that no receiver would accept.
    """
    header: Header
    arrays: Mapping[str, NDArray[Any]]
    match message:
        case Start():
            header, arrays = _start_header(message)
        case Frame():
            header, arrays = _frame_header(message), message.arrays
        case End():
            header, arrays = _end_header(message), {}
    kind = type(message).__name__.lower()
    header = {MAGIC: VERSION, "kind": kind, "stream": message.stream, "run": message.run} | header
    _name(message.run, "run")
    payload = [_wire(name, array) for name, array in arrays.items()]
    if arrays:
        header["arrays"] = [
            [name, DTYPE_NAMES[array.dtype], array.shape] for name, array in zip(arrays, payload, strict=True)
        ]
    try:
        packed = cast(bytes, msgpack.packb(header, default=_plain))
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(Fault.FIELD, f"a field that cannot be written in a header: {error}") from None
    parts: list[Part] = [
        topic(message.stream, kind),
        packed,
        *(array.data.cast("B") if array.size else b"" for array in payload),
    ]
    if isinstance(message, Frame):
        _check_frame(message)
    else:
        decode(parts)  # rare, and a start or end that no receiver accepts would cost the whole run
    return parts


def decode(parts: Sequence[Part]) -> Message:
    """The message in these parts. Arrays are read-only views of the parts, not copies.

    Raises ProtocolError, whatever the bytes.
    """
    if not 2 <= len(parts) <= MAX_PARTS:
        raise ProtocolError(Fault.PARTS, f"a message has 2 to {MAX_PARTS} parts, this one {len(parts)}")
    header = _unpack(parts[1])
    kind, stream = _text(header, "kind"), _text(header, "stream")
    if stream not in STREAMS:
        raise ProtocolError(Fault.FIELD, f"stream is {stream!r}, not one of {', '.join(STREAMS)}")
    if kind not in ("start", "frame", "end"):
        raise ProtocolError(Fault.FIELD, f"kind is {kind!r}, not start, frame or end")
    if parts[0] != topic(stream, kind):
        shown = bytes(parts[0][:MAX_NAME])
        raise ProtocolError(Fault.FIELD, f"topic {shown!r} on a {kind} of the {stream} stream")
    run = _name(header.get("run"), "run")
    arrays = _arrays(header, parts[2:])
    if kind == "frame":
        return _frame(stream, run, header, arrays)
    if kind == "start":
        return _start(stream, run, header, arrays)
    if arrays:
        raise ProtocolError(Fault.PARTS, "an end message carries no arrays")
    return _end(stream, run, header)


# -- start ------------------------------------------------------------------------------------------


def _start_header(message: Start) -> tuple[Header, dict[str, NDArray[Any]]]:
    header: Header = {
        "time_ns": message.time_ns,
        "source": message.source,
        "dtype": message.dtype,
        "block": message.block,
        "spectra": message.spectra,
        "scan": message.scan,
        "step_um": message.step_um,
        "exposure_s": message.exposure_s,
        "full_scale": message.full_scale,
        "sequence": message.sequence,
        "index": message.index,
        "model": message.model,
        "calibration": message.calibration,
        "instrument": message.instrument,
    }
    arrays: dict[str, NDArray[Any]] = {"raman_shift": np.asarray(message.raman_shift, np.float64)}
    if message.dark is not None:
        arrays["dark"] = np.asarray(message.dark, np.float32)
    return {key: value for key, value in header.items() if value is not None}, arrays


def _start(stream: StreamName, run: str, header: Header, arrays: Mapping[str, NDArray[Any]]) -> Start:
    if "raman_shift" not in arrays:
        raise ProtocolError(Fault.FIELD, "a start carries the array raman_shift")
    if arrays["raman_shift"].dtype != np.float64:
        raise ProtocolError(Fault.DTYPE, f"raman_shift must be float64, not {arrays['raman_shift'].dtype}")
    pixels = arrays["raman_shift"].size
    if pixels > MAX_PIXELS:
        raise ProtocolError(Fault.OVERSIZED, f"{pixels} pixels, the limit is {MAX_PIXELS}")
    if not (np.abs(arrays["raman_shift"]) <= MAX_RAMAN_SHIFT).all():
        raise ProtocolError(Fault.AXIS, f"raman_shift is not within {MAX_RAMAN_SHIFT:g} cm-1 at every pixel")
    try:
        raman_shift = check_raman_shift(arrays["raman_shift"])
    except AxisError as error:
        raise ProtocolError(Fault.AXIS, str(error)) from None
    dark = arrays.get("dark")
    if dark is not None:
        if dark.dtype != np.float32:
            raise ProtocolError(Fault.DTYPE, f"dark must be float32, not {dark.dtype}")
        if dark.shape != raman_shift.shape:
            raise ProtocolError(Fault.SHAPE, f"dark has shape {dark.shape}, the axis {raman_shift.shape}")
        if not np.isfinite(dark).all():
            raise ProtocolError(Fault.FIELD, "dark holds NaN or infinite values")
    dtype = _text(header, "dtype")
    if dtype not in DTYPES or (stream != "raw" and dtype != "float32"):
        raise ProtocolError(Fault.DTYPE, f"dtype {dtype!r} is not allowed on the {stream} stream")
    block = _count(header, "block")
    if not 1 <= block <= MAX_BLOCK:
        raise ProtocolError(Fault.OVERSIZED, f"block is {block}, the limit is 1 to {MAX_BLOCK}")
    # A frame of counts and its float32 result are both within the limit of one array.
    if block * pixels * max(DTYPES[dtype].itemsize, 4) > MAX_PAYLOAD_BYTES:
        raise ProtocolError(
            Fault.OVERSIZED,
            f"{block} spectra of {pixels} pixels exceed {MAX_PAYLOAD_BYTES} bytes in one frame",
        )
    return Start(
        stream=stream,
        run=run,
        time_ns=_time(header, "time_ns"),
        source=_text(header, "source"),
        raman_shift=raman_shift,
        dtype=dtype,
        block=block,
        spectra=_optional_count(header, "spectra"),
        scan=_pair(header, "scan", int),
        step_um=_pair(header, "step_um", float),
        exposure_s=_positive(header, "exposure_s"),
        full_scale=_positive(header, "full_scale"),
        dark=dark,
        sequence=_optional_count(header, "sequence") or 0,
        index=_optional_count(header, "index") or 0,
        model=_texts(header, "model"),
        calibration=_facts(header, "calibration"),
        instrument=_facts(header, "instrument"),
    )


# -- frame ------------------------------------------------------------------------------------------


def _frame_header(message: Frame) -> Header:
    header: Header = {"sequence": message.sequence, "index": message.index, "time_ns": message.time_ns}
    for key in ("time_in_ns", "time_out_ns", "lost"):
        if (value := getattr(message, key)) is not None:
            header[key] = value
    for key in header:
        _time(header, key) if key.startswith("time") else _count(header, key)
    if message.made_by is not None:
        header["made_by"] = _name(message.made_by, "made_by")
    if message.bands is not None:
        header["bands"] = [list(band) for band in message.bands]
    return header


def _frame(stream: StreamName, run: str, header: Header, arrays: Mapping[str, NDArray[Any]]) -> Frame:
    frame = Frame(
        stream=stream,
        run=run,
        sequence=_count(header, "sequence"),
        index=_count(header, "index"),
        time_ns=_time(header, "time_ns"),
        arrays=arrays,
        time_in_ns=_optional_time(header, "time_in_ns"),
        time_out_ns=_optional_time(header, "time_out_ns"),
        lost=_optional_count(header, "lost"),
        made_by=None if header.get("made_by") is None else _name(header["made_by"], "made_by"),
        bands=None if header.get("bands") is None else _bands(header["bands"]),
    )
    _check_frame(frame)
    return frame


def _check_frame(frame: Frame) -> None:
    """What the arrays of a frame must be; the same for sending and receiving."""
    arrays = frame.arrays
    main = arrays.get(MAIN_ARRAY[frame.stream])
    if main is None:
        raise ProtocolError(
            Fault.FIELD, f"a {frame.stream} frame carries the array {MAIN_ARRAY[frame.stream]}"
        )
    if main.ndim != 2:
        raise ProtocolError(
            Fault.SHAPE, f"{MAIN_ARRAY[frame.stream]} must be (spectra, pixels), not {main.shape}"
        )
    if main.shape[0] > MAX_BLOCK or main.shape[1] > MAX_PIXELS:
        raise ProtocolError(
            Fault.OVERSIZED, f"frame of {main.shape}; the limits are {MAX_BLOCK} spectra, {MAX_PIXELS} pixels"
        )
    if main.shape[0] == 0:
        raise ProtocolError(Fault.SHAPE, "the frame holds no spectrum (empty block)")
    if len(arrays) > MAX_PARTS - 2:
        raise ProtocolError(Fault.PARTS, f"{len(arrays)} arrays, the limit is {MAX_PARTS - 2}")
    for name, array in arrays.items():
        if frame.stream == "preview" and name in LATEST:
            if array.ndim != 1:
                raise ProtocolError(Fault.SHAPE, f"{name} must be one spectrum, not {array.shape}")
        elif array.shape[:1] != main.shape[:1]:
            raise ProtocolError(Fault.SHAPE, f"{name} has shape {array.shape} beside {main.shape}")
    if (flags := frame.flags) is not None:
        _must_be(FLAGS, flags, np.uint8, main.shape[:1])
    if (deviation := frame.deviation) is not None:
        _must_be(DEVIATION, deviation, np.float32, main.shape)
    if max(frame.sequence + 1, frame.index + main.shape[0]) > MAX_COUNT:
        raise ProtocolError(Fault.FIELD, "sequence and index must leave room for the next frame's")


def _must_be(name: str, array: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype:
        raise ProtocolError(Fault.DTYPE, f"{name} must be {dtype.__name__}, not {array.dtype}")
    if array.shape != shape:
        raise ProtocolError(Fault.SHAPE, f"{name} must be {shape}, not {array.shape}")


def _bands(value: object) -> tuple[Band, ...]:
    """Bands as a header lists them: [name, low, high] each."""
    if not isinstance(value, list) or not len(value) <= MAX_BANDS:
        raise ProtocolError(Fault.FIELD, f"bands must be a list of at most {MAX_BANDS} [name, low, high]")
    return tuple(
        check_band(*entry) if isinstance(entry, list) and len(entry) == 3 else _no_band() for entry in value
    )


def check_band(name: object, low: object, high: object) -> Band:
    """A band whose name and range, cm-1, make sense. Raises ProtocolError."""
    _name(name, "the name of a band")
    numbers = [float(each) for each in (low, high) if isinstance(each, int | float)]
    if len(numbers) != 2 or not -MAX_RAMAN_SHIFT <= numbers[0] < numbers[1] <= MAX_RAMAN_SHIFT:
        raise ProtocolError(Fault.FIELD, f"band {name}: its range must be two numbers in cm-1, low and high")
    return Band(str(name), *numbers)


def _no_band() -> Band:
    raise ProtocolError(Fault.FIELD, "each of bands must be [name, low, high]")


# -- end --------------------------------------------------------------------------------------------


def _end_header(message: End) -> Header:
    header: Header = {
        "time_ns": message.time_ns,
        "frames": message.frames,
        "spectra": message.spectra,
        "reason": message.reason.value,
        "lost": dict(message.lost),
    }
    if message.announced is not None:
        header["announced"] = message.announced
    if message.ranges:
        header["ranges"] = [list(each) for each in message.ranges[:MAX_ITEMS]]
    return header


def _end(stream: StreamName, run: str, header: Header) -> End:
    try:
        reason = Reason(_text(header, "reason"))
    except ValueError as error:
        if isinstance(error, ProtocolError):
            raise
        raise ProtocolError(Fault.FIELD, f"reason must be one of {', '.join(Reason)}") from None
    lost = {} if header.get("lost") is None else header["lost"]
    if not isinstance(lost, dict):
        raise ProtocolError(Fault.FIELD, "lost must be a map from cause to number of spectra")
    return End(
        stream=stream,
        run=run,
        time_ns=_time(header, "time_ns"),
        frames=_count(header, "frames"),
        spectra=_count(header, "spectra"),
        reason=reason,
        announced=_optional_count(header, "announced"),
        lost={_name(cause, "a cause in lost"): _count(lost, cause) for cause in lost},
        ranges=_ranges(header),
    )


def _ranges(header: Header) -> tuple[Range, ...]:
    listed = [] if header.get("ranges") is None else header["ranges"]
    if not isinstance(listed, list):
        raise ProtocolError(Fault.FIELD, "ranges must be a list of [cause, first, spectra]")
    ranges = []
    for entry in listed:
        if not isinstance(entry, list) or len(entry) != 3:
            raise ProtocolError(Fault.FIELD, "each of ranges must be [cause, first, spectra]")
        numbers = {"first": entry[1], "spectra": entry[2]}
        cause = _name(entry[0], "a cause in ranges")
        ranges.append(Range(cause, _count(numbers, "first"), _count(numbers, "spectra")))
    return tuple(ranges)


# -- header fields ----------------------------------------------------------------------------------


def _unpack(part: Part) -> Header:
    if len(part) > MAX_HEADER_BYTES:
        raise ProtocolError(Fault.OVERSIZED, f"header of {len(part)} bytes, the limit is {MAX_HEADER_BYTES}")
    try:
        header = msgpack.unpackb(
            part, raw=False, strict_map_key=True, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(Fault.HEADER, f"the header is not msgpack ({type(error).__name__})") from None
    if not isinstance(header, dict):
        raise ProtocolError(Fault.HEADER, "the header is not a msgpack map")
    if MAGIC not in header:
        raise ProtocolError(Fault.MAGIC, f"not a CARS-RT message: the header has no key {MAGIC!r}")
    version = header[MAGIC]
    if type(version) is not int or version != VERSION:
        shown = version if type(version) is int else type(version).__name__
        raise ProtocolError(Fault.VERSION, f"protocol version {shown}; this program speaks version {VERSION}")
    return header


def _text(header: Header, key: str, limit: int = MAX_TEXT) -> str:
    value = header.get(key)
    if not isinstance(value, str):
        raise ProtocolError(Fault.FIELD, f"{key} must be text")
    if len(value) > limit:
        raise ProtocolError(Fault.OVERSIZED, f"{key} has {len(value)} characters, the limit is {limit}")
    return value


def _name(value: object, what: str) -> str:
    """A word that programs compare and that is safe to print."""
    if not isinstance(value, str) or not (
        0 < len(value) <= MAX_NAME and value.isascii() and value.isprintable()
    ):
        raise ProtocolError(Fault.FIELD, f"{what} must be 1 to {MAX_NAME} printable ASCII characters")
    return value


def _count(header: Header, key: str, most: int = MAX_COUNT, shown: str = "2**53") -> int:
    value = header.get(key)
    if type(value) is not int or not 0 <= value <= most:
        raise ProtocolError(Fault.FIELD, f"{key} must be an integer from 0 to {shown}")
    return value


def _optional_count(header: Header, key: str) -> int | None:
    return None if header.get(key) is None else _count(header, key)


def _time(header: Header, key: str) -> int:
    return _count(header, key, MAX_TIME, "2**63 - 1")


def _optional_time(header: Header, key: str) -> int | None:
    return None if header.get(key) is None else _time(header, key)


def _positive(header: Header, key: str) -> float | None:
    value = header.get(key)
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
        raise ProtocolError(Fault.FIELD, f"{key} must be a positive number")
    return float(value)


def _pair(header: Header, key: str, kind: type[Number]) -> tuple[Number, Number] | None:
    value = header.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise ProtocolError(Fault.FIELD, f"{key} must be two numbers")
    accepted = (int,) if kind is int else (int, float)
    if not all(type(number) in accepted and 0 < kind(number) <= MAX_COUNT for number in value):
        raise ProtocolError(Fault.FIELD, f"{key} must be two positive numbers")
    return kind(value[0]), kind(value[1])


def _texts(header: Header, key: str) -> dict[str, str] | None:
    value = header.get(key)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ProtocolError(Fault.FIELD, f"{key} must be a map of texts")
    return {_name(name, f"a key of {key}"): _text(value, name, MAX_CARD) for name in value}


def _facts(header: Header, key: str) -> Facts | None:
    value = header.get(key)
    return None if value is None else check_facts(value, key)


def check_facts(value: object, what: str) -> Facts:
    """A map of at most MAX_FACTS names to texts, finite numbers or short lists of them, from elsewhere.

    Raises ProtocolError.
    """
    if not isinstance(value, Mapping):
        raise ProtocolError(Fault.FIELD, f"{what} must be a map")
    if len(value) > MAX_FACTS:
        raise ProtocolError(Fault.OVERSIZED, f"{what} has {len(value)} entries, the limit is {MAX_FACTS}")
    return {_name(name, f"a key of {what}"): _fact(fact, f"{name} of {what}") for name, fact in value.items()}


def _fact(value: object, what: str) -> str | int | float | list[float]:
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise ProtocolError(
                Fault.OVERSIZED, f"{what} has {len(value)} characters, the limit is {MAX_TEXT}"
            )
        return value
    if isinstance(value, list):
        if len(value) > MAX_FACTS:
            raise ProtocolError(Fault.OVERSIZED, f"{what} has {len(value)} numbers, the limit is {MAX_FACTS}")
        return [_finite(each, what) for each in value]
    return _finite(value, what)


def _finite(value: object, what: str) -> int | float:
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int and -MAX_COUNT <= value <= MAX_TIME:
        return value
    raise ProtocolError(Fault.FIELD, f"{what} must be text, a finite number, or a list of such numbers")


def _arrays(header: Header, parts: Sequence[Part]) -> dict[str, NDArray[Any]]:
    listed = header.get("arrays")
    listed = [] if listed is None else listed
    if not isinstance(listed, list) or len(listed) != len(parts):
        raise ProtocolError(Fault.PARTS, f"the header lists other arrays than the {len(parts)} that follow")
    arrays: dict[str, NDArray[Any]] = {}
    for entry, part in zip(listed, parts, strict=True):
        if not isinstance(entry, list) or len(entry) != 3:
            raise ProtocolError(Fault.FIELD, "each entry of arrays must be [name, dtype, shape]")
        name = _name(entry[0], "the name of an array")
        if name in arrays:
            raise ProtocolError(Fault.FIELD, f"two arrays of the name {name}")
        arrays[name] = _array(name, entry[1], entry[2], part)
    return arrays


def _array(name: str, dtype_name: object, shape: object, part: Part) -> NDArray[Any]:
    dtype = DTYPES.get(dtype_name) if isinstance(dtype_name, str) else None
    if dtype is None:
        raise ProtocolError(Fault.DTYPE, f"{name}: dtype must be one of {', '.join(DTYPES)}")
    if not isinstance(shape, list) or not 1 <= len(shape) <= 2:
        raise ProtocolError(Fault.SHAPE, f"{name}: shape must be one or two sizes")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ProtocolError(Fault.SHAPE, f"{name}: shape holds something else than sizes")
    expected = math.prod(shape) * dtype.itemsize
    if max(*shape, expected, len(part)) > MAX_PAYLOAD_BYTES:
        raise ProtocolError(
            Fault.OVERSIZED, f"{name}: more than {MAX_PAYLOAD_BYTES} bytes in one array, which is the limit"
        )
    if len(part) != expected:
        raise ProtocolError(Fault.TRUNCATED, f"{name}: {len(part)} bytes where {expected} were announced")
    array = np.frombuffer(part, dtype=dtype) if expected else np.empty(0, dtype)
    array = array.reshape(shape)
    array.flags.writeable = False
    return array


def _wire(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """An array as its bytes go on the wire; not copied where it already lies so."""
    _name(name, "the name of an array")
    dtype = array.dtype.newbyteorder("<")
    if dtype not in DTYPE_NAMES:
        raise ProtocolError(Fault.DTYPE, f"{name}: dtype {array.dtype} is not one of {', '.join(DTYPES)}")
    if not 1 <= array.ndim <= 2:
        raise ProtocolError(Fault.SHAPE, f"{name}: shape {array.shape} has not one or two sizes")
    if array.nbytes > MAX_PAYLOAD_BYTES:
        raise ProtocolError(Fault.OVERSIZED, f"{name}: more than {MAX_PAYLOAD_BYTES} bytes in one array")
    return np.ascontiguousarray(array, dtype)


def _plain(value: object) -> object:
    """NumPy's numbers as Python's, for msgpack."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} is neither number nor text")
