"""Whether only this computer reaches a host: one answer for whatever is bound, connected to or asked."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether that is certain of a name or a number without brackets. A name other than localhost may be
    anything."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
