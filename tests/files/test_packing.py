"""Compressed recordings: the same numbers, while they grow, after a kill, and without the plug-in."""

import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import AXIS, Command, a_frame, a_start, an_end
from numpy.typing import NDArray
from scripts.kill_recordings import MET, kill_writer

import cars_rt
from cars_rt.accounting import Ledger
from cars_rt.files.filters import load_filters
from cars_rt.files.formats import open_spectra
from cars_rt.files.hdf5 import opened
from cars_rt.files.offline import process
from cars_rt.files.recording import Compression, Packing, Recording, RecordingError, repair, rows
from cars_rt.files.verify import VerifyError, verify
from cars_rt.files.written import read_rows, stored_rows
from cars_rt.storage import StorageError
from files.test_dataset import COUNTS, LOST, RAMAN, SCAN, ended, holed, recorded

pytest.importorskip("xarray", reason="needs the extra files")
needs_plugin = pytest.mark.skipif(not load_filters(), reason="hdf5plugin is not installed")
KINDS = ["none", "gzip", pytest.param("lz4", marks=needs_plugin)]
CHUNK = 8  # rows of the counts in one chunk; 4 of the results


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK_BYTES", CHUNK * len(AXIS) * 2)


def added(recording: Any, first: int, last: int) -> None:
    """Some more spectra of the run."""
    for index in range(first, last):
        recording.append(a_frame(index, COUNTS[index : index + 1], time_ns=index + 1))
        if index not in LOST:
            raman = RAMAN[index : index + 1]
            arrays = {"raman": raman, "flags": np.array([index % 4], np.uint8), "deviation": raman / 10}
            recording.append(
                a_frame(index, raman, stream="raman", index=index, arrays=arrays, time_ns=index + 1)
            )


def shows(path: Path, spectra: int) -> None:
    """Every way to read the file finds so many spectra, each the right one."""
    with cars_rt.open(path) as found:
        for name, values in (("counts", holed(COUNTS, spectra, [])), ("raman", holed(RAMAN, spectra))):
            assert np.array_equal(found[name].values.reshape(values.shape), values, equal_nan=True), name
    with open_spectra(path) as spectra_:
        assert np.array_equal(spectra_.counts[:], COUNTS[:spectra]) and len(spectra_.counts) == spectra
        assert np.array_equal(spectra_.counts[spectra // 2 : spectra], COUNTS[spectra // 2 : spectra])
    with opened(path, locking=False) as file:
        index = read_rows(file["raman"], "index")
        assert np.array_equal(read_rows(file["raman"], "raman"), RAMAN[index]) and len(index) <= spectra


@pytest.mark.parametrize("compression", KINDS)
def test_every_flushed_spectrum_is_there_whenever_the_recorder_is_killed(
    compression: Compression, tmp_path: Path
) -> None:
    """Flushed after 1, 4, 9, 16 ... spectra; what is on disk at that moment is what a kill leaves."""
    recording = recorded(tmp_path / "scan.h5", spectra=0, packing=Packing(compression))
    done = 0
    for spectra in (1, 4, 9, 10, 11, 12, 13, 25, 34):
        added(recording, done, spectra)
        recording.flush()
        done = spectra
        left = shutil.copy(recording.partial, tmp_path / f"{spectra}.partial.h5")
        for path in (recording.partial, left):
            shows(path, spectra)
        contents = repair(left)
        assert contents.rows["raw"] == spectra and not contents.complete
        shows(contents.path, spectra)
    added(recording, done, 35)
    path = ended(recording)
    shows(path, 35)
    with h5py.File(path) as file:
        assert file["raw/counts"].shape == COUNTS.shape and "tail" not in file["raw"]
        assert np.array_equal(file["entry/data/raman"], holed(RAMAN).reshape(*SCAN, -1), equal_nan=True)
        assert file["raw/index"].compression is None and file["raw/counts"].chunks == (CHUNK, len(AXIS))
        filters = file["raw/counts"].id.get_create_plist().get_nfilters()
        assert filters == {"none": 0, "gzip": 2, "lz4": 2}[compression]
        assert file.attrs["compression"] == compression
    receipts = [each for each in verify(path, path, engine="passthrough") if "in the file" in each.text]
    assert len(receipts) == 2 and receipts[0].true


def test_what_nobody_vouched_for_is_not_data_before_a_repair_has_looked_at_it(tmp_path: Path) -> None:
    """Killed between writing and flushing: chunks that are there already do not count, and spoil nothing."""
    recording = recorded(tmp_path / "scan.h5", spectra=0, packing=Packing("gzip"))
    added(recording, 0, 11)
    recording.flush()
    added(recording, 11, 30)  # whole chunks of these are written at once, the last rows wait in memory
    left = shutil.copy(recording.partial, tmp_path / "left.partial.h5")
    shows(left, 11)
    contents = repair(left)
    with opened(contents.path) as file:
        assert np.array_equal(read_rows(file["raw"], "counts"), COUNTS[: contents.rows["raw"]])
        assert np.array_equal(read_rows(file["raman"], "raman"), RAMAN[read_rows(file["raman"], "index")])
    assert 11 <= contents.rows["raw"] <= 30 and contents.damage == ""
    recording.fail()


def test_results_are_rounded_only_when_asked_for_and_the_file_says_so(tmp_path: Path) -> None:
    path = ended(recorded(tmp_path / "scan.h5", packing=Packing("gzip", 12)))
    with h5py.File(path) as file:
        raman, counts = file["raman/raman"], file["raw/counts"]
        assert raman.attrs["mantissa_bits"] == file.attrs["mantissa_bits"] == 12
        assert "mantissa_bits" not in counts.attrs and np.array_equal(counts, COUNTS)
        exact = RAMAN[file["raman/index"][()]]
        assert 0 < np.abs(raman[()] / exact - 1).max() <= 2.0**-13
        assert not (raman[()].view(np.uint32) & 0x7FF).any()
    odd = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1, 3.4e38], np.float32)
    assert np.array_equal(Packing("none", 12).rounded(odd)[:6], odd[:6], equal_nan=True)
    for bits in (0, 23):
        with pytest.raises(RecordingError, match=f"{bits} cannot be kept: say 1 to 22"):
            Packing("none", bits)


