"""What the base does for every instrument: numbers, clocks, scans, triggers, runs, threads, processes."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import AXIS, LOCAL, PATIENCE_S, Camera, Collected, spectra_of

from cars_rt.accounting import Cause
from cars_rt.drivers import (
    Acquisition,
    Block,
    DriveSettings,
    DriveTotals,
    Gap,
    Instrument,
    InstrumentError,
    NextRow,
    Numbering,
    Order,
    Waiting,
    drive,
    drive_runs,
    running,
)
from cars_rt.drivers.apart import InProcess, placed
from cars_rt.drivers.feed import Feed
from cars_rt.drivers.images import ImageSettings, Rows
from cars_rt.drivers.threaded import InThread
from cars_rt.drivers.ticks import Ticks
from cars_rt.protocol import Reason, check_facts
from cars_rt.protocol.limits import MAX_FACTS
from cars_rt.protocol.saturation import largest_count
from cars_rt.sockets import Publisher
from cars_rt.stops import STOPS

PIXELS = 4
SHIFT = np.arange(PIXELS) + 500.0


def numbered(first: int, count: int = 1) -> Any:
    """Counts whose every pixel is the spectrum's number."""
    return np.repeat(np.arange(first, first + count, dtype=np.uint16)[:, None], PIXELS, axis=1)


def fed(yielded: list[Any], **about: Any) -> list[tuple[int, Any]]:
    """Pieces of a run as (index, what it is): the spectra's numbers, or the cause and how many."""
    feed = Feed(Acquisition(**{"source": "a test", "raman_shift": SHIFT, "dtype": "uint16"} | about))
    pieces = []
    for given in [*yielded, None]:
        for piece in feed.finish() if given is None else feed.take(given):
            what = (str(piece.cause), piece.spectra) if piece.counts is None else piece.counts[:, 0].tolist()
            pieces.append((piece.index, what))
    return pieces


def images(*numbers: int) -> list[Block]:
    return [Block(numbered(number), number=number) for number in numbers]


@pytest.mark.parametrize(
    ("numbering", "numbers", "pieces"),
    [
        ({}, [7, 8, 10], [(0, [7]), (1, [8]), (2, ("camera", 1)), (3, [10])]),
        ({"first": 5}, [7, 8], [(0, ("camera", 2)), (2, [7]), (3, [8])]),
        ({}, [7, 8, 8, 9], [(0, [7]), (1, [8]), (2, [9])]),  # one came twice
        ({"highest": 15}, [14, 15, 1], [(0, [14]), (1, [15]), (2, ("camera", 1)), (3, [1])]),
        ({"lowest": 1, "highest": 255}, [255, 1], [(0, [255]), (1, [1])]),  # GigE's counters leave 0 out
    ],
)
def test_gap_in_the_numbers_of_the_camera_is_lost_at_the_camera(
    numbering: dict[str, int], numbers: list[int], pieces: list[Any]
) -> None:
    assert fed(images(*numbers), numbers=Numbering(**numbering)) == pieces


@pytest.mark.parametrize("kind", [np.uint16, np.uint64, np.int64])
def test_numbers_of_numpy_are_followed_as_those_of_python(kind: Any) -> None:
    def given(*numbers: int) -> list[Block]:
        return [Block(numbered(number % 9), number=kind(number)) for number in numbers]

    pieces = fed([*given(0, 1, 1, 3), Gap(kind(2)), *given(6)], numbers=Numbering(first=0), spectra=kind(7))
    assert pieces == [(0, [0]), (1, [1]), (2, ("camera", 1)), (3, [3]), (4, ("camera", 2)), (6, [6])]
    turned = fed(given(65_534, 65_535, 1), numbers=Numbering(highest=65_535))
    assert turned == [(0, [5]), (1, [6]), (2, ("camera", 1)), (3, [1])]
    with pytest.raises(InstrumentError, match="image 0 came after image 7: the camera was started again"):
        fed(given(7, 0))
    ((index, time_ns),) = (
        (piece.index, piece.time_ns)
        for piece in Feed(Acquisition(source="", raman_shift=SHIFT, dtype="uint16")).take(
            Block(numbered(0), kind(0), kind(60_000))
        )
    )
    assert (type(index), type(time_ns)) == (int, int)  # as messages have them


def rows_of(*lengths: int, before: bool = True) -> list[Any]:
    """Each row's trigger and so many images, whose counts say row and column: 10, 11, 12, ..."""
    given: list[Any] = []
    for row, length in enumerate(lengths):
        given += [NextRow()] if row or before else []
        given += [numbered(10 * row + column) for column in range(length)]
    return given


