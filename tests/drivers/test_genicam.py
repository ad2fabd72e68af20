"""Cameras by GenICam: the virtual cameras of the producer that comes with the package genicam."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import count, islice, takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("genicam", reason="GenICam is not installed: genicam")
pytest.importorskip("harvesters", reason="GenICam's acquisition library is not installed: harvesters")

from cars_rt import calibration
from cars_rt.calibration import Calibration, Region, Scale
from cars_rt.calibration.darks import of_what
from cars_rt.drivers import Acquisition, Block, InstrumentError, Waiting, gentl
from cars_rt.drivers.axis import AxisSettings
from cars_rt.drivers.base import Yielded
from cars_rt.drivers.conformance import TRIALS, Subject, attempt
from cars_rt.drivers.feed import Feed
from cars_rt.drivers.genicam import Genicam, GenicamSettings, numbering
from cars_rt.drivers.images import ImageSettings
from cars_rt.drivers.pixels import PACKED, bits, grey, mono10p, mono10packed, mono12p, mono12packed
from cars_rt.drivers.scan import ScanSettings
from cars_rt.drivers.ticks import Ticks
from drivers.gentl_standin import Buffer, stream

PRODUCER = Path(str(find_spec("genicam").origin)).with_name("viky.cti")  # type: ignore[union-attr]
if not PRODUCER.is_file():
    pytest.skip("this build of genicam has no virtual producer", allow_module_level=True)

SETTINGS = GenicamSettings(
    producer=PRODUCER,
    property=("PixelFormat=Mono8", "Width=160", "Height=100", "AcquisitionFrameRate=200"),
)
AXIS = AxisSettings(axis="500:3100")


class Unpluggable(Genicam):
    """Its camera can be taken away: between two images, since the library has no lock for that."""

    last: ClassVar["Unpluggable"]

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self.unplugged = threading.Event()
        Unpluggable.last = self

    def frames(self) -> Iterator[Yielded]:
        for yielded in super().frames():
            yield yielded
            if self.unplugged.is_set():
                self._acquirer.destroy()


def camera(
    settings: GenicamSettings = SETTINGS,
    spectra: int | None = 30,
    axis: AxisSettings = AXIS,
    **images: Any,
) -> partial[Genicam]:
    return partial(Unpluggable, settings, ImageSettings(**images), ScanSettings(spectra=spectra), axis)


@pytest.mark.parametrize("trial", TRIALS)
def test_virtual_camera_conforms(trial: str) -> None:
    wrong = {"colour": camera(replace(SETTINGS, property=("PixelFormat=RGBa8",)))}
    subject = Subject(make=camera(), wrong=wrong, rate=1, spectra=20)
    if trial == "unplugging":
        subject = replace(
            subject,
            make=camera(spectra=None),
            unplug=lambda: Unpluggable.last.unplugged.set(),
            replug=lambda: None,
        )
    if trial == "slow consumer":
        subject = replace(subject, make=camera(spectra=None))
    verdict = attempt(trial, subject)
    verdict.check()
    assert verdict.outcome == "passed" or trial in ("numbers", "gaps")


def test_images_are_summed_copied_and_numbered() -> None:
    instrument = camera(tracks=2)()
    about = instrument.acquisition()
    given = [each for each in instrument.frames() if isinstance(each, Block)]
    instrument.close()
    assert (about.dtype, about.block, about.full_scale) == ("uint32", 2, 50 * 255)
    assert about.instrument["region"] == [0, 0, 160, 100] and about.instrument["model"] == "Viky"
    assert about.instrument["rows_per_spectrum"] == 50
    assert len(given) == 15 and all(each.counts.shape == (2, 160) for each in given)
    assert np.diff([each.number for each in given]).tolist() == [1] * 14
    assert len({each.counts.tobytes() for each in given}) > 5  # and not all views of one buffer


def says(monkeypatch: pytest.MonkeyPatch, **features: float) -> None:
    """The camera says these numbers of its features."""
    number = Genicam._number
    monkeypatch.setattr(Genicam, "_number", lambda self, name: features.get(name) or number(self, name))


def test_camera_that_leaves_out_columns_says_no_region_and_takes_no_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which a calibration would take for that of neighbouring columns."""
    says(monkeypatch, DecimationHorizontal=2.0)
    instrument = camera()()
    assert "region" not in (instrument.acquisition().instrument or {})
    instrument.close()
    region = Region(160)
    scale = Scale(
        kind="lamp", of="neon", quantity="raman_shift", coefficients=(500.0, 10.0), region=region,
        residual_cm1=0.1, time_ns=10**18,
    )  # fmt: skip
    calibration.write(tmp_path / "lab.json", Calibration(region=region, scale=scale))
    with pytest.raises(InstrumentError, match=r"leaves out columns .*: --property DecimationHorizontal=1"):
        camera(axis=AxisSettings(calibration=tmp_path / "lab.json"))()


