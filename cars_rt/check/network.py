"""How fast messages go from one process to another."""

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from cars_rt.check.load import Load
from cars_rt.check.processor import Costs
from cars_rt.check.report import Line, Verdict, compared
from cars_rt.check.settings import CheckSettings, Progress
from cars_rt.check.source import STEP_S
from cars_rt.installation import python
from cars_rt.protocol import Closed, End, Frame, Reason, RunReader, Start, StreamName
from cars_rt.protocol.messages import MAIN_ARRAY
from cars_rt.sockets import Publisher, StreamError, Subscriber

CHILD_S = 30.0  # how long the other process of the network's measurement may need to begin


def measure_network(settings: CheckSettings, load: Load, costs: Costs, progress: Progress) -> Line:
    """From one process to another through real sockets, counts and results one after the other."""
    streams: tuple[StreamName, StreamName] = ("raw", "raman")
    rates, about = [], []
    for number, stream in enumerate(streams):
        progress("network", number / 2 + 0.05)
        start = load.start_of(stream)
        try:
            spectra, seconds = _hop(start, settings.seconds / 2, costs)
        except (OSError, ValueError, subprocess.TimeoutExpired, StreamError) as error:
            text = f"no messages from one process of this computer to another: {error}"
            return Line(name="network", verdict=Verdict.FAILS, note=text)
        rates.append(spectra / seconds)
        mb = spectra * start.spectrum_bytes / seconds / 1e6
        about.append(f"{'counts' if stream == 'raw' else 'results'} {rates[-1]:,.0f}/s, {mb:.0f} MB/s")
    note = "; ".join(about) + ", between two processes here"
    if not any(local in settings.listen for local in ("//127.", "//localhost", "//[::1]")):
        note += "; the cable to the driver is not in it"
    return compared("network", load.rate, min(rates), "spectra/s", note)


def _hop(start: Start, seconds: float, costs: Costs) -> tuple[int, float]:
    """Spectra received from another process, and the seconds it took. Raises ValueError if that fails."""
    with _publishing(start, seconds) as child:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        if not address:
            said = child.communicate(timeout=CHILD_S)[1].strip().splitlines()
            raise ValueError(said[-1] if said else "the other process ended")
        spectra, took, busy = _receive(address, start.stream, seconds)
        costs[f"send {start.stream}"] = float(child.communicate(timeout=CHILD_S)[0])
        costs[f"receive {start.stream}"] = busy / spectra
        return spectra, took


def _receive(address: str, stream: StreamName, seconds: float) -> tuple[int, float, float]:
    """Spectra, seconds and processor time of a run, after its first frame. Raises ValueError without one."""
    reader, spectra, first, last, busy = RunReader(stream), 0, 0.0, 0.0, 0.0
    deadline = time.perf_counter() + CHILD_S + seconds
    with Subscriber(address, stream) as subscriber:
        subscriber.run = lambda: reader.run
        while time.perf_counter() < deadline:
            for event in reader.read(subscriber.receive(STEP_S) or [b"", b""]):
                if isinstance(event, Frame):
                    last = time.perf_counter()
                    if first:
                        spectra += len(event.block)
                    else:
                        first, busy = last, time.process_time()
                elif isinstance(event, Closed) and spectra:
                    return spectra, last - first, time.process_time() - busy
            subscriber.watch()
    raise ValueError("nothing came")


@contextmanager
def _publishing(start: Start, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Another process that publishes frames like these as fast as they are taken."""
    about = {"stream": start.stream, "pixels": start.pixels, "dtype": start.dtype, "block": start.block}
    program = "import sys; from cars_rt.check.network import publish; publish(sys.argv[1])"
    with subprocess.Popen(
        python("-c", program, json.dumps(about | {"seconds": seconds})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def publish(about: str) -> None:
    """The other process: says its address, then, when it is done, the processor time of one spectrum."""
    given = json.loads(about)
    stream: StreamName = given["stream"]
    run, block = uuid.uuid4().hex, given["block"]
    start = Start(
        stream=stream, run=run, time_ns=time.time_ns(), source="check", dtype=given["dtype"], block=block,
        raman_shift=np.linspace(600.0, 3100.0, given["pixels"]),
    )  # fmt: skip
    arrays = {MAIN_ARRAY[stream]: np.ones((block, given["pixels"]), given["dtype"])}
    with Publisher("tcp://127.0.0.1:*", stream, buffer_mb=16) as publisher:
        print(publisher.address, flush=True)
        if not publisher.wait_for_subscribers(1, CHILD_S):
            return
        publisher.open(start)
        sent, end, busy = 0, time.perf_counter() + given["seconds"], time.process_time()
        while time.perf_counter() < end:
            frame = Frame(
                stream=stream,
                run=run,
                sequence=sent,
                index=sent * block,
                time_ns=time.time_ns(),
                arrays=arrays,
            )
            sent += publisher.send(frame, STEP_S)
        cost = (time.process_time() - busy) / max(sent * block, 1)
        publisher.end(
            End(
                stream=stream, run=run, time_ns=time.time_ns(), frames=sent, spectra=sent * block,
                reason=Reason.COMPLETE,
            )
        )  # fmt: skip
    print(cost, flush=True)