@pytest.mark.parametrize(
    ("given", "kept", "lost"),
    [
        (rows_of(3, 0, 3, 3), {0: 0, 6: 20, 9: 30}, [(3, 3)]),  # a row is lost wholly
        (rows_of(0, 3, 2, 3), {3: 10, 6: 20, 9: 30}, [(0, 3), (8, 1)]),
        (rows_of(3, 4, 3, 9), {0: 0, 3: 10, 6: 20, 9: 30}, []),  # or has too many
        (rows_of(4, 3, 3, 3), {0: 0, 3: 10, 6: 20, 9: 30}, []),
        (rows_of(2, 0, 3, 3, before=False), {0: 0, 6: 20, 9: 30}, [(2, 1), (3, 3)]),
        (rows_of(3, 3, 3, 3, 3, 3), {0: 0, 3: 10, 6: 20, 9: 30}, []),  # rows that nobody planned
        ([*rows_of(3, 1), Gap(5), *rows_of(3, 3)], {0: 0, 3: 10, 6: 0, 9: 10}, [(4, 2)]),
    ],
)
def test_a_row_begins_where_its_trigger_says_whatever_those_before_it_lack_or_have_too_many(
    given: list[Any], kept: dict[int, int], lost: list[tuple[int, int]]
) -> None:
    pieces = fed(given, scan=(4, 3), spectra=12, block=16)
    there = {index: what[0] for index, what in pieces if isinstance(what, list)}
    assert {index: value for index, value in there.items() if index % 3 == 0} == kept
    assert all(value % 10 == index % 3 for index, value in there.items())
    assert [(index, what[1]) for index, what in pieces if isinstance(what, tuple)] == lost


def triggered(*rows: list[int] | Gap) -> list[Any]:
    """Each row's trigger and the images with these numbers; a gap that is said has no trigger."""
    return [
        each
        for row in rows
        for each in ([row] if isinstance(row, Gap) else [NextRow(), *images(*row)])
    ]  # fmt: skip


ANEW: dict[str, Any] = {"first": 0, "anew": True}


@pytest.mark.parametrize(
    ("given", "about", "kept", "lost"),
    [
        (triggered([0, 1, 2], [4, 5], [6, 7, 8]), {}, {0: 0, 4: 4, 5: 5, 6: 6}, [(3, 1)]),
        (triggered([0, 1], [4, 5], [6, 7, 8]), {}, {0: 0, 4: 4, 5: 5, 6: 6}, [(2, 1), (3, 1)]),
        (triggered([0, 1], [2, 3, 4]), {}, {0: 0, 3: 2}, [(2, 1)]),  # where there was no image
        (triggered([0, 1, 2], [], [7, 8]), {}, {0: 0, 7: 7}, [(3, 3), (6, 1)]),
        (triggered([0, 1, 2, 3, 4], [5, 6, 7]), {}, {0: 0, 3: 5}, []),  # too many
        (triggered([0, 1, 2, 3], Gap(1), [6, 7]), {}, {0: 0, 4: 6}, [(3, 1)]),
        (triggered([0], Gap(2), [3, 4, 5]), {}, {0: 0, 3: 3}, [(1, 2)]),
        ([*triggered([0, 1, 2]), NextRow(), Gap(1), *images(4, 5)], {}, {0: 0, 4: 4}, [(3, 1)]),
        (triggered([7, 8], [7, 8], [8, 9]), ANEW | {"first": 7}, {0: 7, 3: 7, 7: 8},
         [(2, 1), (5, 1), (6, 1)]),
        (triggered([0, 2], [0], [0], [1, 2]), ANEW, {0: 0, 3: 0, 6: 0, 10: 1},
         [(1, 1), (4, 2), (7, 2), (9, 1)]),
        (triggered([0, 1], [1, 2], [0, 1, 2]), ANEW, {0: 0, 4: 1, 6: 0}, [(2, 1), (3, 1)]),
        (triggered([0, 1], [2], [2], [0, 0, 1, 2, 3]), ANEW, {0: 0, 5: 2, 8: 2, 9: 0, 11: 2},
         [(2, 1), (3, 2), (6, 2)]),
        ([*triggered([0, 1, 2]), NextRow(), Gap(1), *images(2)], ANEW, {0: 0, 5: 2}, [(3, 1), (4, 1)]),
        (triggered([0, 1, 2], [2, 3, 4]), {"first": 0}, {0: 0, 2: 2, 3: 3}, []),  # a copy, and counts on
        (triggered([14, 15, 0], [2, 3]), {"highest": 15}, {0: 14, 4: 2}, [(3, 1)]),
        (triggered([1, 2], [3, 4]), {"first": 0}, {1: 1, 3: 3}, [(0, 1)]),
    ],
)  # fmt: skip
def test_images_lost_at_the_beginning_of_a_row_are_lost_there(
    given: list[Any], about: dict[str, Any], kept: dict[int, int], lost: list[tuple[int, int]]
) -> None:
    pieces = fed(given, scan=(4, 3), spectra=12, numbers=Numbering(**about))
    there = {index: what[0] for index, what in pieces if isinstance(what, list)}
    assert {index: there.get(index) for index in kept} == kept
    assert [(index, what[1]) for index, what in pieces if isinstance(what, tuple)] == lost


def test_camera_that_counts_on_while_the_scan_flies_back_says_so() -> None:
    """From four to six images, which are not yielded."""
    about: dict[str, Any] = {"scan": (3, 3), "order": Order(flyback=6), "spectra": 27}
    pieces = fed(triggered([0, 1, 2], [7, 9], [16, 17, 18]), **about)
    assert pieces == [
        (0, [0]), (1, [1]), (2, [2]), (3, [7]), (4, ("camera", 1)), (5, [9]), (6, [16]), (7, [17]), (8, [18])
    ]  # fmt: skip
    with pytest.raises(InstrumentError, match=r"image 7 is the first one of a row, and after image 2 more"):
        fed(triggered([0, 1, 2], [7, 8, 9]), scan=(3, 3), spectra=9)
    with pytest.raises(InstrumentError, match=r"image 0 came after image 2: .*, anew=True\)\)$"):
        fed(triggered([0, 1, 2], [0, 1, 2]), scan=(3, 3), spectra=9)


