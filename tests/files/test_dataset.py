"""cars_rt.open: the map of a scan, what is missing in it, files that grow, and files that lie."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import AXIS, a_frame, a_start, an_end, spectra_of
from numpy.typing import NDArray

import cars_rt
from cars_rt.accounting import Ledger
from cars_rt.files.places import places_of
from cars_rt.files.recording import PLAIN, Packing, Recording
from cars_rt.files.spectra import SpectraError

xarray = pytest.importorskip("xarray", reason="needs the extra files")
pytest.importorskip("dask.array", reason="needs the extra files")

SCAN = 5, 7
COUNTS = spectra_of(35)
RAMAN = (COUNTS / 1000).astype(np.float32)
LOST = [3, 4, 20]  # of the results


def recorded(
    path: Path,
    *,
    scan: tuple[int, int] | None = SCAN,
    spectra: int = 35,
    packing: Packing = PLAIN,
    first: int = 0,
    target: str | None = None,
) -> Recording:
    """Counts and results of a run, not ended yet. first: where it was joined. target: the model's."""
    recording = Recording(path, streams=["raw", "raman"], packing=packing)
    about: dict[str, Any] = {"spectra": 35, "scan": scan, "step_um": (0.5, 0.25) if scan else None}
    about |= {"calibration": {"id": "lab", "residual": 0.5}, "instrument": {"grating": 600}}
    model = {"name": "cnn", "sha256": "ab" * 32, "flags": "a b", "deviation": "yes"}
    model |= {"target": target} if target else {}
    recording.start(a_start(**about, time_ns=1, dark=np.zeros(len(AXIS), np.float32)))
    recording.start(a_start(stream="raman", dtype="float32", model=model, time_ns=1, **about))
    for index in range(spectra):
        time_ns = 10**9 * (index + 1)
        frame = a_frame(index, COUNTS[index : index + 1], index=first + index, time_ns=time_ns)
        recording.append(frame)
        if index not in LOST:
            arrays = {
                "raman": RAMAN[index : index + 1],
                "flags": np.array([index % 4], np.uint8),
                "deviation": RAMAN[index : index + 1] / 10,
            }
            recording.append(
                a_frame(
                    index,
                    arrays["raman"],
                    stream="raman",
                    index=first + index,
                    arrays=arrays,
                    time_ns=time_ns,
                )
            )
    return recording


def ended(recording: Recording, spectra: int = 35) -> Path:
    for stream in ("raw", "raman"):
        recording.end(an_end(spectra, stream=stream), Ledger())
    return recording.close()


def holed(rows: NDArray[Any], there: int = 35, lost: list[int] = LOST) -> NDArray[np.float32]:
    """The rows with NaN where none came."""
    found = rows.astype(np.float32)
    found[lost], found[there:] = np.nan, np.nan
    return found


def test_a_recording_is_a_map_with_units_and_what_is_missing_is_nan(tmp_path: Path) -> None:
    with cars_rt.open(ended(recorded(tmp_path / "scan.h5"))) as scan:
        assert scan.raman.dims == ("y", "x", "raman_shift") and scan.raman.chunks is not None
        assert np.array_equal(scan.counts, COUNTS.reshape(*SCAN, -1))
        assert np.array_equal(scan.raman, holed(RAMAN).reshape(*SCAN, -1), equal_nan=True)
        assert np.array_equal(scan.deviation, holed(RAMAN / 10).reshape(*SCAN, -1), equal_nan=True)
        assert (~scan.raman_measured).values.ravel().nonzero()[0].tolist() == LOST
        assert scan.counts_measured.values.all() and scan.flags.values.ravel()[5] == 1
        assert np.allclose(scan.y, 0.5 * np.arange(5)) and scan.x.attrs["units"] == "um"
        assert np.array_equal(scan.raman_shift, AXIS) and scan.raman_shift.attrs["units"] == "1/cm"
        assert scan.time.values[0, 1] == np.datetime64(2 * 10**9, "ns")
        assert scan.attrs["complete"] == 0 and scan.raman.attrs["model_name"] == "cnn"
        assert np.array_equal(scan.counts.sel(x=0.5, y=1, method="nearest"), COUNTS[2 * 7 + 2])
        assert np.array_equal(
            scan.raman[::2, ::-1, 3:9].values, holed(RAMAN).reshape(*SCAN, -1)[::2, ::-1, 3:9], equal_nan=True
        )
        line = pickle.loads(pickle.dumps(scan.counts[3]))  # as it goes to a worker elsewhere
        assert np.array_equal(line, COUNTS[21:28])
        scan.to_netcdf(tmp_path / "copy.nc", engine="h5netcdf")
        with xarray.open_dataset(tmp_path / "copy.nc", engine="h5netcdf") as copy:
            assert json.loads(copy.attrs["calibration"]) == {"id": "lab", "residual": 0.5}
            assert copy.attrs["instrument"] == scan.attrs["instrument"] == '{"grating": 600}'


