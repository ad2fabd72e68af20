"""All that is around TensorRT's engine, for real on any NVIDIA card, with an engine that stands in for it."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cars_rt.engines import EngineError, Graph, load_model
from cars_rt.engines.base import FLOAT32
from cars_rt.engines.tensorrt import engine as engine_module
from cars_rt.engines.tensorrt.device import Device, page_aligned
from cars_rt.engines.tensorrt.engine import TensorRT
from cars_rt.engines.tensorrt.gpu import Gpu
from cars_rt.engines.tensorrt.messages import OutOfMemoryError
from cars_rt.engines.tensorrt.plans import Plans
from cars_rt.engines.tensorrt.product import TENSORRT
from cars_rt.engines.tensorrt.recipe import Key, profiles
from cars_rt.engines.tensorrt.session import Session

standin = pytest.importorskip("gpu.standin", reason="the stand-in needs cuda-bindings")

PRODUCT = replace(TENSORRT, module="gpu.standin", title="the stand-in")
PIXELS, BATCH, SLABS = 1340, 20, 3
KEY = Key("standin", "0", PRODUCT.module, "1", "here", FLOAT32, profiles(BATCH), 64)


GRAPH = Graph(b"", np.linspace(400, 3400, PIXELS), load_model())  # nothing of it but its length is looked at


def session_on(device: Device, plan: bytes | None = None) -> Session:
    return Session(device, PRODUCT, plan or standin.plan(PIXELS, BATCH), KEY, GRAPH, SLABS)


class Slabs:
    """Host memory for a session, and rounds through it against NumPy."""

    def __init__(self, device: Device, seed: int, rows: int = 2 * BATCH + 5) -> None:
        self.draw = np.random.default_rng(seed)
        self.dark = page_aligned(1, PIXELS)
        self.counts = [page_aligned(rows, PIXELS) for _ in range(SLABS)]
        self.raman = [page_aligned(rows, PIXELS) for _ in range(SLABS)]
        for array in (self.dark, *self.counts, *self.raman):
            device.pin(array)
        self.rows = rows

    def check(self, session: Session, rounds: int) -> None:
        """Slabs of random rows, larger than a batch too, under way at once; now and then another dark."""
        for number in range(rounds):
            if number % 7 == 0:
                self.dark[:] = self.draw.standard_normal(PIXELS)
                session.set_dark(self.dark)
            taken = self.draw.integers(1, self.rows + 1, SLABS)
            for slab, rows in enumerate(taken):
                self.counts[slab][:rows] = self.draw.standard_normal((rows, PIXELS))
                self.raman[slab][:] = np.nan
                session.launch(slab, self.counts[slab][:rows], {"raman": self.raman[slab][:rows]})
            for slab, rows in enumerate(taken):
                session.wait(slab)
                wanted = standin.expected(self.counts[slab][:rows], self.dark[0])
                assert np.allclose(self.raman[slab][:rows], wanted, atol=1e-5), (number, slab, rows)
                assert np.isnan(self.raman[slab][rows:]).all()

    def bind(self, session: Session) -> None:
        for slab, counts in enumerate(self.counts):
            session.bind(slab, counts, {"raman": self.raman[slab]})


def test_hundreds_of_rounds(device: Device) -> None:
    session = session_on(device)
    done, all_of_them = session.captured
    assert all_of_them == SLABS * (len(session._sizes) + 3)  # for 1, 4 and 16 spectra with copies, too
    assert done == (SLABS * len(session._sizes) if device.package == "cuda-bindings" else 0)
    slabs = Slabs(device, 1)
    slabs.check(session, 100)
    slabs.bind(session)
    assert session.captured[0] == (all_of_them if done else 0)
    slabs.check(session, 300)
    session.close()


def test_what_cannot_be_captured_runs_without_graphs(device: Device) -> None:
    session = session_on(device, standin.plan(PIXELS, BATCH, capturable=False))
    assert session.captured[0] == 0
    Slabs(device, 2).check(session, 50)
    session.close()


def test_memory_that_does_not_suffice_is_said(device: Device) -> None:
    with pytest.raises(OutOfMemoryError, match=r"the memory of the .* does not suffice"):
        session_on(device, standin.plan(PIXELS, BATCH, scratch=2**50))
    session = session_on(device)
    Slabs(device, 3).check(session, 5)
    session.close()


def test_plan_that_is_none_is_said(device: Device) -> None:
    with pytest.raises(
        EngineError, match=r"the stand-in cannot load the plan of standin on this GPU: no plan"
    ):
        session_on(device, b"junk")


@pytest.mark.parametrize("way", ["session", "device"])
def test_closed_with_work_under_way(device: Device, way: str) -> None:
    session, slabs = session_on(device), Slabs(device, 4)
    for slab in range(SLABS):
        session.launch(slab, slabs.counts[slab], {"raman": slabs.raman[slab]})
    if way == "session":
        session.close()
    device.close()


def test_one_thread_computes_while_another_one_opens(device: Device, gpu: Gpu) -> None:
    session, slabs = session_on(device), Slabs(device, 5)
    ended, troubles = threading.Event(), []

    def open_and_close() -> None:
        try:
            for _ in range(5):
                other = type(device)(gpu)
                opened = session_on(other)
                Slabs(other, 6).check(opened, 2)
                opened.close()
                other.close()
        except BaseException as error:
            troubles.append(error)
        finally:
            ended.set()

    opening = threading.Thread(target=open_and_close)
    opening.start()
    while not ended.is_set():
        slabs.check(session, 5)
    opening.join()
    assert not troubles
    session.close()


@pytest.fixture
def opened(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine with the stand-in as its product and plan."""
    monkeypatch.setattr(engine_module, "choose", lambda gpu: PRODUCT)
    monkeypatch.setattr(engine_module, "recipe", lambda graph, *_: _Made(graph.pixels))
    monkeypatch.setattr(engine_module, "plan_of", lambda made, *_: standin.plan(made.pixels, BATCH))


class _Made:
    key = KEY

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels


def test_engine_goes_on_where_memory_cannot_be_pinned(
    opened: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def pin(self: Device, array: object) -> None:
        raise OutOfMemoryError("cuMemHostRegister says CUDA_ERROR_OUT_OF_MEMORY")

    adapter = engine_module.device_class()
    monkeypatch.setattr(adapter, "pin", pin)
    graph = replace(GRAPH, model=load_model("kk"))
    with TensorRT(graph, BATCH, plans=Plans(tmp_path, tmp_path / "secret")) as engine:
        counts = np.random.default_rng(0).standard_normal((3 * BATCH, graph.pixels)).astype(np.float32)
        assert np.allclose(engine.run(counts), standin.expected(counts, np.float32(0)), atol=1e-5)
        assert "CUDA graphs" in engine.describe()
    assert "memory cannot be pinned (cuMemHostRegister" in caplog.text
