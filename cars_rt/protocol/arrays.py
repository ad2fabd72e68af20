"""The arrays of a message: raw, little-endian, as its header lists them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.kinds import Fault
from cars_rt.protocol.errors import ProtocolError
from cars_rt.protocol.fields import Header, Part, name_of
from cars_rt.protocol.limits import MAX_PAYLOAD_BYTES
from cars_rt.protocol.messages import DTYPES

DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def unpack_arrays(header: Header, parts: Sequence[Part]) -> dict[str, NDArray[Any]]:
    """By their names: read-only views of the parts. Raises ProtocolError."""
    listed = header.get("arrays")
    listed = [] if listed is None else listed
    if not isinstance(listed, list) or len(listed) != len(parts):
        raise ProtocolError(Fault.PARTS, f"the header lists other arrays than the {len(parts)} that follow")
    arrays: dict[str, NDArray[Any]] = {}
    for entry, part in zip(listed, parts, strict=True):
        if not isinstance(entry, list) or len(entry) != 3:
            raise ProtocolError(Fault.FIELD, "each entry of arrays must be [name, dtype, shape]")
        name = name_of(entry[0], "the name of an array")
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


def as_sent(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """An array as its bytes go on the wire; not copied where it already lies so."""
    name_of(name, "the name of an array")
    dtype = array.dtype.newbyteorder("<")
    if dtype not in DTYPE_NAMES:
        raise ProtocolError(Fault.DTYPE, f"{name}: dtype {array.dtype} is not one of {', '.join(DTYPES)}")
    if not 1 <= array.ndim <= 2:
        raise ProtocolError(Fault.SHAPE, f"{name}: shape {array.shape} has not one or two sizes")
    if array.nbytes > MAX_PAYLOAD_BYTES:
        raise ProtocolError(Fault.OVERSIZED, f"{name}: more than {MAX_PAYLOAD_BYTES} bytes in one array")
    return np.ascontiguousarray(array, dtype)
