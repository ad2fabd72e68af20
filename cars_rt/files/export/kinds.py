"""The kinds of export by name, and the one way in which each of them is written."""

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from cars_rt.files.export.crikit import write_crikit
from cars_rt.files.export.csv import write_csv
from cars_rt.files.export.cube import Cube, ExportError, open_cube
from cars_rt.files.export.hspy import write_hspy
from cars_rt.files.export.tiff import write_tiff
from cars_rt.files.export.zarr import write_zarr
from cars_rt.files.formats import HDF5
from cars_rt.files.hdf5 import opened
from cars_rt.files.mapped import existing
from cars_rt.files.spectra import said_of
from cars_rt.files.unreadable import explained
from cars_rt.installation import install_extra
from cars_rt.storage import StorageError, mkdir, refuse_target
from cars_rt.storage.write import rename

log = logging.getLogger("cars_rt.export")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asks for. what: raman or counts. bands: for tiff, cm-1. at: for csv, places. probe_nm:
    for crikit. pump_nm: for a source whose axis is in nm. plane: of a stack. axis: a file with the axis of
    a source that has none."""

    what: str | None = None
    bands: tuple[tuple[float, float], ...] = ()
    at: tuple[range, ...] = ()
    probe_nm: float | None = None
    pump_nm: float | None = None
    plane: int | None = None
    axis: Path | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """ending: of the name. write: returns what of it was written, if not all. needs: modules, all of the
    extra `export`."""

    ending: str
    write: Callable[[Cube, Path, Wanted], str | None]
    needs: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "hspy": Kind(".hspy", lambda cube, path, wanted: write_hspy(cube, path), ("rsciio",)),
    "crikit": Kind(".h5", lambda cube, path, wanted: write_crikit(cube, path, wanted.probe_nm)),
    "zarr": Kind(".zarr", lambda cube, path, wanted: write_zarr(cube, path), ("zarr",)),
    "tiff": Kind(".tif", lambda cube, path, wanted: write_tiff(cube, path, wanted.bands), ("tifffile",)),
    "csv": Kind(".csv", lambda cube, path, wanted: write_csv(cube, path, wanted.at)),
}


ONE_KINDS = (("bands", "--band", "tiff"), ("at", "--at", "csv"), ("probe_nm", "--probe-nm", "crikit"))


def export(source: Path, target: Path, kind: str, wanted: Wanted, *, overwrite: bool = False) -> Cube:
    """Write one file, or folder of zarr, whole or not at all. Returns what was exported. The source is only
    read.

    Raises SpectraError, or ExportError for what this kind cannot hold and for what cannot be written.
    """
    chosen = KINDS[kind]
    for field, flag, of in ONE_KINDS:
        if kind != of and getattr(wanted, field) not in (None, ()):
            raise ExportError(f"{flag} is for --to {of}; {kind} has no use for it")
    missing = [name for name in ("xarray", "dask", *chosen.needs) if find_spec(name) is None]
    if missing:
        raise ExportError(f"--to {kind} needs {', '.join(missing)}: {install_extra('export')}")
    if target.exists() and target.resolve() == source.resolve():
        raise ExportError(f"{target} is the input; choose another name")
    if os.path.lexists(target) and not overwrite:
        raise ExportError(f"{target} exists already; choose another name or give --overwrite")
    if not target.parent.is_dir():
        raise ExportError(f"there is no folder {target.parent}; make it: {mkdir(target.parent)}")
    is_zarr = kind == "zarr" and (target / "zarr.json").is_file() and not target.is_symlink()
    new = target.with_name(f".cars-rt-{secrets.token_hex(8)}{chosen.ending}")
    try:
        if not is_zarr:
            refuse_target(target)
        cube = open_cube(source, wanted.what, wanted.pump_nm, wanted.plane, wanted.axis)
        _refuse_growing(source)
        cube = replace(cube, part=chosen.write(cube, new, wanted) or "")
        if is_zarr:
            _exchange(new, target)
        elif new.is_dir():
            new.rename(target)
        else:
            rename(new, target, overwrite=overwrite)
    except FileExistsError:
        raise ExportError(f"{target} exists already; choose another name or give --overwrite") from None
    except StorageError as error:
        raise ExportError(str(error)) from None
    except OSError as error:
        raise ExportError(f"{target} cannot be written: {explained(error)}") from None
    finally:
        if new.is_dir():
            shutil.rmtree(new, ignore_errors=True)
        else:
            with suppress(OSError):  # where nothing can be written, nothing can be deleted
                new.unlink(missing_ok=True)
    return cube


def _refuse_growing(source: Path) -> None:
    """A recording that another program is writing would be exported as far as it is by chance."""
    if source.suffix.lower() in HDF5:
        with said_of(source), opened(existing(source)):
            pass


def _exchange(new: Path, target: Path) -> None:
    """Put a folder in the place of another one, which is deleted only then."""
    old = new.with_suffix(".old")
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:  # somebody who asks for the end, too
        old.rename(target)
        raise
    try:
        shutil.rmtree(old)
    except OSError as error:
        log.warning("what was %s cannot be deleted whole (%s); the rest is %s", target, explained(error), old)
