"""Text from elsewhere on terminal and log: shown, never obeyed."""

import io
import logging
import subprocess
import sys

import pytest
from rich.table import Table
from rich.text import Text

from cars_rt.cli import ctl
from cars_rt.cli.ctl import Where
from cars_rt.console import Terminal
from cars_rt.printable import between, lasted, printable, typed

HOSTILE = (
    "lamp [/bold] [link=http://x]:smile: \x1b]0;owned\x07\x1b[2J\r\n12:00:00 INFO all is well\u202e\ud800\x9b"
)


def obeyed(text: str) -> list[str]:
    """What of it a terminal would act on."""
    return [letter for letter in text if not (letter.isprintable() or letter == "\n")]


def test_printable_shows_what_a_terminal_would_obey() -> None:
    assert printable("Kamera 1, µm, 光谱, 100 %") == "Kamera 1, µm, 光谱, 100 %"
    assert printable("a\nb\x1b[2J") == r"a\nb\x1b[2J"
    assert printable("a\nb", keep="\n") == "a\nb"
    assert printable("x" * 10, 5) == "xxxx…"
    assert printable("a\u202eb\ud800") == r"a\u202eb\ud800"
    assert not obeyed(printable(HOSTILE)) and "\n" not in printable(HOSTILE)
    assert printable(12) == "12"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 s"),
        (119.0, "119 s"),
        (300.0, "5 min"),
        (7_199.0, "120 min"),
        (9_000.0, "2 h"),
        (200_000.0, "2 days"),
    ],
)
def test_a_time_has_the_unit_that_suits_it(seconds: float, said: str) -> None:
    assert lasted(seconds) == said


@pytest.mark.skipif(sys.platform == "win32", reason="asks the shell of POSIX")
@pytest.mark.parametrize("path", ["scan.h5", "größe 1.h5", "it's $HOME; `ls`.h5", "a\nb", "~x"])
def test_path_in_a_command_that_is_printed_is_one_word_to_the_shell(path: str) -> None:
    said = subprocess.run(["sh", "-c", f"printf %s {typed(path)}"], capture_output=True, check=True).stdout
    assert said.decode() == path


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((2800, 3050), "2800–3050"),
        ((2800.3, 3050.7), "2800–3051"),
        ((1000.1, 1000.4), "1000.1–1000.4"),
        ((1000, 1000), "1000–1000"),
        ((999.9996, 1000.0004), "999.9996–1000.0004"),
    ],
)
def test_a_range_has_as_many_digits_as_it_needs(ends: tuple[float, float], said: str) -> None:
    assert between(*ends) == said


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_printed_is_markup_or_a_command(terminal: bool) -> None:
    out = Terminal()
    out.file, out._force_terminal, out._color_system = io.StringIO(), terminal, None  # type: ignore[assignment]
    table = Table("a", title=HOSTILE)
    table.add_row(HOSTILE)
    for what in (HOSTILE, Text(HOSTILE), table):
        out.print(what, soft_wrap=True)
    said = out.file.getvalue()
    assert said.count("[/bold]") >= 3 and said.count(":smile:") >= 3
    assert "\x1b]0" not in said and "\x1b[2J" not in said and "\x07" not in said and "\r" not in said
    assert "\u202e" not in said


@pytest.mark.parametrize(
    ("terminal", "said"),
    [
        (True, "one two\nthree four\n/a/path/of/some/length\nfive\n"),
        (False, "one two three four /a/path/of/some/length five\n"),
    ],
)
def test_a_sentence_is_wrapped_between_words(terminal: bool, said: str) -> None:
    out = Terminal()
    out.file, out._force_terminal, out._color_system = io.StringIO(), terminal, None  # type: ignore[assignment]
    out.width = 11
    out.say("one two three four /a/path/of/some/length five")
    assert out.file.getvalue().replace(" \n", "\n") == said


def test_status_of_a_daemon_with_a_source_that_is_markup(capsys: pytest.CaptureFixture[str]) -> None:
    ctl.show(Where(), {"run": HOSTILE}, lambda now: [("run", now["run"])])
    said = capsys.readouterr().out
    assert "[/bold]" in said and not obeyed(said)
    ctl.say(Where(), {}, f"a\n{HOSTILE}")
    said = capsys.readouterr().out
    assert "[/bold]" in said and not obeyed(said)


LOGS = """
import logging, sys
from cars_rt.console import Logging, fail, log, start_logging
start_logging(Logging())
log.info("model %s %s: %s", "m\\n2030-01-01 INFO all is well", "1", "\\x1b]0;owned\\x07")
try:
    raise ValueError("\\x1b[2J")
except ValueError:
    log.exception("oh")
fail("the source [/x] \\x1b[2J\\nis odd")
"""


def test_a_line_of_the_log_stays_a_line() -> None:
    done = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, encoding="utf-8", check=False)
    lines = done.stderr.splitlines()
    assert lines[0].endswith(r"INFO model m\n2030-01-01 INFO all is well 1: \x1b]0;owned\x07")
    assert lines[-1] == r"cars-rt: the source [/x] \x1b[2J\nis odd" and done.returncode == 1
    assert "Traceback" in done.stderr and not obeyed(done.stderr)
    assert logging.getLogger("cars_rt") is not None
