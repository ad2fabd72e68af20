"""What the status line and the status say of the open run, and of one that is closed."""

from helpers import a_frame, a_line, a_start, an_end, spectra_of, wait_until

from cars_rt.daemon.seen.status import Status


def test_flags_and_losses_are_those_of_the_open_run_and_nothing_lost_is_said_to_be_none() -> None:
    with a_line() as (source, daemon, results):
        wait_until(lambda: daemon.snapshot().connected)
        status = Status()
        assert status.describe(daemon.snapshot()).endswith("idle; 0 runs so far")
        source.publisher.open(a_start())
        source.publisher.send(a_frame(0, spectra_of(1) * 0 + 500))
        source.publisher.send(a_frame(1, spectra_of(1) * 0 + 500, index=8))
        results.until(lambda all_: all_.spectra == 2)
        wait_until(lambda: daemon.snapshot().run_flagged.get("empty") == 2)
        source.publisher.end(an_end(2, announced=9))
        results.ends()
        wait_until(lambda: daemon.parts.runs.current is None)
        now = daemon.snapshot()
        assert now.flagged["empty"] == 2 and now.lost == {"upstream": 7}
        assert (now.run_announced, now.run_lost, now.run_flagged) == (0, {}, {})
        said = status.describe(now)  # the run began and ended since the last line
        assert "lost: 7 upstream" in said and "empty" not in said
        assert "7 upstream" not in status.describe(daemon.snapshot())  # it is said once
        source.publisher.open(a_start("run-2"))
        source.publisher.send(a_frame(0, spectra_of(1), "run-2"))
        source.publisher.send(a_frame(1, spectra_of(1), "run-2", index=4))
        results.until(lambda all_: all_.spectra == 4)
        wait_until(lambda: daemon.snapshot().run_lost == {"upstream": 3})
        for _ in range(2):  # of the open run in each line
            assert "lost: 3 upstream" in status.describe(daemon.snapshot())
