"""Finds what would go wrong with a room before anything starts; says each fault in a sentence."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from cars_rt.daemon.another import says
from cars_rt.daemon.outputs.preview import parse_band
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.drivers import DriveSettings
from cars_rt.engines import AUTO, load_model, require, takes_reference
from cars_rt.errors import CarsRtError
from cars_rt.files.recorder import RecordSettings
from cars_rt.files.recording import SUFFIXES
from cars_rt.sockets.addresses import Address, AddressError
from cars_rt.sockets.free import reason_against
from cars_rt.storage import mkdir
from cars_rt.trust.flags import OFF, ClientAccess

LOW_BYTES = 1e9  # on a disk that takes recordings: three minutes at 1000 spectra a second

#: What a part publishes at: its name in the file, the flag, the address.
Bound = tuple[str, str, str]


def addresses(bound: Sequence[Bound]) -> Iterator[str]:
    """Two parts at one address, and addresses that others cannot find or that are taken."""
    where: dict[Bound, Address] = {}
    for each in bound:
        title, flag, text = each
        if text == OFF:
            continue
        try:
            where[each] = Address.to_bind(text) if "://" in text else Address.to_serve(text)
        except AddressError as error:
            yield f"{title}: --{flag}: {error}"
    for one, other in combinations(where, 2):
        if where[one].meets(where[other]):
            both = f"{one[0]} --{one[1]} and {other[0]} --{other[1]}"
            yield f"{both} are the same address, {other[2]}: give two"
    for (title, flag, text), address in where.items():
        if address.port and (reason := reason_against(text)):
            there = says(text) if flag == "http" else None
            cannot = f"{title}: --{flag} {text} cannot be used"
            yield f"{cannot}: {there or reason}; end what has it, or give another"


def folders(wanted: Mapping[Path, str], made: Sequence[Path]) -> Iterator[str]:
    """Folders that are missing, cannot be written in, or lie on a disk that is nearly full.

    wanted: folders, with the flag that names each; made: those that will be made, with those above them.
    """
    for path, flag in wanted.items():
        there = path
        while there in made and not there.exists():
            there = there.parent
        if not there.is_dir():
            what = f"there is no folder {there}: make it ({mkdir(there)}), or mount its disk"
            yield f"{flag}: {f'{there} is no folder: name another' if there.exists() else what}"
        elif not os.access(there, os.W_OK | os.X_OK):
            yield f"{flag}: nothing can be written in {there.absolute()}: see who may"
        elif (free := shutil.disk_usage(there).free) < LOW_BYTES:
            yield f"{flag}: the disk of {there.absolute()} has {free / 1e6:.0f} MB left; make room on it"


def folder_of(output: Path) -> Path:
    """Where a recorder with this output writes."""
    return output.parent if output.suffix.lower() in SUFFIXES and not output.is_dir() else output


def computing(settings: DaemonSettings) -> Iterator[str]:
    """A model or an engine that cannot be used here."""
    try:
        load_model(settings.model, settings.reference if takes_reference(settings.model) else None)
    except CarsRtError as error:
        yield f"--model: {error}"
    for band in settings.bands:
        try:
            parse_band(band)
        except CarsRtError as error:
            yield f"--bands: {error}"
    if settings.engine != AUTO:
        try:
            require(settings.engine)
        except CarsRtError as error:
            yield f"--engine: {error}"


def instrument(given: Iterable[object]) -> Iterator[str]:
    """What a driver's settings find missing without its instrument: files, folders, libraries. given: its
    settings, of which some can look (see docs/drivers.md)."""
    for settings in given:
        look = getattr(settings, "look", None)
        if callable(look):
            try:
                look()
            except CarsRtError as error:
                yield str(error)


def keys(given: Iterable[object]) -> Iterator[str]:
    """Keys that cannot be used, or addresses that others reach without any. given: one command's settings."""
    for settings in given:
        try:
            match settings:
                case DaemonSettings(access=access):
                    for address in (settings.publish, settings.preview, settings.spectra):
                        if address != OFF:
                            access.server(address)
                    access.client()
                    if settings.control != OFF:
                        access.control(settings.control)
                case DriveSettings(access=access):
                    access.server(settings.publish)
                case RecordSettings(access=access):
                    access.raman(settings.raman)
                    access.raw(settings.raw)
                    if settings.control != OFF:
                        access.control(settings.control)
                case object(access=ClientAccess() as access):  # the display's
                    access.client()
        except CarsRtError as error:
            yield str(error)
