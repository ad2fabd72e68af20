"""The client: runs and frames as Python objects, plain and with asyncio."""

import asyncio
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import zmq
from helpers import AXIS, LOCAL, PATIENCE_S, Published, a_frame, a_start, an_end, spectra_of, wait_until

import cars_rt
from cars_rt import source as sources
from cars_rt.protocol import STREAMS, Closed, Frame, Reason, encode
from cars_rt.sockets import Publisher, StreamError, Subscriber, subscriber
from cars_rt.sockets.free import free_addresses

COUNTS = {"first": spectra_of(20), "second": spectra_of(7, AXIS[:50])}


@contextmanager
def two_runs() -> Iterator[str]:
    """The address of a source that makes two runs as soon as somebody is there."""
    with Published() as source:

        def publish() -> None:
            source.wait()
            source.run("first", COUNTS["first"], 3, exposure_s=0.5)
            source.run("second", COUNTS["second"], axis=AXIS[:50])

        thread = threading.Thread(target=publish)
        thread.start()
        yield source.address
        thread.join(PATIENCE_S)


def test_iterating_gives_runs_and_frames_with_the_axis() -> None:
    got: dict[str, list[np.ndarray]] = {}  # type: ignore[type-arg]
    with two_runs() as address, cars_rt.connect(address, "raw", timeout=PATIENCE_S) as stream:
        for run in stream:
            assert run.end is None and not run.complete
            got[run.run] = [frame.counts for frame in run]
            assert np.array_equal(run.raman_shift, AXIS[: COUNTS[run.run].shape[1]])
            assert run.complete and run.end is not None and run.end.reason == Reason.COMPLETE
            assert run.ledger.spectra == len(COUNTS[run.run]) and run.source == "a test"
            if run.run == "first":
                assert run.exposure_s == 0.5 and stream.connected
            else:
                break
    for name, counts in COUNTS.items():
        assert np.array_equal(np.concatenate(got[name]), counts)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = run.nonsense


def test_iterating_with_asyncio() -> None:
    async def read(address: str) -> dict[str, list[np.ndarray]]:  # type: ignore[type-arg]
        got = {}
        async with cars_rt.connect_async(address, "raw", timeout=PATIENCE_S) as stream:
            async for run in stream:
                got[run.run] = [frame.counts async for frame in run]
                assert run.complete and len(run.raman_shift) == COUNTS[run.run].shape[1]
                if len(got) == 2:
                    break
        return got

    with two_runs() as address:
        got = asyncio.run(read(address))
    for name, counts in COUNTS.items():
        assert np.array_equal(np.concatenate(got[name]), counts)


def test_asyncio_wait_that_is_cancelled_loses_nothing() -> None:
    """Leaving a wait and coming back is usual with timeouts; frames read meanwhile are kept."""

    async def read(source: Published) -> list[int]:
        loop, indices = asyncio.get_running_loop(), []
        async with cars_rt.connect_async(source.address, "raw") as stream:
            publishing = loop.run_in_executor(None, source.wait)
            runs = stream.__aiter__()
            first = asyncio.ensure_future(anext(runs))
            await publishing
            source.say(a_start())
            run = await first
            sent = 0
            while len(indices) < 50:
                if sent < 50:
                    source.say(a_frame(sent, spectra_of(1)))
                    sent += 1
                try:
                    async with asyncio.timeout(0.01):
                        async for frame in run:
                            indices.append(frame.index)
                except TimeoutError:
                    pass
        return indices

    with Published() as source:
        assert asyncio.run(asyncio.wait_for(read(source), PATIENCE_S)) == list(range(50))


def test_leaving_a_run_half_way_goes_on_with_the_next() -> None:
    with two_runs() as address, cars_rt.connect(address, "raw", timeout=PATIENCE_S) as stream:
        names = []
        for run in stream:
            names.append(run.run)
            next(iter(run))
            if len(names) == 2:
                break
    assert names == ["first", "second"]


