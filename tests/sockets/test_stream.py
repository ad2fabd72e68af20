"""Sockets under the protocol: real ones, on this computer."""

from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from helpers import LOCAL, PATIENCE_S, Collected, Published, a_frame, a_start, an_end, spectra_of, wait_until

from cars_rt.protocol import Start
from cars_rt.sockets import Publisher, StreamError, Subscriber, monitor
from cars_rt.sockets.free import free_addresses


def test_late_subscriber_gets_start_with_the_place_in_the_run() -> None:
    with Published() as source, Collected(source.address, "raw") as early:
        source.wait()
        source.publisher.open(a_start(block=2))
        for sequence in range(3):
            source.publisher.send(a_frame(sequence, spectra_of(2)))
        with Collected(source.address, "raw") as late:
            source.wait(2)
            source.publisher.send(a_frame(3, spectra_of(2)))
            source.publisher.end(an_end(4, 8))
            late.ends()
            early.ends()
    assert (late.starts[0].sequence, late.starts[0].index) == (3, 6)
    assert late.closed[0].ledger.lost == {"missing": 6}
    assert [frame.sequence for frame in late.frames] == [3]
    assert len(early.starts) == 1 and early.spectra == 8


def test_nobody_gets_a_frame_before_the_start() -> None:
    """Subscribers come while frames leave as fast as they can."""
    with Published() as source:
        source.publisher.open(a_start())
        row, sequence = spectra_of(1), 0
        for _ in range(20):
            with Collected(source.address, "raw") as late:
                while len(late.frames) < 3:
                    for _ in range(20):
                        assert source.publisher.send(a_frame(sequence, row), PATIENCE_S)
                        sequence += 1
                    while parts := late.subscriber.receive():
                        late.events += late.reader.read(parts)
            assert isinstance(late.events[0], Start)
            assert {problem.kind for problem in late.problems} <= {"joined late"}
        wait_until(lambda: source.publisher.serve() or not source.publisher.subscribers)


def test_no_start_is_said_again_after_the_end() -> None:
    with Published() as source:
        source.run("run-1", spectra_of(2))
        with Collected(source.address, "raw") as late:
            source.wait()
            source.run("run-2", spectra_of(1))
            late.ends()
    assert [start.run for start in late.starts] == ["run-2"]


def test_end_is_said_again_to_who_lost_the_connection_before_it_and_tells_others_nothing() -> None:
    """Its run stayed open until the next one began, and what had not come counted as nothing."""
    with Published() as source, Collected(source.address, "raw") as reading:
        source.wait()
        source.publisher.open(a_start())
        assert source.publisher.send(a_frame(0, spectra_of(1)))
        reading.until(lambda all_: all_.frames)
        reading.subscriber.socket.disconnect(source.address)

        def gone() -> bool:
            reading.subscriber.poll(0)  # which also closes the connection
            source.publisher.serve()
            return not source.publisher.subscribers

        wait_until(gone)
        assert source.publisher.send(a_frame(1, spectra_of(1)))
        source.publisher.end(an_end(2, 2))
        reading.subscriber.connect()
        with Collected(source.address, "raw") as late:
            source.wait(2)
            reading.ends()
            source.run("run-2", spectra_of(3))
            late.ends()
        reading.ends(2)
    ends = [(closed.end.run, closed.end.reason, dict(closed.ledger.lost)) for closed in reading.closed]
    assert ends == [("run-1", "complete", {"missing": 1}), ("run-2", "complete", {})]
    assert [problem.kind for problem in reading.problems] == ["tail missing"] and not late.problems


def test_publisher_and_subscriber_say_what_is_wrong_with_an_address() -> None:
    with pytest.raises(StreamError, match="no such address"):
        Publisher("tcp://192.0.2.1:5555", "raw", security="open")
    with Published() as source, pytest.raises(StreamError, match="another program already uses it"):
        Publisher(source.address, "raw")
    with pytest.raises(StreamError, match=r"cannot connect to tcp://no-such-host\.invalid:5555: .+"):
        Subscriber("tcp://no-such-host.invalid:5555", "raw")


def test_nothing_is_lost_while_a_subscriber_does_not_read() -> None:
    """The publisher refuses what has no room, and everything it took arrives."""
    counts = spectra_of(1, np.linspace(500, 3000, 4096))
    with Published(buffer_mb=1) as source, Collected(source.address, "raw") as slow:
        source.wait()
        source.publisher.open(a_start(axis=np.linspace(500, 3000, 4096)))
        sent = 0
        while source.publisher.send(a_frame(sent, counts), 0.2):
            sent += 1
        for sequence in range(sent, sent + 200):
            while not source.publisher.send(a_frame(sequence, counts)):
                slow.more()
        sent += 200
        source.publisher.end(an_end(sent))
        while not source.publisher.flush():
            slow.more()
        slow.ends()
    assert [frame.sequence for frame in slow.frames] == list(range(sent))
    assert not slow.closed[0].ledger.lost


def test_start_that_found_no_room_is_sent_before_any_frame() -> None:
    counts = spectra_of(1, np.linspace(500, 3000, 4096))
    start = a_start(axis=np.linspace(500, 3000, 4096))
    with Published(buffer_mb=1) as source, Collected(source.address, "raw") as slow:
        source.wait()
        source.publisher.open(start)
        sent = 0
        while source.publisher.send(a_frame(sent, counts), 0.2):
            sent += 1
        source.publisher.open(a_start("run-2", axis=start.raman_shift))
        assert source.publisher.blocked
        for sequence in range(3):
            while not source.publisher.send(a_frame(sequence, counts, "run-2")):
                slow.more()
        while not source.publisher.flush():
            slow.more()
        slow.until(lambda all_: len(all_.frames) == sent + 3)
    assert [problem.kind for problem in slow.problems] == ["second start"]


