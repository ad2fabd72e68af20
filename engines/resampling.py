"""A resampling matrix as nodes of an ONNX graph.

It has at most a handful of entries in a column, so it is written as that many gathers: six times faster
than the product for one spectrum, twice for 64 (ONNX Runtime, one core).
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper


class Resampling:
    """spectra (batch, p) @ matrix (p, q) as nodes: for each of the matrix's taps, gather, weigh, add.

    `constants` are the nodes' initializers by name; they serve any number of `nodes`.
    """

    def __init__(self, name: str, matrix: NDArray[np.float32]) -> None:
        """name: what the constants' names begin with."""
        taps = int((matrix != 0).sum(axis=0).max())
        places = np.argsort(matrix == 0, axis=0, kind="stable")[:taps]  # non-zero entries first
        weights = np.take_along_axis(matrix, places, axis=0)
        self._name, self._taps = name, taps
        self.constants: dict[str, NDArray[Any]] = {}
        for tap in range(taps):
            self.constants[f"{name}/place{tap}"] = places[tap].astype(np.int64)
            self.constants[f"{name}/weight{tap}"] = weights[tap]

    def nodes(self, source: str, target: str) -> list[onnx.NodeProto]:
        """From the value `source` (batch, p) to the value `target` (batch, q)."""
        made, parts = [], []
        for tap in range(self._taps):
            at, part = f"{target}/at{tap}", f"{target}/part{tap}"
            made.append(helper.make_node("Gather", [source, f"{self._name}/place{tap}"], [at], axis=1))
            made.append(helper.make_node("Mul", [at, f"{self._name}/weight{tap}"], [part]))
            parts.append(part)
        return [*made, helper.make_node("Sum", parts, [target])]
