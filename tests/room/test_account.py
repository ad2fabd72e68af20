"""What is said at the end of a room, from receipts, recordings and the recorder's own words."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cars_rt.room.account import MOST, account

RECEIPT = {"run": "r", "reason": "complete", "announced": 5, "received": 5, "sent": 5, "lost": {}}


@pytest.mark.parametrize(
    ("receipt", "recorded", "lost"),
    [
        ({}, {"raw": {}, "raman": {}}, False),
        ({"lost": {"engine": 2}}, {}, True),
        ({}, {"raman": {"missing": 1}}, True),
        ({}, {"raw": {"elsewhere": 7, "unrecorded": 3}}, False),  # of a part of a recording, begun at will
        ({"lost": 3}, {}, True),
    ],
)
def test_whether_anything_was_lost(
    receipt: dict[str, Any], recorded: dict[str, Any], lost: bool, tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_text(json.dumps(RECEIPT | receipt), encoding="utf-8")
    (tmp_path / "summary").write_text(json.dumps([{"lost": recorded}]), encoding="utf-8")
    (tmp_path / "a.h5").touch()
    found = account(tmp_path, tmp_path, tmp_path / "summary", 0.0)
    assert found.lost == lost and found.lines[-1] == (
        f"1 recording in {tmp_path}; `cars-rt view {tmp_path / 'a.h5'}` shows the last one"
    )
    if not lost:
        assert found.lines[0] == "run r complete: 5 spectra announced, 5 received, 5 sent; lost: none"


def test_a_link_to_nowhere_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.h5").touch()
    try:
        (tmp_path / "old.h5").symlink_to(tmp_path / "not there" / "old.h5")
    except OSError:
        pytest.skip("this user may make no links here")
    found = account(None, tmp_path, None, 0.0)
    assert not found.lost and found.lines[0].startswith("1 recording in ")


def test_what_cannot_be_read_counts_as_lost_and_old_files_are_others(tmp_path: Path) -> None:
    assert account(None, None, None, 0.0).lines == [] and not account(None, None, None, 0.0).lost
    assert account(None, None, tmp_path / "none", 0.0).lost  # a recorder that was killed wrote no summary
    (tmp_path / "bad.json").write_text("[", encoding="utf-8")
    assert account(tmp_path, None, None, 0.0).lost
    os.utime(tmp_path / "bad.json", (1, 1))
    assert not account(tmp_path, None, None, 2.0).lost
    (tmp_path / "x.partial.h5").touch()
    found = account(None, tmp_path, None, 0.0)
    assert f"`cars-rt repair {tmp_path / 'x.partial.h5'}` finishes it" in found.lines[0]
    for number in range(MOST + 1):
        (tmp_path / f"{number}.json").write_text(json.dumps(RECEIPT), encoding="utf-8")
    assert len(account(tmp_path, None, None, 2.0).lines) == MOST + 1
