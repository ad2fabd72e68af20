"""`cars-rt calibrate` from a file and from a running driver to what uses the calibration."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import foreign
import h5py
import numpy as np
import pytest
from helpers import AXIS, Command, Published, a_frame, a_start, an_end

from calibration.simulated import cars_spectrum, lamp_spectrum
from cars_rt.calibration import CalibrationError, Mean, Region, Scale, read, write
from cars_rt.calibration.calibration import Calibration
from cars_rt.calibration.errors import UnmatchedError
from cars_rt.calibration.lamps import lamp
from cars_rt.calibrator import probe, program
from cars_rt.calibrator.measured import Measured, measured
from cars_rt.calibrator.summary import described
from cars_rt.cli import calibrate
from cars_rt.cli.calibrate import CalibrateSettings
from cars_rt.files.calibrated import open_calibrated
from cars_rt.files.offline import process
from cars_rt.files.spectra import SpectraError
from cars_rt.physics.substances import TOLUENE
from cars_rt.reference import read_reference

PROBE = 771.25  # nm, in vacuum
NOW = 1_790_000_000_000_000_000


def on_wavelengths(first: float, last: float, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """A toluene spectrum on the pixels of a lamp's: raman shift and counts."""
    wavelength, _ = lamp_spectrum("neon", first, last, pixels)
    shift = 1e7 / wavelength - 1e7 / PROBE
    truth, counts = cars_spectrum(TOLUENE, shift.min() - 20, shift.max() + 20, 4 * pixels)
    return shift, np.interp(shift, truth, counts)


def text(path: Path, axis: np.ndarray, *columns: np.ndarray, names: str) -> Path:
    np.savetxt(path, np.stack([axis, *columns], 1), delimiter=",", header=names, comments="", fmt="%.10g")
    return path


def test_a_lamp_then_a_standard_give_wavelengths_and_the_probe(tmp_path: Path) -> None:
    pixels, output = 700, tmp_path / "lab.json"
    _, counts = lamp_spectrum("neon", 745, 622, pixels)
    neon = measured(str(text(tmp_path / "neon.csv", np.arange(pixels), counts, names="pixel,counts")))
    assert neon.axis is None
    region = program.region_for(neon, 1, None)
    made, fit = program.with_lamp(program.opened(output, neon, region), neon, lamp("Ne"), near=(780, 650))
    assert fit.residual < 0.3
    known = program.saved(output, made)
    with pytest.raises(CalibrationError, match="holds wavelengths and no probe"):
        known.axis(pixels)
    truth, spectrum = on_wavelengths(745, 622, pixels)
    toluene = measured(str(text(tmp_path / "toluene.txt", np.arange(pixels), spectrum, names="pixel,counts")))
    made, found, before = program.with_standard(program.opened(output, toluene, region), toluene)
    known = program.saved(output, made)
    assert before is None and found.match.standard.name == "toluene" and known.scale is not None
    assert known.scale.probe_nm == pytest.approx(PROBE, abs=0.06)  # 1 cm-1
    assert np.abs(known.axis(pixels) - truth).max() < 1.0
    assert known.scale.of == "neon and toluene"
    assert any("probe: 771." in line for line in described(known, NOW))
    # The same region with half of the columns, which the camera did not bin.
    with pytest.raises(CalibrationError, match="choose another file for this camera"):
        program.opened(output, neon, Region(1400))