def test_what_was_planned_and_not_measured_is_there_as_missing(tmp_path: Path) -> None:
    """While it is written, when its recorder was killed, and when it got its name."""
    recording = recorded(tmp_path / "scan.h5", spectra=17)
    recording.flush()
    growing = cars_rt.open(recording.partial)
    expected = holed(COUNTS, there=17, lost=[]).reshape(*SCAN, -1)
    for _ in range(2):
        assert growing.sizes == {"y": 5, "x": 7, "raman_shift": len(AXIS)}
        assert np.array_equal(growing.counts, expected, equal_nan=True)
        assert growing.counts_measured.values.sum() == 17
        path = ended(recording, 17) if recording.contents is None else path  # noqa: F821 - then once more
    assert path == tmp_path / "scan.h5"


def test_a_run_without_a_scan_is_a_list(tmp_path: Path) -> None:
    found = cars_rt.open(ended(recorded(tmp_path / "list.h5", scan=None)))
    assert found.raman.dims == ("spectrum", "raman_shift")
    assert np.array_equal(found.raman, holed(RAMAN), equal_nan=True)


@pytest.mark.parametrize("first", [100_000, 65_546])  # both would be almost empty lists, or the results alone
def test_counts_and_results_of_a_run_that_was_joined_late_are_of_the_same_spectra(
    first: int, tmp_path: Path
) -> None:
    path = ended(recorded(tmp_path / "late.h5", scan=None, spectra=10, first=first))
    with cars_rt.open(path) as found:
        assert np.array_equal(found.spectrum, first + np.arange(10))
        assert np.array_equal(found.counts, COUNTS[:10])
        assert np.array_equal(found.raman, holed(RAMAN, lost=LOST[:2])[:10], equal_nan=True)
        assert (~found.raman_measured).values.nonzero()[0].tolist() == LOST[:2]


