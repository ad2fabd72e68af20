"""Frames of counts that were computed together leave as few frames of results."""

import weakref
from collections import Counter, deque
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import a_frame, a_start

from cars_rt.daemon.batch import Entry
from cars_rt.daemon.mishaps import Mishaps
from cars_rt.daemon.outputs.joined import JOINED_BYTES, Joined, joined, largest
from cars_rt.daemon.pipeline import Pipeline
from cars_rt.protocol import MAX_BLOCK

TIME = 1_700_000_000_000_000_000


def entries(*blocks: tuple[int, int], apart_ns: int = 1_000_000) -> list[Entry]:
    """Of (index, spectra) each, one after the other in the batch."""
    made, row = [], 0
    for number, (index, spectra) in enumerate(blocks):
        time_ns = TIME + number * apart_ns
        made.append(Entry(index, spectra, time_ns, row, received_ns=TIME + 7 + number, lost=number))
        row += spectra
    return made


def brief(parts: list[Joined]) -> list[tuple[int, int, int]]:
    return [(part.index, part.first, part.rows) for part in parts]


def test_frames_that_follow_on_are_one_with_the_time_of_each() -> None:
    (part,) = joined(entries((4, 1), (5, 2), (7, 1)), most=8)
    assert brief([part]) == [(4, 0, 4)]
    assert (part.time_ns, part.received_ns, part.lost) == (TIME, TIME + 7, 2)
    np.testing.assert_array_equal(part.delays()["delays"], [0, 0.001, 0.001, 0.002])


@pytest.mark.parametrize(
    ("blocks", "most", "expected"),
    [
        ([(4, 2)], 8, [(4, 0, 2)]),
        ([(0, 1), (1, 1), (3, 1), (4, 1)], 8, [(0, 0, 2), (3, 2, 2)]),  # spectrum 2 is lost
        ([(0, 2), (2, 2), (4, 2), (6, 1)], 5, [(0, 0, 4), (4, 4, 3)]),
        ([(0, 9), (9, 9)], 9, [(0, 0, 9), (9, 9, 9)]),
        ([], 8, []),
    ],
)
def test_a_gap_and_a_full_frame_begin_another_one(
    blocks: list[tuple[int, int]], most: int, expected: list[tuple[int, int, int]]
) -> None:
    assert brief(list(joined(entries(*blocks), most))) == expected


def test_a_frame_of_counts_alone_says_no_delays() -> None:
    (part,) = joined(entries((0, 3)), most=8)
    assert part.delays() == {}


def test_a_clock_that_is_set_in_mid_run_begins_another_frame() -> None:
    blocks = entries((0, 1), (1, 1), apart_ns=-(10**15))
    assert brief(list(joined(blocks, 8))) == [(0, 0, 1), (1, 1, 1)]


@pytest.mark.parametrize(
    ("pixels", "block", "arrays"), [(1340, 1, 2), (1340, 512, 2), (65_536, 3, 4), (3, 1, 1)]
)
def test_a_frame_is_no_larger_than_the_instruments_own_or_the_limit(
    pixels: int, block: int, arrays: int
) -> None:
    start = replace(a_start(), raman_shift=np.linspace(400, 3400, pixels), block=block)
    most = largest(start, arrays)
    assert block <= most <= MAX_BLOCK
    assert most == block or 4 * pixels * arrays * most <= JOINED_BYTES


def test_counts_in_the_slab_keep_nothing_else_of_their_frames() -> None:
    """Neither their message nor what came with them, such as a picture of the sample."""
    engine = SimpleNamespace(inputs=[np.zeros((2, 3), np.float32)])
    compute: Any = SimpleNamespace(worker=SimpleNamespace(engine=engine, free=deque([0])))
    run: Any = SimpleNamespace(lost_before=0)
    outputs: Any = None
    pipeline = Pipeline(compute, outputs, Mishaps(Counter()))
    pipeline.begin()
    images: list[weakref.ref[Any]] = []
    for number in range(2):
        image = np.zeros((4, 4))
        images.append(weakref.ref(image))
        frame = a_frame(number, np.ones((1, 3)))
        frame.arrays = {**frame.arrays, "image": image}
        pipeline.take(run, frame, TIME)
    assert images[0]() is None, "only the last frame is known yet"
