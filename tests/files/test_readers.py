"""What other programs write, read as counts with a raman shift: NeXus, HyperSpy, CRIkit2, Renishaw, Andor,
Princeton."""

import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign
import h5py
import numpy as np
import pytest
from helpers import AXIS, spectra_of

import cars_rt
from cars_rt.engines.registry import REFERENCE
from cars_rt.files import dataset, hdf5, mapped
from cars_rt.files.export import Wanted, export
from cars_rt.files.formats import open_spectra, read_spectra
from cars_rt.files.offline import process
from cars_rt.files.spectra import SpectraError
from cars_rt.files.written import read_rows
from cars_rt.reference import read_reference

CUBE = spectra_of(12).reshape(3, 4, -1)
LINES = CUBE.reshape(12, 1, -1)
PIXELS = np.arange(len(AXIS))
PUMP = 785.0
LENGTHS = 740 - 0.4 * PIXELS - 1e-5 * PIXELS**2  # nm, so that the shift grows with the pixel
SHIFTS = 1e7 / LENGTHS - 1e7 / PUMP
SENSOR = np.linspace(600, 740, 2 * len(AXIS))  # nm, of all its pixels, where a region has half of them
BY_PIXEL = np.polynomial.Polynomial([740, -0.4, -1e-5])  # of the pixel from 0
FROM_1 = BY_PIXEL(np.polynomial.Polynomial([-1, 1])).coef.tolist()  # of the pixel from 1
SPATIAL = [{"name": "y", "size": 3, "scale": 0.5, "offset": 0, "units": "um"},
           {"name": "x", "size": 4, "scale": 250, "offset": 0, "units": "nm"}]  # fmt: skip

BACK = [SPATIAL[0] | {"scale": -0.5}, SPATIAL[1]]


def uniform(unit: str = "1/cm", **more: Any) -> dict[str, Any]:
    step = AXIS[1] - AXIS[0]
    return {"name": "shift", "size": len(AXIS), "scale": step, "offset": AXIS[0], "units": unit,
            "_type": "UniformDataAxis"} | more  # fmt: skip


def listed(axis: Any, unit: str = "cm$^{-1}$") -> dict[str, Any]:
    return {"name": "shift", "size": len(axis), "axis": np.asarray(axis), "units": unit, "_type": "DataAxis"}


def hspy(*axes: dict[str, Any], data: Any = CUBE) -> Callable[[Path], Path]:
    pytest.importorskip("rsciio")
    return lambda path: foreign.hspy(path, data, [*SPATIAL, *axes])