def test_images_beyond_the_end_of_their_row_are_said(caplog: pytest.LogCaptureFixture) -> None:
    camera = Camera([numbered(0, 5)], raman_shift=SHIFT, scan=(2, 2))
    camera.blocks = [NextRow(), numbered(0, 5), NextRow(), numbered(10, 2)]  # type: ignore[list-item]
    made, collected = several(camera, 1)
    assert made[0].sent == collected.spectra == 4 and "3 frames came when their row was full" in caplog.text


def test_scan_that_lost_an_image_ends_with_its_last_row_where_rows_are_triggered() -> None:
    class Counting(Camera):
        def frames(self) -> Iterator[Any]:
            yield from rows_of(1, 2)
            pytest.fail("it counts what it has yielded, and would wait for the fourth image for ever")

    camera = Counting([numbered(0)], raman_shift=SHIFT, scan=(2, 2), spectra=4)
    made, collected = several(camera, 1)
    assert (made[0].reason, made[0].lost, collected.spectra) == (Reason.COMPLETE, {"camera": 1}, 3)


def test_images_of_several_spectra_and_what_a_queue_lost_are_not_counted_twice() -> None:
    blocks = [Block(numbered(first, 2), number=number) for first, number in ((0, 3), (6, 6), (10, 8))]
    pieces = fed([blocks[0], Gap(4), *blocks[1:]], numbers=Numbering(spectra=2), block=2)
    assert pieces == [(0, [0, 1]), (2, ("camera", 4)), (6, [6, 7]), (8, ("camera", 2)), (10, [10, 11])]


def test_run_is_full_where_the_numbers_say_so_and_what_comes_after_is_nobodys() -> None:
    pieces = fed([*images(0, 1, 4, 5)], numbers=Numbering(first=0), spectra=4)
    assert pieces == [(0, [0]), (1, [1]), (2, ("camera", 2))]
    to_the_sixth = [*images(0, 3), Gap(3, Cause.OVERLOAD)]
    pieces = fed(to_the_sixth, numbers=Numbering(first=0), spectra=6)
    assert pieces == [(0, [0]), (1, ("camera", 2)), (3, [3]), (4, ("overload", 2))]
    block = [Block(numbered(0, 2), number=0), Block(numbered(4, 2), number=4)]
    assert fed(block, spectra=5, block=2) == [(0, [0, 1]), (2, ("camera", 2)), (4, [4])]
    endless = Camera([spectra_of(1)], spectra=9)
    endless.frames = lambda: (Block(spectra_of(1), number=number) for number in range(0, 10**9, 2))  # type: ignore[method-assign, assignment]
    made, collected = several(endless, 1)
    assert (made[0].sent, made[0].lost, collected.closed[0].end.reason) == (5, {"camera": 4}, "complete")


@pytest.mark.parametrize("number", [1, 60_000_000])
def test_camera_that_was_started_again_ends_the_run(number: int) -> None:
    blocks = [*images(8, 9), Block(numbered(0), number=number)]
    with pytest.raises(
        InstrumentError, match=f"image {number} came after image 9: the camera was started again"
    ):
        fed(blocks, scan=(2, 3), order=Order(snake=True))


@pytest.mark.parametrize(
    ("order", "yielded", "pieces"),
    [
        (Order(snake=True), [numbered(0, 6)], [(0, [0, 1, 2]), (3, [5, 4, 3])]),
        (Order(snake=True), [numbered(n) for n in range(6)], [(0, [0]), (1, [1]), (2, [2]), (3, [5, 4, 3])]),
        (Order(snake=True, rows=1), [numbered(0, 6)], [(0, [0, 1, 2]), (3, [3, 4, 5])]),  # planes of one row
        (Order(frames=2), [numbered(0, 6)], [(0, [1, 5, 9])]),
        (Order(frames=2, flyback=1), [numbered(0, 16)], [(0, [1, 5, 9]), (3, [17, 21, 25])]),
        (  # the fifth is lost: a row that is measured backwards
            Order(snake=True),
            [*images(0, 1, 2, 3), *images(5)],
            [(0, [0]), (1, [1]), (2, [2]), (3, [5]), (4, ("camera", 1)), (5, [3])],
        ),
        (Order(frames=2), [*images(0, 2), *images(3)], [(0, ("camera", 1)), (1, [5])]),
        (Order(snake=True), [numbered(0, 4)], [(0, [0, 1, 2]), (3, ("unmeasured", 2)), (5, [3])]),  # stopped
        (Order(frames=2), [numbered(0, 3)], [(0, [1]), (1, ("unmeasured", 1))]),  # in the midst of a point
        (Order(frames=2, flyback=1), [numbered(0, 7)], [(0, [1, 5, 9])]),  # of a flight back
        (Order(frames=2, snake=True), [numbered(0, 7)], [(0, [1, 5, 9]), (3, ("unmeasured", 3))]),
        (
            Order(frames=2, snake=True),
            [numbered(0, 9)],
            [(0, [1, 5, 9]), (3, ("unmeasured", 2)), (5, [13])],
        ),
        (Order(), [numbered(0), NextRow(), numbered(3)], [(0, [0]), (1, ("camera", 2)), (3, [3])]),
        (Order(), [*images(0, 1), NextRow(), *images(2)], [(0, [0]), (1, [1]), (2, ("camera", 1)), (3, [2])]),
        (Order(snake=True), [numbered(0, 3), NextRow(), numbered(3, 3)], [(0, [0, 1, 2]), (3, [5, 4, 3])]),
    ],
)
def test_orders_of_a_scan_become_rows(order: Order, yielded: list[Any], pieces: list[Any]) -> None:
    assert fed(yielded, order=order, scan=(2, 3), block=16) == pieces


