"""The connection to the control socket used by two threads, closed, interrupted, inherited over a fork."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq
from helpers import PATIENCE_S, wait_until

from cars_rt.protocol import ProtocolError
from cars_rt.protocol.control import (
    Reply,
    Request,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)
from cars_rt.remote import Remote, RemoteError


class Daemon:
    """Answers requests for the status with their number, when it is allowed to."""

    def __init__(self) -> None:
        self.socket = zmq.Context.instance().socket(zmq.ROUTER)
        self.address = f"tcp://127.0.0.1:{self.socket.bind_to_random_port('tcp://127.0.0.1')}"
        self.asked = 0
        self.answers, self.stop = threading.Event(), threading.Event()
        self.answers.set()

    def serve(self) -> None:
        while not self.stop.is_set():
            if self.socket.poll(10):
                who, _, request = self.socket.recv_multipart()
                assert decode_request(request).do == "status"
                self.asked += 1
                self.answers.wait(PATIENCE_S)
                reply = encode_reply(Reply(result={"number": self.asked}))
                self.socket.send_multipart([who, b"", reply])


@contextmanager
def daemon() -> Iterator[Daemon]:
    one = Daemon()
    thread = threading.Thread(target=one.serve)
    thread.start()
    try:
        yield one
    finally:
        one.stop.set()
        one.answers.set()
        thread.join()
        one.socket.close(0)


def test_one_thread_asks_at_a_time_and_another_may_close() -> None:
    with daemon() as there, Remote(there.address) as remote:
        there.answers.clear()
        came: list[object] = []

        def ask() -> None:
            try:
                came.append(remote.ask("status", timeout_s=PATIENCE_S))
            except RemoteError as error:
                came.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: there.asked)
        with pytest.raises(RemoteError, match="another thread waits for an answer"):
            remote.ask("status")
        remote.close()
        thread.join(PATIENCE_S)
        assert came == [f"this connection to {there.address} was closed before the answer came"]
        with pytest.raises(RemoteError, match="is closed: make another one"):
            remote.ask("status")


def test_left_before_the_answer_it_asks_again() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with daemon() as there, Remote(there.address) as remote:
        there.answers.clear()
        with pytest.raises(KeyboardInterrupt):
            remote.ask("status", waiting=interrupt)
        there.answers.set()
        assert remote.ask("status", timeout_s=PATIENCE_S) == {"number": 2}


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_forked_process_asks_for_itself() -> None:
    program = """
import os, sys
from cars_rt.remote import Remote
with Remote(sys.argv[1]) as remote:
    print(remote.ask("status", timeout_s=60)["number"], flush=True)
    if (child := os.fork()) == 0:
        print(remote.ask("status", timeout_s=60)["number"], flush=True)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(remote.ask("status", timeout_s=60)["number"])
"""
    with daemon() as there:
        done = subprocess.run(
            [sys.executable, "-c", program, there.address], capture_output=True, text=True, timeout=120
        )
    assert (done.stdout.split(), done.returncode) == (["1", "2", "3"], 0), done.stderr


def test_what_no_message_can_hold_ends_nobody() -> None:
    """A folder whose name is no UTF-8, and a number beyond 64 bits."""
    reply = decode_reply(encode_reply(Reply(result={"path": "Gl\udce4ser/scan.h5"})))
    assert reply.result == {"path": "Gl\\udce4ser/scan.h5"}
    assert "Gl\\udce4ser" in (decode_reply(encode_reply(Reply(error="Gl\udce4ser"))).error or "")
    assert "the reply cannot be sent" in (decode_reply(encode_reply(Reply(result={"n": 2**70}))).error or "")
    for value in (2**70, "\udce4"):
        with pytest.raises(ProtocolError, match="the request cannot be sent"):
            encode_request(Request("shadow", {"model": value}))
