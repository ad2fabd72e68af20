"""The drivers by name: those of this package, and those that other packages bring as entry points."""

import re
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from cars_rt.drivers.base import Instrument, InstrumentError
from cars_rt.plugins import load_class, package_of

#: name: module and class; imported only when asked for.
DRIVERS = {
    "simulator": ("cars_rt.drivers.simulator", "SimulatedMicroscope"),
    "replay": ("cars_rt.drivers.replay", "Replay"),
    "micromanager": ("cars_rt.drivers.micromanager", "MicroManager"),
    "epics": ("cars_rt.drivers.epics", "Epics"),
    "genicam": ("cars_rt.drivers.genicam", "Genicam"),
    "seabreeze": ("cars_rt.drivers.seabreeze", "Seabreeze"),
}
GROUP = "cars_rt.drivers"  # of entry points; each is a subclass of Instrument
NAME = re.compile(r"[a-z][a-z0-9-]*")  # of a driver, so that it can be a command


def driver_names() -> list[str]:
    """All drivers, usable or not; those of other packages last."""
    return [*DRIVERS, *_foreign()]


def driver_class(name: str) -> type[Instrument]:
    """The driver of this name. Raises InstrumentError if there is none, or if its package is broken."""
    if name in DRIVERS:
        module, cls = DRIVERS[name]
        found: type[Instrument] = getattr(import_module(module), cls)
        return found
    foreign = _foreign()
    if name not in foreign:
        raise InstrumentError(f"no driver is called {name!r}; there are {', '.join([*DRIVERS, *foreign])}")
    loaded: type[Instrument] = load_class(
        foreign[name], Instrument, "cars_rt.drivers.Instrument", InstrumentError
    )
    return loaded


def package(name: str) -> str:
    """The package that brings a driver."""
    entry = _foreign().get(name)
    return "cars-rt" if entry is None else package_of(entry)


def _foreign() -> dict[str, EntryPoint]:
    """Drivers of other packages by name; none takes the name of one of ours."""
    found = {entry.name: entry for entry in entry_points(group=GROUP) if NAME.fullmatch(entry.name)}
    return {name: entry for name, entry in found.items() if name not in DRIVERS}
