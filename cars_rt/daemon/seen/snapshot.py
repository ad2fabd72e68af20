"""What the daemon says of itself: one frozen picture, the source of `ctl status`, metrics and readiness."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cars_rt.daemon.seen.metric import Metric
from cars_rt.latency import Latencies


class State(StrEnum):
    """What the daemon is doing."""

    STARTING = "starting"  # the engine is not warm yet, or subscribers are waited for
    IDLE = "idle"  # no run
    RUNNING = "running"  # a run is open
    PAUSED = "paused"  # reads nothing until it is told to resume
    STOPPING = "stopping"  # finishes what was received


class Phase(StrEnum):
    """What the loop's time goes to. The phases exclude each other and add up to its life."""

    IDLE = "idle"  # nothing to do
    RECEIVE = "receive"  # reading, checking and converting frames
    COMPUTE = "compute"  # waiting for the engine, with nothing else to do
    SEND = "send"  # publishing results
    BLOCKED = "blocked"  # waiting for a subscriber that has no room
    CONTROL = "control"  # control requests, preview, status, compiling


@dataclass(frozen=True, slots=True)
class Queue:
    """How full a bounded queue is, in spectra."""

    depth: int
    limit: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The daemon at one moment. Counters only grow, from the daemon's start on; spectra unless said."""

    state: State
    ready: bool  # the engine is warm and the sockets are open
    uptime_s: float
    listen: str
    publish: str
    connected: bool  # a driver is there
    subscribers: int  # of the result stream

    model: str  # name
    model_sha256: str
    engine: str  # in a few words; empty before the first one is compiled
    shadow: Mapping[str, str | float | int] | None  # the candidate: model, batches, disagreement, error

    run: str | None  # the open run
    source: str | None
    run_announced: int  # of the open run so far: sent, lost or under way
    run_lost: Mapping[str, int]  # of the open run, by cause
    run_flagged: Mapping[str, int]  # of the open run, by the flag's name
    runs: int  # runs closed

    spectra_in: int
    spectra_out: int
    lost: Mapping[str, int]  # by cause, all runs; a gap stays here as missing, also if `end` says upstream
    flagged: Mapping[str, int]  # spectra computed that have a flag, by its name, all runs

    queues: Mapping[str, Queue] = field(default_factory=dict)  # by stage: filling, computing, output
    latencies: Mapping[str, Latencies] = field(default_factory=dict)  # by stage: wait, compute, output, total
    engine_name: str = ""  # as --engine takes it; empty before the first one is compiled
    engine_instead: str = ""  # why another engine computes than was asked for; empty if none does
    gathering: bool = False  # all is ready but for subscribers who are waited for
    waits_for: str = ""  # in words; empty while everything flows
    trouble: str | None = None  # why no connection to the driver comes about, if that is known
    dark: str = "none"  # id of the dark that is subtracted: none, start (the run's own) or a hash
    dark_unused: str | None = None  # why a dark that was measured here is not subtracted in the open run
    reference_unused: str | None = None  # why the reference is not applied in it
    bands: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # name to range, cm-1
    run_refused: str | None = None  # why the open run cannot be computed, so that all of it is lost
    last_run: Mapping[str, Any] | None = None  # run, source, announced, lost, refused; None while it is open
    metrics: tuple[Metric, ...] = ()  # what its parts count
