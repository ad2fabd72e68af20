"""The engine `torch` on a GPU: one thread computes while another one compiles."""

import threading

import numpy as np
import pytest
from helpers import spectra_of

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("torch finds no CUDA device", allow_module_level=True)

from cars_rt.engines import compose, load_model  # noqa: E402
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
