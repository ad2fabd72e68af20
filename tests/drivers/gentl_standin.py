"""What a GenTL producer gives, below harvesters: buffers of images by hand, complete or not.

All above it is real: harvesters and the driver.
"""

from typing import Any

import numpy as np
from genicam import gentl
from harvesters.util.pfnc import dict_by_names

MONO14P = 0x010E0104  # which harvesters does not know


class AbsentError(gentl.NotAvailableException, AttributeError):  # type: ignore[misc]
    """As producers and Python say it."""


class Module:
    """Says what it knows, and raises for all else as a producer does."""

    id_ = "stand-in"

    def __init__(self, **known: Any) -> None:
        self.known = known

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["known"][name]
        except KeyError:
            raise AbsentError(name) from None


class Buffer(Module):
    """One image. padding: bytes behind each line, which else follow each other without a gap."""

    def __init__(self, image: Any, pixel_format: str = "Mono8", padding: int = 0, **known: Any) -> None:
        rows, columns = image.shape
        lines = [
            packed(line, pixel_format) + b"\xa5" * padding for line in (image if padding else [image.ravel()])
        ]
        super().__init__(
            payload_type=gentl.PAYLOADTYPE_INFO_IDS.PAYLOAD_TYPE_IMAGE,
            pixel_format=dict_by_names.get(pixel_format, MONO14P),
            width=columns, height=rows, padding_x=padding, raw_buffer=b"".join(lines), num_chunks=0,
            **known,
        )  # fmt: skip

    def is_complete(self) -> bool:
        return bool(self.known.get("complete", True))


class Stream(Module):
    """Gives its buffers one after the other, and then none any more."""

    def __init__(self, buffers: list[Buffer], **device: Any) -> None:
        super().__init__(parent=Module(**device))
        self.coming, self.queued = list(buffers), 0
        self.buffer: Any = None

    def update_event_data(self, timeout_ms: int) -> None:
        if not self.coming:
            raise gentl.TimeoutException("no image")
        self.buffer = self.coming.pop(0)
        self.buffer.known["parent"] = self

    def queue_buffer(self, buffer: Any) -> None:
        self.queued += 1


def stream(acquirer: Any, buffers: list[Buffer], **device: Any) -> Stream:
    """The acquirer gives these and no others. device: what is known of it."""
    given = Stream(buffers, **device)
    acquirer._new_buffer_event_monitor_dict = {"stand-in": given}
    acquirer.start = lambda: None
    return given


def packed(line: Any, pixel_format: str) -> bytes:
    """A line of pixels as PFNC packs it."""
    depth = int("".join(filter(str.isdigit, pixel_format)))
    if pixel_format.endswith("Packed"):
        first, second, low = line[::2], line[1::2], depth - 8
        middle = (first & (1 << low) - 1) | (second & (1 << low) - 1) << 4
        return bytes(np.stack((first >> low, middle, second >> low), axis=1).astype(np.uint8))
    if pixel_format.endswith("p"):
        number = sum(int(pixel) << depth * place for place, pixel in enumerate(line))
        return number.to_bytes(-(-len(line) * depth // 8), "little")
    return line.astype("<u2" if depth > 8 else np.uint8).tobytes()
