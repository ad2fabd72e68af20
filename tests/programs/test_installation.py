"""What is built installs and runs where nothing else is, and advice names commands that work there."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from cars_rt import installation
from cars_rt.doctor.computer import read_packages
from cars_rt.engines.choice import without_remedy
from cars_rt.installation import install_extra, pip_install, pip_uninstall

ROOT = Path(__file__).parents[2]
PLACES = {
    "cars_rt": "cars_rt",
    "drivers": "cars_rt/drivers",
    "engines": "cars_rt/engines",
}  # source, installed
EXTRAS = ("demo", "train", "torch", "openvino", "rtx", "tensorrt")


class Copy:
    """The metadata of a copy that was installed in some way."""

    def __init__(self, direct_url: dict[str, object] | None) -> None:
        self.text = None if direct_url is None else json.dumps(direct_url)
        self.requires = ["numpy>=1.26", 'torch>=2.4; extra == "train"', "scipy>=1.12; extra == 'train'"]

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self.text


@pytest.fixture
def at_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder is a clone with its environment in it, which is not active."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.setattr(installation.shutil, "which", lambda name: None)
    return tmp_path


def installed(monkeypatch: pytest.MonkeyPatch, direct_url: dict[str, object] | None) -> None:
    monkeypatch.setattr(installation, "_distribution", lambda: Copy(direct_url))


def test_checkout_is_installed_again_from_its_folder(at_clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, {"url": at_clone.as_uri(), "dir_info": {"editable": True}})
    python = str(Path(".venv", "bin", "python"))
    assert install_extra("train") == f'{python} -m pip install -e ".[train]"'
    elsewhere = at_clone / "else where"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert install_extra("train").endswith(f'python -m pip install -e "{at_clone}[train]"')


@pytest.mark.parametrize(
    "direct_url",
    [None, {"url": "file:///tmp/cars_rt-0.1.0-py3-none-any.whl", "archive_info": {}},
     {"url": "file:///tmp/clone", "dir_info": {}}],
)  # fmt: skip
def test_copy_gets_what_is_missing_by_name(
    direct_url: dict[str, object] | None, at_clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, direct_url)
    assert install_extra("train").endswith('python -m pip install "torch>=2.4" "scipy>=1.12"')


def test_pip_is_that_of_this_environment(at_clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for found, said in (
        (at_clone / ".venv" / "bin" / "pip", "pip install x"),
        (Path("/usr/bin/pip"), f"{Path('.venv', 'bin', 'python')} -m pip install x"),
    ):
        monkeypatch.setattr(installation.shutil, "which", lambda name, found=found: str(found))
        assert pip_install("x") == said
    monkeypatch.setattr(sys, "executable", "/opt/my python/bin/python")
    assert pip_install("x>=1") == '"/opt/my python/bin/python" -m pip install "x>=1"'


def test_environment_without_pip_is_installed_into_by_uv(
    at_clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    monkeypatch.setattr(installation.shutil, "which", lambda name: "/usr/bin/uv" if name == "uv" else None)
    python = Path(".venv", "bin", "python")
    assert pip_install("x>=1") == f'uv pip install --python {python} "x>=1"'
    assert pip_uninstall("x", "y") == f"uv pip uninstall --python {python} x y"
    installed(monkeypatch, {"url": at_clone.as_uri(), "dir_info": {"editable": True}})
    assert install_extra("train") == f'uv pip install --python {python} -e ".[train]"'


def test_every_advice_is_a_command_for_this_copy() -> None:
    advice = [each.install for each in read_packages()] + [install_extra(extra) for extra in EXTRAS]
    assert all(re.search(r"\bpip\b.* install .*\w", each) and "cars-rt[" not in each for each in advice), (
        advice
    )
    for each in advice:
        assert without_remedy(f"needs the package x: {each}") == "needs the package x"


def test_no_page_installs_this_package_by_a_name_that_an_index_may_know_of_others() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert len(pages) > 10
    assert not [page for page in pages if "cars-rt[" in page.read_text(encoding="utf-8")]


def test_wheel_and_source_have_everything_and_run_where_nothing_else_is(tmp_path: Path) -> None:
    source, home = tmp_path / "source", tmp_path / "home"
    source.mkdir()
    for name in PLACES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, source, cwd=tmp_path)
    (wheel,), (archive,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    assert f'"{wheel.name}[view]"' in (ROOT / "README.md").read_text(encoding="utf-8")
    with zipfile.ZipFile(wheel) as opened:
        assert {name for name in opened.namelist() if name.startswith("cars_rt/")} == files_of(source, PLACES)
    with tarfile.open(archive) as opened_archive:
        inside = {name.partition("/")[2] for name in opened_archive.getnames()}
        assert files_of(source, {name: name for name in PLACES}) <= inside

    venv.create(home)
    python = Path(home, "Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=tmp_path,
    )
    place = sysconfig.get_path("purelib", vars={"base": str(home)})
    others = [
        each for each in sys.path if each.endswith("site-packages")
    ]  # the dependencies, not this package
    Path(place, "dependencies.pth").write_text("\n".join(others), encoding="utf-8")
    said = run(python, "-c", ABOUT, cwd=tmp_path)
    where, advice, *models = said.splitlines()
    assert Path(where).is_relative_to(home)
    assert '"torch>=' in advice and " -e " not in advice and str(python.relative_to(tmp_path)) in advice
    assert "cnn" in models
    command = python.with_name("cars-rt").with_suffix(python.suffix)
    said = run(command, "demo", "--seconds", 2, "--rate", 200, "--engine", "onnxruntime", cwd=tmp_path)
    assert "nothing was lost" in said and (tmp_path / "demo-output" / "scan.h5").is_file()


ABOUT = """
import cars_rt
from cars_rt.engines import load_model, shipped_models
from cars_rt.installation import install_extra
import cars_rt.drivers.simulator, cars_rt.engines.tensorrt
models = [load_model(name).card.name for name in shipped_models()]
print(cars_rt.__file__, install_extra("train"), *models, sep="\\n")
"""


def files_of(source: Path, places: dict[str, str]) -> set[str]:
    """Every file of the package, as it is called where it goes."""
    return {
        f"{place}/{path.relative_to(source / name).as_posix()}"
        for name, place in places.items()
        for path in (source / name).rglob("*")
        if path.is_file()
    }


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=150, env=clean_environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
