"""Settings that cannot be: one sentence each, before anything starts."""

import time
from pathlib import Path
from typing import Any

import pytest
from helpers import a_frame, a_line, a_start, an_end, spectra_of, wait_until

from cars_rt.cli.export import _band
from cars_rt.daemon.outputs.preview import parse_band
from cars_rt.daemon.settings import DaemonSettings, SettingsError
from cars_rt.show import Band, parse_bands


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_batch": 0}, "--max-batch must be from 1 to 4096, not 0"),
        ({"buffer_mb": 0}, "--buffer-mb must be more than 0"),
        ({"buffer_mb": float("inf")}, "--buffer-mb must be more than 0 and finite, not inf"),
        ({"buffer_mb": float("nan")}, "--buffer-mb must be more than 0 and finite, not nan"),
        ({"stall_s": -1}, "--stall-s must be 0 or more, not -1"),
        ({"stall_s": float("nan")}, "--stall-s must be 0 or more, not nan"),
        ({"bands": ("A=1:2",) * 33}, "at most 32 bands"),
        (
            {"publish": "tcp://127.0.0.1:5555"},
            "--listen and --publish are the same address, tcp://127.0.0.1:5555",
        ),
        ({"control": "tcp://127.0.0.1:5557"}, "--preview and --control are the same address"),
        ({"publish": "none"}, "--listen and --publish cannot be none"),
    ],
)
def test_impossible_settings_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said.replace(".", r"\.")):
        DaemonSettings(**given)


def test_receipts_need_a_folder_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="--receipts"):
        DaemonSettings(receipts=tmp_path / "file" / "receipts").make_folders()
    settings = DaemonSettings(receipts=tmp_path / "receipts")
    assert not (tmp_path / "receipts").exists()  # settings alone touch nothing
    settings.make_folders()
    assert (tmp_path / "receipts").is_dir()


def test_a_band_is_written_as_for_pictures_and_exports() -> None:
    for text in ("CH=2850:2930", "CH=2850-2930", "CH = 2850 – 2930", "CH=2930:2850"):  # an en dash, too
        assert tuple(parse_band(text)) == ("CH", 2850.0, 2930.0)
        assert parse_bands([text]) == [Band(2850.0, 2930.0, "CH")]
    for text in ("2850:2930", "2850-2930", "2850–2930", "2930-2850"):
        assert _band(text) == (2850.0, 2930.0)
        assert parse_band(text).name == "2850:2930"


@pytest.mark.parametrize("text", ["CH", "CH=", "CH=1", "CH=a:b", "CH=1:2:3", "=1:", ""])
def test_band_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="a band is NAME=LOW:HIGH"):
        parse_band(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("CH=2:2", "low and high"),
        ("CH=nan:2", "low and high"),
        ("Ω=1:2", "the name of a band"),
        (f"{'n' * 99}=1:2", "64"),
    ],
)
def test_band_whose_name_or_range_is_none_says_which(text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=f"is no band: .*{reason}"):
        parse_band(text)


@pytest.mark.parametrize("wrong", ["start", "frame"])
def test_time_stamps_in_milliseconds_are_said_once(wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    """Also where the others are right, by which the clock is."""
    milliseconds = {"time_ns": time.time_ns() // 10**6}
    with a_line() as (source, daemon, results):
        source.publisher.open(a_start(**(milliseconds if wrong == "start" else {})))
        source.publisher.send(a_frame(0, spectra_of(1), **(milliseconds if wrong == "frame" else {})))
        source.publisher.send(a_frame(1, spectra_of(1)))
        source.publisher.end(an_end(2))
        results.ends()
        wait_until(lambda: daemon.receipts)
    assert daemon.receipts[0].problems == {"clock": 1}
    assert caplog.text.count("not in seconds, milliseconds or microseconds") == 1


def test_time_stamps_from_the_future_are_said_once_and_cost_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Also what a clock that is set back looks like."""
    with a_line() as (source, daemon, results):
        source.publisher.open(a_start())
        for number in range(20):
            stamp = 4_000_000_000_000_000_000 if number % 2 else 1_000_000_000  # the year 2096, 1970
            source.publisher.send(a_frame(number, spectra_of(1), time_ns=stamp))
        results.until(lambda all_: all_.spectra == 20)
        wait_until(lambda: daemon.parts.runs.book.problems["clock"])
        source.publisher.end(an_end(20))
        results.ends()
    assert daemon.parts.runs.book.problems == {"clock": 1} and not daemon.receipts[0].lost
    assert daemon.receipts[0].problems == {"clock": 1}
    assert daemon.parts.results.latencies["total"].count == 10
    assert caplog.text.count("in the future") == 1
