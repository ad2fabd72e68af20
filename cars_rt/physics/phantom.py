"""A seeded sample to scan: cells fixed in ethanol, with polymer beads and droplets of solvents.

The medium is ethanol, since water would leave most of the image without a line: its OH band is as broad
as an excitation envelope, and nothing can tell the two apart without a measured reference.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cars_rt.physics.substances import SUBSTANCES

FloatMap = NDArray[np.float32]

_INDEX = {substance.name: index for index, substance in enumerate(SUBSTANCES)}
_CELLS = 5
_CELL_RADIUS = 0.145  # all lengths relative to the geometric mean of height and width

# substance, how many, smallest and largest radius
_SPHERES = (
    ("toluene", 3, 0.035, 0.065),
    ("polystyrene", 5, 0.02, 0.05),
    ("PMMA", 5, 0.02, 0.05),
    ("cyclohexane", 2, 0.03, 0.045),
    ("acetonitrile", 2, 0.03, 0.045),
    ("DMSO", 2, 0.03, 0.045),
    ("polystyrene", 12, 0.007, 0.014),
    ("PMMA", 12, 0.007, 0.014),
)


def phantom(height: int, width: int, seed: int = 0) -> FloatMap:
    """Concentration maps (substances, height, width), float32, as volume fractions 0..1.

    The order is that of `SUBSTANCES`; in every pixel the fractions sum to 1. The same size and
    seed give the same maps. Raises ValueError unless height and width are at least 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a phantom needs at least 1x1 pixels, not {height}x{width}")
    rng = np.random.default_rng(seed)
    maps = _medium(height, width, rng)
    unit = float(np.sqrt(height * width))
    taken: list[tuple[float, float, float]] = []
    for _ in range(_CELLS):
        radius = unit * _CELL_RADIUS * rng.uniform(0.8, 1.1)
        place = _free_place(height, width, radius, taken, rng)
        if place is not None:
            _cell(maps, place, radius, rng)
    for name, count, smallest, largest in _SPHERES:
        for _ in range(count):
            radius = unit * rng.uniform(smallest, largest)
            place = _free_place(height, width, radius, taken, rng)
            if place is not None:
                _sphere(maps, place, radius, {name: 1.0})
    return maps


def _medium(height: int, width: int, rng: np.random.Generator) -> FloatMap:
    """Ethanol with some water left in one corner."""
    maps = np.zeros((len(SUBSTANCES), height, width), dtype=np.float32)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :]
    corner_y, corner_x = rng.integers(0, 2, 2)
    maps[_INDEX["water"]] = 0.15 * np.exp(-4 * ((y - corner_y) ** 2 + (x - corner_x) ** 2))
    maps[_INDEX["ethanol"]] = 1 - maps[_INDEX["water"]]
    return maps


def _free_place(
    height: int, width: int, radius: float, taken: list[tuple[float, float, float]], rng: np.random.Generator
) -> tuple[float, float] | None:
    """A centre (y, x) for a disc that touches no earlier one, or None where there is no room."""
    for _ in range(60):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        if all((y - b) ** 2 + (x - a) ** 2 > (1.1 * (radius + r)) ** 2 for b, a, r in taken):
            taken.append((y, x, radius))
            return y, x
    return None


def _window(maps: FloatMap, place: tuple[float, float], reach: float) -> tuple[FloatMap, FloatMap, FloatMap]:
    """The maps within `reach` of a place (a view), with each pixel's y and x from there."""
    (cy, cx), (height, width) = place, maps.shape[1:]
    top, bottom = max(int(cy - reach), 0), min(max(int(cy + reach) + 1, 0), height)
    left, right = max(int(cx - reach), 0), min(max(int(cx + reach) + 1, 0), width)
    y = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5 - cy)
    x = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5 - cx)
    return maps[:, top:bottom, left:right], y, x


def _paint(window: FloatMap, cover: FloatMap, mixture: Mapping[str, float | FloatMap]) -> None:
    """Replace what is there by a mixture, as far as it covers each pixel (0..1)."""
    window *= 1 - cover
    for name, fraction in mixture.items():
        window[_INDEX[name]] += cover * fraction


def _sphere(
    maps: FloatMap, place: tuple[float, float], radius: float, mixture: Mapping[str, float | FloatMap]
) -> None:
    window, y, x = _window(maps, place, radius)
    # The focus is about as deep as half a sphere is high, so that only the rim is partly filled.
    depth = np.sqrt(np.clip(1 - (y**2 + x**2) / np.float32(radius**2), 0, 1))
    _paint(window, np.clip(1.8 * depth, 0, 1), mixture)


def _cell(maps: FloatMap, place: tuple[float, float], radius: float, rng: np.random.Generator) -> None:
    window, y, x = _window(maps, place, 1.3 * radius)
    angle, distance = np.arctan2(y, x), np.hypot(y, x)
    outline = np.ones_like(angle)
    for order in (2, 3, 4, 5):
        outline += rng.uniform(0, 0.16 / order) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    texture = np.zeros_like(angle)
    for _ in range(6):
        ky, kx = rng.normal(0, 7 / radius, 2)
        texture += np.cos(ky * y + kx * x + rng.uniform(0, 2 * np.pi)) / 6
    rim = np.clip((radius * outline - distance) / (0.12 * radius), 0, 1)
    protein = (0.18 + 0.06 * texture).astype(np.float32)
    _paint(window, rim.astype(np.float32), {"protein": protein, "lipid": 0.04, "ethanol": 0.96 - protein})

    shift = rng.uniform(-0.2, 0.2, 2) * radius
    axes = rng.uniform(0.36, 0.44, 2) * radius
    inside = 1 - np.hypot((y - shift[0]) / axes[0], (x - shift[1]) / axes[1])
    nucleus = np.clip(6 * inside, 0, 1).astype(np.float32)
    dna = (0.14 + 0.05 * texture).astype(np.float32)
    _paint(window, nucleus, {"DNA": dna, "protein": 0.14, "lipid": 0.01, "ethanol": 0.85 - dna})

    def around_nucleus(near: float, far: float) -> tuple[float, float]:
        turn, way = rng.uniform(0, 2 * np.pi), rng.uniform(near, far) * radius
        return place[0] + shift[0] + way * np.sin(turn), place[1] + shift[1] + way * np.cos(turn)

    for _ in range(2):
        nucleolus = {"protein": 0.32, "DNA": 0.06, "ethanol": 0.62}
        _sphere(maps, around_nucleus(0.05, 0.25), 0.08 * radius, nucleolus)
    for _ in range(int(rng.integers(14, 26))):
        droplet = {"lipid": 0.85, "protein": 0.05, "ethanol": 0.10}
        _sphere(maps, around_nucleus(0.47, 0.66), rng.uniform(0.03, 0.085) * radius, droplet)
