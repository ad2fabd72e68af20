"""What one line and the numbers below say of how it is."""

from typing import Any

import pytest

from cars_rt.view import health
from cars_rt.view.health import Facts, Level

STATUS: dict[str, Any] = {
    "ready": True,
    "run": "r", "run_lost": {}, "waits_for": "", "model": "cnn", "engine": "cpu", "dark": "none",
    "latencies": {"total": {"p50_ms": 1.0, "p99_ms": 2.0}},
}  # fmt: skip
PAUSED = STATUS | {"state": "paused", "waits_for": "paused; `cars-rt ctl resume` goes on"}
WELL: dict[str, Any] = {"connected": True, "run": "r", "source": "s", "seen": 100, "status": STATUS}
QUIET = {"quiet_s": 3600.0}
FILE: dict[str, Any] = {"file": "scan.h5", "connected": False, "status": None}
PART = FILE | {"ended": "complete", "planned": 104}


def gone(ended: str | None = None, quiet_s: float = 0.0, **last: Any) -> dict[str, Any]:
    """A recorder that answered so last, 9 s ago."""
    last = {"run": "r", "recording": True, "one_run": False} | last
    return {"recorder": last, "recorder_silent_s": 9.0, "ended": ended, "quiet_s": quiet_s}


def left_one(run: str | None) -> dict[str, Any]:
    """A recorder of one run, in whose place is one that waits to be told."""
    return {"recorder": {"passed_over": 1}, "recorder_left": {"one_run": True, "run": run}}


def another(quiet_s: float = 9.0, last: Any = None, **status: Any) -> dict[str, Any]:
    """This run is over, and `last` is the one after it, of which nothing was published."""
    lost = {"run": "x", "source": "s", "announced": 400, "lost": {"engine": 400}, "refused": "no axis."}
    now = STATUS | {"run": None, "last_run": lost if last is None else last} | status
    return {"ended": "complete", "quiet_s": quiet_s, "status": now, "status_age_s": 1.0}


@pytest.mark.parametrize("said", ["x", 1.0, [1], {"total": 1}, {"total": {"p50_ms": "x"}}])
def test_whatever_a_daemon_says_of_itself_can_be_shown(said: Any) -> None:
    shown = dict(health.rows(Facts(connected=True, status={"latencies": said})))
    assert shown["latency"] == "–"


def test_between_runs_no_dark_is_said_to_be_none() -> None:
    for run, said in (("a", "none is subtracted"), (None, "each run's own, where its driver gives one")):
        facts = Facts(connected=True, status={"dark": "none", "run": run})
        assert dict(health.rows(facts))["dark"] == said


