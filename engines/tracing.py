"""Functions of numpy arrays, written down as ONNX.

A function that uses only operators, the ufuncs in `OPERATORS` and constant arrays is called with a `Traced`
in place of its array, and the operators that it applies become the nodes of a graph. So the mathematics
is written once, in numpy, and every engine runs it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
END = 2**31 - 1  # of a slice without one
IR_VERSION = 10  # what the engines in use can read
OPERATORS: dict[np.ufunc, str] = {
    np.add: "Add",
    np.subtract: "Sub",
    np.multiply: "Mul",
    np.true_divide: "Div",
    np.matmul: "MatMul",
    np.minimum: "Min",
    np.maximum: "Max",
    np.log: "Log",
    np.exp: "Exp",
    np.sin: "Sin",
    np.cos: "Cos",
    np.absolute: "Abs",
}


class Traced(NDArrayOperatorsMixin):
    """Stands for an array whose values are known only when the graph runs."""

    def __init__(self, graph: "_Graph", name: str) -> None:
        self.graph, self.name = graph, name

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if ufunc not in OPERATORS or method != "__call__" or options:
            return NotImplemented
        return self.graph.apply(OPERATORS[ufunc], inputs)

    def __getitem__(self, part: tuple[slice, slice]) -> "Traced":
        """Some of the points of all rows: `rows[:, first:last]`."""
        rows, points = part
        if rows != slice(None) or points.step is not None:
            raise TypeError(f"only rows[:, first:last] can be traced, not {part}")
        ends = (points.start or 0, END if points.stop is None else points.stop, 1)
        bounds = tuple(np.array([each], np.int64) for each in ends)
        return self.graph.apply("Slice", (self, *bounds))


class _Graph:
    """Nodes and constants, in the order in which they came."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._names: dict[int, str] = {id(value): name for name, value in inputs.items()}
        self._kept: list[Any] = []  # so that no id is used twice

    def apply(self, operator: str, inputs: tuple[Any, ...]) -> Traced:
        names = [each.name if isinstance(each, Traced) else self._constant(each) for each in inputs]
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [output]))
        return Traced(self, output)

    def _constant(self, value: Any) -> str:
        if id(value) not in self._names:
            name = self._names[id(value)] = f"constant_{len(self.constants)}"
            kind = np.int64 if np.asarray(value).dtype == np.int64 and np.ndim(value) else np.float32
            self.constants[name] = np.ascontiguousarray(value, kind)
            self._kept.append(value)
        return self._names[id(value)]


def trace(
    function: Callable[[Any], Any],
    points: int,
    source: str,
    target: str,
    inputs: Mapping[str, NDArray[Any]] | None = None,
) -> onnx.ModelProto:
    """The function of rows (batch, points) to rows (batch, points) as ONNX, float32.

    source, target: names of input and output. inputs: those of the arrays it uses, the very objects, that are
    inputs of the graph, too, and no constants. Raises TypeError for what is not in `OPERATORS`.
    """
    inputs = {} if inputs is None else inputs
    graph = _Graph(inputs)
    result = function(Traced(graph, source))
    graph.nodes.append(helper.make_node("Identity", [result.name], [target]))
    rows: list[str | int | None] = ["batch", points]
    proto = helper.make_graph(
        graph.nodes,
        target,
        [
            helper.make_tensor_value_info(source, TensorProto.FLOAT, rows),
            *(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
                for name, value in inputs.items()
            ),
        ],
        [helper.make_tensor_value_info(target, TensorProto.FLOAT, rows)],
        [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="cars-rt")
    model.ir_version = min(model.ir_version, IR_VERSION)
    return model
