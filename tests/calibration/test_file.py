"""The file of a calibration: what is written is read, and nothing else is."""

import copy
import hashlib
import json
import random
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cars_rt.calibration import Calibration, CalibrationError, Mean, Point, Region, Scale, read, write
from cars_rt.calibration.file import decoded, encoded
from cars_rt.protocol import Start, check_facts, decode, encode

NOW = 1_790_000_000_000_000_000
COLUMNS = np.arange(100.0)
LAMP = Scale(
    kind="lamp",
    of="neon",
    quantity="wavelength",
    coefficients=(700.0, -0.5, 1e-5),
    region=Region(100, 2, 10),
    residual_cm1=0.07,
    time_ns=NOW,
    probe_nm=770.25,
    points=(Point(17.25, 692.95, -0.031, "Ne I"), Point(40.0, 680.0, 3.5, "Ne I", False)),
)
WHOLE = Calibration(
    region=Region(100, 2, 10),
    source="camera, of some kind µ",
    settings={"serial": "A1", "grating": 600, "region": [10, 0, 200, 4]},
    who="somebody",
    scale=LAMP,
    full_scale=65_535.0,
    darks=(
        Mean(np.full(100, 100, np.float32), 50, NOW, 0.001),
        Mean(np.full(100, 200, np.float32), 50, NOW, 0.003),
    ),
    reference=Mean(np.linspace(1e4, 5, 100).astype(np.float32), 500, NOW, 0.001),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "lab.json"
    written = write(path, WHOLE)
    back = read(path)
    assert back.sha256 == written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert back.scale == LAMP and back.settings == WHOLE.settings and back.source == WHOLE.source
    assert encoded(back) == path.read_bytes()
    assert np.array_equal(back.axis(), WHOLE.axis())
    expected = 1e7 / (700 - 0.5 * (10.5 + 2 * COLUMNS) + 1e-5 * (10.5 + 2 * COLUMNS) ** 2) - 1e7 / 770.25
    assert np.allclose(back.axis(100, binning=2, first=10), expected, atol=1e-9, rtol=0)
    unbinned = back.axis(200, first=10)
    assert np.allclose((unbinned[::2] + unbinned[1::2]) / 2, back.axis(), atol=0.01)


def test_the_lines_of_the_page_work_in_a_program_of_their_own(tmp_path: Path) -> None:
    """Where nothing else has imported the calibration."""
    page = (Path(__file__).parents[2] / "docs" / "calibration.md").read_text(encoding="utf-8")
    found = re.search(r"In Python:\n\n((?:    .*\n|\n)+)", page)
    assert found is not None
    code = textwrap.dedent(found[1]).replace("1340", str(WHOLE.region.pixels))
    write(tmp_path / "lab.json", WHOLE)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_dark_is_that_of_the_exposure_or_lies_between_two() -> None:
    for exposure, expected in ((0.001, 100.0), (0.0025, 175.0), (0.004, None), (None, None)):
        dark = WHOLE.dark(exposure)
        assert (None if dark is None else dark[0]) == expected
    assert WHOLE.dark(0.001, Region(100)) is None


def dark_of(counts: float, **settings: Any) -> Mean:
    return Mean(np.full(100, counts, np.float32), 50, NOW, 0.001, settings)


@pytest.mark.parametrize(
    ("now", "counts"),
    [
        ({}, None),  # one of the two, and nobody knows which
        ({"rows_per_spectrum": 100}, 900),
        ({"rows_per_spectrum": 20, "region": [10, 40, 200, 100]}, 200),  # of as many, wherever they lie
        ({"rows_per_spectrum": 40}, None),
        ({"region": [10, 0, 200, 20]}, None),
        ({"rows_per_spectrum": 20, "binning": [2, 4]}, None),
        ({"rows_per_spectrum": 20, "frames_per_point": 4}, 800),  # a dark is of one frame
    ],
)
def test_a_dark_is_of_as_many_rows_and_serves_sums_of_frames(
    now: dict[str, Any], counts: float | None
) -> None:
    of = {"binning": [2, 1], "region": [10, 0, 200, 100]}
    darks = (dark_of(900, rows_per_spectrum=100, **of), dark_of(200, rows_per_spectrum=20, **of))
    known = decoded(encoded(replace(WHOLE, darks=darks)))
    assert [each.settings for each in known.darks] == [each.settings for each in darks]
    exposure_s = 0.001 * now.get("frames_per_point", 1)
    found = known.applied(100, settings=now, exposure_s=exposure_s)
    assert (None if found.dark is None else found.dark[0]) == counts
    assert found.doubts == found.of_dark and len(found.doubts) == (counts is None)
    if "rows_per_spectrum" in now and counts is None:
        assert "(1 ms of " in found.doubts[0]
        remedy = found.doubts[0].partition("; there are 1 ms of 100 rows, 1 ms of 20 rows), ")[2]
        assert remedy.startswith("so none is subtracted: calibrate a dark at 1 ms of ")
    # What a calibration of before does not say is not compared.
    old = json.loads(encoded(replace(WHOLE, darks=darks[:1])))
    del old["darks"][0]["settings"]
    assert decoded(json.dumps(old).encode()).dark(exposure_s, None, now) is not None


def test_a_dark_of_another_gain_or_temperature_is_used_and_said() -> None:
    mine = {"gain": 1, "temperature_c": -20.0}
    known = replace(WHOLE, darks=(dark_of(100, **mine),))
    for now, said in (
        (mine | {"temperature_c": -18.9}, []),
        ({"gain": 4}, ["its dark was made at gain 1, and now it is 4"]),
        (mine | {"temperature_c": 20}, ["its dark was made at temperature_c -20, and now it is 20"]),
    ):
        found = known.applied(100, settings=now, exposure_s=0.001)
        assert found.dark is not None and list(found.doubts) == said == list(found.of_dark)


def test_a_dark_is_of_its_gain_where_there_are_several() -> None:
    def at(counts: float, exposure_s: float, last: int = 0, **settings: Any) -> Mean:
        return replace(dark_of(counts, **settings), exposure_s=exposure_s, time_ns=NOW + last)

    darks = at(100, 0.001, gain=1), at(200, 0.003, gain=1), at(900, 0.001, 1, gain=4)
    known = replace(WHOLE, darks=darks)
    for exposure_s, now, counts, said in (
        (0.001, {"gain": 1}, 100, ""),
        (0.002, {"gain": 1}, 150, ""),
        (0.001, {"gain": 4}, 900, ""),
        (0.002, {"gain": 4}, None, "(2 ms at gain 4; there are 1 ms at gain 1, 3 ms at gain 1, 1 ms at gain"),
        (0.001, {"gain": 8}, 900, "its dark was made at gain 4, and now it is 8"),  # the last one
        (0.002, {"gain": 8}, 150, "its dark was made at gain 1, and now it is 8"),  # that has its exposure
        (0.001, {}, None, "it has no dark for this exposure, region, rows and gain (1 ms; there"),
    ):
        found = known.applied(100, settings=now, exposure_s=exposure_s)
        assert (None if found.dark is None else found.dark[0]) == counts
        assert said in "".join(found.doubts) and len(found.doubts) == bool(said)
    # Those that say more, of gain or rows, do not make one unusable that says what the spectra say.
    plain = at(50, 0.001)
    of_rows = at(700, 0.001, rows_per_spectrum=20), at(800, 0.001, rows_per_spectrum=40)
    for more in (darks[:1], darks, of_rows, (*darks, *of_rows)):
        for now, counts in (({}, 50), (more[0].settings, more[0].counts[0])):
            found = replace(WHOLE, darks=(*more, plain)).applied(100, settings=now, exposure_s=0.001)
            assert found.dark is not None and found.dark[0] == counts and not found.doubts
    # What facilities tell beside, such as the ring's current, tells none apart, and neither do temperatures.
    ring = at(100, 0.01, gain=1, RingCurrent=101.9), at(110, 0.02, gain=1, RingCurrent=101.5)
    other = at(900, 0.03, gain=1, RingCurrent=101.5, PixelFormat="Mono8")
    for dark, mode, counts, said in (
        (ring, "Mono12", 105, ""),
        ((*ring, other), "Mono12", 105, ""),
        ((other,), "Mono12", None, "no dark for this exposure"),
    ):
        now = {"gain": 1, "RingCurrent": 100.4, "PixelFormat": mode}
        found = replace(WHOLE, darks=dark).applied(100, settings=now, exposure_s=0.015)
        assert (None if found.dark is None else found.dark[0]) == counts
        assert said in "".join(found.doubts) and len(found.doubts) == bool(said)
    drifted = at(100, 0.001, temperature_c=20.0), at(200, 0.003, temperature_c=24.0)
    between = replace(WHOLE, darks=drifted).dark(0.002, None, {"temperature_c": 22.0})
    assert between is not None and between[0] == 150


def test_it_travels_in_start() -> None:
    facts = decoded(encoded(WHOLE)).facts
    start = Start("raw", "r", NOW, "camera", WHOLE.axis(), "uint16", 1, calibration=facts)
    back = decode([bytes(part) for part in encode(start)])
    assert isinstance(back, Start) and back.calibration == facts == check_facts(facts, "it")
    assert facts["of"] == "neon" and facts["coefficients"] == [700.0, -0.5, 1e-5] and facts["points"] == 1


def test_another_camera_or_region_is_refused_and_other_settings_are_said() -> None:
    mine = {"serial": "A1", "grating": 600, "binning": 2, "region": [10, 0, 200, 4]}
    applied = WHOLE.applied(100, source=WHOLE.source, settings=mine, exposure_s=0.001)
    assert applied.doubts == () and applied.dark is not None and applied.raman_shift is not None
    for other, sentence in (
        ({"serial": "B2"}, "serial A1, this one has B2"),
        ({"binning": 4}, "100 pixels of 4 columns"),
        ({"binning": 2, "region": [200, 0]}, "from column 200: calibrate this camera or region anew"),
    ):
        with pytest.raises(CalibrationError, match=sentence):
            WHOLE.applied(100, settings=mine | other)
    with pytest.raises(CalibrationError, match="these spectra have 1340 pixels"):
        WHOLE.applied(1340)
    numbered = replace(WHOLE, settings={"serial": 12345.0})
    assert numbered.other_camera({"serial": 12345}) is None
    assert "serial 12345, this one has 12346" in str(numbered.other_camera({"serial": 12346}))
    varies = replace(WHOLE, settings=WHOLE.settings | {"RingCurrent": 101.9})
    now = mine | {"grating": 300, "RingCurrent": 99.8}
    doubts = varies.applied(100, source="x", settings=now, exposure_s=1.0).doubts
    assert len(doubts) == 3 and "at grating 600, and now it is 300" in doubts[1]
    assert WHOLE.old(NOW) is None and "40 days old" in str(WHOLE.old(NOW + 40 * 86_400 * 10**9))
    with pytest.raises(CalibrationError, match="give its wavelength, such as --pump-nm"):
        replace(WHOLE, scale=replace(LAMP, probe_nm=None)).axis()


@pytest.mark.parametrize(
    ("pixels", "settings", "region"),
    [
        (100, {}, Region(100, 2, 10)),
        (100, {"binning": "2x2"}, Region(100, 2, 10)),
        (100, {"binning": 2}, Region(100, 2, 10)),
        (50, {"binning": 4}, Region(50, 4, 10)),
        (50, {"region": [30, 0, 100, 4]}, Region(50, 2, 30)),
        (200, {"binning": 1, "region": [10, 0, 200, 4]}, Region(200, 1, 10)),
        (100, {"binning": 1, "region": [10, 0, 100, 4]}, Region(100, 1, 10)),
    ],
)
def test_what_a_driver_does_not_say_of_its_region_is_as_it_was_calibrated(
    pixels: int, settings: dict[str, Any], region: Region
) -> None:
    """`--binning` and `--first-column` are for drivers that do not say it, when it is used, too."""
    applied = WHOLE.applied(pixels, settings=settings, exposure_s=0.001)
    assert applied.raman_shift is not None
    assert np.array_equal(applied.raman_shift, LAMP.axis(region))
    same = region == WHOLE.region
    assert (applied.dark is not None) is same
    assert (applied.doubts == ()) is same
    if not settings:
        assert np.array_equal(WHOLE.axis(pixels), applied.raman_shift)


@pytest.mark.parametrize("first", [0, 1, 1024])
def test_a_part_of_the_camera_is_served_wherever_it_begins(first: int) -> None:
    whole = replace(WHOLE, region=Region(2048), darks=(), reference=None, scale=replace(
        LAMP, quantity="raman_shift", coefficients=(500.0, 1.3), region=Region(2048)
    ))  # fmt: skip
    found = whole.applied(1024, settings={"binning": [1, 1], "region": [first, 0, 1024, 10]})
    assert found.raman_shift is not None and found.raman_shift[0] == 500 + 1.3 * first
    assert whole.axis(1024, first=first)[0] == 500 + 1.3 * first
    for unsaid in ({}, {"binning": 1}, {"region": "the left half"}):
        with pytest.raises(CalibrationError, match="calibrate this camera or region anew, or say which"):
            whole.applied(1024, settings=unsaid)


@pytest.mark.parametrize(
    ("pixels", "settings", "served"),
    [
        (500, {"binning": 2}, True),
        (1000, {"binning": 1}, True),
        (333, {"binning": 3}, True),  # one column is left over
        (500, {}, False),
        (500, {"binning": 1}, False),
        (250, {"binning": 2}, False),
        (1000, {"binning": 2}, False),
        (1001, {"binning": 1}, False),
    ],
)
@pytest.mark.parametrize("first", [0, 100])
def test_without_a_word_of_its_first_column_all_of_the_calibrated_columns_are_served(
    first: int, pixels: int, settings: dict[str, Any], served: bool
) -> None:
    region = Region(1000, 1, first)
    scale = replace(LAMP, quantity="raman_shift", coefficients=(500.0, 1.3), region=region)
    known = Calibration(region=region, scale=scale)
    if served:
        shift = known.applied(pixels, settings=settings).raman_shift
        assert np.array_equal(shift, scale.axis(Region(pixels, settings["binning"], first)))
    else:
        with pytest.raises(CalibrationError, match="calibrate this camera or region anew, or say which"):
            known.applied(pixels, settings=settings)


def without(key: str) -> Callable[[Any], Any]:
    return lambda whole: whole.pop(key)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda w: w.update(format="x"), "not the format"),
        (lambda w: w.update(version=2), "version is 2, and this program reads 1"),
        (lambda w: w.update(extra=1), "'extra', which version 1 does not know"),
        (without("region"), "has no region"),
        (lambda w: w["region"].update(pixels=10**9), "2 to 65536 pixels"),
        (lambda w: w["region"].update(pixels=True), "a whole number"),
        (lambda w: w["axis"].update(medium="air"), "nm in air; a wavelength is written in nm in vacuum"),
        (lambda w: w["axis"].update(coefficients=[1.0]), "a list of 2 to 16"),
        (lambda w: w["axis"].update(coefficients=[700, 10**400]), "finite numbers"),
        (lambda w: w["axis"].update(coefficients=[700.0, -0.5, 0.00249]), "no axis"),
        (lambda w: w["axis"].update(coefficients=[700.0, 0.0]), "no axis"),
        (lambda w: w["axis"].update(probe_nm=7.7), "a number above 100"),
        (lambda w: w["axis"].update(time="yesterday"), "a time such as"),
        (lambda w: w["axis"]["points"][0].update(column="a"), "column of points"),
        (lambda w: w["darks"][0].update(counts=[1.0] * 99), "a list of 100 finite numbers"),
        (lambda w: w["darks"][0].update(exposure_s=-1), "exposure_s of darks"),
        (lambda w: w["reference"].update(counts=[0.0] * 100), "not above zero"),
        (lambda w: w["instrument"].update(settings={"a": {"b": 1}}), "text, a finite number"),
        (lambda w: w.update(who="x" * 2000), "at most 1024"),
    ],
)
def test_what_is_no_calibration_is_refused(
    spoil: Callable[[Any], Any], sentence: str, tmp_path: Path
) -> None:
    whole = json.loads(encoded(WHOLE))
    spoil(whole)
    path = tmp_path / "lab.json"
    path.write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(CalibrationError, match=sentence) as caught:
        read(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_hostile_content_is_refused_whatever_it_is(tmp_path: Path) -> None:
    whole, rng = encoded(WHOLE), random.Random(1)
    strange: list[bytes] = [
        b"", b"\xff", b"[" * 100_000, b'{"format": NaN}', b'{"a": 1, "a": 2}', b"null", b"7" * 5_000,
    ]  # fmt: skip
    for _ in range(300):
        spoilt = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(spoilt))
            spoilt[at : at + rng.randint(0, 40)] = rng.randbytes(rng.randint(0, 3))
        strange.append(bytes(spoilt))
    for value in (None, True, -1, 1e308, [], {}, "x", [[]], 10**400):
        for key in ("axis", "darks", "region", "reference", "instrument", "full_scale", "who"):
            changed = copy.deepcopy(json.loads(whole))
            changed[key] = value
            strange.append(json.dumps(changed).encode())
    refused = 0
    for content in strange:
        try:
            encoded(decoded(content))
        except CalibrationError:
            refused += 1
    assert refused > 300
    for path in (tmp_path, tmp_path / "none.json", Path("/dev/zero")):
        with pytest.raises(CalibrationError):
            read(path)
