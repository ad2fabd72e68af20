"""A recording is shown as the scan was."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from files.test_dataset import ended, recorded
from helpers import AXIS, an_end, spectra_of

import cars_rt
from cars_rt.accounting import Ledger
from cars_rt.cli.view import view
from cars_rt.files.spectra import SpectraError
from cars_rt.view.settings import ViewSettings
from cars_rt.view.store import Store

pytest.importorskip("xarray", reason="needs the extra files")
pytest.importorskip("dask.array", reason="needs the extra files")

from cars_rt.view.recorded import Recorded, _runs
from cars_rt.view.snapshot import about, arrays


def read(path: Path) -> tuple[Store, Recorded]:
    store = Store(1e8)
    reading = Recorded(store, path)
    reading.run()
    assert not reading.trouble
    return store, reading


def test_every_spectrum_has_its_pixel_and_what_is_missing_is_missing(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "scan.h5")
    path = ended(recording)
    store, reading = read(path)
    scan = store.scan
    assert scan is not None and reading.results and scan.end is not None
    data = cars_rt.open(path)
    expected = data["raman"].values
    np.testing.assert_array_equal(scan.raman.mean(slice(None)).reshape(expected.shape), expected)
    assert scan.counts is not None
    np.testing.assert_array_equal(
        scan.counts.mean(slice(None)).reshape(data["counts"].shape)[data["raman_measured"].values],
        data["counts"].values[data["raman_measured"].values],
    )
    assert scan.seen == int(data["raman_measured"].values.sum())


def test_spectra_of_a_list_that_was_joined_late_have_their_numbers(tmp_path: Path) -> None:
    path = ended(recorded(tmp_path / "late.h5", scan=None, first=100_000))
    scan = read(path)[0].scan
    assert scan is not None
    with cars_rt.open(path) as data:
        numbers, there = data["spectrum"].values.astype(int), data["raman_measured"].values
        raman = data["raman"].values
    assert numbers[0] == 100_000 and scan.latest_index == numbers[-1]
    for place in (5, 30):
        shown = scan.at(int(numbers[place]), 0)
        assert there[place] and shown is not None and shown.title == f"spectrum {numbers[place]}"
        np.testing.assert_array_equal(shown.raman, raman[place])


@pytest.mark.parametrize("gap", [2, 50_000, 10_000_000])  # the second is a list with places for all
def test_each_spectrum_of_a_list_with_gaps_is_shown_by_itself_and_called_by_its_number(
    gap: int, tmp_path: Path
) -> None:
    numbers, counts = np.r_[100:120, 120 + gap : 140 + gap], spectra_of(40)
    np.savez(tmp_path / "list.npz", spectra=counts, raman_shift=AXIS, index=numbers)
    scan = read(tmp_path / "list.npz")[0].scan
    assert scan is not None and scan.raman.exact and scan.raman.covered == 40
    for place in (5, 30):
        shown = scan.at(int(numbers[place]) if scan.numbers is None else place, 0)
        assert shown is not None and shown.title == f"spectrum {numbers[place]}" and shown.pixels == 1
        np.testing.assert_array_equal(shown.raman, counts[place])
    places = arrays(scan, []).get("spectrum")
    assert ("first" in about(scan, [])) is (gap == 2)
    if gap == 2:
        assert places is None and scan.first == 100
    else:
        np.testing.assert_array_equal(places, numbers)
        assert scan.at(40, 0) is None


def test_runs_of_what_was_measured_have_no_gaps_in_their_numbers() -> None:
    measured = np.array([True, True, False, True, True, True])
    numbers = np.array([7, 8, 9, 10, 12, 13])
    assert list(_runs(measured, numbers)) == [slice(0, 2), slice(3, 4), slice(4, 6)]


def test_what_is_lost_is_said(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "scan.h5")
    recording.end(an_end(35), Ledger())
    recording.end(an_end(35, stream="raman"), Ledger(lost=Counter(missing=4)))
    store, _ = read(recording.close())
    assert store.scan is not None and store.scan.end is not None
    assert dict(store.scan.end.lost) == {"missing": 4}


def test_counts_alone_are_shown_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "counts.npz"
    np.savez(path, spectra=spectra_of(12), raman_shift=AXIS)
    store, reading = read(path)
    scan = store.scan
    assert scan is not None and not reading.results and scan.points
    np.testing.assert_array_equal(scan.raman.mean(slice(0, 12))[:, 0], spectra_of(12))


def test_what_is_no_recording_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "scan.h5").write_text("nonsense", encoding="utf-8")
    with pytest.raises(SpectraError):
        Recorded(Store(1e8), tmp_path / "scan.h5")


def test_a_file_has_nothing_to_be_controlled(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        view(Path("scan.h5"), settings=ViewSettings(allow_control=True))
    assert left.value.code == 2 and "--allow-control is for a daemon" in capsys.readouterr().err
