"""What the display is told: one frozen object, from flags, environment and file."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from cars_rt.errors import CarsRtError
from cars_rt.sockets import CONTROL_ADDRESS, PREVIEW_ADDRESS, RECORDER_ADDRESS, SPECTRA_ADDRESS
from cars_rt.sockets.addresses import Address
from cars_rt.trust.flags import OFF, ClientAccess
from cars_rt.trust.loopback import is_loopback

HTTP_ADDRESS = "127.0.0.1:5570"
LEAST_MB = 16.0


class ViewError(CarsRtError, RuntimeError):
    """A display that cannot be, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """Settings of `cars-rt view`. Raises ViewError or AddressError for what cannot be."""

    preview: str = PREVIEW_ADDRESS
    """Address of the daemon's preview (its --preview)."""

    spectra: str = SPECTRA_ADDRESS
    """Address of whole spectra (the daemon's --spectra), for the one under the cursor and maps of other
    bands; none: only what the preview has."""

    control: str = CONTROL_ADDRESS
    """Control address of the daemon (its --control), for its health; none: the display asks nothing."""

    recorder: str = RECORDER_ADDRESS
    """Control address of a recorder (its --control); none: the display asks nothing of it."""

    http: str = HTTP_ADDRESS
    """HOST:PORT at which the page is served. Another host than this computer needs --password."""

    memory_mb: float = 1024.0
    """Memory for spectra; a scan that needs more is averaged to larger pixels."""

    allow_control: bool = False
    """Let whoever sees the page change bands, dark and model, and start and stop recordings."""

    token: Path | None = None
    """File of the daemon's token, if another user of this computer started it."""

    password: Path | None = None
    """File whose one line is the password of the page."""

    host: tuple[str, ...] = ()
    """Another name, HOST:PORT, under which browsers reach the page, such as lab.example:443 of a proxy with
    TLS."""

    no_browser: bool = False
    """Do not open the page in this computer's browser."""

    access: ClientAccess = field(default_factory=ClientAccess)

    def __post_init__(self) -> None:
        for text in (self.preview, self.spectra, self.control, self.recorder):
            if text != OFF:
                Address.to_connect(text)
        if self.preview == OFF:
            raise ViewError("--preview cannot be none: the display lives on it")
        if not LEAST_MB <= self.memory_mb < math.inf:
            raise ViewError(f"--memory-mb must be {LEAST_MB:g} or more and finite, not {self.memory_mb:g}")
        Address.to_serve(self.http)
        if not is_loopback(Address.to_serve(self.http).host) and self.password is None:
            raise ViewError(
                f"--http {self.http} can be reached from other computers: give --password FILE, or an "
                "address of this computer alone, such as 127.0.0.1:5570"
            )
