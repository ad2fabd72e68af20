"""What camera drivers share: the axis from wherever it comes, the scan, what is told of settings."""

import inspect
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest

from cars_rt import calibration
from cars_rt.calibration import Calibration, Mean, Region, Scale
from cars_rt.drivers import Acquisition, InstrumentError, Order
from cars_rt.drivers.axis import Axis, AxisSettings, told
from cars_rt.drivers.feed import Feed
from cars_rt.drivers.nearest import meant, offered
from cars_rt.drivers.registry import driver_class
from cars_rt.drivers.scan import ScanSettings
from cars_rt.physics.axis import from_wavelength

PIXELS = 64
NM = np.linspace(820, 1000, PIXELS)
#: What stands on one line between numbers with decimal commas.
BETWEEN = {"semicolons": ";", "semicolons and spaces": "; ", "tabs": "\t", "spaces": " "}


def acquisition(settings: AxisSettings, pixels: int = PIXELS, **about: Any) -> Acquisition:
    given = {"source": "a camera", "instrument": {}, "dtype": "uint16"} | about
    return Axis(settings).acquisition(pixels, **given)


def calibrated(path: Path) -> Path:
    region = Region(2 * PIXELS)
    scale = Scale(
        kind="lamp", of="neon", quantity="raman_shift", coefficients=(500.0, 10.0), region=region,
        residual_cm1=0.1, time_ns=10**18,
    )  # fmt: skip
    dark = Mean(np.full(2 * PIXELS, 7, np.float32), 10, 10**18, 0.5)
    made = Calibration(region=region, scale=scale, darks=(dark,), full_scale=60_000, source="a camera",
                       settings={"serial": "17"})  # fmt: skip
    calibration.write(path, made)
    return path


def test_calibration_gives_axis_dark_and_full_scale_of_the_region_that_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = AxisSettings(calibration=calibrated(tmp_path / "lab.json"))
    about = acquisition(settings, 2 * PIXELS, exposure_s=0.5)
    assert np.allclose(about.raman_shift, 500 + 10 * np.arange(2 * PIXELS))
    assert about.dark is not None and about.dark[0] == 7 and about.full_scale == 60_000
    assert about.calibration is not None and about.calibration["of"] == "neon" and "days old" in caplog.text
    part = acquisition(settings, instrument={"binning": 1.0, "region": [10.0, 0.0, PIXELS, 4.0]})
    assert np.allclose(part.raman_shift, 500 + 10 * (10 + np.arange(PIXELS))) and part.dark is None
    with pytest.raises(InstrumentError, match="the calibration is of the camera with the serial 17"):
        acquisition(settings, 2 * PIXELS, instrument={"serial": "18"})
    with pytest.raises(InstrumentError, match="the axis of a camera: the calibration is of 128 pixels"):
        acquisition(settings)


@pytest.mark.parametrize(
    ("calibrated_at", "stated", "of_a_sum"),
    [
        (65_535, 4_095, 4 * 4_095),  # a camera of 12 bits that says so
        (60_000, None, 4 * 60_000),
    ],
)
def test_full_scale_is_what_the_driver_says_and_is_summed_once(
    calibrated_at: float, stated: float | None, of_a_sum: float, tmp_path: Path
) -> None:
    path = calibrated(tmp_path / "lab.json")
    calibration.write(path, replace(calibration.read(path), full_scale=calibrated_at))
    about = acquisition(AxisSettings(calibration=path), 2 * PIXELS, full_scale=stated, order=Order(frames=4))
    assert Feed(about).published.full_scale == of_a_sum