MAP = {"scan": (3, 4), "step_um": (0.5, 0.25)}
PARTS = ({"detector": 2 * len(AXIS)}, {"detector": 2 * len(AXIS), "bins": 2})  # of an Andor detector
UNITS = ("1/centimeter", "1/centimetres", "/cm", "inverse cm", "invcm", "per cm")
READ: list[tuple[str, Callable[[Path], Path | None], Any, dict[str, Any], dict[str, Any]]] = [
    ("a.nxs", lambda path: changed(plain, entry_called("raw"))(path), AXIS, {}, {"scan": (3, 4)}),
    ("a.nxs", lambda path: changed(plain, entry_called("spectra"))(path), AXIS, {}, {"scan": (3, 4)}),
    ("a.nxs", lambda path: changed(plain, shown_as_far_as_its_entry)(path), AXIS + 100, {}, {}),
    ("a.nxs", lambda path: changed(plain, empty_entry_shown)(path), AXIS, {}, {"scan": (3, 4)}),
    ("a.nxs", lambda path: changed(plain, shift_called_x)(path), AXIS, {}, {"scan": (3, 4)}),
    ("a.hspy", lambda path: foreign.hspy(path, CUBE, [*SPATIAL, uniform()]), AXIS, {}, MAP),
    (
        "a.hspy",
        lambda path: foreign.hspy(path, CUBE, [*SPATIAL, listed(AXIS**1.1)]),
        AXIS**1.1,
        {},
        MAP,
    ),
    (
        "a.nxs",
        lambda path: foreign.nexus(path, CUBE, AXIS, "1/cm"),
        AXIS,
        {},
        {"scan": (3, 4), "step_um": (0.5, 0.5)},
    ),
    (
        "a.h5",
        lambda path: foreign.nexus(path, CUBE[0], LENGTHS, "nm"),
        SHIFTS,
        {"pump_nm": PUMP},
        {"scan": None},
    ),
    (
        "a.h5",
        lambda path: foreign.nexus(path, CUBE[..., ::-1], AXIS[::-1], "cm-1"),
        AXIS,
        {},
        {"scan": (3, 4)},
    ),
    *(
        ("a.nxs", lambda path, unit=unit: foreign.nexus(path, CUBE, AXIS, unit), AXIS, {}, {"scan": (3, 4)})
        for unit in ("cm^-1", "cm^{-1}", "$cm^{-1}$", "cm**-1")
    ),
    ("a.h5", lambda path: changed(plain, once)(path), AXIS, {}, {"scan": (3, 4)}),
    ("a.h5", lambda path: foreign.nexus(path, CUBE, LENGTHS / 1000, "um"), SHIFTS, {"pump_nm": PUMP}, {}),
    ("a.h5", lambda path: foreign.crikit(path, CUBE, [-1e-5, -0.4, 738], PUMP), SHIFTS, {}, MAP),
    ("a.spe", lambda path: foreign.spe2(path, LINES, FROM_1, 2), SHIFTS, {"pump_nm": PUMP}, {}),
    ("a.spe", lambda path: foreign.spe2(path, LINES, [AXIS[0] - 4, 4, 0], 3), AXIS[0] + 4 * PIXELS, {}, {}),
    (
        "a.spe",
        lambda path: foreign.spe3(path, CUBE, LENGTHS),
        SHIFTS,
        {"pump_nm": PUMP},
        {"exposure_s": 0.02},
    ),
    (
        "a.sif",
        lambda path: foreign.sif(path, LINES, FROM_1),
        SHIFTS,
        {"pump_nm": PUMP},
        {"exposure_s": 0.0125, "instrument": {"camera": "DU420"}},
    ),
    ("a.spe", lambda path: foreign.spe3(path, CUBE, SENSOR), AXIS, {"axis": "axis.txt"}, {}),
    *(
        (
            "a.sif",
            lambda path, part=part: foreign.sif(path, LINES, FROM_1, **part),
            AXIS,
            {"axis": "axis.txt"},
            {},
        )
        for part in PARTS
    ),
    ("a.wdf", lambda path: foreign.wdf(path, CUBE, AXIS), AXIS, {}, {"scan": (3, 4), "step_um": (0.25, 0.5)}),
    ("a.txt", lambda path: foreign.wire(path, CUBE, AXIS), AXIS, {}, {"scan": (3, 4)}),
    ("a.npy", lambda path: np.save(path, CUBE), AXIS, {"axis": "axis.txt"}, {"scan": (3, 4)}),
]


