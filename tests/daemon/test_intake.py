"""Several sources may take turns: an intake says itself which sockets are read now."""

from collections import Counter
from typing import Any

import pytest
from helpers import Collected, Published, a_frame, a_start, an_end, daemon_in_thread, spectra_of, wait_until

from cars_rt.daemon.intake import Intake
from cars_rt.daemon.mishaps import Mishaps


class Turns:
    """Two drivers as one source: while one has a run, nothing is read from the other."""

    def __init__(self, other: str, address: str, *about: Any) -> None:
        self.all = [Intake(each, *about) for each in (address, other)]
        self.now = self.all[0]
        self.both = [*self.all[0].sockets, *self.all[1].sockets]
        self.asked = 0  # how often the loop came to read

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)

    @property
    def sockets(self) -> list[Any]:
        return self.both if self.now.reader.run is None else self.now.sockets

    def receive(self) -> bool:
        self.asked += 1
        for each in self.all if self.now.reader.run is None else [self.now]:
            if each.receive():
                self.now = each
                return True
        return False

    def connect(self) -> None:
        for each in self.all:
            each.connect()

    def watch(self, problems: Counter[str]) -> bool:
        return sum(each.watch(problems) for each in self.all) > 0  # all of them are asked

    def close(self) -> None:
        for each in self.all:
            each.close()


def test_two_drivers_take_turns_and_the_one_that_waits_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Published() as first, Published() as second:
        monkeypatch.setattr("cars_rt.daemon.parts.Intake", lambda *given: Turns(second.address, *given))
        with (
            daemon_in_thread(first.address, engine="passthrough") as daemon,
            Collected(daemon.publisher.address) as results,
        ):
            for source in (first, second):
                source.wait()
            wait_until(lambda: daemon.publisher.subscribers == 1)
            counts = spectra_of(8)
            first.say(a_start("one"), a_frame(0, counts[:1], "one"))
            results.until(lambda all_: all_.spectra == 1)
            second.run("two", counts)
            turns: Any = daemon.parts.intake
            asked, began = turns.asked, daemon.snapshot().uptime_s
            wait_until(lambda: daemon.snapshot().uptime_s > began + 0.5)
            assert turns.asked - asked < 20, "the loop turns without end for what it does not read"
            assert results.spectra == 1
            first.say(a_frame(1, counts[1:2], "one"), an_end(2, 2, "one"))
            results.until(lambda all_: all_.spectra == 10)
            wait_until(lambda: daemon.parts.runs.book.closed == 2)
    assert [(each.run, each.sent, each.lost) for each in daemon.receipts] == [("one", 2, {}), ("two", 8, {})]


def test_what_a_connection_says_before_it_is_known_to_be_there_is_its_own() -> None:
    """Its end is told, after which the next one has lines of its own in the log, and not its beginning."""
    with Published() as source:
        intake = Intake(source.address, None, None, Mishaps(Counter()))
        intake.connect()
        source.wait()
        told: list[bool] = []
        wait_until(lambda: told.append(intake.watch(Counter())) or intake.connected)
        assert not any(told)
        source.publisher.close(0)
        wait_until(lambda: intake.watch(Counter()))
        intake.close()
