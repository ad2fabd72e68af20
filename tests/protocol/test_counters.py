"""Publishers whose counters have few bits: what came is passed on under its number, or counted as lost."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_rt.accounting import Problem
from cars_rt.protocol import Closed, End, Event, Frame, Message, Reason, RunReader, Start, encode
from cars_rt.protocol.counter import Counter
from cars_rt.protocol.limits import MAX_COUNT

AXIS = np.array([600.0, 1600.0, 3100.0])
TIME = 1_700_000_000_000_000_000
MS = 10**6


def a_start(block: int = 1, **fields: Any) -> Start:
    return Start("raw", "run-1", TIME, "camera", AXIS, "uint32", block, **fields)


def a_frame(sequence: int, index: int, spectra: int = 1, late: int | None = None, true: int = 0) -> Frame:
    """`true`: the index of its first spectrum, also what it holds. `late`: ms from the run's beginning."""
    counts = np.full((spectra, 3), true % 2**32, np.uint32)
    time_ns = TIME + MS * (sequence if late is None else late)
    return Frame("raw", "run-1", sequence, index, time_ns, {"counts": counts})


def read(*messages: Message) -> tuple[list[Event], RunReader]:
    reader = RunReader("raw")
    return [event for each in messages for event in reader.read([bytes(p) for p in encode(each)])], reader


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events if isinstance(event, Problem)]


def closed(events: list[Event]) -> Closed:
    (one,) = (event for event in events if isinstance(event, Closed))
    return one


def wrapped(first: int, count: int, bits: tuple[int | None, int | None], block: int = 1) -> list[Frame]:
    """Frames as a publisher with such counters for sequence and index sends them, one a millisecond."""
    frames, index = [], first
    for number in range(first, first + count):
        spectra = 1 + number % block
        sent = [value if width is None else value % 2**width
                for value, width in zip((number, index), bits, strict=True)]  # fmt: skip
        frames.append(a_frame(sent[0], sent[1], spectra, number, index))
        index += spectra
    return frames


def true_numbers(events: list[Event]) -> list[int]:
    """Indices of the frames passed on; each has to hold the spectrum that it is named for."""
    frames = [event for event in events if isinstance(event, Frame)]
    for frame in frames:
        assert frame.index % 2**32 == int(frame.counts[0, 0])
    return [frame.index for frame in frames]


def misplaced_unsaid(events: list[Event]) -> list[int]:
    """Indices of frames that do not hold the spectrum that they are named for, before a guess was said."""
    said = next(
        (n for n, event in enumerate(events) if isinstance(event, Problem) and "guess" in event.text), None
    )
    frames = [event for event in events[:said] if isinstance(event, Frame)]
    return [frame.index for frame in frames if frame.index % 2**32 != int(frame.counts[0, 0])]


@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize(
    ("bits", "first"),
    [
        ((6, 6), 0), ((6, None), 0), ((None, 6), 0), ((5, 7), 0), ((4, 4), 0),
        ((8, 8), 250), ((16, 16), 2**16 - 20), ((32, 32), 2**32 - 20), ((32, 16), 2**16 - 20),
    ],
)  # fmt: skip
def test_counters_that_begin_again_lose_nothing(
    bits: tuple[int | None, int | None], first: int, block: int
) -> None:
    frames = wrapped(first, 150, bits, block)
    spectra = sum(len(frame.block) for frame in frames)
    end = End(
        "raw", "run-1", TIME, (first + 150) % 2 ** (bits[0] or 63), (first + spectra) % 2 ** (bits[1] or 63),
        Reason.COMPLETE, announced=(first + spectra) % 2 ** (bits[1] or 63),
    )  # fmt: skip
    events, _ = read(a_start(block, sequence=first, index=first), *frames, end)
    assert len(true_numbers(events)) == 150
    sequences = [event.sequence for event in events if isinstance(event, Frame)]
    assert sequences == list(range(first, first + 150))
    assert set(kinds(events)) == {"wrap"} | ({"joined late"} if first else set())
    found = closed(events)
    assert (found.end.announced, found.ledger.spectra) == (first + spectra, spectra)
    assert dict(found.ledger.lost) == ({"missing": first} if first else {}) and not found.ledger.surplus


