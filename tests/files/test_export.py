"""Files for other programs, opened by the library of each."""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import AXIS, Command, a_frame, a_start, an_end, spectra_of
from numpy.typing import NDArray

from cars_rt.accounting import Ledger
from cars_rt.cli.export import export as command
from cars_rt.files import dataset
from cars_rt.files.export import ExportError, Wanted, export, kinds
from cars_rt.files.export.crikit import wavelengths
from cars_rt.files.export.cube import open_cube
from cars_rt.files.formats import read_spectra
from cars_rt.files.recording import Recording
from cars_rt.files.spectra import SpectraError
from cars_rt.reference import read_reference
from cars_rt.show import ShowError, read
from files.test_dataset import ended
from files.test_dataset import recorded as with_results

pytest.importorskip("xarray")

ROWS, COLUMNS = 5, 7
PIXELS = len(AXIS)
#: Of a spectrometer: wavelengths nearly linear in the pixel, so raman shifts are not.
BENT = 1e7 / (1e7 / (1e7 / 785 + 500) - 0.16 * np.arange(PIXELS) - 4e-6 * np.arange(PIXELS) ** 2) - 1e7 / 785


def recorded(path: Path, axis: NDArray[Any] = BENT, scan: tuple[int, int] | None = (ROWS, COLUMNS)) -> Path:
    """Results of a scan that lost its last spectrum, with steps of 0.5 and 0.25 um."""
    count = ROWS * COLUMNS
    step = {} if scan is None else {"step_um": (0.5, 0.25)}
    recording = Recording(path)
    recording.start(a_start(axis=axis, spectra=count, scan=scan, source="a microscope", **step))
    recording.append(a_frame(0, spectra_of(count - 1), index=0))
    recording.end(an_end(1, count - 1, announced=count, lost={"upstream": 1}), Ledger())
    return recording.close()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("source") / "scan.h5")


def one(*places: int) -> tuple[range, ...]:
    return tuple(range(each, each + 1) for each in places)


def expected() -> NDArray[np.float32]:
    cube = np.full((ROWS * COLUMNS, PIXELS), np.nan, np.float32)
    cube[:-1] = spectra_of(ROWS * COLUMNS - 1)
    return cube.reshape(ROWS, COLUMNS, PIXELS)


def same(found: Any, missing: float = np.nan) -> None:
    wanted = np.where(np.isnan(expected()), np.float32(missing), expected())
    assert np.array_equal(np.asarray(found, np.float32), wanted, equal_nan=True)


@pytest.mark.parametrize("kind", ["csv", "hspy"])
def test_a_recording_without_spectra_is_refused(kind: str, tmp_path: Path) -> None:
    recording = Recording(tmp_path / "a.h5")
    recording.start(a_start())
    recording.end(an_end(0), Ledger())
    path = recording.close()
    with pytest.raises(ExportError, match=f"{path.name} holds no spectra"):
        export(path, tmp_path / "out", kind, Wanted())
    with pytest.raises(ShowError, match=f"{path.name} holds no spectra"):
        read(path)


def test_spectra_at_one_place_are_counted_as_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cars_rt.cli.export.start_logging", lambda logs: None)
    index = np.array([0, 1, 1, 1, 2])
    for name, scan, plane in (("b", [1, 2], 1), ("a", [2, 3], None)):
        caplog.clear()
        np.savez(tmp_path / f"{name}.npz", spectra=spectra_of(5), raman_shift=AXIS, index=index, scan=scan)
        command(tmp_path / f"{name}.npz", output=tmp_path / f"{name}.csv", plane=plane)
        assert f"csv: {'' if plane is None else 'in all planes '}2 spectra are left out" in caplog.text
    cube = export(tmp_path / "a.npz", tmp_path / "a.tif", "tiff", Wanted(bands=((AXIS[3], AXIS[9]),)))
    assert cube.repeated == 2 and cube.shape[:2] == (2, 3)


