"""A recording as other programs find it: their own code opens the file, untouched, as it was written."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import AXIS, Command, a_frame, a_start, an_end

import cars_rt
from cars_rt.accounting import Ledger
from cars_rt.files.export import Wanted, export
from cars_rt.files.recording import Recording, repair
from cars_rt.files.recording.packing import Packing
from files.test_dataset import COUNTS, LOST, RAMAN, SCAN, ended, holed, recorded

#: The command pynx, wherever it was installed.
PYNX = """from importlib.metadata import entry_points
for each in entry_points(group="console_scripts", name="pynx"):
    each.load()()"""
PAGE = Path(__file__).parents[2] / "docs" / "files.md"
MAP = holed(RAMAN).reshape(*SCAN, -1)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ended(recorded(tmp_path_factory.mktemp("recorded") / "scan.h5"))


def test_silx_finds_the_map_as_default_plot(path: Path) -> None:
    io = pytest.importorskip("silx.io", reason="silx is not installed")
    nxdata = pytest.importorskip("silx.io.nxdata")
    with io.open(str(path)) as file:
        plot = nxdata.get_default(file)
        assert (
            plot.is_valid and plot.signal_name == "Im(chi_R) / chi_NR" and plot.interpretation == "spectrum"
        )
        assert np.array_equal(plot.signal[()], MAP, equal_nan=True)
        assert plot.axes_dataset_names == ["y", "x", "raman_shift"]
        assert np.array_equal(plot.axes[2][()], AXIS) and plot.axes[2].attrs["units"] == "1/cm"
        assert np.allclose(plot.axes[0][()], 0.5 * np.arange(5)) and plot.axes[0].attrs["units"] == "um"


def test_hyperspys_reader_finds_the_map_with_its_axes(path: Path) -> None:
    nexus = pytest.importorskip("rsciio.nexus", reason="RosettaSciIO is not installed")
    found = {each["metadata"]["General"]["title"]: each for each in nexus.file_reader(str(path))}
    for title, values in (("data", MAP), ("counts", COUNTS.reshape(*SCAN, -1))):
        assert np.array_equal(found[title]["data"], values, equal_nan=True)
        y, x, shift = found[title]["axes"]
        assert (shift["name"], shift["units"], shift["navigate"]) == ("raman_shift", "1/cm", False)
        assert np.allclose(shift["offset"] + shift["scale"] * np.arange(len(AXIS)), AXIS)
        assert [(each["units"], each["navigate"]) for each in (y, x)] == [("um", True)] * 2
        assert np.allclose([y["scale"], x["scale"]], [0.5, 0.25])


#: Names that NeXus, netCDF and HDF5 prescribe, of which the page says that they are there.
THEIRS = {
    "CLASS",
    "NAME",
    "REFERENCE_LIST",
    "DIMENSION_LIST",
    "URL",
    "z_indices",
    "x_indices",
    "raman_shift_indices",
}


def test_every_name_in_a_recording_is_described(path: Path) -> None:
    page, names = PAGE.read_text(encoding="utf-8"), set[str]()

    def look(name: str, each: h5py.Group | h5py.Dataset) -> None:
        if not name.startswith("entry/bands/"):  # which are called as the bands are
            names.update(name.split("/"))
            names.update(each.attrs if "calibration" not in name else ())  # which are its facts

    with h5py.File(path) as file:
        names |= set(file.attrs)
        file.visititems(look)
    assert {"counts", "made_by", "NX_class", "described"} <= names
    missing = {name for name in names - THEIRS if not re.search(rf"\b{re.escape(name)}\b", page)}
    assert not missing


def lines(after: str) -> str:
    """The lines of docs/files.md that follow these words."""
    text = PAGE.read_text(encoding="utf-8").partition(after)[2]
    found = re.match(r"[^\n]*\n\n((?:    .*\n|\n)*)", text)
    assert found is not None and found[1], after
    return textwrap.dedent(found[1])


def recipe(after: str) -> dict[str, Any]:
    """What they leave, in the folder of a scan.h5."""
    space: dict[str, Any] = {}
    exec(lines(after), space)
    return space


@pytest.mark.parametrize(("after", "needs"), [("For HyperSpy", "hyperspy"), ("For xarray", "h5netcdf")])
def test_a_compressed_recording_opens_where_this_package_was_never_imported(
    after: str, needs: str, tmp_path: Path
) -> None:
    """As the recorder writes by default: whoever reads it elsewhere has to load the filter."""
    pytest.importorskip(needs, reason=f"{needs} is not installed")
    pytest.importorskip("hdf5plugin", reason="hdf5plugin is not installed")
    recording = Recording(tmp_path / "scan.h5", packing=Packing("lz4"))
    recording.start(a_start(axis=AXIS, spectra=35, scan=SCAN, step_um=(0.5, 0.25)))
    recording.append(a_frame(0, COUNTS))
    recording.end(an_end(1, 35), Ledger())
    recording.close()
    # What is in it are counts alone, so these are the map.
    code = lines(after).replace('signals["counts"]', "None").replace(").raman\n", ").counts\n")
    code += "import numpy\nassert numpy.asarray(raman).max() > 0\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]


def test_hyperspy_opens_a_recording_as_the_docs_say(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hyperspy.api", reason="HyperSpy is not installed")
    monkeypatch.chdir(path.parent)
    space = recipe("For HyperSpy")
    for name, values in (("raman", MAP), ("counts", COUNTS.reshape(*SCAN, -1))):
        assert np.array_equal(space[name].data, values, equal_nan=True), name
        axes = space[name].axes_manager
        (shift,), places = axes.signal_axes, axes.navigation_axes
        assert (shift.name, shift.units) == ("raman_shift", "1/cm") and np.allclose(shift.axis, AXIS)
        assert [(each.name, each.units, each.scale) for each in places] == [
            ("x", "um", 0.25),
            ("y", "um", 0.5),
        ]


def test_hyperspy_opens_the_export_of_an_axis_that_is_not_uniform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hyperspy.api", reason="HyperSpy is not installed")
    bent = AXIS + (AXIS - 800) ** 2 / 5000
    recording = Recording(tmp_path / "scan.h5")
    recording.start(a_start(axis=bent, spectra=35, scan=SCAN, step_um=(0.5, 0.25)))
    recording.append(a_frame(0, COUNTS))
    recording.end(an_end(1, 35), Ledger())
    export(recording.close(), tmp_path / "scan.hspy", "hspy", Wanted())
    monkeypatch.chdir(tmp_path)
    signal = recipe("and what `cars-rt export")["raman"]
    (shift,) = signal.axes_manager.signal_axes
    assert np.array_equal(signal.data, COUNTS.reshape(*SCAN, -1))
    assert not shift.is_uniform and np.array_equal(shift.axis, bent) and shift.units == "1/cm"
    assert [each.scale for each in signal.axes_manager.navigation_axes] == [0.25, 0.5]


@pytest.mark.parametrize(
    ("scan", "spectra", "step", "scale"),
    [((1, 35), 35, (0.5, 0.25), [1, 0.25]), ((35, 1), 35, None, [1, 1]), ((1, 7), 35, None, [1, 1, 1])],
)
def test_napari_gets_a_scale_that_is_none_of_its_errors(
    scan: tuple[int, int], spectra: int, step: Any, scale: list[float],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Of one row or one column, and of a stack, without napari: what the lines of the page give it."""
    recording = Recording(tmp_path / "scan.h5")
    recording.start(
        a_start(axis=AXIS, stream="raman", dtype="float32", spectra=spectra, scan=scan, step_um=step)
    )
    recording.append(a_frame(0, RAMAN[:1], stream="raman", arrays={"raman": RAMAN[:1].repeat(spectra, 0)}))
    recording.end(an_end(1, spectra, stream="raman"), Ledger())
    recording.close()
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    exec(lines("For napari").replace(", napari.layers", "").partition("layer =")[0], space)
    assert space["raman"].dims[0] == "raman_shift" and space["raman"].dims[-2:] == ("y", "x")
    assert np.allclose(space["scale"], [AXIS[1] - AXIS[0], *scale])


