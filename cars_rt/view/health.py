"""Whether all is well, as one colour and one sentence, and the numbers behind it; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cars_rt.daemon.seen.status import dark_in_words
from cars_rt.printable import counted, lasted, printable

QUIET_S = 5.0  # without a message for so long within a run, the page says so; longer in a slow one
MANY_FLAGS = 0.1  # of the spectra
OLD_S = 5.0  # an older answer of the daemon counts for nothing
LOW_DISK_MINUTES = 10.0
ASKED_S = 8.0  # a recorder that ended with its run was heard so long before at least
SHOWN = 13  # characters of a run's id


class Level(StrEnum):
    """How it is, at a glance."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known at one moment."""

    connected: bool  # to the preview
    trouble: str = ""  # why not, or what else is wrong with it
    gone_s: float = 0.0  # since it is not
    quiet_s: float = 0.0  # since something came
    between_s: float = 0.0  # for so long nothing comes in this run though all is well
    run: str | None = None
    source: str = ""
    seen: int = 0  # spectra of this run in the preview
    planned: int | None = None
    ended: str | None = None  # the reason, once the run is over
    came: int | None = None  # spectra that its end tells of
    lost: Mapping[str, int] = field(default_factory=dict)  # of this run, by cause
    flagged: Mapping[str, int] = field(default_factory=dict)
    with_flags: int = 0  # spectra with any flag
    not_finite: int = 0
    beyond: int = 0
    missed: int = 0  # spectra whose bundles never came to this display
    lag_s: float | None = None  # by which what is shown is behind the camera
    status: Mapping[str, Any] | None = None  # the daemon's answer
    status_age_s: float = 0.0
    why: str = ""  # why there is no answer
    rate_in: float = 0.0
    rate_out: float = 0.0
    busy: bool = False  # the daemon has no head-room
    recorder: Mapping[str, Any] | None = None  # its last answer
    recorder_silent_s: float | None = None  # since then, where it no longer answers
    recorder_there: bool = False  # it does not, but takes connections
    recorder_left: Mapping[str, Any] | None = None  # it began anew, and answered so before
    file: str | None = None  # a recording is shown, not a daemon
    file_trouble: str = ""  # why not all of it is shown
    results: bool = True  # it holds results, not counts alone


def judge(facts: Facts) -> tuple[Level, str]:
    """The worst colour, and a sentence for each thing that is not well, or one that says what goes on."""
    if facts.file is not None:
        return _judge_file(facts)
    status = _fresh(facts)
    found = [*_reds(facts, status), *_ambers(facts, status)]
    if found:
        return found[0][0], " ".join(sentence for _, sentence in found)
    if facts.run is None:
        waits = printable(str((status or {}).get("waits_for") or "waiting for a run"))
        return Level.GREEN, f"Connected; {waits}."
    if facts.ended:
        return Level.GREEN, f"The run is complete: {counted(_came(facts), 'spectrum')}, none lost."
    if status is None:  # nobody tells of losses before the end
        said = "Spectra come; without the daemon's health, losses are known at the end of the run."
        return Level.GREEN, said
    return Level.GREEN, "All is well: nothing is lost."


def _judge_file(facts: Facts) -> tuple[Level, str]:
    level, more = Level.GREEN, "" if facts.results else "; counts alone, no results, so these are shown"
    if lost := _counts(facts.lost):
        level, more = Level.AMBER, f"; lost were {lost}"
    if facts.file_trouble:
        level, more = Level.RED, f"; {facts.file_trouble}"
    what = f"{facts.file}: {counted(facts.seen, 'spectrum')} of {printable(facts.source)}{more.rstrip('.')}."
    found = [*_not_numbers(facts), *_early_or_flagged(facts)]
    missing = (facts.planned or 0) - _came(facts) - sum(facts.lost.values())
    if facts.ended and missing > 0 and not facts.file_trouble:
        found.append((Level.AMBER, f"{missing} of its {facts.planned} spectra are not in it."))
    if found and level is not Level.RED:
        level = found[0][0]
    return level, " ".join([what, *(sentence for _, sentence in found)])


def _not_shown(facts: Facts, status: Mapping[str, Any]) -> Iterator[tuple[Level, str]]:
    """Of a run of which the preview tells nothing, or not that it is over."""
    run, lost, why = (status.get(each) for each in ("run", "run_lost", "run_refused"))
    told, word = run == facts.run, "cannot be"
    if run is None:  # of the one before, until another one is shown, which may have come since this answer
        last = status.get("last_run")
        if not isinstance(last, dict) or facts.status_age_s > facts.quiet_s:
            return
        run, lost, why = (last.get(each) for each in ("run", "lost", "refused"))
        told, word = run == facts.run and bool(facts.ended), "was not"
        if run != facts.run and facts.run is not None and not facts.ended:
            return
    name, lost = _short(printable(str(run))), {} if told or not isinstance(lost, dict) else lost
    if why:
        yield Level.RED, f"Run {name} {word} computed: {printable(str(why)).rstrip('.')}."
    if said := _counts(lost):
        yield Level.RED, f"Spectra of run {name} are lost: {said}."
    if (why or said) and facts.run not in (None, run):  # whose sentences follow
        yield Level.RED, f"Shown is still run {_short(printable(str(facts.run)))}."


