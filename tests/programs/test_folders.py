"""Folders: the one that was asked for by name is made, never those above it, by any command."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Command

from cars_rt.daemon.settings import DaemonSettings, SettingsError
from cars_rt.storage import StorageError, make_folder
from cars_rt.trust import keys

MAKERS: list[tuple[Callable[[Path], object], type[Exception]]] = [
    (make_folder, StorageError),
    (lambda path: DaemonSettings(receipts=path).make_folders(), SettingsError),
    (lambda path: keys.create("a", path, overwrite=True), keys.KeysError),
]


@pytest.mark.parametrize(("make", "error"), MAKERS)
def test_only_the_last_folder_of_a_path_is_made(
    make: Callable[[Path], object], error: type[Exception], tmp_path: Path
) -> None:
    make(tmp_path / "new")
    make(tmp_path / "new")  # it may be there
    assert (tmp_path / "new").is_dir()
    with pytest.raises(error, match=r"cannot be made: there is no folder .*not-mounted; make that, mount"):
        make(tmp_path / "not-mounted" / "new")
    (tmp_path / "file").touch()
    with pytest.raises(error, match="is no folder"):
        make(tmp_path / "file")
    assert not (tmp_path / "not-mounted").exists()


@pytest.mark.parametrize(
    "command",
    [
        "demo --seconds 1 --output {}/new",
        "run --flight {}/new",
        "check --output {}",
        "record {}/scan.h5",
        "drive simulator --truth {}/truth.h5",
    ],
)
def test_no_command_makes_what_was_not_named(command: str, tmp_path: Path) -> None:
    missing = tmp_path / "not-mounted"
    code, out, text = Command.ran(*command.format(missing).split())
    said = (out + text).strip()
    assert code == 1, said
    assert "not-mounted" in said and len(said.splitlines()) == 1, said
    assert not list(tmp_path.iterdir())
