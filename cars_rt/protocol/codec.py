"""Bytes to messages and back. Pure: no sockets, no clock.

A message is a ZeroMQ multipart message: topic, msgpack header, then the arrays that the header
lists, raw and little-endian. `decode` raises ProtocolError and nothing else, whatever the bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgpack
import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Range
from cars_rt.kinds import Fault
from cars_rt.physics.axis import AxisError, check_raman_shift
from cars_rt.protocol.arrays import DTYPE_NAMES, as_sent, unpack_arrays
from cars_rt.protocol.errors import ProtocolError
from cars_rt.protocol.fields import (
    MAGIC,
    Header,
    Part,
    count_of,
    facts,
    name_of,
    optional_count,
    optional_time,
    pair,
    positive,
    text_of,
    texts,
    time_of,
    unpack,
)
from cars_rt.protocol.limits import (
    MAX_BANDS,
    MAX_BLOCK,
    MAX_COUNT,
    MAX_DELAY_S,
    MAX_ITEMS,
    MAX_NAME,
    MAX_PARTS,
    MAX_PAYLOAD_BYTES,
    MAX_PIXELS,
    MAX_RAMAN_SHIFT,
    MAX_TIME,
    VERSION,
)
from cars_rt.protocol.messages import (
    DELAYS,
    DTYPES,
    FLAGS,
    LATEST,
    MAIN_ARRAY,
    NETWORK_OUTPUTS,
    STREAMS,
    Band,
    End,
    Frame,
    Message,
    Reason,
    Start,
    StreamName,
)


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
    name_of(message.run, "run")
    payload = [as_sent(name, array) for name, array in arrays.items()]
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
        decode(parts)  # they are rare, and a start or end that no receiver accepts would cost the run
    return parts


def decode(parts: Sequence[Part]) -> Message:
    """The message in these parts. Arrays are read-only views of the parts, not copies.

    Raises ProtocolError, whatever the bytes.
    """
    if not 2 <= len(parts) <= MAX_PARTS:
        raise ProtocolError(Fault.PARTS, f"a message has 2 to {MAX_PARTS} parts, this one {len(parts)}")
    header = unpack(parts[1])
    kind, stream = text_of(header, "kind"), text_of(header, "stream")
    if stream not in STREAMS:
        raise ProtocolError(Fault.FIELD, f"stream is {stream!r}, not one of {', '.join(STREAMS)}")
    if kind not in ("start", "frame", "end"):
        raise ProtocolError(Fault.FIELD, f"kind is {kind!r}, not start, frame or end")
    if parts[0] != topic(stream, kind):
        shown = bytes(parts[0][:MAX_NAME])
        raise ProtocolError(Fault.FIELD, f"topic {shown!r} on a {kind} of the {stream} stream")
    run = name_of(header.get("run"), "run")
    arrays = unpack_arrays(header, parts[2:])
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
    shift = arrays["raman_shift"].ravel()
    if (beyond := ~(np.abs(shift) <= MAX_RAMAN_SHIFT)).any():
        at = int(beyond.argmax())
        text = f"raman_shift is {shift[at]:g} at pixel {at}, and must be within {MAX_RAMAN_SHIFT:g} cm-1"
        raise ProtocolError(Fault.AXIS, text)
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
    dtype = text_of(header, "dtype")
    if dtype not in DTYPES or (stream != "raw" and dtype != "float32"):
        raise ProtocolError(Fault.DTYPE, f"dtype {dtype!r} is not allowed on the {stream} stream")
    block = count_of(header, "block")
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
        time_ns=time_of(header, "time_ns"),
        source=text_of(header, "source"),
        raman_shift=raman_shift,
        dtype=dtype,
        block=block,
        spectra=optional_count(header, "spectra"),
        scan=pair(header, "scan", int),
        step_um=pair(header, "step_um", float),
        exposure_s=positive(header, "exposure_s"),
        full_scale=positive(header, "full_scale"),
        dark=dark,
        sequence=optional_count(header, "sequence") or 0,
        index=optional_count(header, "index") or 0,
        model=texts(header, "model"),
        calibration=facts(header, "calibration"),
        instrument=facts(header, "instrument"),
    )


# -- frame ------------------------------------------------------------------------------------------


def _frame_header(message: Frame) -> Header:
    header: Header = {"sequence": message.sequence, "index": message.index, "time_ns": message.time_ns}
    for key in ("time_in_ns", "time_out_ns", "lost"):
        if (value := getattr(message, key)) is not None:
            header[key] = value
    for key in header:
        time_of(header, key) if key.startswith("time") else count_of(header, key)
    if message.made_by is not None:
        header["made_by"] = name_of(message.made_by, "made_by")
    if message.bands is not None:
        header["bands"] = [list(band) for band in message.bands]
    return header


def _frame(stream: StreamName, run: str, header: Header, arrays: Mapping[str, NDArray[Any]]) -> Frame:
    frame = Frame(
        stream=stream,
        run=run,
        sequence=count_of(header, "sequence"),
        index=count_of(header, "index"),
        time_ns=time_of(header, "time_ns"),
        arrays=arrays,
        time_in_ns=optional_time(header, "time_in_ns"),
        time_out_ns=optional_time(header, "time_out_ns"),
        lost=optional_count(header, "lost"),
        made_by=None if header.get("made_by") is None else name_of(header["made_by"], "made_by"),
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
    for name in NETWORK_OUTPUTS if frame.stream == "raman" else ():
        if (given := arrays.get(name)) is not None:
            _must_be(name, given, np.float32, main.shape)
    if frame.stream == "raman" and (delays := arrays.get(DELAYS)) is not None:
        _must_be(DELAYS, delays, np.float64, main.shape[:1])
        if not (np.abs(delays) <= MAX_DELAY_S).all():
            raise ProtocolError(Fault.FIELD, f"{DELAYS} must be at most {MAX_DELAY_S:,} s either way")
        ends = [frame.time_ns + round(float(each) * 1e9) for each in (delays.min(), delays.max())]
        if ends[0] < 0 or ends[1] > MAX_TIME:
            raise ProtocolError(Fault.FIELD, f"time_ns with {DELAYS} is no time")
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
    name_of(name, "the name of a band")
    numbers = [
        float(each) for each in (low, high) if isinstance(each, int | float) and not isinstance(each, bool)
    ]
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
        reason = Reason(text_of(header, "reason"))
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
        time_ns=time_of(header, "time_ns"),
        frames=count_of(header, "frames"),
        spectra=count_of(header, "spectra"),
        reason=reason,
        announced=optional_count(header, "announced"),
        lost={name_of(cause, "a cause in lost"): _lost(cause, count) for cause, count in lost.items()},
        ranges=_ranges(header),
    )


def _lost(cause: str, count: object) -> int:
    what = f"lost of {cause!r}"
    return count_of({what: count}, what)


def _ranges(header: Header) -> tuple[Range, ...]:
    listed = [] if header.get("ranges") is None else header["ranges"]
    if not isinstance(listed, list):
        raise ProtocolError(Fault.FIELD, "ranges must be a list of [cause, first, spectra]")
    ranges = []
    for entry in listed:
        if not isinstance(entry, list) or len(entry) != 3:
            raise ProtocolError(Fault.FIELD, "each of ranges must be [cause, first, spectra]")
        numbers = {"first": entry[1], "spectra": entry[2]}
        cause = name_of(entry[0], "a cause in ranges")
        ranges.append(Range(cause, count_of(numbers, "first"), count_of(numbers, "spectra")))
    return tuple(ranges)


def _plain(value: object) -> object:
    """NumPy's numbers as Python's, for msgpack."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} is neither number nor text")
