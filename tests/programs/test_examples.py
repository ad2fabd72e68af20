"""The examples of the documentation, run as they stand: against a daemon's results, until Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import PATIENCE_S, Published, a_frame, a_start, an_end, wait_until

from cars_rt.sockets.free import free_addresses
from cars_rt.storage import file_name

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
RUN = a_start(
    "lab/1", np.linspace(2800, 3050, 50), stream="raman", dtype="float32", block=4, spectra=8, scan=(2, 4),
    model={"name": "cnn"},
)  # fmt: skip


def snippet() -> str:
    """The program of README.md, as somebody copies it."""
    text = (EXAMPLES.parents[1] / "README.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"\n\n((?:    .*\n|\n)*?    .*cars_rt\.connect\((?:.*\n(?=    |\n))*.*\n)", text)
    return textwrap.dedent(found)


def example(name: str, address: str, folder: Path) -> "subprocess.Popen[bytes]":
    """The example with another address than the usual one, its output in a file."""
    code = snippet() if name == "README" else (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert "tcp://127.0.0.1:5556" in code
    script = folder / f"{name}.py"
    script.write_text(code.replace("tcp://127.0.0.1:5556", address), encoding="utf-8")
    with (folder / "output").open("wb") as output:
        return subprocess.Popen([sys.executable, "-u", script], stdout=output, stderr=output, cwd=folder)


@pytest.mark.skipif(os.name != "posix", reason="sends the signal of Ctrl-C")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("print_peaks", "complete; lost on the way here: nothing"),
        ("band_image", "-2930.npy: 8 of 8 points"),
        ("README", "4 [2800. 2800. 2800. 2800.]"),
    ],
)
def test_example_reads_a_run_and_ends_at_ctrl_c_without_a_traceback(
    name: str, said: str, tmp_path: Path
) -> None:
    (address,) = free_addresses(1)
    with example(name, address, tmp_path) as program, Published("raman", address) as source:
        try:
            source.wait()
            source.say(RUN)
            for sequence in range(2):
                raman = np.full((4, RUN.pixels), sequence, np.float32)
                source.say(a_frame(sequence, raman, RUN.run, stream="raman", arrays={"raman": raman}))
            source.say(an_end(2, 8, RUN.run, stream="raman"))
            output = tmp_path / "output"
            wait_until(lambda: said in output.read_text() or program.poll() is not None)
            program.send_signal(signal.SIGINT)
            code = program.wait(PATIENCE_S)
        finally:
            program.kill()
    text = (tmp_path / "output").read_text()
    assert (code, "Traceback" in text) == (0, False), text
    assert said in text
    if name == "band_image":
        assert np.array_equal(np.load(tmp_path / file_name(RUN.run, "-2930.npy")), [[0] * 4, [1] * 4])


@pytest.mark.parametrize("name", ["read_recording", "read_flight"])
def test_example_without_a_file_says_how_it_is_called(name: str) -> None:
    script = EXAMPLES / f"{name}.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1 and done.stderr.startswith(f"python {name}.py ")


def test_example_for_flights_says_what_is_none(tmp_path: Path) -> None:
    h5py.File(tmp_path / "scan.h5", "w").close()
    for name, said in (("scan.h5", "is no flight file, as"), ("none.h5", "is no HDF5 file")):
        command = [sys.executable, EXAMPLES / "read_flight.py", tmp_path / name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
