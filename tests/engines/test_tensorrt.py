"""TensorRT without a GPU: what is installed, which card it is for, memory, messages. With one: tests/gpu."""

import re
from dataclasses import replace
from enum import Enum, IntFlag
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import AXIS
from recipes import ADA, HOPPER, NO_GPU, RTX_THERE, TURING

from cars_rt.engines import EngineError, compose, engine_class, load_model, open_engine
from cars_rt.engines.tensorrt import device, gpu, product
from cars_rt.engines.tensorrt.engine import fit
from cars_rt.engines.tensorrt.gpu import Gpu, find_gpu
from cars_rt.engines.tensorrt.messages import Messages, OutOfMemoryError
from cars_rt.engines.tensorrt.product import RTX, TENSORRT, choose
from cars_rt.engines.tensorrt.session import parts
from cars_rt.installation import install_extra, pip_install, pip_uninstall


def test_rtx_refuses_cards_that_it_does_not_run_on() -> None:
    assert RTX.refuses(TURING) is RTX.refuses(ADA) is RTX.refuses(Gpu("RTX 5090", (12, 0))) is None
    refused = RTX.refuses(HOPPER)
    assert refused is not None and refused.startswith(
        "TensorRT-RTX does not run on the H100 (compute capability 9.0), only on 7.5, 8.0, 8.6, 8.9 "
        f"and 12.x; TensorRT does: {install_extra('tensorrt')}"
    )
    assert TENSORRT.refuses(HOPPER) is None
    for each in (RTX, TENSORRT):
        assert "needs 7.5 or newer" in str(each.refuses(Gpu("GTX 1080", (6, 1))))


def test_plans_of_tensorrt_are_for_one_gpu() -> None:
    assert TENSORRT.target(ADA) == "RTX 4090 (compute capability 8.9)" != TENSORRT.target(HOPPER)
    with pytest.raises(
        EngineError, match="TensorRT builds on the GPU that the plan is for, and there is none"
    ):
        TENSORRT.target(None)


@RTX_THERE
def test_product_is_chosen_by_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "PRODUCTS", (RTX,))
    assert choose(ADA) is choose(None) is RTX
    with pytest.raises(EngineError, match=r"TensorRT-RTX does not run on the H100"):
        choose(HOPPER)


def test_nothing_installed_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "PRODUCTS", (replace(TENSORRT, module="not_there"),))
    with pytest.raises(EngineError, match=re.escape(f"TensorRT is not installed: {install_extra('rtx')}")):
        choose(ADA)
    with pytest.raises(
        EngineError, match=re.escape(f"TensorRT is not installed: {install_extra('tensorrt')}")
    ):
        choose(HOPPER)


def test_product_that_cannot_be_loaded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_trt.py").write_text("raise OSError('libnvinfer.so.10: cannot open')")
    (tmp_path / "old_trt.py").write_text("__version__ = '8.6.1'")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EngineError, match=r"cannot be loaded \(libnvinfer.*\); install it again"):
        replace(TENSORRT, module="broken_trt").load()
    with pytest.raises(EngineError, match=r"TensorRT 8\.6\.1 is too old; 10\.3 or newer"):
        replace(TENSORRT, module="old_trt").load()


@RTX_THERE
def test_product_that_cannot_be_loaded_hides_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken_too.py").write_text("raise OSError('libnvinfer.so.10: cannot open')")
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = replace(TENSORRT, module="broken_too")
    monkeypatch.setattr(product, "PRODUCTS", (broken, RTX))
    assert product.suited(ADA) == [broken, RTX] and choose(ADA) is RTX
    (said,) = caplog.messages
    assert said.startswith("TensorRT is installed, but cannot be loaded (libnvinfer.so.10: cannot open); ")
    assert said.endswith("; TensorRT-RTX is taken")
    with pytest.raises(EngineError, match=r"TensorRT is installed, but cannot be loaded"):
        choose(HOPPER)


@NO_GPU
def test_engine_says_why_it_cannot_run_here() -> None:
    reason = engine_class("tensorrt").unavailable()
    assert reason is not None and "NVIDIA" in reason
    graph = compose(load_model(), AXIS)
    with pytest.raises(EngineError, match="NVIDIA"):
        open_engine("tensorrt", graph, 2)
    with pytest.raises(EngineError, match="NVIDIA"):
        engine_class("tensorrt")(graph, 2)


def test_no_driver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DRIVER", "libnotthere.so.1")
    with pytest.raises(
        EngineError, match=r"no NVIDIA driver here \(libnotthere.so.1 is not found\); install"
    ):
        find_gpu()


def test_no_package_for_the_device_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        device, "ADAPTERS", {"not_there.driver": ("", "", "this"), "nor.this": ("", "", "that")}
    )
    with pytest.raises(EngineError, match=r"neither this nor that is installed: .*pip install cuda-bindings"):
        device.device_class()


