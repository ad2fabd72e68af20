"""Formats that other packages bring: read, checked as ours are, and contained where broken."""

from pathlib import Path

import numpy as np
import pytest

from cars_rt.drivers.replay import Replay, ReplaySettings
from cars_rt.files.formats import read_spectra
from cars_rt.files.spectra import SpectraError

MODULE = """
import json

import numpy as np

from cars_rt.files.spectra import Spectra


def read_lab(path):
    first, last, *counts = np.frombuffer(path.read_bytes(), "<f8")
    counts = np.reshape(counts, (2, -1))
    return Spectra(np.linspace(first, last, counts.shape[1]), counts, source="a laboratory")


def odd(path):
    return Spectra(np.linspace(500, 3000, 4), np.ones((2, 4)), **json.loads(path.read_text()))


def fails(path):
    return {}["no such key"]


def nothing(path):
    return None
"""
ENTRIES = {"lab": "read_lab", "odd": "odd", "bad": "fails", "nil": "nothing", "csv": "fails"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    about = site / "lab_formats-1.dist-info"
    about.mkdir(parents=True)
    (site / "lab_formats.py").write_text(MODULE, encoding="utf-8")
    metadata = "Metadata-Version: 2.1\nName: lab-formats\nVersion: 1\n"
    (about / "METADATA").write_text(metadata, encoding="utf-8")
    entries = "".join(f"{name} = lab_formats:{function}\n" for name, function in ENTRIES.items())
    (about / "entry_points.txt").write_text("[cars_rt.formats]\n" + entries, encoding="utf-8")
    monkeypatch.syspath_prepend(site)


@pytest.mark.usefixtures("installed")
def test_format_of_another_package_is_read_and_played(tmp_path: Path) -> None:
    path = tmp_path / "x.LAB"
    path.write_bytes(np.array([500, 3000, *range(8)], "<f8").tobytes())
    spectra = read_spectra(path)
    assert spectra.source == "a laboratory" and spectra.raman_shift[-1] == 3000
    assert np.array_equal(spectra.counts, np.arange(8).reshape(2, 4))
    replay = Replay(path, ReplaySettings(rate=0))
    assert replay.acquisition().spectra == 2
    replay.close()
    path.write_bytes(np.array([500, 3000, *range(7), np.nan], "<f8").tobytes())
    with pytest.raises(SpectraError, match=r"x\.LAB: spectrum 1 is NaN or infinite at pixel 3"):
        read_spectra(path)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x.bad", "lab_formats:fails does not read it .KeyError: 'no such key'.; update or uninstall the"),
        ("x.nil", "lab_formats:nothing returns no cars_rt.files.spectra.Spectra; update or uninstall the"),
        ("x.xyz", "must end in one of .csv, .txt, .npz, .*, .lab, .odd, .bad, .nil"),
        ("x.csv", "x.csv: (?!lab_formats)"),  # none takes the place of one of ours
    ],
)
def test_what_a_package_does_wrong_is_one_sentence(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(SpectraError, match=reason) as error:
        read_spectra(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "said",
    ['{"full_scale": NaN}', '{"scan": [-1, 2]}', '{"step_um": [NaN, 1]}', '{"exposure_s": 0}', '{"block": 0}',
     '{"time_ns": -1}', '{"spectra": 1.5}', '{"calibration": 3}'],
)  # fmt: skip
def test_what_a_package_says_of_a_measurement_is_judged_as_of_a_recording(said: str, tmp_path: Path) -> None:
    (tmp_path / "x.odd").write_text(said, encoding="utf-8")
    with pytest.raises(SpectraError, match=rf"x\.odd: {said.split(chr(34))[1]} is .*, which it cannot be"):
        read_spectra(tmp_path / "x.odd")
