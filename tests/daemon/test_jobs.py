"""The thread that does what it is asked for."""

import zmq
from helpers import PATIENCE_S

from cars_rt.daemon.compute.jobs import Jobs


def test_bell_that_nobody_hears_keeps_no_thread() -> None:
    """A loop that ended reads its bell no more, whatever the threads still had to do."""
    with zmq.Context.instance().socket(zmq.PULL) as bell:
        bell.bind("inproc://a-bell-of-a-test")
        jobs = Jobs("a test", "inproc://a-bell-of-a-test", lambda: None)
        done = [jobs.ask(lambda: None) for _ in range(5_000)]
        jobs.close()
        assert jobs.join(PATIENCE_S)
        assert all(each.done() for each in done)
