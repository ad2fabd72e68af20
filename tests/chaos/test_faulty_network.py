"""Frames that get lost, come twice, in another order or spoilt: the receipt names each of them."""

from pathlib import Path
from typing import Any

import pytest

from chaos import programs
from chaos.judge import came_out, disagreements, judge
from chaos.proxy import FaultyProxy
from chaos.wire import Tap

FAULTS: dict[str, dict[str, float]] = {
    "removed": {"remove": 0.05},
    "repeated": {"repeat": 0.05},
    "swapped": {"swap": 0.05},
    "spoilt": {"spoil": 0.05},
    "stale": {"stale": 0.05},
    "all": {"remove": 0.05, "repeat": 0.05, "swap": 0.05, "spoil": 0.05, "stale": 0.02},
    "most": {"remove": 0.2, "repeat": 0.2, "swap": 0.2, "spoil": 0.2, "stale": 0.1},
}


def through(tmp_path: Path, proxy: dict[str, Any], runs: int = 3, spectra: int = 1500) -> None:
    """Some runs through a faulty network; fails unless daemon and tap say of each what is true."""
    raw, raman = programs.addresses(2)
    totals, truth = tmp_path / "totals.json", tmp_path / "truth.jsonl"
    with (
        FaultyProxy(raw, **proxy) as network,
        Tap(raman, "raman") as results,
        programs.daemon(network.address, raman, totals) as daemon,
        programs.camera(raw, truth, runs=runs, spectra=spectra) as camera,
    ):
        assert camera.end() == 0, camera.said
        results.ends(runs)
        receipts = programs.totals_of(daemon, totals)
        yielded = {each["run"]: each for each in programs.truth_of(truth)}
    assert len(receipts) == len(yielded) == runs
    assert network.passed != network.came, "nothing went wrong; that proves nothing"
    for receipt in receipts:
        run = receipt["run"]
        true = judge(run, network.passed, network.came)
        assert true.announced == yielded[run]["yielded"] == spectra
        assert not disagreements(receipt, true.fate, true.problems)
        (end,) = results.of("end", run)
        assert not disagreements(end.header, true.fate)
        frames = [seen for seen in results.messages if seen.run == run]
        assert came_out(frames).tolist() == [index for index, cause in enumerate(true.fate) if not cause]
        assert end.header["frames"] == sum(seen.kind == "frame" for seen in frames)
        assert receipt["received"] == true.arrived
        for seen in frames:
            if seen.kind == "frame":
                assert seen.header["lost"] == (true.fate[: seen.index] != "").sum()


@pytest.mark.parametrize(
    ("faults", "seed"),
    [(faults, seed) for faults in FAULTS for seed in ([1, 2, 3] if len(FAULTS[faults]) > 1 else [1])],
)
def test_receipts_are_true_whatever_the_network_does(faults: str, seed: int, tmp_path: Path) -> None:
    through(tmp_path, FAULTS[faults] | {"seed": seed})
