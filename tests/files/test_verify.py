"""`cars-rt verify`: recordings that belong together, and every way in which they do not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from cars_rt import calibration
from cars_rt.accounting import Cause, Kind, Ledger, Problem
from cars_rt.calibration import Calibration, Mean, Region, Scale
from cars_rt.engines import compose, load_model, open_engine
from cars_rt.engines.registry import REFERENCE
from cars_rt.files import verify as files_verify
from cars_rt.files.offline import process
from cars_rt.files.recording import Packing, Recording
from cars_rt.files.verify import VerifyError, verify
from cars_rt.physics.fitness import NAMES, Fitness
from cars_rt.protocol import End, Frame, Reason, Start
from cars_rt.storage.changes import MAGIC

AXIS = np.linspace(800, 1800, 400)
SPECTRA, LOST = 40, range(10, 14)  # frames of one spectrum; these four never reached the recorder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of both streams with true receipts."""
    path = tmp_path_factory.mktemp("verify") / "scan.h5"
    model = load_model()
    counts = np.random.default_rng(0).integers(5000, 9000, (SPECTRA, len(AXIS))).astype(np.uint16)
    with open_engine(
        "onnxruntime", compose(model, AXIS), 16
    ) as engine:  # exact, also where auto takes bfloat16
        raman = engine.run(counts)
        flags = Fitness(AXIS).flags(counts.astype(np.float32), raman, None, 65_535.0)
        names = " ".join(NAMES.values())
        provenance = model.provenance(retrieves=engine.retrieves)
        provenance |= {"engine": engine.describe(), "flags": names}
    recording = Recording(path)
    for stream, name, values in (("raw", "counts", counts), ("raman", "raman", raman)):
        start = Start(stream, "run-1", 1, "test", AXIS, values.dtype.name, 1, SPECTRA)  # type: ignore[arg-type]
        if stream == "raman":
            start = Start(stream, "run-1", 1, "test", AXIS, "float32", 1, SPECTRA, model=provenance)
        recording.start(start)
        ledger = Ledger()
        for number in range(SPECTRA):
            if number in LOST:
                ledger.found(Problem(Cause.MISSING, 1, "gap", Kind.SEQUENCE_JUMP, number))
                continue
            ledger.passed(1)
            arrays = {name: values[number : number + 1]}
            if stream == "raman":
                arrays["flags"] = flags[number : number + 1]
            made_by = f"{model.sha256[:16]} {engine.name} none" if stream == "raman" else None
            frame = Frame(stream, "run-1", number, number, 100 + number, arrays, made_by=made_by)  # type: ignore[arg-type]
            recording.append(frame)
        end = End(stream, "run-1", 2, SPECTRA, SPECTRA, Reason.COMPLETE, SPECTRA)  # type: ignore[arg-type]
        recording.end(end, ledger)
    return recording.close()


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    """A copy to spoil: without checksums, which would say so first."""
    copy = Path(shutil.copy(original, tmp_path / "scan.h5"))
    with h5py.File(copy, "r+") as file:
        for name in ("raw/counts_crc32", "raman/raman_crc32", "raw/columns_crc32", "raman/columns_crc32"):
            del file[name]
    return copy


def untrue(path: Path) -> str:
    """What verify says is not so."""
    return "\n".join(finding.text for finding in verify(path, path) if not finding.true)


