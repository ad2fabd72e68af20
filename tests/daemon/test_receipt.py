"""What a receipt says in the log, and where it lies."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from cars_rt.daemon.receipt import Receipt


def a_receipt(**fields: Any) -> Receipt:
    given: dict[str, Any] = {
        "run": "run-1", "reason": "complete", "announced": 1000, "received": 1000, "sent": 1000,
        "frames_sent": 1000, "surplus": 0, "lost": {}, "ranges": [], "problems": {}, "made_by": [],
        "flagged": {}, "stalls": 0,
    }  # fmt: skip
    return Receipt(**given | fields)


@pytest.mark.parametrize(
    ("flagged", "level"),
    [
        ({}, None),
        ({"spike": 9}, logging.INFO),
        ({"spike": 10}, logging.WARNING),
        ({"spike": 1, "saturated": 1}, logging.WARNING),
        ({"empty": 1}, logging.WARNING),
    ],
)
def test_a_few_cosmic_rays_are_no_warning(
    flagged: dict[str, int], level: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    receipt = a_receipt(flagged=flagged)
    with caplog.at_level(logging.INFO, "cars_rt.daemon"):
        receipt.report()
    assert [each.levelno for each in caplog.records if "flags: " in each.message] == [level] * (
        level is not None
    )


def test_a_receipt_takes_no_other_ones_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for sent in (1, 2, 3):
        a_receipt(sent=sent).write(tmp_path)
    a_receipt(run="run-2").write(tmp_path)
    sent = {path.name: json.loads(path.read_text())["sent"] for path in tmp_path.iterdir()}
    assert sent == {"run-1.json": 1, "run-1-2.json": 2, "run-1-3.json": 3, "run-2.json": 1000}
    assert caplog.text.count("there is a receipt of a run run-1 already, so this one is") == 2
