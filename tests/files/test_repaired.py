"""What `repair` makes of recordings after a power failure, and of bits that a disk has spoiled."""

import io
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import AXIS, a_frame, a_start, an_end
from spoiled import COUNTS, added, closed, flip, header_of, place_of, put, table_of, written

import cars_rt
from cars_rt.accounting import Ledger, Range
from cars_rt.files import hdf5
from cars_rt.files.checksum import checksum, checksums
from cars_rt.files.recording import Packing, Recording, RecordingError, repair, repair_all, rows
from cars_rt.files.spectra import SpectraError


def test_many_spoiled_rows_are_found_by_few_comparisons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was looked for by itself, which took 3 ms."""
    path, calls = closed(written(tmp_path / "scan.h5", 2000), 2000), 0
    put(path, place_of(path, "raw/index", 100), bytes(8 * 1000))
    put(path, place_of(path, "raw/counts", 200), bytes(2 * len(AXIS) * 100))

    def counted(rows: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return checksums(rows)

    monkeypatch.setattr(hdf5, "checksums", counted)
    assert repair(path).damage.startswith("spectra 200 to 299 of raw/counts cannot be read")
    assert calls < 50
    with h5py.File(path) as file:
        assert np.array_equal(file["raw/index"], np.arange(2000))


@pytest.mark.parametrize("packing", ["none", "gzip"])
def test_a_power_failure_costs_the_rows_that_were_not_on_the_disk(
    packing: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may leave the number that vouches for them, which closed the whole file to every reader."""
    recording = written(tmp_path / "scan.h5", packing=packing, scan=(6, 10))
    recording.fail()
    for name, size in (("index", 8), ("position", 8), ("columns_crc32", 5 * 4)):
        put(recording.partial, place_of(recording.partial, f"raw/{name}", 47), bytes(13 * size))
    put(recording.partial, place_of(recording.partial, "raw/index", 20), bytes(16))
    contents = repair(recording.partial)
    assert contents.rows == {"raw": 47} and contents.damage == "" and not contents.complete
    assert "the last 13 of 60 spectra raw were not on the disk" in caplog.text
    with cars_rt.open(contents.path) as found:
        assert np.array_equal(found.counts.values.reshape(60, -1)[:47], COUNTS[:47])
        assert found.counts_measured.values.sum() == 47
    assert not repair(contents.path).changed


def test_a_power_failure_before_the_counts_are_on_the_disk_costs_those(tmp_path: Path) -> None:
    recording = written(tmp_path / "scan.h5")
    recording.fail()
    put(recording.partial, place_of(recording.partial, "raw/counts", 50), bytes(10 * 2 * len(AXIS)))
    assert repair(recording.partial).rows == {"raw": 50}


