"""How many files and connections this process may have open at once."""

import os
import sys
from contextlib import suppress

WANTED = 65_536  # if the system allows so many; each idle connection takes one


def limit() -> int:
    """The process's own limit."""
    if sys.platform == "win32":
        return WANTED
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED if soft == resource.RLIM_INFINITY else soft


def raise_limit() -> None:
    """Have as many as the system allows without asking anybody, up to WANTED."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def used() -> int:
    """At least so many are open: the next one gets the lowest number that is free."""
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return limit()
    os.close(descriptor)
    return descriptor
