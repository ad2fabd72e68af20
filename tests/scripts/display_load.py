"""What the display costs: driver, daemon, recorder and a browser on one computer, with it and without.

    python tests/scripts/display_load.py                   # 1,000, 200, ten clients, pass-through
    python tests/scripts/display_load.py --only fast       # one part: slow, fast, clients, flood
    python tests/scripts/display_load.py --memory --minutes 30 # memory of page and server over time

Prints a line for each measurement, and JSON with --json FILE. The runs with and without the display
alternate, since other work on the computer changes what it can do.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))  # beside the packages of the tests

from helpers import Command, Published, a_frame, a_start, an_end, spectra_of, summary
from view.browser import a_browser

from cars_rt.remote import Remote
from cars_rt.sockets.free import free_addresses

SIMULATED = 3000  # spectra/s that the simulator makes; beyond, the same counts are sent again and again
BLOCK = 128


class Room:
    """Driver, daemon and recorder as processes; the daemon tells how it fared."""

    def __init__(
        self,
        folder: Path,
        rate: float,
        side: int,
        block: int,
        *,
        engine: str,
        rows: int | None = None,
        counts: bool = False,  # recorded, too
    ):
        self.folder, self.rate, self.scan = folder, rate, f"{rows or side}x{side}"
        self.total = (rows or side) * side
        self.block, self.engine, self.counts = block, engine, counts
        self.raw, self.raman, self.preview, self.spectra, self.control = free_addresses(5)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Daemon and recorder are there."""
        (self.folder / "scan.h5").unlink(missing_ok=True)
        with (
            Command(
                "record", self.folder / "scan.h5", "--raman", self.raman, "--overwrite", "--control", "none",
                "--summary", self.folder / "recorder.json",
                *(("--raw", self.raw) if self.counts else ()),
            ) as self.recorder,
            Command(
                "run", "--listen", self.raw, "--publish", self.raman, "--preview", self.preview,
                "--spectra", self.spectra, "--control", self.control, "--subscribers", "1",
                "--engine", self.engine, "--summary", self.folder / "daemon.json",
            ) as self.daemon,
        ):  # fmt: skip
            self.daemon.wait_for("listening to")
            yield

    def driver(self) -> Command:
        if self.rate > SIMULATED:
            where = self.raw, "--total", self.total, "--side", self.scan.partition("x")[2]
            return Command("--drive", *where, "--rate", self.rate, module=Path(__file__))
        return Command(
            "drive", "simulator", "--publish", self.raw, "--rate", self.rate, "--scan", self.scan,
            "--block", self.block, "--subscribers", 1 + self.counts, "--summary", self.folder / "driver.json",
        )  # fmt: skip

    def scan_once(self) -> dict[str, Any]:
        """One scan; what the daemon says of it."""
        with self.driver() as driver:
            with Remote(self.control) as remote:
                assert driver.end(600) == 0, driver.said
                while (status := remote.ask("status"))["runs"] < 1:
                    time.sleep(0.1)
            assert self.recorder.end() == 0, self.recorder.said
        (recorded,) = summary(self.folder / "recorder.json")
        with h5py.File(self.folder / "scan.h5") as file:  # exact, and nobody is asked meanwhile
            left = file["raman/time_out_ns"][:]
        took = float(left.max() - left.min()) / 1e9
        total = status["latencies"]["total"]
        return {
            "seconds": took, "rate": self.total / took, "lost": dict(status["lost"]),
            "recorded": recorded["rows"].get("raman", 0),
            "p50_ms": total["p50_ms"], "p99_ms": total["p99_ms"],
        }  # fmt: skip


@contextlib.contextmanager
def display(room: Room, *flags: object) -> Iterator[tuple[Command, str]]:
    where = "--preview", room.preview, "--spectra", room.spectra, "--control", room.control
    with Command("view", *where, "--recorder", "none", "--http", "127.0.0.1:0", *flags) as view:
        view.wait_for("the display is at ")
        yield view, view.said.partition("the display is at ")[2].split()[0]


COUNT = """
window.pictures = 0; window.lags = []
const before = CarsRT.hear
let tick = 0
const talk = Bokeh.documents[0].get_model_by_name("map").tags[0]
const image = Bokeh.documents[0].get_model_by_name("map").renderers[1].data_source
let fresh = false
image.patching.connect(() => { fresh = true }); image.change.connect(() => { fresh = true })
talk.properties.said.change.connect(() => {
  if (fresh) { fresh = false; requestAnimationFrame(() => { window.pictures += 1 }) }
})
"""


