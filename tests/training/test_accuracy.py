"""What the shipped models are good for, through the deployment graph, on axes and noise never seen."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the distributions are drawn with torch")

from cars_rt.engines import compose, load_model  # noqa: E402
from cars_rt.engines.onnxruntime import OnnxRuntime  # noqa: E402
from cars_rt.physics.microscope import Microscope, Simulator  # noqa: E402
from cars_rt.training.data.bcars import Bcars  # noqa: E402
from cars_rt.training.data.protocols import Crimson2024  # noqa: E402
from cars_rt.training.evaluation.candidates import candidate  # noqa: E402
from cars_rt.training.evaluation.scores import Scores, judge  # noqa: E402


def bent(pixels: int, bend: float) -> torch.Tensor:
    place = torch.linspace(0, 1, pixels, dtype=torch.float64)
    return (0.1 + 1999.9 * (place + bend * place * (1 - place))).float()


@pytest.mark.parametrize("name", ["cnn-crimson2024", "rnn-crimson2024"])
def test_no_axis_of_a_camera_is_worse_than_the_published_one(name: str) -> None:
    model = candidate(name).on(1)
    data = Crimson2024(31_000_011, 64)
    published = torch.from_numpy(np.arange(0.1, 2000, 1.9999)[:1000]).float()
    for axis in (published, bent(1250, 0.1), bent(1050, -0.1)):
        data.axis = lambda index, axis=axis: axis
        assert judge(model, data[0]).summary()["median_r2"] > 0.9955  # of 64 spectra; of many 0.997


@pytest.mark.parametrize("name", ["cnn", "rnn", "cnn-kk", "rnn-kk"])
def test_the_deviation_holds_in_every_decade_of_the_truth(name: str) -> None:
    """Of 384 spectra between 0.57 and 0.79; of many between 0.60 and 0.76."""
    model, data = candidate(name).on(1), Bcars(31_000_013, 32, 1)
    found = Scores.together(judge(model, data[index]) for index in range(12)).summary()
    shares = found["within_deviation_by_true"]
    assert len(shares) == 5 and all(0.57 < share < 0.79 for share in shares.values()), shares


@pytest.mark.parametrize("name", ["cnn-kk", "rnn-kk"])
def test_averages_of_dilutions_are_right(name: str) -> None:
    simulator = Simulator(Microscope(seed=5))
    axis = simulator.raman_shift
    with OnnxRuntime(compose(load_model(name), axis), 64, slabs=1) as engine:
        engine.set_dark(simulator.dark.astype(np.float32))
        for place, substance in enumerate(simulator.substances):
            if substance.name not in ("toluene", "DMSO", "acetonitrile"):
                continue
            for fraction in (1, 0.1):
                mixture = np.zeros((64, len(simulator.substances)))
                mixture[:, place] = fraction
                truth = simulator.raman(mixture[:1])[0]
                line = int(truth.argmax())
                found = engine.run(simulator.measure(mixture)).mean(axis=0)[line]
                assert found / truth[line] == pytest.approx(1, abs=0.15), (substance.name, fraction)