def test_wavelengths_of_a_lamp_go_before_those_of_the_file() -> None:
    shift, counts = cars_spectrum(TOLUENE)
    nm, column = 1e7 / (shift + 1e7 / PROBE), np.arange(len(shift))
    region = Region(len(shift))
    of_lamp = Scale(kind="lamp", of="neon", quantity="wavelength", coefficients=tuple(
        np.polynomial.Polynomial.fit(column, nm, 5).convert().coef
    ), region=region, residual_cm1=0.1, time_ns=NOW)  # fmt: skip
    off = nm + 3 + 0.01 * (nm - nm.mean())
    given = Measured(counts=counts, spectra=1, where="x", axis=off, unit="nm", time_ns=NOW)
    made, _, _ = program.with_standard(Calibration(region=region, scale=of_lamp), given)
    assert made.scale is not None and (made.scale.kind, made.scale.of) == ("lamp", "neon and toluene")
    assert made.scale.probe_nm == pytest.approx(PROBE, abs=0.06)
    # The grating was moved since: no probe brings all lines to their places.
    for moved in (of_lamp, replace(of_lamp, kind="given", of="the spectrum's own axis")):
        moved = replace(moved, coefficients=(of_lamp.coefficients[0] + 0.5, *of_lamp.coefficients[1:]))
        own = moved.at(region.columns) if moved.kind == "given" else off
        whose = (
            "no longer those of the lamp .neon.: measure" if own is off else "not those of the spectrum's own"
        )
        with pytest.raises(
            UnmatchedError, match=rf"of toluene, and off by [23]\.\d cm-1 more .* are {whose}"
        ):
            program.with_standard(Calibration(region=region, scale=moved), replace(given, axis=own))
    # Those that another file said are no better than its own.
    before = replace(of_lamp, kind="given", coefficients=(900.0, 0.1))
    made, _, _ = program.with_standard(Calibration(region=region, scale=before), replace(given, axis=nm))
    assert made.scale is not None and made.scale.probe_nm == pytest.approx(PROBE, abs=0.06)


