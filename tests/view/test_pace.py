"""How often a browser is sent more."""

import os

import numpy as np
import pytest
from helpers import a_start

from cars_rt.view import world
from cars_rt.view.page.pace import Pace, pause_s
from cars_rt.view.settings import ViewSettings
from cars_rt.view.watch import Watch
from cars_rt.view.world import World


def test_a_picture_follows_when_the_browser_has_drawn_and_rested() -> None:
    pace = Pace()
    assert pace.may_send(0.0)
    tick = pace.sent(0.0)
    assert not pace.may_send(0.3)  # nothing is known of it
    assert not pace.drawn(tick - 1, 0.03, pause_s())  # said of an earlier one
    assert pace.drawn(tick, 0.04, pause_s())
    assert not pace.may_send(0.07)
    assert pace.may_send(0.08)
    assert not pace.drawn(tick, 0.09, pause_s())  # said twice
    tick = pace.sent(1.0)
    assert pace.drawn(tick, 1.4, pause_s())  # a slow browser rests for half of what it took
    assert not pace.may_send(1.55)
    assert pace.may_send(1.61)


def test_a_browser_that_does_not_answer_is_sent_less_and_less() -> None:
    """Its network may be slow: what it is sent would be a backlog."""
    pace, at, now = Pace(), [], 0.0
    while now < 300:
        if pace.may_send(now):
            at.append(now)
            pace.sent(now)
        now += 1
    assert at == [0, 5, 15, 35, 75, 135, 195, 255]
    for took, patience in ((9.0, 18.0), (0.1, 5.0)):  # the next picture, too, may take so long
        assert pace.drawn(pace.tick, at[-1] + took, pause_s())
        at.append(at[-1] + 100)
        pace.sent(at[-1])
        assert not pace.may_send(at[-1] + patience - 0.1) and pace.may_send(at[-1] + patience)


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        ({}, 10, 15),
        ({"crowding": 200.0}, 10, 15),
        ({"crowding": 1000.0}, 3.5, 5),
        ({"crowding": 50_000.0}, 3.5, 5),
        ({"pages": 20}, 1.5, 2),
        ({"crowding": 1000.0, "busy": True}, 2, 3),
    ],
)
def test_pictures_a_second(given: dict[str, float], least: float, most: float) -> None:
    assert least <= 1 / pause_s(**given) <= most  # type: ignore[arg-type]


def test_a_daemon_crowds_the_display_where_it_shares_few_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    def crowding(cores: int, preview: str = "tcp://127.0.0.1:5557", urgent: bool = False) -> float:
        monkeypatch.setattr(os, "cpu_count", lambda: cores)
        monkeypatch.setattr(world.time, "monotonic", lambda: 1000.0)
        here = World(ViewSettings(preview=preview))
        here.watch = Watch("tcp://127.0.0.1:5559")
        here.watch.urgent = urgent
        try:
            assert here.crowding() == 0.0  # there is no run yet
            here.store.begin(a_start("run", scan=(100, 100), spectra=10_000))
            assert here.store.scan is not None
            here.store.scan.begun, here.store.scan.seen = 995.0, 5000
            return here.crowding()
        finally:
            here.watch = None  # it was not started
            here.close()

    assert np.isclose(crowding(2), 1000.0)
    assert crowding(16) == 0.0
    assert crowding(2, "tcp://daemon.example:5557") == 0.0
    assert crowding(2, urgent=True) == 0.0
