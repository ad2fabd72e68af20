"""docs/drivers.md, followed word for word: the driver of its page, and the template under another licence."""

import os
import re
import socket
import struct
import subprocess
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import PATIENCE_S

from cars_rt.drivers import Block, InstrumentError
from cars_rt.drivers.axis import AxisSettings
from cars_rt.drivers.conformance import TRIALS
from cars_rt.drivers.images import ImageSettings
from cars_rt.drivers.registry import DRIVERS
from cars_rt.drivers.scan import ScanSettings

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "drivers.md").read_text(encoding="utf-8")
TEMPLATE = DOCS / "examples" / "cars-rt-pylablib"


def installed(source: Path, target: Path) -> dict[str, str]:
    """A package in a folder of its own, as pip installs it, and the environment that has it."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    pip += ["--disable-pip-version-check", "--no-index", "--target", str(target), str(source)]
    subprocess.run(pip, check=True, timeout=PATIENCE_S * 2)
    path = os.pathsep.join(filter(None, [str(target), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "COLUMNS": "200"}


def said(environment: dict[str, str], *command: object, folder: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S * 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


FILES = dict(re.findall(r"\n```(?:toml|python) (\S+)\n(.*?)```\n", PAGE, re.DOTALL))


def test_driver_of_the_page_takes_images_that_come_in_parts(tmp_path: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "lab"}
    exec(compile(FILES["lab.py"], "lab.py", "exec"), namespace)
    images = [struct.pack("<IQ", number, number) + bytes([number]) * 1024 for number in range(4)]
    with socket.create_server(("127.0.0.1", 0)) as camera:
        driver = namespace["Lab"](namespace["LabSettings"](port=camera.getsockname()[1]))
        waits, given = 0, []
        with pytest.raises(InstrumentError, match="does not answer: it has closed the connection"):
            for each in driver.frames():
                if isinstance(each, Block):
                    given.append((each.number, *np.unique(each.counts)))
                    continue
                waits += 1  # all that was sent has been taken
                if waits == 1:
                    connection, _ = camera.accept()
                    connection.sendall(images[0][:700])
                elif waits == 2:
                    connection.sendall(images[0][700:] + images[1][:5])
                elif waits == 3:
                    connection.sendall(images[1][5:] + images[2] + images[3][:700])
                else:
                    assert given == [(0, 0), (1, 257), (2, 514)]
                    connection.shutdown(socket.SHUT_WR)
        connection.close()


def test_page_followed_word_for_word_gives_a_driver_that_conforms(tmp_path: Path) -> None:
    assert list(FILES) == ["pyproject.toml", "camera.py", "lab.py", "test_lab.py"]
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert len(FILES["lab.py"].splitlines()) < 100
    pytest.importorskip("setuptools")
    environment = installed(tmp_path, tmp_path / "site")
    assert "lab" in said(environment, "cars_rt", "drive", "--list")
    help_ = said(environment, "cars_rt", "drive", "lab", "--help")
    assert "--exposure-ms" in help_ and "Exposure of one spectrum, 0.1 to 100." in help_
    tried = said(environment, "pytest", "-q", "-p", "no:cacheprovider", "test_lab.py", folder=tmp_path)
    assert f"{len(TRIALS)} passed" in tried


def test_page_names_every_driver_trial_and_file() -> None:
    for name in (*DRIVERS, *TRIALS):
        assert f"`{name}`" in PAGE or name in PAGE, name
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert link.startswith("https://") or (DOCS / link).exists(), link


class Pylablib(types.ModuleType):
    """Of pylablib.devices.Andor what the template uses, as its documentation describes it."""

    class AndorError(Exception): ...

    class AndorTimeoutError(AndorError): ...

    class AndorSDK3Camera:
        def __init__(self, idx: int) -> None:
            if idx == 9:
                raise OSError("can't import library atcore.dll\nIs it installed?")
            if idx:
                raise Pylablib.AndorError(f"no camera {idx}")
            self.number, self.goes = 0, False

        def set_exposure(self, exposure_s: float) -> float:
            return max(exposure_s, 1e-4)

        def get_data_dimensions(self) -> tuple[int, int]:
            return 4, 64

        def get_device_info(self) -> Any:
            return types.SimpleNamespace(camera_model="Zyla", serial_number="VSC-1")

        def setup_acquisition(self, mode: str, nframes: int) -> None:
            assert mode == "sequence" and nframes > 1

        def start_acquisition(self) -> None:
            self.goes = True

        def stop_acquisition(self) -> None:
            self.goes = False

        def wait_for_frame(self, timeout: float) -> None:
            assert self.goes
            if self.number == 0:
                self.number = 1
                raise Pylablib.AndorTimeoutError("not yet")

        def read_multiple_images(self, return_info: bool) -> Any:
            first, self.number = self.number, self.number + 3
            images = [np.full((4, 64), number, np.uint16) for number in range(first, first + 3)]
            return images, [types.SimpleNamespace(frame_index=number) for number in range(first, first + 3)]

        def close(self) -> None: ...


def test_template_under_another_licence_installs_and_makes_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (TEMPLATE / "pyproject.toml").read_text(encoding="utf-8")
    assert 'license = "GPL-3.0-only"' in text
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in TEMPLATE.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    environment = installed(copy, tmp_path / "site")
    listed = " ".join(said(environment, "cars_rt", "drive", "--list").split())
    assert "andor-sdk3 cars-rt-pylablib A camera of Andor with SDK3, by pylablib." in listed

    monkeypatch.syspath_prepend(tmp_path / "site")
    import cars_rt_pylablib

    settings = cars_rt_pylablib.AndorSdk3Settings()
    given = (ImageSettings(), ScanSettings(spectra=6), AxisSettings(axis="500:3100"))
    make = partial(cars_rt_pylablib.AndorSdk3, settings, *given)
    with pytest.raises(InstrumentError, match="pylablib is missing"):
        make()
    monkeypatch.setitem(sys.modules, "pylablib", types.ModuleType("pylablib"))
    monkeypatch.setitem(sys.modules, "pylablib.devices", types.ModuleType("pylablib.devices"))
    monkeypatch.setitem(sys.modules, "pylablib.devices.Andor", Pylablib("pylablib.devices.Andor"))
    instrument = make()
    about = instrument.acquisition()
    blocks = [each for each in instrument.frames() if isinstance(each, Block)]
    assert (about.dtype, about.instrument["model"]) == ("uint32", "Zyla")
    assert [each.number for each in blocks] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(InstrumentError, match=r"nearest offered is 0\.1 ms"):
        cars_rt_pylablib.AndorSdk3(cars_rt_pylablib.AndorSdk3Settings(exposure_ms=0.01), *given)
    for camera, why in (
        (1, "no camera 1"),
        (9, r"can't import library atcore.dll Is it"),
    ):  # as where there is no SDK
        with pytest.raises(InstrumentError, match=f"camera {camera} cannot be opened: {why}"):
            cars_rt_pylablib.AndorSdk3(cars_rt_pylablib.AndorSdk3Settings(camera=camera), *given)
