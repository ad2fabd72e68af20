"""What all pages share, before a recorder and a daemon of which each answer is known."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import Published, a_start, wait_until

from cars_rt.protocol.control import RECORDER_REQUESTS, REQUESTS, Request, Requests
from cars_rt.remote import Recorder
from cars_rt.sockets.control import Answer, Control
from cars_rt.sockets.free import free_addresses
from cars_rt.view import world as worlds
from cars_rt.view.feed import Feed
from cars_rt.view.settings import ViewSettings
from cars_rt.view.store import Store
from cars_rt.view.watch import Watch
from cars_rt.view.world import World
from view.test_store import bundle

Does = Callable[[Request, Answer], Mapping[str, Any] | None]


@contextmanager
def answering(address: str, requests: Requests, does: Does) -> Iterator[None]:
    """A program that does this with each request."""
    control, over = Control(address, requests, "program"), threading.Event()

    def serve() -> None:
        while not over.wait(0.01):
            control.serve(does, str)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        control.close()


def test_a_recorder_that_is_busy_and_one_that_is_gone_are_told_apart() -> None:
    (address,) = free_addresses(1)
    world = World(ViewSettings(preview="tcp://127.0.0.1:9"))
    world.recorder = watch = Watch(address, every_s=0.05, what=Recorder, word="record-status")
    silent = threading.Event()

    def does(request: Request, answer: Answer) -> dict[str, Any] | None:
        return None if silent.is_set() else {"path": "scan.h5", "recording": True}

    def facts() -> tuple[bool, bool]:
        known = world.facts()
        return known.recorder_silent_s is None, known.recorder_there

    watch.start()
    try:
        assert world.facts().recorder is None
        with answering(address, RECORDER_REQUESTS, does):
            wait_until(lambda: world.facts().recorder is not None and facts()[0])
            silent.set()
            wait_until(lambda: facts() == (False, True))
        wait_until(lambda: facts() == (False, False))
        last, since = world.facts().recorder, world.facts().recorder_silent_s
        assert last == {"path": "scan.h5", "recording": True} and since is not None
    finally:
        world.close()


@pytest.mark.parametrize("state", ["recording", "waiting"])
def test_a_recorder_that_died_and_is_back_without_what_it_was_to_record_is_said_to_be(state: str) -> None:
    (address,) = free_addresses(1)
    world = World(ViewSettings(preview="tcp://127.0.0.1:9", allow_control=True))
    world.recorder = watch = Watch(address, every_s=0.02, what=Recorder, word="record-status")
    now: dict[str, Any] = {}

    def is_now(state: str, begun_ns: int) -> bool:
        now.update(state=state, begun_ns=begun_ns, answer=now.get("answer", 0) + 1)
        wait_until(lambda: world.facts().recorder == now)
        return world.facts().recorder_left is not None

    watch.start()
    with answering(address, RECORDER_REQUESTS, lambda request, answer: dict(now)):
        try:
            assert not is_now(state, 1) and not is_now("idle", 1)  # somebody else stopped it
            assert not is_now(state, 1) and is_now("idle", 2) and is_now("idle", 2) and is_now("idle", 3)
            assert not is_now("waiting", 3) and is_now("idle", 4)
            world.ask("record stop", {}, lambda text, bad: None)
            assert not is_now("idle", 4)
            assert not is_now("idle", 5)  # it had nothing to record
        finally:
            world.close()


def test_a_display_that_comes_in_mid_run_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to be done about it, and what it has not seen is missing in its pictures."""
    store = Store(64e6)
    with Published("raman") as source:
        feed = Feed(store, source.address, "raman")
        feed.start()
        try:
            source.wait()
            source.say(a_start(stream="raman", dtype="float32", scan=(4, 4), index=5))
            wait_until(lambda: store.scan)
        finally:
            feed.close()
    assert not [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]


def test_an_order_waits_for_no_slow_one_and_quick_ones_stay_in_their_order() -> None:
    control, recorder = free_addresses(2)
    world = World(ViewSettings(preview="tcp://127.0.0.1:9", allow_control=True))
    world.watch, world.recorder = Watch(control), Watch(recorder, what=Recorder)
    came, later, said = list[str](), list[Answer](), list[str]()

    def does(request: Request, answer: Answer) -> dict[str, Any] | None:
        if request.do == "reload":
            later.append(answer)
            return None
        came.append(str(request.arguments.get("do") or request.do))
        return {}

    def ask(do: str, /, **given: Any) -> None:
        world.ask(do, given, lambda text, _: said.append(text))

    darks = 5 * ["start", "stop"]
    with answering(control, REQUESTS, does), answering(recorder, RECORDER_REQUESTS, does):
        try:
            for _ in range(2):  # compile for minutes
                ask("reload", model="rnn")
            wait_until(lambda: len(later) == 2)
            for each in darks:
                ask("dark", do=each)
            for each in ("record", "record stop"):
                ask(each)
            wait_until(lambda: len(said) == len(darks) + 2)
            assert [each for each in came if each in darks] == darks
            assert [each for each in came if each not in darks] == ["record-start", "record-stop"]
        finally:
            for watch in (world.watch, world.recorder):
                watch._over.set()  # they were not started
            world.watch = world.recorder = None
            world.close()


def test_the_share_of_flagged_spectra_is_that_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "FLAGS_EVERY_S", 0.0)
    world = World(ViewSettings(preview="tcp://127.0.0.1:9"))

    def see(run: str, spectra: int, flagged: int) -> list[float]:
        world.store.begin(a_start(run))
        flags = (np.arange(spectra) < flagged).astype(np.uint16)
        world.store.bundle(replace(bundle(0, np.ones((spectra, 1)), flags=flags), run=run))
        return world.flags_over_time()

    assert see("one", 100, 2) == [0.02]
    assert see("two", 100, 60) == [0.6]  # as many as of the one before
    assert see("three", 150, 30) == [0.2]
    assert see("three", 50, 0) == [0.2, 0.0]