@pytest.mark.parametrize(("name", "write", "axis", "asked", "known"), READ)
def test_files_of_other_programs_are_read(
    name: str,
    write: Callable[[Path], Path],
    axis: Any,
    asked: dict[str, Any],
    known: dict[str, Any],
    tmp_path: Path,
) -> None:
    """Counts, axis in cm-1 that grows, scan and steps; also in pieces that begin within a line of the map."""
    if name.endswith((".hspy", ".wdf")):
        pytest.importorskip("rsciio")
    if name.endswith(".sif"):
        pytest.importorskip("sif_parser")
    np.savetxt(tmp_path / "axis.txt", AXIS)
    asked = {key: tmp_path / value if key == "axis" else value for key, value in asked.items()}
    write(tmp_path / name)
    found = read_spectra(tmp_path / name, **asked)
    assert (
        np.allclose(found.raman_shift, axis, rtol=0, atol=2e-4)
        and found.raman_shift[0] < found.raman_shift[-1]
    )
    expected = CUBE[0] if found.scan is None and len(found.counts) == 4 else CUBE.reshape(12, -1)
    assert np.array_equal(found.counts, expected)
    for key, value in known.items():
        assert getattr(found, key) == (value if key in ("scan", "instrument") else pytest.approx(value)), key
    with open_spectra(tmp_path / name, **asked) as spectra:
        assert np.array_equal(spectra.counts[1:3], expected[1:3])
        assert isinstance(spectra.counts, np.ndarray) == name.endswith((".npy", ".txt", ".wdf"))


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.nxs", lambda path: plain(path), ""),
        ("a.nxs", lambda path: changed(plain, along_x)(path), "rows go along y and columns along x"),
        (
            "a.nxs",
            lambda path: changed(plain, backwards)(path),
            "y falls from row to row and x falls from column to column",
        ),
        ("a.hspy", lambda path: foreign.hspy(path, CUBE, [*BACK, uniform()]), "y falls from row to row"),
        ("a.wdf", lambda path: foreign.wdf(path, CUBE, AXIS, -0.25), "Y falls from row to row"),
    ],
)
def test_a_map_that_lies_otherwise_than_its_axes_is_said_to(
    name: str,
    write: Callable[[Path], Any],
    said: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once, although the file is opened for each piece."""
    if not name.endswith(".nxs"):
        pytest.importorskip("rsciio")
    write(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (Path(name), tmp_path / name):
        assert read_spectra(path).scan == (3, 4)
    expected = [f"{tmp_path / name}: its map is taken as it lies in the file, where {said}"] if said else []
    assert [record.getMessage() for record in caplog.records] == expected


@pytest.mark.parametrize("unit", UNITS)
def test_every_way_to_write_a_wavenumber_is_one(unit: str, tmp_path: Path) -> None:
    found = read_spectra(foreign.nexus(tmp_path / "a.nxs", CUBE, AXIS, unit))
    assert np.array_equal(found.raman_shift, AXIS)


@pytest.mark.parametrize("name", ["counts", "raw", "spectra"])
def test_a_short_way_to_the_spectra_of_an_nxdata_is_in_no_ones_way(name: str, tmp_path: Path) -> None:
    path = foreign.nexus(tmp_path / "a.nxs", CUBE, AXIS, "1/cm")
    there = "/scan/instrument/camera/counts"
    for link in (lambda file: h5py.SoftLink(there), lambda file: file[there]):
        with h5py.File(path, "r+") as file:
            file.pop(name, None)
            file[name] = link(file)
        assert np.array_equal(read_spectra(path).counts, CUBE.reshape(12, -1))


def test_every_filter_of_the_plug_in_is_known(tmp_path: Path) -> None:
    """Also where nothing else in the process has asked for it."""
    plugin = pytest.importorskip("hdf5plugin")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raman_shift"] = AXIS
        file.create_dataset("spectra", data=CUBE.reshape(12, -1), **plugin.Blosc())
    read = (
        "from pathlib import Path; from cars_rt.files.formats import read_spectra; read_spectra(Path('a.h5'))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", read], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("shape", "chunks", "together"),
    [((600,), (600, 8), 600), ((6, 100), (2, 100, 8), 200), ((600,), None, 0)],
)
def test_chunks_of_more_spectra_than_are_wanted_are_unpacked_once(
    shape: tuple[int, ...],
    chunks: tuple[int, ...] | None,
    together: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They were unpacked again for every few spectra, which took 20 times as long. Chunks that are small
    beside a piece are read with it: to look for each in the file takes longer than to unpack it twice."""
    monkeypatch.setattr(hdf5, "LEAST_CACHE_BYTES", 1)
    rows = spectra_of(600)
    path = foreign.nexus(tmp_path / "a.nxs", rows.reshape(*shape, -1), AXIS, "1/cm")
    if chunks:
        with h5py.File(path, "r+") as file:
            camera = file["scan/instrument/camera"]
            values = camera.pop("counts")[()]
            camera.create_dataset("counts", data=values, chunks=chunks, compression="gzip")
    with open_spectra(path) as spectra:
        assert np.array_equal(spectra.counts[70:430], rows[70:430])
    with hdf5.opened(path) as file:
        cache = hdf5.followed(file, "scan/data/counts").id.get_access_plist().get_chunk_cache()
        assert not chunks or cache[1] == together * rows[0].nbytes
    whole, searches, search = cars_rt.open(path).counts, [], mapped.open_spectra
    monkeypatch.setattr(mapped, "open_spectra", lambda *given: searches.append(given) or search(*given))
    assert np.array_equal(whole.values.reshape(600, -1), rows) and len(searches) == 1
    monkeypatch.setattr(dataset, "CUT_BYTES", 1)
    found = cars_rt.open(path).counts.values
    assert np.array_equal(found.reshape(600, -1), rows)
    found = cars_rt.open(path).counts.data
    assert np.array_equal(found[0].compute(), rows.reshape(*shape, -1)[0])
    if together:
        path.unlink()  # what lies beside it is here already
        assert np.array_equal(found[1].compute(), rows.reshape(*shape, -1)[1])


@pytest.mark.parametrize("shape", [(1, 6000), (1, 2, 3000), (2, 3, 1000)])
def test_what_is_read_of_a_cube_does_not_grow_with_its_lines(shape: tuple[int, ...], tmp_path: Path) -> None:
    cube = spectra_of(6000)
    foreign.crikit(tmp_path / "a.h5", cube.reshape(*shape, -1), [1e-5, 0.4, 738], PUMP)
    with open_spectra(tmp_path / "a.h5") as spectra:
        for first, last in ((0, 0), (0, 10), (2995, 3005), (990, 3010), (5999, 6000)):
            found, peak = measured_memory(lambda part=slice(first, last): spectra.counts[part])
            assert np.array_equal(found, cube[first:last, ::-1])
            assert peak < 3 * found.nbytes + 50_000
        assert np.array_equal(spectra.counts[:], cube[:, ::-1])


def measured_memory(function: Callable[[], Any]) -> tuple[Any, int]:
    """What it returns, and the most bytes that it had at once."""
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_was_exported_as_raman_is_not_taken_for_counts(tmp_path: Path) -> None:
    pytest.importorskip("rsciio")
    np.savez(tmp_path / "a.npz", spectra=CUBE, raman_shift=AXIS)
    process(tmp_path / "a.npz", tmp_path / "a.h5", engine=REFERENCE)
    for kind, name in (("hspy", "b.hspy"), ("crikit", "b.h5")):
        export(tmp_path / "a.h5", tmp_path / name, kind, Wanted())
        with pytest.raises(SpectraError, match=r"holds '(raman|Im.*)', which is no counts, by its name"):
            read_spectra(tmp_path / name)


def test_a_foreign_file_becomes_a_recording_with_its_scan(tmp_path: Path) -> None:
    foreign.nexus(tmp_path / "a.nxs", CUBE[..., ::-1], AXIS[::-1], "1/cm", title="liver")
    before = (tmp_path / "a.nxs").read_bytes()
    process(tmp_path / "a.nxs", tmp_path / "out.h5", engine=REFERENCE)
    np.savez(tmp_path / "b.npz", spectra=CUBE, raman_shift=AXIS)
    process(tmp_path / "b.npz", tmp_path / "b.h5", engine=REFERENCE)
    with h5py.File(tmp_path / "out.h5") as file, h5py.File(tmp_path / "b.h5") as other:
        assert np.array_equal(read_rows(file["raman"], "raman"), read_rows(other["raman"], "raman"))
        assert tuple(file["raman"].attrs["scan"]) == (3, 4) and file.attrs["notes"] == "liver"
        axis = file["process"].attrs["axis"]
        assert "turned round" in axis and "/scan/data/shift" in axis
    assert (tmp_path / "a.nxs").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "package", "write"),
    [
        ("a.hspy", "rsciio", lambda path: foreign.hspy(path, CUBE, [*SPATIAL, uniform()])),
        ("a.nxs", "h5py", lambda path: foreign.nexus(path, CUBE, AXIS, "1/cm", title="cover glass")),
        ("a.sif", "sif_parser", lambda path: foreign.sif(path, LINES, FROM_1)),
    ],
)
def test_neither_a_title_nor_a_camera_is_taken_for_the_instrument(
    name: str, package: str, write: Callable[[Path], Path], tmp_path: Path
) -> None:
    """The daemon would take a reference for another instrument's, and leave it out."""
    pytest.importorskip(package)
    write(tmp_path / name)
    assert read_reference(tmp_path / name, PUMP if name == "a.sif" else None).instrument is None


