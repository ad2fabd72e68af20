"""Minutes or days of measuring, with real processes: nothing lost, no memory or descriptor leaked.

    python tests/scripts/soak.py                      30 minutes at 1,000 spectra/s
    python tests/scripts/soak.py --minutes 1440       a day
    python tests/scripts/soak.py --minutes 2 --rate 500 --no-record
    python tests/scripts/soak.py --attack 20          with 20 hostile connections/s at the daemon's sockets

A driver replays a small file of simulated spectra, run after run; the daemon computes; the recorder writes
every run to a file, which is checked and deleted; this program counts what comes out and looks at the
processes every few seconds. Ctrl-C ends it early, with a report. The report is printed, and lies with a
picture in the output folder. The exit code is 1 if anything was lost or leaked.
"""

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import msgpack
import numpy as np
import psutil
import zmq

sys.path.insert(0, str(Path(__file__).parents[1]))  # beside the packages of the tests

from cars_rt.console import EXIT_INCOMPLETE
from cars_rt.drivers.simulator import SimulatedMicroscope, SimulatorSettings
from cars_rt.installation import install_extra
from cars_rt.room.program import LoggedProgram
from scripts.storm import KINDS, storm

FILE_SCAN = "16x32"  # spectra that are replayed again and again
GROWTH_MB = 5.0  # allowed from the end of the warm-up to the end, by a straight line through all samples
WARM_UP = 0.2  # of the time, but not more than
WARM_UP_S = 300.0
LATE_S = 120.0  # for a program to end when it was asked to


class Counter(threading.Thread):
    """Subscribes to the results; counts them and what is not there, and how late they come."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.spectra: dict[str, int] = {}  # by run
        self.gaps = 0  # spectra that are not in order
        self.ended: dict[str, dict[str, Any]] = {}
        self.error: Exception | None = None
        self._latencies: list[int] = []
        self._address = address
        self._over = threading.Event()

    def run(self) -> None:
        socket = zmq.Context.instance().socket(zmq.SUB)
        socket.subscribe("raman.")
        socket.connect(self._address)
        try:
            expected: dict[str, int] = {}
            while not self._over.is_set():
                if not socket.poll(200):
                    continue
                _, head, *_ = socket.recv_multipart(copy=False)
                header = msgpack.unpackb(head.buffer)
                run = header["run"]
                if header["kind"] == "frame":
                    spectra = header["arrays"][0][2][0]
                    self.gaps += header["index"] != expected.get(run, 0)
                    expected[run] = header["index"] + spectra
                    self.spectra[run] = self.spectra.get(run, 0) + spectra
                    self._latencies.append(time.time_ns() - header["time_ns"])
                elif header["kind"] == "end":
                    self.ended[run] = header
        except Exception as error:
            self.error = error
        finally:
            socket.close(0)

    def latencies_ms(self) -> list[float]:
        """Median, 99th percentile and largest since the last look, driver's stamp to here."""
        taken, self._latencies = self._latencies, []
        if not taken:
            return []
        return [round(float(each), 3) for each in np.percentile(np.array(taken) / 1e6, [50, 99, 100])]

    def stop(self) -> None:
        self._over.set()
        self.join()


@dataclass
class Sample:
    """One look at one process."""

    s: float  # since the beginning
    mb: float  # resident
    descriptors: int
    threads: int
    cpu: float  # percent of one core
    pid: int


@dataclass
class Report:
    """What was seen."""

    minutes: float = 0
    rate: float = 0
    hostile: int = 0  # connections of an attack
    interrupted: bool = False
    runs: list[dict[str, Any]] = field(default_factory=list)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    latencies_ms: list[list[float]] = field(default_factory=list)  # s, median, 99th percentile, largest
    faults: list[str] = field(default_factory=list)

    def say(self, fault: str) -> None:
        print(f"FAULT {fault}", flush=True)
        self.faults.append(fault)


