"""Subscribers of both streams that vanish by the thousand while runs begin all the time: nobody notices."""

from pathlib import Path

import numpy as np
from helpers import Command

from chaos import programs
from chaos.churn import LEAST
from chaos.judge import came_out
from chaos.wire import Tap

SECONDS = 8
SPECTRA = 40  # of each run


def test_runs_begin_while_subscribers_vanish(tmp_path: Path) -> None:
    raw, raman = programs.addresses(2)
    truth, totals = tmp_path / "truth.jsonl", tmp_path / "totals.json"
    with (
        programs.daemon(raw, raman, totals) as daemon,
        Tap(raman, "raman") as results,
        programs.camera(raw, truth, runs=100_000, spectra=SPECTRA, rate=2000) as camera,
    ):
        results.until(lambda tap: tap.of("end"))
        with Command(SECONDS, raw, raman, module="chaos.churn", PYTHONPATH=str(programs.TESTS)) as churn:
            assert churn.end() == 0, churn.said
        assert int(churn.said) >= LEAST
        camera.process.terminate()
        assert camera.end() == 0, camera.said
        last = programs.truth_of(truth)[-1]["run"]
        results.until(lambda tap: tap.of("end", last))
        receipts = programs.totals_of(daemon, totals)
    assert len(receipts) > 5 and all(not each["lost"] for each in receipts)
    for receipt in receipts[1:]:
        index = came_out([seen for seen in results.messages if seen.run == receipt["run"]])
        assert np.array_equal(index, np.arange(receipt["announced"])), receipt
