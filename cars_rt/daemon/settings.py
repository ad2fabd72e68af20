"""What the daemon is told: one frozen object, from flags, environment and file."""

import math
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from cars_rt.daemon.flight import MEGABYTES, SECONDS
from cars_rt.engines import AUTO, DEFAULT_MODEL
from cars_rt.errors import CarsRtError
from cars_rt.protocol import MAX_BANDS, MAX_BLOCK
from cars_rt.sockets import (
    BUFFER_MB,
    CONTROL_ADDRESS,
    PREVIEW_ADDRESS,
    RAMAN_ADDRESS,
    RAW_ADDRESS,
    SPECTRA_ADDRESS,
    Overload,
)
from cars_rt.sockets.addresses import Address
from cars_rt.storage import StorageError, make_folder
from cars_rt.trust.flags import OFF, DaemonAccess


class SettingsError(CarsRtError, ValueError):
    """Settings that cannot be, or contradict each other, in one sentence."""


RESULTS_STALL_S = 3.0  # one program of many that stops reading shall not hold up the others for long


@dataclass(frozen=True, kw_only=True)
class DaemonSettings:
    """Settings of `cars-rt run`. Raises SettingsError or AddressError for what cannot be."""

    listen: str = RAW_ADDRESS
    """Address of the driver's raw stream, tcp://HOST:PORT; the driver may appear later."""

    publish: str = RAMAN_ADDRESS
    """Address at which the result stream is published; subscribers connect to it."""

    preview: str = PREVIEW_ADDRESS
    """Address of the preview, some 20 bundles a second for live display; none: no preview."""

    spectra: str = SPECTRA_ADDRESS
    """Address of whole spectra with their counts for displays, as many as a screen can use; none: no such."""

    control: str = CONTROL_ADDRESS
    """Address at which `cars-rt ctl` is answered; none: it is not."""

    model: str = DEFAULT_MODEL
    """Name of a model, or the path of an .onnx file exported by `cars-rt export`."""

    reference: Path | None = None
    """Spectra of a purely non-resonant sample, such as glass: takes away fringes and notches of the optics,
    with every model but those for published protocols, also after a reload; .csv, .npz or .h5."""

    engine: str = AUTO
    """What runs the model; auto takes the fastest that works here."""

    engine_only: bool = False
    """Compute with nothing else while this engine compiles for long, or where it cannot run or be opened."""

    max_batch: int = 256
    """Most spectra computed at once. Larger is faster under load and changes nothing at low rates."""

    threads: int = 0
    """Threads of the engine on the CPU; 0 takes half of the cores and leaves the driver the others."""

    buffer_mb: float = BUFFER_MB
    """Memory for results that subscribers have not taken yet."""

    overload: Overload = "block"
    """If a subscriber is too slow and the buffer full: wait, or drop the oldest or newest results."""

    stall_s: float = RESULTS_STALL_S
    """A subscriber that has read nothing for so long is left out, so that the others go on; 0: never."""

    subscribers: int = 0
    """Read no spectra before so many subscribers are connected, so that none misses the beginning."""

    bands: tuple[str, ...] = ()
    """Bands of the preview, NAME=LOW:HIGH in cm-1; without any, bands of common interest."""

    deviation: bool = False
    """Also send the standard deviation that the model states for each point; doubles the output."""

    receipts: Path | None = None
    """Folder for a receipt of each run, RUN.json, and for measured darks."""

    http: str = "127.0.0.1:5580"
    """HOST:PORT for metrics, health and status over HTTP; none turns it off."""

    flight: Path | None = None
    """Folder of the flight recorder: at a loss or failure the last seconds of input are written there."""

    flight_seconds: float = SECONDS
    """How many seconds of input the flight recorder keeps in memory."""

    flight_mb: float = MEGABYTES
    """Memory for them, whatever the rate; as much again while a file is being written."""

    no_realtime: bool = False
    """Wait for a core like any other program; else, where the system allows it, spectra wait for none while
    this takes less than two thirds of the computer and keeps up."""

    access: DaemonAccess = field(default_factory=DaemonAccess)

    def __post_init__(self) -> None:
        if not 1 <= self.max_batch <= MAX_BLOCK:
            raise SettingsError(f"--max-batch must be from 1 to {MAX_BLOCK}, not {self.max_batch}")
        if not 0 < self.buffer_mb < math.inf:
            raise SettingsError(f"--buffer-mb must be more than 0 and finite, not {self.buffer_mb:g}")
        for name in ("stall_s", "subscribers", "threads"):
            if not (value := getattr(self, name)) >= 0:
                raise SettingsError(f"--{name.replace('_', '-')} must be 0 or more, not {value:g}")
        if len(self.bands) > MAX_BANDS:
            raise SettingsError(f"--bands takes at most {MAX_BANDS} bands")
        if OFF in (self.listen, self.publish):
            raise SettingsError("--listen and --publish cannot be none")
        addresses = {"listen": Address.to_connect(self.listen)}
        for name in ("publish", "preview", "spectra", "control"):
            if (text := getattr(self, name)) != OFF:
                addresses[name] = Address.to_bind(text)
        if self.http != OFF:
            addresses["http"] = Address.to_serve(self.http)
        for one, other in combinations(addresses, 2):
            if addresses[one].meets(addresses[other]):
                text = getattr(self, other)
                raise SettingsError(f"--{one} and --{other} are the same address, {text}: give two")

    def make_folders(self) -> None:
        """Once, before the daemon starts: the folder of receipts. Raises SettingsError if it cannot be."""
        if self.receipts is not None:
            try:
                make_folder(self.receipts)
            except StorageError as error:
                raise SettingsError(f"--receipts: {error}") from None
            except OSError as error:
                raise SettingsError(f"--receipts {self.receipts}: {error.strerror}") from None
