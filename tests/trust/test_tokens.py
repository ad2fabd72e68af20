"""The secret of control: who has the file may control the daemon, nobody else."""

import logging
import os
import stat
from contextlib import ExitStack
from pathlib import Path

import msgpack
import pytest
import zmq
from helpers import LOCAL, PATIENCE_S, Command, control_of, daemon_in_thread

from cars_rt.daemon.loop import Daemon
from cars_rt.daemon.seen.plain import plain
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.remote import Remote
from cars_rt.sockets.free import free_addresses
from cars_rt.trust import tokens
from cars_rt.trust.tokens import Token, TokenError

NOBODY = "tcp://127.0.0.1:9"
posix = pytest.mark.skipif(os.name != "posix", reason="permissions are not checked on Windows")


def asked(address: str, **request: object) -> dict[str, object]:
    """What a program answers that sends just this."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(address)
        socket.send(msgpack.packb({"cars_rt": 1, **request}))
        assert socket.poll(int(PATIENCE_S * 1e3))
        reply: dict[str, object] = msgpack.unpackb(socket.recv())
        return reply


def test_request_without_the_token_is_refused_counted_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with daemon_in_thread(NOBODY) as daemon:
        address = control_of(daemon)
        for request in ({"request": "stop"}, {"request": "pause", "token": ""}, {"request": "status"}):
            said = asked(address, **request, **({} if "token" in request else {"token": "a" * 43}))
            assert "answers only who gives its token" in str(said["error"])
            assert str(tokens.default_path(address)) in str(said["error"])
        assert asked(address, request="stop").get("error")
        assert not daemon.parts.paused and plain(daemon.snapshot())["refused"] == 4
        lines = [each for each in caplog.records if "without the token" in each.getMessage()]
        assert [each.levelno for each in lines if each.levelno > logging.DEBUG] == [logging.WARNING]
        with Remote(address) as remote:  # of the same user: it finds the token
            assert remote.ask("pause") == {"paused": True}
        text = tokens.default_path(address).read_text().strip()
        assert asked(address, request="resume", token=text) == {"cars_rt": 1, "result": {"paused": False}}


def test_each_daemon_has_its_own_token_and_a_new_one_after_a_restart() -> None:
    listen, control = NOBODY, free_addresses(1)[0]
    path = tokens.default_path(control)
    with daemon_in_thread(listen, control=control), daemon_in_thread(listen) as other:
        first = tokens.read(path)
        if os.name == "posix":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert tokens.read(tokens.default_path(control_of(other))) != first
        remote = Remote(control)
        assert remote.ask("status")
    assert not path.exists()
    with daemon_in_thread(listen, control=control):
        assert tokens.read(path) != first
        assert remote.ask("status")  # the one that was there before the restart
    remote.close()


def test_who_waits_for_a_daemon_gives_the_token_of_the_one_that_comes() -> None:
    control, came = free_addresses(1)[0], list[Daemon]()
    left = Token(control)  # by one that was killed
    with ExitStack() as stack, Remote(control) as remote:

        def begin() -> None:
            if not came:
                came.append(stack.enter_context(daemon_in_thread(NOBODY, control=control)))

        assert remote.ask("status", timeout_s=PATIENCE_S, waiting=begin)
        assert plain(came[0].snapshot())["refused"] == 0 and not left.matches(tokens.find(control))


def test_token_that_a_successor_wrote_stays() -> None:
    address = free_addresses(1)[0]
    first, second = Token(address), Token(address)
    first.remove()
    assert second.matches(tokens.find(address)) and not first.matches(tokens.find(address))
    second.remove()
    assert tokens.find(address) is None


def test_computers_that_share_a_home_have_tokens_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    address = free_addresses(1)[0]
    here = Token(address)
    with monkeypatch.context() as patch:
        patch.setattr(tokens.socket, "gethostname", lambda: "other.lab/../x")
        assert tokens.find(address) is None
        there = Token(address)
    assert there.path.parent == here.path.parent
    assert there.path.name.startswith("control-other.lab-..-x-127.0.0.1-")
    assert here.matches(tokens.find(address))
    for each in (here, there):
        each.remove()
        assert not each.path.exists()


def test_token_is_never_looked_up_for_another_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "default_path", lambda address: pytest.fail(address))
    assert tokens.find("tcp://192.0.2.1:5558") is None
    assert tokens.find("tcp://no.such.host.invalid:5558") is None


def test_token_that_is_given_is_never_told_to_another_computer(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("0123456789abcdef0123456789abcdef\n")
    for address in ("tcp://192.0.2.1:5558", "tcp://microscope.lab.invalid:5558"):
        with pytest.raises(TokenError, match="a token is not told to another computer"):
            Remote(address, token=path)
    Remote(NOBODY, token=path).close()  # such as the near end of a tunnel


def test_another_user_gets_in_by_the_file_that_is_shared_with_them(tmp_path: Path) -> None:
    (control,) = free_addresses(1)
    shared, home = tmp_path / "control.token", str(tmp_path / "home")
    with Command(
        "run", "--listen", NOBODY, "--publish", LOCAL, "--preview", "none", "--http", "none",
        "--control", control, "--control-token", shared, "--engine", "passthrough",
    ) as daemon:  # fmt: skip
        daemon.wait_for("ready for the driver")

        def ctl(*arguments: object) -> tuple[int, str]:
            with Command("ctl", "stop", "--address", control, *arguments, XDG_STATE_HOME=home) as command:
                return command.end(), command.said

        code, said = ctl()
        assert code == 1 and f"give the file {shared} with --token" in said
        code, said = ctl("--token", tmp_path / "none")
        assert code == 1 and "cannot read the token" in said and "Traceback" not in said
        assert ctl("--token", shared)[0] == 0
        assert daemon.end() == 0
    assert shared.exists()  # it stays for the next start, with whatever rights it was given


@posix
def test_token_that_is_given_must_be_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("0123456789abcdef0123456789abcdef\n")
    for mode, good in ((0o600, True), (0o640, True), (0o644, False), (0o660, False), (0o666, False)):
        path.chmod(mode)
        if good:
            assert Token(NOBODY, path).matches("0123456789abcdef0123456789abcdef")
        else:
            with pytest.raises(TokenError, match=f"mode {mode:03o}.*chmod 600"):
                Token(NOBODY, path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"short", "holds no token"), (b"\xff" * 40, "holds no token"), (b"x" * 5000, "more than the"),
     (b"a b\nc" * 9, "holds no token"), (None, "is no regular file")],
)  # fmt: skip
def test_file_that_holds_no_token_is_one_sentence(content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    elif os.name == "posix":
        os.mkfifo(path, 0o600)  # nobody writes to it: it must not be waited for
    else:
        pytest.skip("there are no named pipes in folders on Windows")
    with pytest.raises(TokenError, match=reason):
        Token(NOBODY, path)


@posix
def test_folder_that_cannot_be_written_is_said_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.raises(TokenError, match="--control-token, or give --control none"):
        Daemon(DaemonSettings(publish=LOCAL, preview=LOCAL, control=LOCAL))