def test_an_axis_that_stands_for_none_is_given_up_where_the_lamp_is_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as --axis 500:3100, without which a camera does not start: with a probe it says wavelengths."""
    nm, counts = lamp_spectrum("neon", 630, 700, 500)
    region = Region(500)
    given = Measured(counts=counts, spectra=1, where="x", axis=np.linspace(500, 3100, 500), unit="cm-1",
                     time_ns=NOW)  # fmt: skip
    near = program.believed(given, None, None, 785.0)
    assert near is not None and near[0] > near[1]
    fit_lamp = program.fit_lamp

    def fitted(*given: Any, near: Any = None, unsure: float = 0.01) -> Any:  # either takes seconds
        if near is not None:
            raise UnmatchedError("its lines are not those of neon", ())
        return fit_lamp(*given, near=(631, 701), unsure=unsure)

    monkeypatch.setattr(program, "fit_lamp", fitted)
    _, fit = program.with_lamp(Calibration(region=region), given, lamp("Ne"), near=near, said=False)
    assert np.abs(fit.wavelength(np.linspace(-1, 1, 500)) - nm).max() < 0.05
    with pytest.raises(CalibrationError, match="not those of neon"):
        program.with_lamp(Calibration(region=region), given, lamp("Ne"), near=near)


def test_darks_saturation_and_reference_serve_process(tmp_path: Path) -> None:
    truth, counts = cars_spectrum(TOLUENE)
    pixels, output = len(truth), tmp_path / "lab.json"
    dark = 100 + 20 * np.sin(np.arange(pixels) / 9)
    reference = 20_000 * np.exp(-(truth - 400) / 2_500)

    def stored(name: str, spectra: np.ndarray, exposure_s: float, axis: np.ndarray = truth) -> str:
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            file["spectra"], file["raman_shift"] = np.round(np.atleast_2d(spectra)).astype(np.uint16), axis
            file.attrs["exposure_s"], file.attrs["full_scale"] = exposure_s, 60_000.0
        return str(path)

    off = truth + 5
    source = stored("counts.h5", np.stack([counts + dark] * 3), 0.002, off)
    given = measured(source)
    made, _, before = program.with_standard(Calibration(region=Region(pixels)), given)
    assert before is not None and np.abs(made.axis() - truth).max() < 4
    for factor, exposure_s in ((1, 0.001), (3, 0.003)):
        made = program.with_dark(made, measured(stored("dark.h5", factor * dark, exposure_s)))
    made = program.with_reference(made, measured(stored("glass.h5", reference + 2 * dark, 0.002)))
    known = program.saved(output, made)
    assert known.full_scale == 60_000 and [each.exposure_s for each in known.darks] == [0.001, 0.003]
    between = known.dark(0.002)
    assert between is not None and np.abs(between - 2 * dark).max() < 1
    ours = read_reference(output)
    assert np.abs(ours.counts / reference - 1).max() < 0.02
    program.saved(tmp_path / "no-axis.json", replace(made, scale=None))
    with pytest.raises(SpectraError, match=r"no-axis\.json: the calibration has no axis"):
        read_reference(tmp_path / "no-axis.json")
    with open_calibrated(Path(source), None, None, output) as spectra:
        assert np.array_equal(spectra.raman_shift, known.axis()) and spectra.full_scale == 60_000
        assert spectra.dark is not None and np.array_equal(spectra.dark, between)
        assert spectra.calibration == known.facts
    process(
        Path(source), tmp_path / "out.npz", model="kk", reference=output, engine="onnxruntime",
        calibration=output,
    )  # fmt: skip
    with np.load(tmp_path / "out.npz") as out:
        assert np.array_equal(out["raman_shift"], known.axis())
        assert json.loads(str(out["calibration"]))["id"] == known.id
    lit = stored("lit.h5", counts + dark + np.random.default_rng(2).normal(0, 30, (4, pixels)), 0.009)
    code, _, said = Command.ran("calibrate", "dark", lit, "-o", tmp_path / "lit.json")
    assert code == 0 and f"{lit}: this dark has light in it: it rises by " in said
    with pytest.raises(CalibrationError, match="pixels, as no dark is"):
        program.with_dark(made, measured(stored("bright.h5", dark + 60_000, 0.001)))
    line = 1.0 * dark
    line[99:102] = 30_000, 65_535, 30_000
    with pytest.raises(CalibrationError, match="saturated at 1 pixel, as no dark is"):
        program.with_dark(made, measured(stored("line.h5", line, 0.001)))
    for hot, refused in (([2, 5, 6], False), ([4, 5, 6], True), (range(0, pixels, 30), True)):
        lit = 1.0 * dark
        lit[hot] = 65_535
        given = measured(stored("hot.h5", lit, 0.001))
        for add, why in ((program.with_dark, "as no dark is"), (program.with_reference, "must not be")):
            if refused:
                with pytest.raises(CalibrationError, match=rf"saturated at {len(hot)} pixels, .*{why}"):
                    add(Calibration(region=Region(pixels)), given)
            else:
                add(Calibration(region=Region(pixels)), given)
    with pytest.raises(CalibrationError, match="it needs light at every pixel"):
        program.with_reference(made, measured(stored("low.h5", 0 * dark, 0.001)))


def test_neighbours_stand_for_a_hot_pixel_of_a_reference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is as bright in the dark, so that nothing is left of it; `--reference` refused a file for it."""
    glass, dark = np.linspace(2_000, 3_000, 64), np.full(64, 100.0)
    glass[[7, 30]] = dark[[7, 30]] = 65_535
    of_dark = Measured(counts=dark, spectra=1, where="dark", largest=65_535, exposure_s=1.0)
    made = program.with_dark(Calibration(region=Region(64)), of_dark)
    known = program.with_reference(made, replace(of_dark, counts=glass, where="glass")).reference
    assert known is not None
    assert np.allclose(known.counts, np.linspace(1_900, 2_900, 64), rtol=1e-3)
    path, rows = tmp_path / "glass.npz", np.stack([glass, glass]).astype(np.uint16)
    np.savez(path, spectra=rows, raman_shift=np.linspace(500, 3_100, 64), dark=dark)
    assert np.allclose(read_reference(path).counts, known.counts, rtol=1e-3)
    assert "glass.npz: saturated at 2 pixels (7, 30): hot? neighbours stand for them" in caplog.text


@pytest.mark.parametrize(
    ("part", "what"),
    [("dark", "all spectra have a notch and false lines there"), ("reference", "neighbours stand for them")],
)
def test_hot_pixels_are_named(
    part: str, what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "start_logging", lambda logs: None)
    counts = np.where(np.arange(64) == 7, 65_535, 100)
    table = text(tmp_path / "a.csv", np.arange(64), counts, names="pixel,counts")
    getattr(calibrate, part)(str(table), settings=CalibrateSettings(output=tmp_path / "lab.json"))
    assert f"a.csv: saturated at 1 pixel (7): hot? {what}" in caplog.text


