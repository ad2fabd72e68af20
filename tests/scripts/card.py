"""What takes an NVIDIA card: a few minutes on one say what works there, and how fast.

    python tests/scripts/card.py OUT                    all steps, the most valuable first
    python tests/scripts/card.py OUT --only torch,demo
    python tests/scripts/card.py OUT --seconds 200 --pycuda WHEELS

Each step is a process of its own with a limit, so that one that crashes or hangs costs no other.
OUT/card.json has all figures, also when this program is killed; what did not run is said at the end. WHEELS
is a folder with the sources of pycuda, for a computer that reaches no index of packages.
"""

import argparse
import itertools
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
sys.path.insert(0, str(TESTS))

LARGEST = 4096
SIZES = (1, 16, 256, 1024, 4096)
MEASURED_S = 0.6  # for each figure
TARGETS = {
    "first run, s": 2.0,
    "another axis, s": 0.05,
    "one spectrum, ms": 0.25,
    "spectra/s": 2e6,
    "demo, ms": 5.0,
}


def milliseconds(work: Callable[[], object], limit_s: float = MEASURED_S) -> dict[str, float]:
    """Median and 99th percentile of one call, ms."""
    for _ in range(3):
        work()
    found, ends = [], time.perf_counter() + limit_s
    while not found or time.perf_counter() < ends:
        begin = time.perf_counter()
        work()
        found.append(1e3 * (time.perf_counter() - begin))
    return {"p50": statistics.median(found), "p99": float(np.percentile(found, 99)), "calls": len(found)}


class Told(dict[str, Any]):
    """Figures of a step: each is printed and on disk as soon as it is there."""

    def __init__(self, path: Path) -> None:
        self._path, self._begin = path, time.perf_counter()

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        print(f"  {time.perf_counter() - self._begin:6.1f} s  {name}: {short(value)}", flush=True)
        self._path.write_text(json.dumps(self, indent=1), encoding="utf-8")


def short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {short(each)}" for key, each in value.items())
    return str(value)


def described(told: Told) -> None:
    import torch

    card = torch.cuda.get_device_properties(0)
    told["card"] = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    management = shutil.which("nvidia-smi")
    if management:
        command = [management, "--query-gpu=driver_version", "--format=csv,noheader"]
        told["driver"] = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    told["software"] = (
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores"
    )


def pytest_step(told: Told, *arguments: str) -> None:
    """pytest's last line; the text of every failure in a file beside the figures."""
    log = told._path.with_suffix(".log")
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider", "--durations=8"]
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.call(
            [*command, *arguments], stdout=file, stderr=subprocess.STDOUT, cwd=TESTS.parent
        )
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        if re.match(r"(FAILED|ERROR|SKIPPED|E  )", line):
            print(f"    {line[:200]}", flush=True)
    told["pytest"] = lines[-1] if lines else f"ended with {code}"


def gpu_tests(told: Told) -> None:
    pytest_step(told, "tests/gpu", "--ignore=tests/gpu/test_training.py", "--timeout=40")


def training_tests(told: Told) -> None:
    pytest_step(told, "tests/gpu/test_training.py", "--timeout=60")


