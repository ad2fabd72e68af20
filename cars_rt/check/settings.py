"""Settings of `cars-rt check`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cars_rt.engines import AUTO, DEFAULT_MODEL
from cars_rt.errors import CarsRtError
from cars_rt.protocol import MAX_BLOCK, MAX_PIXELS
from cars_rt.sockets import BUFFER_MB, RAW_ADDRESS
from cars_rt.sockets.addresses import Address
from cars_rt.storage import StorageError, refuse_missing_folder
from cars_rt.trust.flags import ClientAccess

Progress = Callable[[str, float], None]  # the part that is measured, and how much of it is done


class CheckError(CarsRtError, ValueError):
    """Settings that cannot be checked, with the reason in one sentence."""


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """Settings of `cars-rt check`."""

    listen: str = RAW_ADDRESS
    """Address of the driver's raw stream. A driver that waits for a subscriber begins when check comes."""

    rate: float | None = None
    """Spectra per second that are needed; without it what the driver sends, or 1000 if there is none."""

    pixels: int = 1340
    """Pixels of a spectrum, if there is no driver."""

    block: int = 1
    """Spectra to a message, if there is no driver."""

    model: str = DEFAULT_MODEL
    """Name of a model, or the path of an .onnx file."""

    reference: Path | None = None
    """Spectra of a purely non-resonant sample, for the model kk, as in `cars-rt run`."""

    engine: str = AUTO
    """What runs the model; auto takes the fastest that works here."""

    max_batch: int = 256
    """Most spectra computed at once, as in `cars-rt run`."""

    threads: int = 0
    """Threads of the engine on the CPU, as in `cars-rt run`."""

    buffer_mb: float = BUFFER_MB
    """Memory of each buffer, as in `cars-rt run` and `cars-rt drive`."""

    output: Path = Path()
    """Folder in which recordings will be written, which must be there; up to 2 GB are written and removed."""

    seconds: float = 5.0
    """Measure each part for so long."""

    access: ClientAccess = field(default_factory=ClientAccess)


def refuse(settings: CheckSettings) -> None:
    """Raises CheckError if a number is impossible, AddressError for what is no address, KeysError for keys
    that cannot be used."""
    Address.to_connect(settings.listen)
    settings.access.client()
    try:
        refuse_missing_folder(settings.output)
    except StorageError as error:
        raise CheckError(f"--output: {error}") from None
    if settings.rate is not None and not 0 < settings.rate < float("inf"):
        raise CheckError("--rate must be a number above 0")
    if not 0 < settings.seconds <= 600:
        raise CheckError("--seconds must be above 0, and not above 600")
    if not 2 <= settings.pixels <= MAX_PIXELS or not 1 <= settings.block <= MAX_BLOCK:
        raise CheckError(f"--pixels must be from 2 to {MAX_PIXELS}, --block from 1 to {MAX_BLOCK}")
    if not 1 <= settings.max_batch <= MAX_BLOCK or settings.threads < 0:
        raise CheckError(f"--max-batch must be from 1 to {MAX_BLOCK}, --threads cannot be negative")
    if not 0 < settings.buffer_mb < float("inf"):
        raise CheckError(f"--buffer-mb must be more than 0 and finite, not {settings.buffer_mb:g}")