def test_a_run_as_long_as_the_counter() -> None:
    events, _ = read(a_start(), *wrapped(0, 64, (6, 6)), End("raw", "run-1", TIME, 0, 0, Reason.COMPLETE, 0))
    assert (closed(events).end.announced, kinds(events)) == (64, [])


def test_a_sequence_of_any_length_if_the_index_goes_on() -> None:
    frames = [replace(frame, sequence=frame.index % 100) for frame in wrapped(0, 350, (None, None))]
    events, _ = read(a_start(), *frames)
    assert true_numbers(events) == list(range(350)) and kinds(events) == ["wrap"] * 3


@pytest.mark.parametrize("low", [0, 1])
@pytest.mark.parametrize("turn", [8, 10, 48, 100, 255])
def test_counters_of_any_length_lose_nothing(turn: int, low: int) -> None:
    """Both begin again at once, as at each line of a scan; the next line may come some frames later."""
    pause = 5 if turn == 48 else 300 if turn == 100 else 0
    frames = [a_frame(n % turn + low, n % turn + low, 1, n + n // turn * pause, n + low) for n in range(600)]
    events, _ = read(a_start(sequence=low, index=low), *frames)
    assert true_numbers(events) == list(range(low, 600 + low))
    assert set(kinds(events)) == {"wrap"} | ({"joined late"} if low else set())


@pytest.mark.parametrize(
    "numbers", [[n % 255 + 1 for n in range(700)], [7] * 300, [*range(100), *range(5, 300)]]
)
def test_a_sequence_of_any_kind_loses_nothing_if_the_index_goes_on(numbers: list[int]) -> None:
    frames = [a_frame(number, n, 1, n, n) for n, number in enumerate(numbers)]
    events, _ = read(a_start(), *frames)
    assert true_numbers(events) == list(range(len(numbers)))
    lossy, _ = read(a_start(), *frames[:250], *frames[260:])  # also over the end of a turn
    assert len(true_numbers(lossy)) >= len(frames) - 11


def test_an_index_that_is_the_column_of_a_line_goes_on_if_the_sequence_does() -> None:
    events, _ = read(a_start(), *(a_frame(n, n % 100, 1, n, n) for n in range(350)))
    assert true_numbers(events) == list(range(350)) and kinds(events) == ["wrap"] * 3


def test_a_start_that_begins_once_more_is_of_a_driver_that_was_restarted() -> None:
    frames = [a_frame(n % 50, n % 50, 1, n, n) for n in range(90)]
    again = replace(a_start(), time_ns=frames[49].time_ns + 1)
    events, reader = read(a_start(), *frames[:50], again, *frames[50:])
    assert len(true_numbers(events)) == 50 and dict(reader.ledger.lost) == {"rejected": 40}
    # One that is said again as it was, as once a second, tells nothing of the counters.
    events, reader = read(a_start(), *frames[:50], a_start(), *frames[50:])
    assert true_numbers(events) == list(range(90)) and not reader.ledger.lost


@pytest.mark.parametrize("late", [lambda n: 0, lambda n: n - 5000 * (n > 60), lambda n: n // 100 * 100])
def test_what_has_the_number_and_the_time_of_another_frame_is_no_copy_if_it_holds_something_else(
    late: Callable[[int], int],
) -> None:
    """One time stamp for all, a clock that is put back, stamps of 0.1 s; copies come, too."""
    frames = [a_frame(n % 64, n % 64, 1, 10_000 + late(n), n) for n in range(300)]
    way = [each for n, frame in enumerate(frames) for each in (frame, *frames[max(n - 20, 0) : n : 7])]
    events, reader = read(a_start(), *way)
    assert true_numbers(events) == list(range(300)) and set(kinds(events)) == {"wrap", "repeat"}
    assert reader.ledger.surplus == len(way) - 300 and not reader.ledger.lost
    # Of a counter of five numbers nothing can be told.
    odd = [a_frame(n % 5, n % 5, 1, 10_000 + late(n), n) for n in range(100)]
    ledger = read(a_start(), *odd)[1].ledger
    assert dict(ledger.lost) == {"rejected": 95} and not ledger.surplus


@pytest.mark.parametrize("coarse", [1, 4, 16])
def test_time_stamps_may_be_as_coarse_as_a_few_frames(coarse: int) -> None:
    frames = wrapped(0, 150, (6, 6))
    frames = [replace(frame, time_ns=frame.time_ns // (coarse * MS) * coarse * MS) for frame in frames]
    assert true_numbers(read(a_start(), *frames)[0]) == list(range(150))


def test_a_repeat_at_the_end_of_the_counter_is_one() -> None:
    frames = wrapped(0, 64, (6, 6))
    after = wrapped(0, 80, (6, 6))[64:]
    events, reader = read(a_start(), *frames, *frames[:40], *after, *frames[30:50])
    assert true_numbers(events) == list(range(80))
    assert kinds(events) == ["repeat"] * 40 + ["wrap"] + ["repeat"] * 20 and reader.ledger.surplus == 60


@pytest.mark.parametrize("count", [1, 5, 63, 100])
def test_a_driver_that_was_restarted_with_the_same_run_is_rejected_and_counted(count: int) -> None:
    back = min(count, 30)  # numbers that were there before; beyond them it goes on where it had been
    again = [replace(frame, time_ns=frame.time_ns + 3000 * MS) for frame in wrapped(0, back, (None, None))]
    end = End("raw", "run-1", TIME, back, back, Reason.COMPLETE, announced=back)
    events, _ = read(a_start(), *wrapped(0, count, (None, None)), *again, end)
    found = closed(events)
    assert found.ledger.spectra == count and dict(found.ledger.lost) == {"rejected": back}
    assert found.end.announced == count + back and found.ledger.ranges == [("rejected", count, back)]
    assert "number back" in kinds(events) and not found.ledger.surplus


def test_a_counter_that_does_not_count_is_rejected_and_counted() -> None:
    frames = [replace(frame, sequence=0) for frame in wrapped(0, 20, (None, None))]
    stuck = [replace(frame, sequence=0, index=0) for frame in frames]
    _, reader = read(a_start(), *stuck)
    assert dict(reader.ledger.lost) == {"rejected": 19} and not reader.ledger.surplus
    one = reader.interrupt(TIME)
    assert one is not None and one.end.announced == 20 and one.ledger.ranges == [("rejected", 1, 19)]


def test_an_index_that_counts_frames_loses_nothing_unsaid() -> None:
    frames = [a_frame(n, n, 4, n, 4 * n) for n in range(6)]
    end = End("raw", "run-1", TIME, 6, 24, Reason.COMPLETE, announced=24)
    events, _ = read(a_start(4), *frames, end)
    assert true_numbers(events) == [0] and dict(closed(events).ledger.lost) == {"rejected": 20}
    assert closed(events).ledger.ranges == [("rejected", 4, 20)]


def test_a_sequence_that_counts_double_loses_nothing_since_the_index_goes_on() -> None:
    events, reader = read(a_start(), *(a_frame(2 * n, n, 1, n, n) for n in range(20)))
    assert true_numbers(events) == list(range(20)) and not reader.ledger.lost
    assert "sequence jump" in kinds(events)


def test_a_sequence_damaged_downwards_costs_nothing_since_the_index_goes_on() -> None:
    frames = wrapped(0, 40, (None, None))
    frames[25] = replace(frames[25], sequence=3)
    assert true_numbers(read(a_start(), *frames)[0]) == list(range(40))


def test_an_index_damaged_downwards_costs_its_frame() -> None:
    frames = wrapped(0, 40, (None, None))
    frames[25] = replace(frames[25], index=3)
    end = End("raw", "run-1", TIME, 40, 40, Reason.COMPLETE, announced=40)
    events, _ = read(a_start(), *frames, end)
    found = closed(events)
    assert true_numbers(events) == [n for n in range(40) if n != 25]
    assert dict(found.ledger.lost) == {"rejected": 1} and found.ledger.ranges == [("rejected", 25, 1)]


def test_an_index_damaged_to_where_counters_begin_costs_nothing() -> None:
    frames = wrapped(0, 40, (None, None))
    frames[25] = replace(frames[25], index=0)
    events, reader = read(a_start(), *frames)
    assert true_numbers(events) == list(range(40)) and not reader.ledger.lost


@pytest.mark.parametrize(("bits", "due", "turns"), [(6, 180, 1), (6, 180, 2), (9, 1324, 1)])
def test_a_copy_from_turns_ago_does_not_take_the_place_of_the_frame_that_is_due(
    bits: int, due: int, turns: int
) -> None:
    frames = wrapped(0, due + 100, (bits, bits))
    events, reader = read(a_start(), *frames[:due], frames[due - turns * 2**bits], *frames[due:])
    assert true_numbers(events) == list(range(due + 100)) and reader.ledger.surplus == 1


def test_numbers_stay_within_the_protocol() -> None:
    counter, high = Counter(), MAX_COUNT // 2
    assert counter.of_few_bits(0, high - 1, high) is not None
    counter.base = MAX_COUNT - 2**20
    assert counter.of_few_bits(0, MAX_COUNT - 1, MAX_COUNT) is None
    assert counter.fallen(1, high) is not None and counter.fallen(1, MAX_COUNT) is None
    frames = [a_frame(high + n, high + n, 1, n, high + n) for n in range(3)]
    odd = [a_frame(n, n, 1, 10 + at) for at, n in enumerate((high - 1, 0, MAX_COUNT - 5000, 5))]
    events, _ = read(a_start(sequence=high, index=high), *frames, *odd)
    for event in events:
        if isinstance(event, Frame):
            encode(event)


@pytest.mark.parametrize("lost", [63, 64])
def test_one_frame_that_is_lost_where_a_counter_begins_again_costs_itself_alone(lost: int) -> None:
    frames = wrapped(0, 300, (6, 6))
    events, _ = read(a_start(), *frames[:lost], *frames[lost + 1 :])
    assert true_numbers(events) == [n for n in range(300) if n != lost]


@pytest.mark.parametrize(("late", "lost"), [(1, None), (30, None), (0, 254), (0, 255)])
def test_a_counter_from_1_goes_on_if_a_frame_is_late_or_lost_where_it_begins_again(
    late: int, lost: int | None
) -> None:
    frames = [a_frame(n % 255 + 1, n % 255 + 1, 1, n + n // 255 * late, n + 1) for n in range(600)]
    events, _ = read(a_start(sequence=1, index=1), *frames[: lost or 0], *frames[1 + lost if lost else 0 :])
    assert len(true_numbers(events)) == (599 if lost else 600)


@pytest.mark.parametrize("overtaken", [7, 15, 31, 63])
def test_a_first_frame_that_is_overtaken_begins_no_counter_anew(overtaken: int) -> None:
    frames = wrapped(0, 200, (None, None))
    events, reader = read(a_start(), *frames[1 : overtaken + 1], frames[0], *frames[overtaken + 1 :])
    assert true_numbers(events) == list(range(1, 200)) and dict(reader.ledger.lost) == {"missing": 1}


@pytest.mark.parametrize("plan", [None, 300])
@pytest.mark.parametrize("late", [1, 2, 5])
def test_frames_of_the_beginning_that_are_sent_again_with_newer_times_begin_no_counter_anew(
    late: int, plan: int | None
) -> None:
    """As by a driver that reconnects: all that followed had places beyond the run, said to be sure."""
    start, frames = a_start(spectra=plan), wrapped(0, 300, (None, None))
    again = [
        replace(frame, time_ns=frames[99].time_ns + 1000 * (at + 1)) for at, frame in enumerate(frames[:late])
    ]
    events, reader = read(start, *frames[late:100], *again, *frames[100:])
    assert true_numbers(events) == list(range(late, 300))
    assert dict(reader.ledger.lost) == {"missing": late, "rejected": late}
    # As slowly as others: nobody can tell, which is said, and taken back when the run goes on.
    slow = [replace(frame, time_ns=frames[100 + at].time_ns) for at, frame in enumerate(frames[:late])]
    later = [replace(frame, time_ns=frame.time_ns + late * MS) for frame in frames[100:]]
    events, _ = read(start, *frames[late:100], *slow, *later)
    passed = [event for event in events if isinstance(event, Frame)]
    assert [frame.index for frame in passed] == [*range(late, 100 + late), *range(100, 300)]
    assert not misplaced_unsaid(events) and kinds(events) == ["sequence jump", "wrap", "index back"]
    assert true_numbers(passed[-200:]) == list(range(100, 300))


@pytest.mark.parametrize(("bits", "planned"), [((8, None), 200), ((None, 8), 200), ((8, 8), 200)])
def test_a_scan_that_is_repeated_beyond_its_plan_may_have_counters_that_begin_again(
    bits: tuple[int | None, int | None], planned: int
) -> None:
    events, reader = read(a_start(spectra=planned), *wrapped(0, 500, bits))
    assert true_numbers(events) == list(range(500)) and not reader.ledger.lost


def test_after_frames_that_were_refused_none_takes_their_place() -> None:
    """Of lines of 100 the end and the beginning are lost: 49 and later numbers are those of the next line."""
    frames = [a_frame(n % 100, n % 100, 1, n, n) for n in range(400)]
    events, reader = read(a_start(), *frames[:50], *frames[120:])
    assert true_numbers(events) == [*range(50), *range(200, 400)]
    assert dict(reader.ledger.lost) == {"rejected": 80, "missing": 70}


@pytest.mark.parametrize("pause", [0, 5, 4000])
@pytest.mark.parametrize("lost", [(), (99,), (96, 97, 98, 99), (100,)])
def test_the_columns_of_a_scan_say_where_a_line_ends(lost: tuple[int, ...], pause: int) -> None:
    """Also with pauses after which a program may have begun anew, and with frames lost at a line's end."""
    frames = [a_frame(n % 100, n % 100, 1, n + n // 100 * pause, n) for n in range(400) if n not in lost]
    events, reader = read(a_start(scan=(4, 100)), *frames)
    if pause == 4000 and 100 in lost:  # a line that begins with frame 1 may be of a program that began anew
        assert dict(reader.ledger.lost) == {"rejected": 299}
    else:
        assert len(true_numbers(events)) == 400 - len(lost)


def test_a_frame_that_is_lost_at_the_end_of_the_first_line_is_said_to_be_a_guess() -> None:
    frames = [a_frame(n % 100, n % 100, 1, n, n) for n in range(400) if n != 99]
    events, reader = read(a_start(), *frames)
    places = [event.index for event in events if isinstance(event, Frame)]
    assert len(places) == 399 and places[98:101] == [98, 99, 100] and not misplaced_unsaid(events)
    assert not reader.ledger.lost


def test_an_index_from_1_goes_on_after_a_number_of_spectra_that_is_a_power_of_two() -> None:
    frames = [a_frame(n, 5 * n % 64 + 1, 5, n, 5 * n + 1) for n in range(200)]
    events, _ = read(a_start(5, index=1), *frames)
    assert len(true_numbers(events)) == 200


def test_a_gap_that_may_be_longer_by_a_turn_of_the_index_is_as_long_as_frames_of_their_mean_are() -> None:
    """Of up to 16 spectra in each of 12 frames 5 are missing, or 69: six bits do not say."""
    sizes = [5, 5, 5, 1, 14, 1, 5, *[6] * 11, 3, 9, 15, 6, 13]
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    frames = [a_frame(n, starts[n] % 64, sizes[n], n, starts[n]) for n in range(len(sizes))]
    events, _ = read(a_start(16), *frames[:7], *frames[19:])
    assert len(true_numbers(events)) == 11
    assert any("guess" in event.text for event in events if isinstance(event, Problem))


@st.composite
def losses(draw: st.DrawFn) -> tuple[list[Frame], list[Message], int]:
    """Frames of a publisher whose counters wrap, and what of them comes: some dropped, repeated, swapped."""
    width = draw(st.sampled_from([5, 6, 8, 16, 32]))
    bits = draw(st.sampled_from([(width, width), (width, None), (None, width), (width, width + 1)]))
    block = draw(st.sampled_from([1, 1, 4]))
    first = max(2**width - draw(st.integers(8, 30)), 0)
    # Fewer than a whole turn: if all of one is lost or refused, nobody can tell it from a pause.
    frames = wrapped(first, draw(st.integers(20, min(60, 2**width - 1))), bits, block)
    way: list[Message] = list(frames[:4])  # so that its pace is known
    number = 4
    while number < len(frames):
        match draw(st.integers(0, 19)):
            case 0:
                number += draw(st.integers(1, 6))  # lost
                continue
            case 1:
                way += [frames[number], frames[number - draw(st.integers(0, 3))]]
            case 2 if number + 1 < len(frames):
                way += [frames[number + 1], frames[number]]
                number += 1
            case _:
                way.append(frames[number])
        number += 1
    return frames, way, first


@settings(max_examples=400, deadline=None)
@given(losses())
def test_whatever_is_lost_around_a_wrap_what_is_passed_on_has_its_true_number(
    run: tuple[list[Frame], list[Message], int],
) -> None:
    frames, way, first = run
    spectra = sum(len(frame.block) for frame in frames)
    end = End(
        "raw", "run-1", TIME, first + len(frames), first + spectra, Reason.COMPLETE, announced=first + spectra
    )
    block = max(len(frame.block) for frame in frames)
    events, _ = read(a_start(4 if block > 1 else 1, sequence=first, index=first), *way, end)
    found, passed = closed(events), [event for event in events if isinstance(event, Frame)]
    assert not misplaced_unsaid(events)
    came = {id(frame) for frame in way}
    # A gap across the wrap costs a frame that the next one has to bear out, swaps cost what comes late.
    cost = sum(kinds(events).count(kind) for kind in ("number back", "index back", "implausible", "repeat"))
    assert len(passed) >= len(came) - cost
    assert found.end.announced == found.ledger.spectra + found.ledger.total_lost
    if not any(isinstance(event, Problem) and "guess" in event.text for event in events):
        assert true_numbers(events) == sorted({event.index for event in passed})
        assert found.end.announced == first + spectra and "wrong totals" not in kinds(events)


@pytest.mark.parametrize(
    ("bits", "first", "block", "places"),
    [
        ((5, 5), 17, 4, [0, 1, 2, 3, 10, 9, 18, 17, 20, 19, 22, 21, 24, 23, 26, 25, 27]),
        ((5, 5), 24, 4, [0, 1, 2, 3, 5, 4, 6, 7, 7, 9, 8, 21, 22]),
        ((5, 5), 13, 4, [0, 1, 2, 3, 8, 7, 10, 9, 16, 15, 17, 19, 18]),
        ((None, 5), 28, 8, [0, 1, 2, 3, *range(18, 40)]),
    ],
)
def test_what_few_bits_do_not_say_is_said_to_be_a_guess(
    bits: tuple[int | None, int | None], first: int, block: int, places: list[int]
) -> None:
    """Gaps that may hold a whole turn of the index, or not."""
    frames = wrapped(first, 40, bits, block)
    events, _ = read(a_start(block, sequence=first, index=first), *(frames[each] for each in places))
    assert not misplaced_unsaid(events)
    assert len([event for event in events if isinstance(event, Frame)]) > len(places) // 2


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60), st.integers(1, 4)), max_size=30))
def test_what_is_later_than_all_before_is_never_taken_for_a_repeat(
    numbers: list[tuple[int, int, int]],
) -> None:
    frames = [a_frame(s, i, spectra, late) for late, (s, i, spectra) in enumerate(numbers)]
    _, reader = read(a_start(4), *frames)
    assert not reader.ledger.surplus
    one = reader.interrupt(TIME)
    assert one is not None and one.end.announced == one.ledger.spectra + one.ledger.total_lost
    encode(one.end)
    assert one.end.announced >= sum(len(frame.block) for frame in frames)