def start_up(told: Told) -> None:
    """The engine `torch` from nothing to its first result, by part."""
    begin = time.perf_counter()
    import torch

    told["import torch, s"] = time.perf_counter() - begin
    torch.zeros(1, device="cuda")
    told["and CUDA, s"] = time.perf_counter() - begin

    from cars_rt.engines import compose, load_model
    from cars_rt.engines import torch as module
    from cars_rt.physics.microscope import Microscope

    axis = Microscope().raman_shift
    parts: dict[str, float] = {}

    def timed(name: str, function: Any) -> Any:
        def run(*arguments: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                parts[name] = parts.get(name, 0.0) + time.perf_counter() - begun

        return run

    module.halve = timed("half precision", module.halve)
    module.Torch._chain = timed("kernel", module.Torch._chain)
    module._Lane._warm_up = timed("warm-up", module._Lane._warm_up)
    module._Lane._capture = timed("capture", module._Lane._capture)
    begin = time.perf_counter()
    graph = compose(load_model("cnn"), axis, deviation=False)
    told["model and graph, s"] = time.perf_counter() - begin
    begin = time.perf_counter()
    engine = module.Torch(graph, LARGEST)
    ready = time.perf_counter() - begin
    told["engine, s"] = ready
    told["of that, s"] = parts | {"sizes": list(engine.sizes)}
    engine.run(np.ones((1, len(axis)), np.float32))
    told["first run, s"] = time.perf_counter() - begin
    other = compose(load_model("cnn"), axis + 7.0, deviation=False)
    begin = time.perf_counter()
    adopted = engine.adopt(other)
    engine.run(np.ones((1, len(axis)), np.float32))
    told["another axis, s"] = time.perf_counter() - begin
    told["without compiling"] = adopted
    begin = time.perf_counter()
    with module.Torch(compose(load_model("cnn"), axis, deviation=True), LARGEST):
        told["with the deviation, second in the process, s"] = time.perf_counter() - begin
    engine.close()


def rates(told: Told) -> None:
    """The engine as the daemon uses it: copies both ways, one batch after the other, and three under way."""
    from helpers import spectra_of

    from cars_rt.engines import compose, load_model
    from cars_rt.engines.onnxruntime import OnnxRuntime
    from cars_rt.engines.torch import Torch
    from cars_rt.physics.microscope import Microscope

    axis = Microscope().raman_shift
    some = spectra_of(256, axis)
    for name in ("cnn", "rnn", "cnn-kk"):
        graph = compose(load_model(name), axis, deviation=False)
        with Torch(graph, LARGEST) as engine, OnnxRuntime(graph, 64) as reference:
            wanted = reference.run(some[:64])
            found = engine.run(some[:64])
            told[f"{name}: off by, of the maximum"] = float(
                np.abs(found - wanted).max() / np.abs(wanted).max()
            )
            for counts in engine.inputs:
                for first in range(0, LARGEST, len(some)):
                    counts[first : first + len(some)] = some

            def alone(rows: int, engine: Torch = engine) -> None:
                engine.launch(0, rows)
                engine.wait(0)

            def in_turn(rows: int, at: list[int], engine: Torch = engine) -> None:
                engine.wait(at[0])
                engine.launch(at[0], rows)
                at[0] = (at[0] + 1) % 3

            for rows in SIZES if name == "cnn" else (1, 256, 4096):
                took = milliseconds(partial(alone, rows))
                told[f"{name}: {rows} at once, ms"] = took | {"spectra/s": 1e3 * rows / took["p50"]}
            for rows in (256, LARGEST):
                for slab in range(3):
                    engine.launch(slab, rows)
                begin, rounds, at = time.perf_counter(), 0, [0]
                while time.perf_counter() - begin < MEASURED_S:
                    in_turn(rows, at)
                    rounds += 1
                told[f"{name}: {rows}, three under way, spectra/s"] = (
                    rounds * rows / (time.perf_counter() - begin)
                )
                for slab in range(3):
                    engine.wait(slab)


class OnCard:
    """The graph of `cnn` as it runs on the card, and its parts one by one."""

    def __init__(self, model: str = "cnn") -> None:
        import torch
        from helpers import spectra_of

        from cars_rt.engines import compose, load_model
        from cars_rt.engines.graph import COUNTS, DARK, RAMAN
        from cars_rt.engines.half import halve
        from cars_rt.engines.program import Program
        from cars_rt.physics.microscope import Microscope

        # As the engine `torch` has it, for all that this process computes.
        torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = False
        self.torch, self.counts_name, self.raman = torch, COUNTS, RAMAN
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        axis = Microscope().raman_shift
        graph = compose(load_model(model), axis, deviation=False)
        self.content = halve(graph.onnx)[0] if self.device.type == "cuda" else graph.onnx
        self.program: Any = Program(self.content, self.device)
        self.given = {DARK: torch.zeros(len(axis), device=self.device)}
        for name, value in graph.parameters.items():
            self.given[name] = torch.from_numpy(value.copy()).to(self.device)
        some = np.tile(spectra_of(256, axis), (LARGEST // 256, 1))
        self.host16 = torch.from_numpy(some.astype(np.uint16))
        self.host = torch.from_numpy(some.astype(np.float32))
        if self.device.type == "cuda":
            self.host16, self.host = self.host16.pin_memory(), self.host.pin_memory()
        self.counts = self.host.to(self.device)

    def compute(self, counts: Any) -> Any:
        return self.program({self.counts_name: counts, **self.given})[self.raman]

    def captured(self, work: Callable[[], Any], stream: Any = None) -> tuple[Callable[[], None], Any]:
        """Work as a CUDA graph on a stream, and what it gives."""
        torch = self.torch
        stream = stream or torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                work()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            result = work()

        def replay() -> None:
            with torch.cuda.stream(stream):
                graph.replay()

        return replay, result

    def timed(self, work: Callable[[], Any]) -> dict[str, float]:
        def whole() -> None:
            work()
            self.torch.cuda.synchronize()

        return milliseconds(whole)


def copies(told: Told) -> None:
    """Where the time of a large batch goes, and what uint16 and overlapping copies would gain."""
    card = OnCard()
    torch = card.torch
    raman = torch.empty_like(card.host).pin_memory()
    with torch.inference_mode():
        on16 = torch.empty_like(card.host16, device=card.device)
        told["float32 up, ms"] = card.timed(lambda: card.counts.copy_(card.host, non_blocking=True))
        told["uint16 up, ms"] = card.timed(lambda: on16.copy_(card.host16, non_blocking=True))
        told["uint16 to float32 there, ms"] = card.timed(lambda: card.counts.copy_(on16))
        told["float32 down, ms"] = card.timed(lambda: raman.copy_(card.counts, non_blocking=True))
        replay, _ = card.captured(lambda: card.compute(card.counts))
        told["graph alone, ms"] = card.timed(replay)
        for name, host in (("float32", card.host), ("uint16", card.host16)):
            for depth in (1, 2, 3):
                told[f"{name}, {depth} under way, each with its buffers, spectra/s"] = _lanes(
                    card, host, depth
                )


def _lanes(card: OnCard, host: Any, depth: int) -> float:
    """Copy up, graph and copy down on a stream and in memory of its own for each batch under way."""
    torch, lanes = card.torch, []
    for _ in range(depth):
        stream = torch.cuda.Stream()
        there = torch.empty_like(host, device=card.device)
        down = torch.empty(host.shape, dtype=torch.float32).pin_memory()

        def work(there: Any = there, down: Any = down) -> None:
            there.copy_(host, non_blocking=True)
            down.copy_(card.compute(there.float()), non_blocking=True)

        # The memory, too: a graph does not keep what it copies from and to.
        lanes.append((card.captured(work, stream)[0], torch.cuda.Event(), stream, there, down))
    torch.cuda.synchronize()
    begin, rounds = time.perf_counter(), 0
    while time.perf_counter() - begin < MEASURED_S or rounds % depth:
        replay, event, stream, *_ = lanes[rounds % depth]
        event.synchronize()
        replay()
        event.record(stream)
        rounds += 1
    torch.cuda.synchronize()
    return rounds * LARGEST / (time.perf_counter() - begin)


def kernels(told: Told) -> None:
    """What the card spends the time of a batch on, by kernel."""
    card = OnCard()
    torch = card.torch
    with torch.inference_mode():
        for _ in range(3):
            card.compute(card.counts)
        kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as profile:
            card.compute(card.counts)
            torch.cuda.synchronize()
    rows = sorted(profile.key_averages(), key=lambda row: -row.self_device_time_total)[:24]
    for row in rows:
        told[row.key[:90]] = f"{row.self_device_time_total:.0f} us in {row.count}"


def chains(told: Told) -> None:
    """A run of convolutions as one kernel: alone, and in the graph beside the graph without."""
    from cars_rt.engines.chained.kernel import Kernel
    from cars_rt.engines.program import Program

    for model in ("cnn", "cnn-kk", "cnn-crimson2024"):
        card = OnCard(model)
        kernel = Kernel(card.content, card.device)
        taken: list[Any] = []

        def kept(features: Any, kernel: Kernel = kernel, taken: list[Any] = taken) -> Any:
            taken[:] = [features]
            return kernel(features)

        plain = card.program
        chained = Program(card.content, card.device, replace(kernel.replacement, function=kept))
        with card.torch.inference_mode():
            for rows in reversed(SIZES):
                counts, said = card.counts[:rows], f"{model}, {rows}: "
                for name, program in (("plain", plain), ("chained", chained)):
                    card.program = program
                    told[f"{said}{name}, ms"] = card.timed(card.captured(partial(card.compute, counts))[0])
                told[f"{said}kernel alone, ms"] = card.timed(
                    card.captured(partial(kernel, taken[0].clone()))[0]
                )


def features(told: Told) -> None:
    """The widest convolution among the features, in float32, by the order of its weights and of what it
    takes: cuDNN chooses its kernel by both."""
    card = OnCard()
    torch = card.torch
    orders = {"rows": torch.contiguous_format, "channels last": torch.channels_last}
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
        for rows in (LARGEST, 1):
            for (given, one), (of_weights, other) in itertools.product(orders.items(), orders.items()):
                x = torch.randn(rows, 8, 1, 168, device=card.device).contiguous(memory_format=one)
                w = torch.randn(8, 8, 1, 41, device=card.device).contiguous(memory_format=other)
                work = partial(torch.nn.functional.conv2d, x, w, padding=(0, 20))
                told[f"{rows}: {given}, weights {of_weights}, ms"] = card.timed(card.captured(work)[0])


def fusions(told: Told) -> None:
    """The graph alone: as it is, and all that inductor fuses fused."""
    card = OnCard()
    torch = card.torch
    with torch.inference_mode():
        for rows in (4096, 1, 256, 16):
            counts = card.counts[:rows]
            wanted = card.compute(counts).clone()
            begin = time.perf_counter()
            work = _fused_by_inductor(card, counts)
            found = work()
            told[f"{rows}: compiled in, s"] = time.perf_counter() - begin
            told[f"{rows}: off by, of the maximum"] = (
                (found - wanted).abs().max() / wanted.abs().max()
            ).item()
            if card.device.type == "cpu":
                continue
            told[f"{rows}: as it is, ms"] = card.timed(card.captured(partial(card.compute, counts))[0])
            told[f"{rows}: fused, ms"] = card.timed(card.captured(work)[0])


def _fused_by_inductor(card: OnCard, counts: Any) -> Callable[[], Any]:
    import torch._inductor
    from torch.fx.experimental.proxy_tensor import make_fx

    traced = make_fx(lambda given: card.compute(given))(counts)
    compiled = torch._inductor.compile(traced, [counts])

    def work() -> Any:
        found = compiled(counts)
        return found[0] if isinstance(found, (tuple, list)) else found

    return work


def demo(told: Told, engine: str = "torch") -> None:
    """A scan as the demo makes it, 1000 spectra/s; and one while models are exchanged."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "cars_rt",
            "demo",
            "--seconds",
            "5",
            "--engine",
            engine,
            "--no-browser",
        ]
        done = subprocess.run(
            [*command, "--output", folder], capture_output=True, text=True, timeout=40, check=False
        )
        lines = [line.strip() for line in done.stdout.splitlines()]
        told["exit code"] = done.returncode
        told["latency"] = next((line for line in lines if "latency from" in line), lines[-8:])
        log = Path(folder) / "daemon.log"
        if done.returncode or not log.exists():
            told["said"] = (done.stdout + done.stderr)[-2000:]
        if log.exists():
            told["daemon"] = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]


def swaps(told: Told) -> None:
    """Models exchanged under load."""
    command = [sys.executable, str(HERE / "reload.py"), "--times", "4", "--rate", "1000", "--engine", "torch"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    told["exit code"] = done.returncode
    told["said"] = (done.stdout + done.stderr).strip().splitlines()[-14:]


class PyCuda(threading.Thread):
    """Builds pycuda from its sources beside the other steps, on a core that they leave."""

    def __init__(self, wheels: Path, out: Path) -> None:
        super().__init__(daemon=True)
        self._wheels, self._out, self.site = wheels, out, out / "site"
        self.said = "is still being built"

    def run(self) -> None:
        begin = time.perf_counter()
        sources = Path(tempfile.mkdtemp()) / "sources"
        (archive,) = self._wheels.glob("pycuda-*.tar.gz")
        self.site = sources.parent / "site"
        unpack = [sys.executable, "-m", "tarfile", "-e", str(archive), str(sources)]
        with (self._out / "pycuda.log").open("w", encoding="utf-8") as log:
            subprocess.call(unpack, stdout=log, stderr=log)
            (folder,) = sources.iterdir()
            (folder / "siteconf.py").write_text("CUDA_ENABLE_CURAND = False\n", encoding="utf-8")
            install = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--no-index",
                "--no-deps",
                "--no-build-isolation",
            ]
            install += ["--target", str(self.site)]
            # Unoptimised: what it does is call the driver, and building it is most of this step.
            options = {**os.environ, "CFLAGS": "-O0 -g0", "CXXFLAGS": "-O0 -g0"}
            options["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
            code = subprocess.call([*install, str(folder)], stdout=log, stderr=log, env=options)
        tail = (self._out / "pycuda.log").read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
        self.said = f"was built in {time.perf_counter() - begin:.0f} s" if code == 0 else "cannot be built: "
        self.said += "" if code == 0 else " | ".join(tail)
        self.built = code == 0

    built = False


def pycuda_tests(told: Told) -> None:
    pytest_step(told, "tests/gpu/test_device.py", "tests/gpu/test_standin.py", "-k", "pycuda", "--timeout=40")


STEPS: dict[str, tuple[float, Callable[[Told], None]]] = {
    "card": (20, described),
    "tests": (60, gpu_tests),
    "start-up": (30, start_up),
    "rates": (40, rates),
    "demo": (40, demo),
    "copies": (25, copies),
    "chains": (40, chains),
    "features": (15, features),
    "inductor": (60, fusions),
    "pycuda": (30, pycuda_tests),
    "kernels": (15, kernels),
    "swaps": (35, swaps),
    "training": (60, training_tests),
}


def main() -> int:
    settings = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    settings.add_argument("out", type=Path)
    settings.add_argument("--only", default=",".join(STEPS))
    settings.add_argument("--seconds", type=float, default=200.0, help="of all steps together")
    settings.add_argument("--pycuda", type=Path, help="a folder with its sources, to build it from")
    settings.add_argument("--step", help=argparse.SUPPRESS)
    given = settings.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.step:
        STEPS[given.step][1](Told(given.out / f"{given.step}.json"))
        return 0
    return run_all(given)


def run_all(given: argparse.Namespace) -> int:
    begin = time.perf_counter()
    figures: dict[str, Any] = {}
    missing: list[str] = []
    building = PyCuda(given.pycuda, given.out) if given.pycuda else None
    if building is not None:
        building.start()
    for name in given.only.split(","):
        left = given.seconds - (time.perf_counter() - begin)
        environment = dict(os.environ)
        if name == "pycuda" and building is not None:
            building.join(max(0.0, min(left - 30, 60)))
            print(f"pycuda {building.said}", flush=True)
            if not building.built:
                missing.append(f"pycuda: {building.said}")
                continue
            places = [str(building.site), str(given.pycuda), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(places)
        if left < 8:
            missing.append(f"{name}: no time was left")
            continue
        print(f"{time.perf_counter() - begin:6.1f} s  {name}", flush=True)
        command = [sys.executable, __file__, str(given.out), "--step", name]
        said = _limited(command, min(STEPS[name][0], left), environment)
        if said:
            missing.append(f"{name}: {said}")
            print(f"    {said}", flush=True)
        written = given.out / f"{name}.json"
        if written.exists():
            figures[name] = json.loads(written.read_text(encoding="utf-8"))
            written.unlink()
        (given.out / "card.json").write_text(
            json.dumps({"targets": TARGETS, "steps": figures, "missing": missing}, indent=1), encoding="utf-8"
        )
    print(f"{time.perf_counter() - begin:6.1f} s in all; what did not run to its end:", flush=True)
    print("\n".join(f"    {line}" for line in missing) or "    nothing", flush=True)
    return 1 if missing else 0


def _limited(command: list[str], limit_s: float, environment: dict[str, str]) -> str:
    """Run it with all that it starts; what went wrong, or nothing."""
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if os.name == "posix":
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
    if code is None:
        return f"took longer than {limit_s:.0f} s"
    return "" if code == 0 else f"ended with {code}"


if __name__ == "__main__":
    sys.exit(main())
