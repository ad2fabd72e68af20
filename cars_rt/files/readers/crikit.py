"""CRIkit2's layout: one dataset (y, x, p), whose attributes hold scan and a polynomial of wavelengths."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cars_rt.files.columns import refuse_no_counts
from cars_rt.files.hdf5 import are_numbers, stored
from cars_rt.files.readers.lazy import of_dataset, scan_of
from cars_rt.files.readers.nexus import groups_in, is_own, text_of
from cars_rt.files.readers.scale import Asked, scale_of
from cars_rt.files.spectra import Spectra, SpectraError

CALIB = ("Spectrometer.calib.", "Calib.")
RASTER = ("Macro.Raster.", "Raster.")


def find_crikit(file: h5py.File) -> h5py.Dataset | None:
    """The one dataset with this layout. Raises SpectraError if there are several."""
    found = []
    for group in groups_in(file):
        for name in group:
            if is_own(group, name, h5py.Dataset):
                dataset = stored(group, name, h5py.Dataset)
                if dataset.ndim and any(f"{each}a_vec" in dataset.attrs for each in CALIB):
                    found.append(dataset)
    if len(found) > 1:
        names = ", ".join(str(each.name) for each in found[:5])
        raise SpectraError(f"holds {len(found)} sets of spectra, {names}; copy one to a file of its own")
    return found[0] if found else None


def read_crikit(dataset: h5py.Dataset, path: Path, asked: Asked) -> Spectra:
    """Its spectra. The wavelength of a pixel is the polynomial, moved by the centre less the calibrated
    centre. The probe's wavelength stands beside it. Raises SpectraError."""
    refuse_no_counts(str(dataset.name).rpartition("/")[2])
    a_vec = _number(dataset, CALIB, "a_vec")
    coefficients = np.atleast_1d(np.asarray(a_vec, np.float64))
    moved = float(_number(dataset, CALIB, "ctr_wl", 0.0)) - float(_number(dataset, CALIB, "ctr_wl0", 0.0))
    wavelength = np.polyval(coefficients, np.arange(dataset.shape[-1])) + moved
    probe = asked.pump_nm or float(_number(dataset, CALIB, "probe", np.nan))
    said = replace(asked, pump_nm=None if np.isnan(probe) else probe)
    unit = text_of(dataset, "Calib.units") or "nm"
    scale = scale_of(wavelength, unit, said, f"{dataset.name}, polynomial of degree {len(coefficients) - 1}")
    steps = [abs(float(_number(dataset, RASTER, f"{each}.StepSize", 0.0))) for each in ("Slow", "Fast")]
    return Spectra(
        scale.raman_shift,
        of_dataset(dataset, path, scale.turned),
        scan=scan_of(dataset.shape),
        step_um=(steps[0], steps[1]) if all(steps) and dataset.ndim > 2 else None,
        of_axis=scale.said,
        turned=scale.turned,
    )


def _number(dataset: h5py.Dataset, prefixes: tuple[str, ...], name: str, default: Any = None) -> Any:
    for prefix in prefixes:
        if (value := dataset.attrs.get(prefix + name)) is not None:
            if not are_numbers(np.asarray(value).dtype):
                raise SpectraError(f"has no number as {prefix + name} of {dataset.name}")
            return value if np.ndim(value) == 0 or name == "a_vec" else np.ravel(value)[0]
    return default