@pytest.mark.parametrize("scan", [None, (2, 17), (2, 3)])  # of a list, of long lines, and of planes
def test_blocks_are_no_larger_than_what_is_read_at_once(
    scan: tuple[int, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "PIECE_BYTES", 10 * PIXELS * 4)
    cube = open_cube(recorded(tmp_path / "a.h5", AXIS, scan))
    found = np.zeros(cube.shape, np.float32)
    for part, values in cube.blocks():
        assert values.nbytes <= dataset.PIECE_BYTES
        found[part] = values
    assert np.array_equal(found, cube.values.compute(), equal_nan=True)


@pytest.mark.parametrize("probe", [0.785, -785.0, np.nan, 1e6])
def test_a_probe_that_is_no_wavelength_in_nm_is_refused(probe: float, source: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no wavelengths with a probe of"):
        export(source, tmp_path / "a.h5", "crikit", Wanted(probe_nm=probe))


@pytest.mark.parametrize(
    ("kind", "wanted", "said"),
    [
        ("hspy", Wanted(bands=((900, 950),)), "--band is for --to tiff; hspy has no use for it"),
        ("tiff", Wanted(bands=((900, 950),), at=one(0, 0)), "--at is for --to csv"),
        ("csv", Wanted(probe_nm=785.0), "--probe-nm is for --to crikit"),
        ("crikit", Wanted(probe_nm=0.0), "no wavelengths with a probe of 0 nm"),
        (
            "csv",
            Wanted(pump_nm=785.0),
            "holds a raman_shift in cm-1; --pump-nm is for files with an axis in nm",
        ),
    ],
)
def test_what_would_be_left_out_of_a_request_is_refused(
    kind: str, wanted: Wanted, said: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises((ExportError, SpectraError), match=said):
        export(source, tmp_path / "out", kind, wanted)


@pytest.mark.parametrize("scan", [(1, ROWS * COLUMNS), (ROWS * COLUMNS, 1)])
def test_a_scan_of_one_row_or_column_keeps_its_steps(scan: tuple[int, int], tmp_path: Path) -> None:
    """Two places apart tell a step; of one place, the recording alone knows it."""
    tifffile = pytest.importorskip("tifffile")
    source = recorded(tmp_path / "line.h5", AXIS, scan)
    export(source, tmp_path / "a.h5", "crikit", Wanted(probe_nm=785.0))
    with h5py.File(tmp_path / "a.h5") as file:
        about = file["BCARSImage/counts"].attrs
        assert (about["Macro.Raster.Slow.StepSize"], about["Macro.Raster.Fast.StepSize"]) == (0.5, 0.25)
    export(source, tmp_path / "a.tif", "tiff", Wanted(bands=((AXIS[3], AXIS[9]),)))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.imagej_metadata["unit"] == "um"
        across, down = (tiff.pages[0].tags[name].value for name in ("XResolution", "YResolution"))
        assert (across[0] / across[1], down[0] / down[1]) == (4, 2)
    reader = pytest.importorskip("rsciio.hspy").file_reader
    export(source, tmp_path / "a.hspy", "hspy", Wanted())
    y, x, _ = reader(str(tmp_path / "a.hspy"))[0]["axes"]
    assert (y["scale"], y["units"], x["scale"], x["units"]) == (0.5, "um", 0.25, "um")


def test_hspy_keeps_an_axis_that_is_not_uniform(source: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip("rsciio.hspy").file_reader
    export(source, tmp_path / "a.hspy", "hspy", Wanted())
    (signal,) = reader(str(tmp_path / "a.hspy"))
    same(signal["data"])
    y, x, shift = signal["axes"]
    assert (y["scale"], y["units"], x["scale"], x["units"]) == (0.5, "um", 0.25, "um")
    assert np.array_equal(shift["axis"], BENT) and shift["units"] == "1/cm"
    even = recorded(tmp_path / "even.h5", AXIS, None)
    export(even, tmp_path / "b.hspy", "hspy", Wanted())
    (signal,) = reader(str(tmp_path / "b.hspy"))
    last = signal["axes"][-1]
    assert signal["data"].shape == (ROWS * COLUMNS, PIXELS)
    assert np.allclose(last["offset"] + last["scale"] * np.arange(PIXELS), AXIS)


def test_crikit_opens_its_export_with_the_same_axis(source: Path, tmp_path: Path, capsys: Any) -> None:
    hdf5 = pytest.importorskip("crikit.io.hdf5")
    from crikit.data.spectra import Hsi
    from crikit.io.meta_configs import special_nist_bcars2
    from crikit.io.meta_process import meta_process

    export(source, tmp_path / "a.h5", "crikit", Wanted(probe_nm=771.0))
    image = Hsi()
    assert hdf5.hdf_import_data(str(tmp_path), "a.h5", "BCARSImage/counts", image)
    meta_process(special_nist_bcars2(), image)
    same(image.data, missing=0)
    assert np.abs(image.freq.data - BENT).max() < 0.01
    assert np.allclose(image.x, 0.25 * np.arange(COLUMNS)) and np.allclose(image.y, 0.5 * np.arange(ROWS))
    again = read_spectra(tmp_path / "a.h5")
    assert np.abs(again.raman_shift - BENT).max() < 0.01
    assert again.scan == (ROWS, COLUMNS) and again.step_um == (0.5, 0.25)
    with h5py.File(tmp_path / "a.h5") as file:
        assert len(file["BCARSImage/counts"].attrs["Spectrometer.calib.a_vec"]) <= 6


def test_an_axis_that_is_no_polynomial_is_refused() -> None:
    jumps = np.where(np.arange(400) < 200, np.arange(400.0), np.arange(400.0) + 50) + 500
    with pytest.raises(ExportError, match=r"is no polynomial in the pixel, as CRIkit2 needs it"):
        wavelengths(jumps, 785)
    for axis in (AXIS, AXIS[::-1].copy(), np.linspace(300, 3700, 4096)):
        pixels = np.arange(len(axis))
        back = 1e7 / np.polyval(wavelengths(axis, 785), pixels) - 1e7 / 785
        assert np.abs(back - axis).max() < 2e-3


def test_zarr_holds_everything_in_the_chunks_of_its_tasks(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    import xarray
    import zarr

    from cars_rt.files.dataset import open_dataset

    export(source, tmp_path / "a.zarr", "zarr", Wanted())
    found, wanted = xarray.open_zarr(tmp_path / "a.zarr", consolidated=False), open_dataset(source)
    assert set(found) == set(wanted) and set(found.coords) == set(wanted.coords)
    for name in wanted.variables:
        assert np.array_equal(
            found[name].values, wanted[name].values, equal_nan=found[name].dtype.kind in "fM"
        ), name
    same(found["counts"].values)
    assert found["x"].attrs["units"] == "um" and found.attrs["source"] == "a microscope"
    array = zarr.open(tmp_path / "a.zarr", mode="r")["counts"]
    assert array.metadata.zarr_format == 3 and array.shards is None
    assert array.chunks == tuple(sizes[0] for sizes in wanted["counts"].data.chunks)
    with pytest.raises(ExportError, match="exists already"):
        export(source, tmp_path / "a.zarr", "zarr", Wanted())
    export(source, tmp_path / "a.zarr", "zarr", Wanted(), overwrite=True)


def test_a_store_goes_only_when_the_new_one_has_its_name(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where it cannot be deleted whole."""
    pytest.importorskip("zarr")
    import xarray

    path = tmp_path / "a.zarr"
    path.mkdir()
    for name in ("zarr.json", "open"):
        (path / name).write_text("{}")
    with pytest.raises(ExportError, match="is a folder"):
        export(source, path, "csv", Wanted(), overwrite=True)
    assert (path / "open").exists()

    def half_way(folder: Path) -> None:
        (folder / "zarr.json").unlink()
        raise PermissionError(13, "in use")

    with monkeypatch.context() as patch:
        patch.setattr(kinds.shutil, "rmtree", half_way)
        export(source, path, "zarr", Wanted(), overwrite=True)
    same(xarray.open_zarr(path, consolidated=False)["counts"].values)
    (rest,) = [each for each in tmp_path.iterdir() if each != path]
    assert [each.name for each in rest.iterdir()] == ["open"] and str(rest) in caplog.text

    if os.name == "posix":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ExportError, match="is a link"):
            export(source, path, "zarr", Wanted(), overwrite=True)
        assert (tmp_path / "elsewhere" / "zarr.json").exists()


def test_tiff_has_an_image_of_each_band_with_the_size_of_a_pixel(source: Path, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    bands = ((600.0, 700.0), (900.0, 1000.0))
    export(source, tmp_path / "a.tif", "tiff", Wanted(bands=bands))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        images, page = file.asarray(), file.pages[0]
        assert file.is_imagej and file.imagej_metadata["unit"] == "um"
        assert file.imagej_metadata["Labels"] == ["600-700 cm-1", "900-1000 cm-1"]
        x, y = (page.tags[name].value for name in ("XResolution", "YResolution"))
    assert (x[0] / x[1], y[0] / y[1]) == (4.0, 2.0) and images.shape == (2, ROWS, COLUMNS)
    for image, (low, high) in zip(images, bands, strict=True):
        wanted = expected()[..., (low <= BENT) & (high >= BENT)].mean(axis=-1)
        assert np.allclose(image, wanted, equal_nan=True, rtol=1e-6)


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ((), "mean of 34 spectra"),
        (one(1, 2), "at 1,2"),
        ((range(1, 3), range(2, 5)), "mean of 6 spectra at 1-2,2-4"),
        ((range(4, 5), range(5, 7)), "mean of 1 spectrum at 4,5-6"),  # the last one is lost
    ],
)
def test_csv_is_one_spectrum_or_a_mean(
    at: tuple[range, ...], said: str, source: Path, tmp_path: Path
) -> None:
    export(source, tmp_path / "a.csv", "csv", Wanted(at=at))
    lines = (tmp_path / "a.csv").read_text().splitlines()
    table = np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=2)
    part = expected()[tuple(slice(each.start, each.stop) for each in at)].reshape(-1, PIXELS)
    assert np.allclose(table, np.column_stack([BENT, np.nanmean(part, axis=0, dtype=np.float64)]), rtol=1e-7)
    assert lines[1] == "raman_shift,counts" and f"counts {said};" in lines[0]


def test_water_beside_the_cells_is_a_reference_above_its_dark(tmp_path: Path) -> None:
    counts, path = 100 + spectra_of(12), tmp_path / "water.csv"
    dark = np.full(counts.shape[1], 100, np.float32)
    np.savez(tmp_path / "scan.npz", spectra=counts, raman_shift=AXIS, dark=dark, scan=(3, 4))
    export(tmp_path / "scan.npz", path, "csv", Wanted(at=(range(2), range(1, 3))))
    wanted = (counts - 100.0)[[1, 2, 5, 6]].mean(axis=0)
    assert np.allclose(read_reference(path).counts, wanted, rtol=1e-6)


def test_spectra_of_a_list_go_by_their_numbers(tmp_path: Path) -> None:
    """A list that was joined late does not begin with 0; places were counted."""
    counts, source, path = spectra_of(20), tmp_path / "late.npz", tmp_path / "a.csv"
    np.savez(source, spectra=counts, raman_shift=AXIS, index=100_000 + np.r_[0:10, 15:25])
    export(source, path, "csv", Wanted(at=one(100_024)))
    assert np.array_equal(np.loadtxt(path, delimiter=",", skiprows=2)[:, 1], counts[-1])
    export(source, path, "csv", Wanted(at=(range(100_008, 100_017),)), overwrite=True)
    assert np.allclose(np.loadtxt(path, delimiter=",", skiprows=2)[:, 1], counts[8:12].mean(axis=0))
    for at in (one(5), one(100_012), one(1, 2), (range(100_020, 100_031),)):
        with pytest.raises(ExportError, match=r"no spectrum at .* of 20, 100000 to 100024|not measured"):
            export(source, path, "csv", Wanted(at=at), overwrite=True)


@pytest.mark.parametrize(("what", "names"), [("raman", "raman,deviation"), ("counts", "counts,dark")])
def test_a_deviation_stands_beside_results_and_the_dark_beside_counts(
    what: str, names: str, tmp_path: Path
) -> None:
    source = ended(with_results(tmp_path / "scan.h5"))
    export(source, tmp_path / "a.csv", "csv", Wanted(what=what, at=one(0, 1)))
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == f"raman_shift,{names}"


@pytest.mark.parametrize(
    ("kind", "wanted", "reason"),
    [
        ("tiff", {}, "give the bands that the images are of"),
        ("tiff", {"bands": ((4000.0, 4100.0),)}, "no point of the axis, .* is in 4000-4100"),
        ("csv", {"at": one(9, 0)}, "there is no spectrum at 9,0 of 5 x 7"),
        ("csv", {"at": one(4, 6)}, "there is no spectrum of counts at 4,6: it was not measured, or was lost"),
        ("csv", {"at": (range(3), range(7, 8))}, "there is no spectrum at 0-2,7 of 5 x 7, counted from 0"),
        ("hspy", {"what": "raman"}, "holds no raman, only counts"),
    ],
)
def test_what_cannot_be_exported_is_said_and_leaves_nothing(
    kind: str, wanted: dict[str, Any], reason: str, source: Path, tmp_path: Path
) -> None:
    before = source.read_bytes()
    with pytest.raises(ExportError, match=reason):
        export(source, tmp_path / "out", kind, Wanted(**wanted))
    (tmp_path / "out").write_text("older")
    with pytest.raises(ExportError, match="exists already; choose another name or give --overwrite"):
        export(source, tmp_path / "out", "csv", Wanted())
    with pytest.raises(ExportError, match="is the input"):
        export(source, source, "csv", Wanted(), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and source.read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="needs file descriptors of the system")
def test_a_recording_that_another_program_is_writing_is_refused(source: Path, tmp_path: Path) -> None:
    import fcntl

    with source.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SpectraError, match="is open in another program"):
            export(source, tmp_path / "a.csv", "csv", Wanted())
    assert not (tmp_path / "a.csv").exists()


def test_the_log_says_what_a_csv_is_the_mean_of(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cars_rt.cli.export.start_logging", lambda logs: None)
    caplog.set_level("INFO")
    command(source, output=tmp_path / "a.csv")
    assert "counts of 5 x 7 x 160, mean of 34 spectra, as csv" in caplog.text


def test_export_is_a_command_that_knows_kinds_by_their_names(source: Path, tmp_path: Path) -> None:
    with Command(
        "export", source, "-o", tmp_path / "a.tif", "--band", "600-700", "--band", "900-1000"
    ) as command:
        assert command.end() == 0, command.said
    assert "counts of 5 x 7 x 160 as tiff" in command.said and (tmp_path / "a.tif").exists()
    with Command("export", source, "-o", tmp_path / "a.xyz") as command:
        assert command.end() == 2
    assert "say --to hspy, crikit, zarr, tiff, csv" in command.said


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("a.pt", {"output": "a.pt"}, "of a checkpoint comes a model, FILE.onnx"),
        ("a.pt", {"output": "scan.h5", "overwrite": True}, "of a checkpoint comes a model, FILE.onnx"),
        ("a.pt", {"to": "csv", "band": ("600-700",)}, "--to, --band: a model has none"),
        (
            "a.pt",
            {"what": "raman", "at": "0", "probe_nm": 1.0, "pump_nm": 0.0},
            "--what, --at, --probe-nm, --p",
        ),
        ("scan.h5", {"output": "a.csv", "name": "liver"}, "--name is of a checkpoint's model"),
        ("scan.h5", {"output": "a.csv", "at": "x"}, "give ROW,COLUMN of a scan or the NUMBER of a spectrum"),
    ],
)
def test_flags_that_cannot_be_or_would_be_ignored_are_refused(
    name: str,
    flags: dict[str, Any],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("cars_rt.cli.export.start_logging", lambda logs: None)
    with pytest.raises(SystemExit) as ended:
        command(tmp_path / name, **flags | {"output": tmp_path / flags.get("output", "a.onnx")})
    assert ended.value.code == 2 and said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("at", ["2-1,3", "a", "1,", "-1,2", ""])
def test_places_that_are_none_are_refused(
    at: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cars_rt.cli.export.start_logging", lambda logs: None)
    with pytest.raises(SystemExit):
        command(source, output=tmp_path / "a.csv", at=at)
