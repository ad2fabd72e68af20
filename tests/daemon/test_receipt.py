"""What a receipt says in the log."""

import logging

import pytest

from cars_rt.daemon.receipt import Receipt


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
    receipt = Receipt(
        run="run-1", reason="complete", announced=1000, received=1000, sent=1000, frames_sent=1000, surplus=0,
        lost={}, ranges=[], problems={}, made_by=[], flagged=flagged, stalls=0,
    )  # fmt: skip
    with caplog.at_level(logging.INFO, "cars_rt.daemon"):
        receipt.report()
    assert [each.levelno for each in caplog.records if "flags: " in each.message] == [level] * (
        level is not None
    )