class Soak:
    """The processes of one soak."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder = given, folder
        self.report = Report(rate=given.rate)
        self.begin = time.monotonic()
        self.watched: dict[str, psutil.Process] = {}
        self.file = folder / "counts.npz"
        microscope = SimulatedMicroscope(SimulatorSettings(scan=FILE_SCAN, rate=0, pixels=given.pixels))
        counts = np.concatenate([block.copy() for block in microscope.frames()])
        about = microscope.acquisition()
        np.savez(self.file, spectra=counts, raman_shift=about.raman_shift, dark=about.dark)
        self.in_file = len(counts)
        self.number = 0
        raw, raman, preview, control = (f"tcp://127.0.0.1:{given.port + number}" for number in range(4))
        self.raw = raw
        self.counter = Counter(raman)
        self.counter.start()
        subscribers = 1 + given.record
        self.daemon = self.start(
            "daemon", "run", "--listen", raw, "--publish", raman, "--engine", given.engine,
            "--subscribers", subscribers, "--summary", folder / "daemon.json",
            "--preview", preview, "--control", control,
        )  # fmt: skip
        self.visits = multiprocessing.Value("q", 0)
        self.attack: multiprocessing.Process | None = None
        if given.attack:
            until = self.begin + given.minutes * 60
            hostile = [raman, preview, control], given.attack, KINDS, self.visits, until
            self.attack = multiprocessing.Process(target=storm, args=hostile, daemon=True)
            self.attack.start()
        self.recorder: LoggedProgram | None = None
        if given.record:
            (folder / "files").mkdir(exist_ok=True)
            self.recorder = self.start(
                "recorder",
                "record",
                folder / "files",
                "--raman",
                raman,
                "--summary",
                folder / "recorder.json",
            )
        self.driver: LoggedProgram | None = None

    def start(self, name: str, *arguments: object) -> LoggedProgram:
        program = LoggedProgram(name, [str(each) for each in arguments], self.folder)
        self.watched[name] = psutil.Process(program.pid)
        return program

    def next_run(self) -> None:
        """A driver process for one run."""
        given = self.given
        spectra = given.rate * 60 * given.run_minutes
        self.number += 1
        self.driver = self.start(
            "driver", "drive", "replay", self.file, "--rate", given.rate, "--block", given.block,
            "--loops", max(round(spectra / self.in_file), 1) if spectra else 0, "--publish", self.raw,
            "--summary", self.folder / f"driver-{self.number}.json",
        )  # fmt: skip

    def work(self) -> None:
        """Run after run until the time is over."""
        deadline = self.begin + self.given.minutes * 60
        sampled = said = self.begin
        while (now := time.monotonic()) < deadline:
            if self.driver is None or not self.driver.running:
                self.finish_driver()
                self.next_run()
            if now - sampled >= self.given.every:
                sampled = now
                self.sample(now)
            if now - said >= 60:
                said = now
                print(f"{(now - self.begin) / 60:.0f} min: {self.describe()}", flush=True)
            for program in (self.daemon, self.recorder):
                if program is not None:
                    program.check()
            if self.counter.error:
                raise self.counter.error
            time.sleep(0.2)

    def sample(self, now: float) -> None:
        for name, process in self.watched.items():
            with suppress(psutil.NoSuchProcess), process.oneshot():
                many = process.num_handles() if sys.platform == "win32" else process.num_fds()
                self.report.samples.setdefault(name, []).append(
                    Sample(
                        round(now - self.begin, 1), round(process.memory_info().rss / 1e6, 3), many,
                        process.num_threads(), process.cpu_percent(), process.pid,
                    )
                )  # fmt: skip
        self.report.latencies_ms.append([round(now - self.begin, 1), *self.counter.latencies_ms()])

    def describe(self) -> str:
        memory = ", ".join(f"{name} {samples[-1].mb:.1f} MB" for name, samples in self.report.samples.items())
        hostile = f", {self.visits.value} hostile connections" if self.attack else ""
        return f"{sum(self.counter.spectra.values())} spectra{hostile}, {memory}"

    def finish_driver(self, stop: bool = False) -> None:
        """Wait for a driver's end; what it says it sent has to come out."""
        if self.driver is None:
            return
        if stop:
            self.driver.stop()
        self.driver.wait(LATE_S)
        path = self.folder / f"driver-{self.number}.json"
        (totals,) = json.loads(path.read_text(encoding="utf-8"))
        self.driver = None
        run = totals["run"]
        deadline = time.monotonic() + LATE_S
        while run not in self.counter.ended and time.monotonic() < deadline and totals["produced"]:
            time.sleep(0.05)
        end = self.counter.ended.pop(run, {})
        came = self.counter.spectra.get(run, 0)
        self.report.runs.append(
            {"run": run, "produced": totals["produced"], "sent": totals["sent"], "came": came}
            | {"lost": end.get("lost", "no end came"), "reason": totals["reason"]}
        )
        if totals["produced"] and not came == totals["sent"] == totals["produced"] == end.get("announced"):
            self.report.say(f"run {run}: {self.report.runs[-1]}")
        self.clear_files()

    def clear_files(self) -> None:
        """Check and delete what the recorder has finished."""
        for path in sorted((self.folder / "files").glob("*.h5")):
            if ".partial" in path.name:
                continue
            with h5py.File(path, "r") as file:
                rows, announced = len(file["raman/index"]), int(file["raman"].attrs["announced"])
                if rows != announced or (np.diff(file["raman/index"][:]) != 1).any():
                    self.report.say(f"{path.name}: {rows} spectra of {announced}")
            path.unlink()

    def end(self) -> None:
        """Ask all to end, in the order of the stream, and read what they say."""
        if self.attack is not None:
            self.attack.kill()
            self.report.hostile = self.visits.value
        self.finish_driver(stop=True)
        for name, program in (("recorder", self.recorder), ("daemon", self.daemon)):
            if program is None:
                continue
            program.stop()
            program.wait(LATE_S)
            code = program._process.returncode
            if code not in (0, EXIT_INCOMPLETE if name == "recorder" else 0):
                self.report.say(f"the {name} ended with {code}:\n{program.tail()}")
            path = self.folder / f"{name}.json"
            for each in json.loads(path.read_text(encoding="utf-8")):
                if any(each["lost"].values() if name == "daemon" else each["lost"].get("raman", {}).values()):
                    self.report.say(f"the {name} lost something: {each}")
        self.clear_files()
        if self.counter.gaps:
            self.report.say(f"{self.counter.gaps} frames came out of order or after a gap")

    def close(self) -> None:
        for program in (self.attack, self.driver, self.recorder, self.daemon):
            if program is not None:
                program.kill()
        self.counter.stop()


