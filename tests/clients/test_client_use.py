"""The client used as it should not be: by two at once, after close, over a fork, interrupted, thrown away."""

import asyncio
import itertools
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import PATIENCE_S, Published, a_frame, a_start, an_end, spectra_of, wait_until

import cars_rt
from cars_rt import ClientError
from cars_rt.protocol import Reason
from cars_rt.sockets.turn import Turn

ONE = spectra_of(1)


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """A thread that works, and what came of it: a result or an error."""
    result: list[object] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result


def test_second_thread_is_refused_and_the_first_one_gets_everything() -> None:
    with Published() as source, cars_rt.connect(source.address, "raw", timeout=PATIENCE_S) as stream:
        source.wait()
        source.say(a_start(), a_frame(0, ONE))
        got: list[int] = []

        def read() -> None:
            for run in stream:
                got.extend(frame.index for frame in run)
                break

        first, _ = in_thread(read)
        wait_until(lambda: got == [0])
        for loop in (lambda: next(iter(stream)), lambda: list(stream._open or ())):
            second, result = in_thread(loop)
            second.join(PATIENCE_S)
            (error,) = result
            assert isinstance(error, ClientError) and "give each a client of its own" in str(error)
        source.say(*(a_frame(number, ONE) for number in range(1, 50)), an_end(50))
        first.join(PATIENCE_S)
    assert got == list(range(50))


def test_a_run_may_be_handed_to_another_thread_and_the_client_to_the_next() -> None:
    with Published() as source, cars_rt.connect(source.address, "raw", timeout=PATIENCE_S) as stream:
        source.wait()
        source.run("first", spectra_of(5))
        source.run("second", spectra_of(7))
        lengths = []
        for run in itertools.islice(stream, 2):
            thread, result = in_thread(lambda run=run: len(list(run)))  # type: ignore[misc]
            thread.join(PATIENCE_S)
            lengths += result
    assert lengths == [5, 7]


def test_closed_by_another_thread_the_loop_ends_and_its_run_is_interrupted() -> None:
    with Published() as source:
        stream = cars_rt.connect(source.address, "raw")
        source.wait()
        source.say(a_start(), a_frame(0, ONE))
        runs: list[cars_rt.Run] = []
        got: list[int] = []

        def read() -> str:
            for run in stream:
                runs.append(run)
                for frame in run:
                    got.append(frame.index)
            return "left the loop"

        thread, result = in_thread(read)
        wait_until(lambda: got)
        stream.close()
        thread.join(PATIENCE_S)
        assert result == ["left the loop"] and stream._source.subscriber.socket.closed
    (run,) = runs
    assert run.end is not None and run.end.reason == Reason.INTERRUPTED and not run.complete


def test_closed_within_the_loop_what_was_not_asked_for_is_missing() -> None:
    with Published() as source, cars_rt.connect(source.address, "raw", timeout=PATIENCE_S) as stream:
        source.wait()
        source.run("run-1", spectra_of(10))
        wait_until(lambda: stream._source.fill(stream._events, 0.1) or len(stream._events) > 10)
        run = next(iter(stream))
        for frame in run:
            if frame.index == 3:
                stream.close()
    assert run.ledger.spectra == 4 and run.ledger.lost == {"missing": 6} and not run.complete
    stream.close()  # once more does no harm
    with pytest.raises(ClientError, match="is closed: connect again"):
        next(iter(stream))


def test_closed_between_gaps_each_range_that_is_missing_is_named() -> None:
    two = spectra_of(2)
    with Published() as source, cars_rt.connect(source.address, "raw", timeout=PATIENCE_S) as stream:
        source.wait()
        source.say(a_start(block=2), a_frame(0, two), a_frame(1, two, index=2))
        source.say(a_frame(5, two, index=10), a_frame(7, two, index=14))
        wait_until(lambda: stream._source.fill(stream._events, 0.1) or len(stream._events) > 4)
        run = next(iter(stream))
        for _ in run:
            stream.close()
    assert run.ledger.spectra == 2 and run.ledger.lost == {"missing": 14}
    ranges = sorted((each.first, each.spectra) for each in run.ledger.ranges)
    assert ranges == [(2, 2), (4, 6), (10, 2), (12, 2), (14, 2)]
    assert run.end is not None and run.end.reason == Reason.INTERRUPTED


