"""Plans on disk: built once, believed only if they were written here; `cars-rt build`."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import AXIS, Command, spectra_of
from recipes import NO_GPU, RTX_THERE, Phases, small_recipe

from cars_rt.engines import EngineError
from cars_rt.engines.tensorrt import plans
from cars_rt.engines.tensorrt.engine import plan_of
from cars_rt.engines.tensorrt.plans import Plans, default_folder, default_secret

NO_FILES = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc, which takes no files")


@pytest.fixture(autouse=True)
def own_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test touches the user's own plans."""
    monkeypatch.setenv(plans.CACHE, str(tmp_path / "plans"))
    monkeypatch.setattr(plans, "default_secret", lambda: tmp_path / "plans.secret")
    yield


@pytest.fixture
def cache(tmp_path: Path) -> Plans:
    return Plans(tmp_path / "cache" / "plans", tmp_path / "data" / "secret")


def never() -> bytes:
    raise AssertionError("it is there already")


def test_plan_is_built_once(cache: Plans) -> None:
    assert cache.fetch("a", lambda: b"plan") == b"plan"
    assert cache.fetch("a", never) == b"plan"
    assert cache.fetch("b", lambda: b"other") == b"other"


@pytest.mark.skipif(os.name != "posix", reason="Windows: files inherit the folder's permissions")
def test_plans_are_readable_by_their_owner_alone(cache: Plans, tmp_path: Path) -> None:
    cache.store("a", b"plan")
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert cache.path("a") in found and tmp_path / "data" / "secret" in found
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in found)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        damage,
        lambda path: os.truncate(path, 40),
        lambda path: os.truncate(path, 3),
        lambda path: os.truncate(path, 0),
    ],
)
def test_damaged_plan_is_built_again(spoil: Any, cache: Plans, caplog: pytest.LogCaptureFixture) -> None:
    cache.store("a", b"plan" * 10)
    spoil(cache.path("a"))
    assert cache.load("a") is None
    assert cache.fetch("a", lambda: b"new") == b"new"
    assert cache.fetch("a", never) == b"new"
    assert "is damaged or was not written here" in caplog.text


def test_full_disk_costs_the_plan_and_not_the_run(
    cache: Plans, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def store(self: Plans, name: str, plan: bytes) -> None:
        raise EngineError(f"cannot write the plan {name}: No space left on device")

    monkeypatch.setattr(Plans, "store", store)
    assert cache.fetch("a", lambda: b"plan") == b"plan"
    assert "No space left on device; it is built again the next time" in caplog.text


@NO_FILES
def test_cache_in_which_nothing_can_be_made_costs_the_plan_and_not_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert Plans(Path("/proc"), wait_s=0.1).fetch("a", lambda: b"plan") == b"plan"
    assert "/proc/a.lock cannot be locked (No such file or directory): the plan is built all" in caplog.text
    assert "cannot write the plan /proc/a.plan" in caplog.text


def test_plan_of_somebody_else_is_not_loaded(cache: Plans, tmp_path: Path) -> None:
    other = Plans(cache.folder, tmp_path / "other secret")
    other.store("a", b"harmful")
    assert cache.load("a") is None
    cache.store("b", b"of b")
    cache.path("b").replace(cache.path("a"))
    assert cache.load("a") is None  # renamed


def test_plan_that_cannot_be_built_leaves_nothing(cache: Plans) -> None:
    def fails() -> bytes:
        raise EngineError("no")

    with pytest.raises(EngineError, match="no"):
        cache.fetch("a", fails)
    assert not list(cache.folder.glob("*.plan")) and not list(cache.folder.glob(".*"))


def test_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        EngineError, match=r"cannot keep plans in .*file.plans: .*; name a folder in CARS_RT_CACHE"
    ):
        Plans(tmp_path / "file" / "plans", tmp_path / "secret")


