"""What other authors bring: packages with engines, drivers and formats by their entry points, and models."""

import math
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from cars_rt.engines.model import SHIPPED


def a_package(place: Path, name: str, modules: dict[str, str], group: str, entries: list[str]) -> Path:
    """A package of another author, installed by pip: the folder that it lies in.

    modules: content by file name. entries: lines of its entry points in this group.
    """
    about = f"{name}-1.dist-info/"
    files = modules | {
        about + "METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1\n",
        about + "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        about + "entry_points.txt": f"[{group}]\n" + "\n".join(entries) + "\n",
    }
    files[about + "RECORD"] = "".join(f"{each},,\n" for each in [*files, about + "RECORD"])
    wheel = place / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for each, content in files.items():
            archive.writestr(each, content)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target"]
    subprocess.run([*pip, str(place / "site"), str(wheel)], check=True, timeout=120)
    return place / "site"


def found_by_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages in this folder are there, also for programs that a test starts."""
    monkeypatch.syspath_prepend(folder)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path.rstrip(os.pathsep))


WRONG_ENGINE = """
from cars_rt.engines.onnxruntime import OnnxRuntime

class Off(OnnxRuntime):
    name = "off"
    def wait(self, slab):
        self.outputs[slab] *= 1.1
"""


def wrong_engine(folder: Path) -> str:
    """The engine `off`, which computes wrong, as a package in this folder: the PYTHONPATH that has it."""
    about = folder / "foreign-1.dist-info"
    about.mkdir()
    (folder / "foreign.py").write_text(WRONG_ENGINE, encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[cars_rt.engines]\noff = foreign:Off\n", encoding="utf-8")
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def a_model_of_nothing(folder: Path) -> Path:
    """`nan.onnx`: `cnn`, whose raman is not finite."""
    model = onnx.load(SHIPPED / "cnn.onnx")
    for node in model.graph.node:
        node.output[:] = ["finite" if each == "raman" else each for each in node.output]
    model.graph.initializer.append(helper.make_tensor("nan", TensorProto.FLOAT, [], [math.nan]))
    model.graph.node.append(helper.make_node("Mul", ["finite", "nan"], ["raman"]))
    path = folder / "nan.onnx"
    onnx.save(model, path)
    return path