@needs_plugin
def test_without_the_plugin_it_is_said_what_to_install_and_recording_goes_on(tmp_path: Path) -> None:
    path = ended(recorded(tmp_path / "scan.h5", packing=Packing("lz4")))
    left = recorded(tmp_path / "left.h5", packing=Packing("lz4"))
    left.flush()
    left.fail()
    program = f"""
import logging, pathlib, sys
sys.modules["hdf5plugin"] = None  # as where it is not installed
logging.basicConfig(format="%(message)s")
import cars_rt, cars_rt.errors
from cars_rt.files.recording import Packing, repair
print(Packing("lz4").usable().compression)
path, left = pathlib.Path({str(path)!r}), pathlib.Path({str(left.path)!r})
for read in (lambda: cars_rt.open(path), lambda: repair(left)):
    try:
        read()
    except cars_rt.errors.CarsRtError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    first, *sentences = done.stdout.splitlines()
    assert first == "none" and done.stderr.count("recordings are not compressed, which needs hdf5plugin") == 1
    assert len(sentences) == 2, done
    assert all("install hdf5plugin, which reads it" in each for each in sentences), done
    assert left.partial.exists()
    assert repair(left.path).rows == {"raw": 35, "raman": 32}


def test_a_kill_amid_the_text_of_a_receipt_costs_the_receipt_alone(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "scan.h5", packing=Packing("gzip"))
    for stream in ("raw", "raman"):
        recording.end(an_end(35, stream=stream), Ledger())
    recording.flush()
    recording.fail()
    content = bytearray(recording.partial.read_bytes())
    text = content.rfind(struct.pack("<HIQ", 0, 0, 8) + b"complete")  # as HDF5 keeps the reason
    assert text > 0
    content[text - 2 : text] = b"\xc8\0"  # its number: the attribute leads to what is not there yet
    recording.partial.write_bytes(content)
    with cars_rt.open(recording.partial) as found:
        assert np.array_equal(found.counts, COUNTS.reshape(*SCAN, -1))
    contents = repair(recording.path)
    assert contents.rows == {"raw": 35, "raman": 32} and not contents.complete
    shows(contents.path, 35)
    with h5py.File(contents.path) as file:
        assert file["raman"].attrs["reason"] == "not closed" and file["raman"].attrs["announced"] == -1
        assert file["entry/data/raman"].shape == (*SCAN, len(AXIS))


@pytest.mark.parametrize("compression", ["none", pytest.param("lz4", marks=needs_plugin)])
def test_a_writer_that_is_killed_at_full_speed_leaves_every_flushed_spectrum(
    compression: str, tmp_path: Path
) -> None:
    """tests/scripts/kill_recordings.py does it more often."""
    for number, wait_s in enumerate((0.1, 0.5)):
        (folder := tmp_path / str(number)).mkdir()
        assert kill_writer(folder, compression, wait_s) in MET


@pytest.mark.parametrize("rows_", [(-1, 3, 0), (8, 3, 2), (8, 2**40, 0), (2**40, 1, 0)])
def test_a_tail_that_lies_costs_no_row(rows_: tuple[int, int, int], tmp_path: Path) -> None:
    recording = recorded(tmp_path / "scan.h5", spectra=11, packing=Packing("gzip"))
    recording.flush()
    recording.fail()
    with h5py.File(recording.partial, "r+") as file:
        file["raw/tail/rows"][...] = rows_
    with pytest.raises(cars_rt.files.spectra.SpectraError, match=r"is damaged|rows of 'counts' are data"):
        cars_rt.open(recording.partial)
    contents = repair(recording.path)
    assert contents.rows == {"raw": 11, "raman": 9} and contents.damage == ""


def of_counts(path: Path, compression: Compression) -> Path:
    """A whole recording of the counts alone."""
    recording = Recording(path, streams=["raw"], packing=Packing(compression))
    recording.start(a_start(spectra=35))
    recording.append(a_frame(0, COUNTS))
    recording.end(an_end(35), Ledger())
    return recording.close()


@pytest.mark.parametrize("compression", KINDS)
def test_repair_names_the_spectra_whose_part_of_the_file_is_damaged(
    compression: Compression, tmp_path: Path
) -> None:
    """A recording that is called complete, and of which half cannot be read, is found out too late."""
    path = of_counts(tmp_path / "scan.h5", compression)
    assert repair(path).damage == "" and repair(path).complete
    with h5py.File(path) as file:
        spoiled = [file["raw/counts"].id.get_chunk_info(each) for each in (1, 2, 4)]
    with path.open("r+b") as raw:
        for chunk in spoiled:
            raw.seek(chunk.byte_offset)
            raw.write(b"\xff" * chunk.size)
    code, _, said = Command.ran("repair", path)
    assert code == 3 and "scan.h5: 35 spectra raw, incomplete; " in said
    assert "spectra 8 to 23, 32 to 34 of raw/counts cannot be read: that part of the file is damaged" in said
    contents = repair(path)
    assert contents.damage in said and not (contents.complete or contents.changed)
    with h5py.File(path) as file:
        assert not file.attrs["complete"] and file.attrs["damage"] == contents.damage
    with opened(path) as file:
        there = stored_rows(file["raw"], "counts")
        assert np.array_equal(there[:8], COUNTS[:8]) and np.array_equal(there[24:32], COUNTS[24:32])
    lost = [*range(8, 24), 32, 33, 34]
    with cars_rt.open(path) as found:
        assert np.array_equal(found.counts, holed(COUNTS, lost=lost), equal_nan=True)
        assert (~found.counts_measured.values).nonzero()[0].tolist() == lost
        assert np.array_equal(found.counts_measured[::-3], ~np.isnan(found.counts[::-3, 0]))


@pytest.mark.parametrize("compression", KINDS)
def test_every_bit_that_a_disk_spoils_is_noticed(compression: Compression, tmp_path: Path) -> None:
    path = of_counts(tmp_path / "scan.h5", compression)
    whole = path.read_bytes()
    with h5py.File(path) as file:
        chunks = [file["raw/counts"].id.get_chunk_info(each) for each in range(4)]
    rng = np.random.default_rng(5)
    for chunk in chunks * 10:
        place, bit = chunk.byte_offset + int(rng.integers(chunk.size)), int(rng.integers(8))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        with opened(path) as file, pytest.raises(StorageError, match="repair` says which"):
            stored_rows(file["raw"], "counts")[:]
        with pytest.raises(cars_rt.files.spectra.SpectraError), open_spectra(path) as spectra:
            spectra.counts[:]


def spoil(path: Path, name: str, row: int = 0, byte: int = 0, bit: int = 1) -> None:
    """Another bit in a row (or a number of an axis), where it lies in the file."""
    with h5py.File(path) as file:
        found = file[name]
        at, within = divmod(row, found.chunks[0])
        size = found.dtype.itemsize * int(np.prod(found.shape[1:]))
        place = found.id.get_chunk_info(at).byte_offset + within * size + byte
    with path.open("r+b") as raw:
        raw.seek(place)
        (there,) = raw.read(1)
        raw.seek(place)
        raw.write(bytes([there ^ bit]))


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_every_bit_of_a_short_column_is_noticed_and_what_can_be_known_is_mended(
    compression: Compression, tmp_path: Path
) -> None:
    """One of an index or of a position closed the whole file to readers, or moved a spectrum."""
    path = ended(recorded(tmp_path / "scan.h5", packing=Packing(compression)))
    whole, complete = path.read_bytes(), repair(path).complete
    known = [f"{group}/{name}" for group in ("raw", "raman") for name in ("index", "position")]
    others = [
        "raw/sequence",
        "raw/time_ns",
        "raman/time_ns",
        "raman/time_out_ns",
        "raman/flags",
        "raman/bands",
    ]
    with h5py.File(path) as file:
        content = {name: file[name][:] for name in known}
        names = file["raman/columns_crc32"].attrs["columns"].decode().split()
        for name in ("index", "flags", "bands"):
            row = np.ascontiguousarray(file["raman"][name][5]).tobytes()
            assert zlib.crc32(row) == file["raman/columns_crc32"][5, names.index(name)]
    rng = np.random.default_rng(2)
    for row, name in enumerate([*known, *others]):
        byte = int(rng.integers(1 if "flags" in name else 8))
        spoil(path, name, row, byte, 3 << int(rng.integers(7)))
        with opened(path) as file, pytest.raises(StorageError, match="repair` says which"):
            read_rows(file[name.split("/")[0]], name.split("/")[1])
    with pytest.raises(VerifyError, match=r"scan.h5 is damaged: '/raw/index' cannot be read; .* repair"):
        verify(path, path)
    contents = repair(path)
    assert contents.changed and not contents.complete
    assert all(f" of {name}" in contents.damage for name in others)
    assert not any(f" of {name}" in contents.damage for name in known)
    with h5py.File(path) as file:
        assert all(np.array_equal(file[name][:], values) for name, values in content.items())
    with cars_rt.open(path) as found:
        assert np.array_equal(found.counts.values.reshape(COUNTS.shape), COUNTS)
        assert np.isnat(found.time.values.ravel()).nonzero()[0].tolist() == [len(known) + 1]
        flags = found.flags.values.ravel()  # a selection of those without flags must not take it
    with h5py.File(path) as file:
        spectrum = [file["raman/index"][len(known) + others.index("raman/flags")]]
        assert (flags == 255).nonzero()[0].tolist() == spectrum
        assert (file["entry/data/flags"][:].ravel() == 255).nonzero()[0].tolist() == spectrum
    assert process(path, tmp_path / "r.h5", engine="passthrough").computed == len(COUNTS)
    path.write_bytes(whole)
    for row, name in enumerate(known):
        spoil(path, name, row, 3, 3)
    spoil(path, "raw/columns_crc32", 20)  # that of an index
    assert repair(path).complete == complete and repair(path).damage == ""
    assert not repair(path).changed


@pytest.mark.parametrize("scan", [None, (5, 7)])
def test_rows_of_an_index_that_nothing_tells_stay_damaged(
    scan: tuple[int, int] | None, tmp_path: Path
) -> None:
    """Beside spectra that were lost it may be any, where the position does not say it."""
    recording = Recording(tmp_path / "scan.h5", streams=["raw"])
    recording.start(a_start(spectra=35, scan=scan))
    for index in (0, 1, 2, 3, 7, 8, 20, 34):
        recording.append(a_frame(index, COUNTS[index : index + 1], index=index))
    recording.end(an_end(35), Ledger())
    path = recording.close()
    for row in (0, 2, 5, 7):
        for name in ("index", "position") if scan else ("index",):
            spoil(path, f"raw/{name}", row, bit=7)
    contents = repair(path)
    assert contents.damage.startswith("spectra 5, 7 of raw/index")
    with h5py.File(path) as file:
        assert file["raw/index"][:].tolist() == [0, 1, 2, 3, 7, 8 ^ 7, 20, 34 ^ 7]
        shown = file["entry/data/counts_measured"][:].ravel()
    there = [0, 1, 2, 3, 7, 20]  # readers leave out what nobody knows the place of
    with cars_rt.open(path) as found:
        measured = found.counts_measured.values.ravel()
        assert measured.nonzero()[0].tolist() == there == shown.nonzero()[0].tolist()
        assert np.array_equal(found.counts.values.reshape(35, -1)[there], COUNTS[there])
        assert found.attrs["spectra_repeated"] == 0
    done = process(path, tmp_path / "r.h5", engine="passthrough")
    said = "nothing says any more which spectra 2 of the results are: they have no place"
    assert done.computed == 8 and done.damage == said  # exit code 3
    with cars_rt.open(tmp_path / "r.h5") as found:
        assert found.raman_measured.values.ravel().nonzero()[0].tolist() == there
        assert np.array_equal(found.raman.values.reshape(35, -1)[there], COUNTS[there])
        assert found.attrs["damage"] == said
    if scan:
        with h5py.File(tmp_path / "r.h5") as file:
            assert file["raman/position"][5].tolist() == file["raman/position"][7].tolist() == [-1, -1]


def test_an_axis_and_a_dark_that_a_disk_has_spoiled_are_said(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "scan.h5", streams=["raw"])
    recording.start(a_start(spectra=35, dark=np.linspace(10, 90, len(AXIS)).astype(np.float32)))
    recording.append(a_frame(0, COUNTS))
    recording.end(an_end(35), Ledger())
    path = recording.close()
    with h5py.File(path, "r+") as file:
        del file["entry"]  # which has copies
    spoil(path, "raw/dark", 3)
    with pytest.raises(cars_rt.files.spectra.SpectraError, match="'dark' cannot be read"):
        cars_rt.open(path)
    assert repair(path).damage.startswith("raw/dark cannot be read: that part of the file is damaged")
    with cars_rt.open(path) as found:
        assert "dark" not in found and np.array_equal(found.counts, COUNTS)
    with pytest.raises(cars_rt.files.spectra.SpectraError, match="else delete /raw/dark of the file"):
        process(path, tmp_path / "r.h5", engine="passthrough")
    spoil(path, "raw/raman_shift", 10, byte=7)
    assert repair(path).damage.startswith("raw/dark; raw/raman_shift cannot be read")


def test_a_bit_of_a_row_that_is_not_compressed_costs_that_row_alone(tmp_path: Path) -> None:
    """Also of results that were rounded: the checksum is of what lies in the file."""
    recording = recorded(tmp_path / "scan.h5", packing=Packing("none", 9))
    path = recording.close()
    assert repair(path).damage == ""
    with h5py.File(path, "r+") as file:
        assert zlib.crc32(file["raw/counts"][3].tobytes()) == file["raw/counts_crc32"][3]
        assert len(file["raw/counts_crc32"]) == len(file["raw/counts"])
        for name, rows_ in (("raw/counts", (3, 4, 34)), ("raman/deviation", (7,))):
            for row in rows_:
                file[name][row, 5] += 1
    index = np.delete(np.arange(35), LOST)[7]
    named = f"spectra 3 to 4, 34 of raw/counts; spectra {index} of raman/deviation cannot be read"
    assert repair(path).damage.startswith(named)
    with opened(path) as file:
        assert np.array_equal(stored_rows(file["raw"], "counts")[5:34], COUNTS[5:34])


@pytest.mark.parametrize(
    "sums", [np.zeros(3, np.uint32), np.zeros(35, np.int32), np.zeros((35, 1), np.uint32)]
)
def test_checksums_that_cannot_be_cost_their_stream(sums: NDArray[Any], tmp_path: Path) -> None:
    """`repair` said of such a file that it was as it was, or refused it with the other stream."""
    path = recorded(tmp_path / "scan.h5").close()
    with h5py.File(path, "r+") as file:
        del file["raw/counts_crc32"]
        file["raw/counts_crc32"] = sums
        del file.attrs["described"]  # the map would be made anew
    with pytest.raises(cars_rt.files.spectra.SpectraError, match="the checksums of 'counts' cannot be"):
        cars_rt.open(path)
    assert repair(path).damage.startswith(("all of raw cannot be read", "raw/counts cannot be read"))
    with cars_rt.open(path) as found:
        assert "counts" not in found and int(found.raman_measured.sum()) == 32
    with h5py.File(path) as file:
        assert "counts" in file["entry/data"] and not file.attrs["complete"]


def results(path: Path) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Of `process`, with their flags."""
    if path.suffix == ".npz":
        with np.load(path) as found:
            return found["raman"], found["flags"]
    with cars_rt.open(path) as found:
        return found.raman.values.reshape(35, -1), found.flags.values.ravel()