def test_axis_of_a_file_of_one_column_of_spectra_or_as_it_is_said(tmp_path: Path) -> None:
    column, table = tmp_path / "axis.txt", tmp_path / "toluene.csv"
    np.savetxt(column, NM)
    np.savetxt(
        table, np.column_stack([NM, NM * 2]), delimiter=",", header="wavelength (nm),counts", comments=""
    )
    large = tmp_path / "large.csv"  # larger than any list of numbers
    large.write_text("# " + 1_200_000 * "-" + "\n" + table.read_text(), encoding="utf-8")
    shift = from_wavelength(NM, 1064.0)
    for file in (column, table, large):
        assert np.allclose(acquisition(AxisSettings(axis=str(file), pump_nm=1064.0)).raman_shift, shift)
    assert np.allclose(acquisition(AxisSettings(axis="500:3100")).raman_shift, np.linspace(500, 3100, PIXELS))
    own = acquisition(AxisSettings(pump_nm=1064.0), wavelength_nm=NM)
    assert np.allclose(own.raman_shift, shift)
    lab, numbered = calibrated(tmp_path / "lab.json"), tmp_path / "numbered.txt"
    np.savetxt(numbered, [1, 2, 2, 3])
    for settings, reason in (
        ({}, "its 64 pixels have is not known: give .+ for `cars-rt calibrate` --axis pixels numbers"),
        ({"axis": str(tmp_path / "none.txt")}, "none.txt"),
        (
            {"axis": "500:3100", "calibration": lab},
            "--calibration or --axis, not both: .*lab.json has an axis",
        ),
        ({"calibration": table}, "no calibration"),
        ({"axis": str(numbered)}, "--axis: the raman-shift axis is not strictly monotonic"),
        ({"axis": "500:500"}, "--axis: the raman-shift axis is not strictly monotonic"),
        ({"pump_nm": -785.0}, "--pump-nm must be a wavelength in nm"),
        # What the daemon would refuse for the whole run, or what nobody can tell.
        (
            {"axis": "500:3100", "pump_nm": 785.0},
            "beyond every raman shift.*: leave that out where it is in cm-1",
        ),
        ({"axis": "620:960", "pump_nm": 785.0}, "leave out what lies on the other side of the laser"),
        ({"axis": str(column), "pump_nm": 850.0}, "leave out what lies on the other side of the laser"),
        ({"axis": "820:1000"}, "--axis 820:1000 may be nm or cm-1: for nm give --pump-nm"),
        ({"axis": str(column)}, "820 to 1000, may be nm or cm-1: for nm give --pump-nm"),
    ):
        with pytest.raises(InstrumentError, match=reason):
            acquisition(AxisSettings(**settings))  # type: ignore[arg-type]
    with pytest.raises(InstrumentError, match="the axis has 64 pixels, a camera has 65: region, binning"):
        acquisition(AxisSettings(axis=str(column), pump_nm=1064.0), 65)


def test_pixel_numbers_are_good_for_calibrating_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "pixels.txt"
    np.savetxt(file, np.arange(PIXELS))
    for axis in (str(file), f"0:{PIXELS - 1}", "pixels"):
        caplog.clear()
        assert acquisition(AxisSettings(axis=axis)).raman_shift.tolist() == [*range(PIXELS)]
        assert "the axis is pixel numbers: good for `cars-rt calibrate`" in caplog.text
    for axis in (str(file), "pixels"):
        with pytest.raises(InstrumentError, match=r"--axis: the axis is 0, 1, 2, .*: pixel numbers"):
            AxisSettings(axis=axis).look()  # of a room, where a daemon runs
    for axis, warned in (("0:1339", True), ("0.5:1339", False), ("500:3100", False)):
        caplog.clear()
        high = float(axis.partition(":")[2])
        assert acquisition(AxisSettings(axis=axis)).raman_shift[-1] == high  # of a spectrum, cm-1
        said = f"--axis 0:1339 is taken as cm-1, for {PIXELS} pixels: --axis pixels numbers them"
        assert (said in caplog.text) is warned


def test_pump_beside_a_calibration_is_told_and_is_none_beside_raman_shifts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = calibrated(tmp_path / "lab.json")
    with pytest.raises(InstrumentError, match="holds raman shifts already: leave --pump-nm out"):
        acquisition(AxisSettings(calibration=path, pump_nm=1064.0), 2 * PIXELS)
    known = calibration.read(path)
    assert known.scale is not None
    nm = replace(known.scale, quantity="wavelength", coefficients=(820.0, 1.4), probe_nm=1064.0)
    calibration.write(path, replace(known, scale=nm))
    for pump_nm, said in ((None, False), (1064.0, False), (1030.0, True)):
        caplog.clear()
        about = acquisition(AxisSettings(calibration=path, pump_nm=pump_nm), 2 * PIXELS, exposure_s=0.5)
        assert about.calibration is not None and about.calibration["probe_nm"] == (pump_nm or 1064.0)
        assert np.allclose(
            about.raman_shift, from_wavelength(820 + 1.4 * np.arange(2 * PIXELS), pump_nm or 1064.0)
        )
        assert ("its probe is at 1064 nm, and shifts count from 1030 nm" in caplog.text) is said


