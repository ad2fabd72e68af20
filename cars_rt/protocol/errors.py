"""The one error that decoding raises."""

from cars_rt.errors import CarsRtError
from cars_rt.kinds import Fault


class ProtocolError(CarsRtError, ValueError):
    """A message that does not follow the protocol. `fault` says which rule, the text says where."""

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault
