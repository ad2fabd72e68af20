"""What stands above the columns of a table: names, units, settings, or the axis itself."""

from typing import Any

import pytest

from cars_rt.files.columns import PIXELS, Table, TableError
from cars_rt.files.tables import parse
from cars_rt.files.units import CM1, NM

STEPS = [800.5 + 12.5 * step for step in range(16)]
NOISY = [3000.5 + 40 * (step * 7 % 5) for step in range(16)]


def read(text: str) -> Table:
    return parse(text.encode())


def lines(delimiter: str, *columns: Any) -> str:
    return "".join(delimiter.join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


FROM_500 = [500 + step for step in range(40)]
ROWS = lines(",", [10, 20], *([3000 + 7 * x % 11, 3010 - 5 * x % 13] for x in FROM_500))


@pytest.mark.parametrize("corner", ["x_um,", ",", "Wavenumber,", "sample,", "0,", "nan,"])
def test_an_axis_in_the_first_row_is_seen_whatever_its_steps(corner: str) -> None:
    with pytest.raises(TableError, match=r"axis in the first row \(\.\.\., 538, 539\)"):
        read(corner + ",".join(map(str, FROM_500)) + "\n" + ROWS)


def test_numbers_of_many_spectra_are_no_axis() -> None:
    assert (
        len(
            read("shift," + ",".join(map(str, range(1, 41))) + "\n" + lines(",", STEPS, *[NOISY] * 40)).counts
        )
        == 40
    )


PIXEL_AXES = [
    "Pixel,cts\n",
    "Column,cts\n",
    "Frame,cts\n",
    "x (px),cts\n",
    "XAxis mode: Pixels\n>>>>>Begin<<<<<\n",
]


@pytest.mark.parametrize("head", PIXEL_AXES)
@pytest.mark.parametrize("first", [0.5, 100])
def test_an_axis_that_is_called_pixels_is_one(head: str, first: float) -> None:
    assert read(head + lines(",", [first + step for step in range(16)], NOISY)).unit == PIXELS


NM_HEADS = [
    "Nanometers,cts\n", "##XUNITS=NANOMETERS\n", "波长,cts\n", "Длина волны (нм),cts\n", "X-axis: nm\nx,y\n",
    "x axis (nm)\nx,y\n", "Wavelength (nm),cts\nSpectrum 1\n", "Wavelength,cts\nnm,cts\nCCD1,CCD1\n",
]  # fmt: skip


@pytest.mark.parametrize("head", NM_HEADS)
def test_wavelengths_are_told_by_any_line_above(head: str) -> None:
    assert read(head + lines(",", STEPS, NOISY)).unit == NM


SETTINGS = ["Wavelength\t532 nm\nDark\tyes\nx\ty\n", "X axis step (um)\t0.5\nWavelength range\tVIS\n# at\n"]


@pytest.mark.parametrize("head", [*SETTINGS, "Raman shift (785 nm)\tcounts\n"])
def test_settings_and_what_light_is_shifted_from_are_no_unit(head: str) -> None:
    table = read(head + lines("\t", STEPS, NOISY))
    assert table.unit != NM and table.axis.tolist() == STEPS and table.counts.tolist() == [NOISY]


def test_names_three_lines_above_are_those_of_columns() -> None:
    text = "Raman Shift\tIntensity\tDark\ncm-1\tcounts\tcounts\n\ttoluene\ttoluene\n"
    table = read(text + lines("\t", STEPS, NOISY, NOISY[::-1]))
    assert (table.unit, len(table.counts)) == (CM1, 1)
    assert table.dark is not None and table.dark.tolist() == NOISY[::-1]
