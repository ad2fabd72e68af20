"""Drivers that other packages bring: found, listed with their flags, driven, and contained where broken."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import PATIENCE_S, Collected, summary
from packages import a_package, found_by_processes

from cars_rt.drivers import InstrumentError
from cars_rt.drivers.registry import DRIVERS, driver_class, driver_names, package
from cars_rt.sockets.free import free_addresses

MODULE = '''
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cars_rt.drivers import Acquisition, Instrument, InstrumentError


@dataclass(frozen=True, kw_only=True)
class LabSettings:
    spectra: int = 5
    """How many it measures."""

    gain: float = 1.0
    """Of the amplifier."""


class Lab(Instrument):
    """The spectrometer of a laboratory."""

    def __init__(self, about: Path, settings: LabSettings) -> None:
        if settings.gain <= 0:
            raise InstrumentError("--gain must be more than 0")
        self.name, self.settings = about.read_text(encoding="utf-8"), settings

    def acquisition(self):
        axis = np.linspace(500, 3000, 64)
        return Acquisition(
            source=self.name, raman_shift=axis, dtype="float32", spectra=self.settings.spectra
        )

    def frames(self):
        for number in range(self.settings.spectra):
            yield np.full((1, 64), number * self.settings.gain, np.float32)


@dataclass(frozen=True)
class Publishing:
    publish: str = ""


class Doubled(Lab):
    def __init__(self, settings: Publishing) -> None: ...


class Unknown(Lab):
    def __init__(self, settings: "Nowhere") -> None: ...


NotADriver = dict
'''
ENTRIES = {"lab": "Lab", "nothing": "NotADriver", "doubled": "Doubled", "unknown": "Unknown"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with drivers, a good one and bad ones, installed by pip."""
    place = tmp_path_factory.mktemp("foreign")
    entries = [f"{name} = foreign_drivers:{cls}" for name, cls in ENTRIES.items()]
    entries += [f"{name} = foreign_drivers:Lab" for name in ("replay", "--help")]
    entries += ["absent = foreign_nowhere:Any"]
    modules = {"foreign_drivers.py": MODULE}
    return a_package(place, "foreign_drivers", modules, "cars_rt.drivers", entries)


@pytest.fixture
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found_by_processes(folder, monkeypatch)


def drive(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "cars_rt", "drive", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, encoding="utf-8")


def said(*arguments: object) -> tuple[int, str, str]:
    """Exit status, output and errors of a command that ends by itself."""
    with drive(*arguments) as program:
        out, err = program.communicate(timeout=PATIENCE_S)
        return program.returncode, out, err


@pytest.mark.usefixtures("installed")
def test_driver_of_another_package_is_driven_with_its_own_flags(tmp_path: Path) -> None:
    (address,) = free_addresses(1)
    about, totals = tmp_path / "about.txt", tmp_path / "totals.json"
    about.write_text("our laboratory", encoding="utf-8")
    flags = ("--spectra", 7, "--gain", 2.5, "--publish", address, "--settle-s", 0, "--summary", totals)
    with Collected(address, "raw") as run, drive("lab", about, *flags) as program:
        try:
            run.ends()
            assert program.wait(PATIENCE_S) == 0
        finally:
            program.kill()
    assert run.starts[0].source == "our laboratory" and not run.problems
    assert [frame.block[0, 0] for frame in run.frames] == list(np.arange(7) * 2.5)
    assert summary(totals)[0]["sent"] == 7


@pytest.mark.usefixtures("installed")
def test_drivers_of_other_packages_are_listed_and_broken_ones_are_one_sentence(tmp_path: Path) -> None:
    code, out, _ = said("--list")
    assert code == 0
    text = " ".join(out.split())
    assert "lab foreign-drivers The spectrometer of a laboratory." in text
    assert "simulator cars-rt A BCARS microscope" in text
    code, out, _ = said("lab", "--help")
    assert code == 0
    assert all(each in out for each in ("ABOUT", "--gain", "Of the amplifier.", "--publish", "--log-level"))
    assert "The spectrometer of a laboratory." in out
    code, _, error = said("nothing", "--publish", "tcp://127.0.0.1:5555")
    assert code == 1 and error.count("\n") == 1
    assert "NotADriver is no subclass of cars_rt.drivers.Instrument; update or uninstall the" in error
    about = tmp_path / "about.txt"
    about.write_text("", encoding="utf-8")
    code, _, error = said("lab", about, "--gain", 0)
    assert (code, error.count("\n")) == (1, 1) and "--gain must be more than 0" in error


@pytest.mark.usefixtures("installed")
def test_flags_of_a_file_may_be_those_of_another_package(tmp_path: Path) -> None:
    config = tmp_path / "lab.toml"
    config.write_text("[drive.lab]\ngian = 2\n", encoding="utf-8")
    command = [sys.executable, "-m", "cars_rt", "--config", config, "drive", "--list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2 and "gian in [drive.lab] is no flag" in done.stderr
    assert "did you mean gain?" in done.stderr


@pytest.mark.usefixtures("installed")
def test_none_takes_the_name_of_one_of_ours_or_of_a_flag() -> None:
    assert driver_names() == [*DRIVERS, "lab", "nothing", "doubled", "unknown", "absent"]
    assert driver_class("replay").__module__ == "cars_rt.drivers.replay"
    assert (package("replay"), package("lab")) == ("cars-rt", "foreign-drivers")
    with pytest.raises(InstrumentError, match=r"no driver is called 'x'; there are simulator, replay, .*lab"):
        driver_class("x")
    with pytest.raises(InstrumentError, match=r"foreign_nowhere:Any does not load \(ModuleNotFoundError"):
        driver_class("absent")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("doubled", "Publishing has publish, which every driver has"),
        ("unknown", "Unknown: its parameters cannot be flags (NameError: name 'Nowhere' is not defined)"),
    ],
)
def test_parameters_that_cannot_be_flags_are_told(name: str, reason: str) -> None:
    code, _, error = said(name)
    assert (code, error.count("\n")) == (1, 1) and reason in error