def test_a_full_scale_that_nobody_stated_is_not_kept(tmp_path: Path) -> None:
    """It would stand above what a driver knows of its camera, or be that of a sum of frames."""
    rows = np.full((4, 64), 100, np.uint16)
    rows[:, :3] = 65_535
    table = text(tmp_path / "a.csv", np.arange(64), rows[0], names="pixel,counts")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spectra"], file["raman_shift"] = rows, np.linspace(500, 3000, 64)
    with Published() as driver, ThreadPoolExecutor() as pool:
        streamed = pool.submit(measured, driver.address, 4)
        driver.wait()
        driver.say(a_start(axis=np.linspace(500, 3000, 64), block=4), a_frame(0, rows), an_end(1, 4))
        all_given = [streamed.result(60), measured(str(table)), measured(str(tmp_path / "a.h5"))]
    for given in all_given:
        assert given.saturated.sum() == 3
        with pytest.raises(CalibrationError, match="saturated at 3 pixels"):
            program.with_dark(Calibration(region=Region(64)), given)
        dark, made = replace(given, counts=np.ones(64)), Calibration(region=Region(64))
        for stated, kept in ((None, None), (4_095.0, 4_095), (None, 4_095), (65_535.0, 65_535)):
            made = program.with_dark(made, replace(dark, full_scale=stated))
            assert made.full_scale == kept


def test_a_driver_that_runs_already_is_measured_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """What came before is no loss to a mean; what is missing in its middle is said."""
    rows = np.full((4, len(AXIS)), 100, np.uint16)
    with Published() as driver, ThreadPoolExecutor() as pool:
        streamed = pool.submit(measured, driver.address, 8)
        driver.wait()
        driver.say(a_start(block=4, sequence=5, index=20), a_frame(5, rows), a_frame(7, rows), an_end(8, 32))
        assert streamed.result(60).spectra == 8
    assert [each.message for each in caplog.records if each.levelname == "WARNING"] == [
        f"{driver.address}: missing: the sequence jumps from 6 to 7: 4 spectra missing"
    ]


def test_a_part_that_is_added_changes_neither_camera_nor_settings_of_the_axis(tmp_path: Path) -> None:
    path = tmp_path / "lab.json"
    truth, counts = cars_spectrum(TOLUENE)
    region = Region(len(truth))
    of_file = measured(str(text(tmp_path / "toluene.csv", truth, counts, names="raman shift,counts")))
    dim = replace(of_file, counts=np.full(len(truth), 100.0), axis=None, unit="")
    coarse, fine = {"serial": "A", "grating": 600}, {"serial": "A", "grating": 1200}

    def at(settings: dict[str, Any]) -> tuple[str, ...]:
        return read(path).applied(len(truth), source="camera", settings=settings).doubts

    def saved(made: Calibration) -> None:
        program.saved(path, made)

    def opened(settings: dict[str, Any]) -> Calibration:
        return program.opened(path, replace(of_file, settings=settings), region)

    saved(program.with_standard(opened(coarse), replace(of_file, settings=coarse))[0])
    with pytest.raises(CalibrationError, match=r"lab\.json: .* the serial A, this one has B: choose another"):
        opened({"serial": "B", "grating": 600})
    for part in (program.with_reference, lambda made, given: program.with_dark(made, given)):
        saved(part(opened(fine), replace(dim, settings=fine)))
        assert "at grating 600, and now it is 1200" in at(fine)[0]
        assert at(coarse) == ("its reference was made at grating 1200, and now it is 600",)
    # A new axis has settings of its own, a probe that is found on the wavelengths of before has not.
    saved(program.with_standard(opened(fine), replace(of_file, settings=fine))[0])
    assert at(fine) == () and "at grating 1200, and now it is 600" in at(coarse)[0]
    nm = Scale(kind="lamp", of="neon", quantity="wavelength", coefficients=tuple(
        np.polynomial.Polynomial.fit(np.arange(len(truth)), 1e7 / (truth + 1e7 / PROBE), 5).convert().coef
    ), region=region, residual_cm1=0.1, time_ns=NOW)  # fmt: skip
    saved(replace(opened(fine), scale=nm))
    saved(program.with_standard(opened(coarse), replace(of_file, settings=coarse, axis=None, unit=""))[0])
    assert at(fine) == () and "at grating 1200, and now it is 600" in at(coarse)[0]
    # Where the axis came from a file that names no camera, what is added does.
    saved(replace(opened({}), settings={}))
    saved(program.with_dark(opened(fine), replace(dim, settings=fine)))
    assert read(path).settings == {"serial": "A"}