def test_row_that_ends_in_a_loss_has_the_time_of_its_last_spectrum() -> None:
    about = {"scan": (2, 3), "order": Order(snake=True)}
    feed = Feed(Acquisition(source="", raman_shift=SHIFT, dtype="uint16", **about))
    given = [*(Block(numbered(number), time_ns=10**18 + number) for number in range(5)), Gap(1)]
    pieces = [piece for each in given for piece in feed.take(each)]
    times = [piece.time_ns for piece in pieces if piece.counts is not None]
    assert times == [10**18, 10**18 + 1, 10**18 + 2, 10**18 + 4]


def test_sums_of_frames_are_announced_as_they_are_published() -> None:
    about = Acquisition(
        source="", raman_shift=SHIFT, dtype="uint16", spectra=20, scan=(2, 3), exposure_s=0.5,
        dark=np.full(PIXELS, 3, np.float32), order=Order(frames=3, snake=True, flyback=1),
        instrument={f"a{number}": 1 for number in range(MAX_FACTS)},
    )  # fmt: skip
    said = Feed(about).published
    assert said.instrument is not None and said.instrument["frames_per_point"] == 3
    assert check_facts(said.instrument, "as many as start takes") and "a0" in said.instrument
    assert Feed(replace(about, spectra=18)).published.spectra == 5  # of 20 frames the sixth lacks one
    backwards = Feed(replace(about, order=Order(snake=True), instrument=None)).published
    assert backwards.instrument is None
    assert (said.dtype, said.block, said.spectra, said.exposure_s) == ("uint32", 3, 6, 1.5)
    assert said.dark is not None and said.dark.tolist() == [9] * PIXELS
    # What nobody stated is not stated: a calibration goes before it. Sums of rows are no numbers of a camera.
    for more, stated, largest in (
        ({}, None, 3 * 65535), ({"full_scale": 4095}, 3 * 4095, 2**32 - 1), ({"dtype": "uint32"}, None, None),
    ):  # fmt: skip
        said = Feed(replace(about, **more)).published
        assert (said.full_scale, largest_count(said.dtype, said.instrument)) == (stated, largest)
    (_, counts), *_ = fed([numbered(65000, 3)], order=Order(frames=3), block=3)
    assert counts == [65000 + 65001 + 65002]


