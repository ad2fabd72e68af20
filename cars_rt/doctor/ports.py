"""Whether the addresses that daemon, driver and recorder take by default are free."""

from cars_rt.daemon.settings import DaemonSettings
from cars_rt.doctor.report import PortState
from cars_rt.sockets import RECORDER_ADDRESS
from cars_rt.sockets.free import reason_against

#: The flags that name another one.
USES = (
    ("driver", DaemonSettings.listen, "drive --publish"),
    ("results", DaemonSettings.publish, "run --publish"),
    ("preview", DaemonSettings.preview, "run --preview"),
    ("spectra", DaemonSettings.spectra, "run --spectra"),
    ("control", DaemonSettings.control, "run --control"),
    ("HTTP", DaemonSettings.http, "run --http"),
    ("recorder", RECORDER_ADDRESS, "record --control"),
)


def read_ports(uses: tuple[tuple[str, str, str], ...] = USES) -> list[PortState]:
    """Tries to bind each for a moment."""
    return [
        PortState(used_for=used_for, address=address, flag=flag, reason=reason_against(address))
        for used_for, address, flag in uses
    ]
