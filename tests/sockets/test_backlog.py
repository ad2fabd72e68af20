"""What a full queue drops: bytes and policy in, messages out."""

import pytest
from helpers import a_frame, a_start, spectra_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_rt.accounting import Ledger
from cars_rt.protocol import Frame
from cars_rt.sockets.backlog import Answer, Backlog, Overload, Waiting

LEDGER = Ledger()


def frame(number: int, size: int) -> Waiting:
    return Waiting(a_frame(number, spectra_of(2)), LEDGER, size)


def offered(backlog: Backlog, waiting: Waiting) -> tuple[Answer, list[int]]:
    """As a publisher does: the answer and the numbers of those that were dropped for it."""
    answer, dropped = backlog.make_room(waiting.size)
    if answer is Answer.KEEP:
        backlog.add(waiting)
    return answer, [number_of(each) for each in dropped]


def number_of(waiting: Waiting) -> int:
    assert isinstance(waiting.message, Frame)
    return waiting.message.sequence


@pytest.mark.parametrize(
    ("overload", "answer", "dropped", "left"),
    [
        ("block", Answer.WAIT, [], [0, 1, 2]),
        ("drop-newest", Answer.DROP, [], [0, 1, 2]),
        ("drop-oldest", Answer.KEEP, [0, 1], [2, 3]),
    ],
)
def test_each_policy_makes_room_at_its_end(
    overload: Overload, answer: Answer, dropped: list[int], left: list[int]
) -> None:
    """The start before the frames stays in any case."""
    backlog = Backlog(100, overload)
    backlog.add(Waiting(a_start(), LEDGER))
    assert [offered(backlog, frame(number, 30)) for number in range(3)] == [(Answer.KEEP, [])] * 3
    assert (backlog.size, backlog.spectra, backlog.starts) == (90, 6, 1)
    assert offered(backlog, frame(3, 50)) == (answer, dropped)
    start, *frames = backlog.clear()
    assert not isinstance(start.message, Frame) and [number_of(each) for each in frames] == left
    assert (backlog.size, backlog.spectra, backlog.starts, len(backlog)) == (0, 0, 0, 0)


@settings(max_examples=100, deadline=None)
@given(
    overload=st.sampled_from(["block", "drop-newest", "drop-oldest"]),
    sizes=st.lists(st.integers(0, 150), max_size=30),  # 0: a start
)
def test_memory_is_bounded_and_nothing_vanishes(overload: Overload, sizes: list[int]) -> None:
    """Every frame waits, was dropped, or stays with its owner; one alone has room, however large."""
    backlog = Backlog(200, overload)
    backlog.share(elsewhere=1_000)  # half of the limit is left
    kept: list[int] = []
    for number, size in enumerate(sizes):
        if not size:
            backlog.add(Waiting(a_start(), LEDGER))
            continue
        answer, dropped = offered(backlog, frame(number, size))
        assert dropped == kept[: len(dropped)] and (overload == "drop-oldest" or not dropped)
        kept = kept[len(dropped) :] + [number] * (answer is Answer.KEEP)
        assert backlog.size == sum(sizes[each] for each in kept)
        assert backlog.size <= 100 or len(kept) == 1
    assert backlog.spectra == 2 * len(kept) and backlog.starts == sizes.count(0)
    while backlog:
        backlog.remove_first()
    assert (backlog.size, backlog.spectra, backlog.starts) == (0, 0, 0)