@pytest.mark.parametrize(("brightest", "warnings"), [(4094, 0), (4095, 1)])
def test_rows_or_frames_of_a_sum_that_the_camera_cut_are_told(
    brightest: int, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    image = np.full((4, 8), 100, np.uint16)
    image[:, 7] = 4095  # a hot pixel
    image[1, 2:5] = brightest
    rows = Rows(ImageSettings(), 4, image.dtype, 12)
    for _ in range(2):
        assert rows(image)[0, 3] == brightest + 300 < rows.full_scale
    told = [each for each in caplog.messages if "rows of an image are cut" in each]
    assert len(told) == warnings
    frames = [image[row][None] for row in range(4)]
    camera = Camera(frames, raman_shift=np.arange(8) + 500.0, full_scale=4095, order=Order(frames=2))
    made, _ = several(camera, 1)
    told = [each for each in caplog.messages if "frames of a point are cut" in each]
    assert made[0].sent == 2 and len(told) == warnings
    assert Rows(ImageSettings(), 4, image.dtype).full_scale is None  # 16 bits, or fewer


@pytest.mark.parametrize(
    ("yielded", "about", "reason"),
    [
        ([numbered(0, 3)], {"block": 3, "spectra": 2}, r"spectrum 3 came, and acquisition\(\) announced 2"),
        ([NextRow()], {}, "yielded NextRow, but"),
        ([Block(numbered(0), 0, number=0)], {}, "an index or a number of the camera, not both"),
        ([], {"order": Order(snake=True)}, "there and back, or flies back, needs rows"),
        ([], {"numbers": Numbering(anew=True)}, r"counts each row anew needs Numbering\(first="),
        ([Gap(-1)], {}, "a gap of -1 spectra"),
        ([Gap(3.0)], {}, r"Gap\.spectra must be a whole number, not 3\.0"),  # type: ignore[arg-type]
        ([Block(numbered(0), time_ns=1.5e18)], {}, r"Block\.time_ns must be a whole number, not 1\.5e"),  # type: ignore[arg-type]
    ],
)
def test_what_was_announced_is_compared(yielded: list[Any], about: dict[str, Any], reason: str) -> None:
    with pytest.raises(InstrumentError, match=reason):
        fed(yielded, **about)


def test_clock_of_a_camera_becomes_unix_time() -> None:
    """Its quartz is 50 ppm fast, and images arrive late by 1 to 100 ms."""
    now, late = 0, np.random.default_rng(1).uniform(1e6, 100e6, 2000)
    ticks = Ticks(1e6, lambda: now)
    wrong = []
    for number in range(2000):
        true = 1_700_000_000_000_000_000 + number * 10**8
        now = true + int(late[number])
        wrong.append(ticks.time_ns(2**60 + int(number * 10**5 * (1 + 50e-6))) - true)
    assert min(wrong) >= 0 and max(wrong[200:]) < 12e6 and max(wrong) <= 100e6


def test_clock_of_few_bits_begins_again() -> None:
    """32 bits at 10 MHz begin again after 429 s; for 20 minutes in between no trigger came."""
    now = 0
    ticks = Ticks(1e7, lambda: now, highest=2**32 - 1)
    for second in [*range(0, 1000, 7), *range(2200, 3000, 7)]:
        true = 1_700_000_000_000_000_000 + second * 10**9
        now = true + 10**6
        assert ticks.time_ns((4_000_000_000 + second * 10**7) % 2**32) == now
    with pytest.raises(ValueError, match="begins again after 65535 ticks, within a second"):
        Ticks(1e6, highest=65535)


@pytest.mark.parametrize("between_s", [0.5, 10])
@pytest.mark.parametrize(
    ("until_10", "at_10", "after_10"),
    [
        (3600, 0, 0),  # the camera's clock begins again
        (100, 63, 63),  # it is set back by another one
        (100, 137, 137),  # or forward
        (100, 3700, 100),  # one stamp is an hour too large
        (100, 104.295, 100),  # of one stamp the lower half of its 64 bits was read after the upper one
    ],
)
def test_clock_that_jumps_is_followed_from_there(
    until_10: float, at_10: float, after_10: float, between_s: float
) -> None:
    now = 0
    ticks = Ticks(1e6, lambda: now)
    for number in range(20):
        true = 1_700_000_000_000_000_000 + int(number * between_s * 1e9)
        now = true + (number % 3 + 1) * 10**7
        jumped = until_10 if number < 10 else at_10 if number == 10 else after_10
        stamp = ticks.time_ns(int((jumped + number * between_s) * 1e6))
        assert 0 <= stamp - true <= 3e7 + 1e3, number


def test_stamp_that_is_a_little_out_of_order_keeps_the_guess() -> None:
    """The images come 10 ms late, and those from 5 to 8 all at once."""
    now = 0
    ticks = Ticks(1e6, lambda: now)
    for number in range(12):
        true = 1_700_000_000_000_000_000 + number * 10**8
        now = true + 10**7 + max(8 - number, 0) * 10**8 * (number >= 5)
        stamp = ticks.time_ns(number * 10**5 if number != 6 else 5 * 10**5 - 1)
        assert abs(stamp - true - 10**7) < 1e5 or number == 6, number


# -- runs -------------------------------------------------------------------------------------------------


def several(instrument: Instrument, runs: int, **settings: Any) -> tuple[list[DriveTotals], Collected]:
    with Publisher(LOCAL, "raw") as publisher, Collected(publisher.address, "raw") as collected:
        made: list[DriveTotals] = []
        given = DriveSettings(settle_s=0, runs=runs, **settings)
        thread = threading.Thread(target=lambda: made.extend(drive_runs(instrument, publisher, given)))
        thread.start()
        collected.ends(runs)
        thread.join(PATIENCE_S)
    return made, collected


def first_of(frames: Iterator[Any]) -> Any:
    """The first block; before it a thread may have had no turn yet."""
    return next(each for each in frames if not isinstance(each, Waiting))


class Triggered(Camera):
    """The trigger of each scan comes when it has been seen to wait."""

    waited = 0

    def acquisition(self) -> Acquisition:
        self.began_ns = time.time_ns()
        return Acquisition(**self.about, source="a camera", raman_shift=AXIS, triggered=True)

    def frames(self) -> Iterator[Any]:
        for _ in range(3):
            yield Waiting("the trigger")
            self.waited += 1
        self.triggered_ns = time.time_ns()
        yield from self.blocks


def test_scan_that_does_not_fly_back_after_its_last_row_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "FLIES_S", 0.05)

    class Resting(Camera):
        def frames(self) -> Iterator[Any]:
            yield from self.blocks
            while True:
                yield Waiting("the trigger")
                time.sleep(0.01)

    camera = Resting([numbered(n) for n in range(8)], scan=(2, 3), order=Order(flyback=2), spectra=10)
    camera.about["raman_shift"] = SHIFT
    made, collected = several(camera, 1)
    assert (made[0].reason, values(collected)) == (Reason.COMPLETE, [0, 1, 2, 5, 6, 7])


