"""Princeton Instruments' .spe, versions 2 (WinSpec) and 3 (LightField): header, frames, in 3 a footer.

It is read here, mapped from the file: that is little work, and the packages for it bring a dozen others.
Offsets are those of the format's description.
"""

import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from cars_rt.files.readers.lazy import of_array
from cars_rt.files.readers.scale import Asked, scale_of
from cars_rt.files.spectra import Spectra, SpectraError
from cars_rt.storage import refuse_special_file

HEADER = 4_100
MOST_FOOTER = 2**25
TYPES = {0: "<f4", 1: "<i4", 2: "<i2", 3: "<u2", 5: "<f8", 6: "u1", 8: "<u4"}
UNITS = {2: "nm", 3: "cm-1"}  # of the calibration of version 2, as its coefficients are


def read_spe(path: Path, asked: Asked) -> Spectra:
    """Each row of each frame is a spectrum. Raises SpectraError."""
    refuse_special_file(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER)
        if len(head) < HEADER:
            raise SpectraError("is no .spe file: it has no whole header")
        version = _of("<f", head, 1992)
        pixels, rows, frames = _of("<H", head, 42), _of("<H", head, 656), _of("<i", head, 1446)
        kind, footer = _of("<h", head, 108), _of("<Q", head, 678) if version >= 3 else 0
        xml = b""
        if HEADER <= footer < size <= footer + MOST_FOOTER:
            file.seek(footer)
            xml = file.read()
    if kind not in TYPES or not pixels or not rows or frames < 1:
        raise SpectraError(
            f"is no .spe file: it announces {frames} frames of {rows} x {pixels} pixels, type {kind}"
        )
    dtype = np.dtype(TYPES[kind])
    wanted, there = frames * rows * pixels * dtype.itemsize, (footer if xml else size) - HEADER
    if there < wanted:
        raise SpectraError(f"is cut short: it announces {wanted} bytes of frames and has {max(there, 0)}")
    if xml and there != wanted:
        raise SpectraError(
            "has frames with more than one region or with data between them; export one region"
        )
    data: NDArray[Any] = np.memmap(path, dtype, "r", HEADER, (frames * rows, pixels))
    values, unit, exposure = _footer(xml) if xml else (*_calibration(head, pixels), _of("<f", head, 10))
    where = "WavelengthMapping" if xml else "x calibration"
    if values is not None and len(values) != pixels:  # of the sensor, and the spectra of a region
        where = f"its {where} is of {len(values)} pixels, and the spectra have {pixels}"
        values = None
    scale = scale_of(values, unit, asked, where)
    return Spectra(
        scale.raman_shift,
        of_array(data, path, scale.turned),
        exposure_s=exposure if 0 < exposure < np.inf else None,
        of_axis=scale.said,
        turned=scale.turned,
    )


def _of(kind: str, head: bytes, offset: int) -> Any:
    return struct.unpack_from(kind, head, offset)[0]


def _calibration(head: bytes, pixels: int) -> tuple[NDArray[np.float64] | None, str]:
    """Axis and unit of version 2: a polynomial in the number of the pixel, from 1."""
    valid, order = head[3098], head[3101]
    if not valid or order > 5:
        return None, ""
    coefficients = struct.unpack_from("<6d", head, 3263)[: order + 1]
    if not any(coefficients[1:]):
        return None, ""
    return np.polynomial.Polynomial(coefficients)(np.arange(1, pixels + 1.0)), UNITS.get(head[3100], "nm")


def _footer(xml: bytes) -> tuple[NDArray[np.float64] | None, str, float]:
    """Axis, unit, and exposure in s, of version 3."""
    try:
        root = ElementTree.fromstring(xml.strip(b"\0"))
    except ElementTree.ParseError:
        raise SpectraError("has a footer that is no XML: it is damaged") from None
    axis: NDArray[np.float64] | None = None
    exposure = 0.0
    for each in root.iter():
        name = each.tag.rpartition("}")[2]
        try:
            if name == "Wavelength" and axis is None and each.text:
                axis = np.array([float(word) for word in each.text.split(",")])
            elif name == "WavelengthError" and axis is None and each.text:
                axis = np.array([float(pair.split(",")[0]) for pair in each.text.split()])
            elif name == "ExposureTime" and each.text:
                exposure = float(each.text) / 1e3
        except ValueError:
            raise SpectraError(f"has {name} in its footer that is no number") from None
    return axis, "nm", exposure
