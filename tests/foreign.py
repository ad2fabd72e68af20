"""Small files as other programs write them: by their own library, or byte by byte as their format is
described."""

import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def hspy(path: Path, data: Array, axes: list[dict[str, Any]]) -> Path:
    """By RosettaSciIO, as HyperSpy saves."""
    from rsciio.hspy import file_writer

    full = [
        {"index_in_array": at, "navigate": at < data.ndim - 1, "is_binned": False} | axis
        for at, axis in enumerate(axes)
    ]
    empty: dict[str, Any] = {
        name: {} for name in ("original_metadata", "learning_results", "models", "tmp_parameters")
    }
    signal = empty | {
        "data": data,
        "axes": full,
        "metadata": {"General": {"title": "a map"}, "Signal": {"signal_type": ""}},
        "attributes": {"_lazy": False, "ragged": False},
        "package_info": {"package": "hyperspy", "package_version": "2.5"},
    }
    file_writer(str(path), signal)
    return path


def nexus(path: Path, data: Array, axis: Array, unit: str, **more: Any) -> Path:
    """An NXdata below an entry that is not the first, with a link to its signal as h5py makes it."""
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "scan"
        for name in ("a first one", "scan"):
            entry = file.create_group(name)
            entry.attrs.update({"NX_class": "NXentry", "default": "data"})
        detector = entry.create_group("instrument").create_group("camera")
        detector["counts"] = data
        group = entry.create_group("data")
        names = ["y", "x", "shift"][-data.ndim :]
        group.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": names})
        group["counts"] = h5py.SoftLink("/scan/instrument/camera/counts")
        group["shift"] = axis
        group["shift"].attrs["units"] = unit
        for at, name in enumerate(names[:-1]):
            group[name] = 0.5 * np.arange(data.shape[at])
            group[name].attrs["units"] = "um"
        for name, value in more.items():
            if value is None:
                del group[name]
            else:
                group.attrs[name] = value
    return path


def crikit(path: Path, data: Array, a_vec: list[float], probe: float) -> Path:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("BCARSImage/scan_1", data=data)
        dataset.attrs.update(
            {"Spectrometer.calib.a_vec": a_vec, "Spectrometer.calib.probe": probe, "Calib.units": "nm",
             "Spectrometer.calib.ctr_wl": 700.0, "Spectrometer.calib.ctr_wl0": 698.0,
             "Spectrometer.calib.n_pix": data.shape[-1], "Macro.Raster.Fast.StepSize": 0.25,
             "Macro.Raster.Slow.StepSize": 0.5})  # fmt: skip
    return path


def spe2(path: Path, frames: Array, coefficients: list[float], unit: int) -> Path:
    """WinSpec: frames (n, rows, pixels) uint16, the axis a polynomial in the pixel's number from 1."""
    head = bytearray(4100)
    struct.pack_into("<f", head, 10, 0.02)
    struct.pack_into("<H", head, 42, frames.shape[2])
    struct.pack_into("<h", head, 108, 3)
    struct.pack_into("<H", head, 656, frames.shape[1])
    struct.pack_into("<i", head, 1446, frames.shape[0])
    struct.pack_into("<f", head, 1992, 2.5)
    head[3098], head[3100], head[3101] = int(bool(coefficients)), unit, max(len(coefficients) - 1, 0)
    struct.pack_into(f"<{len(coefficients)}d", head, 3263, *coefficients)
    path.write_bytes(bytes(head) + frames.astype("<u2").tobytes())
    return path


def spe3(path: Path, frames: Array, wavelength: Array) -> Path:
    """LightField: the axis in a footer of XML."""
    spe2(path, frames, [], 0)
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 1992, 3.0)
    struct.pack_into("<Q", content, 678, len(content))
    words = ",".join(map(repr, wavelength.tolist()))
    xml = (
        '<SpeFormat version="3.0" xmlns="http://www.princetoninstruments.com/spe/2009"><Calibrations>'
        f'<WavelengthMapping><Wavelength xml:space="preserve">{words}</Wavelength></WavelengthMapping>'
        "</Calibrations><ExposureTime>20</ExposureTime></SpeFormat>"
    )
    path.write_bytes(bytes(content) + xml.encode())
    return path


