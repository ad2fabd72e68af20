"""Which dark a run gets: its own, or one that was measured in a run of the same camera in the same mode."""

import hashlib
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import (
    AXIS,
    PATIENCE_S,
    Collected,
    Published,
    a_frame,
    a_start,
    an_end,
    control_of,
    daemon_in_thread,
    wait_until,
)

from cars_rt.clock import SourceClock
from cars_rt.daemon.dark import Dark
from cars_rt.daemon.filing import Filing
from cars_rt.drivers import Acquisition, Order
from cars_rt.drivers.feed import Feed
from cars_rt.physics.darkness import may_be_hot
from cars_rt.protocol import Start
from cars_rt.remote import Remote, RemoteError

SETTINGS: dict[str, Any] = {
    "gain": 1.0, "rows_per_spectrum": 100, "frames_per_point": 2, "temperature_c": -60.0, "serial": "A1",
    "model": "iDus", "binning": [1, 1], "region": [0, 0, 160, 20], "readout_rate_hz": 1e6, "grating": 600,
}  # fmt: skip
MODE: dict[str, Any] = {
    "source": "cam", "exposure_s": 0.001, "full_scale": 4095.0, "instrument": SETTINGS
}  # fmt: skip
OWN = np.full(len(AXIS), 700, np.float32)


def measured(run: Start) -> Dark:
    dark = Dark(None, Filing())
    dark.begin(run, SourceClock())
    for level in (5000, 500):  # the first one was under way
        dark.add(np.full((3, run.pixels), level, np.uint16), 0)
    dark.finish()
    return dark


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exposure_s": 0.05}, "at an exposure of 0.001 s, this run has an exposure of 0.05 s"),
        ({"exposure_s": None}, "this run has an unknown exposure"),
        ({"source": "another"}, "measured with 'cam', this run is from 'another'"),
        ({"dtype": "uint32"}, "measured as uint16, this run has uint32"),
        ({"full_scale": None}, "at a full scale of 4095.0, this run has None"),
        ({"axis": AXIS + 1}, "on another axis .* 801.0 to 1501.0 cm-1"),
        ({"axis": AXIS**1.0000001}, "on another axis"),
        ({"axis": AXIS[::-1]}, "on another axis"),
        ({"axis": AXIS[1:]}, "on another axis .* 159 pixels"),
        ({"exposure_s": 0.0010031}, "this run has an exposure of 0.0010031 s"),
        ({"instrument": SETTINGS | {"gain": 4.0}}, "at gain 1, this run has 4"),
        (
            {"instrument": SETTINGS | {"readout_rate_hz": 3e6}},
            "at readout_rate_hz 1000000, this run has 3000000",
        ),
        ({"instrument": SETTINGS | {"rows_per_spectrum": 20}}, "on another number of rows"),
        ({"instrument": SETTINGS | {"frames_per_point": 1}}, "at frames_per_point 2, this run has 1"),
        ({"instrument": SETTINGS | {"serial": "B2"}}, "at serial A1, this run has B2"),
        ({"instrument": SETTINGS | {"serial": 12345679}}, "at serial A1, this run has 12345679"),
        ({"instrument": SETTINGS | {"model": "Newton"}}, "at model iDus, this run has Newton"),
        ({"instrument": SETTINGS | {"binning": [4, 1]}}, r"at binning \[1, 1\], this run has \[4, 1\]"),
        ({"instrument": SETTINGS | {"region": [0, 100, 160, 20]}}, "at region"),
        ({"instrument": SETTINGS | {"region": [300, 0, 160, 20]}}, "at region"),
    ],
)
def test_a_dark_of_another_mode_is_not_subtracted(change: dict[str, Any], reason: str) -> None:
    import re

    dark = measured(a_start(**MODE))
    other = a_start(**MODE | change)
    assert re.search(
        f"is not subtracted, (and no other one is|but the driver's own): .*{reason}", dark.unused(other) or ""
    )
    assert dark.of(other)[1] == "none" and not dark.of(other)[0].any()
    own = np.full(other.pixels, 700, np.float32)
    assert dark.of(a_start(**MODE | change, dark=own))[1] == "start"
    again = a_start(
        **MODE
        | {"instrument": {"gain": 1, "temperature_c": -58.0, "frames_per_point": 2}, "exposure_s": 0.00100031}
    )
    assert dark.unused(again) is None and dark.of(again)[1] == dark.name and not dark.doubts(again)
    assert not dark.doubts(other)


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ({"serial": 12345678}, {"serial": 12345679}, "at serial 12345678, this run has 12345679"),
        ({"serial": 12345678.0}, {"serial": 12345679.0}, "at serial 12345678, this run has 12345679"),
        ({"region": [2000, 0, 160, 20]}, {"region": [2001, 0, 160, 20]}, "at region"),
    ],
)
def test_a_dark_of_another_camera_or_of_the_column_beside_it_is_not_subtracted(
    then: dict[str, Any], now: dict[str, Any], said: str
) -> None:
    """However many digits the number has."""
    dark = measured(a_start(**MODE | {"instrument": then}))
    assert said in str(dark.unused(a_start(**MODE | {"instrument": now})))
    assert dark.unused(a_start(**MODE | {"instrument": then})) is None


