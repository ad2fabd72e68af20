"""What the daemon is told: one frozen object, from flags, environment and file."""

from dataclasses import dataclass, field

from cars_rt.access import DaemonAccess
from cars_rt.engines import AUTO, DEFAULT_MODEL
from cars_rt.stream import BUFFER_MB, RAMAN_ADDRESS, RAW_ADDRESS, Overload


@dataclass(frozen=True, kw_only=True)
class DaemonSettings:
    """Settings of `cars-rt run`."""

    listen: str = RAW_ADDRESS
    """Address of the driver's raw stream, tcp://HOST:PORT; the driver may appear later."""

    publish: str = RAMAN_ADDRESS
    """Address at which the result stream is published; subscribers connect to it."""

    model: str = DEFAULT_MODEL
    """Name of a shipped model, or the path of an .onnx file exported by `cars-rt export`."""

    engine: str = AUTO
    """What runs the model; auto takes the fastest that works here."""

    max_batch: int = 64
    """Most spectra computed at once. Larger is faster under load and changes nothing at low rates."""

    threads: int = 0
    """Threads of the engine on the CPU; 0 takes half of the cores and leaves the driver the others."""

    buffer_mb: float = BUFFER_MB
    """Memory for results that a subscriber has not taken yet, for each of them."""

    overload: Overload = "block"
    """If a subscriber is too slow and its buffer full: block all, or drop results for that one only."""

    subscribers: int = 0
    """Read no spectra before so many subscribers are connected, so that none misses the beginning."""

    access: DaemonAccess = field(default_factory=DaemonAccess)
