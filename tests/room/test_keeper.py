"""One part kept at work: restarts with growing pauses and an end, logs that do not grow without end."""

import errno
import json
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers import PATIENCE_S, wait_until

from cars_rt.room import glance, instrument
from cars_rt.room import keeper as keeper_module
from cars_rt.room import said as said_module
from cars_rt.room.instrument import Instrument
from cars_rt.room.keeper import Condition, Keeper
from cars_rt.room.part import Part, Role
from cars_rt.room.restarts import LONG_S, Restarts
from cars_rt.room.room import Room
from cars_rt.room.said import Line, Said, read_line
from cars_rt.room.shown import describe
from cars_rt.sockets.free import free_addresses


def test_pauses_grow_until_the_limit_and_a_long_life_begins_anew() -> None:
    restarts = Restarts(limit=4)
    assert [restarts.pause_s(1) for _ in range(4)] == [0.5, 1, 2, 4]
    assert restarts.pause_s(1) is None and restarts.total == 4
    assert restarts.pause_s(LONG_S) == 0.5 and restarts.total == 5
    many = Restarts(limit=99)
    assert [many.pause_s(0) for _ in range(9)][-1] == 30.0


def keeper(folder: Path, *command: str, limit: int = 1, role: Role = Role.DAEMON) -> Keeper:
    part = Part(role=role, command=(*command, "--log-format=json"))
    return Keeper(part, Said(part.name, folder, lambda name, line: None), Restarts(limit))


def test_a_part_that_cannot_work_is_given_up_and_the_others_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorder waits for a stream that nobody sends; the daemon has an engine that does not exist."""
    monkeypatch.setattr(instrument, "UNSEEN_S", 0.0)
    nobody = "tcp://127.0.0.1:9"
    recorder = keeper(tmp_path, "record", str(tmp_path), f"--raman={nobody}", role=Role.RECORDER)
    daemon = keeper(tmp_path, "run", "--engine=nonsense", "--http=none")
    wrong = keeper(tmp_path, "run", "--nonsense", role=Role.VIEW)
    room = Room([Instrument([recorder, daemon, wrong])])
    with caplog.at_level(logging.INFO, "cars_rt.room"):
        assert room.serve() == 1
    assert daemon.condition is wrong.condition is Condition.GIVEN_UP and recorder.condition is Condition.ENDED
    assert daemon.restarts.total == 1 and wrong.restarts.total == 0
    assert "the daemon died (exit code 1)" in caplog.text and "restart 1 follows in 0.5 s" in caplog.text
    assert "is not started again: 1 restart did not help" in caplog.text
    assert "is not started again: its flags are wrong" in caplog.text
    assert "the daemon is given up: the other parts end, too" in caplog.text
    log = (tmp_path / "daemon.log").read_text(encoding="utf-8")
    assert log.count("no engine is called 'nonsense'") == 2 and log.count("-- started as process") == 2


def test_a_part_that_the_system_cannot_start_now_is_tried_again_and_the_others_live(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a process was ended since there was no memory left."""

    def no_memory(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(keeper_module, "Program", no_memory)
    view = keeper(tmp_path, "view", role=Role.VIEW)
    view.start(0)
    assert view.condition is Condition.WAITING and view.restarts.total == 1 and view.pid is None
    assert "the view could not be started (Cannot allocate memory); restart 1 follows in 0.5 s" in caplog.text
    view.start(0)
    assert view.condition is Condition.GIVEN_UP
    view.kill()
    view.said.close()


class Hung(BaseHTTPRequestHandler):
    """A daemon whose loop stands still, while its thread for HTTP goes on."""

    server_version = "cars-rt"
    alive = "false"

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f'{{"alive": {self.alive}, "engine_name": "passthrough"}}'.encode())

    def log_message(self, *_: object) -> None:
        pass