@pytest.mark.parametrize(
    ("changed", "level", "said"),
    [
        ({}, Level.GREEN, "All is well: nothing is lost."),
        ({"run": None}, Level.GREEN, "Connected; waiting for a run."),
        ({"ended": "complete"}, Level.GREEN, "The run is complete: 100 spectra, none lost."),
        ({"ended": "complete", "came": 1}, Level.GREEN, "The run is complete: 1 spectrum, none lost."),
        ({"connected": False, "gone_s": 300}, Level.RED, "No daemon for 5 min: nobody publishes; waiting"),
        ({"connected": False, "ended": "complete", "gone_s": 9} | QUIET, Level.AMBER, "is gone for 9 s"),
        ({"connected": False, "ended": "complete", "gone_s": 200_000}, Level.AMBER, "is gone for 2 days"),
        ({"status": STATUS | {"run_lost": {"gone": 7}}}, Level.RED, "Spectra of this run are lost: 7 gone."),
        ({"ended": "complete", "lost": {"engine": 3}}, Level.RED, "lost: 3 engine"),
        ({"status": STATUS | {"ready": False, "waits_for": "waiting"}}, Level.AMBER, "not ready: waiting."),
        ({"run": None, "status": STATUS | {"waits_for": "no driver yet"}}, Level.GREEN, "; no driver yet."),
        ({"not_finite": 2}, Level.RED, "2 spectra of this run are no numbers (NaN)."),
        ({"flagged": {"spike": 50}, "with_flags": 50}, Level.AMBER, "have flags: 50 spike of 100."),
        ({"status": PAUSED}, Level.AMBER, "The daemon is paused; `cars-rt ctl resume` goes on."),
        ({"status": PAUSED, "run": None}, Level.AMBER, "The daemon is paused; `cars-rt ctl resume` goes on."),
        ({"quiet_s": 30}, Level.AMBER, "Nothing came for 30 s, and the run is still open."),
        ({"quiet_s": 30, "status": STATUS | {"waits_for": "no driver at tcp://x any more"}}, Level.AMBER,
         "Nothing came for 30 s, and the run is still open: no driver at tcp://x any more."),
        ({"quiet_s": 30, "status": PAUSED}, Level.AMBER, "goes on. Nothing came for 30 s, and the run is"),
        ({"quiet_s": 20, "between_s": 8}, Level.GREEN, "All is well"),
        ({"quiet_s": 22, "between_s": 8}, Level.AMBER, "Nothing came for 22 s"),
        ({"busy": True}, Level.AMBER, "no head-room"),
        ({"ended": "interrupted"}, Level.AMBER, "The run ended early: interrupted."),
        ({"ended": "complete", "came": 400}, Level.GREEN, "The run is complete: 400 spectra"),  # we came late
        ({"ended": "complete", "came": 90, "planned": 120, "lost": {"gone": 10}}, Level.RED, "and 20 of"),
        ({"lost": {"upstream": 3}, "ended": "complete"}, Level.RED, "3 upstream (the daemon"),
        ({"run": "old", "ended": "complete", "status": STATUS | {"run_lost": {"engine": 5}}}, Level.RED,
         "Spectra of run r are lost: 5 engine."),
        (another(), Level.RED, "Run x was not computed: no axis. Spectra of run x are lost: 400 engine."),
        (another() | {"run": None, "ended": None}, Level.RED, "Run x was not computed: no axis. Spectra of"),
        (another(last={"run": "x", "lost": {"gone": 1}, "refused": None}), Level.RED, "x are lost: 1 gone"),
        (another() | {"ended": "interrupted"}, Level.RED, "Shown is still run r. The run ended early"),
        (another(last={"run": "r", "lost": {"missing": 3}}) | {"lost": {"upstream": 3}}, Level.RED,
         "Spectra of this run are lost: 3 missing."),
        (another(last={"run": "x", "lost": {}, "refused": None}), Level.GREEN, "complete: 100 spectra"),
        (another(last={"run": "r", "lost": {"gone": 1}}), Level.GREEN, "complete: 100"),  # as its end says
        (another(last={"run": 1, "lost": [1], "refused": [2]}), Level.RED, "Run 1 was not computed: [2]"),
        (another(last="x"), Level.GREEN, "complete: 100 spectra"),
        (another(quiet_s=2.0) | {"ended": None}, Level.GREEN, "All is well"),  # another one is shown
        (another(quiet_s=0.5), Level.GREEN, "complete: 100"),  # one that came and ended since that answer
        (another(run="y", run_refused="no axis.", last={}), Level.RED, "Run y cannot be computed: no axis."),
        ({"missed": 7}, Level.AMBER, "This display missed 7 spectra"),
        ({"missed": 7, "ended": "complete"}, Level.AMBER, "missed 7 spectra, so that its maps may"),
        ({"beyond": 4}, Level.AMBER, "4 spectra came after the last pixel"),
        ({"status": None, "why": "no answer"}, Level.AMBER, "health is not known: no answer"),
        ({"recorder": {"minutes_left": 3}}, Level.RED, "The recorder's disk is full in 3 minutes."),
        ({"recorder": {"minutes_left": 1.2}}, Level.RED, "The recorder's disk is full in 72 s."),
        ({"recorder": {"minutes_left": 3}, "recorder_silent_s": 9}, Level.AMBER, "is gone for 9 s."),
        ({"recorder": {"trouble": "full"}}, Level.RED, "The recorder gave up: full."),
        ({"recorder": {"trouble": "full"}, "run": None}, Level.RED, "The recorder gave up: full."),
        ({"recorder": {"passed_over": 1}, "recorder_left": {}}, Level.RED, "anew and records nothing; start"),
        ({"recorder": {"passed_over": 0}, "recorder_left": {}}, Level.GREEN, "All is well"),  # it may have
        ({"recorder": {"passed_over": 1}}, Level.GREEN, "All is well"),  # ended in order before any run
        (left_one("r"), Level.RED, "records nothing"),
        (left_one("old"), Level.GREEN, "All is well"),
        (left_one(None) | {"run": None}, Level.GREEN, "Connected"),
        (left_one("r") | {"ended": "complete"}, Level.GREEN, "The run is complete"),
        (gone(), Level.RED, "The recorder is gone for 9 s: it was recording this run."),
        (gone(one_run=True), Level.RED, "it was recording this run."),
        (gone(ended="complete", quiet_s=0), Level.RED, "it was recording this run."),
        (gone(ended="complete", quiet_s=2), Level.AMBER, "The recorder is gone for 9 s."),
        (gone(ended="complete", quiet_s=2, one_run=True), Level.GREEN, "The run is complete"),
        (gone(run="old"), Level.AMBER, "The recorder is gone for 9 s."),
        (gone(run="old", one_run=True), Level.GREEN, "All is well"),
        (gone(run=None, recording=False, one_run=True), Level.AMBER, "The recorder is gone for 9 s."),
        (gone(recording=False), Level.AMBER, "The recorder is gone for 9 s."),
        (gone(recording=False, state="waiting"), Level.AMBER, "The recorder is gone for 9 s."),
        (gone(recording=False, state="idle"), Level.GREEN, "All is well"),
        (gone() | {"recorder_there": True}, Level.AMBER, "is there, but has not answered for 9 s."),
        ({"trouble": "protocol version 9", "run": None}, Level.RED, "protocol version 9; waiting."),
        ({"trouble": "protocol version 9", "ended": "complete"}, Level.RED, "protocol version 9; waiting."),
        ({"status": None}, Level.GREEN, "losses are known at the end of the run."),
        ({"status_age_s": 9}, Level.GREEN, "losses are known at the end of the run."),
        ({"status": None, "ended": "complete"}, Level.GREEN, "The run is complete: 100 spectra, none lost."),
        (FILE, Level.GREEN, "scan.h5: 100 spectra of s."),
        (PART, Level.AMBER, "of s. 4 of its 104 spectra are not in it."),
        (PART | {"lost": {"gone": 4}}, Level.AMBER, "of s; lost were 4 gone."),
        (FILE | {"ended": "interrupted"}, Level.AMBER, "of s. The run ended early: interrupted."),
        (FILE | {"flagged": {"saturated": 100}, "with_flags": 100}, Level.AMBER, "100 saturated of 100."),
        (FILE | {"not_finite": 50, "flagged": {"spike": 50}, "with_flags": 50}, Level.RED, "50 spectra of"),
        (PART | {"file_trouble": "it ends."}, Level.RED, "of s; it ends."),
    ],
)  # fmt: skip
def test_one_line_says_how_it_is(changed: dict[str, Any], level: Level, said: str) -> None:
    facts = Facts(**WELL | changed)
    found, sentence = health.judge(facts)
    assert found is level and said in sentence
    assert dict(health.rows(facts))["spectra"].startswith("100")