def test_two_loops_side_by_side_are_refused() -> None:
    with Published() as source, cars_rt.connect(source.address, "raw", timeout=PATIENCE_S) as stream:
        source.wait()
        source.run("first", spectra_of(4))
        source.run("second", spectra_of(4))
        run = next(iter(stream))
        with pytest.raises(ClientError, match="takes its place"):
            list(zip(run, run, strict=True))
        assert [frame.index for frame in run] == [2, 3]  # the pair was given 0 and 1
        again = next(iter(stream))
        assert len(list(again)) == 4 and list(again) == []


def test_runs_that_are_collected_first_and_read_later_are_refused() -> None:
    with Published() as source, cars_rt.connect(source.address, "raw", timeout=PATIENCE_S) as stream:
        source.wait()
        source.run("first", spectra_of(4))
        source.run("second", spectra_of(5))
        first, second = itertools.islice(stream, 2)
        with pytest.raises(ClientError, match=r"4 spectra of run first went by .* read each run before"):
            list(first)
        assert len(list(second)) == 5 and first.complete


def test_run_whose_publisher_vanished_is_not_complete() -> None:
    with Published() as source, cars_rt.connect(source.address, "raw", timeout=PATIENCE_S) as stream:
        source.wait()
        source.say(a_start("cut"), a_frame(0, ONE, "cut"), a_start("next"))
        cut = next(iter(stream))
        assert len(list(cut)) == 1 and not cut.complete


def test_client_is_not_sent_to_another_process() -> None:
    with Published() as source, cars_rt.connect(source.address, "raw") as stream:
        with pytest.raises(ClientError, match="cannot be copied or sent to another process: connect there"):
            pickle.dumps(stream)
        process = multiprocessing.get_context("spawn").Process(target=print, args=(stream,))
        with pytest.raises(ClientError, match="connect there"):
            process.start()


def test_second_task_is_refused_and_the_first_one_gets_everything() -> None:
    async def read(source: Published) -> tuple[list[int], BaseException | None]:
        async with cars_rt.connect_async(source.address, "raw", timeout=PATIENCE_S) as stream:

            async def all_of() -> list[int]:
                async for run in stream:
                    return [frame.index async for frame in run]
                return []

            first = asyncio.ensure_future(all_of())
            while not stream.connected:
                await asyncio.sleep(0.01)
            second = asyncio.ensure_future(all_of())
            await asyncio.wait([second])
            await asyncio.to_thread(source.run, "run-1", spectra_of(30))
            return await first, second.exception()

    with Published() as source:
        got, error = asyncio.run(read(source))
    assert got == list(range(30)) and isinstance(error, ClientError)


def test_asyncio_closed_by_another_task_and_read_by_a_second_event_loop() -> None:
    async def first(stream: cars_rt.AsyncClient) -> int:
        run = await anext(aiter(stream))
        return (await anext(aiter(run))).index

    async def rest(stream: cars_rt.AsyncClient, source: Published) -> tuple[list[int], bool]:
        got: list[int] = []

        async def read() -> None:
            async for run in stream:
                got.extend([frame.index async for frame in run])

        reading = asyncio.ensure_future(read())
        await asyncio.to_thread(source.say, a_frame(1, ONE, "next"))
        while stream._open is None:
            await asyncio.sleep(0.01)
        stream.close()
        await asyncio.wait_for(reading, PATIENCE_S)
        return got, stream._source.subscriber.socket.closed

    with Published() as source:
        stream = cars_rt.connect_async(source.address, "raw", timeout=PATIENCE_S)
        source.wait()
        source.say(a_start(), a_frame(0, ONE), an_end(1), a_start("next"), a_frame(0, ONE, "next"))
        assert asyncio.run(first(stream)) == 0
        _, closed = asyncio.run(rest(stream, source))
    assert closed