def test_run_whose_source_vanished_ends_as_interrupted() -> None:
    with Published() as source, cars_rt.connect(source.address, "raw", timeout=PATIENCE_S) as stream:
        source.wait()
        source.say(a_start("cut"), a_frame(0, spectra_of(1), "cut"))
        source.run("next", spectra_of(2))
        runs = iter(stream)
        cut = next(runs)
        assert len(list(cut)) == 1
        assert cut.end is not None and cut.end.reason == Reason.INTERRUPTED
        following = next(runs)
        assert len(list(following)) == 2 and following.complete


def test_losses_are_in_the_ledger_of_the_run(caplog: pytest.LogCaptureFixture) -> None:
    with Published() as source, cars_rt.connect(source.address, "raw", timeout=PATIENCE_S) as stream:
        source.wait()
        source.say(a_start(), a_frame(0, spectra_of(1)), a_frame(4, spectra_of(1)), an_end(5))
        run = next(iter(stream))
        assert [frame.index for frame in run] == [0, 4]
        assert run.ledger.lost == {"missing": 3} and not run.complete
    assert "missing: the sequence jumps from 1 to 4: 3 spectra missing" in caplog.text


def test_timeout_says_that_nobody_publishes() -> None:
    (address,) = free_addresses(1)
    with (
        cars_rt.connect(address, timeout=0.3) as stream,
        pytest.raises(cars_rt.NoDataError, match=f"nothing came within 0.3 s: nobody publishes at {address}"),
    ):
        next(iter(stream))
    assert not stream.connected


def test_timeout_says_that_no_data_came() -> None:
    with (
        Published() as source,
        cars_rt.connect(source.address, "raw", timeout=0.3) as stream,
    ):
        runs = iter(stream)
        wait_until(lambda: told(runs, f"connected to {source.address}, where no run is open or"))


def test_what_a_program_did_before_it_waits_is_no_waiting() -> None:
    with Published() as source, cars_rt.connect(source.address, "raw", timeout=60) as stream:
        stream._source.quiet_since -= 1000  # as after a long set-up, or a long step of its loop
        source.wait()
        threading.Timer(0.5, source.say, [a_start()]).start()
        assert next(iter(stream)).run == "run-1"


def test_timeout_with_asyncio() -> None:
    (address,) = free_addresses(1)

    async def read() -> None:
        async with cars_rt.connect_async(address, timeout=0.3) as stream:
            await anext(aiter(stream))

    with pytest.raises(cars_rt.NoDataError, match="nobody publishes"):
        asyncio.run(read())


def test_waiting_for_nobody_is_said_and_so_is_the_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sources, "PATIENCE_S", 0.1)
    (address,) = free_addresses(1)
    source = sources.Source(address, "raw")
    try:

        def said(text: str) -> bool:
            source.pull(0.01)
            return text in caplog.text

        wait_until(lambda: said(f"nobody publishes at {address} yet; waiting"))
        with Subscriber(address, "raw"), cars_rt.sockets.Publisher(address, "raw"):
            wait_until(lambda: said(f"connected to {address}"))
            assert source.connected
        wait_until(lambda: said(f"nobody publishes at {address} any more; waiting"))
    finally:
        source.close()
    waiting = [record for record in caplog.records if "nobody publishes" in record.message]
    assert len(waiting) == 2 and all(hasattr(record, sources.WAITS) for record in waiting)


@contextmanager
def port_of(what: str) -> Iterator[str]:
    """The address of something else than the results."""
    if what in STREAMS:
        with Published(what) as source, serving(source.publisher):  # type: ignore[arg-type]
            yield source.address
    elif what == "web":
        with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
            yield f"tcp://127.0.0.1:{server.server_port}"  # the system accepts, and nobody answers
    else:
        socket = zmq.Context.instance().socket(zmq.ROUTER if what == "control" else zmq.PUB)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        stop = threading.Event()

        def publish() -> None:
            while not stop.wait(0.01):
                socket.send_multipart([bytes(part) for part in encode(a_start())])

        thread = threading.Thread(target=publish)
        if what == "a plain PUB":
            thread.start()
        yield f"tcp://127.0.0.1:{port}"
        stop.set()
        if what == "a plain PUB":
            thread.join()
        socket.close(0)


