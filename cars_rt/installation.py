"""How this copy was installed: what begins it, and the command that installs what it lacks."""

import re
import shutil
import sys
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

NAME = "cars-rt"


def python(*arguments: str) -> list[str]:
    """The command of a process of our own, where no file in the current folder, such as random.py, takes a
    module's place."""
    return [sys.executable, "-P", *arguments]


def package_version(package: str) -> str | None:
    """The version of a package as installed; None if it is not there, or is by other means than pip. Nothing
    is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def pip_install(*requirements: str) -> str:
    """The command that installs packages into the environment of this program."""
    return " ".join([_pip("install"), *map(_quoted, requirements)])


def pip_uninstall(*packages: str) -> str:
    """The command that removes packages from the environment of this program."""
    return " ".join([_pip("uninstall"), *packages])


def install_extra(extra: str) -> str:
    """The command that installs what an extra of this package needs, such as train.

    From a checkout that is installed as editable it is `-e ".[train]"` there. Otherwise the requirements by
    name: whatever a wheel came from may be gone, and no index needs to know this package.
    """
    if folder := _checkout():
        where = "." if folder == Path.cwd() else str(folder)
        return f'{_pip("install")} -e "{where}[{extra}]"'
    return pip_install(*_requirements(extra))


def _pip(verb: str) -> str:
    """What does this to packages of this environment, as one has to call it in the current folder."""
    here = Path(sys.executable)
    found = shutil.which("pip")
    if found and Path(found).parent == here.parent:
        return f"pip {verb}"
    if here.is_relative_to(Path.cwd()):
        here = here.relative_to(Path.cwd())
    python = _quoted(str(here))
    if find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip {verb} --python {python}"
    return f"{python} -m pip {verb}"


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w./\\:@%+-]+", word) else f'"{word}"'


def _checkout() -> Path | None:
    """The folder that is installed as editable (PEP 610), or whose source this is; None for a copy."""
    package = _distribution()
    text = package.read_text("direct_url.json") if package else None
    if text is None:
        source = Path(__file__).parent.parent
        return source if package is None and (source / "pyproject.toml").is_file() else None
    import json

    about = json.loads(text)
    if not about.get("dir_info", {}).get("editable"):
        return None
    folder = Path(url2pathname(urlsplit(about["url"]).path))
    return folder if (folder / "pyproject.toml").is_file() else None


def _requirements(extra: str) -> list[str]:
    """As the package's metadata name them, such as torch>=2.4."""
    package = _distribution()
    lines = (package.requires or []) if package else []
    wanted = re.compile(rf"""\bextra\s*==\s*["']{extra}["']""")
    return [line.partition(";")[0].strip() for line in lines if wanted.search(line)]


@cache
def _distribution() -> Distribution | None:
    try:
        return distribution(NAME)
    except PackageNotFoundError:
        return None
