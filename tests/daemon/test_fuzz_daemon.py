"""Mutated messages into the running daemon. FUZZ_MESSAGES says how many, FUZZ_SEED which ones."""

import os
from pathlib import Path

import pytest
from scripts.fuzz_daemon import GROWTH_MB, fuzz

MESSAGES = int(os.environ.get("FUZZ_MESSAGES", "20000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))


@pytest.mark.timeout(60 + MESSAGES // 1000)
def test_every_mutated_message_is_counted_and_the_memory_stays_flat(tmp_path: Path) -> None:
    report = fuzz(MESSAGES, SEED, tmp_path)
    assert not report.differences
    assert report.messages == MESSAGES and report.problems.total() > 0.9 * MESSAGES
    assert report.growth_mb < GROWTH_MB, report.memory_mb
