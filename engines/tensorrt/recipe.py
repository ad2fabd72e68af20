"""What a plan is made of: everything that decides it, and so names it."""

import hashlib
import json
from dataclasses import asdict, dataclass

from cars_rt.engines.base import FLOAT16, FLOAT32, EngineError
from cars_rt.engines.graph import COUNTS, Graph
from cars_rt.engines.half import halve
from cars_rt.engines.model import CLASSICAL
from cars_rt.engines.tensorrt.gpu import Gpu
from cars_rt.engines.tensorrt.product import Product

WORKSPACE_MB = 1024  # memory of the GPU that layers may use while they compute
SMALL_BATCH = 16

Profile = tuple[int, int, int]  # smallest, usual and largest batch


@dataclass(frozen=True)
class Key:
    """What tells plans apart."""

    model: str  # name, for people
    onnx_sha256: str  # of the bytes that the builder gets
    product: str
    version: str
    target: str  # the GPUs that it runs on
    precision: str
    profiles: tuple[Profile, ...]
    workspace_mb: int
    user_allocation: bool = False  # built with REQUIRE_USER_ALLOCATION, so that a CUDA graph can hold it
    detailed: bool = False  # it can list its layers, which makes it slower where no CUDA graph runs

    @property
    def name(self) -> str:
        """A file name without an ending, the same for the same key in every process."""
        model = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in self.model)
        return f"{model[:40]}-{_digest(asdict(self))}"

    @property
    def timings(self) -> str:
        """Name of what the builder measures, which serves all plans of a product for a GPU."""
        return f"timings-{_digest([self.product, self.version, self.target])}"

    def kernels(self, gpu: str) -> str:
        """Name of what TensorRT-RTX compiles from this plan on a GPU."""
        return f"kernels-{_digest([self.name, gpu])}"


@dataclass(frozen=True)
class Recipe:
    """An ONNX graph in its final types, and the plan's key."""

    onnx: bytes
    pixels: int
    product: Product
    key: Key


def recipe(
    graph: Graph,
    product: Product,
    gpu: Gpu | None,
    max_batch: int,
    *,
    detailed: bool = False,
) -> Recipe:
    """How to build a graph for batches up to max_batch.

    The network is in half precision; classical retrieval, and a network in which nothing is suited for that,
    in float32, as the key says. detailed: a plan that can tell its layers, to be looked at.
    Raises EngineError for bytes that are no graph, or if the product cannot build here.
    """
    serialized, precision = graph.onnx, FLOAT32
    if graph.model.card.name not in CLASSICAL:  # in which nothing is a network: amplitudes and phases
        try:
            halved, nodes = halve(graph.onnx)
        except Exception as error:  # protobuf and the checker of ONNX raise their own kinds
            name = graph.model.card.name
            raise EngineError(f"the graph of {name} is no sound ONNX ({type(error).__name__})") from None
        if nodes:
            serialized, precision = halved, FLOAT16
    key = Key(
        model=graph.model.card.name,
        onnx_sha256=hashlib.sha256(serialized).hexdigest(),
        product=product.module,
        version=str(product.load().__version__),
        target=product.target(gpu),
        precision=precision,
        profiles=profiles(max_batch),
        workspace_mb=WORKSPACE_MB,
        user_allocation=product.ahead,
        detailed=detailed,
    )
    return Recipe(serialized, graph.pixels, product, key)


def profiles(max_batch: int) -> tuple[Profile, ...]:
    """Ranges of batches that the builder optimises apart: one spectrum, a few, and many."""
    found: list[Profile] = [(1, 1, 1)]
    for last in sorted({min(SMALL_BATCH, max_batch), max_batch} - {1}):
        found.append((found[-1][2] + 1, last, last))
    return tuple(found)


def profile_of(batch: int, ranges: tuple[Profile, ...]) -> int:
    """Index of the profile that a batch is computed with. Raises EngineError if it is in none."""
    for index, (smallest, _, largest) in enumerate(ranges):
        if smallest <= batch <= largest:
            return index
    raise EngineError(f"the plan is for batches up to {ranges[-1][2]}, not {batch}")


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def shapes(profile: Profile, pixels: int) -> dict[str, tuple[tuple[int, int], ...]]:
    """Smallest, usual and largest shape of each input whose shape varies."""
    smallest, usual, largest = profile
    return {COUNTS: ((smallest, pixels), (usual, pixels), (largest, pixels))}