@RTX_THERE
def test_driver_older_than_the_wheel_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "PRODUCTS", (RTX,))
    assert RTX.cuda == 13
    assert choose(replace(ADA, cuda=(13, 0))) is RTX
    with pytest.raises(EngineError) as refused:
        choose(replace(ADA, cuda=(12, 8)))
    assert str(refused.value) == (
        "the installed TensorRT-RTX is built for CUDA 13, the NVIDIA driver here runs CUDA 12.8 at most; "
        "install driver 580 or newer, or tensorrt-rtx-cu12: "
        + pip_uninstall(
            "tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs"
        )
        + f", then {pip_install('tensorrt-rtx-cu12')}"
    )
    too_old = RTX.refuses(replace(ADA, cuda=(11, 4)))
    assert too_old is not None and too_old.endswith("11.4 at most; install driver 580 or newer")


def test_wheels_for_two_kinds_of_cuda_are_both_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share a folder, so that what is left of one is broken by the other."""
    wheels = ["any-trt-cu13", "any-trt-cu13-libs", "any-trt-cu12", "any-trt-cu12-bindings"]
    for name in wheels:
        about = tmp_path / f"{name.replace('-', '_')}-1.2.dist-info"
        about.mkdir()
        about.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = replace(RTX, module="any_trt")
    assert (found.installed_as, found.version, found.cuda) == ("any-trt-cu13", "1.2", 13)
    refused = found.refuses(replace(ADA, cuda=(12, 8)))
    assert refused is not None and f": {pip_uninstall(*wheels)}, then " in refused


def test_library_that_finds_no_driver_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "without_driver.py").write_text(
        "__version__ = '11.0'\n"
        "class ILogger:\n"
        "    INTERNAL_ERROR, ERROR = 0, 1\n"
        "class Runtime:\n"
        "    def __init__(self, logger):\n"
        "        logger.log(1, 'CUDA initialization failure with error: 35')\n"
        "        raise TypeError('pybind11::init(): factory function returned nullptr')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = replace(TENSORRT, module="without_driver")
    with pytest.raises(
        EngineError, match=r"factory.*nullptr.*failure with error: 35; NVIDIA's driver may be"
    ):
        found.make("Runtime", Messages(found.load()))


def test_runtime_says_why_it_refuses_a_plan() -> None:
    class Trt:
        EngineValidity = Enum("EngineValidity", ["VALID", "INVALID"])
        EngineInvalidityDiagnostics = IntFlag("EngineInvalidityDiagnostics", ["OLD", "UNSUPPORTED_CC"])

    class Runtime:
        def get_engine_validity(self, plan: bytes) -> tuple[Any, int]:
            return (Trt.EngineValidity.INVALID, 2) if plan else (Trt.EngineValidity.VALID, 0)

    assert product.invalidity(Trt, Runtime(), b"plan") == " (UNSUPPORTED_CC)"
    assert product.invalidity(Trt, Runtime(), b"") == product.invalidity(Trt, object(), b"plan") == ""


def test_package_that_stops_all_threads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuda.bindings.driver")
    monkeypatch.setattr(device, "package_version", lambda package: "12.8.0")
    with pytest.raises(
        EngineError, match=r"cuda-bindings 12\.8\.0 .*pip install \"cuda-bindings>=12\.9\.1\""
    ):
        device.device_class()


def test_slabs_begin_at_a_page() -> None:
    for shape in ((1, 1), (3, 1340), (256, 1000)):
        array = device.page_aligned(*shape)
        assert array.shape == shape and array.dtype == np.float32
        assert array.ctypes.data % device.PAGE == 0
        assert array.flags.c_contiguous and array.flags.writeable and not array.any()


def test_batch_is_halved_until_it_fits() -> None:
    tried: list[int] = []

    def attempt(batch: int) -> None:
        tried.append(batch)
        if batch > 50:
            raise OutOfMemoryError("too much")

    assert fit(256, attempt) == 32 and tried == [256, 128, 64, 32]

    def hopeless(batch: int) -> None:
        raise OutOfMemoryError("the memory does not suffice")

    with pytest.raises(EngineError, match="does not suffice; one spectrum is too much: end other programs"):
        fit(3, hopeless)

    def broken(batch: int) -> None:
        raise EngineError("not the memory")

    with pytest.raises(EngineError, match="not the memory"):
        fit(256, broken)


@pytest.mark.parametrize(("rows", "batch"), [(1, 1), (5, 2), (256, 256), (256, 100)])
def test_parts_are_all_rows_in_order(rows: int, batch: int) -> None:
    found = parts(rows, batch)
    assert [row for part in found for row in range(rows)[part]] == list(range(rows))
    assert all(0 < part.stop - part.start <= batch for part in found)


@RTX_THERE
def test_messages_tell_memory_from_other_errors() -> None:
    trt = RTX.load()
    messages = Messages(trt)
    messages.logger.log(trt.ILogger.WARNING, "hm")
    assert str(messages.error("no")) == "no: it does not say why"
    messages.logger.log(trt.ILogger.ERROR, "a layer\n is odd")
    error = messages.error("no")
    assert str(error) == "no: a layer is odd" and not isinstance(error, OutOfMemoryError)
    messages.clear()
    messages.logger.log(trt.ILogger.INTERNAL_ERROR, "Cuda Runtime (out of memory)")
    assert isinstance(messages.error("no"), OutOfMemoryError)