def settled(samples: list[Sample], seconds: float) -> list[Sample]:
    """Those after the warm-up."""
    since = samples[0].s + min(WARM_UP * seconds, WARM_UP_S)
    return [sample for sample in samples if sample.s >= since]


def growth_mb(samples: list[Sample]) -> float:
    """By a straight line through the samples, from the first to the last."""
    seconds = np.array([sample.s for sample in samples])
    if len(seconds) < 3:
        return 0.0
    slope = np.polyfit(seconds, [sample.mb for sample in samples], 1)[0]
    return float(slope * (seconds[-1] - seconds[0]))


def judge(report: Report) -> dict[str, dict[str, float]]:
    """Growth of each process; faults where it is too much."""
    grown: dict[str, dict[str, float]] = {}
    for name, samples in report.samples.items():
        seconds = report.minutes * 60
        if name == "driver":  # a process of its own for each run: the one that was there for longest
            pids = [sample.pid for sample in samples]
            longest = max(set(pids), key=pids.count)
            samples = [sample for sample in samples if sample.pid == longest]
            seconds = samples[-1].s - samples[0].s
        kept = settled(samples, seconds)
        if len(kept) < 3:
            continue
        fifth = max(len(kept) // 5, 1)
        first, last = (
            {what: float(np.median([getattr(s, what) for s in part])) for what in ("descriptors", "threads")}
            for part in (kept[:fifth], kept[-fifth:])
        )
        grown[name] = {
            "growth_mb": round(growth_mb(kept), 3),
            "mb": kept[-1].mb,
            "descriptors": last["descriptors"] - first["descriptors"],
            "threads": last["threads"] - first["threads"],
            "cpu": round(float(np.mean([sample.cpu for sample in kept])), 1),
        }
        if grown[name]["growth_mb"] > GROWTH_MB:
            backlog = " (frames that waited for the daemon? see the latency)" if name == "driver" else ""
            report.say(f"the {name} grew by {grown[name]['growth_mb']:.1f} MB{backlog}")
        for what in ("descriptors", "threads"):
            if grown[name][what] > 0:
                report.say(f"the {name} has {grown[name][what]:g} more {what} than after the warm-up")
    return grown


def draw(report: Report, path: Path) -> None:
    """Memory over time, each process."""
    try:
        import matplotlib as mpl
    except ImportError:
        print(f"no picture: matplotlib is not installed ({install_extra('demo')})")
        return
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(report.samples), sharex=True, figsize=(9, 2 + 2 * len(report.samples)))
    for axis, (name, samples) in zip(np.atleast_1d(axes), report.samples.items(), strict=True):
        for pid in dict.fromkeys(sample.pid for sample in samples):
            of = [sample for sample in samples if sample.pid == pid]
            axis.plot([sample.s / 60 for sample in of], [sample.mb for sample in of], "C0", lw=1)
        axis.set_ylabel(f"{name}, MB")
        axis.margins(y=0.3)
    np.atleast_1d(axes)[-1].set_xlabel("minutes")
    figure.suptitle(f"Resident memory, {report.rate:g} spectra/s")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=1000, help="spectra per second")
    parser.add_argument("--block", type=int, default=4, help="spectra to a message")
    parser.add_argument("--pixels", type=int, default=1340)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--run-minutes", type=float, default=5, help="length of one run; 0: one run only")
    parser.add_argument("--no-record", dest="record", action="store_false", help="count, write nothing")
    parser.add_argument("--every", type=float, default=5, help="seconds between two looks")
    parser.add_argument("--attack", type=float, default=0, help="hostile connections per second")
    parser.add_argument(
        "--port",
        type=int,
        default=5955,
        help="of the raw stream; results, preview and control on the next ones",
    )
    parser.add_argument("--output", type=Path, default=Path("soak-output"))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    run_minutes = given.run_minutes or given.minutes
    needed = 2 * run_minutes * 60 * given.rate * given.pixels * 4 * given.record
    if needed > shutil.disk_usage(given.output).free:
        parser.error(
            f"{needed / 1e9:.0f} GB are needed in {given.output}: shorten --run-minutes, or --no-record"
        )
    with tempfile.TemporaryDirectory(dir=given.output) as folder:
        soak = Soak(given, Path(folder))
        report = soak.report
        try:
            soak.work()
        except KeyboardInterrupt:
            print("interrupted: ending what is under way", flush=True)
            report.interrupted = True
        except Exception as error:
            report.say(f"{type(error).__name__}: {error}")
        report.minutes = round((time.monotonic() - soak.begin) / 60, 2)
        try:
            soak.end()
        except Exception as error:
            report.say(f"at the end, {type(error).__name__}: {error}")
        finally:
            soak.close()
    grown = judge(report)
    content = asdict(report) | {"processes": grown}
    (given.output / "soak.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    if report.samples:
        draw(report, given.output / "soak.png")
    came = sum(run["came"] for run in report.runs)
    produced = sum(run["produced"] for run in report.runs)
    print(f"{report.minutes:.1f} minutes, {len(report.runs)} runs: {produced} spectra produced, {came} came")
    if report.hostile:
        print(f"{report.hostile} hostile connections meanwhile")
    for name, numbers in grown.items():
        print(
            f"{name:>10}: {numbers['mb']:.1f} MB, grown by {numbers['growth_mb']:+.2f} MB, "
            f"{numbers['descriptors']:+g} descriptors, {numbers['threads']:+g} threads, "
            f"{numbers['cpu']:.0f} % of a core"
        )
    late = [each[1:] for each in report.latencies_ms if len(each) == 4]
    if late:
        median, most, _ = np.median(late, axis=0)
        print(f"   latency: p50 {median:.1f} ms, p99 {most:.1f} ms, largest {np.max(late):.0f} ms")
    print("nothing lost, nothing leaked" if not report.faults else f"{len(report.faults)} FAULTS")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
