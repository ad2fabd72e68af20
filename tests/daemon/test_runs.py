"""A run says how far it has come, and each command of the protocol has its function."""

from collections import Counter

from helpers import Published, a_frame, a_start, an_end, daemon_in_thread, spectra_of, wait_until

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


def test_losses_that_an_end_explains_hide_none_of_the_next_run() -> None:
    """What the first run lost has another cause when it ends; what was told does not fall for that, and is
    not told once more."""
    with Published() as source, daemon_in_thread(source.address, engine="passthrough") as daemon:
        source.wait()
        source.say(a_start(sequence=0, index=500))
        source.say(*(a_frame(number, spectra_of(1), index=500 + number) for number in range(3)))
        wait_until(lambda: daemon.parts.runs.taken.spectra == 3)
        told = daemon.parts.runs.all_lost()
        assert told == {"missing": 500}
        source.say(an_end(3, 3, announced=505))
        wait_until(lambda: daemon.receipts)
        assert daemon.receipts[0].lost == {"upstream": 502}
        # A receipt is there while its run still drains, in the daemon's thread: it counts twice for this one.
        wait_until(lambda: daemon.parts.runs.all_lost() == told | {"upstream": 2})
        source.say(a_start("run-2"))
        source.say(*(a_frame(number, spectra_of(1), "run-2") for number in (0, 401)))
        source.say(an_end(402, run="run-2"))
        wait_until(lambda: len(daemon.receipts) == 2)
        assert daemon.receipts[1].lost == {"missing": 400}
        wait_until(lambda: daemon.parts.runs.all_lost() == {"missing": 900, "upstream": 2})
