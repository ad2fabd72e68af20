"""How many files and connections this process may have open at once."""

import os
import sys

WANTED = 65_536  # if the system allows so many; each idle connection takes one


def limit() -> int:
    """The process's own limit."""
    if sys.platform == "win32":
        return WANTED
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED if soft == resource.RLIM_INFINITY else soft


def raise_limit() -> int:
    """Have as many as the system allows without asking anybody, up to WANTED; how many that are."""
    if sys.platform == "win32":
        return WANTED
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):  # some systems allow less than they say
            return soft
    return limit()


def used() -> int:
    """At least so many are open: the next one gets the lowest number that is free."""
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return limit()
    os.close(descriptor)
    return descriptor
