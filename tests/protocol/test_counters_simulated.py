"""Publishers drawn at random, whose frames are lost, copied and late: judged against the truth."""

import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from cars_rt.accounting import Problem
from cars_rt.protocol import Frame, RunReader, Start

AXIS = np.array([600.0, 1600.0, 3100.0])
TIME = 1_700_000_000_000_000_000
INTERVAL = 10_000_000  # ns between frames


@dataclass
class Publisher:
    """What is sent, and what happens to it."""

    turns: tuple[int, int] | tuple[None, int] | tuple[int, None] | tuple[None, None] = (None, None)
    low: int = 0
    first: int = 0  # frame of a turn that is sent first, though start says nothing of it
    block: int = 1
    frames: int = 600
    jitter: float = 0.0  # of an interval
    pause: float = 0.0  # intervals more, where the counters begin again
    loss: float = 0.0
    burst: float = 0.0  # that some frames after one another are lost
    copies: float = 0.0
    late: float = 0.0  # that others overtake a frame
    stamped_late: bool = False  # with the time at which it is sent
    lost: set[int] = field(default_factory=set)


def sent(publisher: Publisher, rng: random.Random) -> list[tuple[int, Frame]]:
    """The frames that come, in order of coming, with their true numbers. Each holds its true index."""
    way: list[tuple[float, int, Frame]] = []
    time, burst = TIME, 0
    one, two = publisher.turns
    for number in range(publisher.frames):
        index = number * publisher.block
        shifted = number + publisher.first, index + publisher.first * publisher.block
        begins = (one and shifted[0] % one == 0) or (two and not one and shifted[1] % two < publisher.block)
        pause = publisher.pause if number and begins else 0
        time += int(INTERVAL * (1 + publisher.jitter * rng.uniform(-1, 1) + pause))
        shown = [
            value if turn is None else value % turn + publisher.low
            for value, turn in zip(shifted, publisher.turns, strict=True)
        ]
        counts = np.arange(index, index + publisher.block, dtype=np.uint32)[:, None].repeat(3, 1)
        frame = Frame("raw", "run-1", shown[0], shown[1], time, {"counts": counts})
        if publisher.first and not number:  # without it nobody could know where its turn was
            way.append((number, number, frame))
            continue
        burst = rng.randint(1, 20) if rng.random() < publisher.burst else max(burst - 1, 0)
        if burst or rng.random() < publisher.loss or number in publisher.lost:
            continue
        if rng.random() < publisher.late:
            overtaken = rng.randint(1, 70)
            if publisher.stamped_late:
                frame.time_ns += int(INTERVAL * (overtaken + 0.5))
            way.append((number + overtaken + 0.5, number, frame))
            continue
        way.append((number, number, frame))
        if rng.random() < publisher.copies:
            way.append((number + rng.randint(0, 50) + 0.3, number, frame))
    return [(number, frame) for _, number, frame in sorted(way, key=lambda each: each[0])]


@dataclass
class Judged:
    """Where a reader put what came."""

    came: int = 0  # frames that no later one had overtaken
    passed: int = 0
    wrong: int = 0  # of them at a wrong place
    unsaid: int = 0  # of those, before it was said that the numbers are a guess


def judge(publisher: Publisher, seed: int) -> Judged:
    rng = random.Random(seed)
    low = [publisher.low if turn else 0 for turn in publisher.turns]
    reader, judged, latest, guess = RunReader("raw"), Judged(), -1, False
    block, first = publisher.block, publisher.first
    said = [0, 0] if first else low
    start = Start("raw", "run-1", TIME, "camera", AXIS, "uint32", block, sequence=said[0], index=said[1])
    reader.accept(start)
    for number, frame in sent(publisher, rng):
        judged.came += number > latest
        latest = max(latest, number)
        for event in reader.accept(frame):
            if isinstance(event, Problem):
                guess |= "as a guess" in event.text
            elif isinstance(event, Frame):
                judged.passed += 1
                wrong = event.index - low[1] - first * block != int(event.counts[0, 0])
                judged.wrong += wrong
                judged.unsaid += wrong and not guess
    one = reader.interrupt(TIME)
    assert one is not None and one.end.announced == one.ledger.spectra + one.ledger.total_lost
    return judged


def draw(rng: random.Random, turns: bool, lossy: bool) -> Publisher:
    publisher = Publisher(block=rng.choice([1, 1, 1, 4]), frames=rng.choice([100, 400, 700]))
    if turns:
        turn = rng.choice([32, 64, 100, 128, 256, rng.randint(24, 240)])
        both = rng.choice([0, 0, 1, 2])
        publisher.low = rng.choice([0, 0, 1])
        publisher.turns = ((turn, turn * publisher.block), (turn, None), (None, turn * publisher.block))[both]
        publisher.pause = rng.choice([0, 0, 0, 1, 5.5, 30])
        if publisher.turns[1] or not publisher.low:  # else a first sequence of 9 with index 8 is doubted
            publisher.first = rng.choice([0, 0, 1, turn - 1, rng.randrange(turn)])
    publisher.jitter = rng.choice([0, 0, 0.1, 0.4])
    publisher.copies = rng.choice([0, 0.05])
    if lossy:
        publisher.loss = rng.choice([0, 0.01, 0.1])
        publisher.burst = rng.choice([0, 0, 0.01])
        publisher.late = rng.choice([0, 0, 0.02])
    return publisher


@pytest.mark.parametrize("part", range(2))
def test_a_sound_publisher_is_never_hurt(part: int) -> None:
    for seed in range(part * 100, part * 100 + 100):
        rng = random.Random(seed)
        publisher = draw(rng, turns=False, lossy=True)
        publisher.stamped_late = rng.random() < 0.3
        judged = judge(publisher, seed)
        assert (judged.passed, judged.wrong) == (judged.came, 0), (seed, publisher, judged)


def test_where_nothing_is_lost_nothing_is_lost_where_counters_begin_again() -> None:
    for seed in range(100):
        publisher = draw(random.Random(seed), turns=True, lossy=False)
        judged = judge(publisher, seed)
        assert (judged.passed, judged.wrong) == (publisher.frames, 0), (seed, publisher, judged)


def test_what_is_placed_wrongly_is_said_to_be_a_guess() -> None:
    came = passed = 0
    for seed in range(150):
        publisher = draw(random.Random(seed), turns=True, lossy=True)
        judged = judge(publisher, seed)
        assert not judged.unsaid, (seed, publisher, judged)
        came, passed = came + judged.came, passed + judged.passed
    assert passed > 0.9 * came