def sif(path: Path, frames: Array, coefficients: list[float], detector: int = 0, bins: int = 1) -> Path:
    """Andor Solis, version 65559: lines of words, then float32; coefficients are of the pixel's number from
    1. detector: its pixels, those of a frame if not given. bins: pixels of it in each of a frame."""
    count, rows, pixels = frames.shape
    words = "0 0 1 1700000000 -60 " + " " * 10 + "0 0.0125 0.02 0.02 1 \0 0.02 1e-06 0 1 0 0 0 0 " + "0 " * 16
    lines = [
        "Andor Technology Multi-Channel File", "65538 1", f"65559 {words}500 0 0", "DU420",
        f"{detector or pixels} 256 5", "a.sif ", "65538 4", "text", "65538 " + "\1 \2 \3 \4 " + "0.01 0.01",
        *["0"] * 8, "0 SR303i 0", "65539 " + " ".join(map(repr, coefficients)), "0 1 0 0",
        "0 1 0 0", "0", "422", "13", "13", "10", "Wavelength6", "Counts10",
    ]  # fmt: skip
    head = "\n".join(lines)
    area = f"65541 1 1 {pixels} 1 {count} 1 {count * rows * pixels} {rows * pixels}\n"
    area += f"65538 1 {rows} {bins * pixels} 1 1 {bins}\n"
    head += "\nPixel Axis" + area + "0\n" * count
    path.write_bytes(head.encode("latin-1") + frames.astype("<f4").tobytes())
    return path


def wdf(path: Path, data: Array, axis: Array, down: float = 0.25) -> Path:
    """Renishaw WiRE, a map: blocks with a name, a number and a length. data: (rows, columns, p). down: step
    of its rows, um."""
    rows, columns, pixels = data.shape
    count = rows * columns
    head = bytearray(496)
    for at, kind, value in (
        (44, "<I", pixels), (48, "<Q", count), (56, "<Q", count), (64, "<I", 1), (68, "<I", 1),
        (72, "<I", pixels), (76, "<I", 2), (80, "4s", b"WiRE"), (112, "<I", 2), (116, "<I", 3),
    ):  # fmt: skip
        struct.pack_into(kind, head, at, value)
    y, x = np.divmod(np.arange(count), columns)
    origins = b"".join(
        struct.pack("<II16s", kind, 5, b"X or Y") + (0.5 * place).astype("<f8").tobytes()
        for kind, place in ((3, x), (4, y))
    )
    blocks = (
        (b"WDF1", 1, bytes(head)),
        (b"DATA", 0, data.astype("<f4").tobytes()),
        (b"YLST", 0, struct.pack("<IIf", 0, 0, 1.0)),
        (b"XLST", 0, struct.pack("<II", 1, 1) + axis.astype("<f4").tobytes()),
        (b"ORGN", 0, struct.pack("<I", 2) + origins),
        (b"WMAP", 0, struct.pack("<II6f4I", 2, 0, 0, 0, 0, 0.5, down, 1, columns, rows, 1, 0)),
    )
    path.write_bytes(
        b"".join(struct.pack("<4sIQ", name, uid, 16 + len(body)) + body for name, uid, body in blocks)
    )
    return path


def wire(path: Path, data: Array, axis: Array) -> Path:
    """Renishaw WiRE, a map as text, there and back: a line for each pixel of each point."""
    rows, columns, _ = data.shape
    lines = ["#X\t\t#Y\t\t#Wave\t\t#Intensity"]
    for row in range(rows):
        for column in range(columns) if row % 2 == 0 else reversed(range(columns)):
            lines += [
                f"{0.5 * column:f}\t{10 - 0.25 * row:f}\t{shift:f}\t{count:f}"
                for shift, count in zip(axis, data[row, column], strict=True)
            ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
