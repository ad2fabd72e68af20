"""The axis that is given with --axis or by a calibration, and that of a text that has pixels or no unit."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign
import h5py
import numpy as np
import pytest
from helpers import AXIS

from cars_rt.calibrator.measured import measured
from cars_rt.files.formats import any_axis, open_spectra, read_spectra
from cars_rt.files.spectra import Spectra, SpectraError, WavelengthError
from files.test_readers import CUBE, FROM_1, LENGTHS, LINES, SPATIAL, listed, ours

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


def test_two_columns_below_their_names_are_no_decimal_commas(tmp_path: Path) -> None:
    with pytest.raises(SpectraError, match=r"two columns, .* \('500,3000'\); leave one number"):
        with_axis(tmp_path, "raman shift (cm-1),int. counts\n" + column(SHIFT, COUNTS))


@pytest.mark.parametrize("step", [1.0, 1.957, 2.0, 2.5, 7.3])
@pytest.mark.parametrize("counts", [COUNTS, COUNTS % 13, np.exp(np.linspace(4, 9, PIXELS)).astype(int)])
def test_an_axis_of_whole_numbers_beside_counts_is_no_decimal_commas(
    step: float, counts: Any, tmp_path: Path
) -> None:
    axis = np.round(497 + step * np.arange(PIXELS)).astype(int)
    with pytest.raises(SpectraError, match=rf"two columns, .* \('497,{counts[0]}'\); leave one number"):
        with_axis(tmp_path, column(axis, counts))


@pytest.mark.parametrize("digits", [1, 2, 4])
@pytest.mark.parametrize("bend", [0, 0.5])
@pytest.mark.parametrize("step", [0.6, 1.0, 1.957, 2.004, 2.5, 7.3])
def test_decimal_commas_are_an_axis(step: float, bend: float, digits: int, tmp_path: Path) -> None:
    axis = np.round(497.35 + step * np.arange(PIXELS) * (1 + bend * np.arange(PIXELS) / PIXELS), digits)
    texts = ["raman_shift\n" + "\n".join(f"{each:.{digits}f}" for each in axis).replace(".", ",")]
    texts += [texts[0].replace("0\n", "\n")] if digits > 1 else []  # as without zeros at the end
    for text in texts:
        assert np.array_equal(with_axis(tmp_path, text).raman_shift, axis)


@pytest.mark.parametrize("text", ["", "\n \n;\n", "\ufeff"])
def test_an_empty_axis_is_said_to_be_empty(text: str, tmp_path: Path) -> None:
    with pytest.raises(SpectraError, match=r"axis.csv is empty; it must hold one number for each pixel"):
        with_axis(tmp_path, text)


def test_decimal_commas_in_steps_of_one_are_an_axis(tmp_path: Path) -> None:
    axis = 1500.25 + np.arange(PIXELS)
    assert with_axis(tmp_path, column(axis).replace(".", ",")).raman_shift.tolist() == axis.tolist()


def test_an_axis_that_is_none_is_named_and_not_the_spectra(tmp_path: Path) -> None:
    with pytest.raises(SpectraError, match=r"axis\.csv: the raman-shift axis is not strictly monotonic"):
        with_axis(tmp_path, column([*SHIFT[:99], SHIFT[0], *SHIFT[100:]]))


def test_a_number_that_lies_apart_at_an_end_is_no_pixels(tmp_path: Path) -> None:
    """`0` above an axis, as pandas names a column without a name, moved every pixel by one."""
    falling, nm = SHIFT[::-1], WAVELENGTH[::-1]
    for axis in (
        [0, *SHIFT[1:]],
        [*falling[1:], 0],
        [1, *SHIFT[:-1] - 400],
        [0, *nm[1:]],
        [PIXELS, *SHIFT[1:]],
    ):
        with pytest.raises(
            SpectraError, match=r"axis\.csv: its (first|last) number, .* is no pixel's, since"
        ):
            with_axis(tmp_path, column(axis))
    assert with_axis(tmp_path, column([*SHIFT[1:], 1300])).raman_shift[-1] == 1300  # beside the resonances
    with pytest.raises(SpectraError, match="2"):
        with_axis(tmp_path, "500\n502\n")


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


#: Tables of spectra without an axis, as columns, each with its counts alone.
A, B = COUNTS.tolist(), COUNTS[::-1].tolist()
WITHOUT: dict[str, tuple[str, list[list[int]]]] = {
    "pixels in front": ("pixel,A,B\n" + column(np.arange(PIXELS), A, B), [A, B]),
    "an index from 1": ("index,A,B\n" + column(np.arange(1, PIXELS + 1), A, B), [A, B]),
    "spectra alone": ("A,B\n" + column(A, B), [A, B]),
    "not named": (column(A, B).replace(",", "\t"), [A, B]),
    "one alone": (column(A), [A]),
    "one with a name": ("counts\n" + column(A), [A]),
    "an axis that is rounded": ("x,A\n" + column(SHIFT // 4 * 4, A), []),
    "an axis with a slip": ("x,A\n" + column([*SHIFT[:5], 0, *SHIFT[6:]], A), []),
    "an axis by its name": ("raman shift,A\n" + column(B, A), []),
    "an axis elsewhere": ("A,B,x\n" + column(A, B, SHIFT), []),
    "decimal commas": (column(A, [5, 25] * (PIXELS // 2)), []),
}


@pytest.mark.parametrize("kind", WITHOUT)
def test_a_table_of_spectra_alone_is_read_with_an_axis_that_is_given(kind: str, tmp_path: Path) -> None:
    text, counts = WITHOUT[kind]
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "axis.txt").write_text(column(SHIFT))
    if counts:
        spectra = read_spectra(tmp_path / "a.txt", axis=tmp_path / "axis.txt")
        assert spectra.counts.tolist() == counts and spectra.raman_shift.tolist() == SHIFT.tolist()
        with open_spectra(tmp_path / "a.txt", given=any_axis) as spectra:
            assert spectra.counts.tolist() == counts
        with pytest.raises(SpectraError, match="give --axis FILE"):
            read_spectra(tmp_path / "a.txt")
    else:
        with pytest.raises(SpectraError, match=r"--axis out|--axis gives another|decimal comma"):
            read_spectra(tmp_path / "a.txt", axis=tmp_path / "axis.txt")


def test_a_wide_spectrometer_may_have_nm_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(column(np.linspace(200, 1100, 2000), [7, 8, 9, 8] * 500))
    with pytest.raises(WavelengthError, match="200 to 1100 may be nm or cm-1"):
        read_spectra(tmp_path / "a.csv")


def test_counts_beyond_float32_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("shift,counts\n" + column(SHIFT, ["1e39", *COUNTS[1:]]))
    with warnings.catch_warnings(), pytest.raises(SpectraError, match="infinite at pixel 0"):
        warnings.simplefilter("error")
        read_spectra(tmp_path / "a.csv")


def without_axis(path: Path) -> None:
    np.savez(path, spectra=CUBE)


def in_nm(path: Path) -> None:
    ours(path)
    with h5py.File(path, "r+") as file:
        file["raman_shift"].attrs["units"] = "nm"


#: Of which the axis is not known, lies in another unit, or falls; the pixels are in the camera's order.
ANY: list[tuple[str, Callable[[Path], Any]]] = [
    ("a.csv", lambda path: np.savetxt(path, np.c_[LENGTHS, CUBE.reshape(12, -1).T], delimiter=",")),
    ("a.npy", lambda path: np.save(path, CUBE)),
    ("a.npz", without_axis),
    ("a.h5", in_nm),
    ("a.h5", lambda path: foreign.crikit(path, CUBE, [1e-5, 0.4, 738], np.nan)),
    ("a.nxs", lambda path: foreign.nexus(path, CUBE, LENGTHS, "nm")),
    ("a.nxs", lambda path: foreign.nexus(path, CUBE, LENGTHS / 1e6, "mm")),
    ("a.nxs", lambda path: foreign.nexus(path, CUBE, AXIS, "eV")),
    ("a.nxs", lambda path: foreign.nexus(path, CUBE, AXIS[::-1], "1/cm")),
    ("a.nxs", lambda path: foreign.nexus(path, CUBE, AXIS, "", shift=None)),
    ("a.hspy", lambda path: foreign.hspy(path, CUBE, [*SPATIAL, listed(LENGTHS, "nm")])),
    ("a.spe", lambda path: foreign.spe2(path, LINES, FROM_1, 2)),
    ("a.spe", lambda path: foreign.spe3(path, CUBE, np.linspace(600, 740, 2 * len(AXIS)))),
    ("a.sif", lambda path: foreign.sif(path, LINES, FROM_1)),
    ("a.wdf", lambda path: foreign.wdf(path, CUBE, AXIS)),
]


@pytest.mark.parametrize(("name", "write"), ANY)
def test_an_axis_that_a_calibration_replaces_may_be_any_or_none(
    name: str, write: Callable[[Path], Any], tmp_path: Path
) -> None:
    if name.endswith((".hspy", ".wdf")):
        pytest.importorskip("rsciio")
    if name.endswith(".sif"):
        pytest.importorskip("sif_parser")
    write(tmp_path / name)
    with open_spectra(tmp_path / name, given=any_axis) as spectra:
        assert np.array_equal(spectra.counts[:], CUBE.reshape(12, -1))
        assert np.array_equal(spectra.raman_shift, any_axis(PIXELS))
    assert np.allclose(measured(str(tmp_path / name)).counts, CUBE.reshape(12, -1).mean(axis=0))