def test_flags_are_those_of_the_counts(path: Path) -> None:
    """A flag that was lost or set on the way changes what somebody leaves out."""

    def said() -> tuple[bool, str]:
        (finding,) = [each for each in verify(path, path, engine="passthrough") if "flags" in each.text]
        return finding.true, finding.text

    assert said() == (
        True,
        "the flags of 36 spectra are those that their counts have (saturated, empty, spike, unlike)",
    )
    with h5py.File(path, "r+") as file:
        file["raman/flags"][5] ^= 4
    assert said()[0] is False and said()[1].endswith(", but for spike at 1, first 5")
    with h5py.File(path, "r+") as file:
        file["raman/flags"][5] ^= 4
        file["raw/counts"][20, 100:110] = 65_535
        file["raman"].attrs["model_flags"] = "saturated"  # of the others nothing is promised
    assert said()[0] is False and said()[1].endswith("(saturated), but for saturated at 1, first 24")
    with h5py.File(path, "r+") as file:
        made = file["raman"].attrs["made_by"]
        file["raman"].attrs["made_by"] = made.replace("none", "0123456789ab")
    assert said() == (
        True,
        "flags were not checked: none was made by an engine that flags with a dark that is at hand",
    )
    with h5py.File(path, "r+") as file:
        file["raman"].attrs["made_by"] = "[]"  # as repair leaves it where a kill had spoiled it
    assert said()[1].startswith("flags were not checked")
    with h5py.File(path, "r+") as file:
        del file["raman/flags"]
    assert said() == (True, "no flags are in the file, so none were checked")


def test_a_true_recording_passes(path: Path) -> None:
    findings = verify(path, path)
    assert [finding.text for finding in findings if not finding.true] == []
    assert any("36 in the file + 4 lost = 40 announced" in finding.text for finding in findings)
    assert any("36 results computed again" in finding.text for finding in findings)


def test_a_reference_that_was_left_out_is_known(path: Path, tmp_path: Path) -> None:
    """It is another instrument's; the same flags verify what they made."""
    other = tmp_path / "glass.npz"
    np.savez(other, spectra=np.full((1, len(AXIS)), 900.0), raman_shift=AXIS, source="another")
    process(path, tmp_path / "r.h5", model="kk", reference=other, engine=REFERENCE)
    findings = verify(path, tmp_path / "r.h5", model="kk", reference=other)
    assert [each.text for each in findings if not each.true] == []
    assert any("36 results computed again" in each.text for each in findings)


def test_what_a_calibration_gave_the_results_is_what_they_are_computed_with(
    path: Path, tmp_path: Path
) -> None:
    """The counts' recording has another axis, no dark and no full scale; where it has them, they count."""
    region, lab, made = Region(len(AXIS)), tmp_path / "lab.json", tmp_path / "r.h5"
    scale = Scale(
        kind="lamp", of="neon", quantity="raman_shift", coefficients=(830.0, 2.4), region=region,
        residual_cm1=0.1, time_ns=10**18,
    )  # fmt: skip
    dark = Mean(np.linspace(900, 400, len(AXIS)).astype(np.float32), 10, 10**18, 0.5)
    known = Calibration(region=region, scale=scale, darks=(dark,), full_scale=8_800, source="test")
    calibration.write(lab, known)
    known = calibration.read(lab)
    process(path, made, engine=REFERENCE, calibration=lab)
    findings = verify(path, made)
    assert [each.text for each in findings if not each.true] == []
    assert any("36 results computed again" in each.text for each in findings)
    said = (
        f"the results were made with axis, dark, full scale of the calibration {known.id}, not of the counts"
    )
    assert said in [each.text for each in findings if each.told]
    with h5py.File(made, "r+") as file:
        file["raman"].attrs["calibration"] = "[]"
    assert any("of the calibration that is not named, not" in each.text for each in verify(path, made))
    with h5py.File(path, "r+") as file:
        file["raw/dark"] = np.zeros(len(AXIS), np.float32)
        file["raw"].attrs["full_scale"] = 65_535.0
    wrong = [each.text for each in verify(path, made) if not each.true]
    assert len(wrong) == 2 and "computed again" in wrong[0] and "for saturated at 36" in wrong[1]