def _not_numbers(facts: Facts) -> Iterator[tuple[Level, str]]:
    if facts.not_finite:
        yield Level.RED, f"{facts.not_finite} spectra of this run are no numbers (NaN)."


def _early_or_flagged(facts: Facts) -> Iterator[tuple[Level, str]]:
    if facts.ended and facts.ended != "complete":
        yield Level.AMBER, f"The run ended early: {facts.ended}."
    if facts.seen and facts.with_flags > MANY_FLAGS * facts.seen:
        yield Level.AMBER, f"Many spectra have flags: {_counts(facts.flagged)} of {facts.seen}."


def _reds(facts: Facts, status: Mapping[str, Any] | None) -> Iterator[tuple[Level, str]]:
    if status is not None:
        yield from _not_shown(facts, status)
    if lost := _counts(_lost(facts, status)):
        where = " (the daemon's own report names the cause)" if "upstream" in lost else ""
        yield Level.RED, f"Spectra of this run are lost: {lost}{where}."
    yield from _not_numbers(facts)
    if not facts.connected and not facts.ended:
        since = f" for {lasted(facts.gone_s)}" if facts.gone_s >= 1 else ""
        yield Level.RED, f"No daemon{since}: {facts.trouble or 'nobody publishes'}; waiting for it."
    elif facts.trouble and (facts.run is None or facts.ended):
        yield Level.RED, f"{facts.trouble}; waiting."
    if trouble := (facts.recorder or {}).get("trouble"):
        yield Level.RED, f"The recorder gave up: {printable(str(trouble)).rstrip('.')}."
    if _forgot(facts):
        yield Level.RED, "The recorder began anew and records nothing; start it again."
    if (disk := _disk(facts)) is not None:
        yield Level.RED, disk
    if (silent := _silent(facts)) is not None and silent[0] is Level.RED:
        yield silent


def _ambers(facts: Facts, status: Mapping[str, Any] | None) -> Iterator[tuple[Level, str]]:
    if not facts.connected and facts.ended:
        yield Level.AMBER, f"The daemon is gone for {lasted(facts.gone_s)}; shown is what it sent last."
    told = status or {}
    waits = printable(str(told.get("waits_for") or "")).rstrip(".")
    if not told.get("ready", True):
        yield Level.AMBER, f"The daemon is not ready: {waits or 'waiting for its engine'}."
        waits = ""
    if told.get("state") == "paused":
        yield Level.AMBER, "The daemon is paused; `cars-rt ctl resume` goes on."
        waits = ""
    yield from _early_or_flagged(facts)
    missing = (facts.planned or 0) - _came(facts) - sum(facts.lost.values())
    if facts.ended == "complete" and missing > 0:
        yield Level.AMBER, f"The run is over, and {missing} of its {facts.planned} spectra never came."
    if facts.missed > 0:
        yield (
            Level.AMBER,
            f"This display missed {counted(facts.missed, 'spectrum')}, so that its maps may have holes.",
        )
    if facts.beyond > 0:
        yield Level.AMBER, f"{counted(facts.beyond, 'spectrum')} came after the last pixel of the scan."
    quiet = facts.quiet_s > QUIET_S + 2 * facts.between_s
    if facts.run is not None and not facts.ended and facts.connected and quiet:
        why = f": {waits}" if waits else ""
        yield Level.AMBER, f"Nothing came for {lasted(facts.quiet_s)}, and the run is still open{why}."
    if (silent := _silent(facts)) is not None and silent[0] is Level.AMBER:
        yield silent
    if facts.busy:
        yield Level.AMBER, "The daemon has no head-room; the display asks for less."
    if facts.connected and status is None and facts.why:
        yield Level.AMBER, f"The daemon's health is not known: {facts.why}"


def rows(facts: Facts) -> list[tuple[str, str]]:
    """Names and values for people, the same ones at every moment."""
    status = _fresh(facts)
    of = f" of {facts.planned}" if facts.planned else ""
    unknown = facts.file is None and facts.run is not None and not facts.ended and status is None
    share = f" ({100 * facts.seen / facts.planned:.0f} %)" if facts.planned else ""
    both = [
        ("run", f"{_short(facts.run)} from {facts.source}" if facts.run else "none yet"),
        ("spectra", f"{facts.seen}{of}{share}"),
        ("lost", _counts(_lost(facts, status)) or ("not known before the end" if unknown else "none")),
        ("flags", _counts(facts.flagged) or "none"),
    ]
    if facts.file is not None:
        return both
    lag = "–" if facts.lag_s is None else f"{facts.lag_s:.2f} s behind the camera"
    both.append(("display", lag))
    daemon = [("daemon", facts.why or "–")] if status is None else _daemon(facts, status)
    return [*both, *daemon, *([] if facts.recorder is None else [("recorder", _recorder(facts))])]


