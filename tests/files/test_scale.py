"""The axis that is given with --axis, and the axis of a text that has pixels or no unit."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from cars_rt.files.formats import read_spectra
from cars_rt.files.spectra import Spectra, SpectraError, WavelengthError

PIXELS = 160
SHIFT = 500 + 2 * np.arange(PIXELS)
WAVELENGTH = np.linspace(640, 780, PIXELS)
COUNTS = 3000 + np.arange(PIXELS) * 7 % 13


def with_axis(folder: Path, text: str, pump_nm: float | None = None) -> Spectra:
    np.save(folder / "a.npy", COUNTS[None])
    (folder / "axis.csv").write_text(text)
    return read_spectra(folder / "a.npy", pump_nm, folder / "axis.csv")


def column(*columns: object) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


@pytest.mark.parametrize("first", [0, 1])
def test_two_columns_of_whole_numbers_are_no_decimal_commas(first: int, tmp_path: Path) -> None:
    with pytest.raises(SpectraError, match=rf"two columns, .* \('{first},500'\); leave one number"):
        with_axis(tmp_path, column(first + np.arange(PIXELS), SHIFT))


def test_decimal_commas_in_steps_of_one_are_an_axis(tmp_path: Path) -> None:
    axis = 1500.25 + np.arange(PIXELS)
    assert with_axis(tmp_path, column(axis).replace(".", ",")).raman_shift.tolist() == axis.tolist()


def test_what_may_be_nm_has_to_say_so(tmp_path: Path) -> None:
    with pytest.raises(WavelengthError, match=r"640 to 780, may be nm or cm-1: for nm give --pump-nm"):
        with_axis(tmp_path, column(WAVELENGTH))
    with pytest.raises(WavelengthError, match=r"in nm .*--pump-nm 785"):
        with_axis(tmp_path, "wavelength_nm\n" + column(WAVELENGTH))
    assert with_axis(tmp_path, "# raman_shift\n" + column(WAVELENGTH)).raman_shift[0] == 640
    shift = with_axis(tmp_path, column(WAVELENGTH), 785.0).raman_shift
    assert shift.tolist() == with_axis(tmp_path, "nm\n" + column(WAVELENGTH), 785.0).raman_shift.tolist()
    with pytest.raises(SpectraError, match="in cm-1 already"):
        with_axis(tmp_path, "Raman shift (cm⁻¹)\n" + column(WAVELENGTH), 785.0)


def test_text_with_pixels_needs_an_axis(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Pixel,Counts\n" + column(100 + np.arange(PIXELS), COUNTS))
    (tmp_path / "axis.csv").write_text(column(SHIFT))
    with pytest.raises(SpectraError, match=r"numbers pixels .*\(column 1 \(Pixel\)\); give --axis FILE"):
        read_spectra(tmp_path / "a.csv")
    assert read_spectra(tmp_path / "a.csv", axis=tmp_path / "axis.csv").raman_shift.tolist() == SHIFT.tolist()


def test_a_wide_spectrometer_may_have_nm_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(column(np.linspace(200, 1100, 2000), [7, 8, 9, 8] * 500))
    with pytest.raises(WavelengthError, match="200 to 1100 may be nm or cm-1"):
        read_spectra(tmp_path / "a.csv")


def test_counts_beyond_float32_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("shift,counts\n" + column(SHIFT, ["1e39", *COUNTS[1:]]))
    with warnings.catch_warnings(), pytest.raises(SpectraError, match="infinite at pixel 0"):
        warnings.simplefilter("error")
        read_spectra(tmp_path / "a.csv")
