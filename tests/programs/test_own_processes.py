"""Processes of our own: what lies in the folder that a person happens to be in is no part of them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import AXIS, LOCAL, PATIENCE_S, Camera, spectra_of

from cars_rt.bench.pipeline import Pipeline, bare_loop
from cars_rt.check.load import Load
from cars_rt.check.network import measure_network
from cars_rt.check.report import Verdict
from cars_rt.check.settings import CheckSettings
from cars_rt.console import STOP_WITH_STDIN
from cars_rt.drivers.apart import InProcess
from cars_rt.engines import compose, load_model
from cars_rt.engines.rehearsal import rehearse
from cars_rt.protocol import Start
from cars_rt.room.program import LoggedProgram


class Apart(Camera):
    def __init__(self) -> None:
        super().__init__([spectra_of(1)])


def engine() -> None:
    tried = rehearse(compose(load_model(), np.linspace(800, 1500, 160)), ["onnxruntime"], 8, 1, rates=False)
    assert tried["onnxruntime"].reason == ""


def driver() -> None:
    instrument = InProcess(Apart)
    instrument.acquisition()
    instrument.close()


def part_of_a_room() -> None:
    program = LoggedProgram("recorder", ["--version"], Path())
    try:
        program.wait(PATIENCE_S)
        program.check()
    finally:
        program.kill()


def network_of_check() -> None:
    start = Start("raw", "run", 0, "a test", AXIS, "uint16", block=1)
    load = Load(1000.0, start, spectra_of(1), assumed=True)
    line = measure_network(CheckSettings(listen=LOCAL, seconds=0.1), load, {}, lambda part, done: None)
    assert line.verdict is not Verdict.FAILS, line.note


def peers_of_bench() -> None:
    with Pipeline("bare", bare_loop) as pipeline:
        assert pipeline.passage(pixels=8, block=1, frames=2).spectra == 2


def test_flags_of_a_laboratory_are_not_those_of_a_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys would lock a daemon to which nobody here has one."""
    monkeypatch.setenv("CARS_RT_RUN_KEY", "microscope.key")
    monkeypatch.setenv("CARS_RT_DRIVE_SIMULATOR_RATE", "1")
    monkeypatch.setenv("CARS_RT_CACHE", "cache")
    monkeypatch.delenv("CARS_RT_FORGETFUL", raising=False)
    began: list[dict[str, str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, env, **_: began.append(env))
    LoggedProgram("daemon", ["run"], tmp_path)
    ours = {name: value for name, value in began[0].items() if name.startswith("CARS_RT_")}
    assert ours == {"CARS_RT_RUN_HTTP": "none", "CARS_RT_CACHE": "cache", STOP_WITH_STDIN: "1"}


@pytest.mark.parametrize("work", [engine, driver, part_of_a_room, network_of_check, peers_of_bench])
def test_file_in_the_current_folder_takes_no_modules_place(
    work: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("random", "socket"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('somebody has a file of that name')")
    monkeypatch.chdir(tmp_path)
    work()