def test_pixels_at_full_scale_with_light_beside_them_are_not_hot() -> None:
    dark = np.full(64, 600.0)
    dark[[20, 21]] = 65_535
    assert may_be_hot(dark > 65_000, dark)
    dark[[18, 19, 22, 23]] = 3_000, 20_000, 20_000, 3_000  # of a laser's line
    assert not may_be_hot(dark > 65_000, dark)


@pytest.mark.parametrize(("saturated", "doubted"), [(slice(4, 7), True), (slice(4, 10, 2), False)])
def test_a_dark_that_is_saturated_is_told_but_for_hot_pixels(saturated: slice, doubted: bool) -> None:
    run, dark = a_start(**MODE), Dark(None, Filing())
    counts = np.full((3, run.pixels), 500, np.uint16)
    counts[:, saturated] = 4095
    dark.begin(run, SourceClock())
    for _ in range(2):
        dark.add(counts, 0)
    assert (dark.finish() in str(dark.doubt)) is doubted
    assert not doubted or "has 3 pixels at the camera's full scale" in str(dark.doubt)


def test_a_dark_at_another_temperature_is_subtracted_and_said() -> None:
    dark = measured(a_start(**MODE))
    run = a_start(**MODE | {"instrument": SETTINGS | {"temperature_c": 20.0, "grating": 300}})
    assert dark.of(run)[1] == dark.name
    assert dark.doubts(run) == [f"the dark {dark.name} was made at temperature_c -60, and now it is 20"]


@pytest.mark.parametrize(("then", "now"), [(4, 1), (1, 4), (4, 2), (4, 4), (1, 1)])
def test_a_dark_of_summed_frames_is_not_subtracted_from_other_sums(then: int, now: int) -> None:
    """As drivers say it: of single frames nothing, of floats neither full scale nor another dtype."""

    def start(frames: int) -> Start:
        order, gain = Order(frames=frames), {"gain": 1.0}
        about = Acquisition(source="cam", raman_shift=AXIS, dtype="float32", order=order, instrument=gain)
        feed = Feed(about).published
        return a_start(source=feed.source, dtype=feed.dtype, instrument=feed.instrument)

    said = measured(start(then)).unused(start(now))
    assert (said is None) is (then == now)
    assert then == now or f"at frames_per_point {then}, this run has {now}" in str(said)


def test_the_file_of_a_dark_holds_what_its_name_is_the_hash_of(tmp_path: Path) -> None:
    run, filing = a_start(**MODE), Filing()
    dark = Dark(tmp_path, filing)
    dark.begin(run, SourceClock())
    for _ in range(2):
        dark.add(np.random.default_rng(0).integers(900, 1100, (7, run.pixels)).astype(np.uint16), 0)
    name = dark.finish()
    filing.close()
    read = np.loadtxt(tmp_path / f"dark-{name}.csv", dtype=np.float32)
    assert hashlib.sha256(read.tobytes()).hexdigest()[:12] == name