@pytest.mark.parametrize(
    ("compression", "name"),
    [("none", "raman.npz"), ("none", "raman.h5"), ("gzip", "raman.npz"), ("lz4", "raman.h5")],
)
def test_the_others_are_processed_once_repair_has_named_what_is_spoiled(
    compression: Compression, name: str, tmp_path: Path
) -> None:
    """A disk that spoils one spectrum of a night must not cost the night; nor may its number look right."""
    path = of_counts(tmp_path / "scan.h5", compression)
    with h5py.File(path) as file:
        chunk = file["raw/counts"].id.get_chunk_info(2)  # spectra 16 to 23
    whole = path.read_bytes()
    place = chunk.byte_offset + 1
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    spoiled = [16] if compression == "none" else list(range(16, 24))
    command = "process", path, "-o", tmp_path / name, "--engine", "passthrough"
    code, _, said = Command.ran(*command)
    assert code == 1 and "'/raw/counts' cannot be read; `cars-rt repair`" in said
    assert Command.ran("repair", path)[0] == 3
    code, _, said = Command.ran(*command)
    assert (
        code == 3
        and f"{len(spoiled)} of the spectra cannot be read, and NaN stands for their results: row 16" in said
    )
    values, flags = results(tmp_path / name)
    assert np.flatnonzero(np.isnan(values).all(axis=1)).tolist() == spoiled
    assert np.array_equal(np.delete(values, spoiled, 0), np.delete(COUNTS, spoiled, 0))
    assert not flags[spoiled].any()
    which = "16" if len(spoiled) == 1 else "16 to 23"
    lost = f"the counts of spectra {which} could not be read: NaN stands for their results"
    assert f"{name}: {lost}" in said
    if name == "raman.npz":
        with np.load(tmp_path / name) as file:
            assert file["damage"] == lost
        return
    # The file says so itself, also when it was read through, and when the same command finds it.
    assert repair(tmp_path / name).damage == lost
    with h5py.File(tmp_path / name) as file:
        assert file.attrs["damage"] == lost and not file.attrs["complete"]
        assert np.flatnonzero(file["entry/data/raman_measured"][:] == 0).tolist() == spoiled
    with cars_rt.open(tmp_path / name) as found:
        assert np.flatnonzero(~found.raman_measured).tolist() == spoiled
    again = process(path, tmp_path / name, engine="passthrough", again=False)
    assert (again.computed, again.damage) == (0, lost)