def test_secret_that_cannot_be_kept_is_said_with_its_own_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EngineError, match=r"cannot keep the secret of plans, .*file.s: .* XDG_DATA_HOME"):
        Plans(tmp_path / "plans", tmp_path / "file" / "s")


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
@pytest.mark.parametrize("unit", ["cars-rt", "cars-rt-room"])
def test_the_units_keep_plans_and_secret_where_they_may_write(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "deploy" / f"{unit}.service").read_text(encoding="utf-8")
    for name, value in re.findall(r"^Environment=(\w+)=(.+)$", text, re.MULTILINE):
        monkeypatch.setenv(name, value)
    (state,) = re.findall(r"^StateDirectory=(.+)$", text, re.MULTILINE)
    assert default_folder().is_relative_to(f"/var/lib/{state}")
    assert default_secret().is_relative_to(f"/var/lib/{state}")


def test_folder_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plans.CACHE, str(tmp_path / "here"))
    assert Plans(secret=tmp_path / "secret").folder == tmp_path / "here"


@RTX_THERE
def test_plan_of_a_recipe_is_kept(cache: Plans) -> None:
    plan = plan_of(small_recipe(), None, cache)
    told = Phases()
    assert plan_of(small_recipe(), None, cache, told) == plan
    assert not told.all
    damage(cache.path(small_recipe().key.name))
    assert len(plan_of(small_recipe(), None, cache, told)) > 1000
    assert told.all


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    return {
        "CARS_RT_CACHE": str(tmp_path / "cache"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "LOCALAPPDATA": str(tmp_path / "data"),
    }


@NO_GPU
@RTX_THERE
def test_two_processes_at_once_build_once(folders: dict[str, str]) -> None:
    axis, pixels = (("build", "cnn", *which, "--max-batch", "4") for which in (
        ("--axis", "800:1500:200"), ("--pixels", "200"),
    ))  # fmt: skip
    with Command(*axis, **folders) as one, Command(*pixels, **folders) as other:
        assert one.end() == other.end() == 0, one.said + other.said
        said = one.said + other.said
    assert said.count("building cnn") == 1
    assert said.count("cnn for 200 pixels, float16, batches up to 4, TensorRT-RTX") == 2
    assert len(list(Path(folders["CARS_RT_CACHE"]).glob("cnn-*.plan"))) == 1


@NO_GPU
@RTX_THERE
@NO_FILES
def test_build_that_can_keep_nothing_fails(folders: dict[str, str]) -> None:
    with Command("build", "cnn", "--pixels", "200", "--max-batch", "2", "--cache", "/proc", **folders) as it:
        assert it.end() == 1
    assert re.search(r"cannot write the plan /proc/cnn-.*; name another folder with --cache", it.said)


@NO_GPU
@RTX_THERE
def test_build_takes_the_axis_of_a_file_and_shows_layers(folders: dict[str, str], tmp_path: Path) -> None:
    np.savez(tmp_path / "like.npz", spectra=spectra_of(2), raman_shift=AXIS)
    command = [sys.executable, "-m", "cars_rt", "build", "cnn", "--like", str(tmp_path / "like.npz")]
    options = ["--max-batch", "2", "--inspect"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, env=os.environ | folders)
    assert done.returncode == 0, done.stderr
    assert "cnn for 160 pixels, float16, batches up to 2" in done.stderr
    assert re.search(r"network/+head/Conv +convolution +half \(-1, \d+, 1, \d+\)", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "say for what: --pixels N, --like FILE, or --axis LOW:HIGH:PIXELS"),
        (("--pixels", "160", "--axis", "800:1500:160"), "say for what: --pixels N, --like FILE"),
        (("--pixels", "175"), "175 pixels are too few for cnn, which sees 176 or more"),
        (("--axis", "1:2"), "--axis takes LOW:HIGH:PIXELS"),
        (("--axis", "800:1500:160", "--max-batch", "0"), "--max-batch must be from 1 to 4096"),
    ],
)
def test_build_says_what_it_lacks(arguments: tuple[str, ...], reason: str, folders: dict[str, str]) -> None:
    with Command("build", "cnn", *arguments, **folders) as command:
        assert command.end() == 1
        assert reason in command.said
