"""Andor's .sif, by sif_parser: frames of one row or of several tracks, mapped from the file."""

from pathlib import Path

import numpy as np

from cars_rt.files.readers.lazy import of_array
from cars_rt.files.readers.scale import Asked, scale_of
from cars_rt.files.spectra import Spectra, SpectraError
from cars_rt.installation import install_extra
from cars_rt.storage import refuse_special_file


def read_sif(path: Path, asked: Asked) -> Spectra:
    """The spectra. Raises SpectraError; a WavelengthError names the laser, if the file states it."""
    try:
        import sif_parser
        from sif_parser.utils import extract_calibration
    except ImportError:
        raise SpectraError(f"needs sif_parser to be read: {install_extra('formats')}") from None
    refuse_special_file(path)
    try:
        with path.open("rb") as file:  # opened here: sif_parser leaves it open when it fails
            data, info = sif_parser.np_open(file, lazy="memmap")
        wavelength = extract_calibration(info)
    except Exception as error:  # another package's code on a file from anywhere
        raise SpectraError(f"is no .sif file that sif_parser reads ({type(error).__name__})") from None
    pixels, detector = data.shape[-1], info["DetectorDimensions"][0]
    where = "Calibration_data"
    if wavelength is not None and pixels < detector:
        # Nothing public says from where Solis counts then: bins or pixels, of the region or of the detector.
        wavelength = None
        where = (
            f"its {where} may be of each of the detector's {detector} pixels, and the spectra have {pixels}, "
            "of bins or a region"
        )
    if wavelength is not None and np.ndim(wavelength) == 2:
        if not asked.any_axis and not (wavelength == wavelength[0]).all():
            raise SpectraError("has another calibration for each frame; save frames of one calibration")
        wavelength = wavelength[0]
    if wavelength is not None:  # a polynomial that is the pixel's number alone is no axis
        wavelength = wavelength[:pixels]
        numbers = np.arange(1, len(wavelength) + 1)
        wavelength = None if np.array_equal(wavelength, numbers) or not wavelength.any() else wavelength
    laser = float(info.get("RamanExWavelength", np.nan))
    where += f", with a laser of {laser:g} nm" if laser > 0 else ""
    scale = scale_of(wavelength, "nm", asked, where)
    exposure, camera = float(info.get("ExposureTime", 0)), str(info.get("DetectorType", ""))
    return Spectra(
        scale.raman_shift,
        of_array(data, path, scale.turned),
        exposure_s=exposure if 0 < exposure < np.inf else None,
        time_ns=max(int(info.get("ExperimentTime", 0)), 0) * 10**9 or None,
        instrument={"camera": camera} if camera else None,
        of_axis=scale.said,
        turned=scale.turned,
    )