@pytest.mark.parametrize("bit", [3, 6, 63])
def test_a_bit_of_the_number_of_rows_takes_none_away(bit: int, tmp_path: Path) -> None:
    """Of a file that was cut to its rows. `repair` made 52 spectra of 60, or refused it for good."""
    path = closed(written(tmp_path / "scan.h5", scan=(6, 10)))
    flip(path, place_of(path, "raw/written") + bit // 8, bit % 8)
    with cars_rt.open(path) as found:
        assert np.array_equal(found.counts.values.reshape(60, -1), COUNTS[:60])
    contents = repair(path)
    assert contents.rows == {"raw": 60} and contents.complete


def test_a_bit_of_a_row_that_waits_for_its_chunk_is_noticed(tmp_path: Path) -> None:
    """Of what a kill left: such a row was taken into its chunk, whose checksum is right then."""
    recording = written(tmp_path / "scan.h5", packing="gzip", scan=(6, 10), planned=90)
    recording.fail()
    partial, size = recording.partial, 2 * len(AXIS)
    with h5py.File(partial) as file:
        first, _, slot = file["raw/tail/rows"][:]
        place = slot * file["raw/tail/counts"].shape[1] + 33 - first
    flip(partial, place_of(partial, "raw/tail/counts") + int(place) * size + 5, 6)
    with cars_rt.open(partial) as found, pytest.raises(SpectraError, match="`cars-rt repair` says which"):
        found.counts.load()
    contents = repair(partial)
    assert contents.damage.startswith("spectra 33 of raw/counts cannot be read")
    with cars_rt.open(contents.path) as found:
        counts = found.counts.values.reshape(60, -1)
    assert np.isnan(counts[33]).all()
    assert np.array_equal(np.delete(counts, 33, 0), np.delete(COUNTS[:60], 33, 0))


def test_an_index_beside_a_loss_is_known_by_the_receipt(tmp_path: Path) -> None:
    """One bit of it closed the whole file."""
    recording = Recording(tmp_path / "scan.h5", streams=["raw"])
    recording.start(a_start(spectra=60))
    for number, (index, after) in enumerate(((0, 5), (5, 7), (9, 20), (20, 21), (21, 60))):
        recording.append(a_frame(number, COUNTS[index:after], index=index))
    recording.end(an_end(60), Ledger(lost=Counter(missing=2), ranges=[Range("missing", 7, 2)]))
    path = recording.close()
    for row in (6, 7, 20, 57):
        put(path, place_of(path, "raw/index", row), b"\xff\xff")
    assert repair(path).damage == ""
    with h5py.File(path) as file:
        assert np.array_equal(file["raw/index"], np.delete(np.arange(60), [7, 8]))


@pytest.mark.parametrize("spoiled", ["time_ns", "raman_shift"])
def test_a_repair_takes_no_map_away(spoiled: str, tmp_path: Path) -> None:
    """It was made anew because of a mended index, and one time that cannot be read was its end."""
    path = closed(written(tmp_path / "scan.h5", scan=(6, 10)))
    put(path, place_of(path, "raw/index", 7), b"\xff\xff")
    put(path, place_of(path, f"raw/{spoiled}", 20 if spoiled == "time_ns" else 0) + 2, b"\xff\xff")
    with h5py.File(path, "r+") as file:
        if spoiled == "raman_shift":
            del file["entry/data/raman_shift"]  # else it is mended by that one
    repair(path)
    with h5py.File(path) as file:
        assert file["raw/index"][7] == 7 and "entry_new" not in file
        assert np.array_equal(file["entry/data/counts"][:].reshape(60, -1), COUNTS[:60])
        times = file["entry/data/time"][:].ravel()
        assert (times == np.iinfo(np.int64).min).nonzero()[0].tolist() == [20] * (spoiled == "time_ns")


def a_bit(path: Path, place: int, _: int) -> None:
    flip(path, place + 81, 5)


def zeros(path: Path, place: int, size: int) -> None:
    put(path, place, bytes(size))


def ones(path: Path, place: int, size: int) -> None:
    put(path, place, b"\xff" * size)


@pytest.mark.parametrize("spoil", [a_bit, zeros, ones])
def test_axis_and_dark_are_mended_by_copies(spoil: Callable[[Path, int, int], None], tmp_path: Path) -> None:
    """One bit of either closed the file, or kept it from being processed; and zeros were taken for a dark."""
    dark = np.linspace(10, 90, len(AXIS)).astype(np.float32)
    path = closed(written(tmp_path / "scan.h5", scan=(6, 10), dark=dark))
    for name in ("raman_shift", "dark"):
        with h5py.File(path) as file:
            size = file[f"raw/{name}"].id.get_chunk_info(0).size
        spoil(path, place_of(path, f"raw/{name}"), size)
    with pytest.raises(SpectraError, match="'raman_shift' cannot be read"):
        cars_rt.open(path)
    contents = repair(path)
    assert contents.complete and contents.changed and contents.damage == ""
    with cars_rt.open(path) as found:
        assert np.array_equal(found.raman_shift, AXIS) and np.array_equal(found.dark, dark)
    assert not repair(path).changed


def test_an_axis_is_not_mended_by_one_of_another_kind(tmp_path: Path) -> None:
    recording = written(tmp_path / "scan.h5")
    recording.start(a_start(stream="raman", dtype="float32"))
    path = closed(recording)
    with h5py.File(path, "r+") as file:
        for name in ("raman/raman_shift", "entry/data/raman_shift"):  # results on an axis of their own
            file[name][...] = AXIS + 1
            file[name].attrs["crc32"] = checksum(AXIS + 1)
    flip(path, place_of(path, "raw/raman_shift") + 81, 3)
    assert repair(path).damage.startswith("raw/raman_shift cannot be read")


def test_rows_of_a_chunk_that_did_not_come_to_the_disk_are_in_the_tail_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They had been synced there: a power failure cost all of them."""
    monkeypatch.setattr(rows, "CHUNK_BYTES", 8 * 2 * len(AXIS))
    recording = written(tmp_path / "scan.h5", 12, planned=60, packing="gzip", scan=(6, 10))
    added(recording, 12, 20)
    recording.fail()
    with h5py.File(recording.partial) as file:
        chunk = file["raw/counts"].id.get_chunk_info(1)
    put(recording.partial, chunk.byte_offset, bytes(chunk.size))
    contents = repair(recording.partial)
    assert contents.rows == {"raw": 20} and contents.damage.startswith("spectra 12 to 15 of raw/counts")
    with cars_rt.open(contents.path) as found:
        counts = found.counts.values.reshape(60, -1)
    there = [*range(12), *range(16, 20)]
    assert np.array_equal(counts[there], COUNTS[there]) and np.isnan(counts[12:16]).all()


@pytest.mark.parametrize(
    ("number", "bit", "ended"),
    [
        ("raw/written", 2, False),
        ("raw/written", 5, True),
        ("raw/written", 63, False),
        ("raw/tail/rows", 0, False),
        ("raw/tail/rows", 5, False),
        ("raw/tail/rows", 64 + 2, True),  # how many
        ("raw/tail/rows", 128, False),  # the slot
    ],
)
def test_a_bit_of_what_a_kill_left_says_how_many_rows_are_there_costs_none(
    number: str, bit: int, ended: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`repair` cut two thirds of a column, and what waited in the tail, without a word."""
    monkeypatch.setattr(rows, "CHUNK_BYTES", 8 * 2 * len(AXIS))
    packing = "gzip" if "tail" in number else "none"
    recording = written(tmp_path / "scan.h5", 44, planned=60, packing=packing, scan=(6, 10))
    if ended:
        recording.end(an_end(44, 60), Ledger())
        recording.flush()
    recording.fail()
    flip(recording.partial, place_of(recording.partial, number) + bit // 8, bit % 8)
    contents = repair(recording.partial)
    assert contents.rows == {"raw": 44} and contents.damage == ""
    with cars_rt.open(contents.path) as found:
        assert np.array_equal(found.counts.values.reshape(60, -1)[:44], COUNTS[:44])
        assert found.counts_measured.values.sum() == 44
    assert not repair(contents.path).changed


@pytest.mark.parametrize("place", [header_of, table_of])
def test_a_short_column_that_cannot_be_opened_costs_that_column(
    place: Callable[[Path, str], int], tmp_path: Path
) -> None:
    """`repair` said that nothing was wrong, and no reader opened the file."""
    path = closed(written(tmp_path / "scan.h5", scan=(6, 10)))
    put(path, place(path, "raw/time_ns"), b"?")
    with pytest.raises(SpectraError, match="time_ns' cannot be read"):
        cars_rt.open(path)
    contents = repair(path)
    assert contents.rows == {"raw": 60} and not contents.complete
    assert contents.damage.startswith("raw/time_ns cannot be read")
    with cars_rt.open(path) as found:
        assert np.isnat(found.time if "time" in found else np.datetime64("NaT")).all()
        assert np.array_equal(found.counts.values.reshape(60, -1), COUNTS[:60])
    with h5py.File(path) as file:
        assert file["entry/data/counts"].shape[:2] == (6, 10)
    assert not repair(path).changed


def test_a_name_that_is_listed_and_not_found_is_no_reason_to_refuse_the_rows(tmp_path: Path) -> None:
    """One bit of it was a traceback, and no recorder began in that folder."""
    recording = written(tmp_path / "scan.h5")
    recording.fail()
    partial = recording.partial
    flip(partial, partial.read_bytes().index(b"\0sequence\0") + 1, 4)
    with h5py.File(partial) as file:
        (lost,) = (name for name in file["raw"] if file["raw"].get(name, getlink=True) is None)
    assert lost == "cequence"
    (contents,) = repair_all(tmp_path)
    assert contents.rows == {"raw": 60}
    assert repair(contents.path).damage.startswith("raw/cequence cannot be read")


def test_what_was_spoiled_after_a_repair_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    """A file that once said of one spectrum that it cannot be read lost others, its dark and a whole stream
    without a word."""
    dark = np.linspace(10, 90, len(AXIS)).astype(np.float32)
    path = closed(written(tmp_path / "scan.h5", scan=(6, 10), dark=dark))
    put(path, place_of(path, "raw/time_ns", 7), b"\xff\xff")
    assert repair(path).damage.startswith("spectra 7 of raw/time_ns cannot be read")
    content = path.read_bytes()
    for name in ("counts", "dark", "raman_shift"):
        path.write_bytes(content)
        put(path, place_of(path, f"raw/{name}", 0) + 80, b"\xff\xff")
        with pytest.raises(SpectraError, match=f"{name}' cannot be read"):
            cars_rt.open(path).counts.load()
    with h5py.File(path, "r+") as file:
        del file["entry/data/raman_shift"]  # by which it would be mended
    assert repair(path).damage.startswith("raw/raman_shift; spectra 7 of raw/time_ns cannot be read")
    with pytest.raises(SpectraError, match=r"no spectra that can be read: raw/raman_shift; spectra 7 of"):
        cars_rt.open(path)


def test_a_table_of_chunks_that_cannot_be_read_leaves_what_a_kill_left_as_it_is(tmp_path: Path) -> None:
    """It was refused without a word of what."""
    recording = written(tmp_path / "scan.h5", 60, planned=90)
    recording.fail()
    put(recording.partial, table_of(recording.partial, "raw/time_ns"), b"?")
    content = recording.partial.read_bytes()
    with pytest.raises(RecordingError, match="left as it is: the raw stream in it cannot be cut to its rows"):
        repair(recording.partial)
    assert recording.partial.read_bytes() == content


def chunks_of(path: Path) -> list[tuple[int, int]]:
    """Where each chunk of the counts and what is beside them begins and ends in the file, in this order."""
    found: list[tuple[int, int]] = []
    with h5py.File(path) as file:
        for each in file["raw"].values():
            if isinstance(each, h5py.Dataset) and each.chunks:
                infos = (each.id.get_chunk_info(number) for number in range(each.id.get_num_chunks()))
                found += [(info.byte_offset, info.byte_offset + info.size) for info in infos]
    return sorted(found)


def test_why_a_stream_cannot_be_read_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recording = written(tmp_path / "scan.h5")
    recording.start(a_start(stream="raman", dtype="float32"))
    recording.fail()
    put(recording.partial, header_of(recording.partial, "raman/raman"), b"?")
    contents = repair(recording.partial)
    assert contents.rows == {"raw": 60} and contents.damage.startswith("all of raman cannot be read")
    assert caplog.text.count("the raman stream in it cannot be read") == 1
    assert not repair(contents.path).changed
    assert caplog.text.count("the raman stream in it cannot be read") == 2


def test_hdf5s_own_words_are_for_nobody() -> None:
    with h5py.File(io.BytesIO(), "w") as file:
        file["a"], file["b"] = 1, 2
        with pytest.raises((OSError, RuntimeError, ValueError, KeyError)) as error:
            file.move("a", "b")
    assert hdf5.explained(error.value) == "it is damaged, or not laid out as it should be"


def test_a_file_that_is_shorter_than_it_says_is_no_reason_to_refuse_it(tmp_path: Path) -> None:
    """Of what a power failure left: all rows that had been synced were there."""
    recording = written(tmp_path / "scan.h5", scan=(6, 10))
    recording.fail()
    size = recording.partial.stat().st_size
    put(recording.partial, 40, (size + 10_000).to_bytes(8, "little"))
    contents = repair(recording.partial)
    assert contents.rows == {"raw": 60} and contents.damage == ""


def test_a_finished_file_that_a_copy_has_cut_is_to_be_copied_again(tmp_path: Path) -> None:
    """It got zeros, as long as it should be, and nobody could read it then either."""
    path = closed(written(tmp_path / "scan.h5", scan=(6, 10)))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 9 // 10)
    content = path.read_bytes()
    with pytest.raises(RecordingError, match="it is cut short: a copy that was not finished"):
        repair(path)
    assert path.read_bytes() == content


def test_an_axis_that_somebody_corrected_stays(tmp_path: Path) -> None:
    path = closed(written(tmp_path / "scan.h5", scan=(6, 10)))
    with h5py.File(path, "r+") as file:
        file["raw/raman_shift"][...] = AXIS + 5
    assert not repair(path).changed
    with cars_rt.open(path) as found:
        assert np.array_equal(found.raman_shift, AXIS + 5)


def test_nothing_is_allocated_where_a_table_expects_a_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure kept the chunk from the disk, and the file's length, too: `repair` destroyed others."""
    monkeypatch.setattr(rows, "CHUNK_BYTES", 8 * 2 * len(AXIS))
    monkeypatch.setattr(rows, "FIRST_ROWS", 8)
    recording = Recording(tmp_path / "scan.h5", streams=["raw"], packing=Packing("gzip"))
    recording.start(a_start())
    added(recording, 0, 20)
    recording.fail()
    last, _ = chunks_of(recording.partial)[-1]
    with recording.partial.open("r+b") as file:
        file.truncate(last)
    put(recording.partial, 40, last.to_bytes(8, "little"))
    places = chunks_of(repair(recording.partial).path)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(places))


def test_a_spoiled_text_and_chunk_are_no_reason_to_refuse_the_other_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To write the one anew, or to cut the other, HDF5 has to read it."""
    monkeypatch.setattr(rows, "CHUNK_BYTES", 8 * 2 * len(AXIS))
    recording = written(tmp_path / "scan.h5", 12, planned=60, packing="gzip", scan=(6, 10))
    recording.fail()
    partial = recording.partial
    with h5py.File(partial, "r+") as file:
        chunks = [file["raw/counts"].id.get_chunk_info(number) for number in range(2)]
        file["raw/tail/rows"][...], file["raw/tail/counts"][...] = 0, 0
        file["raw/written"][()] = 12
        file["raw"].attrs["lost"] = "here it is"
    for chunk in chunks:
        put(partial, chunk.byte_offset, bytes(chunk.size))
    with h5py.File(partial) as file, pytest.raises(OSError) as error:
        file["raw/counts"][:8]
    assert hdf5.explained(error.value) == "it is damaged"  # and nothing is to be installed
    content = partial.read_bytes()
    heap = content.rindex(b"GCOL", 0, content.index(b"here it is"))
    put(partial, heap, bytes(4096))
    contents = repair(partial)
    assert contents.rows == {"raw": 12} and "spectra 0 to 11 of raw/counts cannot be read" in contents.damage
    with h5py.File(contents.path) as file:
        assert file["raw"].attrs["lost"] == "{}" and len(file["raw/index"]) == 12
    assert not repair(contents.path).changed
