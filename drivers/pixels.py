"""Pixels as GenICam's PFNC packs them, as numbers; pure."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

COLOUR = re.compile(r"(RGB|BGR|YUV|YCbCr|Bayer|CIELAB|HSI|XYZ)", re.IGNORECASE)


def mono12p(data: Bytes) -> NDArray[np.uint16]:
    """Two pixels in three bytes, the lower bits first."""
    low, middle, high = _threes(data)
    return _merged(low | (middle & 0x0F) << 8, middle >> 4 | high << 4)


def mono12packed(data: Bytes) -> NDArray[np.uint16]:
    """Two pixels in three bytes, whose middle one holds the low bits of both: GigE Vision's older format."""
    first, low, second = _threes(data)
    return _merged(first << 4 | low & 0x0F, second << 4 | low >> 4)


def mono10p(data: Bytes) -> NDArray[np.uint16]:
    """Four pixels in five bytes, the lower bits first."""
    a, b, c, d, e = data[: len(data) // 5 * 5].reshape(-1, 5).T.astype(np.uint16)
    pixels = (a | (b & 0x03) << 8, b >> 2 | (c & 0x0F) << 6, c >> 4 | (d & 0x3F) << 4, d >> 6 | e << 2)
    return np.stack(pixels, axis=1).reshape(-1)


def mono10packed(data: Bytes) -> NDArray[np.uint16]:
    """Two pixels in three bytes, whose middle one holds the low bits of both."""
    first, low, second = _threes(data)
    return _merged(first << 2 | low & 0x03, second << 2 | low >> 4 & 0x03)


def mono14p(data: Bytes) -> NDArray[np.uint16]:
    """Four pixels in seven bytes, the lower bits first."""
    a, b, c, d, e, f, g = data[: len(data) // 7 * 7].reshape(-1, 7).T.astype(np.uint16)
    pixels = (
        a | (b & 0x3F) << 8, b >> 6 | c << 2 | (d & 0x0F) << 10, d >> 4 | e << 4 | (f & 0x03) << 12,
        f >> 2 | g << 6,
    )  # fmt: skip
    return np.stack(pixels, axis=1).reshape(-1)


#: How packed formats become numbers.
PACKED: dict[str, Callable[[Bytes], NDArray[np.uint16]]] = {
    "Mono12p": mono12p,
    "Mono12Packed": mono12packed,
    "Mono10p": mono10p,
    "Mono10Packed": mono10packed,
    "Mono14p": mono14p,
}


def bits(name: str) -> int | None:
    """Of one pixel of a grey format; None for any other, and for one that is packed as none of `PACKED`."""
    found = re.fullmatch(r"Mono(\d{1,2})(p|Packed)?", name)
    return int(found[1]) if found and (name in PACKED or not found[2]) else None


def grey(name: str, data: Bytes, columns: int, rows: int, padding: int = 0) -> NDArray[Any]:
    """An image (rows, columns) of a grey format. padding: bytes behind each line; without them packed lines
    follow each other within a byte, too. Raises ValueError for a format that is none."""
    known = bits(name)
    if known is None:
        what = "in colour" if COLOUR.match(name) else "no grey numbers"
        raise ValueError(f"its pixels are {what} ({name})")
    depth = 12 if name.endswith("Packed") else known if name in PACKED else 8 * math.ceil(known / 8)
    lines, pixels = (rows, columns) if padding else (1, rows * columns)
    line = math.ceil(pixels * depth / 8)
    size = lines * (line + padding)
    if known > 16 or data.size < size:
        raise ValueError(f"an image of {columns} x {rows} pixels of {name} has not {data.size} bytes")
    data = data[:size].reshape(lines, -1)[:, :line]
    if name in PACKED:
        group = math.lcm(depth, 8) // 8  # bytes
        numbers = PACKED[name](np.pad(data, ((0, 0), (0, -line % group))).reshape(-1))
        return numbers.reshape(lines, -1)[:, :pixels].reshape(rows, columns)
    return np.ascontiguousarray(data).view("<u2" if known > 8 else np.uint8).reshape(rows, columns)


def _threes(data: Bytes) -> Any:
    return data[: len(data) // 3 * 3].reshape(-1, 3).T.astype(np.uint16)


def _merged(first: NDArray[np.uint16], second: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return np.stack((first, second), axis=1).reshape(-1)