def test_a_daemon_that_says_that_it_hangs_is_started_again_with_the_engine_that_it_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "EVERY_S", 0.05)
    nowhere = (f"--{flag}=none" for flag in ("preview", "spectra", "control", "http"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Hung) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        command = ("run", "--listen=tcp://127.0.0.1:9", "--publish=tcp://127.0.0.1:*", *nowhere)
        http = f"127.0.0.1:{server.server_address[1]}"
        part = Part(role=Role.DAEMON, command=(*command, "--log-format=json"), http=http)
        hung = Keeper(part, Said(part.name, tmp_path, lambda name, line: None), Restarts())
        room = Room([Instrument([hung])])

        def second_life() -> str:  # the first one may have lived for as long as it takes to be ready
            return (tmp_path / "daemon.log").read_text("utf-8").partition("ended with exit code")[2]

        try:
            wait_until(lambda: room.instruments[0].turn() or hung.restarts.total)
            monkeypatch.setattr(Hung, "alive", "true")
            wait_until(lambda: room.instruments[0].turn() or "ready for the driver" in second_life())
        finally:
            room.stop()
            code = room.serve()
            server.shutdown()
    assert code == 3 and hung.restarts.total == 1
    assert " spectra/s" not in second_life()  # as it says of the engine that it found fastest
    assert "the daemon hangs (its loop does not turn): it is ended" in caplog.text
    assert "restart 1 follows in 0.5 s" in caplog.text


@pytest.mark.parametrize("given", [(), ("--no-browser",)])
def test_a_display_that_was_seen_and_died_opens_no_other_browser(
    tmp_path: Path, given: tuple[str, ...]
) -> None:
    view = keeper(tmp_path, "view", *given, role=Role.VIEW)
    room = Instrument([view])
    for line, flags in (
        (b"died early", []),
        (b'{"level": "INFO", "message": "here", "link": "x"}', ["--no-browser"]),
    ):
        (path := tmp_path / "said").write_bytes(line + b"\nlast\n")
        view.said.listen(path.open("rb"))
        view.said.wait(PATIENCE_S)
        assert room._known(view) == ([] if given else flags)
    room.kill()
    view.said.close()


def test_a_display_that_died_lets_in_the_page_that_it_had(tmp_path: Path) -> None:
    """Nobody knows another secret than that of the address which was opened."""
    port = free_addresses(1)[0].rpartition(":")[2]
    nowhere = (f"--{flag}=none" for flag in ("spectra", "control", "recorder"))
    command = ("view", "--preview=tcp://127.0.0.1:9", f"--http=127.0.0.1:{port}", *nowhere)
    view = keeper(tmp_path, *command, "--allow-control", "--no-browser", role=Role.VIEW)

    def life() -> str:
        """Begin one, and get the address that it says."""
        view.said.linked = False
        view.start(0)
        wait_until(lambda: view.said.linked or view.pid is None)
        return view.said.last.text.split()[-1]

    try:
        link = life()
        view.hang("for this test")
        wait_until(lambda: view.look(lambda _: None) or view.condition is Condition.WAITING)
        assert "/login?token=" in link and life() == link
    finally:
        view.kill()
        view.said.close()
    address, secret = link.split("?token=")
    log = view.said.path.read_text("utf-8")
    assert log.count(f"the display is at {address}\n") == 2 and secret not in log  # others may read it


def test_lines_of_parts_are_read_as_they_are_and_cannot_play_with_the_terminal() -> None:
    line = {"level": "WARNING", "message": "12 %s\x1b[2J lost", "time": "now", "exc_info": "a\nb"}
    assert read_line(json.dumps(line).encode()) == Line(logging.WARNING, "12 %s\\x1b[2J lost\na\nb", "now")
    assert read_line(b'{"level": "INFO", "message": "here", "link": "http://a"}').link
    early = b'{"level": "WARNING", "message": "nobody publishes yet; waiting", "waits": true}'
    assert read_line(early).level == logging.INFO  # the room itself starts who is waited for
    assert read_line(b"plain \xff\x07\n") == Line(logging.INFO, "plain �\\x07")
    assert read_line(b"cars-rt: no such flag").level == logging.ERROR
    assert [read_line(odd).level for odd in (b"[1]", b"3", b'{"level": []}', b"{}")] == [logging.INFO] * 4


def test_a_log_is_cut_and_does_not_follow_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(said_module, "LOG_BYTES", 2000)
    said = Said("daemon", tmp_path, lambda name, line: None)
    for number in range(400):
        said.note(f"line {number:4d} of many")
    said.close()
    files = sorted(tmp_path.glob("daemon.log*"))
    assert len(files) == 1 + said_module.LOG_FILES and all(each.stat().st_size <= 2000 for each in files)
    assert "line  399" in (tmp_path / "daemon.log").read_text(encoding="utf-8")
    (tmp_path / "other.log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="is a link"):
        Said("other", tmp_path, lambda name, line: None)


def test_each_part_is_described_in_a_line(tmp_path: Path) -> None:
    daemon = keeper(tmp_path, "run")
    assert describe(daemon, None, 0) == "not started yet"
    daemon.start_at = time.monotonic() + 7
    assert describe(daemon, None, daemon.start_at - 7) == "is started again in 7 s"
    daemon.condition, daemon.said.last = Condition.RUNNING, Line(logging.INFO, "what it said\nbelow")
    assert describe(daemon, None, 0) == "what it said"
    status = {
        "state": "running",
        "spectra_in": 5,
        "spectra_out": 3,
        "lost": {"engine": 2},
        "waits_for": "a\x07",
    }
    assert describe(daemon, status, 0) == "running, 5 spectra in, 3 out, lost: 2 engine; a\\x07"
    daemon.said.close()
