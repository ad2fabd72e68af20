"""A chain of convolutions as what `chain.cu` works through: a table of layers, and weights in its order."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines.chained.chain import REACH, Chain, Convolution

TILE = 16  # points, inputs and outputs that are multiplied at once; chain.cu says so, too
SKEW = 8  # halves after each point, for which eight rows lie in different banks of shared memory

#: As `Layer` in chain.cu.
LAYER = np.dtype(
    [
        (name, np.int32)
        for name in (
            *("input", "output", "residual", "in_row", "out_row", "chunks", "taps", "step", "first"),
            *("points", "tiles", "channels", "leaky", "up", "weights", "biases"),
        )
    ]
)


@dataclass(frozen=True)
class Table:
    """A chain for curves of one length."""

    layers: NDArray[Any]  # of LAYER
    size: int  # halves of shared memory that curves take
    slack: int  # halves that are read beyond, and lead to nothing
    row: int  # halves from a point of the input to the next
    points: int  # of the result

    @property
    def shared_bytes(self) -> int:
        """Of shared memory that a block needs."""
        return 2 * (self.size + self.slack)


def tabulate(chain: Chain, points: int) -> Table:
    """For inputs of so many points."""
    memory = _Memory()
    places, lengths = {-1: memory.take(points, chain.channels)}, {-1: points}
    layers = np.zeros(len(chain.convolutions), LAYER)
    weights = biases = end = 0
    for number, (layer, each) in enumerate(zip(layers, chain.convolutions, strict=True)):
        source, residual = each.takes.layer, None if each.residual is None else each.residual.layer
        length = lengths[number] = each.points(lengths[source])
        if residual not in (None, source) and chain.over(residual, number):
            # Its place may be the sum's: each value is read there before one is written.
            memory.give_back(places[residual], length, each.channels)
        last = number == len(layers) - 1
        places[number] = -1 if last else memory.take(length, each.channels)
        if chain.over(source, number):
            memory.give_back(places[source], lengths[source], each.takes.channels)
        layer["input"], layer["output"] = places[source], places[number]
        layer["residual"] = -1 if residual is None else places[residual]
        layer["points"] = length // 2 if each.up else length
        layer["weights"], layer["biases"] = weights, biases
        _describe(layer, each)
        weights += int(layer["tiles"] * layer["taps"] * layer["chunks"])
        biases += int(layer["tiles"]) * TILE
        end = max(end, _end(layer))
    return Table(
        layers, memory.size, max(end - memory.size, 0), _row(chain.channels), lengths[len(layers) - 1]
    )


def packed(chain: Chain) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Weights in the order in which the lanes of a warp take them, and biases, one layer after the other.

    Weights: for each tile of outputs, each tap and each tile of inputs 32 lanes times 8 halves. Lane
    4 g + q has those of the outputs g and g + 8 for the inputs 2 q, 2 q + 1, 2 q + 8 and 2 q + 9.
    """
    weights, biases = [], []
    for each in chain.convolutions:
        taps, inputs, outputs = each.weight.shape
        chunks, tiles = _tiles(inputs), _tiles(outputs)
        padded = np.zeros((taps, chunks * TILE, tiles * TILE), np.float16)
        padded[:, :inputs, :outputs] = each.weight
        # inputs as (register, q, element), outputs as (half, g)
        cut = padded.reshape(taps, chunks, 2, 4, 2, tiles, 2, 8)
        weights.append(cut.transpose(5, 0, 1, 7, 3, 6, 2, 4).ravel())
        bias = np.zeros(tiles * TILE, np.float32)
        bias[:outputs] = each.bias
        biases.append(bias)
    return np.concatenate(weights), np.concatenate(biases)


def slopes(chain: Chain) -> int:
    """LeakyReLU's slope as a pair of halves."""
    half = int(np.float16(chain.slope or 0).view(np.uint16))
    return half | half << 16


def _describe(layer: Any, each: Convolution) -> None:
    """What a row of the table says of the convolution itself."""
    layer["in_row"], layer["out_row"] = _row(each.takes.channels), _row(each.channels)
    layer["taps"], layer["step"], layer["first"] = len(each.weight), each.step, REACH - each.before
    layer["chunks"], layer["tiles"] = _tiles(each.takes.channels), _tiles(each.weight.shape[2])
    layer["channels"], layer["leaky"], layer["up"] = each.channels, each.takes.leaky, each.up


def _end(layer: Any) -> int:
    """Where in shared memory a layer stops reading, with the points that fill its last tile."""
    rows = (_tiles(int(layer["points"])) * TILE - 1) * layer["step"] + layer["first"] + layer["taps"]
    return int(layer["input"] + rows * layer["in_row"])


class _Memory:
    """Shared memory, given out by the shape of curves: rows that are zeros before one are so for the next."""

    def __init__(self) -> None:
        self.size = 0
        self._free: dict[tuple[int, int], list[int]] = {}

    def take(self, points: int, channels: int) -> int:
        free = self._free.get((points, _row(channels)))
        if free:
            return free.pop()
        begin = self.size
        self.size += (points + 2 * REACH) * _row(channels)
        return begin

    def give_back(self, begin: int, points: int, channels: int) -> None:
        self._free.setdefault((points, _row(channels)), []).append(begin)


def _tiles(count: int) -> int:
    return -(-count // TILE)


def _row(channels: int) -> int:
    """Halves from a point of a curve to the next."""
    return _tiles(channels) * TILE + SKEW