def test_calibration_without_an_axis_gives_the_dark_beside_an_axis_from_elsewhere(tmp_path: Path) -> None:
    path = calibrated(tmp_path / "dark.json")
    calibration.write(path, replace(calibration.read(path), scale=None))
    for settings, more in (
        ({"axis": "500:3100"}, {}),
        ({"pump_nm": 1064.0}, {"wavelength_nm": np.linspace(820, 1000, 2 * PIXELS)}),
    ):
        given = AxisSettings(calibration=path, **settings)  # type: ignore[arg-type]
        given.look()
        about = acquisition(given, 2 * PIXELS, exposure_s=0.5, **more)
        assert about.dark is not None and about.dark[0] == 7 and about.full_scale == 60_000
        assert about.raman_shift.min() >= 500 and about.raman_shift.max() < 3100.1
        assert about.calibration is None  # which says where an axis comes from
    with pytest.raises(InstrumentError, match=r"knows wavelengths: say with --pump-nm"):
        acquisition(AxisSettings(calibration=path), 2 * PIXELS, wavelength_nm=more["wavelength_nm"])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "written",
    [
        "decimal commas", "utf-8-sig", "utf-16", "a name", "a row", "several rows", "several rows, commas",
        *BETWEEN, *(f"{between} below a name" for between in BETWEEN),
    ],
)  # fmt: skip
def test_axis_of_one_column_is_read_as_spreadsheets_write_it(
    written: str, turned: bool, tmp_path: Path
) -> None:
    shift = np.linspace(553.06, 3100, PIXELS).round(2)[:: -1 if turned else 1]
    text = (" " if written == "a row" else "\n").join(f"{each:.2f}" for each in shift)
    text = (
        "\n".join((", " if "," in written else " ").join(text.split()[at:][:5]) for at in range(0, PIXELS, 5))
        if "rows" in written
        else text
    )
    text = text.replace(".", ",") if written == "decimal commas" else text
    text = "Raman shift (cm-1)\n" + text if written == "a name" else text
    if (between := BETWEEN.get(written.removesuffix(" below a name"))) is not None:
        text = text.replace(".", ",").replace("\n", between)
    text = "Raman shift (cm-1)\n" + text if "below a name" in written else text
    file = tmp_path / "axis.txt"
    file.write_bytes(text.encode(written if written.startswith("utf") else "ascii"))
    assert np.array_equal(acquisition(AxisSettings(axis=str(file))).raman_shift, shift)


