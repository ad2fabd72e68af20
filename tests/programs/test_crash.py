"""No process ends without a word, and a test that waits in vain says which programs still live."""

import os
import signal

import pytest
from helpers import LOCAL, Command, wait_until


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_daemon_says_where_it_is_when_asked_and_when_it_crashes() -> None:
    with Command("run", "--listen", "tcp://127.0.0.1:9", "--publish", LOCAL) as daemon:
        daemon.wait_for("ready for the driver")
        daemon.process.send_signal(signal.SIGUSR1)
        daemon.wait_for("in serve")
        daemon.process.send_signal(signal.SIGSEGV)
        assert daemon.end() == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in daemon.said and daemon.said.count("in serve") >= 2


def test_a_test_that_waits_in_vain_names_the_programs() -> None:
    with (
        Command("keys", "show", "nothing.pub") as over,
        Command("run", "--listen", "tcp://127.0.0.1:9", "--publish", LOCAL) as lives,
    ):
        code = over.end()
        lives.wait_for("listening")
        with pytest.raises(AssertionError) as failure:
            wait_until(lambda: False, 0.0)
    text = str(failure.value)
    assert f"cars_rt keys show: ended with {code}" in text and "cars_rt run --listen: runs" in text
    assert os.name == "nt" or "Current thread" in text or "most recent call first" in text
