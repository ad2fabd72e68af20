"""The suite that every driver has to pass: ours pass it, and each fault that it is for is found."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from helpers import AXIS, Camera, Command, spectra_of

from cars_rt.drivers import Acquisition, Block, Instrument, InstrumentError
from cars_rt.drivers.base import until
from cars_rt.drivers.conformance import TRIALS, Subject, attempt
from cars_rt.drivers.simulator import SimulatedMicroscope, SimulatorSettings

COUNTS = spectra_of(60)


def simulator() -> Subject:
    settings = SimulatorSettings(rate=0, scan="6x10", pixels=256)
    make = partial(SimulatedMicroscope, settings)
    truth = np.concatenate(list(make().frames()))
    wrong = {"--scan 6": lambda: SimulatedMicroscope(SimulatorSettings(scan="6"))}
    return Subject(make=make, truth=lambda index: truth[index], wrong=wrong, rate=1)


@pytest.mark.parametrize("trial", TRIALS)
def test_simulator_conforms(trial: str) -> None:
    attempt(trial, simulator()).check()


def test_slow_consumer_is_slow_enough_that_a_fast_camera_loses_spectra_and_that_is_right() -> None:
    make = partial(Faulty, "endless")
    verdict = attempt("slow consumer", Subject(make=make))
    verdict.check()
    assert verdict.said.count("overload") == 2


def test_slow_consumer_of_a_run_that_fits_into_the_buffers_is_not_tried() -> None:
    verdict = attempt("slow consumer", Subject(make=partial(Camera, [spectra_of(1)] * 2)))
    assert (verdict.outcome, verdict.said) == ("not tried", "2 spectra were too few to fill the buffers")


class Faulty(Instrument):
    """A camera of 60 images that can have one fault, and be unplugged."""

    plugged: ClassVar[bool] = True
    loses: ClassVar[int] = 0
    opened: ClassVar[int] = 0

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        if fault == "is not released" and Faulty.opened:
            raise InstrumentError("it is open already")
        Faulty.opened += 1
        if fault == "bad setting":
            raise InstrumentError("no such setting")

    def acquisition(self) -> Acquisition:
        shift = AXIS + (time.monotonic() if self.fault == "another axis" else 0.0)
        if self.fault == "endless":
            return Acquisition(source="faulty", raman_shift=np.arange(4096) + 500.0, dtype="float64")
        return Acquisition(source="faulty", raman_shift=shift, dtype="uint16", spectra=60)

    def frames(self) -> Iterator[Any]:
        number = 0
        while self.fault == "endless":
            yield np.zeros((1, 4096))
        begin, made = time.perf_counter(), 0
        while number < 60:
            yield from until(begin + made / 3000)
            made += 1
            if not Faulty.plugged:
                raise InstrumentError(
                    "line one\nline two" if self.fault == "two lines" else "it is unplugged"
                )
            if Faulty.loses:
                number, Faulty.loses = number + Faulty.loses, 0
            stamp = time.time_ns() - (10**10 if self.fault == "slow clock" else 0)
            if self.fault == "clock back":
                stamp -= number * 10**9
            counts = COUNTS[number : number + 1]
            if self.fault == "wrong count" and number == 30:
                counts = counts + np.uint16(1)
            yield counts if self.fault == "hides gaps" else Block(counts, number=number, time_ns=stamp)
            number += 1
            if self.fault == "fails":
                raise ValueError("a mistake")

    def close(self) -> None:
        if self.fault != "is not released":
            Faulty.opened = 0
        if self.fault == "goes on":
            threading.Thread(target=threading.Event().wait, daemon=True, name="instrument").start()


def unplug() -> None:
    Faulty.plugged = False


def replug() -> None:
    Faulty.plugged = True


def lose() -> None:
    Faulty.loses = 5


def faulty(fault: str = "") -> Subject:
    Faulty.plugged, Faulty.loses, Faulty.opened = True, 0, 0
    wrong = partial(Faulty, "" if fault == "takes all" else "bad setting")
    return Subject(
        make=partial(Faulty, fault), truth=lambda index: COUNTS[index], spectra=40,
        wrong={"a setting": wrong}, unplug=unplug, replug=replug, lose=lose,
        rate=1e12 if fault == "slow" else 1,
    )  # fmt: skip


@pytest.mark.parametrize("trial", TRIALS)
def test_camera_that_has_no_fault_conforms_in_every_trial(trial: str) -> None:
    verdict = attempt(trial, faulty())
    few = trial == "slow consumer" and verdict.outcome == "not tried"  # as the system's buffers are
    assert verdict.outcome == "passed" or few, verdict.said
    assert trial != "gaps" or verdict.said == "lost: 5 camera"


@pytest.mark.parametrize(
    ("fault", "trial", "said"),
    [
        ("another axis", "description", "raman_shift is another one"),
        ("fails", "run", "it failed: ValueError: a mistake"),
        ("wrong count", "numbers", "spectrum 30 has other counts"),
        ("slow", "rate", "spectra/s came, and .* should"),
        ("slow clock", "clock", r"the first frame is [\d.]+ s older than its run"),
        ("clock back", "clock", "go back|older than its run"),
        ("is not released", "restart", "it is open already"),
        ("goes on", "run", "after close, 2 of the instrument's threads or processes"),
        ("takes all", "wrong settings", "a setting is not refused"),
        ("two lines", "unplugging", "not in one sentence"),
        ("hides gaps", "gaps", "images were lost, and nothing says so|another one than it should be"),
    ],
)
def test_every_fault_is_found(fault: str, trial: str, said: str) -> None:
    verdict = attempt(trial, faulty(fault))
    with pytest.raises(AssertionError, match=said):
        verdict.check()


def test_driver_is_tried_by_its_command(tmp_path: Path) -> None:
    path = tmp_path / "counts.npz"
    np.savez(path, spectra=COUNTS, raman_shift=AXIS)
    with Command("drive", "replay", path, "--rate", 0, "--conform") as program:
        out, _ = program.process.communicate(timeout=60)
    assert program.process.returncode == 0
    lines = out.splitlines()
    assert [line[11:].split("  ")[0].strip() for line in lines] == list(TRIALS)
    assert "passed     numbers         50 spectra, right to the last count" in lines
    untried = {line[11:].split("  ")[0].strip() for line in lines if line.startswith("not tried")}
    assert untried - {"slow consumer"} == {"wrong settings", "unplugging", "gaps"}
