"""The demo: three real processes that end together, whatever happens."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import Command, summary, vouched_for, wait_until

from cars_rt.console import Terminal
from cars_rt.demo.display import Display
from cars_rt.demo.pace import Pace
from cars_rt.demo.report import picture

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="looks for processes with ps")


def running(output: Path) -> list[str]:
    """Processes whose command line names the demo's folder."""
    listing = subprocess.run(
        ["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True
    ).stdout
    return [line for line in listing.splitlines() if str(output) in line]


def demo(output: Path, *arguments: object) -> Command:
    return Command("demo", "--rate", 300, "--output", output, *arguments)


def output_of(command: Command) -> str:
    """What it printed; call it when the command has ended."""
    assert command.process.stdout is not None
    return command.process.stdout.read() + command.said


def test_demo_loses_nothing_and_leaves_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with demo(tmp_path, "--seconds", 4) as command:
        assert command.end(120) == 0, output_of(command)
        said = output_of(command)
    assert "starting the driver, the daemon and the recorder" in said and f"of {34 * 34} spectra, " in said
    assert "The live display in a browser: http://127.0.0.1:" in said or "For a live display" in said
    assert "nothing was lost" in said and "agreement with the simulator's truth" in said
    (driver,), (daemon,), (recorder,) = (
        summary(tmp_path / f"{name}.json") for name in ("driver", "daemon", "recorder")
    )
    total = driver["produced"]
    assert total == 34 * 34
    assert driver["sent"] == daemon["received"] == daemon["sent"] == total
    assert recorder["rows"] == {"raw": total, "raman": total} and recorder["complete"]
    with h5py.File(tmp_path / "scan.h5") as file:
        assert len(file["raw/counts"]) == len(file["raman/raman"]) == total
    png = (tmp_path / "demo.png").read_bytes()
    assert png.startswith(b"\x89PNG") and png.rstrip().endswith(b"IEND\xaeB`\x82")
    assert not running(tmp_path)
    _writes_one_unit(tmp_path, monkeypatch)


def _writes_one_unit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written in the picture, as the figure has it that is drawn from the same files."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    written: list[str] = []
    save = Figure.savefig

    def saving(figure: Figure, *given: Any, **named: Any) -> None:
        save(figure, *given, **named)
        written.extend(each.get_text() for each in figure.findobj(Text))

    monkeypatch.setattr(Figure, "savefig", saving)
    assert picture(folder / "scan.h5", folder / "truth.h5", folder / "again.png")
    assert "raman at 1004 cm⁻¹ (toluene, polystyrene)" in written and "raman shift (cm⁻¹)" in written
    assert not [each for each in written if "cm-1" in each]
    assert [each for each in written if each.endswith(" µm")]  # the scale bar


@pytest.mark.parametrize(
    ("measured_s", "came_s", "said"),
    [
        (10.0, 10.01, None),
        (10.0, 19.0, "1000/s were measured, 526/s came out, the last one 9.0 s late; .* --rate 370$"),
        (20.0, 20.1, "500/s were measured, 498/s came out, the last one 0.1 s late; .* --rate 350$"),
    ],
)
def test_computer_that_does_not_keep_up_is_told(measured_s: float, came_s: float, said: str | None) -> None:
    pace = Pace()
    for number in range(10_001):
        pace.add(1, int(measured_s * number * 1e5), int(came_s * number * 1e5) + 1)
    verdict = pace.verdict(1000)
    assert verdict is None if said is None else re.search(said, str(verdict))
    assert Pace().verdict(1000) is None and pace.verdict(0) is None


@pytest.mark.parametrize(
    ("scan", "columns", "lines"), [((100, 100), 80, 23), ((40, 120), 100, 40), ((300, 20), 200, 23)]
)
def test_all_of_the_image_fits_the_terminal(scan: tuple[int, int], columns: int, lines: int) -> None:
    display = Display()
    display.image = np.linspace(0, 1, scan[0] * scan[1], dtype=np.float32).reshape(scan)
    out = Terminal()
    out.width = columns
    drawn = out.render_lines(display.render(1000.0, "a source", columns, lines))
    text = ["".join(part.text for part in line) for line in drawn]
    assert len(text) <= lines and "…" not in "".join(text)
    high, wide = 2 * sum("▀" in line for line in text), max(line.count("▀") for line in text)
    assert 0.7 < (high / wide) / (scan[0] / scan[1]) < 1.5


def test_demo_reports_a_daemon_that_cannot_compute(tmp_path: Path) -> None:
    with demo(tmp_path, "--seconds", 4, "--engine", "nonsense") as command:
        assert command.end(120) == 1
        said = output_of(command)
    assert "no engine is called 'nonsense'; there are" in said
    assert "Traceback" not in said and not running(tmp_path)


@pytest.mark.parametrize("name", ["driver", "daemon", "recorder"])
def test_demo_reports_a_process_that_dies(name: str, tmp_path: Path) -> None:
    commands = {"driver": "drive simulator", "daemon": "--listen", "recorder": "record"}
    with demo(tmp_path, "--seconds", 60) as command:
        wait_until(lambda: _recording_began(tmp_path))
        (victim,) = (
            int(line.split()[0]) for line in running(tmp_path) if f"cars_rt {commands[name]}" in line
            or (name == "daemon" and commands[name] in line)
        )  # fmt: skip
        subprocess.run(["kill", "-9", str(victim)], check=True)
        assert command.end(120) == 1
        said = output_of(command)
    assert f"the {name} died (exit code -9)" in said
    assert "Traceback" not in said and not running(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)])
def test_stopped_demo_keeps_what_was_measured(number: signal.Signals, tmp_path: Path) -> None:
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored by what began the tests (nohup), and so by the demo")
    with demo(tmp_path, "--seconds", 60) as command:
        wait_until(lambda: _recording_began(tmp_path))
        assert len(running(tmp_path)) == 4
        command.process.send_signal(number)
        assert command.end(120) == 0, output_of(command)
    (driver,) = summary(tmp_path / "driver.json")
    assert driver["reason"] == "stopped" and 0 < driver["sent"] < 60 * 300
    with h5py.File(tmp_path / "scan.h5") as file:
        assert len(file["raman/raman"]) == driver["sent"]
    assert not running(tmp_path)


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "0"])
def test_demo_of_no_length_is_refused_in_one_sentence(seconds: str, tmp_path: Path) -> None:
    with demo(tmp_path / "output", f"--seconds={seconds}") as command:
        assert command.end() == 1
        said = "--seconds must be positive and finite, --rate finite and not negative"
        assert output_of(command).strip() == said
    assert not (tmp_path / "output").exists()


def test_demo_that_is_stopped_at_once_leaves_nothing_running(tmp_path: Path) -> None:
    with demo(tmp_path, "--seconds", 60) as command:
        assert command.process.stdout is not None
        assert any(line.startswith("Scanning ") for line in command.process.stdout)  # its driver starts
        command.process.send_signal(signal.SIGTERM)
        assert command.end(120) == 130
        said = output_of(command)
        assert "cars-rt: interrupted" in said and "died" not in said and "Traceback" not in said
    assert not running(tmp_path)


def test_nothing_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    with demo(tmp_path, "--seconds", 60) as command:
        wait_until(lambda: _recording_began(tmp_path))
        command.process.kill()
        command.process.wait()
        wait_until(lambda: not running(tmp_path))
    with h5py.File(tmp_path / "scan.h5") as file:
        assert file["raman/written"][()] == len(file["raman/raman"]) > 0


def _recording_began(output: Path) -> bool:
    return vouched_for(output / "scan.partial.h5", "raman") > 0