def test_closing_waits_until_everything_is_taken() -> None:
    counts = spectra_of(1, np.linspace(500, 3000, 4096))
    source = Published()
    with Collected(source.address, "raw") as slow:
        source.wait()
        source.publisher.open(a_start(axis=np.linspace(500, 3000, 4096)))
        for sequence in range(2000):  # more than the buffers of the system hold
            assert source.publisher.send(a_frame(sequence, counts))
        source.publisher.end(an_end(2000))
        slow.until(lambda all_: all_.frames)
        closing = Thread(target=source.publisher.close)
        closing.start()
        slow.ends()
        closing.join(PATIENCE_S)
        assert not closing.is_alive()
    assert slow.spectra == 2000


def test_closing_gives_up_when_told_to() -> None:
    counts = spectra_of(1, np.linspace(500, 3000, 4096))
    source = Published()
    with Subscriber(source.address, "raw"):
        source.wait()
        source.publisher.open(a_start(axis=np.linspace(500, 3000, 4096)))
        for sequence in range(2000):
            source.publisher.send(a_frame(sequence, counts))
        assert not source.publisher.close(0.05)


def test_closing_at_once_loses_nothing_where_all_was_taken_or_nobody_was_there() -> None:
    """At a second Ctrl-C the daemon said that its subscribers had lost the last results."""
    with Publisher(LOCAL, "raw") as alone:
        alone.open(a_start())
        assert alone.send(a_frame(0, spectra_of(1)))
        assert alone.close(0)
    source = Published()
    with Collected(source.address, "raw") as reading:
        source.wait()
        source.say(a_start())
        source.say(a_frame(0, spectra_of(1)))
        source.say(an_end(1))
        reading.ends()
        wait_until(lambda: source.publisher.outlet.taken)
        assert source.publisher.close(0)


def test_subscriber_knows_whether_anybody_is_there_and_comes_back() -> None:
    (address,) = free_addresses(1)
    with Subscriber(address, "raw") as subscriber:
        assert not subscriber.watch()
        for _ in range(2):
            with Publisher(address, "raw") as publisher:
                publisher.open(a_start())

                def came(publisher: Publisher = publisher) -> bool:
                    publisher.serve()  # who comes is told the start
                    return subscriber.receive() is not None

                wait_until(came)
                wait_until(subscriber.watch)  # its monitor may tell of the connection after what came over it
            wait_until(lambda: not subscriber.watch())


def test_who_sends_is_there_though_the_monitor_lags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread has no turn before the run is over: then it tells what was before, the attempt first."""
    turn, read = Event(), monitor.recv_monitor_message

    def late(pair: Any) -> Any:
        assert turn.wait(PATIENCE_S)
        return read(pair)

    monkeypatch.setattr(monitor, "recv_monitor_message", late)
    with Published() as source, Collected(source.address, "raw") as got:
        try:
            source.wait()
            source.run("run-1", spectra_of(2))
            got.ends()
            assert got.subscriber.connected and got.subscriber.watch()
        finally:
            turn.set()
        wait_until(lambda: got.subscriber.watch() and got.subscriber._met)
        source.publisher.close(0)
        wait_until(lambda: not got.subscriber.watch())


def test_publisher_counts_who_came_and_went() -> None:
    with Publisher(LOCAL, "raw") as publisher:
        assert not publisher.wait_for_subscribers(1, 0)
        with Subscriber(publisher.address, "raw"), Subscriber(publisher.address, "raw"):
            assert publisher.wait_for_subscribers(2, PATIENCE_S)

        def gone() -> bool:
            publisher.serve()
            return publisher.subscribers == 0

        wait_until(gone)


def test_subscriber_of_one_stream_does_not_get_the_other_but_is_told_once_and_does_not_count() -> None:
    with Published() as source, Collected(source.address, "raman") as wrong, Collected(source.address, "raw"):
        source.wait()
        source.run("run-1", spectra_of(3))
        wait_until(lambda: source.publisher.serve() or wrong.subscriber.socket.poll(1))
        wrong.more()
        assert [problem.kind for problem in wrong.problems] == ["stream"]
        assert "the raw stream is published there" in wrong.problems[0].text
        assert wrong.subscriber.receive(0.1) is None and source.publisher.subscribers == 1


def test_frame_waits_behind_a_run_that_ended_at_the_last_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets its own number when it leaves."""
    last = 2**53
    with Published() as source, Collected(source.address, "raw") as stream:
        source.wait()
        publisher = source.publisher
        publisher.open(a_start("run-1", sequence=last, index=last))
        publisher.end(an_end(last, last, "run-1"))
        stream.ends()
        with monkeypatch.context() as full:
            full.setattr(source.publisher.outlet, "put", lambda *_, **__: False)  # no subscriber has room
            publisher.open(a_start("run-2"))
            assert publisher.sequence == last
            assert publisher.send(a_frame(publisher.sequence, spectra_of(1), "run-2", index=0))
        publisher.end(an_end(1, 1, "run-2"))
        stream.ends(2)
    (frame,) = stream.frames
    assert (frame.run, frame.sequence) == ("run-2", 0)
