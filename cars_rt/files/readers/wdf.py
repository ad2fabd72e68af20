"""Renishaw's .wdf, by RosettaSciIO."""

import logging
import struct
from pathlib import Path

import numpy as np

from cars_rt.files.readers.cube import Along, map_of
from cars_rt.files.readers.scale import Asked, scale_of
from cars_rt.files.spectra import Spectra, SpectraError
from cars_rt.files.units import length_um
from cars_rt.installation import install_extra
from cars_rt.storage import refuse_special_file, refuse_too_much

HEAD = struct.Struct("<4sIQ")  # name, number and length of a block
MOST_BLOCKS = 10_000


def read_wdf(path: Path, asked: Asked) -> Spectra:
    """The spectra. Raises SpectraError."""
    try:
        from rsciio.renishaw import file_reader
    except ImportError:
        raise SpectraError(f"needs RosettaSciIO to be read: {install_extra('formats')}") from None
    logging.getLogger("rsciio").setLevel(logging.ERROR)  # it warns of packages for what is not read
    refuse_special_file(path)
    refuse_too_much(path, "spectra", path.stat().st_size)
    _refuse_without_blocks(path)
    try:
        (found, *others) = file_reader(str(path))
        data, axes = np.asarray(found["data"]), found["axes"]
    except Exception as error:  # another package's code on a file from anywhere
        raise SpectraError(f"is no .wdf file that RosettaSciIO reads ({type(error).__name__})") from None
    last = axes[-1] if axes else {}
    if others or not data.ndim or last.get("navigate", True):
        raise SpectraError("must hold one signal with spectra along its last axis")
    size = data.shape[-1]
    values = (
        last["axis"] if "axis" in last else last.get("offset", 0) + last.get("scale", 1) * np.arange(size)
    )
    scale = scale_of(values, str(last.get("units", "")), asked, f"axis {last.get('name', '')!r}")
    flat = data.reshape(-1, size)
    return Spectra(
        scale.raman_shift,
        flat[:, ::-1] if scale.turned else flat,
        **map_of(path, data.shape, [_along(axis) for axis in axes[-3:-1]]),
        of_axis=scale.said,
        turned=scale.turned,
    )


def _refuse_without_blocks(path: Path) -> None:
    """Refuse a broken chain of blocks. Each block states its length, and RosettaSciIO reads for ever if one
    is zero."""
    place, size = 0, path.stat().st_size
    with path.open("rb") as file:
        for _ in range(MOST_BLOCKS):
            file.seek(place)
            head = file.read(HEAD.size)
            if len(head) < HEAD.size:
                break
            length = HEAD.unpack(head)[2]
            if not HEAD.size <= length <= size - place or (not place and head[:4] != b"WDF1"):
                break
            place += length
            if place == size:
                return
    raise SpectraError("is no whole .wdf file: its blocks do not follow one another to its end")


def _along(axis: dict[str, object]) -> Along:
    factor, scale = length_um(str(axis.get("units", ""))), axis.get("scale")
    step = float(scale) if isinstance(scale, int | float | np.number) else 0.0
    return Along(str(axis.get("name", "")), None if factor is None else abs(step) * factor, falls=step < 0)