def _daemon(facts: Facts, status: Mapping[str, Any]) -> list[tuple[str, str]]:
    latencies = status.get("latencies")
    total = latencies.get("total") if isinstance(latencies, dict) else None
    total = total if isinstance(total, dict) else {}
    ms = ", ".join(
        f"{name} {total[key]:.1f} ms"
        for name, key in (("median", "p50_ms"), ("99 %", "p99_ms"))
        if isinstance(total.get(key), int | float)
    )
    model = f"{status.get('model')} on {status.get('engine') or 'no engine yet'}"
    return [
        ("rate", f"{facts.rate_in:.0f}/s in, {facts.rate_out:.0f}/s out"),
        ("latency", ms or "–"),
        ("model", printable(model)),
        ("dark", printable(dark_in_words(str(status.get("dark")), status.get("run")))),
    ]


def _fresh(facts: Facts) -> Mapping[str, Any] | None:
    return facts.status if facts.status_age_s <= OLD_S else None


def _lost(facts: Facts, status: Mapping[str, Any] | None) -> Mapping[str, int]:
    """Spectra lost in this run, as the daemon says; as its end says, which may know no cause, where the
    daemon tells no more of it."""
    said = status or {}
    last = said.get("last_run")
    if isinstance(last, dict) and last.get("run") == facts.run:
        told = last.get("lost") if "upstream" in facts.lost else None
    else:
        told = said.get("run_lost") if said.get("run") == facts.run and not facts.ended else None
    return told if isinstance(told, dict) and told else facts.lost


def _came(facts: Facts) -> int:
    """Spectra of a run that is over, also those from before this display looked."""
    return facts.seen if facts.came is None else facts.came


def _disk(facts: Facts) -> str | None:
    minutes = (facts.recorder or {}).get("minutes_left")
    if facts.recorder_silent_s is None and isinstance(minutes, int | float) and minutes < LOW_DISK_MINUTES:
        left = f"{minutes:.0f} minutes" if minutes >= 2 else f"{60 * minutes:.0f} s"
        return f"The recorder's disk is full in {left}."
    return None


def _silent(facts: Facts) -> tuple[Level, str] | None:
    """What to say of a recorder that has answered and no longer does."""
    last, silent_s = facts.recorder, facts.recorder_silent_s
    if last is None or silent_s is None:
        return None
    if facts.recorder_there:
        return Level.AMBER, f"The recorder is there, but has not answered for {lasted(silent_s)}."
    if last.get("state") == "idle":
        return None  # it had nothing to do; that it does not answer stands among the numbers
    of_this_run = last.get("run") == facts.run
    in_run = not facts.ended or silent_s > facts.quiet_s + ASKED_S  # it went, or before the end
    if last.get("one_run") and last.get("run") and not (of_this_run and in_run):
        return None  # it ended with its run
    if last.get("recording") and of_this_run and in_run:
        return Level.RED, f"The recorder is gone for {lasted(silent_s)}: it was recording this run."
    return Level.AMBER, f"The recorder is gone for {lasted(silent_s)}."


def _forgot(facts: Facts) -> bool:
    """Whether a run goes by that the recorder would have recorded, had it not begun anew. One that ended in
    order may have been to record, too, so nothing is wrong before that."""
    left = facts.recorder_left
    if left is None:
        return False
    if left.get("one_run"):  # and no other
        return facts.run is not None and left.get("run") == facts.run and not facts.ended
    return bool((facts.recorder or {}).get("passed_over"))


def _recorder(facts: Facts) -> str:
    status = facts.recorder or {}
    path, free = status.get("path"), status.get("disk_free")
    said = str(path) if path else "no file open"
    if path and not status.get("recording", True):
        said += ", closed"
    if status.get("state") == "waiting":
        waits = f"waits for the next run: {status.get('name', '')}".removesuffix(": ")
        said = f"{said}, {waits}" if path else waits
    if facts.recorder_silent_s is not None:
        said += f", no answer for {lasted(facts.recorder_silent_s)}"
    elif isinstance(free, int | float):
        said += f", {free / 1e9:.1f} GB left"
    return printable(said)


def _counts(values: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {printable(name)}" for name, count in sorted(values.items()) if count)


def _short(run: str) -> str:
    """Enough of a run's id to tell it from others."""
    return run if len(run) <= SHOWN else f"{run[: SHOWN - 1]}…"
