"""The engine `torch` on a GPU: one thread computes while another one compiles."""

import threading

import numpy as np
import pytest
from helpers import spectra_of

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("torch finds no CUDA device", allow_module_level=True)

from cars_rt.engines import compose, load_model  # noqa: E402
from cars_rt.engines.agreement import TOLERANCE, difference  # noqa: E402
from cars_rt.engines.base import FLOAT16  # noqa: E402
from cars_rt.engines.torch import Torch  # noqa: E402
from cars_rt.physics.microscope import Microscope  # noqa: E402

CAMERA = Microscope().raman_shift


def test_one_thread_computes_while_another_one_compiles() -> None:
    graph = compose(load_model("cnn"), CAMERA)
    counts = spectra_of(64, CAMERA)
    ended, troubles = threading.Event(), []
    with Torch(graph, 64) as engine:
        expected = engine.run(counts)

        def compile_others() -> None:
            try:
                for _ in range(3):
                    with Torch(graph, 64) as other:
                        assert np.allclose(other.run(counts), expected, atol=1e-2 * np.abs(expected).max())
            except BaseException as error:
                troubles.append(error)
            finally:
                ended.set()

        compiling = threading.Thread(target=compile_others)
        compiling.start()
        rounds = 0
        while not ended.is_set():
            assert np.array_equal(engine.run(counts), expected)
            rounds += 1
        compiling.join()
    assert not troubles and rounds


@pytest.mark.parametrize("name", ["cnn", "cnn-kk", "cnn-crimson2024"])
def test_convolutions_in_one_kernel_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many spectra as fill the GPU's multiprocessors, and with fewer."""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("the kernel needs compute capability 8.0")
    graph = compose(load_model(name), CAMERA)
    counts = spectra_of(512, CAMERA)
    with Torch(graph, 512) as engine:
        assert engine.precision != FLOAT16 or "in one kernel" in engine.describe()
        found = engine.run(counts), engine.run(counts[:1])
    monkeypatch.setattr(Torch, "_chain", lambda *_: None)
    with Torch(graph, 512) as plain:
        assert "in one kernel" not in plain.describe()
        expected = plain.run(counts), plain.run(counts[:1])
    for one, other in zip(found, expected, strict=True):
        assert difference(one, other) < TOLERANCE


def test_batches_under_way_at_once_do_not_touch_each_other() -> None:
    counts = spectra_of(3 * 64, CAMERA).reshape(3, 64, -1)
    with Torch(compose(load_model("cnn"), CAMERA), 64, slabs=3) as engine:
        expected = [engine.run(each) for each in counts]
        for _ in range(50):
            for slab, each in enumerate(counts):
                engine.inputs[slab][:64] = each
                engine.launch(slab, 64)
            for slab, right in enumerate(expected):
                engine.wait(slab)
                assert np.array_equal(engine.results(slab)["raman"][:64], right)
