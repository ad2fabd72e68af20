"""Whole conversations with the running daemon: FUZZ_CONVERSATION messages, by FUZZ_SEED."""

import os
from pathlib import Path

import pytest
from scripts.fuzz_conversations import GROWTH_MB, converse

MESSAGES = int(os.environ.get("FUZZ_CONVERSATION", "5000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))


@pytest.mark.timeout(120 + MESSAGES // 500)
def test_valid_messages_in_wrong_orders_end_nothing(tmp_path: Path) -> None:
    report = converse(MESSAGES, SEED, tmp_path)
    assert not report.failed
    assert report.refused and report.runs > MESSAGES / 100 and len(report.problems) > 10
    assert report.growth_mb < GROWTH_MB, report.memory_mb
