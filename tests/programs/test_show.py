"""`cars-rt show`: what is in a file as pictures and as text, with gaps, flags and points."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import AXIS, Command, a_frame, a_start, spectra_of

from cars_rt.files.export import ExportError, Wanted, export
from cars_rt.files.recording import Recording
from cars_rt.files.spectra import SpectraError
from cars_rt.physics.fitness import Flag

pytest.importorskip("xarray", reason="the extra files is not installed")
pytest.importorskip("dask", reason="the extra files is not installed")
plt = pytest.importorskip("matplotlib.image", reason="matplotlib is not installed")

from cars_rt.show import ShowError, parse_bands, read  # noqa: E402
from cars_rt.show.picture import MISSING, compose, composite, draw, nice  # noqa: E402
from cars_rt.show.shown import limits  # noqa: E402
from cars_rt.show.terminal import by_number, render  # noqa: E402

ROWS, COLUMNS = 12, 20
GONE = 5  # a row that did not come


def a_file(folder: Path, scan: tuple[int, int] | None = (ROWS, COLUMNS)) -> Path:
    """A recording that is still being written: counts and results of a scan, or of no scan, with a gap."""
    counts = spectra_of(ROWS * COLUMNS)
    recording = Recording(folder / "scan.h5")
    model = {"name": "cnn", "sha256": "0" * 64, "flags": "saturated"}
    about = {"block": COLUMNS, "spectra": len(counts), "scan": scan, "step_um": scan and (0.5, 0.25)}
    recording.note("/", {"sample": "liver"})
    recording.start(a_start(**about))
    recording.start(a_start(stream="raman", dtype="float32", model=model, **about))
    for row in range(ROWS - 2):
        block = counts[row * COLUMNS : (row + 1) * COLUMNS]
        flags = np.where(np.arange(COLUMNS) < 3, Flag.SATURATED, 0).astype(np.uint8)
        if row == GONE:
            continue
        recording.append(a_frame(row, block))
        arrays = {"raman": block.astype(np.float32) / 1000, "flags": flags}
        recording.append(a_frame(row, block, stream="raman", arrays=arrays))
    recording.flush()
    recording.fail()
    return recording.partial


def test_maps_means_and_points_are_those_of_the_file(tmp_path: Path) -> None:
    counts = spectra_of(ROWS * COLUMNS).reshape(ROWS, COLUMNS, -1)
    shown = read(a_file(tmp_path), parse_bands(["CH=900:950,1200"], 40.0), [(3, 4), (GONE, 0)])
    inside = (AXIS >= 1180) & (AXIS <= 1220)
    there = [row for row in range(ROWS - 2) if row != GONE]
    assert [band.label for band in shown.bands] == ["CH, 900–950 cm⁻¹", "1180–1220 cm⁻¹"]
    assert np.allclose(shown.maps[1][there], counts[there][..., inside].mean(axis=2) / 1000, rtol=1e-5)
    assert np.isnan(shown.maps[0][[GONE, ROWS - 2, ROWS - 1]]).all()
    assert np.allclose(shown.means["counts"], counts[there].mean(axis=(0, 1)))
    assert np.allclose(shown.points[0].spectra["raman"], counts[3, 4] / 1000)
    assert np.isnan(shown.points[1].spectra["counts"]).all()
    assert shown.step_um == (0.5, 0.25) and shown.flagged == {"saturated": 3 * len(there)}
    assert shown.describe() == f"12 × 20 = 240 spectra, 60 missing, {3 * len(there)} saturated"
    assert shown.about["sample"] == "liver" and shown.about["model"] == "cnn"
    assert read(a_file(tmp_path / "a"), counts=True).main == "counts"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()


@pytest.mark.parametrize(
    ("bands", "at", "said"),
    [
        (["3000"], [], "no point of the axis, 800 to 1500 cm-1, is in the band 2990 to 3010"),
        (["a"], [], "'a' is no band: give it as CENTRE or LOW:HIGH"),
        (["900:900"], [], "is no band"),
        ([",".join(map(str, range(900, 910)))], [], "10 bands are too many"),
        ([], [(1,)], "1 is no point of this file: give it as ROW,COLUMN"),
        ([], [(12, 0)], "there is no spectrum at 12, 0: y goes from 0 to 11"),
    ],
)
def test_what_is_not_in_the_file_is_said(
    bands: list[str], at: list[tuple[int, ...]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ShowError, match=said):
        read(a_file(tmp_path), parse_bands(bands), at)


def test_pictures_have_gaps_in_a_colour_of_their_own_and_units(tmp_path: Path) -> None:
    path = a_file(tmp_path)
    draw(read(path, parse_bands(["900,1000,1200"]), [(3, 4)]), tmp_path / "rgb.png", 60)
    image = plt.imread(tmp_path / "rgb.png")
    missing = np.array([int(MISSING[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    share = (np.abs(image[..., :3] - missing).max(axis=-1) < 0.01).mean()
    assert 0.01 < share < 0.2 and image.shape[1] > 500
    draw(read(path, parse_bands(["900"]), [(3, 4)]), tmp_path / "one.svg")
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    for said in (
        "890–910 cm⁻¹",
        "Raman shift",
        "row 3, column 4",
        "not measured",
        "saturated (27)",
        "liver",
    ):
        assert said in text, said
    with pytest.raises(ShowError, match=r"a picture ends in .png, .svg, .pdf"):
        draw(read(path), tmp_path / "one.gif")
    for dpi in (-1, 0, 10**12):
        with pytest.raises(ShowError, match="--dpi must be from 10 to 1200"):
            draw(read(path), tmp_path / "one.png", dpi)
    draw(read(path, at=[(row, 0) for row in range(8)]), tmp_path / "one.png", 10)
    with pytest.raises(ShowError, match="colours for 8 points"):
        draw(read(path, at=[(row, 0) for row in range(9)]), tmp_path / "one.png")


def test_names_with_dollars_and_control_characters_are_no_formulas(tmp_path: Path) -> None:
    path = tmp_path / "5 $ or $.npz"
    np.savez(
        path,
        spectra=spectra_of(6),
        raman_shift=AXIS,
        scan=[2, 3],
        index=[0, 1, 2, 3, 3, 3],
        source="a\\x1b $",
    )
    shown = read(path, parse_bands([rf"$\foo$={AXIS[3]}:{AXIS[9]}"]))
    draw(shown, tmp_path / "one.svg")
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    recording = a_file(tmp_path)
    with h5py.File(recording, "r+") as file:
        file.attrs["sample"] = np.arange(3)
    assert "sample" not in read(recording).about
    assert "5 $ or $.npz" in text and r"$\foo$, " in text and "2 at the place of a later one" in text


def test_three_bands_are_red_green_and_blue_each_in_its_own_range() -> None:
    low = np.arange(8.0).reshape(2, 4)
    image = composite([low, 100 * low, -low], np.array([[True] * 4, [True, True, True, False]]))
    assert np.allclose(image[0, 0], [0, 0, 1]) and np.allclose(image[1, 2], [6 / 7, 6 / 7, 1 / 7], atol=0.02)
    assert np.allclose(image[1, 3], [int(MISSING[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    assert limits(np.full((2, 2), np.nan)) == (0, 1) and [nice(each) for each in (1, 4.9, 73)] == [1, 2, 50]


def test_a_run_without_scan_is_shown_as_a_list(tmp_path: Path) -> None:
    shown = read(a_file(tmp_path, scan=None), parse_bands(["900"]), [(7,)])
    draw(shown, tmp_path / "list.png", 50)
    assert not shown.is_map and shown.measured.sum() == (ROWS - 3) * COLUMNS
    from rich.console import Console

    console = Console(width=60, color_system=None)
    with console.capture() as captured:
        console.print(render(shown, 60, 20, colour=False))
    text = captured.get()
    assert "890–910 cm⁻¹: Im χR / χNR" in text and "(7): Im" in text and "spectrum 0" in text


def test_spectra_of_a_run_that_was_joined_late_are_called_by_their_numbers(tmp_path: Path) -> None:
    counts = spectra_of(20)
    np.savez(tmp_path / "late.npz", spectra=counts, raman_shift=AXIS, index=100_000 + np.r_[0:10, 15:25])
    shown = read(tmp_path / "late.npz", parse_bands(["900"]), [(100_005,), (100_024,)])
    assert [each.at for each in shown.points] == [(100_005,), (100_024,)]
    np.testing.assert_array_equal(shown.points[1].spectra["counts"], counts[-1])
    draw(shown, tmp_path / "list.svg", 50)
    assert "spectrum 100005" in (tmp_path / "list.svg").read_text(encoding="utf-8")
    from rich.console import Console

    console = Console(width=60, color_system=None)
    with console.capture() as captured:
        console.print(render(shown, 60, 20, colour=False))
    assert "spectrum 100000" in captured.get() and "100024" in captured.get()
    for number in (5, 100_012):
        with pytest.raises(ShowError, match=f"no spectrum {number}: they go from 100000 to 100024"):
            read(tmp_path / "late.npz", at=[(number,)])


def test_a_list_shows_where_its_numbers_have_gaps(tmp_path: Path) -> None:
    numbers = 100_000 + np.r_[0:10, 90:100, 110, 130:140]
    np.savez(tmp_path / "gaps.npz", spectra=spectra_of(31), raman_shift=AXIS, index=numbers)
    shown = read(tmp_path / "gaps.npz", parse_bands(["900"]))
    axes = compose(shown).axes[0]
    line, dots = axes.lines
    drawn = line.get_xydata()
    expected = np.c_[numbers, shown.maps[0]]
    np.testing.assert_array_equal(drawn[np.isfinite(drawn[:, 1])], expected)
    assert np.flatnonzero(np.isnan(drawn[:, 1])).tolist() == [10, 21, 23]
    np.testing.assert_array_equal(dots.get_xydata(), expected[20:21])  # a line of one point is none
    shaded = [tuple(path.get_extents().intervalx - 100_000) for path in axes.collections[0].get_paths()]
    assert shaded == [(9.5, 89.5), (99.5, 109.5), (110.5, 129.5)]
    columns = by_number(np.ones(31, np.float32), numbers, 70)  # two numbers each
    assert np.isfinite(columns).nonzero()[0].tolist() == [*range(5), *range(45, 50), 55, *range(65, 70)]


def test_of_two_planes_the_whole_one_is_shown_and_named(tmp_path: Path) -> None:
    """Of 22 spectra on a scan of 20 the second plane is nearly empty. CRIkit2 gets one plane, too."""
    np.savez(tmp_path / "a.npz", spectra=spectra_of(22), raman_shift=AXIS, scan=[4, 5])
    path = tmp_path / "a.npz"
    assert read(path).describe() == "plane 0 (of 0 to 1), 4 × 5 = 20 spectra"
    assert read(path, plane=1).describe() == "plane 1 (of 0 to 1), 4 × 5 = 20 spectra, 18 missing"
    twice = [*range(21), 3]
    np.savez(tmp_path / "twice.npz", spectra=spectra_of(22), raman_shift=AXIS, scan=[4, 5], index=twice)
    said = "plane 1 (of 0 to 1), 4 × 5 = 20 spectra, 19 missing, in all planes 1 at the place of a later one"
    assert read(tmp_path / "twice.npz", plane=1).describe() == said
    with pytest.raises(SpectraError, match=r"no plane 2 in .*a.npz: it has 0 to 1"):
        read(path, plane=2)
    with pytest.raises(SpectraError, match=r"scan.partial.h5 is no stack, so it has no plane 0"):
        read(a_file(tmp_path), plane=0)
    with pytest.raises(ExportError, match="this is a stack: give --plane"):
        export(path, tmp_path / "a.h5", "crikit", Wanted())
    export(path, tmp_path / "a.h5", "crikit", Wanted(plane=1))
    with h5py.File(tmp_path / "a.h5") as file:
        assert np.array_equal(file["BCARSImage/counts"][0, :2], spectra_of(22)[20:])
        assert file["BCARSImage/counts"].shape[:2] == (4, 5)


def test_files_whose_axis_has_to_be_given_are_shown_and_exported_as_they_are_processed(
    tmp_path: Path,
) -> None:
    np.savez(tmp_path / "a.npz", spectra=spectra_of(6), scan=[2, 3])
    np.savetxt(tmp_path / "nm.txt", 1e7 / (AXIS + 1e7 / 785), header="nm")
    asked = {"pump_nm": 785.0, "axis": tmp_path / "nm.txt"}
    with pytest.raises(SpectraError, match="give --axis FILE"):
        read(tmp_path / "a.npz")
    shown = read(tmp_path / "a.npz", **asked)
    assert np.allclose(shown.raman_shift, AXIS) and shown.describe() == "2 × 3 = 6 spectra"
    flags = "--pump-nm", "785", "--axis", tmp_path / "nm.txt"
    code, _, said = Command.ran("show", tmp_path / "a.npz", *flags)
    assert code == 0, said
    export(tmp_path / "a.npz", tmp_path / "a.csv", "csv", Wanted(**asked))
    assert np.allclose(np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=2)[:, 0], AXIS)
    with pytest.raises(SpectraError, match="holds a raman_shift in cm-1; leave --axis out"):
        read(a_file(tmp_path), axis=tmp_path / "nm.txt")


def test_the_command_draws_and_says_where_a_picture_goes(tmp_path: Path) -> None:
    path = a_file(tmp_path)
    points = ("--at", "3,4", "--at", "5,0")
    few = {"PYTHONIOENCODING": "cp1252"}  # letters of Windows, where the output goes into a file
    code, text, said = Command.ran("show", path, "--band", "900,1200", *points, COLUMNS="70", **few)
    assert code == 0, said
    assert "890–910 cm⁻¹: Im χR / χNR from" in text and "(5, 0) was not measured" in text
    assert "·" * 20 in text and max(map(len, text.splitlines()[:-1])) <= 70
    assert text.splitlines()[-1] == f"a picture of it: cars-rt show {path} --out scan.partial.png"
