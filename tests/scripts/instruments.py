"""Real drivers through daemon and recorder, for a minute: nothing lost that the source did not lose itself.

    python tests/scripts/instruments.py                                  both, 60 s at 1,000 spectra/s
    python tests/scripts/instruments.py --source epics --seconds 20
    python tests/scripts/instruments.py --source genicam --rate 200      as fast as its virtual camera is

micromanager is its own demonstration camera, 1340 x 16 pixels of 16 bits, four spectra in each image, as it
makes no more than some 800 images a second, at the rate it comes to; epics is a PVAccess server in this
process, 1340 x 4 pixels, whose every pixel is the image's number and which loses some on purpose; genicam is
the virtual camera of the package genicam. Driver, daemon and recorder are real processes. What the file holds
is compared with what the source sent, and every receipt with it. The exit code is 1 if anything is missing
that the source did not lose.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cars_rt.files.filters import load_filters
from cars_rt.room.program import LoggedProgram
from cars_rt.sockets.free import free_addresses

sys.path.insert(0, str(Path(__file__).parents[1]))  # beside the packages of the tests


LATE_S = 240.0  # for a program to end when all has been measured, on a busy computer
COLUMNS, ROWS = 1340, 4


def micromanager(rate: float, spectra: int) -> list[str]:
    return [
        "micromanager", "--device", "DemoCamera/DCam", "--exposure-ms", f"{3000 / rate:g}", "--tracks", "4",
        "--property", "Camera.PixelType=16bit", "--property", f"Camera.OnCameraCCDXSize={COLUMNS}",
        "--property", "Camera.FastImage=1", "--region", f"0,100,{COLUMNS},16",
    ]  # fmt: skip


def genicam(rate: float, spectra: int) -> list[str]:
    producer = Path(str(find_spec("genicam").origin)).with_name("viky.cti")  # type: ignore[union-attr]
    features = ("PixelFormat=Mono8", f"AcquisitionFrameRate={rate:g}")
    flags = [part for each in features for part in ("--property", each)]
    # Its buffers are announced as 10 MB each, whatever the image.
    return ["genicam", "--producer", str(producer), "--ring-mb", "2000", *flags]


@contextmanager
def epics(rate: float, spectra: int) -> Iterator[tuple[list[str], Any]]:
    from drivers.detector import Detector

    detector = Detector(rate, shape=(ROWS, COLUMNS))
    os.environ |= detector.server.conf()  # type: ignore[attr-defined]
    try:
        yield ["epics", "cam:Image", "--acquire", "cam:Acquire"], detector
    finally:
        detector.unplug()


def measure(source: str, rate: float, seconds: float, folder: Path) -> list[str]:
    """Make one run, print what came of it; what is wrong."""
    spectra = round(rate * seconds)
    raw, raman, preview, display = free_addresses(4)
    summaries = {name: folder / f"{source}-{name}.json" for name in ("driver", "daemon", "recorder")}
    file = folder / f"{source}.h5"

    def run(flags: Sequence[str], detector: Any = None) -> float:
        shared = [
            "--axis", "500:3100", "--spectra", str(spectra), "--publish", raw, "--subscribers", "2",
            "--summary", str(summaries["driver"]),
        ]  # fmt: skip
        programs = [
            LoggedProgram(
                f"{source}-daemon",
                [
                    "run", "--listen", raw, "--publish", raman, "--preview", preview, "--control", "none",
                    "--spectra", display, "--subscribers", "1", "--summary", str(summaries["daemon"]),
                ],
                folder,
            ),
            LoggedProgram(
                f"{source}-recorder",
                [
                    "record", str(file), "--raman", raman, "--raw", raw, "--no-control", "--overwrite",
                    "--summary", str(summaries["recorder"]),
                ],
                folder,
            ),
        ]  # fmt: skip
        driver = LoggedProgram(f"{source}-driver", ["drive", *flags, *shared], folder)
        try:
            begin = time.monotonic()
            while driver.running and time.monotonic() < begin + seconds * 2 + LATE_S:
                time.sleep(1)
                if detector is not None and detector.unique > 100 and len(detector.injected) < seconds // 5:
                    detector.lost = 3 + 4 * len(detector.injected)  # 3, 7, 11, ... images
            driver.wait(LATE_S)
            took = time.monotonic() - begin
            programs[1].wait(LATE_S)
            programs[0].stop()
            programs[0].wait(LATE_S)
            if driver.code not in (0, 3):
                print(driver.tail())
        finally:
            for program in (driver, *programs):
                program.kill()
        return took

    if source == "epics":
        with epics(rate, spectra) as (flags, detector):
            took = run(flags, detector)
            injected = detector.injected
    else:
        took, injected = run({"micromanager": micromanager, "genicam": genicam}[source](rate, spectra)), []
    (driver,) = json.loads(summaries["driver"].read_text(encoding="utf-8"))
    return [f"{source}: {each}" for each in judged(file, driver, injected, spectra, source, took)]


def judged(
    path: Path,
    driver: dict[str, Any],
    injected: list[tuple[int, int]],
    spectra: int,
    source: str,
    took: float,
) -> Iterator[str]:
    load_filters()
    with h5py.File(path) as file:
        raw, raman = file["raw"], file["raman"]
        index, time_ns = raw["index"][:], raw["time_ns"][:]
        there = raman["index"][:]
        counts = raw["counts"][:, ::100]
        receipts = {name: json.loads(group.attrs["lost"]) for name, group in (("raw", raw), ("raman", raman))}
        announced = {name: int(group.attrs["announced"]) for name, group in (("raw", raw), ("raman", raman))}
        finite = bool(np.isfinite(raman["raman"][::97]).all())
    rate = (len(index) - 1) / max((time_ns[-1] - time_ns[0]) / 1e9, 1e-9)
    wanted = sum(count for _, count in injected)
    print(
        f"{source}: {driver['produced']} spectra in {(time_ns[-1] - time_ns[0]) / 1e9:.1f} s ({rate:.0f}/s, "
        f"{took:.0f} s with start and end); driver lost {driver['lost'] or 'none'}, injected {wanted} in "
        f"{len(injected)} gaps; file: {len(index)} counts, {len(there)} results, receipts {receipts}"
    )
    lost = sum(driver["lost"].values())
    if driver["produced"] != spectra or driver["produced"] != driver["sent"] + lost:
        yield f"the driver's receipt does not add up: {driver}"
    if set(driver["lost"]) - {"camera"}:
        yield f"the driver lost what its source had not: {driver['lost']}"
    if len(index) != driver["sent"] or len(there) != driver["sent"] or not np.array_equal(index, there):
        yield f"{driver['sent']} spectra were sent, {len(index)} counts and {len(there)} results recorded"
    for name in ("raw", "raman"):
        if announced[name] != spectra or sum(receipts[name].values()) != lost:
            yield f"the {name} receipt says {announced[name]} and {receipts[name]}"
    if not finite:
        yield "results that are no numbers"
    if injected or source == "epics":
        found = [(first, count) for cause, first, count in driver["ranges"] if cause == "camera"]
        if found != injected:
            extra = sum(count for _, count in found) - wanted
            print(f"{source}: PVAccess itself lost {extra} more; injected {injected}, found {found}")
            if not set(injected) <= set(found) and extra <= 0:
                yield f"gaps of {injected} were injected and {found} found"
        if not (counts == (index * ROWS)[:, None]).all():
            yield "counts are not those that the detector sent at these places"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", choices=("micromanager", "epics", "genicam"), action="append")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=1000.0, help="spectra per second")
    parser.add_argument(
        "--folder", type=Path, help="for logs, receipts and files; by default a temporary one"
    )
    given = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for source in given.source or ("micromanager", "epics"):
            wrong += measure(source, given.rate, given.seconds, folder)
    print("\n".join(wrong) or "nothing was lost that the source did not lose itself")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
