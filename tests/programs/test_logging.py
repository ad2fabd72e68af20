"""Logs as JSON: real processes, and what collects their lines."""

import json
import os
import re
import select
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import AXIS, LOCAL, PATIENCE_S, Command, spectra_of

from cars_rt.console import STOPPING, Rate, StatusLine, stopping

HEAD = """
import logging
from cars_rt.console import Logging, StatusLine, fail, log, start_logging
start_logging(Logging(log_format="json"))
"""


def lines_of(program: str) -> list[dict[str, Any]]:
    """What a program writes to stderr, every line of it JSON."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + program], capture_output=True, text=True, encoding="utf-8", check=False
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_has_time_level_logger_message_and_fields() -> None:
    (line,) = lines_of(
        'logging.getLogger("cars_rt.daemon").warning('
        '"lost %d\\nspectra", 3, extra={"run": "r-1", "lost": {"engine": 3}, "at": object})'
    )
    assert line["level"] == "WARNING" and line["logger"] == "cars_rt.daemon"
    assert line["message"] == "lost 3\nspectra"  # one line of JSON all the same
    assert line["run"] == "r-1" and line["lost"] == {"engine": 3} and "at" in line
    time = datetime.fromisoformat(line["time"])
    assert time.utcoffset() == timedelta(0) and abs(datetime.now(UTC) - time) < timedelta(minutes=5)


def test_errors_are_json_too_also_those_that_nobody_caught() -> None:
    (line,) = lines_of('fail("no such port", 1)')
    assert line["message"] == "no such port" and line["level"] == "CRITICAL" and line["exit_code"] == 1
    (line,) = lines_of("1 / 0")
    assert line["message"] == "division by zero" and "ZeroDivisionError" in line["exc_info"]
    (line,) = lines_of("try:\n    1 / 0\nexcept Exception:\n    log.exception('oh')")
    assert line["message"] == "oh" and "ZeroDivisionError" in line["exc_info"]


def test_a_driver_logs_json_and_its_totals_as_fields(tmp_path: Path) -> None:
    file = tmp_path / "spectra.npz"
    np.savez(file, spectra=spectra_of(20), raman_shift=AXIS)
    with Command("drive", "replay", file, "--subscribers", 0, "--publish", LOCAL,
                 CARS_RT_DRIVE_REPLAY_LOG_FORMAT="json") as driver:  # fmt: skip
        assert driver.end() == 3  # nobody listened
        lines = [json.loads(line) for line in driver.said.splitlines()]
    assert lines[-1]["sent"] == 0 and lines[-1]["lost"] == {"unheard": 20} and lines[-1]["run"]


def test_text_is_the_default_and_other_formats_are_refused() -> None:
    with Command("run", "--engine", "none-such") as daemon:
        assert daemon.end() == 1 and daemon.said.startswith("cars-rt: ")
    with Command("run", "--log-format", "xml") as daemon:
        assert daemon.end() == 2


def test_a_status_in_the_log_tells_of_the_time_since_the_one_before_and_is_not_repeated_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Blocks of 2,000 spectra come early in each ten seconds, and for an hour nothing does."""
    caplog.set_level("INFO", "cars_rt")
    monkeypatch.setattr("cars_rt.console.on_terminal", lambda: False)
    now, total, said = 0.0, 0, []
    monkeypatch.setattr("cars_rt.console.time.monotonic", lambda: now)
    rate = Rate()

    def describe() -> str:
        return f"{total} written, {rate.read(total):.0f}/s"

    with StatusLine() as line:
        for second in range(1, 3661):
            now, total = float(second), 2000 * min(1 + second // 10, 3)
            line.show(describe)
            said += [(second, record.getMessage()) for record in caplog.records]
            caplog.clear()
    assert said[:2] == [(10, "4000 written, 400/s"), (20, "6000 written, 200/s")]
    nothing = "6000 written, 0/s"
    assert said[2:] == [(second, nothing) for second in (30, 90, 690, 1290, 1890, 2490, 3090)]


STOOD_STILL = """
import os, sys
import cars_rt.spool
from cars_rt.console import Logging, StatusLine, log, start_logging, stopping
cars_rt.spool.END_S = float(sys.argv[1])
start_logging(Logging(), spooled=True)
stops = []
with StatusLine() as line, stopping(lambda: stops.append(True)):
    for number in range(100):
        log.info(f"line {number}")
        line._next = 0
        line.show(lambda: f"status {number}")
    os.write(1, b"went on\\n")
    sys.stdin.readline()
    assert stops
    log.info("the end")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("then", ["goes on", "is closed", "stays so"])
def test_a_program_goes_on_and_ends_in_order_where_its_terminal_stands_still(then: str) -> None:
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcflow(theirs, termios.TCOOFF)  # as by Ctrl-S
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-c", STOOD_STILL, "0.1" if then == "stays so" else str(PATIENCE_S)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"TERM": "xterm"},
    ) as program:  # fmt: skip
        assert program.stdin is not None and program.stdout is not None
        try:
            assert select.select([program.stdout], [], [], PATIENCE_S)[0], "it waits for its terminal"
            assert program.stdout.readline() == b"went on\n"
            program.send_signal(signal.SIGTERM)
            if then == "goes on":
                termios.tcflow(theirs, termios.TCOON)
            os.close(theirs)
            if then == "is closed":
                os.close(ours)
            program.stdin.write(b"\n")
            program.stdin.close()
            with suppress(OSError):  # Linux says so when the last one has closed the other end
                while then == "goes on" and (part := os.read(ours, 4096)):
                    shown += part
            assert program.wait(PATIENCE_S) == 0
        finally:
            program.kill()
    if then != "is closed":
        os.close(ours)
    if then == "goes on":
        text = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", shown.decode())  # without colours
        assert re.findall(r"line (\d+)", text) == [str(number) for number in range(100)]
        assert text.index("line 99") < text.index(STOPPING[:20]) < text.index("the end")


def test_signals_that_come_together_are_one_wish_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout` sends two at once: the daemon left at once, in the middle of what it had received."""
    wishes: list[bool] = []
    monkeypatch.setattr("cars_rt.console.TOGETHER_S", 60.0)
    with stopping(lambda: wishes.append(True)):
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert wishes == [True]
        monkeypatch.setattr("cars_rt.console.TOGETHER_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