class Looking:
    """A browser before the display, in a thread of its own: pictures that it drew, lag at the end, memory."""

    def __init__(self, address: str) -> None:
        self.address, self.result = address, {}
        self.ready, self.done = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        assert self.ready.wait(120)

    def _look(self) -> None:
        with a_browser() as browser:
            browser.open(self.address)
            browser.page.evaluate(COUNT)
            self.ready.set()
            seen, begin, lag, memory = 0, None, None, []
            while not self.done.is_set():
                time.sleep(1.0)
                now = browser.page.evaluate("window.pictures")
                if now and begin is None:
                    begin, seen = time.monotonic(), now
                if begin is not None and now > seen + (self.result.get("pictures", 0)):
                    self.result.update(pictures=now - seen, until=time.monotonic() - begin)
                with contextlib.suppress(Exception):
                    if found := re.search(r"([\d.]+) s behind", browser.row("display")):
                        lag = float(found[1])
            whole = browser.page.evaluate("eyes.data('map', 1, 'image')[0].values.every(isFinite)")
            self.result |= {
                "lag_s": lag,
                "no_holes": whole,
                "health": browser.text("#health"),
                "memory": memory,
            }
            browser.page.screenshot(path=str(Path(tempfile.gettempdir()) / "display-load.png"))

    def end(self) -> dict[str, Any]:
        self.done.set()
        self.thread.join()
        if pictures := self.result.pop("pictures", 0):
            self.result["pictures_per_s"] = pictures / max(self.result.pop("until"), 1e-3)
        return self.result


def compare(name: str, folder: Path, repeats: int, **given: Any) -> dict[str, Any]:
    """The same scan without a display and with one, alternating."""
    found: dict[str, list[Any]] = {"without": [], "with": [], "seen": [], "server_cpu": []}
    for number in range(2 * repeats):
        room = Room(folder, **given)
        with room.open(), contextlib.ExitStack() as stack:
            if number % 2 == 0:
                found["without"].append(room.scan_once())
                continue
            view, address = stack.enter_context(display(room))
            looking = Looking(address)
            process = psutil.Process(view.process.pid)
            before = sum(process.cpu_times()[:2])
            one = room.scan_once()
            found["server_cpu"].append((sum(process.cpu_times()[:2]) - before) / one["seconds"])
            time.sleep(2)
            found["with"].append(one)
            found["seen"].append(looking.end())
        print(f"{name} {'without' if number % 2 == 0 else 'with'}: {json.dumps(found)}", file=sys.stderr)
    return found


async def read_as_a_browser(address: str, stop: asyncio.Event) -> None:
    """One more client: takes what it is sent and says that it has drawn it, as the page does."""
    from tornado.httpclient import AsyncHTTPClient, HTTPRequest
    from tornado.websocket import websocket_connect

    page = (await AsyncHTTPClient().fetch(address, connect_timeout=120, request_timeout=120)).body.decode()
    token = re.search(r'"token":"([^"]+)"', page)[1]  # type: ignore[index]
    session = websocket_connect(
        HTTPRequest(
            f"ws{address[4:]}ws",
            headers={"Origin": address.rstrip("/")},
            connect_timeout=120,
            request_timeout=120,
        ),
        subprotocols=["bokeh", token], max_message_size=2**28,
    )  # fmt: skip
    socket = await session
    talk = None
    await socket.write_message('{"msgid":"1","msgtype":"PULL-DOC-REQ"}')
    await socket.write_message("{}")
    await socket.write_message("{}")
    number = 1
    read_as_a_browser.there += 1  # type: ignore[attr-defined]
    while not stop.is_set():
        try:
            message = await asyncio.wait_for(socket.read_message(), 1)
        except TimeoutError:
            continue
        if message is None:
            return
        if isinstance(message, bytes):
            continue
        if talk is None and (found := re.search(r'"name":"[^"]*Talk","id":"([^"]+)"', message)):
            talk = found[1]
        if talk is not None and (ticks := re.findall(r'\\"tick\\": ?(\d+)', message)):
            number += 1
            asked = json.dumps([number, {"do": "drawn", "tick": int(ticks[-1])}])
            event = {"kind": "ModelChanged", "model": {"id": talk}, "attr": "asked", "new": asked}
            await socket.write_message(json.dumps({"msgid": str(number), "msgtype": "PATCH-DOC"}))
            await socket.write_message("{}")
            await socket.write_message(json.dumps({"events": [event]}))
            read_as_a_browser.drawn += 1  # type: ignore[attr-defined]


read_as_a_browser.drawn = read_as_a_browser.there = 0  # type: ignore[attr-defined]


