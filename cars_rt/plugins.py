"""What other packages bring as entry points: whose it is, and the class behind it."""

from importlib.metadata import EntryPoint
from typing import Any

from cars_rt.errors import CarsRtError


def package_of(entry: EntryPoint) -> str:
    """The name of the package that brings it, as pip knows it."""
    return entry.dist.name if entry.dist else entry.value


def remedy_for(entry: EntryPoint) -> str:
    """What to do about one that does not work."""
    return f"update or uninstall the package {package_of(entry)}"


def load_class(entry: EntryPoint, base: type, called: str, error: type[CarsRtError]) -> Any:
    """The class of an entry point, a subclass of `base`, whose public name is `called`.

    Raises `error` with the reason and the remedy if the package is broken or brings something else.
    """
    try:
        loaded = entry.load()
    except (Exception, SystemExit) as reason:  # somebody else's code may raise anything
        raise error(
            f"{entry.value} does not load ({type(reason).__name__}: {reason}); {remedy_for(entry)}"
        ) from None
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise error(f"{entry.value} is no subclass of {called}; {remedy_for(entry)}")
    return loaded