def test_rows_and_columns_are_binned_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, BinningHorizontal=2.0, OffsetX=8.0, OffsetY=6.0)
    instrument = camera()()
    facts = instrument.acquisition().instrument or {}
    instrument.close()
    assert facts["binning"] == [2, 1] and facts["region"] == [16, 6, 320, 100]
    assert of_what(0.001, facts) == "1 ms of 100 rows"


@pytest.mark.parametrize(
    ("technology", "numbers"),
    [
        ("GEV", [65533, 65534, 1, 2]),  # 65535 is lost
        ("GEV", [65533, 65534, 65536, 65537]),  # extended ids
        ("U3V", [65533, 65534, 65536, 65537]),
    ],
)
def test_numbers_of_gige_cameras_begin_again_in_a_scan_of_256_x_256(
    technology: str, numbers: list[int]
) -> None:
    about = Acquisition(source="", raman_shift=[500, 501], dtype="uint16", numbers=numbering(technology, 1))
    feed, counts = Feed(about), np.zeros((1, 2), np.uint16)
    pieces = [piece for number in numbers for piece in feed.take(Block(counts, number=number))]
    found = [(piece.index, piece.cause and str(piece.cause)) for piece in pieces]
    assert found == [(0, None), (1, None), (2, "camera"), (3, None), (4, None)]
    instrument = camera()()
    assert instrument.acquisition().numbers == numbering("Custom", 1)
    instrument.close()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"property": ("PixelFormat=RGBa8",)},
            "RGBa8, .*: --property PixelFormat=Mono8",
        ),
        ({"property": ("PixelFormat=Mono12p",)}, "is not possible: did you mean Mono8"),
        (
            {"property": ("AcquisitionFrameRat=5",)},
            "no AcquisitionFrameRat; did you mean AcquisitionFrameRate",
        ),
        ({"property": ("AcquisitionFrameRate=1000",)}, r"the nearest offered is 200 \(from 1 to 200\)"),
        ({"property": ("Height=4",)}, r"the nearest offered is 100 \(from 100 to 800\)"),
        ({"property": ("Height",)}, "give Feature=Value"),
        ({"region": "0,0,400"}, "give x,y,width,height"),
        ({"region": "0,0,400,4"}, "--region 0,0,400,4 is not possible: the nearest offered is 100"),
        ({"exposure_ms": 1.0}, "this camera has no ExposureTime"),
        ({"camera": "VikyTL_DEV_rad"}, "no camera VikyTL_DEV_rad is there: did you mean VikyTL_DEV_red"),
        ({"producer": Path("nowhere.cti")}, "there is no producer nowhere.cti"),
        ({"producer": Path(__file__)}, "GenICam: "),
        ({"producer": None}, "no GenTL producer is known: give the camera maker's file"),
    ],
)
def test_what_cannot_be_is_told_with_the_nearest_that_can(
    changed: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GENICAM_GENTL64_PATH", raising=False)
    with pytest.raises(InstrumentError, match=reason):
        camera(replace(SETTINGS, **changed))()


class Node:
    """A feature of a camera, which refuses what is not from low to high in steps."""

    def __init__(self, value: Any, low: float = 0, high: Any = 10**7, inc: int | None = None) -> None:
        self._value, self.min, self._high, self.inc = value, low, high, inc

    @property
    def max(self) -> Any:
        return self._high() if callable(self._high) else self._high

    @property
    def value(self) -> Any:
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        if not self.min <= value <= self.max or (self.inc and (value - self.min) % self.inc):
            raise ValueError("out of range")
        self._value = value


class Binning(Node):
    """Which sets the width back, as cameras do."""

    width: Node

    @property
    def value(self) -> Any:
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        self._value, self.width._value = value, 2048 // value


class Rounding(Node):
    """It takes what it does not offer, and says nothing."""

    @property
    def value(self) -> Any:
        return self._value // 8 * 8

    @value.setter
    def value(self, value: Any) -> None:
        self._value = value


class Choice:
    """A feature of a camera that takes one of some words."""

    def __init__(self, value: str, *others: str) -> None:
        self._value, self.symbolics = value, (value, *others)

    @property
    def value(self) -> str:
        return self._value

    @value.setter
    def value(self, value: str) -> None:
        if value not in self.symbolics:
            raise ValueError("no such word")
        self._value = value


class Nodes(SimpleNamespace):
    def get_node(self, name: str) -> Any:
        return getattr(self, name, None)


def nodes() -> Nodes:
    """Of a camera whose region somebody has left in the right half of its sensor."""
    made = Nodes(ExposureTime=Node(10_000.0, 20, 1e7), OffsetY=Node(0, 0, 0), ReverseX=Node(False, 0, 1))
    made.Width = Node(1048, 16, lambda: 2048 - made.OffsetX.value, 4)
    made.OffsetX = Node(1000, 0, lambda: 2048 - made.Width.value)
    made.Height = Rounding(40)
    made.BinningHorizontal = Binning(1)
    made.BinningHorizontal.width = made.Width
    return made


@pytest.mark.parametrize(
    ("changed", "of", "value"),
    [
        ({"region": "0,0,2048,40"}, "Width", 2048),
        ({"region": "1032,0,1016,40"}, "OffsetX", 1032),
        ({"region": "0,0,512,40", "property": ("BinningHorizontal=2",)}, "Width", 512),
        ({"region": "0,0,512,44"}, "Height", "--region 0,0,512,44 .*: the nearest offered is 0,0,512,40$"),
        ({"exposure_ms": 20_000.0}, "ExposureTime", r"--exposure-ms 20000 .* 10000 \(from 0.02 to 10000\)"),
        ({"property": ("Width=1001",)}, "Width", r"is 1000 \(from 16 to 1048 in steps of 4\)"),
        ({"property": ("Width=1002.",)}, "Width", r"is 1000 \(from 16 to 1048 in steps of 4\)"),
        ({"property": ("ReverseX=true", "ReverseX=False")}, "ReverseX", False),
        ({"property": ("ReverseX=0",)}, "ReverseX", False),
        ({"property": ("ReverseX=no",)}, "ReverseX", "ReverseX=no is not possible: there are true, false"),
    ],
)
def test_features_are_set_or_refused_with_the_nearest_in_the_units_of_the_flag(
    changed: dict[str, Any], of: str, value: Any
) -> None:
    instrument = camera()()
    instrument._map, instrument._settings = nodes(), GenicamSettings(**changed)
    try:
        if isinstance(value, str):
            with pytest.raises(InstrumentError, match=value):
                instrument._set_up()
        else:
            instrument._set_up()
            assert getattr(instrument._map, of).value == value
    finally:
        instrument.close()


@pytest.mark.parametrize(
    ("left", "remedy"),
    [
        ({"ExposureAuto": Choice("Continuous", "Off")}, "ExposureAuto=Off"),
        ({"GainAuto": Choice("Once", "Off")}, "GainAuto=Off"),
        ({"BlackLevelAuto": Choice("Continuous", "Off")}, "BlackLevelAuto=Off"),
        ({"Gamma": Node(0.45)}, "Gamma=1"),
        ({"Gamma": Node(0.45), "GammaEnable": Node(True)}, "Gamma=1"),
        ({"Gamma": Node(0.45), "GammaEnable": Node(False)}, None),
        ({"Gamma": Node(1.0), "GainAuto": Choice("Off", "Once")}, None),
    ],
)
def test_camera_that_changes_its_settings_or_bends_its_counts_is_refused_until_it_does_not(
    left: dict[str, Any], remedy: str | None
) -> None:
    """As many are delivered, or another program has left them."""
    instrument = camera()()
    instrument._map, instrument._settings = nodes(), GenicamSettings(exposure_ms=1)
    vars(instrument._map).update(left)
    try:
        if remedy is not None:
            with pytest.raises(InstrumentError, match=f": --property {remedy}$"):
                instrument._set_up()
            instrument._settings = GenicamSettings(exposure_ms=1, property=(remedy,))
        instrument._set_up()
    finally:
        instrument.close()


@pytest.mark.parametrize(
    ("given", "mode"), [((), "Continuous"), (("AcquisitionMode=MultiFrame",), "MultiFrame")]
)
def test_camera_that_was_left_at_one_image_goes_on(given: tuple[str, ...], mode: str) -> None:
    instrument = camera()()
    instrument._map, instrument._settings = nodes(), GenicamSettings(property=given)
    instrument._map.AcquisitionMode = Choice("SingleFrame", "MultiFrame", "Continuous")
    instrument._set_up()
    instrument.close()
    assert instrument._map.AcquisitionMode.value == mode


def test_camera_that_mirrors_its_images_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, ReverseX=1.0)
    with pytest.raises(InstrumentError, match=r"mirrors its images .*: --property ReverseX=false"):
        camera()()