@pytest.mark.parametrize(
    ("text", "pump_nm", "said"),
    [
        ("wavelength (nm)\n820\n830\n840", None, "has its axis in nm .*: give .* --pump-nm 785"),
        ("raman shift (cm-1)\n820\n830\n840", 785, "in cm-1 already .*leave --pump-nm out"),
        ("0,500\n1,505\n2,510", None, "has two columns, such as pixels and an axis"),
        ("pixel,raman_shift\n0,500\n1,505\n2,510", None, "has two columns, such as pixels and an axis"),
        ("0 500\n1 505\n2 510", None, "one number for each pixel, on a line each, .*'0 500' is none"),
        ("wavelength (nm),counts\n820,7\n830,9\n840,8", None, "the axis is in nm .*such as --pump-nm 785"),
    ],
)
def test_axis_whose_numbers_may_be_others_is_refused(
    text: str, pump_nm: float | None, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "axis.txt"
    file.write_text(text, encoding="ascii")
    with pytest.raises(InstrumentError, match=said):
        AxisSettings(axis=str(file), pump_nm=pump_nm).look()


def test_axis_that_falls_in_the_file_falls_with_the_pixels(tmp_path: Path) -> None:
    shift = np.linspace(3100, 500, PIXELS)
    foreign.nexus(tmp_path / "toluene.nxs", np.ones((2, 3, PIXELS)), shift, "1/cm")
    assert (
        acquisition(AxisSettings(axis=str(tmp_path / "toluene.nxs"))).raman_shift.tolist() == shift.tolist()
    )


def test_of_a_spectrometers_pixels_those_beside_the_laser_have_axis_and_dark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The laser, at 850 nm, lies amidst the wavelengths that a lamp calibrated, or the spectrometer knows."""
    path, nm = tmp_path / "lab.json", 800.5 + 1.5 * np.arange(PIXELS)
    shift = 1e7 / nm - 1e7 / 850
    last = int((shift >= 100).sum())
    whole, part = Region(PIXELS), Region(10, 1, 5)
    lamp = Scale(kind="lamp", of="neon", quantity="wavelength", coefficients=(800.5, 1.5), region=whole,
                 residual_cm1=0.1, time_ns=10**18)  # fmt: skip
    in_cm1 = replace(lamp, quantity="raman_shift", coefficients=(2000.0, -30.0))

    def made(
        region: Region, scale: Scale | None, pump_nm: float | None = 850.0
    ) -> tuple[int, int, Acquisition]:
        dark = Mean(np.arange(region.first, region.end, dtype=np.float32), 9, 10**18, 0.003)
        calibration.write(path, Calibration(region=region, scale=scale, darks=(dark,)))
        axis = Axis(AxisSettings(calibration=path, pump_nm=pump_nm))
        first, end = axis.columns(nm)
        about = axis.acquisition(
            end - first, source="", instrument={"region": [first, 0, end - first, 1]}, exposure_s=0.003,
            wavelength_nm=nm[first:end], dtype="float32", cut_at=first,
        )  # fmt: skip
        return first, end, about

    for scale in (lamp, None):
        first, end, about = made(whole, scale)
        assert (first, end) == (0, last) and np.allclose(about.raman_shift, shift[:last])
        assert about.dark is not None and np.array_equal(about.dark, np.arange(last))
        assert (about.calibration or {}).get("pixels") == (PIXELS if scale else None)
    first, end, about = made(part, replace(lamp, region=part))
    assert (first, end) == (5, 15) and about.dark is not None and about.dark.tolist() == [*range(5, 15)]
    assert "it has no dark" not in caplog.text
    *_, about = made(part, None)
    assert about.dark is None and f"3 ms of 1 rows, {last} pixels; there are 3 ms, {part})" in caplog.text
    assert made(whole, in_cm1, None)[:2] == (0, PIXELS)  # it says itself that all of them serve


def test_columns_between_spaces_are_no_list_over_several_lines(tmp_path: Path) -> None:
    file = tmp_path / "toluene.txt"
    file.write_text(
        "\n".join(f"{500 + 40 * each} {900 + 3 * each}" for each in range(PIXELS)), encoding="ascii"
    )
    assert acquisition(AxisSettings(axis=str(file))).raman_shift.tolist() == [*range(500, 3060, 40)]


def test_spectra_that_cannot_be_read_are_refused_as_such(tmp_path: Path) -> None:
    np.savez(tmp_path / "toluene.npz", spectra=np.ones((2, PIXELS)))
    with pytest.raises(InstrumentError, match="has no axis"):
        AxisSettings(axis=str(tmp_path / "toluene.npz")).look()


def test_table_of_whole_numbers_below_their_names_is_no_list_with_decimal_commas(tmp_path: Path) -> None:
    file = tmp_path / "toluene.csv"
    rows = "\n".join(f"{500 + each},{900 + 3 * each}" for each in range(PIXELS))
    file.write_text("raman shift (cm-1),counts\n" + rows, encoding="ascii")
    assert acquisition(AxisSettings(axis=str(file))).raman_shift.tolist() == [*range(500, 500 + PIXELS)]


@pytest.mark.parametrize(
    ("settings", "about"),
    [
        ({}, {"spectra": None, "order": Order()}),
        ({"spectra": 7, "frames_per_point": 2}, {"spectra": 14, "order": Order(frames=2)}),
        (
            {"spectra": 30, "scan": "3x10", "flyback": 2},
            {"scan": (3, 10), "spectra": 36, "order": Order(flyback=2, rows=3)},
        ),
        (
            {"spectra": 15, "scan": "3x10", "flyback": 2, "frames_per_point": 3},
            {"scan": (3, 10), "spectra": (12 + 5) * 3, "order": Order(flyback=2, rows=3, frames=3)},
        ),
        ({"scan": "3x4"}, {"scan": (3, 4), "spectra": 12, "order": Order(rows=3)}),
        (
            {"scan": "2x3x4", "order": "snake", "flyback": 1, "frames_per_point": 2, "step_um": "0.5x0.25"},
            {
                "scan": (6, 4), "spectra": 6 * 5 * 2, "step_um": (0.5, 0.25),
                "order": Order(snake=True, frames=2, flyback=1, rows=3),
            },
        ),
    ],
)  # fmt: skip
def test_scan_as_it_is_said(settings: dict[str, Any], about: dict[str, Any]) -> None:
    assert ScanSettings(**settings).about() == {"triggered": False} | about


@pytest.mark.parametrize(
    "settings",
    [
        {"scan": "3"}, {"scan": "0x4"}, {"scan": "3x4x5x6"}, {"order": "snake"}, {"step_um": "1x1"},
        {"scan": "3x4", "step_um": "1"}, {"scan": "3x4", "flyback": -1}, {"spectra": 0},
        {"frames_per_point": 0}, {"scan": "3x3", "frames_per_point": 65_537}, {"spectra": 2**31},
        {"scan": "2x2", "flyback": 2 * 10**9}, {"scan": "999999x999999"},
    ],
)  # fmt: skip
def test_scan_that_cannot_be_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InstrumentError, match="--"):
        ScanSettings(**settings).about()


def test_of_a_cameras_settings_only_what_start_takes_is_told() -> None:
    known: dict[str, Any] = {
        "gain": 2.0,
        "é" * 80: "x" * 5000,
        "nan": float("nan"),
        "none": None,
        "list": [1.0, 2.0],
    }
    facts = told(known | {f"a{number}": 1 for number in range(99)})
    assert len(facts) == 32 and facts["gain"] == 2.0 and facts["list"] == [1.0, 2.0]
    assert facts["?" * 64] == "x" * 1024 and "nan" not in facts and "none" not in facts


@pytest.mark.parametrize(
    ("driver", "module", "given"),
    [
        ("micromanager", "pymmcore", ()),
        ("genicam", "harvesters.core", ()),
        ("epics", "p4p.client.thread", ("cam:Image",)),
        ("seabreeze", "seabreeze", ()),
    ],
)
def test_package_that_is_missing_is_named_with_how_to_get_it(
    driver: str, module: str, given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    made = driver_class(driver)
    _, *parameters = inspect.signature(made.__init__, eval_str=True).parameters.values()
    settings = [each.annotation() for each in parameters[len(given) :]]
    with pytest.raises(InstrumentError, match=rf"missing .*pip install .*{driver}"):
        made(*given, *settings)


def test_nearest_is_named() -> None:
    assert meant("gian", ["Gain", "Offset"]) == "did you mean Gain?"
    assert meant("x", []) == "there are none" and meant("zz", list("abcdefghijklmnop")).endswith("l, ...")
    assert offered("3", ["1", "2", "4"]).startswith("the nearest offered is 2")
    assert offered("nonsense", [], 0, 1) == "there are none"
    assert offered("12345678.5", [], 0, 12345678) == "the nearest offered is 12345678 (from 0 to 12345678)"
    assert offered("7", [], 0, 10, 4) == "the nearest offered is 8 (from 0 to 10 in steps of 4)"
    assert offered("10", [], 0, 10, 4).startswith("the nearest offered is 8")
    assert not offered("8", [], 0, 10, 4) and not offered("2", ["1", "2"])  # it is refused for another reason
