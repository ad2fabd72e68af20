"""A network's run of convolutions as one kernel: the kernel itself, computed by the processor."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch")

from cars_rt.engines import compose, load_model  # noqa: E402
from cars_rt.engines.chained import kernel as kernel_of_gpu  # noqa: E402
from cars_rt.engines.chained import table  # noqa: E402
from cars_rt.engines.chained.chain import Chain, UnchainedError  # noqa: E402
from cars_rt.engines.graph import COUNTS, DARK, RAMAN  # noqa: E402
from cars_rt.engines.half import halve  # noqa: E402
from cars_rt.engines.program import Program, Replacement  # noqa: E402

from .conftest import Run  # noqa: E402

CAMERA = np.linspace(600.0, 1240.0, 256)  # 32 columns of 8 points


@pytest.mark.parametrize("name", ["cnn", "cnn-kk", "cnn-crimson2024"])
def test_whole_graph_with_the_kernel_in_it_gives_what_it_gives_without(name: str, kernel: Run) -> None:
    graph = compose(load_model(name), CAMERA)
    content, _ = halve(graph.onnx)
    chain = Chain(onnx.load_model_from_string(content).graph)

    def compute(features: Any) -> tuple[Any, ...]:
        found = kernel(chain, features[:, :, 0].numpy())
        return (torch.from_numpy(found)[:, :, None],) * len(chain.outputs)

    cpu = torch.device("cpu")
    whole = Program(content, cpu, Replacement(compute, chain.input, chain.outputs, chain.made))
    counts = 1000 + 300 * np.cos(np.arange(2 * graph.pixels).reshape(2, -1) / 7)
    given = {COUNTS: torch.from_numpy(counts.astype(np.float32)), DARK: torch.zeros(graph.pixels)}
    given |= {name: torch.from_numpy(value.copy()) for name, value in graph.parameters.items()}
    with torch.inference_mode():
        found, expected = (each(given)[RAMAN].numpy() for each in (whole, Program(content, cpu)))
        exact = Program(graph.onnx, cpu)(given)[RAMAN].numpy()
    scale = np.abs(exact).max()
    assert np.abs(found - expected).max() < 5e-3 * scale
    assert np.abs(found - exact).max() < 5e-3 * scale


class Net:
    """A graph in half precision between two casts, written node by node."""

    def __init__(self, channels: int) -> None:
        self.nodes = [helper.make_node("Cast", ["features"], ["x0"], to=TensorProto.FLOAT16)]
        self.channels, self.constants = channels, []
        self._random = np.random.default_rng(5)

    def constant(self, *shape: int) -> str:
        name = f"w{len(self.constants)}"
        values = self._random.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1)
        self.constants.append(numpy_helper.from_array(values.astype(np.float16), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def convolution(
        self, x: str, inputs: int, outputs: int, taps: int, pads: tuple[int, int], step: int = 1
    ) -> str:
        weights = self.constant(outputs, inputs, 1, taps), self.constant(outputs)
        return self.add("Conv", x, *weights, pads=[0, pads[0], 0, pads[1]], strides=[1, step])

    def upsampling(self, x: str, inputs: int, outputs: int) -> str:
        return self.add(
            "ConvTranspose", x, self.constant(inputs, outputs, 1, 2), self.constant(outputs), strides=[1, 2]
        )

    def ended(self, x: str, outputs: int) -> bytes:
        self.nodes.append(helper.make_node("Cast", [x], ["result"], to=TensorProto.FLOAT))
        given = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", self.channels, 1, "t"])
        result = helper.make_tensor_value_info("result", TensorProto.FLOAT, ["b", outputs, 1, "u"])
        graph = helper.make_graph(self.nodes, "net", [given], [result], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        return bytes(model.SerializeToString())


def compared(content: bytes, kernel: Run, points: Sequence[int]) -> None:
    chain = Chain(onnx.load_model_from_string(content).graph)
    program = Program(content, torch.device("cpu"))
    for length in points:
        random = np.random.default_rng(length)
        features = random.normal(size=(2, chain.channels, length)).astype(np.float32)
        with torch.inference_mode():
            expected = program({"features": torch.from_numpy(features[:, :, None])})["result"][:, :, 0]
            expected = expected.numpy()
        found = kernel(chain, features)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-2 * np.abs(expected).max()


def test_channels_and_lengths_that_fill_no_tile(kernel: Run) -> None:
    net = Net(5)
    x = net.convolution("x0", 5, 24, 3, (1, 1))
    x = net.convolution(net.add("LeakyRelu", x, alpha=0.1), 24, 7, 5, (2, 2))
    compared(net.ended(x, 7), kernel, [1, 15, 16, 33])


def test_down_and_up_again_with_what_was_skipped(kernel: Run) -> None:
    net = Net(3)
    fine = net.convolution("x0", 3, 16, 3, (1, 1))
    coarse = net.convolution(fine, 16, 32, 4, (1, 1), step=2)
    deep = net.convolution(net.add("LeakyRelu", coarse, alpha=0.1), 32, 32, 5, (2, 2))
    coarse = net.add("Add", coarse, deep)
    fine = net.add("Add", net.upsampling(coarse, 32, 16), fine)
    fine = net.add("LeakyRelu", fine, alpha=0.1)
    x = net.convolution(net.add("Concat", fine, "x0", axis=1), 19, 10, 1, (0, 0))
    compared(net.ended(x, 10), kernel, [2, 18, 40])


def test_curve_that_is_needed_later_is_not_overwritten_by_a_sum(kernel: Run) -> None:
    net = Net(16)
    first = net.convolution("x0", 16, 16, 3, (1, 1))
    second = net.add("Add", first, net.convolution(first, 16, 16, 3, (1, 1)))
    third = net.add("Add", net.convolution(second, 16, 16, 3, (1, 1)), first)
    last = net.add("Add", net.convolution(third, 16, 16, 1, (0, 0)), second)
    compared(net.ended(last, 16), kernel, [20])


def test_ends_with_a_sum_or_upsampled(kernel: Run) -> None:
    net = Net(16)
    first = net.convolution("x0", 16, 16, 3, (1, 1))
    compared(net.ended(net.upsampling(net.add("Relu", first), 16, 16), 16), kernel, [11])


def test_recurrent_networks_have_no_chain() -> None:
    content, _ = halve(compose(load_model("rnn"), CAMERA).onnx)
    with pytest.raises(UnchainedError, match="Squeeze"):
        Chain(onnx.load_model_from_string(content).graph)


def refused(net: Net, x: str) -> str:
    with pytest.raises(UnchainedError) as refusal:
        Chain(onnx.load_model_from_string(net.ended(x, 16)).graph)
    return str(refusal.value)


def test_what_the_kernel_cannot_do_is_refused() -> None:
    net = Net(16)
    assert "no convolution" in refused(net, net.add("Relu", "x0"))
    net = Net(16)
    assert "another kind" in refused(net, net.convolution("x0", 16, 16, 7, (3, 3)))
    net = Net(16)
    x = net.add("Relu", net.convolution("x0", 16, 16, 3, (1, 1)))
    x = net.convolution(x, 16, 16, 3, (1, 1))
    assert "several kinds" in refused(net, net.add("LeakyRelu", x, alpha=0.1))
    net = Net(16)
    x = net.convolution("x0", 16, 16, 3, (1, 1))
    assert "Sigmoid" in refused(net, net.add("Sigmoid", x))
    net = Net(16)
    assert "last convolution" in refused(net, net.add("Relu", net.convolution("x0", 16, 16, 3, (1, 1))))
    net = Net(16)
    early = net.convolution("x0", 16, 16, 3, (1, 1))
    net.convolution(early, 16, 16, 3, (1, 1))
    assert "last convolution" in refused(net, early)


def test_result_of_a_sum_that_is_used_before_it_is_refused() -> None:
    net = Net(16)
    first = net.convolution("x0", 16, 16, 3, (1, 1))
    fresh = net.convolution(first, 16, 16, 3, (1, 1))
    both = net.add("Add", fresh, first)
    again = net.add("Add", net.convolution(fresh, 16, 16, 1, (0, 0)), both)
    assert "Add" in refused(net, again)


@pytest.mark.parametrize("name", ["specnet", "cnn-gru"])
def test_networks_whose_convolutions_are_of_one_dimension_have_none(name: str) -> None:
    from networks import untrained

    model = untrained(name)
    axis = np.linspace(600.0, 2600.0, model.card.fixed_length or 256)
    content, _ = halve(compose(model, axis).onnx)
    with pytest.raises(UnchainedError):
        Chain(onnx.load_model_from_string(content).graph)


def test_two_heads_are_refused_also_where_each_leaves_at_once() -> None:
    net = Net(16)
    x = net.convolution("x0", 16, 16, 3, (1, 1))
    first = net.convolution(x, 16, 16, 1, (0, 0))
    net.nodes.append(helper.make_node("Cast", [first], ["other"], to=TensorProto.FLOAT))
    assert "last convolution" in refused(net, net.convolution(x, 16, 16, 1, (0, 0)))


def test_without_half_precision_there_is_none() -> None:
    with pytest.raises(UnchainedError, match="there is none"):
        Chain(onnx.load_model_from_string(compose(load_model("cnn"), CAMERA).onnx).graph)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"])
def test_nvrtc_compiles_it(architecture: str, tmp_path: Path) -> None:
    try:
        binary = kernel_of_gpu.compiled(architecture)
    except UnchainedError as error:
        if "it needs" not in str(error):
            raise
        pytest.skip(str(error))
    assert binary[:4] == b"\x7fELF"


def test_the_binary_is_kept_and_compiled_anew_only_for_another_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARS_RT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    asked = []
    monkeypatch.setattr(kernel_of_gpu, "compiled", lambda given: asked.append(given) or given.encode())
    assert [kernel_of_gpu.kept(each) for each in ("sm_90", "sm_90", "sm_80")] == [
        b"sm_90",
        b"sm_90",
        b"sm_80",
    ]
    (spoiled,) = (tmp_path / "cache").glob("chain-sm_80-*.plan")
    spoiled.write_bytes(spoiled.read_bytes()[:-1] + b"1")
    assert kernel_of_gpu.kept("sm_80") == b"sm_80"
    monkeypatch.setattr(kernel_of_gpu, "source", lambda: b"another one")
    assert kernel_of_gpu.kept("sm_90") == b"sm_90"
    assert asked == ["sm_90", "sm_80", "sm_80", "sm_90"]
    monkeypatch.setenv("CARS_RT_CACHE", str(spoiled / "no folder"))
    assert kernel_of_gpu.kept("sm_90") == b"sm_90" and len(asked) == 5  # nowhere to keep it


def test_weights_in_other_lanes_show(kernel: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor is no easier on the kernel than a GPU."""
    net = Net(16)
    chain = Chain(onnx.load_model_from_string(net.ended(net.convolution("x0", 16, 16, 3, (1, 1)), 16)).graph)
    features = np.random.default_rng(1).normal(size=(1, 16, 20)).astype(np.float32)
    right = kernel(chain, features)
    weights, biases = table.packed(chain)
    turned = np.roll(weights.reshape(-1, 32, 8), 1, axis=1).ravel()
    monkeypatch.setattr(table, "packed", lambda _: (turned, biases))
    assert np.abs(kernel(chain, features) - right).max() > 0.1 * np.abs(right).max()
