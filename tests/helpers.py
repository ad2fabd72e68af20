"""What several tests share: messages, instruments, a daemon in a thread, commands as processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Problem
from cars_rt.daemon.loop import Daemon
from cars_rt.daemon.seen.snapshot import Snapshot, State
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.drivers import Acquisition, Instrument
from cars_rt.engines.base import Engine
from cars_rt.files.written import rows_written
from cars_rt.protocol import Closed, End, Event, Frame, Reason, RunReader, Start, StreamName, encode
from cars_rt.sockets import Publisher, Subscriber

LOCAL = "tcp://127.0.0.1:*"  # the system chooses a free port
PATIENCE_S = 60.0  # of a test, for what happens at once on an idle computer
MEASURED = Path(__file__).parents[2] / "shared" / "data" / "measured"
AXIS = np.linspace(800, 1500, 160)  # short, so that a spectrum costs little


def spectra_of(count: int, axis: NDArray[np.float64] = AXIS, first: int = 0) -> NDArray[np.uint16]:
    """Counts (count, p) like a camera's, each spectrum another one, the same in every test."""
    shift, number = axis[None, :], (first + np.arange(count))[:, None]
    centre = axis.min() + np.ptp(axis) * (0.2 + 0.6 * ((number * 37) % 101) / 101)
    chi = 3 / (centre - shift - 6j)
    counts = 20_000 * np.exp(-((shift - axis.min()) / np.ptp(axis))) * np.abs(1 + chi) ** 2
    return (counts + number % 997).astype(np.uint16)


def a_start(run: str = "run-1", axis: NDArray[np.float64] = AXIS, **fields: Any) -> Start:
    given: dict[str, Any] = {"stream": "raw", "time_ns": time.time_ns(), "source": "a test", "block": 1}
    return Start(**given | {"run": run, "raman_shift": axis, "dtype": "uint16"} | fields)


def a_frame(sequence: int, counts: NDArray[Any], run: str = "run-1", **fields: Any) -> Frame:
    given: dict[str, Any] = {"stream": "raw", "index": sequence * len(counts), "time_ns": time.time_ns()}
    return Frame(**given | {"run": run, "sequence": sequence, "arrays": {"counts": counts}} | fields)


def an_end(frames: int, spectra: int | None = None, run: str = "run-1", **fields: Any) -> End:
    given: dict[str, Any] = {"stream": "raw", "time_ns": time.time_ns(), "reason": Reason.COMPLETE}
    spectra = frames if spectra is None else spectra
    return End(**given | {"run": run, "frames": frames, "spectra": spectra} | fields)


def wait_until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Return once the condition holds; fail if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"the condition did not come true in time\n{Command.all_now()}")
        time.sleep(0.005)