def test_a_probe_that_is_not_the_one_that_was_known_is_doubted() -> None:
    shift, counts = cars_spectrum(TOLUENE)
    region = Region(len(shift))

    def said(known_nm: float | None, moved_nm: float) -> list[str]:
        nm = 1e7 / (shift + 1e7 / PROBE) + moved_nm
        before = Scale(kind="lamp", of="neon", quantity="wavelength", coefficients=tuple(
            np.polynomial.Polynomial.fit(np.arange(len(nm)), nm, 5).convert().coef
        ), region=region, residual_cm1=0.1, time_ns=NOW, probe_nm=known_nm)  # fmt: skip
        made, found, _ = program.with_standard(
            Calibration(region=region, scale=before),
            Measured(counts=counts, spectra=1, where="x", time_ns=NOW),
        )
        assert made.scale is not None
        return list(probe.doubts(before, found, made.scale))

    assert said(PROBE + 0.1, 0) == said(None, 0.2) == []
    (doubt,) = said(PROBE - 0.5, 0)
    assert doubt.startswith("the probe was known to be at 770.7500 nm, and this says 771.2") and "8." in doubt


@pytest.mark.parametrize("turn", [1, -1])
def test_what_belongs_to_pixels_stays_with_those_of_the_camera(
    turn: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file whose axis falls is read turned round; a calibration is of pixels as the camera sends them."""
    truth, counts = (each[::turn] for each in cars_spectrum(TOLUENE))
    dark = 600 + np.linspace(0, 1500, len(truth))  # it glows towards the camera's last column
    output = tmp_path / "lab.json"
    for name, spectrum in (("toluene", counts), ("dark", dark)):
        foreign.nexus(tmp_path / f"{name}.nxs", np.stack([spectrum] * 3), truth, "1/cm")
        given = measured(str(tmp_path / f"{name}.nxs"))
        assert (
            given.axis is not None and np.allclose(given.axis, truth) and np.allclose(given.counts, spectrum)
        )
        region = program.region_for(given, 1, None)
        made = program.opened(output, given, region)
        made = program.with_standard(made, given)[0] if name == "toluene" else program.with_dark(made, given)
        known = program.saved(output, made)
    assert np.abs(known.axis(len(truth)) - truth).max() < 4
    camera = tmp_path / "camera.npz"
    np.savez(camera, spectra=(counts + dark)[None], raman_shift=np.arange(len(truth)) + 100.0)
    with open_calibrated(camera, calibrated=output) as spectra:
        assert spectra.dark is not None and np.allclose(spectra.dark, dark, atol=1)
    (said,) = (each for each in caplog.messages if "its dark of an unknown exposure is subtracted" in each)
    assert said.endswith("; if theirs was subtracted before, use a calibration made without `calibrate dark`")
    program.saved(output, replace(known, scale=None))  # darks alone: the file's own axis stays
    with open_calibrated(tmp_path / "toluene.nxs", calibrated=output) as spectra:
        assert np.allclose(spectra.raman_shift, truth[::turn])
        assert spectra.dark is not None and np.allclose(spectra.dark[::turn], dark, atol=1)
        assert spectra.calibration is None  # which says where an axis comes from


def test_axes_for_files_without_one(tmp_path: Path) -> None:
    truth, counts = cars_spectrum(TOLUENE, pixels=64)
    numbered = text(tmp_path / "a.csv", np.arange(64), counts, names="pixel,counts")
    axis = tmp_path / "axis.txt"
    axis.write_text("\n".join(f"{value:.9g}" for value in truth), encoding="ascii")
    with open_calibrated(numbered, None, axis) as spectra:
        assert np.allclose(spectra.raman_shift, truth) and "--axis" in spectra.axis_said
    axis.write_text("\n".join(f"{1e7 / (value + 1e7 / PROBE):.12g}" for value in truth), encoding="ascii")
    with open_calibrated(numbered, PROBE, axis) as spectra:
        assert np.allclose(spectra.raman_shift, truth, atol=1e-5)
    lab, empty = tmp_path / "lab.json", tmp_path / "empty.json"
    scale = Scale(kind="lamp", of="neon", quantity="raman_shift", coefficients=(500.0, 3.0),
                  region=Region(64), residual_cm1=0.1, time_ns=NOW)  # fmt: skip
    write(lab, Calibration(region=Region(64), scale=scale))
    write(empty, Calibration(region=Region(64), full_scale=4_095.0))
    with open_calibrated(numbered, PROBE, axis, empty) as spectra:  # of what it does not know, as without it
        assert np.allclose(spectra.raman_shift, truth, atol=1e-5) and spectra.full_scale == 4_095
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"axis": axis, "calibrated": lab}, "give --calibration or --axis, not both"),
        ({"axis": tmp_path / "none.txt"}, r"there is no file .*none\.txt"),
        ({"calibrated": axis}, "no calibration: it is no JSON"),
        ({"calibrated": empty}, "pixel"),
    ]
    for settings, sentence in wrong:
        with pytest.raises(SpectraError, match=sentence), open_calibrated(numbered, **settings):
            pass
    axis.write_text("500 502 504", encoding="ascii")
    with pytest.raises(SpectraError, match="with an axis of 3"), open_calibrated(numbered, None, axis):
        pass


def test_the_command_reads_a_running_driver_and_refuses_with_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    _, counts = lamp_spectrum("neon", 610, 700, 500)
    rows = np.maximum(np.round(np.stack([counts] * 8)), 0).astype(np.uint16)
    settings = {"serial": "S1", "grating": 600, "region": [30, 0, 500, 4]}

    def command(*arguments: Any) -> tuple[int, str]:
        with Published() as driver:
            program_ = subprocess.Popen(
                [sys.executable, "-m", "cars_rt", "calibrate", arguments[0], driver.address,
                 *map(str, arguments[1:])],
                stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            )  # fmt: skip
            driver.wait()
            start = a_start(axis=np.arange(500.0), instrument=settings, block=4)
            driver.say(start, a_frame(0, rows[:4]), a_frame(1, rows[4:]), an_end(2, 8))
            _, said = program_.communicate(timeout=60)
            return program_.returncode, said

    code, said = command(
        "lamp",
        "--lamp",
        "neon",
        "--pump-nm",
        "771.25",
        "--from-nm",
        600,
        "--to-nm",
        700,
        "-o",
        "lab.json",
        "--spectra",
        6,
    )
    assert code == 0, said
    known = read(tmp_path / "lab.json")
    assert known.region == Region(500, 1, 30) and known.settings["grating"] == 600
    assert known.scale is not None and known.scale.residual_cm1 < 0.3
    assert (tmp_path / "lab-lamp.png").read_bytes().startswith(b"\x89PNG")
    code, said = command("lamp", "--lamp", "krypton", "--from-nm", 600, "--to-nm", 700, "-o", "lab.json")
    assert code == 1 and "not those of krypton" in said and "lab-lamp.png shows what was found" in said
    assert "Traceback" not in said and read(tmp_path / "lab.json").id == known.id


def test_what_cannot_be_written_is_not_measured_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "start_logging", lambda logs: None)
    none = tmp_path / "none.json"
    none.write_text("{}", encoding="utf-8")
    write(tmp_path / "lab.json", Calibration(region=Region(64)))

    def dark(address: str, output: Path) -> None:
        calibrate.dark(address, settings=calibrate.CalibrateSettings(output=output))

    for output, said in (
        (none, r"none\.json: no calibration"),
        (tmp_path / "gone" / "lab.json", "gone does not exist; make it"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(CalibrationError, match=said):
            dark("tcp://127.0.0.1:9", output)  # where nobody answers
    darks = tuple(Mean(np.full(64, 9, np.float32), 1, NOW, 1e-3 * each) for each in range(1, 65))
    write(tmp_path / "many.json", Calibration(region=Region(64), darks=darks))
    many = r"many\.json has 64 darks, .* none of 0\.5 ms to be replaced: take those out .* another file"
    for name, pixels, said in (
        ("lab.json", 65, r"lab\.json is of 64 pixels.* has 65 pixels"),
        ("many.json", 64, many),
    ):
        with Published() as driver, ThreadPoolExecutor() as pool:
            asked = pool.submit(dark, driver.address, tmp_path / name)
            driver.wait()
            start = a_start(axis=np.linspace(500, 3000, pixels), exposure_s=5e-4)
            driver.say(start, an_end(0, 0))  # and no spectrum
            with pytest.raises(CalibrationError, match=said):
                asked.result(60)
    table = str(text(tmp_path / "a.csv", np.arange(64), np.full(64, 10), names="pixel,counts"))
    settings = calibrate.CalibrateSettings(output=tmp_path / "many.json", exposure_ms=0.5)
    with pytest.raises(CalibrationError, match=many):
        calibrate.dark(table, settings=settings)
    calibrate.dark(table, settings=replace(settings, exposure_ms=5))  # it takes the place of another
    assert len(read(tmp_path / "many.json").darks) == 64


def test_settings_that_cannot_be_are_one_sentence(tmp_path: Path) -> None:
    _, counts = lamp_spectrum("neon", 610, 700, 300)
    given = measured(str(text(tmp_path / "a.csv", np.arange(300), counts, names="pixel,counts")))
    assert program.believed(given, None, None, None) is None
    for ends, sentence in (
        ((600.0, None), "give --from-nm and --to-nm"),
        ((6e-7, 7e-7), "none of wavelengths in nm"),
        ((16_000.0, 14_000.0), "none of wavelengths in nm"),
    ):
        with pytest.raises(CalibrationError, match=sentence):
            program.believed(given, *ends, None)
    for wrong in (0.785, 785e-9, 12_739.0):
        with pytest.raises(CalibrationError, match="is a wavelength in nm, such as 785"):
            program.vacuum(wrong, False)
    assert program.vacuum(785.0, True) == pytest.approx(785.2159, abs=1e-3)
    with pytest.raises(CalibrationError, match=r"is below the probe's, 532 nm, as anti-Stokes light is"):
        program.with_lamp(Calibration(region=Region(300)), given, lamp("Ne"), near=(610, 700), probe_nm=532)
    bright = (8 * lamp_spectrum("neon", 600, 740)[1]).round() % 65_536
    wrapped = measured(str(text(tmp_path / "w.csv", np.arange(1340), bright, names="pixel,counts")))
    with pytest.raises(CalibrationError, match=r"jump by .* of 65535 at pixel .*: expose for a shorter time"):
        program.with_lamp(Calibration(region=Region(1340)), wrapped, lamp("Ne"))
    truth, spectrum = cars_spectrum(TOLUENE)
    nm = text(tmp_path / "nm.csv", 1e7 / (truth + 1e7 / PROBE), spectrum, names="axis,counts")
    with pytest.raises(CalibrationError, match=r"its lines are those of toluene at .* give --pixels"):
        program.with_standard(Calibration(region=Region(len(truth))), measured(str(nm)))
    dull = measured(str(text(tmp_path / "b.csv", np.arange(300), 0 * counts, names="pixel,counts")))
    with pytest.raises(CalibrationError, match="no light above the dark"):
        program.with_standard(Calibration(region=Region(300)), replace(dull, axis=None, unit=""))
    full = measured(str(text(tmp_path / "c.csv", np.arange(300), 0 * counts + 65_535, names="pixel,counts")))
    with pytest.raises(CalibrationError, match="100% of the pixels are saturated"):
        program.with_standard(Calibration(region=Region(300)), full)
    cut = np.minimum(spectrum, np.quantile(spectrum, 0.95))  # as a camera does below its full scale
    plateau = measured(str(text(tmp_path / "p.csv", truth, cut, names="raman shift,counts")))
    with pytest.raises(CalibrationError, match=r"in a plateau at \d+ counts, .*: expose for a shorter time"):
        program.with_standard(Calibration(region=Region(len(truth))), plateau)