def test_an_axis_that_falls_is_read_as_the_docs_say(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "scan.h5")
    recording.start(a_start(axis=AXIS[::-1], spectra=35, scan=SCAN))
    recording.append(a_frame(0, COUNTS[:, ::-1]))
    recording.end(an_end(1, 35), Ledger())
    scan = cars_rt.open(recording.close())
    wanted = COUNTS[:, 40:61].reshape(*SCAN, -1)
    rising = scan.sortby("raman_shift").counts.sel(raman_shift=slice(AXIS[40], AXIS[60]))
    assert np.array_equal(rising.values, wanted)
    falling = scan.counts.sel(raman_shift=slice(AXIS[60], AXIS[40]))
    assert np.array_equal(falling.values, wanted[..., ::-1])


def test_napari_gets_a_layer_with_its_scale(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the model of a viewer, which needs no screen."""
    pytest.importorskip("napari", reason="napari is not installed")
    from napari.components import ViewerModel

    monkeypatch.chdir(path.parent)
    viewer = ViewerModel()
    layer = viewer.add_layer(recipe("For napari")["layer"])
    assert np.array_equal(np.asarray(layer.data), np.moveaxis(MAP, -1, 0), equal_nan=True)
    assert np.allclose(layer.scale, [AXIS[1] - AXIS[0], 0.5, 0.25])
    assert [f"{each:~}" for each in layer.units] == ["1 / cm", "µm", "µm"]
    assert viewer.dims.axis_labels == ("raman_shift", "y", "x")
    viewer.dims.set_point(0, 50 * layer.scale[0])
    assert np.array_equal(layer._slice.image.raw, MAP[..., 50], equal_nan=True)


def test_xarray_opens_it_as_the_docs_say(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("h5netcdf", reason="needs the extra files")
    monkeypatch.chdir(path.parent)
    raman = recipe("For xarray")["raman"]
    assert np.array_equal(raman, MAP, equal_nan=True) and raman.raman_shift.attrs["units"] == "1/cm"


def test_xarray_finds_coordinates_units_times_and_what_is_missing(path: Path) -> None:
    xarray = pytest.importorskip("xarray", reason="needs the extra files")
    pytest.importorskip("h5netcdf", reason="needs the extra files")
    with xarray.open_dataset(path, engine="h5netcdf", group="entry/data") as found:
        assert found.raman.dims == ("y", "x", "raman_shift") and found.raman_shift.attrs["units"] == "1/cm"
        with cars_rt.open(path) as ours:
            for name in ("raman", "deviation", "raman_shift", "y", "x", "time", "flags"):
                assert np.array_equal(found[name], ours[name], equal_nan=name not in ("flags",)), name
            assert np.array_equal(found.raman_measured, ours.raman_measured)
        assert np.array_equal(found.counts, COUNTS.reshape(*SCAN, -1))


def test_pynx_says_that_it_is_valid(path: Path) -> None:
    pytest.importorskip("pynxtools", reason="needs the extra nexus")
    command = [sys.executable, "-c", PYNX, "validate", "--ignore-undocumented", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "is valid according to the `NXraman`" in done.stdout + done.stderr, done


def test_what_nxraman_requires_and_h5web_follows_is_there(path: Path) -> None:
    """The convention itself: from the root by @default to @signal, @axes and an interpretation."""
    with h5py.File(path) as file:
        entry = file[file.attrs["default"]]
        data = entry[entry.attrs["default"]]
        assert [each.attrs["NX_class"] for each in (file, entry, data)] == ["NXroot", "NXentry", "NXdata"]
        signal = data[data.attrs["signal"]]
        assert list(data.attrs["axes"]) == ["y", "x", "raman_shift"] and signal.shape == (*SCAN, len(AXIS))
        assert signal.attrs["interpretation"] == data.attrs["interpretation"] == "spectrum"
        assert [data.attrs[f"{axis}_indices"] for axis in data.attrs["axes"]] == [0, 1, 2]
        assert entry["definition"][()] == b"NXraman" and signal.attrs["units"] == "1"
        assert entry["raman_experiment_type"][()].endswith(b"(CARS)")
        beam, camera = (entry["instrument"][name] for name in ("beam_incident", "detector_camera"))
        assert np.isnan(beam["wavelength"][()]) and beam["parameter_reliability"][()] == b"nominal"
        assert camera["detector_channel_type"][()] == b"multichannel" and not camera["dark"][()].any()
        assert (
            entry["sample/name"][()] == b"not stated" and entry["process_retrieval/model_name"][()] == b"cnn"
        )
        assert entry["start_time"][()].startswith(b"1970-01-01T00:00:00") and "end_time" in entry
        receipt = json.loads(entry["receipt_raman/data"][()])
        assert receipt["announced"] == 35 and receipt["reason"] == "complete"
        assert data["flags"].attrs["flag_masks"].tolist() == [1, 2]
        assert not data["raman_measured"][()].ravel()[LOST].any() and data["raman_measured"][()].sum() == 32


def test_pictures_at_bands_are_there_and_not_compressed(path: Path) -> None:
    with h5py.File(path) as file:
        group = file["entry/bands"]
        assert group.attrs["NX_class"] == "NXdata" and list(group.attrs["axes"]) == ["y", "x"]
        names = [group.attrs["signal"], *group.attrs["auxiliary_signals"]]
        assert names == ["CH2 bend", "ring breathing"]  # those that the axis has
        inside = (AXIS >= 1420) & (AXIS <= 1470)
        expected = MAP[:, :, inside].mean(axis=2)
        assert np.allclose(group["CH2 bend"][()], expected, rtol=1e-5, equal_nan=True)
        assert group["CH2 bend"].compression is None and np.isnan(group["CH2 bend"][()]).sum() == len(LOST)
        assert group["CH2 bend"].attrs["long_name"] == "CH2 bend, mean from 1420 to 1470 1/cm"


def test_repair_adds_what_a_disk_had_no_room_for_and_leaves_it_then(tmp_path: Path) -> None:
    path = ended(recorded(tmp_path / "scan.h5"))
    with h5py.File(path, "r+") as file:
        del file["entry"], file.attrs["described"]
    assert np.array_equal(cars_rt.open(path).raman, MAP, equal_nan=True)
    with Command("repair", path) as first:
        assert first.end() == 0, first.said
    contents = repair(path)
    assert not contents.changed and contents.rows == {"raw": 35, "raman": 32}
    test_what_nxraman_requires_and_h5web_follows_is_there(path)


@pytest.mark.parametrize("given", [{"scan": None}, {"scan": (3, 7)}, {"scan": (5, 7), "spectra": 0}])
def test_lists_stacks_and_runs_without_a_spectrum_have_their_default_plot(
    given: dict[str, Any], tmp_path: Path
) -> None:
    path = ended(recorded(tmp_path / "scan.h5", **given), given.get("spectra", 35))
    shapes = {None: (35,), (3, 7): (2, 3, 7), (5, 7): (5, 7)}
    with h5py.File(path) as file:
        raman = file["entry/data/raman"]
        assert raman.shape == (*shapes[given["scan"]], len(AXIS))
        expected = np.full((raman.size // len(AXIS), len(AXIS)), np.nan, np.float32)
        expected[: given.get("spectra", 35)] = holed(RAMAN)[: given.get("spectra", 35)]
        assert np.array_equal(raman[()].reshape(expected.shape), expected, equal_nan=True)


@pytest.mark.parametrize("first", [100_000, 65_546])
def test_a_run_that_was_joined_late_has_counts_and_results_of_a_spectrum_at_its_place(
    first: int, tmp_path: Path
) -> None:
    with h5py.File(ended(recorded(tmp_path / "late.h5", scan=None, spectra=10, first=first))) as file:
        data = file["entry/data"]
        assert np.array_equal(data["spectrum"], first + np.arange(10))
        assert np.array_equal(data["counts"], COUNTS[:10]) and data["counts_measured"][()].all()
        assert np.array_equal(data["raman"], holed(RAMAN)[:10], equal_nan=True)
        assert np.array_equal(data["time"], 10**9 * np.arange(1, 11))