class Published:
    """A publisher on a free port that sends whatever it is told, also nonsense."""

    def __init__(self, stream: StreamName = "raw", address: str = LOCAL, **options: Any) -> None:
        self.publisher = Publisher(address, stream, **options)
        self.address = self.publisher.address

    def wait(self, subscribers: int = 1) -> None:
        assert self.publisher.wait_for_subscribers(subscribers, PATIENCE_S), Command.all_now()

    def say(self, *messages: Start | Frame | End) -> None:
        """Send messages as they are, without the publisher's own book-keeping."""
        for message in messages:
            self.bytes(*(bytes(part) for part in encode(message)))

    def bytes(self, *parts: bytes) -> None:
        self.publisher.socket.send_multipart(list(parts))

    def run(self, run: str, counts: NDArray[Any], block: int = 1, **fields: Any) -> None:
        """One whole run in good order."""
        self.publisher.open(a_start(run, dtype=counts.dtype.name, block=block, **fields))
        frames = range(0, len(counts), block)
        for sequence, first in enumerate(frames):
            frame = a_frame(sequence, counts[first : first + block], run, index=first)
            assert self.publisher.send(frame, PATIENCE_S)
        self.publisher.end(an_end(len(frames), len(counts), run))
        assert self.publisher.flush(PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.publisher.close(0)


class Collected:
    """Subscribes and keeps every event."""

    def __init__(self, address: str, stream: StreamName = "raman", **options: Any) -> None:
        self.subscriber = Subscriber(address, stream, **options)
        self.reader = RunReader(stream)
        self.events: list[Event] = []

    def until(self, condition: Callable[[Self], object], timeout_s: float = PATIENCE_S) -> Self:
        """Receive until the condition holds for what came."""
        deadline = time.monotonic() + timeout_s
        while not condition(self):
            assert time.monotonic() < deadline, f"only {len(self.events)} events came\n{Command.all_now()}"
            if parts := self.subscriber.receive(0.1):
                self.events += self.reader.read(parts)
        return self

    def ends(self, count: int = 1) -> Self:
        return self.until(lambda all_: len(all_.closed) >= count)

    def more(self) -> Self:
        """Receive until something comes."""
        before = len(self.events)
        return self.until(lambda all_: len(all_.events) > before)

    @property
    def starts(self) -> list[Start]:
        return [event for event in self.events if isinstance(event, Start)]

    @property
    def frames(self) -> list[Frame]:
        return [event for event in self.events if isinstance(event, Frame)]

    @property
    def index(self) -> NDArray[np.int64]:
        """Of each spectrum that came, in the order in which they came."""
        each = [np.arange(frame.index, frame.index + len(frame.block)) for frame in self.frames]
        return np.concatenate(each or [np.empty(0, np.int64)])

    @property
    def closed(self) -> list[Closed]:
        return [event for event in self.events if isinstance(event, Closed)]

    @property
    def problems(self) -> list[Problem]:
        return [event for event in self.events if isinstance(event, Problem)]

    @property
    def spectra(self) -> int:
        return sum(len(frame.block) for frame in self.frames)

    def raman(self, run: str = "run-1") -> NDArray[np.float32]:
        return np.concatenate([frame.block for frame in self.frames if frame.run == run])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.subscriber.close()


@contextmanager
def daemon_in_thread(listen: str, **settings: Any) -> Iterator[Daemon]:
    """A daemon at work; stopped at the end, and its error, if any, is raised."""
    # Not `auto`: what it takes may depend on the moment, and results are compared to the last digit.
    given: dict[str, Any] = {
        "publish": LOCAL, "preview": LOCAL, "spectra": "none", "control": LOCAL, "threads": 1,
        "engine": "onnxruntime",
    } | settings  # fmt: skip
    daemon = Daemon(DaemonSettings(listen=listen, **given))
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            daemon.serve()
        except BaseException as error:
            traceback.print_exc()  # also where the test fails first, for want of what should have come
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def control_of(daemon: Daemon) -> str:
    """Where it takes requests."""
    assert daemon.parts.control is not None
    return daemon.parts.control.address


def preview_of(daemon: Daemon) -> Publisher:
    """The publisher of its preview."""
    assert daemon.parts.preview is not None
    return daemon.parts.preview.publisher


@contextmanager
def a_line(**settings: Any) -> Iterator[tuple[Published, Daemon, Collected]]:
    """A source, a daemon and a subscriber of its results, each connected to the next."""
    with (
        Published() as source,
        daemon_in_thread(source.address, **settings) as daemon,
        Collected(daemon.publisher.address) as results,
    ):
        source.wait()
        wait_until(lambda: daemon.parts.ready and daemon.publisher.subscribers == 1)
        yield source, daemon, results


class Camera(Instrument):
    """A small instrument: yields the blocks it was given, then fails if it was told to."""

    def __init__(self, blocks: list[NDArray[Any]], fails: Exception | None = None, **about: Any) -> None:
        self.blocks, self.fails, self.closed = blocks, fails, 0
        self.about = {"dtype": blocks[0].dtype.name, "block": max(map(len, blocks))} | about

    def acquisition(self) -> Acquisition:
        return Acquisition(**{"source": "a small camera", "raman_shift": AXIS} | self.about)

    def frames(self) -> Iterator[NDArray[Any]]:
        yield from self.blocks
        if self.fails:
            raise self.fails

    def close(self) -> None:
        self.closed += 1


#: Of commands: wide lines, and ports that do not get into each other's way.
ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "COLUMNS": "200",
    "CARS_RT_RUN_PREVIEW": LOCAL,
    "CARS_RT_RUN_SPECTRA": "none",
    "CARS_RT_RUN_CONTROL": LOCAL,
    "CARS_RT_RECORD_CONTROL": LOCAL,
    "CARS_RT_RUN_HTTP": "none",
    "CARS_RT_VIEW_NO_BROWSER": "true",
    "CARS_RT_DEMO_NO_BROWSER": "true",
    "CARS_RT_DRIVE_REPLAY_SETTLE_S": "0",
    "CARS_RT_DRIVE_SIMULATOR_SETTLE_S": "0",
}