def test_the_newer_dark_wins() -> None:
    without = measured(a_start(**MODE))
    assert without.of(a_start(**MODE, dark=OWN)) == (pytest.approx(OWN), "start")
    assert "the driver's own, which is newer" in str(without.unused(a_start(**MODE, dark=OWN)))
    after = measured(a_start(**MODE, dark=OWN))  # beside the driver's, so it is newer than that
    assert after.of(a_start(**MODE, dark=OWN))[1] == after.name
    assert after.of(a_start(**MODE))[1] == after.name
    assert after.of(a_start(**MODE, dark=OWN + 1))[1] == "start"


def test_a_dark_that_is_not_subtracted_is_said_in_status_log_and_results(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bright = np.full((1, len(AXIS)), 9000, np.uint16)
    with (
        Published() as source,
        daemon_in_thread(source.address, engine="passthrough") as daemon,
        Collected(daemon.publisher.address) as results,
        Remote(control_of(daemon)) as remote,
    ):
        source.wait()

        def run(name: str, number: int, measure: bool = False, **mode: Any) -> tuple[str, float, Any]:
            source.publisher.open(a_start(name, **MODE | mode))
            results.until(lambda all_: len(all_.starts) == number)
            spectra = [bright, bright // 10] if measure else []  # the first one was under way
            if measure:
                remote.ask("dark", do="start")
                time.sleep(0.002)  # an exposure
            for sequence, counts in enumerate((*spectra, bright)):
                if measure and sequence == len(spectra):
                    assert remote.ask("dark", do="stop")["left_out"] == 1
                assert source.publisher.send(a_frame(sequence, counts, name), PATIENCE_S)
                results.until(lambda all_, n=sequence: sum(each.run == name for each in all_.frames) > n)
            status = remote.ask("status")
            source.publisher.end(an_end(1 + len(spectra), run=name))
            results.ends(number)
            assert results.starts[-1].model is not None
            return results.starts[-1].model["dark"], float(results.frames[-1].raman[0, 0]), status

        _, level, status = run("first", 1, measure=True)
        name = status["dark"]
        assert level == 8100 and status["dark_unused"] is None
        text, level, status = run("longer", 2, exposure_s=0.05, dark=OWN)
        assert level == 8300 and status["dark"] == "start" and "exposure of 0.05 s" in status["dark_unused"]
        assert text == f"start; {status['dark_unused']}"
        text, level, status = run("as before", 3)
        assert (text, level, status["dark"], status["dark_unused"]) == (name, 8100, name, None)
        text, level, status = run("warmer", 4, instrument=SETTINGS | {"temperature_c": 0.0})
        assert level == 8100 and "was made at temperature_c -60, and now it is 0" in text
        assert f"run warmer: {text.partition('; ')[2]}" in caplog.text
        text, level, status = run("without", 5, exposure_s=0.05)
        assert level == 9000 and status["dark"] == "none" and text.startswith(f"none; the dark {name} is not")


def test_a_dark_that_was_measured_with_light_in_it_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """It is subtracted as one is told to, and nobody has to find out from results at zero."""
    random = np.random.default_rng(3)
    light = 20_000 * np.exp(-(((AXIS - 1000) / 200) ** 2))

    def camera(factor: float) -> Any:
        return (600 + factor * light + random.normal(0, 20, (4, len(AXIS)))).astype(np.uint16)

    with (
        Published() as source,
        daemon_in_thread(source.address, engine="passthrough") as daemon,
        Collected(daemon.publisher.address) as results,
        Remote(control_of(daemon)) as remote,
    ):
        source.wait()

        def came(name: str, spectra: int) -> None:
            results.until(
                lambda all_: sum(len(each.block) for each in all_.frames if each.run == name) == spectra
            )

        def run(name: str, factor: float, **about: Any) -> tuple[dict[str, Any], Any]:
            source.publisher.open(a_start(name, block=4, **MODE | {"full_scale": None} | about))
            assert source.publisher.send(a_frame(0, camera(1.0), name), PATIENCE_S)
            came(name, 4)
            remote.ask("dark", do="start")
            time.sleep(0.002)  # an exposure
            for sequence in (1, 2):
                assert source.publisher.send(a_frame(sequence, camera(factor), name), PATIENCE_S)
                came(name, 4 * sequence + 4)
            found = remote.ask("dark", do="stop")
            remote.ask("dark", do="clear")
            source.publisher.end(an_end(3, 12, run=name))
            results.ends(len(results.starts))
            wait_until(lambda: any(each.run == name for each in daemon.receipts))
            return found, daemon.receipts[-1]

        found, receipt = run("blocked", 0.0, dark=camera(0.0).mean(axis=0).astype(np.float32))
        assert "doubt" not in found and receipt.problems == {}
        assert "lit dark" not in remote.ask("status")["problems"]
        assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
        found, receipt = run("open", 1.0)
        assert found["doubt"].startswith(f"the dark {found['dark']} has light in it: it rises by ")
        assert found["doubt"] in caplog.text and receipt.problems == {}
        _, receipt = run("open at the driver", 0.0, dark=camera(0.9).mean(axis=0).astype(np.float32))
        assert receipt.problems == {"lit dark": 1}
        assert "run open at the driver: the dark of its start has light in it" in caplog.text


@pytest.mark.parametrize("behind_s", [0, 3600, -3600, 10 * 86_400])
def test_spectra_that_were_measured_before_it_are_not_in_the_dark(behind_s: int) -> None:
    """They waited on their way. A clock that is off changes nothing; stamps of another day are of a file,
    which may be played at any pace: they tell nothing."""
    lit, dark = (np.full((4, len(AXIS)), level, np.uint16) for level in (9000, 600))
    of_file = behind_s > 86_400
    with (
        Published() as source,
        daemon_in_thread(source.address, engine="passthrough") as daemon,
        Remote(control_of(daemon)) as remote,
    ):

        def send(sequence: int, counts: Any, measured_ns: int) -> None:
            stamp = measured_ns - behind_s * 10**9
            assert source.publisher.send(a_frame(sequence, counts, time_ns=stamp), PATIENCE_S)
            wait_until(lambda: daemon.parts.runs.taken.spectra == 4 * (sequence + 1))

        source.wait()
        source.publisher.open(a_start(block=4, time_ns=time.time_ns() - behind_s * 10**9))
        first_ns = time.time_ns()
        before_ns = first_ns - 10**8
        send(0, lit, first_ns)
        remote.ask("dark", do="start")
        send(1, lit, before_ns)
        if not of_file:
            with pytest.raises(
                RemoteError, match=r"the 4 spectra .* were begun before .* from \d\.\d s before"
            ):
                remote.ask("dark", do="stop")
            remote.ask("dark", do="start")
            send(2, lit, before_ns)
            send(3, lit, time.time_ns())  # it was under way
        last = 2 if of_file else 4
        send(last, dark, time.time_ns())
        send(last + 1, dark, time.time_ns())
        found = remote.ask("dark", do="stop")
        assert (found["spectra"], found["left_out"]) == ((8, 4) if of_file else (8, 8))
        assert daemon.parts.runs.current is not None
        measured, _ = daemon.parts.runs.dark.of(daemon.parts.runs.current.start)
        assert measured[0] == 600


def test_an_exposure_that_was_under_way_is_not_in_the_dark() -> None:
    """Where a camera exposes while it reads out the frame before, that frame was there after `begin`."""
    now, seen, dark = time.time_ns(), SourceClock(), Dark(None, Filing())
    for age_s in (2, 1):
        seen.frame(now - age_s * 10**9, now - age_s * 10**9, True)
    run = a_start(**MODE | {"exposure_s": 1.0})
    dark.begin(run, seen)
    for after_s, level in ((-0.5, 9000), (0.5, 9000), (0.9, 9000), (1.9, 600)):
        dark.add(np.full((1, run.pixels), level, np.uint16), dark._begun_ns + int(after_s * 1e9))
    dark.finish()
    assert (dark.spectra, dark.left_out) == (1, 3) and dark.of(run)[0][0] == 600