BEGIN = """
import gc, os, signal, sys, threading, time
import zmq, cars_rt
address = sys.argv[1]
stream = cars_rt.connect(address, "raw", timeout=60)
run = next(iter(stream))
frames = iter(run)
print(next(frames).index)
"""
PROGRAMS = {
    "fork": """
if (child := os.fork()) == 0:
    for use in (lambda: next(frames), lambda: next(iter(stream)), lambda: stream._source.fill([], 1)):
        try:
            use()
        except cars_rt.ClientError as error:
            print("of which this one is a fork" in str(error), flush=True)
    stream.close()
    with cars_rt.connect(address, "raw", timeout=60) as own:
        print(next(iter(own)).run, flush=True)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print(next(frames).index)
stream.close()
""",
    "thrown away": """
for _ in range(20):
    del stream, run, frames
    gc.collect()
    stream = cars_rt.connect(address, "raw", timeout=60)
    run = next(iter(stream))
    frames = iter(run)
print(next(frames).index > 0)
""",
    "read by a daemon thread at exit": """
threading.Thread(target=lambda: list(frames), daemon=True).start()
time.sleep(0.05)
print("leaves")
""",
    "context ended": """
threading.Timer(0.1, zmq.Context.instance().term).start()
try:
    while True:
        next(frames)
except cars_rt.ClientError as error:
    print("this program ended ZeroMQ's context" in str(error))
""",
    "closed by a signal handler": """
signal.signal(signal.SIGTERM, lambda *_: stream.close())
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
for frame in frames:
    pass
print(run.end.reason, stream._source.subscriber.socket.closed)
""",
    "interrupted": """
def interrupt():
    for _ in range(200):
        time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGINT)
    done.append(True)
done, seen, interrupts = [], [0], 0
thread = threading.Thread(target=interrupt)
begun = False
while not (done and len(seen) > 300):
    try:
        if not begun:
            begun = True
            thread.start()
        for frame in run:
            seen.append(frame.index)
            if done and len(seen) > 300:
                break
    except KeyboardInterrupt:
        interrupts += 1
lost = seen[-1] + 1 - len(seen)
print(interrupts > 50, 0 <= lost <= interrupts, sorted(set(seen)) == seen, dict(run.ledger.problems))
""",
}
SAID = {
    "fork": ["0", "True", "True", "True", "run-1", "1"],
    "thrown away": ["0", "True"],
    "read by a daemon thread at exit": ["0", "leaves"],
    "context ended": ["0", "True"],
    "closed by a signal handler": ["0", "interrupted True"],
    "interrupted": ["0", "True True True {}"],
}
#: pyzmq looks for signals where it lets go of a message, too, and nothing can be raised from there: of
#: thousands of interrupts one ends so, and must be given again.
SWALLOWED = re.compile(
    r"Traceback[^\n]*\n  File [^\n]*_zmq\._check_rc\nKeyboardInterrupt\n"
    r"Exception ignored in: 'zmq[\w.]*\.Frame\.__dealloc__'\n"
    r"Traceback[^\n]*\n  File [^\n]*_zmq\._check_rc\nKeyboardInterrupt: \n"
)


@pytest.mark.skipif(os.name != "posix", reason="forks and signals to oneself")
@pytest.mark.parametrize("how", PROGRAMS)
def test_whole_programs_end_in_order_whatever_they_do(how: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(BEGIN + PROGRAMS[how], encoding="utf-8")
    with (
        Published() as source,
        subprocess.Popen(
            [sys.executable, script, source.address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program,
    ):
        source.wait()
        source.publisher.open(a_start())
        for number in itertools.count():  # until it has had enough
            source.publisher.send(a_frame(number, ONE), PATIENCE_S)
            try:
                program.wait(0.0005)
                break
            except subprocess.TimeoutExpired:
                assert number < 60_000, "the program does not end"
        out, err = program.communicate()
    if how == "interrupted":
        err = SWALLOWED.sub("", err)
    assert program.returncode == 0 and "Traceback" not in err and "Assertion" not in err, err
    assert out.split("\n")[:-1] == SAID[how]


def test_turn_is_disposed_of_once_by_whoever_has_it_last() -> None:
    disposed: list[int] = []
    turn = Turn(lambda: disposed.append(1))
    assert turn.take("a") and turn.take("a") and not turn.take("b")
    turn.close()
    assert not disposed and turn.closed
    turn.give()
    turn.close()
    assert disposed == [1]
