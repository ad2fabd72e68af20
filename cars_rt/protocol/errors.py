"""The one error that decoding raises."""

from enum import StrEnum

from cars_rt.errors import CarsRtError


class Fault(StrEnum):
    """What is wrong with a message; stable names, for counting and for programs."""

    PARTS = "parts"  # too few or too many message parts
    MAGIC = "magic"  # not a CARS-RT message
    VERSION = "version"  # another protocol version
    HEADER = "header"  # header is not a msgpack map within the limits
    FIELD = "field"  # a field is missing or has the wrong type or value
    OVERSIZED = "oversized"  # beyond a limit
    TRUNCATED = "truncated"  # payload shorter or longer than dtype and shape say
    DTYPE = "dtype"  # dtype unknown or not allowed there
    SHAPE = "shape"  # shape not possible or not consistent
    AXIS = "axis"  # raman-shift axis not finite or not strictly monotonic


class ProtocolError(CarsRtError, ValueError):
    """A message that does not follow the protocol. `fault` says which rule, the text says where."""

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault
