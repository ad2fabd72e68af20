"""Whether another daemon has the ports, for the one that finds them taken."""

import http.client
import json
from contextlib import suppress
from typing import Any

from cars_rt.daemon.settings import DaemonSettings
from cars_rt.printable import lasted
from cars_rt.sockets.addresses import Address, AddressError
from cars_rt.trust.flags import OFF

PATIENCE_S = 1.0


def another(settings: DaemonSettings, error: str) -> str | None:
    """What another daemon says of itself, in a phrase, if it may be the one that holds the address in
    `error`.

    It is looked for at --http and at the default of that. None if there is none, or if it has nothing to do
    with that address.
    """
    usual = (DaemonSettings.publish, DaemonSettings.preview, DaemonSettings.control, DaemonSettings.http)
    for place in dict.fromkeys((settings.http, DaemonSettings.http)):
        said = None if place == OFF else says(place)
        if said and any(address in error for address in (*usual, place, said.rpartition(" ")[2])):
            return said
    return None


def status(http_address: str) -> dict[str, Any] | None:
    """The status of the daemon at this HOST:PORT; None if there is none, or if it does not answer in time."""
    with suppress(OSError, ValueError, http.client.HTTPException, AddressError):
        address = Address.to_serve(http_address)
        connection = http.client.HTTPConnection(address.local, address.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/status")
            reply = connection.getresponse()
            said = json.loads(reply.read(1_000_000))
        finally:
            connection.close()
        if (reply.getheader("Server") or "").startswith("cars-rt") and isinstance(said, dict):
            return said
    return None


def says(http_address: str) -> str | None:
    """What a daemon at this HOST:PORT says of itself, in a phrase; None if there is none."""
    said = status(http_address)
    with suppress(KeyError, TypeError, ValueError):
        if said is not None:
            return (
                f"a daemon runs here already, {said['state']}, up {lasted(said['uptime_s'])}, "
                f"listening to {said['listen']}, publishing at {said['publish']}"
            )
    return None