@contextmanager
def serving(publisher: Publisher) -> Iterator[None]:
    stop = threading.Event()

    def serve() -> None:
        while not stop.wait(0.005):
            publisher.serve()

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    stop.set()
    thread.join()
    assert publisher.stream == "raman" or publisher.subscribers == 0  # nobody to begin for


WHERE = "the raman stream is at the daemon's --publish address, usually tcp://127.0.0.1:5556"


@pytest.mark.parametrize(
    ("what", "said"),
    {
        "raw": "the raw stream is published there, not the raman stream",
        "preview": "the preview stream is published there, not the raman stream",
        "a plain PUB": "the raw stream is published there, not the raman stream",
        "control": "is no publisher's port",
        "web": "something answers at .*, but not as a publisher does",
    }.items(),
)
def test_wrong_port_is_told_with_the_right_one(
    what: str, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PATIENCE_S", 0.1)
    monkeypatch.setattr(subscriber, "MUTE_S", 0.1)
    monkeypatch.setattr(subscriber, "CUT_S", 0.1)
    text = f"{said}.*{re.escape(WHERE)}"
    with port_of(what) as address, cars_rt.connect(address, timeout=0.5) as stream:
        runs = iter(stream)
        wait_until(lambda: told(runs, text))  # a busy computer may not have connected at first
    assert len(re.findall(text, caplog.text)) == 1


def told(runs: Iterator[cars_rt.Run], text: str) -> bool:
    with pytest.raises(cars_rt.NoDataError) as error:
        next(runs)
    return re.search(text, str(error.value)) is not None


def test_idle_publisher_of_the_right_stream_is_not_taken_for_a_wrong_one(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PATIENCE_S", 0.05)
    with port_of("raman") as address, cars_rt.connect(address, timeout=0.5) as stream:
        runs = iter(stream)
        wait_until(lambda: told(runs, "where no run is open"))
        wait_until(lambda: told(runs, "where no run is open") and stream._source._probed)
    assert "stream is published there" not in caplog.text


def test_names_that_are_imported_late_can_be_seen() -> None:
    assert set(cars_rt.__all__) <= set(dir(cars_rt))
    assert all(getattr(cars_rt, name) is not None for name in cars_rt.__all__)


def test_version_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon whose descriptors were all taken read it anew for each status."""
    there = cars_rt.__version__
    monkeypatch.setattr("importlib.metadata.version", lambda name: "another")
    assert cars_rt.__version__ == there


def test_impossible_address_is_refused_at_once() -> None:
    with pytest.raises(StreamError, match="HOST:PORT"):
        cars_rt.connect("localhost")
    with pytest.raises(StreamError, match="HOST:PORT"):
        cars_rt.connect_async("localhost")


def test_nothing_is_lost_when_a_publisher_closes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a subscriber still sends then would have the system throw away what is on its way to it."""
    monkeypatch.setattr(sources, "PATIENCE_S", 0.05)
    publisher = Publisher(LOCAL, "raw")
    source = sources.Source(publisher.address, "raw")

    def probed() -> bool:
        publisher.serve()
        source.pull(0.01)
        return source._probed

    wait_until(probed)

    def publish() -> None:
        publisher.open(a_start("run-1"))
        for number in range(3000):
            publisher.send(a_frame(number, spectra_of(1), "run-1"), timeout_s=PATIENCE_S)
        publisher.end(an_end(3000, run="run-1"))
        publisher.close()

    publishing = threading.Thread(target=publish)
    publishing.start()
    publishing.join(PATIENCE_S)
    assert not publishing.is_alive()
    events = source.pull(PATIENCE_S)
    while not isinstance(events[-1], Closed):
        events.extend(source.pull(0.2))
    source.close()
    assert sum(isinstance(event, Frame) for event in events) == 3000