def test_second_program_cannot_have_the_camera_as_well() -> None:
    first = camera()()
    try:
        with pytest.raises(
            InstrumentError, match=r"no camera: .* does another program have it|cannot be opened"
        ):
            camera()()
    finally:
        first.close()
    camera()().close()


def test_producers_are_found_as_genicam_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENICAM_GENTL64_PATH", str(PRODUCER.parent))
    camera(replace(SETTINGS, producer=None))().close()


def given(
    buffers: list[Buffer], spectra: int | None = None, pixel_format: str = "Mono8", **device: Any
) -> list[Any]:
    """What the driver yields of these buffers in place of the camera's own, until none comes."""
    instrument = camera(spectra=spectra, tracks=50)()
    instrument._format = pixel_format
    stream(instrument._acquirer, buffers, **device)
    frames = instrument.frames()
    try:
        return list(takewhile(lambda each: each not in (Waiting(), Waiting("the trigger")), frames))
    finally:
        frames.close()  # type: ignore[attr-defined]
        instrument.close()


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("columns", [160, 158])
@pytest.mark.parametrize("pixel_format", ["Mono8", "Mono12", *PACKED])
def test_pixels_arrive_as_the_camera_packed_them(pixel_format: str, columns: int, padding: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 2 ** (bits(pixel_format) or 0), (100, columns), np.uint16)
    [block] = given([Buffer(pixels, pixel_format, padding)], pixel_format=pixel_format)
    assert np.array_equal(block.counts, pixels.reshape(50, 2, columns).sum(axis=1))


