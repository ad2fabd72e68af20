"""CRIkit2's HDF5 layout: one dataset (y, x, p) whose attributes hold scan and axis, the axis as a polynomial.

CRIkit2 has no place for the axis itself. The wavelengths of the pixels, which are smooth where raman shifts
of a spectrometer are not, are fitted by a polynomial in the pixel's number, of the least degree that gives
every point back within AGREES.
"""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.export.cube import Cube, ExportError

PLACE = "BCARSImage"
PROBE_NM = 785.0  # if none is given; the axis comes back the same with any
AGREES = 1e-3  # cm-1
MOST_DEGREE = 12


def write_crikit(cube: Cube, path: Path, probe_nm: float | None) -> None:
    """Write the file. Missing spectra become zeros, which CRIkit2 can compute with. Raises ExportError for an
    axis that no polynomial gives."""
    if len(cube.dims) > 2:
        raise ExportError("CRIkit2 reads one plane at a time, and this is a stack: give --plane")
    probe = PROBE_NM if probe_nm is None else probe_nm
    coefficients = wavelengths(cube.raman_shift, probe)
    rows, columns = cube.shape[:2] if len(cube.dims) == 2 else (1, cube.shape[0])
    slow, fast = cube.steps if len(cube.dims) == 2 else (None, None)
    pixels = len(cube.raman_shift)
    attrs: dict[str, object] = {
        "Spectrometer.calib.a_vec": coefficients, "Spectrometer.calib.n_pix": pixels,
        "Spectrometer.calib.ctr_wl": 0.0, "Spectrometer.calib.ctr_wl0": 0.0,
        "Spectrometer.calib.probe": probe, "Calib.units": "nm", "Memo": f"{cube.title}: {cube.quantity}",
    }  # fmt: skip
    for name, axis, count, step in (("Fast", "X", columns, fast or 1.0), ("Slow", "Y", rows, slow or 1.0)):
        place = f"Macro.Raster.{name}."
        attrs |= {f"{place}Start": 0.0, f"{place}Stop": step * (count - 1), f"{place}Steps": count}
        attrs |= {f"{place}StepSize": step, f"{place}Axis": axis}
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(f"{PLACE}/{cube.name}", (rows, columns, pixels), np.float32)
        for part, values in cube.blocks():
            values = np.nan_to_num(values, copy=False)
            dataset[part if len(cube.dims) == 2 else (0, *part)] = values
        dataset.attrs.update(attrs)


def wavelengths(raman_shift: NDArray[np.float64], probe_nm: float) -> NDArray[np.float64]:
    """Coefficients, highest first, of the wavelength in nm of each pixel from 0. Raises ExportError."""
    possible = 100 <= probe_nm <= 10_000
    shift = raman_shift + 1e7 / (probe_nm if possible else PROBE_NM)
    if not (possible and (shift > 0).all()):
        raise ExportError(
            f"the axis has no wavelengths with a probe of {probe_nm:g} nm; give another --probe-nm"
        )
    wavelength, pixels = 1e7 / shift, np.arange(len(shift))
    worst = np.inf
    for degree in range(1, min(MOST_DEGREE, len(shift) - 1) + 1):
        polynomial = np.polynomial.Polynomial.fit(pixels, wavelength, degree).convert()
        worst = float(np.abs(1e7 / polynomial(pixels) - shift).max())
        if worst <= AGREES:
            return np.asarray(polynomial.coef[::-1], np.float64)
    raise ExportError(
        f"the axis is no polynomial in the pixel, as CRIkit2 needs it: {worst:.3g} cm-1 off with degree "
        f"{MOST_DEGREE}"
    )