def test_flight_back_of_a_slow_stage_is_not_the_next_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its triggers are much farther apart than an exposure is long."""
    monkeypatch.setattr(running, "FLIES_S", 0.0)

    class Slow(Camera):
        def frames(self) -> Iterator[Any]:
            for _ in range(6):
                yield self.blocks.pop(0)
                if len(self.blocks) in (10, 8):  # a slow point, and the end of the last row
                    time.sleep(0.5 if len(self.blocks) == 10 else 0.05)
                    yield Waiting("the trigger")

    about: dict[str, Any] = {"exposure_s": 1e-3, "scan": (1, 4), "order": Order(flyback=2), "spectra": 6}
    camera = Slow([numbered(n) for n in range(12)], **about)
    camera.about["raman_shift"] = SHIFT
    _, collected = several(camera, 2)
    assert values(collected) == [0, 1, 2, 3, 6, 7, 8, 9]


class Describing(Triggered):
    """It knows with its first image how it is set."""

    def frames(self) -> Iterator[Any]:
        about = Acquisition(source="a camera", raman_shift=AXIS, exposure_s=0.5, **self.about, triggered=True)
        first, *more = super().frames()
        yield from (first, about, *more)


def test_run_is_described_with_its_first_image_and_not_once_it_has_begun() -> None:
    camera = Describing([spectra_of(2), spectra_of(3)])
    made, collected = several(camera, 2)
    assert [totals.sent for totals in made] == [5, 5]
    assert [start.exposure_s for start in collected.starts] == [0.5, 0.5]
    camera.blocks.append(camera.acquisition())  # type: ignore[arg-type]
    with Publisher(LOCAL, "raw") as publisher, pytest.raises(InstrumentError, match="that had begun"):
        list(drive_runs(camera, publisher, DriveSettings(subscribers=0, stall_s=0.01)))


def test_scan_after_scan_each_begins_with_its_trigger() -> None:
    camera = Triggered([spectra_of(2), spectra_of(3)], instrument={"gain": 2, "temperature_c": -60.5})
    made, collected = several(camera, 3)
    assert [totals.sent for totals in made] == [5, 5, 5] and camera.closed == 1 and camera.waited == 9
    assert len({start.run for start in collected.starts}) == 3 and not collected.problems
    assert [frame.index for frame in collected.frames] == [0, 2] * 3
    assert collected.starts[-1].time_ns >= camera.triggered_ns
    assert collected.starts[0].instrument == {"gain": 2, "temperature_c": -60.5}


def test_run_that_ends_before_its_plan_is_not_complete(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, collected = several(Camera([spectra_of(2), spectra_of(3)], spectra=9), 2)
    assert [(totals.reason, totals.sent) for totals in made] == [(Reason.STOPPED, 5)] * 2
    assert [closed.end.reason for closed in collected.closed] == [Reason.STOPPED] * 2
    assert caplog.text.count("the instrument ended 4 spectra before the 9 that it announced") == 2


def test_stop_while_waiting_for_the_trigger_makes_no_run() -> None:
    class Never(Triggered):
        def frames(self) -> Iterator[Any]:
            while True:
                yield Waiting("the trigger")

    waits: list[str | None] = []
    with Publisher(LOCAL, "raw") as publisher:
        (totals,) = drive_runs(
            Never([spectra_of(1)]), publisher, DriveSettings(subscribers=0, runs=0),
            lambda: len(waits) > 5, lambda _, totals: waits.append(totals.waiting_for),
        )  # fmt: skip
    assert (totals.reason, totals.produced, totals.waiting_for) == ("stopped", 0, None)
    assert set(waits) == {"the trigger"}


def test_what_waits_for_room_leaves_and_who_comes_late_is_told_while_the_instrument_waits() -> None:
    pausing, over = threading.Event(), threading.Event()
    block = np.zeros((100, len(AXIS)), np.uint16)
    yielded = 0

    class Pausing(Camera):
        def frames(self) -> Iterator[Any]:
            nonlocal yielded
            while not publisher.waiting:
                yielded += len(block)
                yield block
            pausing.set()
            while not over.wait(0.01):
                yield Waiting("the trigger")

    with Publisher(LOCAL, "raw") as publisher, Collected(publisher.address, "raw") as collected:
        given = Pausing([block]), publisher, DriveSettings(settle_s=0)
        thread = threading.Thread(target=drive, args=given)
        thread.start()
        try:
            assert pausing.wait(PATIENCE_S)  # nothing has been read until then
            collected.until(lambda all_: all_.spectra == yielded)
            with Collected(publisher.address, "raw") as late:
                late.until(lambda all_: all_.starts)
        finally:
            over.set()
        collected.ends()
        thread.join(PATIENCE_S)
    assert not collected.closed[0].end.lost


# -- threads and processes ------------------------------------------------------------------------------


class Elsewhere(Camera):
    """Reuses its memory, and says in which thread and process each of its methods is called."""

    fault = ""
    silent_s = 2.0

    def __init__(self, fault: str = "", count: int = 300) -> None:
        super().__init__([spectra_of(1)])
        self.fault, self.count, self.made = fault, count, self.where()
        if fault == "absent":
            raise InstrumentError("no camera is there")

    @staticmethod
    def where() -> tuple[int, int]:
        return os.getpid(), threading.get_ident()

    def acquisition(self) -> Acquisition:
        assert self.where() == self.made
        said = {"pid": self.made[0], "thread": self.made[1] % 2**31}
        return Acquisition(source="", raman_shift=SHIFT, dtype="uint16", block=1, instrument=said)

    def frames(self) -> Iterator[Any]:
        assert self.where() == self.made
        logging.getLogger("cars_rt.drivers").warning("its fan is at %d %%", 99)
        memory = np.zeros((1, PIXELS), np.uint16)
        for number in range(self.count):
            memory[:] = number
            yield Block(memory, number=number)
        memory[:] = 9999
        if self.fault == "crash":
            os._exit(7)
        if self.fault == "hang":
            threading.Event().wait()
        if self.fault:
            raise InstrumentError(self.fault)

    def close(self) -> None:
        assert self.where() == self.made


class There(Elsewhere):
    lives = "process"


@pytest.mark.skipif(sys.platform == "win32", reason="signals between processes")
@pytest.mark.parametrize("number", STOPS)
def test_a_signal_to_all_of_a_group_is_for_the_program(number: int) -> None:
    instrument = placed(There)
    said = instrument.acquisition().instrument
    assert said is not None
    os.kill(int(said["pid"]), number)
    made, _ = several(instrument, 1)
    assert [totals.sent for totals in made] == [300]


def values(collected: Collected) -> list[int]:
    return [int(frame.counts[0, 0]) for frame in collected.frames]


def test_instrument_in_a_thread_may_reuse_its_memory() -> None:
    instrument = InThread(Elsewhere)
    made, collected = several(instrument, 2)
    assert [totals.sent for totals in made] == [300, 300] and values(collected) == [*range(300)] * 2
    said = collected.starts[0].instrument
    assert said is not None and said["thread"] != threading.get_ident() % 2**31 and said["pid"] == os.getpid()


def test_what_the_queue_of_a_thread_has_no_room_for_is_counted_and_the_camera_is_not_held_up() -> None:
    ended = threading.Event()

    class Fast(Elsewhere):
        def frames(self) -> Iterator[Any]:
            for given in super().frames():
                if given.number not in (100, 101):  # the camera lost these
                    yield given
            ended.set()

    instrument = InThread(Fast, buffer_mb=20 * 8 / 1e6)  # for 20 spectra
    instrument.acquisition()
    frames = instrument.frames()
    feed = Feed(Acquisition(source="", raman_shift=SHIFT, dtype="uint16"))
    pieces = list(feed.take(first_of(frames)))
    assert ended.wait(PATIENCE_S)
    pieces += [piece for given in frames if not isinstance(given, Waiting) for piece in feed.take(given)]
    instrument.close()
    lost = {str(piece.cause): piece.spectra for piece in pieces if piece.cause}
    kept = sum(piece.spectra for piece in pieces if piece.counts is not None)
    assert feed.measured + 2 == 300 or feed.measured == 300  # a gap at the very end shows with the next one
    assert kept + sum(lost.values()) == feed.measured and 20 <= kept < 300 and lost["overload"] > 0


def test_what_waits_in_the_queue_of_a_thread_has_the_time_at_which_it_was_yielded() -> None:
    over = threading.Event()
    ended_ns = 0

    class Early(Elsewhere):
        def frames(self) -> Iterator[Any]:
            nonlocal ended_ns
            yield from (numbered(0), Block(numbered(1)), Block(numbered(2), time_ns=3))
            ended_ns = time.time_ns()
            over.set()

    instrument = InThread(Early)
    instrument.acquisition()
    frames = instrument.frames()
    given = [first_of(frames)]
    assert over.wait(PATIENCE_S)
    given += [each for each in frames if not isinstance(each, Waiting)]
    instrument.close()
    assert [each.counts[0, 0] for each in given] == [0, 1, 2] and given[2].time_ns == 3
    assert all(each.time_ns <= ended_ns for each in given)


def test_copy_of_an_image_that_the_queue_has_no_room_for_is_no_loss() -> None:
    over = threading.Event()

    class Twice(Elsewhere):
        def frames(self) -> Iterator[Any]:
            for number in range(100):
                yield from (Block(numbered(number), number=number) for _ in range(2))
            over.set()

    instrument = InThread(Twice, buffer_mb=20 * 8 / 1e6)  # for 20 spectra
    about = instrument.acquisition()
    frames = instrument.frames()
    given = [first_of(frames)]
    assert over.wait(PATIENCE_S)
    given += [each for each in frames if not isinstance(each, Waiting)]
    instrument.close()
    feed = Feed(about)
    pieces = [piece for each in given for piece in feed.take(each)]
    assert feed.measured == 100 and {str(piece.cause) for piece in pieces if piece.cause} == {"overload"}


def test_copy_of_an_image_that_was_lost_is_lost_though_there_is_room_again() -> None:
    full, room = threading.Event(), threading.Event()

    class Later(Elsewhere):
        def frames(self) -> Iterator[Any]:
            yield from images(*range(100))  # the last of them is lost
            full.set()
            assert room.wait(PATIENCE_S)
            yield from images(99, 100)

    instrument = InThread(Later, buffer_mb=20 * 8 / 1e6)  # for 20 spectra
    feed = Feed(instrument.acquisition())
    frames = instrument.frames()
    pieces = [*feed.take(first_of(frames))]
    assert full.wait(PATIENCE_S)
    for each in frames:
        if isinstance(each, Waiting):
            room.set()
        else:
            pieces += feed.take(each)
    instrument.close()
    *first, last = [each.index for each in pieces if each.cause is None]
    assert (first, last, feed.measured) == ([*range(len(first))], 100, 101)


class Counting(Elsewhere):
    """Goes on until it is stopped, and counts what it yields."""

    yielded = 0

    def frames(self) -> Iterator[Any]:
        Counting.yielded = 0
        try:
            for number in range(10**9):
                Counting.yielded += 1
                yield np.full((1, PIXELS), number % 60_000, np.uint16)
        finally:
            Counting.stopped_at = Counting.yielded


def test_what_was_measured_before_a_stop_is_published_though_it_still_waits_in_the_queue() -> None:
    stop = threading.Event()
    instrument = InThread(Counting)
    with Publisher(LOCAL, "raw") as publisher, Collected(publisher.address, "raw") as collected:
        made: list[DriveTotals] = []
        given, see = DriveSettings(settle_s=0), lambda _, totals: totals.produced and stop.set()
        thread = threading.Thread(
            target=lambda: made.extend(drive_runs(instrument, publisher, given, stop.is_set, see))
        )
        thread.start()
        collected.ends()
        thread.join(PATIENCE_S)
    (totals,) = made
    assert (
        totals.reason == "stopped"
        and totals.produced == Counting.yielded == totals.sent + totals.lost.get("overload", 0)
    )
    assert collected.spectra == totals.sent


def test_instrument_that_says_that_it_takes_longer_is_given_the_time() -> None:
    class Slow(Elsewhere):
        def __init__(self) -> None:
            super().__init__("", 3)
            self.silent_s = PATIENCE_S

        def acquisition(self) -> Acquisition:
            time.sleep(0.3)
            return super().acquisition()

    instrument = InThread(Slow, silent_s=0.05)
    made, _ = several(instrument, 1)
    assert [totals.sent for totals in made] == [3]


def test_instrument_whose_first_image_says_a_longer_exposure_is_given_the_time() -> None:
    class Longer(Elsewhere):
        def frames(self) -> Iterator[Any]:
            yield Acquisition(source="", raman_shift=SHIFT, dtype="uint16", block=1, exposure_s=PATIENCE_S)
            time.sleep(0.4)
            yield from super().frames()

        def acquisition(self) -> Acquisition:
            return replace(super().acquisition(), triggered=True)

    instrument = InThread(partial(Longer, "", 3), silent_s=0.1)
    made, collected = several(instrument, 1)
    assert ([totals.sent for totals in made], collected.starts[0].exposure_s) == ([3], PATIENCE_S)


def test_instrument_that_hangs_in_a_thread_is_said_to() -> None:
    instrument = InThread(partial(Elsewhere, "hang", 3), silent_s=0.2)
    with Publisher(LOCAL, "raw") as publisher, pytest.raises(InstrumentError, match="has given no sign for"):
        list(drive_runs(instrument, publisher, DriveSettings(subscribers=0, stall_s=0.01)))


def test_instrument_in_a_process_of_its_own_makes_two_runs_and_ends(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cars_rt.drivers.apart.ENDS_S", PATIENCE_S)  # on a busy computer, too
    instrument = placed(There)
    assert isinstance(instrument, InProcess)
    made, collected = several(instrument, 2)
    assert [totals.sent for totals in made] == [300, 300] and values(collected) == [*range(300)] * 2
    said = collected.starts[0].instrument
    assert said is not None and said["pid"] != os.getpid()
    assert caplog.text.count("its fan is at 99 %") == 2
    assert instrument._process.exitcode == 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("crash", r"the process of the instrument died \(exit code 7\): its library crashed"),
        ("hang", "has given no sign for 2 s: its library hangs"),
        ("the cable is out", "the cable is out"),
    ],
)
def test_process_that_crashes_or_hangs_ends_the_run_as_failed(fault: str, reason: str) -> None:
    instrument = InProcess(partial(There, fault, 3), There.silent_s)
    with Publisher(LOCAL, "raw") as publisher, Collected(publisher.address, "raw") as collected:
        publisher.wait_for_subscribers(1, PATIENCE_S)
        made: list[DriveTotals] = []
        with pytest.raises(InstrumentError, match=reason):
            made.extend(drive_runs(instrument, publisher, DriveSettings(settle_s=0)))
        collected.ends()
    assert collected.closed[0].end.reason == "failed"
    assert [totals.reason for totals in made] == ["failed"]  # for the summary
    assert collected.spectra == 3 or fault == "crash"  # which may take along what it had yielded
    assert not instrument._process.is_alive()


def test_process_that_cannot_be_made_says_why() -> None:
    with pytest.raises(InstrumentError, match="no camera is there"):
        placed(partial(There, "absent"))

    class Local(There):
        pass

    with pytest.raises(InstrumentError, match="must be importable"):
        placed(Local)