@pytest.mark.parametrize(
    ("stamp", "device", "seconds"),
    [
        ("timestamp", {"timestamp_frequency": 125_000_000}, [0, 8, 16]),
        ("timestamp_ns", {"timestamp_frequency": 125_000_000}, [0, 1, 2]),
        ("timestamp", {}, None),  # nobody knows what a tick is
    ],
)
def test_stamps_are_in_ticks_of_the_cameras_clock(
    stamp: str, device: dict[str, Any], seconds: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = count(1_800_000_000 * 10**9, 10 * 10**9)  # each image 10 s after the one before
    monkeypatch.setattr(gentl, "Ticks", partial(Ticks, now=lambda: next(came)))
    black = np.zeros((100, 160), np.uint16)
    blocks = given([Buffer(black, **{stamp: number * 10**9}) for number in (1, 2, 3)], **device)
    stamps = [each.time_ns for each in blocks]
    if seconds is None:
        assert stamps == [None] * 3
    else:
        assert (np.array(stamps) - stamps[0]) / 1e9 == pytest.approx(seconds, abs=0.01)


def test_copies_of_images_do_not_count_as_planned() -> None:
    black = np.zeros((100, 160), np.uint16)
    for numbers in ([7, 8, 8, 9, 10], [None] * 4):
        known = [{} if number is None else {"frame_id": number} for number in numbers]
        blocks = given([Buffer(black, **each) for each in known], spectra=150)
        assert [each.number for each in blocks] == numbers[: 4 if numbers[0] else 3]


def test_incomplete_images_are_told_and_keep_nothing_waiting() -> None:
    black = np.zeros((100, 160), np.uint16)
    cut = Buffer(black, complete=False, frame_id=2)
    instrument = camera()()
    try:
        stream(instrument._acquirer, [Buffer(black, frame_id=1), cut, cut, Buffer(black, frame_id=4)])
        told = list(islice(instrument.frames(), 5))
    finally:
        instrument.close()
    assert [each.number if isinstance(each, Block) else each.what_for[:34] for each in told] == [
        1, "complete images: 1 came incomplete", "complete images: 2 came incomplete", 4, ""
    ]  # fmt: skip


def test_packed_pixels_are_unpacked() -> None:
    """By hand: 0xABC and 0x123; 0x3FF, 0, 0x155 and 0x2AA."""
    assert mono12p(np.array([0xBC, 0x3A, 0x12], np.uint8)).tolist() == [0xABC, 0x123]
    assert mono12packed(np.array([0xAB, 0x3C, 0x12], np.uint8)).tolist() == [0xABC, 0x123]
    packed = sum(value << (10 * place) for place, value in enumerate((0x3FF, 0, 0x155, 0x2AA)))
    four = np.frombuffer(packed.to_bytes(5, "little"), np.uint8)
    assert mono10p(four).tolist() == [0x3FF, 0, 0x155, 0x2AA]
    assert mono10packed(np.array([0xFF, 0x23, 0x48], np.uint8)).tolist() == [0x3FF, 0x122]
    image = grey("Mono12p", np.array([0xBC, 0x3A, 0x12] * 2, np.uint8), 2, 2)
    assert image.tolist() == [[0xABC, 0x123]] * 2
    assert grey("Mono16", np.array([1, 2], "<u2").view(np.uint8), 2, 1).tolist() == [[1, 2]]
    for name, reason in (
        ("BayerRG8", "in colour"),
        ("Coord3D_C16", "no grey numbers"),
        ("Mono8", "has not 4"),
    ):
        with pytest.raises(ValueError, match=reason):
            grey(name, np.zeros(4, np.uint8), 4, 4)