def test_other_files_that_process_reads(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", spectra=COUNTS.reshape(*SCAN, -1), raman_shift=AXIS)
    assert np.array_equal(cars_rt.open(tmp_path / "a.npz").counts, COUNTS.reshape(*SCAN, -1))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["raman_shift"], file["spectra"] = AXIS, COUNTS
    assert np.array_equal(cars_rt.open(tmp_path / "b.h5").counts, COUNTS)
    from cars_rt.files.offline import process

    process(tmp_path / "a.npz", tmp_path / "c.h5", engine="passthrough")
    result = cars_rt.open(tmp_path / "c.h5")
    assert result.raman.shape == (*SCAN, len(AXIS))
    assert result.raman.attrs["long_name"] == "camera counts, not retrieved"
    for name in ("time", "time_in", "time_out"):  # nobody knows them
        assert np.isnat(result[name]).all()
    with h5py.File(tmp_path / "c.h5") as file:
        time = file["entry/data/time"]
        assert (time[()] == time.attrs["_FillValue"]).all()


@pytest.mark.parametrize("ending", [".nxs", ".hdf5"])
def test_a_recording_may_have_any_name_of_hdf5(ending: str, tmp_path: Path) -> None:
    """By the name .nxs, as other programs know it, it was counts without results."""
    path = ended(recorded(tmp_path / "scan.h5")).rename(tmp_path / f"scan{ending}")
    with cars_rt.open(path) as found:
        assert np.array_equal(found.raman, holed(RAMAN).reshape(*SCAN, -1), equal_nan=True)


def test_a_file_that_is_only_read_whole_is_read_once(tmp_path: Path) -> None:
    """Each piece parsed all of it, in every thread. Another process reads it anew."""
    path = tmp_path / "a.npz"
    np.savez(path, spectra=COUNTS, raman_shift=AXIS)
    found = cars_rt.open(path)
    sent = pickle.dumps(found.counts)
    assert len(sent) < COUNTS.nbytes and np.array_equal(pickle.loads(sent), COUNTS)
    path.unlink()
    assert np.array_equal(found.counts, COUNTS)


@pytest.mark.parametrize("order", ["rows", "snake", "random", "stack", "twice"])
def test_places_follow_positions_in_any_order(order: str) -> None:
    rows, columns = np.divmod(np.arange(35), 7)
    if order == "snake":
        columns = np.where(rows % 2, 6 - columns, columns)
    if order == "random":
        mixed = np.random.default_rng(1).permutation(35)
        rows, columns = rows[mixed], columns[mixed]
    if order == "stack":
        rows, columns = np.divmod(np.arange(70), 7)
    if order == "twice":
        rows, columns = np.append(rows, 2), np.append(columns, 3)
    places = places_of(np.arange(len(rows)), np.stack([rows, columns], 1), SCAN, -1)
    assert places.shape == ((2, 5, 7) if order == "stack" else SCAN)
    found = places.rows(rows * 7 + columns)
    expected = np.arange(len(rows))
    if order == "twice":
        expected[2 * 7 + 3] = 35
        assert places.repeated == 1
    assert np.array_equal(found, expected)
    size = int(np.prod(places.shape))
    some = places_of(np.arange(3) + 30, None, None, 90)
    for each, first, last in ((places, 0, size), (places, 5, 30), (some, 25, 40), (some, 0, 30)):
        at = each.rows(np.arange(first, last))
        values = each.values(np.arange(len(each.of_rows)) + 100, first, last, np.array(-1))
        shown = np.where(at < 0, -1, at + 100)
        assert values is None if (at < 0).all() else np.array_equal(values, shown)
    assert places.cuts == (np.flatnonzero(np.diff(places.of_rows) != 1) + 1).tolist()
    assert (places.rows(np.arange(35)) >= 0).all() and places_of(np.arange(3), None, SCAN, -1).rows(
        np.arange(5)
    ).tolist() == [0, 1, 2, -1, -1]


@pytest.mark.parametrize("columns", [7, 2**16, 2**30])
def test_a_scan_of_more_places_than_can_be_shown_is_a_list(
    columns: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run may be planned far larger than it became, or be a long time-lapse."""
    path = ended(recorded(tmp_path / "scan.h5"))
    whole = cars_rt.open(path).raman.values.reshape(35, -1)
    rows = 2**22 if columns == 7 else columns
    changed(**({"announced": rows * 70} if columns == 7 else {"scan": (rows, columns)}))(path)
    found = cars_rt.open(path)
    assert found.raman.dims == ("spectrum", "raman_shift")
    assert np.array_equal(found.raman.values, whole[found.spectrum.values.astype(int)], equal_nan=True)
    said = f"{path}: its scan of {5 if columns == 7 else rows} x {columns} has more than 268435456 places"
    assert said in caplog.text


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def changed(**attrs: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            for place in (file, file["raw"], file["raman"]):
                place.attrs.update(attrs)

    return change


def outside(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["raman/raman"]
        file["raman/raman"] = h5py.ExternalLink("other.h5", "/raman")


def shifted(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["raw/columns_crc32"]
        file["raw/position"][3] = 1, 700
        file.create_group("process")  # which may have them in another order than by index


def shorter(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["raman/flags"]
        file["raman/flags"] = np.zeros(3, np.uint8)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (cut, "cut short"),
        (Path.unlink, "there is no file"),
        (changed(version=99), "is of version 99, and this program reads up to"),
        (outside, "links are not followed"),
        (shifted, "positions outside of its scan"),
        (shorter, "32 rows of 'flags' are data, and has 3"),
    ],
    ids=["cut", "gone", "newer", "link", "position", "rows"],
)
def test_what_cannot_be_opened_is_told_in_one_sentence(
    harm: Callable[[Path], None], why: str, tmp_path: Path
) -> None:
    path = ended(recorded(tmp_path / "scan.h5"))
    harm(path)
    with pytest.raises(SpectraError, match=why) as error:
        cars_rt.open(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
