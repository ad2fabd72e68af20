"""Tables of spectra in text: read rightly, or refused in one sentence, and never read as other numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_rt.files.columns import Table, TableError
from cars_rt.files.tables import parse
from cars_rt.files.units import CM1, NM
from cars_rt.physics.axis import AxisError, judged_raman_shift

AXIS = [497.35, 499.3073, 1003.25, 2012.5]
COUNTS = [1785.25, 985.5, 20_000.75, 12.0]
PLAIN = "".join(f"{a}\t{c}\n" for a, c in zip(AXIS, COUNTS, strict=True))


def german(text: str) -> str:
    return text.replace(".", ",")


def read(text: str | bytes) -> Table:
    return parse(text if isinstance(text, bytes) else text.encode())


def lines(delimiter: str, *columns: Any) -> str:
    return "".join(delimiter.join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


TWO = lines(";", AXIS, COUNTS)
WIRE = "#X\t#Y\t#Wave\t#Intensity\n"
DARK = [600.5, 601.0, 599.5, 600.0]
#: As programs of instruments write them: text, unit, number of spectra, whether with a dark.
EXPORTS: dict[str, tuple[str | bytes, str, int, bool]] = {
    "LabSpec": ("#Acq. time (s)=\t1\n#Laser=\t785nm\n#AxisUnit[1]=\t1/cm\n" + PLAIN, CM1, 1, False),
    "WiRE": ("#Wave\t\t#Intensity\n" + PLAIN.replace("\t", "\t\t"), "", 1, False),
    "SpectraSuite": (
        "SpectraSuite Data File\nIntegration Time (usec): 100000\n>>>>>Begin Processed Spectral Data<<<<<\n"
        + german(PLAIN) + ">>>>>End Processed Spectral Data<<<<<\n", NM, 1, False,
    ),
    "OceanView in shifts": (
        "XAxis mode: Raman Shifts\nNumber of Pixels in Spectrum: 4\n>>>>>Begin Spectral Data<<<<<\n"
        + PLAIN, CM1, 1, False,
    ),
    "Solis": (
        lines(",", AXIS, COUNTS) + "\n\nDate and Time:,Fri Nov 26\nExposure Time (secs):,0.1\n", "", 1, False
    ),
    "AvaSoft": (
        german("Integration time:;1.00\nWave   ;Sample   ;Dark     \n[nm]   ;[counts] ;[counts]\n\n"
               + lines(";", AXIS, COUNTS, DARK)), NM, 1, True,
    ),
    "LightField": (
        "Frame,Row,Wavelength,Intensity\n" + lines(",", "1111", "1111", AXIS, COUNTS), NM, 1, False
    ),
    "WITec": (
        "X-Axis,Sample 1,Sample 2\n1/cm,CCD cts,CCD cts\n" + lines(",", AXIS, COUNTS, DARK), CM1, 2, False
    ),
    "pandas": (",raman_shift,counts\n" + lines(",", range(4), AXIS, COUNTS), CM1, 1, False),
    "pandas, sorted": (",raman_shift,counts\n" + lines(",", [3, 1, 0, 2], AXIS, COUNTS), CM1, 1, False),
    "pandas, an index without a name": (",x,y\n" + lines(",", range(4), AXIS, COUNTS), "", 1, False),
    "pandas, the axis as index": (",counts\n" + lines(",", AXIS, COUNTS), "", 1, False),
    "a reference in its own file": ("shift;Reference;dark\n" + lines(";", AXIS, COUNTS, DARK), CM1, 1, True),
    "dark corrected": ("shift;counts (dark corrected)\n" + TWO, CM1, 1, False),
    "both axes": (
        "Wavelength (nm);Raman shift (cm-1);Counts\n" + lines(";", [7, 6, 5, 4], AXIS, COUNTS), CM1, 1, False
    ),
    "savetxt": ("# wavelength_nm counts\n" + lines(" ", AXIS, COUNTS), NM, 1, False),
    "spaces and a header of words": (
        "# Raman shift / cm-1   Intensity (a.u.)\n" + lines("   ", AXIS, COUNTS), CM1, 1, False
    ),
    "comma and space": (lines(",   ", AXIS, [f"{c}," for c in COUNTS]), "", 1, False),
    "a decimal comma between spaces": (german(lines("  ", AXIS, COUNTS)), "", 1, False),
    "quoted": (lines(",", [f'"{a}"' for a in AXIS], [f'"{c}"' for c in COUNTS]), "", 1, False),
    "quoted, a decimal comma": (
        lines(",", [german(f'"{a}"') for a in AXIS], [german(f'"{c}"') for c in COUNTS]), "", 1, False
    ),
    "an empty column": ("shift;;counts\n" + lines(";;", AXIS, COUNTS), CM1, 1, False),
    "UTF-16": (("Raman shift;counts\r\n" + german(TWO)).encode("utf-16"), CM1, 1, False),
    "UTF-16 without a mark": (german(TWO).encode("utf-16-le"), "", 1, False),
    "UTF-8 with a mark": (b"\xef\xbb\xbf" + ("Raman shift (cm⁻¹);counts\n" + TWO).encode(), CM1, 1, False),
    "Latin-1": (("Wellenlänge;Zähler\n" + german(TWO)).encode("latin-1"), NM, 1, False),
    "carriage returns alone": (TWO.replace("\n", "\r"), "", 1, False),
    "a wavelength among the settings": ("Excitation wavelength (nm);785\n" + TWO, "", 1, False),
}  # fmt: skip


@pytest.mark.parametrize("kind", EXPORTS)
def test_exports_of_instruments_are_read(kind: str) -> None:
    content, unit, spectra, dark = EXPORTS[kind]
    table = read(content)
    assert (table.unit, len(table.counts)) == (unit, spectra)
    assert table.axis.tolist() == AXIS and table.counts[0].tolist() == COUNTS
    assert (None if table.dark is None else table.dark.tolist()) == (DARK if dark else None)


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("shift,a,b", [[7, 12, 130] * 4, [980 + row**2 for row in range(12)]]),
        ("shift,a,b", [[980 + row**2 for row in range(12)], [7, 12, 130] * 4]),
        ("shift,Dark,a", [[101 + row * 7 % 5 for row in range(12)], [-3, 12, 130] * 4]),
        ("shift,a,b", [[row * 7 % 41 for row in range(82)], [row * 7 % 43 for row in range(82)]]),
        ("shift,Row,b", [[1] * 12, [7, 12, 130] * 4]),
        ("shift,counts,dark", [[7, 12, 130] * 4, [5, 1, 11] * 4]),
        ("shift, a, b", [[980 + row**2 for row in range(12)], [5, 1, 11] * 4]),
    ],
)
def test_whole_counts_that_are_named_are_no_decimals(head: str, columns: list[list[int]]) -> None:
    axis = [500 + round(1.95 * row) for row in range(len(columns[0]))]
    table = read(f"{head}\n" + lines(",", axis, *columns))
    assert table.axis.tolist() == axis and table.counts[-1].tolist() == columns[-1 - head.endswith("dark")]


def test_a_single_point_may_lie_apart_below_names() -> None:
    """Such as one beside the resonances, of tuned lasers."""
    for axis in [800, *range(2845, 2946, 10)], [*range(1000, 1101, 10), 1600]:
        table = read("raman_shift,counts\n" + lines(",", axis, [900 + x for x in range(len(axis))]))
        assert table.axis.tolist() == axis


def test_it_says_what_was_taken_for_what() -> None:
    table = read(
        ",nm,raman_shift,dark,a,b\n" + lines(",", range(4), [4, 3, 2, 1], AXIS, DARK, COUNTS, COUNTS[::-1])
    )
    assert table.about == "column 3 (raman_shift), dark: column 4 (dark), not used: column 1, 2 (nm)"
    assert table.counts.tolist() == [COUNTS, COUNTS[::-1]]


REFUSED: list[tuple[str | bytes, str]] = [
    ("x;y\n497.35;1,785\n499.31;985\n", "thousands separators, or with commas and points ..1,785.."),
    ("497;1,785\n499;1,985\n", "such as '1,785', which may be 1785 or 1.785"),
    ("497;985\n499;1.785\n", "whole numbers and '1.785' in column 2, whose point may separate thousands"),
    ("497,5;1.785,25\n498,5;1.885,25\n", "thousands separators"),
    ("497.5;1 785\n498.5;985\n499.5;987\n", "with thousands separators"),
    ("997.5;985\n998.5;987\n1 000.5;987\n", "with thousands separators"),
    ("497.5\t1'785\n498.5\t985\n499.5\t987\n", "with thousands separators"),
    (
        "497,3500,1785\n499,3073,1765\n501,2646,1765\n",
        "3 columns between commas, of which some may be the digits .*; name each column in the line above",
    ),
    ("500,1785,13\n502,985,0\n504,1770,26\n", "the digits behind a decimal comma"),
    ("497,35,1785\n499,3,17\n501,05,985\n", "the digits behind a decimal comma"),
    ("shift,counts\n497,35,1785,5\n499,3,17,25\n501,6,985,1\n", "the digits behind a decimal comma"),
    *[
        (
            f"{head}\n{rows}",
            "the digits behind a decimal comma .line 2.; write numbers with a point, or put semi",
        )
        for head, rows in (
            ("Raman shift (cm-1),Intensity, a.u.", "497,35,1785\n499,31,985\n501,26,1990\n"),
            ("Raman shift (cm-1),Intensity, a.u.", "497,5,1785\n499,0,985\n500,5,1990\n"),
            ("Raman shift (cm-1),Intensity, a.u.", "497,3500,1785\n499,3073,985\n501,0646,1990\n"),
            ("Raman shift (cm-1),Intensity, a.u.", "500,1785,5\n502,985,0\n504,1990,5\n"),
            ("Raman shift (cm-1),Intensity, a.u.", "500,1785,125\n502,985,063\n504,1990,5\n"),
            ("Raman shift, cm-1,Intensity, a.u.", "497,35,1785,3\n499,31,985,3\n501,26,1990,7\n"),
            (
                "# Raman shift (cm-1), Intensity, a.u.",
                lines(",", [german(f"{497.311 + 1.8 * row:.3f}") for row in range(13)], range(300, 313)),
            ),
        )
    ],
    ("shift;counts;\n1;2;3;\n2;3;4;5\n", "line 3 has 4 columns, the first 3"),
    ("shift;a;b\n1.5;2;3\n2.5;;4\n", "line 3 has no number in column 2"),
    (
        "shift;counts;reference\n1.5;2;3\n2.5;3;4\n",
        "called 'reference' beside the spectra; .*--reference",
    ),
    ("raman_shift,raman,deviation\n1.5,2,3\n2.5,3,4\n", r"column 2 \(raman\) does not hold counts"),
    ("shift;dark\n1.5;2\n2.5;3\n", "has 0 columns of counts and 1 called dark"),
    ("shift_a;a;shift_b;b\n1.5;2;1.5;3\n2.5;3;2.5;4\n", r"column 3 \(shift_b\) is a second axis"),
    ("1.5 2 1.5 3\n2.5 3 2.5 4\n", "column 3 is a second axis"),
    ("1.5 0 8\n2.5 1 9\n3.5 2 8\n", r"column 2 is no spectrum, it counts 0, 1, \.\.\."),
    (",400.5,402.5,404.5\n0,12,13,12\n1,12,15,12\n", "has its axis in the first row"),
    ("\t\t400.5\t402.5\t404.5\n0.5\t1\t12\t13\t12\n1.5\t1\t12\t15\t12\n", "has its axis in the first row"),
    ("shift;darkest;a\n1.5;2;3\n2.5;3;4\n", "may be a dark or not"),
    (
        "#Time\t#Wave\t#Intensity\n" + lines("\t", "0011", [9.5, 8.5] * 2, "1234"),
        "a line for each pixel of each spectrum, which are told apart by Time; export each spectrum as a col",
    ),
    (
        WIRE + lines("\t", "00111", "00000", [9.5, 8.5, 9.5, 8.5, 7.5], "12345"),
        "a line for each pixel of each point, and not as many of each point; export .* or the map as .wdf",
    ),
    (WIRE + lines("\t", "0011", "0000", [9.5, 8.5, 9.5, 8.4], "1234"), r"another axis \(#Wave\) for each"),
    ("Frame,Wavelength,Intensity\n1,700,500\n2,700,60\n1,701,60\n", r"column 1 \(Frame\) is no spectrum"),
    ("1.5;2\n2.5;3\nno more\n3.5;4\n", "line 4 does not hold numbers as the others do"),
    ("1;2\n3;4_0\n", "line 2 does not hold numbers"),
    ("1;2\n3;0x10\n", "line 2 does not hold numbers"),
    (b"\xff\xfe" + b"1;2\n3;4\n5", "begins as text in UTF-16 does, and is none"),
    ("", "needs two columns of numbers or more"),
    ("1\n2\n3\n", "needs two columns of numbers or more"),
]


@pytest.mark.parametrize(("content", "reason"), REFUSED)
def test_what_may_mean_two_things_is_refused(content: str | bytes, reason: str) -> None:
    with pytest.raises(TableError, match=reason) as raised:
        read(content)
    assert "\n" not in str(raised.value)


STEPS = [800.5 + 12.5 * step for step in range(16)]
BESIDE = [x - 900 for x in STEPS]  # on both sides of the laser
WIDE = {ord("0") + digit: 0xFF10 + digit for digit in range(10)}
MICRONS = [x / 1e3 for x in STEPS]
NOISY = [3000.5 + 40 * (step * 7 % 5) for step in range(16)]
#: As they come: text, axis in the table's unit.
ODD: dict[str, tuple[str, list[float]]] = {
    "a printer's minus": (lines("\t", BESIDE, NOISY).replace("-", "\u2212"), BESIDE),
    "a dash": (lines(",", BESIDE, NOISY).replace("-", "\u2013"), BESIDE),
    "an exponent of Fortran": (lines("  ", [f"{x:.6E}".replace("E", "D") for x in STEPS], NOISY), STEPS),
    "full-width digits": (lines("\t", STEPS, NOISY).translate(WIDE), STEPS),
    "two files after one another": (
        lines(",", STEPS[:8], NOISY[:8]) + "\ufeff" + lines(",", STEPS[8:], NOISY[8:]), STEPS
    ),
    "micrometres": ("Wavelength (µm),counts\n" + lines(",", [x / 1e3 for x in STEPS], NOISY), STEPS),
    "ångström": ("Wavelength [Å],counts\n" + lines(",", [x * 10 for x in STEPS], NOISY), STEPS),
    "a shutter that was closed, and one that was too long": (
        lines(",", STEPS, NOISY, [0] * 16, [4095] * 16), STEPS
    ),
    "a mean alone": ("shift,mean\n" + lines(",", STEPS, NOISY), STEPS),
    "micrometers in full": ("Wavelength (micrometers),counts\n" + lines(",", MICRONS, NOISY), STEPS),
    "microns, far above": ("Microns;cts\n# exposure 0.1 s\n" + lines(";", MICRONS, NOISY), STEPS),
    "concentrations": ("shift,0.5,1.0,1.5\n" + lines(",", STEPS, NOISY, NOISY, NOISY), STEPS),
    "a dilution": (lines(",", STEPS, NOISY, *[[n * (x - 2900) for x in NOISY] for n in range(1, 40)]), STEPS),
    "three digits": (lines(" ", STEPS, NOISY, [100 + x * 7 % 13 for x in range(16)]), STEPS),
    "a shift below 0": (lines(",", [x - 1799.5 for x in STEPS], NOISY), [x - 1799.5 for x in STEPS]),
    "a gap below names": ("shift,a\n" + lines(",", [520.5, *STEPS[1:]], NOISY), [520.5, *STEPS[1:]]),
    "minutes": ("shift,control,5 min,chitin\n" + lines(",", STEPS, NOISY, NOISY, NOISY), STEPS),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_odd_signs_and_units_give_the_same_numbers(kind: str) -> None:
    content, axis = ODD[kind]
    table = read(content)
    assert table.axis == pytest.approx(axis) and table.counts[0].tolist() == NOISY


#: What would be read as other numbers.
OTHER: list[tuple[str, str]] = [
    *[
        (f"{name},counts\n" + lines(",", STEPS, NOISY), f"'{unit}'.* neither cm-1 nor a wavelength")
        for name, unit in {
            "Energy (eV)": "eV",
            "Raman shift [meV]": "meV",
            "Frequency (THz)": "THz",
            "wavenumber / mm-1": "mm-1",
            "Raman shift (10^3 cm-1)": r"10\^3 cm-1",
            "t (s)": "s",
            "2theta": "2theta",
            "Frequency (10^12 Hz)": r"10\^12 Hz",
            "Energy (kJ/mol)": "kJ/mol",
            "omega (ps^-1)": r"ps\^-1",
            "E/eV": "eV",
            "Shift (nm)": "nm",
            "Raman shift [micrometers]": "micrometers",
            "x (Hartree)": "Hartree",
            '"Energy\n(meV)"': "meV",
        }.items()
    ],
    ("Energy\tcounts\nmeV\tcts\n\ttoluene\n" + lines("\t", STEPS, NOISY), "'meV'"),
    ("Energy;counts\nmeV;cts\nCCD1;CCD1\n" + lines(";", STEPS, NOISY), "'meV'"),
    ("# Energy (meV), counts\n# exposure 0.1 s\n" + lines(" ", STEPS, NOISY), "'meV'"),
    ("Energy/meV   counts\n----------   ------\n" + lines("   ", STEPS, NOISY), "'meV'"),
    ("X-axis: THz\nx;y\n" + lines(";", STEPS, NOISY), "says 'X-axis: THz'"),
    ("XAxis mode: Frequency (THz)\n" + lines(";", STEPS, NOISY), "'THz'"),
    ("shift;a;Fit\ncm-1;cts;cts\nsample;toluene;toluene\n" + lines(";", STEPS, NOISY, NOISY), "Fit"),
    *[
        (f"shift;{names}\n" + lines(";", STEPS, *[NOISY] * (1 + names.count(";"))), reason)
        for names, reason in {
            "Dark;Raw data #1;Dark Subtracted #1": r"column 4 \(Dark Subtracted #1\), .*column 2 \(Dark\), 3",
            "Processed;Raw;Dark": r"column 2 \(Processed\), .* leave out the former, or all of the latter",
            "toluene raw;toluene corrected": "leave out the former",
            "a;StdDev": "does not hold counts",
            "a;SD": "does not hold counts",
            "a;%RSD (%)": "does not hold counts",
            "a;Noise": "does not hold counts",
            "a;Raman (a.u.)": "does not hold counts",
            "a;intensity (dBm)": "does not hold counts",
            "a;Intensity / dB": "does not hold counts",
            "a;dBm": "does not hold counts",
            "a;ln(I)": "does not hold counts",
            "a;ln counts": "does not hold counts",
            "a;log counts": "does not hold counts",
            "a;log10_intensity": "does not hold counts",
            "a;Intensity, log": "does not hold counts",
            "a;log(a)": "does not hold counts",
            "a;sqrt(counts)": "does not hold counts",
            "a;square root of counts": "does not hold counts",
            "a;counts^0.5": "does not hold counts",
            "a;asinh counts": "does not hold counts",
            "a;Smoothed": "made of them",
            "a;a, normalized": "made of them",
            "a;Bkg": "--reference",
            "a;Hintergrund": "--reference",
            "a;Nonresonant": "--reference",
            "a;Offset": "may be a dark or not",
        }.items()
    ],
    *[
        (lines(" ", STEPS, [f"{x:,.0f}".replace(",", space) for x in NOISY]), "thousands separators .'3 000'")
        for space in " \u00a0\u2009"
    ],
    (lines(",", STEPS, [*NOISY[:5], -9999, *NOISY[6:]]), "column 2 of line 6: -9999 stands for a missing"),
    ("shift,a\n" + lines(",", STEPS, [*NOISY[:5], -32768, *NOISY[6:]]), "column 2 of line 7: -32768"),
    ("   1.0e+02 *\n\n" + lines("   ", STEPS, NOISY), r"to be multiplied \('1.0e\+02 \*'\)"),
    ("##XFACTOR=0.5\n" + lines(" ", STEPS, NOISY), "to be multiplied"),
    ("##XYPOINTS=(XY..XY)\n" + lines("; ", [f"{x}, 5" for x in STEPS], [f"{x}, 5" for x in STEPS]), "JCAMP"),
    ("Energy,counts\neV,cts\n" + lines(",", STEPS, NOISY), "'eV'"),
    (lines("\t", STEPS, NOISY, [x + 3 for x in STEPS], NOISY), "column 3 goes from 803.5 to 991"),
    ("liver_x;a;kidney_x;b\n" + lines(";", STEPS, NOISY, [x + 3 for x in STEPS], NOISY), "kidney_x"),
    (lines(",", [1e7 / (12739 + x) for x in STEPS], STEPS, NOISY), "column 2 goes from 800.5"),
    (lines("\t", range(10, 26), STEPS, NOISY), "column 2 goes from 800.5"),
    (",".join(map(str, STEPS)) + "\n" + ",".join(map(str, NOISY)) + "\n", "has its axis in the first row"),
    ("shift,a,b,sum\n" + lines(",", STEPS, NOISY, NOISY, NOISY), "called 'sum' beside the spectra"),
    ("shift,exposure (s),a\n" + lines(",", STEPS, NOISY, NOISY), "exposure"),
    ("shift,log10(counts)\n" + lines(",", STEPS, NOISY), "does not hold counts"),
    ("##XYDATA=(X++(Y..Y))\n" + lines(" ", STEPS, NOISY, NOISY), "JCAMP"),
    ("~800.5\t3000.5\n~813\t3040.5\n" + lines("\t", STEPS[2:], NOISY[2:]), "line 1 does not hold"),
    ("sample,500,510,520\ns1,58,59,60\ns2,8,9,66\n", r"spectra in rows, each behind a name \(s2\); turn"),
    ("name;500;510\n;558;559\ns2;658;659\n", r"spectra in rows, each behind a name \(s2\); turn it round"),
    (lines(",", STEPS, NOISY, ["10:00:01"] * 16), r"line 9: .*10:00:01.* is no number"),
    (lines("\t", STEPS, [f"{x:,.2f}".replace(",", "\u202f") for x in NOISY]), "thousands separators"),
    ("\x1f\x8b\x08\x00abc", "compressed"),
    ("0,1,2\n" + lines(",", STEPS, NOISY, NOISY[::-1]), "numbers its columns in line 1"),
    *[
        (f"{row}\n" + lines(row.strip('"-0123456789.')[0], STEPS, NOISY), r"line 1 is no pixel, since .*")
        for row in ("0,1", '"0","1"', "1 2", "0.0\t1.0", "100;10", "-1,-1", "2000,5")
    ],
    ("0,10,20,30\n" + lines(",", STEPS, NOISY, NOISY, NOISY), "64 steps .* .0 beside 800.5.; .*a letter"),
    *[
        (head + lines(",", [*axis, last], [*NOISY, 0]), f"line {16 + at} is no pixel, .*leave it out")
        for axis, last in ((STEPS, 4000), (STEPS, 0), (STEPS[::-1], 0))
        for at, head in enumerate(("", "shift,a\n"), 1)
        if not head or last == 0
    ],
    *[
        (f"{head}\n{row}\n" + lines(",", axis, NOISY), "line 2 is no pixel, since .*leave it out")
        for head, row, axis in (
            ("Wavenumber,Intensity", "0,1", STEPS),
            ("Wavenumber,Intensity", "1,2", [x - 700.5 for x in STEPS]),
            ("wavelength (nm),Intensity", "0,1", [x / 4 + 400 for x in STEPS]),
        )
    ],
    ("800.5,OVER\n813.0,n/a\n" + lines(",", STEPS[2:], NOISY[2:]), "line 2 does not hold numbers .*n/a"),
    ("shift,a,laser power\n" + lines(",", STEPS, NOISY, [5] * 16), "column 3 .* is 5 on every line"),
    ("shift,signal (dB)\n" + lines(",", STEPS, NOISY), "does not hold counts"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "reason"), OTHER)
def test_what_would_be_other_numbers_is_refused(content: str, reason: str) -> None:
    with pytest.raises(TableError, match=reason) as raised:
        read(content.encode("latin-1") if content.startswith("\x1f") else content)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name", ["catalog no. 3", "catalog (3)", "log file 2", "ln 5", "LN2", "logwood", "DB 17"]
)
def test_names_that_are_of_no_scale_are_of_spectra(name: str) -> None:
    (counts,) = read(f"shift,{name}\n" + lines(",", STEPS, NOISY)).counts
    assert counts.tolist() == NOISY


HEADS: dict[str, Callable[[str, int], str]] = {
    "none": lambda d, n: "",
    "names": lambda d, n: d.join(["Raman shift (cm-1)", *(f"spectrum {k}" for k in range(n))]) + "\n",
    "numbers": lambda d, n: d.join(["shift", *(str(k) for k in range(1, n + 1))]) + "\n",
    "short": lambda d, n: d.join(["x", "y"]) + "\n",
    "settings": lambda d, n: f"Exposure{d}0.1\nLaser (nm){d}785\n\n",
    "comment": lambda d, n: "# measured on a Friday\n",
}
FOOTS = ["", "\n\n", "end of data\n", "Mean;3,5\n", ">>>>>End<<<<<\n"]


@settings(max_examples=400, deadline=None)
@given(
    st.data(), st.sampled_from([";", "\t", ",", ", ", " ", "  ", " ; "]), st.sampled_from(".,"),
    st.sampled_from(sorted(HEADS)), st.sampled_from(FOOTS), st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]),
    st.booleans(), st.booleans(), st.sampled_from(["\n", "\r\n"]),
)  # fmt: skip
def test_a_table_in_any_dialect_is_read_as_it_was_or_refused(
    data: st.DataObject, delimiter: str, sign: str, head: str, foot: str, encoding: str, quoted: bool,
    index: bool, newline: str,
) -> None:  # fmt: skip
    pixels, spectra = data.draw(st.integers(3, 12)), data.draw(st.integers(1, 4))
    places = [data.draw(st.integers(0, 4)) for _ in range(spectra + 1)]
    steps = data.draw(st.lists(st.floats(0.5, 300), min_size=pixels, max_size=pixels))
    axis = np.cumsum(steps) + data.draw(st.floats(0, 2500))
    size = data.draw(st.sampled_from([1.0, 100.0, 1e5]))
    counts = [
        data.draw(st.lists(st.floats(0, size), min_size=pixels, max_size=pixels)) for _ in range(spectra)
    ]
    columns = [
        [f"{value:.{p}f}" for value in values] for values, p in zip([axis, *counts], places, strict=True)
    ]
    written = [[cell.replace(".", sign) for cell in column] for column in columns]
    if quoted:
        written = [[f'"{cell}"' for cell in column] for column in written]
    if index:
        written = [[str(row) for row in range(pixels)], *written]
    above = HEADS[head](delimiter, spectra)
    if index and head in ("names", "numbers"):
        above = delimiter + above
    text = above + lines(delimiter, *written) + foot
    try:
        table = parse(text.replace("\n", newline).encode(encoding))
        judged_raman_shift(table.axis)  # as whoever reads a file does: an index is no axis
    except (TableError, AxisError):
        return
    assert table.axis.tolist() == [float(cell) for cell in columns[0]]
    assert table.counts.tolist() == [[float(cell) for cell in column] for column in columns[1:]]


def test_most_dialects_are_read() -> None:
    """Refusing everything would keep the promise above, too."""
    rng = np.random.default_rng(1)
    axis, counts = 500 + np.cumsum(rng.uniform(1, 3, 700)), rng.poisson(2000, (2, 700)) + 0.25
    for delimiter, sign in (
        (";", ","),
        ("\t", ","),
        (" ", ","),
        (";", "."),
        ("\t", "."),
        (",", "."),
        (" ", "."),
    ):
        columns = [
            [f"{value:.{p}f}".replace(".", sign) for value in row]
            for row, p in zip([axis, *counts], (3, 2, 2), strict=True)
        ]
        table = read(lines(delimiter, *columns))
        assert np.allclose(table.axis, axis, atol=1e-3) and np.array_equal(table.counts, counts), (
            delimiter,
            sign,
        )


@pytest.mark.parametrize(
    ("x", "y", "order", "scan"),
    [
        ("0101", "5544", [0, 1, 2, 3], (2, 2)),
        ("0011", "5445", [0, 3, 1, 2], (2, 2)),  # column by column, there and back
        ("012", "555", [0, 1, 2], None),
        ("010", "554", [0, 1, 2], None),
        ("0101", "5545", [0, 1, 2, 3], None),  # one twice
    ],
)
def test_points_that_fill_rows_and_columns_are_a_scan(
    x: str, y: str, order: list[int], scan: tuple[int, int] | None
) -> None:
    """As WiRE writes maps, whatever the order in which they were measured; others are a list."""
    counts = np.arange(4.0 * len(x)).reshape(-1, 4) ** 2
    each = (np.repeat(list(place), 4) for place in (x, y))
    found = read(WIRE + lines("\t", *each, AXIS * len(x), counts.ravel()))
    assert found.axis.tolist() == AXIS and found.scan == scan
    assert np.array_equal(found.counts, counts[order])
