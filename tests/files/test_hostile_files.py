"""Files from elsewhere: nothing outside of them is read, nothing that they only announce; one sentence."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign
import h5py
import numpy as np
import pytest
from helpers import AXIS, Command, a_frame, a_start, an_end, spectra_of

from cars_rt import storage
from cars_rt.accounting import Ledger
from cars_rt.drivers import InstrumentError
from cars_rt.drivers.replay import Replay, ReplaySettings
from cars_rt.files import hdf5
from cars_rt.files.formats import open_spectra, read_spectra
from cars_rt.files.hdf5 import opened, stored
from cars_rt.files.offline import process
from cars_rt.files.recording import Recording, RecordingError, repair
from cars_rt.files.spectra import SpectraError
from cars_rt.files.verify import VerifyError, verify
from cars_rt.reference import read_reference
from cars_rt.storage import StorageError, refuse_no_table

COUNTS = spectra_of(4)
Fill = Callable[[h5py.Group, str, Path], None]


def external(group: h5py.Group, name: str, folder: Path) -> None:
    (folder / "secret.bin").write_bytes(b"SECRET" * 10_000)
    shape = {"raman_shift": AXIS.shape, "dark": AXIS.shape, "index": (4,)}.get(name, COUNTS.shape)
    group.create_dataset(
        name, shape, "u2", external=[(str(folder / "secret.bin"), 0, 2 * int(np.prod(shape)))]
    )


def linked(group: h5py.Group, name: str, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = COUNTS
    group[name] = h5py.ExternalLink(str(folder / "other.h5"), "/x")


def pipe(group: h5py.Group, name: str, folder: Path) -> None:
    if os.name == "nt":
        pytest.skip("pipes of Windows have no names in folders")
    os.mkfifo(folder / "pipe")
    group[name] = h5py.ExternalLink(str(folder / "pipe"), "/x")


def circle(group: h5py.Group, name: str, folder: Path) -> None:
    group[name] = h5py.SoftLink(f"{group.name}/{name}")


def virtual(group: h5py.Group, name: str, folder: Path) -> None:
    linked(group, "unused", folder)
    layout = h5py.VirtualLayout(COUNTS.shape, "u2")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", COUNTS.shape, "u2")
    group.create_virtual_dataset(name, layout)


def announced(group: h5py.Group, name: str, folder: Path) -> None:
    group.create_dataset(name, (2**40, len(AXIS)), "u2", chunks=(1, len(AXIS)))


def filled(group: h5py.Group, name: str, folder: Path) -> None:
    group.create_dataset(name, (2000, len(AXIS)), "u2", chunks=True, compression="gzip", fillvalue=1000)


def large_chunk(group: h5py.Group, name: str, folder: Path) -> None:
    shape = (1, len(AXIS))
    group.create_dataset(name, shape, "u2", maxshape=(None, None), chunks=(2**20, 1000), compression="gzip")


def texts(group: h5py.Group, name: str, folder: Path) -> None:
    group.create_dataset(name, (2, len(AXIS)), "S10")


def references(group: h5py.Group, name: str, folder: Path) -> None:
    group.create_dataset(name, (2, len(AXIS)), h5py.ref_dtype)


OUTSIDE = [external, linked, pipe, circle, virtual]
MORE = [announced, filled, large_chunk, texts, references]


def refused_by_all(path: Path, folder: Path) -> None:
    """Every program that opens a file of spectra says one sentence that names it."""
    said = []
    for program, error in (
        (lambda: read_spectra(path), SpectraError),
        (lambda: read_reference(path), SpectraError),
        (lambda: process(path, folder / "out.npz", engine="passthrough"), SpectraError),
        (lambda: Replay(path, ReplaySettings()), InstrumentError),
        (lambda: verify(path, path), VerifyError),
        (lambda: repair(path), RecordingError),
    ):
        if path.suffix == ".h5" or error in (SpectraError, InstrumentError):
            with pytest.raises(error) as refused:  # type: ignore[call-overload]
                program()
            said.append(str(refused.value))
    assert all("\n" not in text and str(path) in text and len(text) < 400 for text in said), said
    assert not (folder / "out.npz").exists()


@pytest.mark.parametrize("name", ["counts", "raman_shift", "dark", "index"])
@pytest.mark.parametrize("fill", OUTSIDE)
def test_nothing_outside_of_a_file_is_read(fill: Fill, name: str, tmp_path: Path) -> None:
    path = tmp_path / "from a colleague.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("raw")
        given = {"counts": COUNTS, "raman_shift": AXIS, "dark": AXIS * 0, "index": np.arange(4), "written": 4}
        for each, values in given.items():
            if each != name:
                group[each] = values
        fill(group, name, tmp_path)
    with pytest.raises(SpectraError, match=r"links are not followed|in other (files|datasets)"):
        read_spectra(path)
    refused_by_all(path, tmp_path)


@pytest.mark.parametrize("fill", MORE)
def test_what_is_announced_and_not_there_is_not_taken_for_spectra(fill: Fill, tmp_path: Path) -> None:
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file["raman_shift"] = AXIS
        fill(file, "spectra", tmp_path)
    with pytest.raises(SpectraError, match=r"holds none of them|holds no numbers|in chunks of more than"):
        read_spectra(path)
    refused_by_all(path, tmp_path)


def test_rows_of_which_few_are_written_are_read_piece_by_piece_and_not_at_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file["raman_shift"] = AXIS
        counts = file.create_dataset("spectra", (2**24, len(AXIS)), "u2", chunks=(200, len(AXIS)))
        counts[-1] = COUNTS[0]
    with open_spectra(tmp_path / "huge.h5") as spectra:
        assert np.array_equal(spectra.counts[2**24 - 2 : 2**24], [COUNTS[0] * 0, COUNTS[0]])
    with pytest.raises(SpectraError, match=r"as nothing that was measured does|too much at once"):
        read_spectra(tmp_path / "huge.h5")


def test_a_group_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["raw/counts"], file["raw/raman_shift"] = COUNTS, AXIS
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["raw"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/raw")
    refused_by_all(tmp_path / "link.h5", tmp_path)


@pytest.mark.parametrize("name", ["raw", "spectra", "entry", "Experiments"])
@pytest.mark.parametrize("fill", [linked, pipe, circle])
def test_a_file_with_nothing_but_a_link_is_not_waited_for(fill: Fill, name: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "link.h5", "w") as file:
        fill(file, name, tmp_path)
    refused_by_all(tmp_path / "link.h5", tmp_path)


def npz(path: Path, **parts: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in parts.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    about = {"descr": "<u2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize(
    ("spectra", "why"),
    [
        (header((500_000, 160)) + b"\0" * 160_000_000, "160.0 MB of 'spectra' in 0.7 MB"),
        (header((2**50, 160)), "GB of 'spectra' in"),
        (header((100, 160)), "is no .npz file, or a damaged one"),
        (npy(np.array([{"a": 1}], object)), "as Python objects, which are not read"),
        (b"not an array", "is no .npz file, or a damaged one"),
    ],
    ids=["bomb", "2**58", "cut", "pickle", "nonsense"],
)
def test_archives_are_judged_before_they_are_read(spectra: bytes, why: str, tmp_path: Path) -> None:
    path = npz(tmp_path / "odd.npz", raman_shift=npy(AXIS), spectra=spectra)
    with pytest.raises(SpectraError, match=why):
        read_spectra(path)
    refused_by_all(path, tmp_path)


def test_names_in_files_do_not_reach_the_terminal_as_they_are(tmp_path: Path) -> None:
    path = npz(tmp_path / "odd.npz", **{"\x1b]0;owned\x07\x1b[2J": npy(AXIS)})
    with pytest.raises(SpectraError) as refused:
        read_spectra(path)
    assert "\x1b" not in str(refused.value) and r"\x1b[2J" in str(refused.value)


def test_what_memory_does_not_hold_is_refused_or_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        file["raman_shift"], file["spectra"] = AXIS, spectra_of(100)
    monkeypatch.setattr(storage.memory, "memory_bytes", lambda: 50_000)
    with pytest.raises(SpectraError, match=r"too much at once for this computer's 50000 bytes of memory"):
        read_spectra(path)
    with opened(path) as file:
        rows = hdf5.StoredRows(stored(file, "spectra"))
        assert np.array_equal(rows[10:20], spectra_of(100)[10:20])


@pytest.mark.skipif(os.name == "nt", reason="needs devices and pipes of POSIX")
@pytest.mark.parametrize("suffix", [".csv", ".npz", ".h5"])
def test_what_is_no_file_is_not_opened(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    for name in ("zero", "pipe"):
        with pytest.raises(SpectraError, match="is no regular file"):
            read_spectra(tmp_path / f"{name}{suffix}")


def test_a_table_of_one_endless_line_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "line.csv"
    path.write_bytes(b"1 " * 5_000_000)
    with pytest.raises(SpectraError, match=r"has a line of more than 8\.389 MB"):
        read_spectra(path)
    (tmp_path / "fine.txt").write_bytes((b"x" * 99 + b"\n") * 50_000)
    refuse_no_table(tmp_path / "fine.txt", 10**7, 100, 50_000)
    with pytest.raises(StorageError, match="has a line of more than"):
        refuse_no_table(tmp_path / "fine.txt", 10**7, 98, 50_000)
    with pytest.raises(StorageError, match=r"has more than 49,999 lines"):
        refuse_no_table(tmp_path / "fine.txt", 10**7, 100, 49_999)
    with pytest.raises(StorageError, match=r"has 5 MB of text, and 1 are read: put the numbers into"):
        refuse_no_table(tmp_path / "fine.txt", 10**6, 100, 50_000)


@pytest.mark.parametrize(
    ("attr", "value"),
    [("lost", "[" * 100_000), ("ranges", "[[1]]"), ("lost", "{"), ("announced", 2**62), ("made_by", "{}")],
)
def test_receipts_from_elsewhere_cost_a_sentence(attr: str, value: Any, tmp_path: Path) -> None:
    recording = Recording(tmp_path / "scan.h5")
    for stream in ("raw", "raman"):
        recording.start(a_start(stream=stream, dtype="float32", model={"name": "passthrough"}))
        recording.append(a_frame(0, COUNTS, stream=stream, arrays={"counts": COUNTS, "raman": COUNTS}))
        recording.end(an_end(1, 4, stream=stream), Ledger())
    path = recording.close()
    with h5py.File(path, "r+") as file:
        for group in (file["raw"], file["raman"]):
            group.attrs[attr] = value if len(str(value)) < 60_000 else value[:60_000]
    if attr == "made_by":  # one by the command itself
        with Command("verify", path, "--engine", "passthrough") as program:
            assert program.end() in (1, 3) and "Traceback" not in program.said, program.said
    try:
        assert not all(finding.true for finding in verify(path, path, engine="passthrough"))
    except VerifyError as error:
        assert len(str(error).splitlines()) == 1


def finished(folder: Path) -> Path:
    recording = Recording(folder / "scan.h5")
    recording.start(a_start(dtype="uint16"))
    recording.append(a_frame(0, COUNTS))
    recording.end(an_end(1, 4), Ledger())
    return recording.close()


@pytest.mark.parametrize(
    ("place", "name", "value", "why"),
    [
        ("/", "version", 99, "is of version 99, and this program reads up to"),
        ("/", "version", "two", "does not say of which version it is"),
        ("/", "streams", "{{{", "what it says of itself is damaged"),
        ("raw", "announced", "many", "what it says of itself is damaged"),
        (
            "raw",
            "written",
            -5,
            "is damaged and left as it is: the raw stream in it cannot be read: .*how many rows",
        ),
    ],
)
def test_a_recording_that_says_nonsense_of_itself_is_not_repaired(
    place: str, name: str, value: Any, why: str, tmp_path: Path
) -> None:
    """Nothing in it is cut or written anew; a negative number of rows would cost all of them."""
    path = finished(tmp_path)
    with h5py.File(path, "r+") as file:
        if name in file[place]:
            file[place][name][()] = value
            del file.attrs["described"]  # one that was cut to its rows has those that are there
        else:
            file[place].attrs[name] = value
    before = path.read_bytes()
    with pytest.raises(RecordingError, match=why):
        repair(path)
    assert path.read_bytes() == before
    if name == "version":
        for program in (lambda: verify(path, path), lambda: read_spectra(path)):
            with pytest.raises((VerifyError, SpectraError), match=why):
                program()
    with h5py.File(path) as file:
        assert np.array_equal(file["raw/counts"], COUNTS)


def test_a_recording_whose_spectra_are_words_is_not_called_complete(tmp_path: Path) -> None:
    path = finished(tmp_path)
    with h5py.File(path, "r+") as file:
        about = dict(file["raw/counts"].attrs)
        del file["raw/counts"]
        file["raw"].create_dataset("counts", data=np.full(COUNTS.shape, b"many"), maxshape=(None, None))
        file["raw/counts"].attrs.update(about)
    before = path.read_bytes()
    with pytest.raises(
        RecordingError, match=r"left as it is: the raw stream .* its counts are no numbers but"
    ):
        repair(path)
    assert path.read_bytes() == before


def test_an_axis_can_be_given_to_spectra_without_one(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "axis.txt", AXIS[::-1])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spectra"] = COUNTS
    np.savez(tmp_path / "a.npz", spectra=COUNTS)
    for name in ("a.h5", "a.npz"):
        with pytest.raises(SpectraError, match=r"has no axis \(no raman_shift.*give --axis FILE"):
            read_spectra(tmp_path / name)
        found = read_spectra(tmp_path / name, axis=tmp_path / "axis.txt")
        assert np.allclose(found.raman_shift, AXIS[::-1]) and np.array_equal(found.counts, COUNTS)


def nothing(file: h5py.File) -> None:
    del file["scan/data/shift"]
    file["scan/data/shift"] = h5py.Empty("f8")


def shorter(file: h5py.File) -> None:
    del file["scan/data/shift"]
    file["scan/data/shift"] = AXIS[:100]
    file["scan/data/shift"].attrs["units"] = "1/cm"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (shorter, "an axis of 100 points .*/shift.* for spectra of 160 pixels"),
        (nothing, "has no axis"),
        (lambda file: file["scan/data"].attrs.update(axes=np.bytes_(b"\xff\xfe")), "has no axis|has an axis"),
        (lambda file: file["scan/data"].attrs.update(shift_indices="abc"), None),
    ],
)
def test_an_nxdata_that_says_nonsense_of_its_axis_costs_a_sentence(
    change: Callable[[h5py.File], None], why: str | None, tmp_path: Path
) -> None:
    foreign.nexus(tmp_path / "a.nxs", spectra_of(12).reshape(3, 4, -1), AXIS, "1/cm")
    with h5py.File(tmp_path / "a.nxs", "r+") as file:
        change(file)
    if why is None:
        assert len(read_spectra(tmp_path / "a.nxs").counts) == 12
        return
    with pytest.raises(SpectraError, match=why) as refused:
        read_spectra(tmp_path / "a.nxs")
    assert "codec" not in str(refused.value) and "argument" not in str(refused.value)