def test_a_result_that_was_changed_is_found(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["raman/raman"][0] *= 1.1
    assert "computed again" in untrue(path)


@pytest.mark.parametrize("stream", ["raw", "raman"])
def test_a_number_that_a_disk_has_spoiled_is_found_wherever_it_is(
    stream: str, original: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(original, tmp_path / "scan.h5"))
    assert untrue(path) == ""
    name = {"raw": "counts", "raman": "raman"}[stream]
    with h5py.File(path, "r+") as file:
        file[stream][name][17, 3] += 1
    assert untrue(path).startswith(f"spectra 21 of {stream}/{name} cannot be read")


@pytest.mark.parametrize("maker", ["0123456789abcdef onnxruntime none", "{} onnxruntime fedcba987654"])
def test_results_of_another_model_or_dark_are_left_out(path: Path, maker: str) -> None:
    with h5py.File(path, "r+") as file:
        changes = json.loads(file["raman"].attrs["made_by"])
        assert [index for index, _ in changes] == [0]
        changes.append([30, maker.format(load_model().sha256[:16])])
        file["raman"].attrs["made_by"] = json.dumps(changes)
        file["raman/raman"][26:] *= 1.1
    assert untrue(path) == ""
    assert any("(10 were made with another model" in finding.text for finding in verify(path, path))


@pytest.mark.parametrize("dark", [False, True])
def test_counts_that_an_engine_passed_through_are_compared_as_they_are(
    dark: bool, path: Path, tmp_path: Path
) -> None:
    if dark:
        with h5py.File(path, "r+") as file:
            file["raw/dark"] = np.linspace(10, 90, len(AXIS)).astype(np.float32)
    process(path, tmp_path / "r.h5", engine="passthrough")
    findings = verify(path, tmp_path / "r.h5")
    assert [each.text for each in findings if not each.true] == []
    with h5py.File(tmp_path / "r.h5", "r+") as file:
        del file["raman/raman_crc32"]  # which would say so first
        file["raman/raman"][0, 3] += 300
    assert any(not each.true and "computed again" in each.text for each in verify(path, tmp_path / "r.h5"))


def test_results_of_mem_are_computed_again_on_a_few_spectra(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_verify, "SLOW_PROBES", 2)
    with h5py.File(path, "r+") as file:
        file["raw/written"][()] = 3
    process(path, tmp_path / "r.h5", model="mem")
    (again,) = [each for each in verify(path, tmp_path / "r.h5") if "computed again" in each.text]
    assert again.true and again.text.startswith("2 results computed again")


@pytest.mark.parametrize("bits", [1, 3])
def test_results_that_were_rounded_may_differ_by_as_much(bits: int, path: Path) -> None:
    with h5py.File(path, "r+") as file:
        results = file["raman/raman"]
        results[:] = Packing("none", bits).rounded(results[:])
        file.flush()
        assert "computed again" in untrue(path)
        results.attrs["mantissa_bits"] = bits
    assert "computed again" not in untrue(path)
    with h5py.File(path, "r+") as file:
        file["raman/raman"][0] *= 1 + 0.6 * 0.5**bits
    assert "computed again" in untrue(path)


def test_a_loss_that_is_not_named_is_found(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["raman"].attrs["lost"] = json.dumps({"missing": 3})
    assert "36 in the file + 3 lost = 40 announced" in untrue(path)


def test_other_spectra_than_those_named_are_found(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["raman"].attrs["ranges"] = json.dumps([["missing", 20, 4]])
    assert "are those named as lost" in untrue(path)


def test_a_spectrum_that_is_there_twice_is_found(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["raw/index"][5] = 4
    assert "once, in order" in untrue(path)


def test_results_of_other_counts_are_found(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["raman/time_ns"][3] += 1
        file["raman"].attrs["run"] = "run-2"
    assert "same time stamps" in untrue(path)
    assert "both are of one run" in untrue(path)


def test_results_of_another_number_of_points_are_found(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for name in ("raman", "raman_shift"):
            values = file[f"raman/{name}"][..., :-1]
            del file[f"raman/{name}"]
            file[f"raman/{name}"] = values
    said = "results of 399 points cannot be computed again from counts of 400"
    assert untrue(path).splitlines() == ["both have the same axis of 399 points", said]


def told(path: Path) -> list[str]:
    """What verify's verdict says beside it."""
    return [finding.text for finding in verify(path, path) if finding.told]


def test_a_run_without_an_end_has_no_receipt(path: Path) -> None:
    """What is there, and what is missing, is said all the same."""
    with h5py.File(path, "r+") as file:
        file["raw"].attrs.update({"announced": -1, "spectra": 16_384})
    assert "the run never ended" in untrue(path) and "(not known; 40)" in untrue(path)
    assert told(path) == [
        "raw: 36 of 16384 planned spectra are in the file; missing are spectra 10 to 13, 40 to 16383"
    ]


def test_the_verdict_says_what_of_its_run_a_file_is(path: Path) -> None:
    assert told(path) == []
    with h5py.File(path, "r+") as file:
        file["raw"].attrs.update({"reason": "stopped", "spectra": 16_384})
        file.attrs["began_at"] = 7
    assert told(path) == [
        "recording began at spectrum 7 of the run",
        "it was stopped: 36 of 16384 planned spectra are in the file",
    ]
    with h5py.File(path, "r+") as file:
        file.attrs.update({"part": 2, "previous_part": "scan.h5", "next_part": "scan-part3.h5"})
    said = "this is part 2 of a recording, from spectrum 0 on (before it scan.h5, after it scan-part3.h5)"
    assert told(path) == [said] and untrue(path) == ""


@pytest.mark.parametrize(
    ("name", "true"), [("onnxruntime", False), ("openvino-bf16", True), ("tensorrt", True)]
)
def test_reduced_precision_costs_as_much_where_there_is_no_line(name: str, true: bool, path: Path) -> None:
    """Of the blanks of a map bfloat16 changes a third of their maximum, which is next to nothing."""
    model = load_model()
    with h5py.File(path, "r+") as file:
        with open_engine("onnxruntime", compose(model, AXIS), 64) as engine:
            exact = engine.run(file["raw/counts"][:36])
        rng = np.random.default_rng(1)
        file["raman/raman"][:36] = exact + 0.1 * np.abs(exact).max() * rng.uniform(-1, 1, exact.shape)
        file["raman"].attrs["made_by"] = json.dumps([[0, f"{model.sha256[:16]} {name} none"]])
    assert ("computed again" not in untrue(path)) == true


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = 1
    with pytest.raises(VerifyError, match="holds no recording of the raw stream"):
        verify(other, other)
    other.write_bytes(b"nothing")
    with pytest.raises(VerifyError, match="is not a recording"):
        verify(other, other)
    other.write_bytes(bytes(100) + MAGIC + bytes(24))
    with pytest.raises(VerifyError, match=r"other\.h5 is being changed: try again"):
        verify(other, other)
    (tmp_path / "scan.partial.h5").touch()
    with pytest.raises(VerifyError, match=r"no file .*; scan\.partial\.h5 is still written, or was cut"):
        verify(tmp_path / "scan.h5", tmp_path / "scan.h5")


def test_the_command_says_what_is_true_and_exits_by_it(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["raw"].attrs.update({"reason": "stopped", "spectra": 16_384})
    command = [sys.executable, "-m", "cars_rt", "verify", str(path)]
    good = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert good.returncode == 0, good.stderr
    assert "NO" not in good.stdout and not good.stderr
    last = good.stdout.splitlines()[-1]
    assert last.startswith("VERIFIED: all ") and "was stopped: 36 of 16384 planned spectra" in last
    with h5py.File(path, "r+") as file:
        file["raman/raman"][0] *= 1.1
    bad = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert bad.returncode == 3
    assert "NO   36 results computed again" in bad.stdout
    assert bad.stdout.splitlines()[-1].startswith("NOT VERIFIED: 1 of ")