def changed(write: Callable[[Path], Any], change: Callable[[h5py.File], Any]) -> Callable[[Path], Any]:
    def written(path: Path) -> None:
        write(path)
        with h5py.File(path, "r+") as file:
            change(file)

    return written


def plain(path: Path) -> Path:
    return foreign.nexus(path, CUBE, AXIS, "1/cm")


def replaced(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


def called(name: str) -> Callable[[h5py.File], None]:
    """The signal by another name."""

    def change(file: h5py.File) -> None:
        file.move("scan/data/counts", f"scan/data/{name}")
        file["scan/data"].attrs["signal"] = name

    return change


def moved(file: h5py.File) -> None:
    file.move("BCARSImage/scan_1", "BCARSImage/raman")


def ours(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["spectra"], file["raman_shift"] = CUBE.reshape(12, -1), AXIS


def entry_called(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        link = file["scan/data"].get("counts", getlink=True).path
        del file["scan/data/counts"]
        file.move("scan", name)
        file[f"{name}/data/counts"] = h5py.SoftLink(link.replace("/scan/", f"/{name}/"))
        file.attrs["default"] = name

    return change


def shown_as_far_as_its_entry(file: h5py.File) -> None:
    """Of two entries with spectra."""
    twice(file)
    file["again/data/shift"][...] += 100
    file["again"].attrs["default"] = "nothing"
    file.attrs["default"] = "again"


def empty_entry_shown(file: h5py.File) -> None:
    file.attrs["default"] = "a first one"


def shift_called_x(file: h5py.File) -> None:
    del file["scan/data/x"]
    file.move("scan/data/shift", "scan/data/x")
    file["scan/data"].attrs["axes"] = ["y", ".", "x"]


def along_x(file: h5py.File) -> None:
    for name, other in (("x", "sample_y"), ("y", "sample_x")):
        file.move(f"scan/data/{name}", f"scan/data/{other}")
    file["scan/data"].attrs["axes"] = ["sample_x", "sample_y", "shift"]


def backwards(file: h5py.File) -> None:
    for name in ("x", "y"):
        file["scan/data"][name][...] *= -1


def virtual(file: h5py.File) -> None:
    """Over a dataset of the same file."""
    place = file["scan/instrument/camera"]
    place.move("counts", "lines")
    layout = h5py.VirtualLayout(place["lines"].shape, "u2")
    layout[...] = h5py.VirtualSource(place["lines"])
    place.create_virtual_dataset("counts", layout)


def twice(file: h5py.File) -> None:
    """Two sets of spectra, of which neither is shown."""
    del file.attrs["default"]
    file.copy("scan", "again", expand_soft=True)


def once(file: h5py.File) -> None:
    """One set of spectra behind an image, of which neither is shown, and with attributes of its own."""
    file.attrs.update({"format": [1, 2], "version": "three"})
    del file.attrs["default"]
    image = file.create_group("a first one/image")
    image.attrs.update({"NX_class": "NXdata", "signal": "pixels", "axes": ["y", "x"]})
    image["pixels"] = np.zeros((3, 4))


def outside(file: h5py.File) -> None:
    del file["scan/instrument/camera/counts"]
    file["scan/instrument/camera"].create_dataset(
        "counts", (9, 9, len(AXIS)), "u2", external=[("/etc/passwd", 0, 2**20)]
    )


def huge(file: h5py.File) -> None:
    del file["scan/instrument/camera/counts"]
    file["scan/instrument/camera"].create_dataset(
        "counts", (2**20, 2**20, len(AXIS)), "u2", chunks=(1, 8, len(AXIS))
    )


def cut(write: Callable[[Path], Any], keep: int) -> Callable[[Path], None]:
    def written(path: Path) -> None:
        write(path)
        path.write_bytes(path.read_bytes()[:keep])

    return written


def header(offset: int, kind: str, value: Any) -> Callable[[Path], None]:
    def written(path: Path) -> None:
        foreign.spe2(path, LINES, FROM_1, 2)
        content = bytearray(path.read_bytes())
        struct.pack_into(kind, content, offset, value)
        path.write_bytes(content)

    return written


REFUSED: list[tuple[str, Callable[[Path], Any], dict[str, Any], str]] = [
    (
        "a.nxs",
        lambda path: foreign.nexus(path, CUBE, LENGTHS, "nm"),
        {},
        "its axis in nm .*: give .*--pump-nm 785",
    ),
    (
        "a.nxs",
        lambda path: foreign.nexus(path, CUBE, LENGTHS / 1000, "um"),
        {},
        "an axis in um .*: if those are wavelengths, give .*--pump-nm 785; if places, --axis FILE",
    ),
    (
        "a.nxs",
        changed(plain, twice),
        {},
        "holds 2 NXdata with spectra, /again/data, /scan/data, and its attribute 'default' shows none",
    ),
    (
        "a.nxs",
        changed(plain, lambda file: file["scan/data"].create_dataset("scaling_factor", data=2.0)),
        {},
        "scan/data/scaling_factor, by which its values",
    ),
    *(
        (
            "a.nxs",
            changed(plain, lambda file, name=name: file["scan/data"].create_dataset(name, data=2.0)),
            {},
            f"scan/data/{name}, by which its values are converted; write them so",
        )
        for name in ("counts_offset", "shift_scaling_factor", "shift_offset")
    ),
    ("a.nxs", changed(plain, called("raman")), {}, "holds 'raman', which is no counts, by its name"),
    (
        "a.nxs",
        changed(plain, called("log_counts")),
        {},
        "holds 'log_counts', which is no counts, by its name",
    ),
    ("a.nxs", changed(plain, called("transmittance")), {}, "holds 'transmittance', which is no counts"),
    (
        "a.h5",
        changed(lambda path: foreign.crikit(path, CUBE, [-0.4, 740], PUMP), moved),
        {},
        "holds 'raman', which is no counts, by its name; the counts are needed",
    ),
    (
        "a.h5",
        changed(ours, lambda file: file["raman_shift"].attrs.update(Units="meV")),
        {},
        "has its raman_shift in 'meV'; write it in cm-1",
    ),
    ("a.nxs", plain, {"pump_nm": 785.0}, "its axis in cm-1 already .*; leave --pump-nm out"),
    ("a.nxs", plain, {"axis": "axis.txt"}, "an axis of its own .*; leave --axis out"),
    ("a.nxs", lambda path: foreign.nexus(path, CUBE, AXIS, "eV"), {}, "an axis in 'eV' .*, which is neither"),
    ("a.nxs", lambda path: foreign.nexus(path, CUBE, AXIS, ""), {}, "does not say the unit of its axis"),
    (
        "a.nxs",
        lambda path: foreign.nexus(path, CUBE, AXIS, "1/cm", shift=None),
        {},
        "has no axis .*; give --axis FILE",
    ),
    (
        "a.nxs",
        lambda path: foreign.nexus(path, CUBE, AXIS, "1/cm", signal="none"),
        {},
        "an NXdata without a signal",
    ),
    (
        "a.nxs",
        lambda path: foreign.nexus(path, CUBE, AXIS, "1/cm", axes=["shift", "y", "x"], shift_indices=0),
        {},
        "has no axis",
    ),
    ("a.nxs", lambda path: h5py.File(path, "w").close(), {}, "holds neither raw/counts nor spectra"),
    (
        "a.nxs",
        changed(plain, replaced("scan/data/counts", h5py.ExternalLink("/etc/passwd", "/x"))),
        {},
        "as a link to elsewhere",
    ),
    (
        "a.nxs",
        changed(plain, replaced("scan/data/counts", h5py.SoftLink("/scan/data/counts"))),
        {},
        "as a link to elsewhere",
    ),
    ("a.nxs", changed(plain, outside), {}, "in other files, which are not read"),
    ("a.nxs", changed(plain, virtual), {}, r"in other datasets \(it is virtual\), which are not read; copy"),
    ("a.nxs", changed(plain, huge), {}, "holds none of them|as nothing that was measured does"),
    ("a.nxs", cut(plain, 900), {}, "cannot be read: it is cut short"),
    ("a.spe", lambda path: foreign.spe2(path, LINES, [], 2), {}, "has no axis .*; give --axis FILE"),
    ("a.spe", header(1446, "<i", 2**30), {}, "is cut short: it announces"),
    ("a.spe", header(108, "<h", 99), {}, "is no .spe file: it announces 12 frames"),
    ("a.spe", lambda path: path.write_bytes(b"short"), {}, "is no .spe file: it has no whole header"),
    (
        "a.spe",
        cut(lambda path: foreign.spe3(path, CUBE, LENGTHS), -30),
        {"pump_nm": 785.0},
        "a footer that is no XML",
    ),
    (
        "a.spe",
        lambda path: foreign.spe3(path, CUBE, SENSOR),
        {"pump_nm": 785.0},
        r"has no axis \(its WavelengthMapping is of 320 pixels, and the spectra have 160\); give --axis",
    ),
    ("a.sif", lambda path: path.write_bytes(b"Andor of a kind"), {}, "is no .sif file"),
    (
        "a.sif",
        cut(lambda path: foreign.sif(path, LINES, FROM_1), -400),
        {"pump_nm": 785.0},
        "is no .sif file",
    ),
    *(
        (
            "a.sif",
            lambda path, part=part: foreign.sif(path, LINES, FROM_1, **part),
            {"pump_nm": 785.0},
            r"has no axis \(its Calibration_data may be of each of the detector's 320 pixels, .*give --axis",
        )
        for part in PARTS
    ),
    ("a.wdf", lambda path: path.write_bytes(b"WDF1" + bytes(600)), {}, "blocks do not follow"),
    ("a.npy", lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), {"axis": "axis.txt"}, "is no .npy file"),
]


@pytest.mark.parametrize(("name", "write", "asked", "reason"), REFUSED)
def test_what_cannot_be_read_is_said_in_one_sentence(
    name: str, write: Callable[[Path], Any], asked: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    if name.endswith(".wdf"):
        pytest.importorskip("rsciio")
    if name.endswith(".sif"):
        pytest.importorskip("sif_parser")
    np.savetxt(tmp_path / "axis.txt", AXIS)
    write(tmp_path / name)
    given = {key: tmp_path / value if key == "axis" else value for key, value in asked.items()}
    with pytest.raises(SpectraError, match=reason) as raised:
        read_spectra(tmp_path / name, **given)
    assert str(tmp_path / name) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "write", "package"),
    [
        ("a.wdf", lambda path: foreign.wdf(path, CUBE, AXIS), "rsciio.renishaw"),
        ("a.sif", lambda path: foreign.sif(path, LINES, FROM_1), "sif_parser"),
    ],
)
def test_a_package_that_is_missing_is_named(
    name: str, write: Callable[[Path], Any], package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SpectraError, match=r"needs \w+ to be read: .*install"):
        read_spectra(tmp_path / name)


def test_a_recording_of_a_version_to_come_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs.update({"format": "cars-rt recording", "version": 99})
        file["raw/counts"], file["raw/raman_shift"] = CUBE.reshape(12, -1), AXIS
    with pytest.raises(SpectraError, match="is of version 99, and this program reads up to 2: update it"):
        read_spectra(tmp_path / "a.h5")


def test_hspy_that_leaves_open_what_is_meant_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("rsciio")
    for axes, reason in (
        ([*SPATIAL, uniform("", scale=1, offset=0)], "has no axis"),
        (
            [*SPATIAL[:1], uniform(), SPATIAL[1] | {"navigate": True}],
            "must have one signal axis, the last one",
        ),
        (
            [
                *SPATIAL,
                {key: value for key, value in listed(AXIS).items() if key != "axis"}
                | {"expression": "1e7 / x"},
            ],
            "an axis that is a function of another one; make it a list of numbers in HyperSpy",
        ),
    ):
        data = CUBE if axes[-1]["name"] == "shift" else CUBE.transpose(0, 2, 1)
        axes = [axis | {"navigate": axis["name"] != "shift"} for axis in axes]
        foreign.hspy(tmp_path / "a.hspy", data, axes)
        with pytest.raises(SpectraError, match=reason):
            read_spectra(tmp_path / "a.hspy")