def _environment(command: str) -> dict[str, str]:
    """Of `ENVIRONMENT`, what concerns a command: it would import each other one that is named there. Parts of
    a room have their flags from it, too."""
    own = f"CARS_RT_{command}_".upper()
    return {k: v for k, v in ENVIRONMENT.items() if command == "up" or k.startswith((own, "PY", "COL"))}


class Command:
    """`cars-rt ...`, or another module, as a process of its own; killed at the end if it still runs."""

    alive: ClassVar[list["Command"]] = []  # and not left yet

    def __init__(self, *arguments: object, module: str | Path = "cars_rt", **environment: str) -> None:
        ours = module == "cars_rt" and arguments
        defaults = _environment(str(arguments[0])) if ours else ENVIRONMENT
        self.process = subprocess.Popen(
            [
                sys.executable,
                *(["-m", module] if isinstance(module, str) else [module]),
                *map(str, arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=os.environ | defaults | environment,
            start_new_session=True,
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.alive.append(self)

    @classmethod
    def ran(cls, *arguments: object, **environment: str) -> tuple[int, str, str]:
        """Exit code, output and what else a command said that ends by itself."""
        with cls(*arguments, **environment) as command:
            assert command.process.stdout is not None
            out = command.process.stdout.read()
            return command.end(), out, command.said

    def now(self) -> str:
        """Whether it still runs, where its threads are, and what it said last."""
        code = self.process.poll()
        name = " ".join(map(str, self.process.args[2:5]))
        if code is None and hasattr(signal, "SIGUSR1"):
            said = len(self.said)
            self.process.send_signal(signal.SIGUSR1)
            deadline = time.monotonic() + 5  # its stacks are written by the signal's handler
            while len(self.said) == said and self.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.1)
        said_last = "\n".join(self.said.splitlines()[-60:])
        return f"-- {name}: {'runs' if code is None else f'ended with {code}'}\n{said_last}"

    @classmethod
    def all_now(cls) -> str:
        """`now` of every program that was started and not left."""
        return "\n".join(each.now() for each in cls.alive)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line

    def wait_for(self, text: str) -> None:
        """Wait until it has said this."""
        wait_until(lambda: text in self.said or self.process.poll() is not None)
        assert text in self.said, self.said

    def end(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its exit code."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end\n{self.all_now()}") from None
        self._reader.join(timeout_s)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.alive.remove(self)
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


def vouched_for(partial: Path, stream: str = "raw") -> int:
    """Rows that a file which is being written vouches for, read as another program may."""
    try:
        with h5py.File(partial, "r", locking=False) as file:
            return rows_written(file[stream])
    except (OSError, KeyError, RuntimeError):
        return 0  # not yet there, or just being written


def summary(path: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return content


def is_of_a_run(engine: Engine, slab: int) -> bool:
    """Whether a slab holds a full batch of spectra that differ; those by which an engine is judged repeat."""
    inputs = engine.inputs[slab][: engine.max_batch]
    return len(inputs) > 3 and bool(inputs.any(axis=1).all()) and not np.array_equal(inputs[0], inputs[3])


#: What the status says that parts of the daemon declare as metrics.
COUNTED = {
    "frames_in", "frames_out", "problems", "stalls", "engine_failures", "engine_replacements", "reloads",
    "reloads_failed", "phases_s", "refused", "flight_alarms", "flight_files", "gpu_memory_bytes",
    "realtime",
}  # fmt: skip


def a_snapshot(**fields: Any) -> Snapshot:
    """A daemon that is ready and has done nothing yet."""
    given: dict[str, Any] = {
        "state": State.IDLE, "ready": True, "uptime_s": 1.0, "listen": "tcp://127.0.0.1:5555",
        "publish": "tcp://127.0.0.1:5556", "connected": False, "subscribers": 0, "model": "cnn",
        "model_sha256": "0" * 64, "engine": "", "shadow": None, "run": None, "source": None,
        "run_announced": 0, "run_lost": {}, "run_flagged": {}, "runs": 0, "spectra_in": 0, "spectra_out": 0,
        "lost": {}, "flagged": {},
    }  # fmt: skip
    return Snapshot(**given | fields)