@pytest.mark.parametrize("status", [STATUS, None])
def test_the_numbers_say_what_the_recorder_does(status: dict[str, Any] | None) -> None:
    def said(silent_s: float | None = None, **last: Any) -> str:
        facts = Facts(**WELL | {"status": status, "recorder": last, "recorder_silent_s": silent_s})
        return dict(health.rows(facts))["recorder"]

    assert said(path=None, recording=False, disk_free=2e9) == "no file open, 2.0 GB left"
    assert said(path="a.h5", recording=True, disk_free=2e9) == "a.h5, 2.0 GB left"
    assert said(path="a.h5", recording=False, disk_free=0) == "a.h5, closed, 0.0 GB left"
    waiting = {"recording": False, "state": "waiting", "name": "b-{run}", "disk_free": 0}
    assert said(path=None, **waiting) == "waits for the next run: b-{run}, 0.0 GB left"
    assert said(path="a.h5", **waiting) == "a.h5, closed, waits for the next run: b-{run}, 0.0 GB left"
    assert said(7.0, path="a.h5", recording=True, disk_free=2e9) == "a.h5, no answer for 7 s"


@pytest.mark.parametrize("changed", [{"status": None}, {"status": None, "ended": "complete"}, FILE])
def test_losses_that_nobody_tells_before_the_end_are_not_said_to_be_none(changed: dict[str, Any]) -> None:
    facts = Facts(**WELL | changed)
    known = facts.ended or facts.file
    assert dict(health.rows(facts))["lost"] == ("none" if known else "not known before the end")