def clients(folder: Path, count: int, side: int) -> dict[str, Any]:
    """What ten more clients cost server and daemon, at 200 spectra/s."""
    found: dict[str, Any] = {}
    for number in (0, count):
        room = Room(folder, 200.0, side, 1, engine="onnxruntime", rows=side // 3)
        with room.open(), display(room) as (view, address):
            stop = asyncio.Event()
            read_as_a_browser.drawn = read_as_a_browser.there = 0  # type: ignore[attr-defined]

            async def all_(number: int = number, address: str = address, stop: asyncio.Event = stop) -> None:
                await asyncio.gather(*(read_as_a_browser(address, stop) for _ in range(number)))

            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_until_complete, args=(all_(),))
            thread.start()
            while read_as_a_browser.there < number and thread.is_alive():  # type: ignore[attr-defined]
                time.sleep(0.2)
            pages, daemon = psutil.Process(view.process.pid), psutil.Process(room.daemon.process.pid)
            before = [sum(each.cpu_times()[:2]) for each in (pages, daemon)]
            one = room.scan_once()
            after = [sum(each.cpu_times()[:2]) for each in (pages, daemon)]
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            cores = [(b - a) / one["seconds"] for a, b in zip(before, after, strict=True)]
            drawn = read_as_a_browser.drawn / max(number, 1) / one["seconds"]  # type: ignore[attr-defined]
            found[f"{number} clients"] = {
                "server_cores": cores[0], "daemon_cores": cores[1], "p99_ms": one["p99_ms"],
                "lost": one["lost"], "drawn_per_client_s": drawn,
            }  # fmt: skip
    return found


def memory(folder: Path, minutes: float, rate: float, side: int) -> dict[str, Any]:
    """Memory of the server and of the browser's page, MB, while scans follow one another."""
    rows: list[list[float]] = []
    room = Room(folder, rate, side, 4, engine="onnxruntime")
    with room.open(), display(room) as (view, address), a_browser() as browser:
        browser.open(address)
        server, begin = psutil.Process(view.process.pid), time.monotonic()
        while time.monotonic() - begin < 60 * minutes:
            with room.driver() as driver:
                while driver.process.poll() is None and time.monotonic() - begin < 60 * minutes:
                    time.sleep(5)
                    heap = browser.page.evaluate("performance.memory.usedJSHeapSize") / 1e6
                    rows.append([time.monotonic() - begin, server.memory_info().rss / 1e6, heap])
                    print(
                        f"{rows[-1][0]:.0f} s: server {rows[-1][1]:.0f} MB, page {heap:.0f} MB",
                        file=sys.stderr,
                    )
                if driver.process.poll() is None:
                    driver.process.terminate()
                driver.end()
    return {"seconds_server_page_mb": rows}


def drive(address: str, rate: float, total: int, side: int) -> None:
    """A driver that costs little: blocks of 128 spectra of 160 pixels, made beforehand."""
    counts = spectra_of(BLOCK)
    with Published("raw", address) as source:
        source.wait()
        start = a_start("flood", block=BLOCK, spectra=total, scan=(total // side, side), step_um=(0.5, 0.5))
        source.publisher.open(start)
        begin = time.monotonic()
        for sequence, index in enumerate(range(0, total, BLOCK)):
            time.sleep(max(begin + index / rate - time.monotonic(), 0))
            assert source.publisher.send(a_frame(sequence, counts, "flood", index=index), 60)
        source.publisher.end(an_end(total // BLOCK, total, "flood"))
        assert source.publisher.flush(60)
        print(f"sent {total / (time.monotonic() - begin):.0f}/s", file=sys.stderr)
        time.sleep(1)  # for who is still reading


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--drive", help="used by itself")
    parser.add_argument("--total", type=int, default=0)
    parser.add_argument("--only", choices=("fast", "slow", "clients", "flood"))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1000.0, help="of --memory")
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.drive:
        drive(given.drive, given.rate, given.total, given.side)
        return
    found: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as temporary:
        folder, side = Path(temporary), given.side
        if given.memory:
            found["memory"] = memory(folder, given.minutes, given.rate, side)
        else:
            if given.only in (None, "fast"):
                found["fast"] = compare(
                    "fast", folder, given.repeats, rate=1000.0, side=side, block=4, engine=given.engine
                )
            if given.only in (None, "slow"):
                found["slow"] = compare(
                    "slow", folder, 1, rate=200.0, side=side, block=1, engine=given.engine, rows=side // 8
                )
            if given.only in (None, "clients"):
                found["clients"] = clients(folder, 10, min(side, 128))
            if given.only in (None, "flood"):
                found["flood"] = compare(
                    "flood",
                    folder,
                    given.repeats,
                    rate=50_000.0,
                    side=side,
                    block=128,
                    engine="passthrough",
                    rows=4 * side,
                )
    print(json.dumps(found, indent=1))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
