"""A run says how far it has come, and each command of the protocol has its function."""

from collections import Counter

from helpers import a_start, an_end

from cars_rt.accounting import Ledger
from cars_rt.daemon.commands import COMMANDS
from cars_rt.daemon.receipt import Receipt
from cars_rt.daemon.run import Run, RunState
from cars_rt.protocol import Closed
from cars_rt.protocol.control import REQUESTS


def test_each_request_has_its_command() -> None:
    assert set(COMMANDS) == set(REQUESTS)


def test_run_says_what_it_waits_for_and_what_became_of_it() -> None:
    def settle(run: Run) -> Receipt:
        return run.receipt(stalls=5)

    run = Run(a_start(), Ledger(frames=3, spectra=3, lost=Counter(missing=2)), settle, stalls_before=4)
    assert run.state is RunState.OPENING and "waits for its engine" in run.waits_for
    run.become(RunState.OPEN)
    assert not run.waits_for and run.announced == 5
    run.sent.passed(2)
    run.sent.lost["engine"] = 1
    run.closed = Closed(an_end(3, 5, announced=5), run.received)
    run.become(RunState.DRAINING)
    assert "last spectra of run run-1" in run.waits_for
    made = run.settle(run)
    assert run.state is RunState.CLOSED and not run.waits_for
    assert (made.announced, made.received, made.sent, made.stalls) == (5, 3, 2, 1)
    assert made.lost == {"missing": 2, "engine": 1} == run.lost


def test_a_loss_that_is_a_finding_too_is_said_once() -> None:
    ledger = Ledger(
        lost=Counter(overload=5, missing=2), problems=Counter({"overload": 5, "sequence jump": 1})
    )
    assert ledger.describe() == "2 missing, 5 overload (1 sequence jump)"
    assert Ledger(lost=Counter(overload=5), problems=Counter(overload=5)).describe() == "5 overload"
