"""Substances of the simulator: Raman lines from the literature, in units of the non-resonant background."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cars_rt.physics.cars import lorentzians


@dataclass(frozen=True)
class Substance:
    """A neat substance with n Raman lines.

    position: line centres, cm-1. width: natural half widths at half maximum, cm-1. strength: each
    line's peak of Im chi_R / chi_NR before any instrument broadening, dimensionless; a microscope
    shows narrow lines lower (toluene at 1003.6 cm-1: 8.4 becomes about 1.5).
    chi_nr: non-resonant susceptibility relative to water. source: where the positions come from.
    """

    name: str
    position: tuple[float, ...]
    width: tuple[float, ...]
    strength: tuple[float, ...]
    chi_nr: float = 1.0
    source: str = ""


def chi_r(substance: Substance, raman_shift: ArrayLike) -> NDArray[np.complex128]:
    """Resonant susceptibility of the neat substance, in units of its own chi_NR.

    raman_shift: (p,), cm-1. Returns (p,) complex128; its imaginary part is what Raman shows.
    """
    width = np.asarray(substance.width)
    amplitude = np.asarray(substance.strength) * width
    shift = np.asarray(raman_shift, dtype=np.float64)
    return cast(NDArray[np.complex128], lorentzians(shift, np.asarray(substance.position), amplitude, width))


def _substance(name: str, chi_nr: float, source: str, *lines: tuple[float, float, float]) -> Substance:
    position, width, strength = zip(*lines, strict=True)
    return Substance(name, position, width, strength, chi_nr, source)


# Strengths: toluene was fitted to a measured spectrum; the others are set from relative Raman heights
# on that scale. Widths are typical ones for the liquid or solid at room temperature.
WATER = _substance(
    "water",
    1.0,
    "Carey & Korenowski, J. Chem. Phys. 108, 2669 (1998)",
    (1641, 45, 0.03),
    (3051, 70, 0.04),
    (3233, 105, 0.36),
    (3393, 95, 0.40),
    (3511, 70, 0.20),
    (3628, 50, 0.08),
)
ETHANOL = _substance(
    "ethanol",
    1.05,
    "Mammone, Sharma & Nicol, J. Phys. Chem. 84, 3130 (1980)",
    (433, 10, 0.10),
    (882, 6, 0.55),
    (1051, 7, 0.18),
    (1096, 7, 0.18),
    (1275, 12, 0.08),
    (1453, 11, 0.26),
    (1480, 10, 0.10),
    (2876, 13, 0.75),
    (2927, 11, 1.15),
    (2973, 9, 0.85),
)
DMSO = _substance(
    "DMSO",
    1.05,
    "Forel & Tranquille, Spectrochim. Acta A 26, 1023 (1970)",
    (667, 4, 0.95),
    (697, 4.5, 0.60),
    (953, 6, 0.14),
    (1042, 14, 0.40),
    (1417, 9, 0.25),
    (2912, 5.5, 3.0),
    (2995, 7, 1.0),
)
TOLUENE = _substance(
    "toluene",
    1.1,
    "ASTM E1840: 521.7, 786.5, 1003.6, 1030.6, 1211.4, 1605.1, 3057.1; "
    "the others: Varsanyi, Vibrational Spectra of Benzene Derivatives (1969)",
    (521.7, 3.5, 0.50),
    (622.0, 2.5, 0.18),
    (786.5, 2.2, 2.1),
    (1003.6, 1.1, 8.4),
    (1030.6, 1.6, 2.2),
    (1155.0, 3.0, 0.05),
    (1211.4, 2.5, 1.0),
    (1379.5, 5.0, 0.30),
    (1586.0, 3.0, 0.14),
    (1605.1, 3.0, 0.62),
    (2736.0, 6.0, 0.15),
    (2868.0, 10.0, 0.65),
    (2921.0, 8.0, 2.6),
    (2981.0, 10.0, 0.33),
    (3038.0, 8.0, 1.2),
    (3057.1, 6.0, 4.4),
)
CYCLOHEXANE = _substance(
    "cyclohexane",
    1.05,
    "ASTM E1840",
    (426.3, 3.0, 0.35),
    (801.3, 1.9, 3.2),
    (1028.3, 3.5, 0.80),
    (1157.6, 4.0, 0.22),
    (1266.4, 4.0, 0.55),
    (1444.4, 6.0, 0.55),
    (2664.4, 6.0, 0.18),
    (2852.9, 6.5, 2.9),
    (2923.8, 8.0, 2.0),
    (2938.3, 6.5, 2.3),
)
ACETONITRILE = _substance(
    "acetonitrile",
    0.95,
    "ASTM E1840: 919.0, 2253.7, 2292.6, 2940.8; "
    "the others: Neelakantan, Proc. Indian Acad. Sci. A 60, 422 (1964)",
    (919.0, 2.5, 1.2),
    (1374.0, 4.0, 0.35),
    (1440.0, 14.0, 0.08),
    (2253.7, 3.0, 2.5),
    (2292.6, 4.0, 0.25),
    (2940.8, 3.5, 3.2),
    (3003.0, 14.0, 0.22),
)
POLYSTYRENE = _substance(
    "polystyrene",
    1.15,
    "ASTM E1840",
    (620.9, 2.5, 0.55),
    (795.8, 5.0, 0.16),
    (1001.4, 1.9, 3.2),
    (1031.8, 3.0, 0.75),
    (1155.3, 4.0, 0.22),
    (1450.5, 9.0, 0.15),
    (1583.1, 5.0, 0.20),
    (1602.3, 3.8, 0.80),
    (2852.4, 12.0, 0.40),
    (2904.5, 14.0, 0.65),
    (3054.3, 7.0, 2.4),
)
PMMA = _substance(
    "PMMA",
    1.05,
    "Willis, Zichy & Hendra, Polymer 10, 737 (1969)",
    (600, 8, 0.28),
    (812, 5, 0.75),
    (966, 8, 0.14),
    (987, 9, 0.18),
    (1063, 10, 0.06),
    (1123, 10, 0.08),
    (1236, 10, 0.09),
    (1452, 10, 0.40),
    (1730, 9, 0.35),
    (2843, 11, 0.42),
    (2951, 9, 1.7),
    (3001, 12, 0.70),
)
LIPID = _substance(
    "lipid",
    1.1,
    "triolein: Czamara et al., J. Raman Spectrosc. 46, 4 (2015)",
    (868, 14, 0.08),
    (970, 12, 0.07),
    (1082, 20, 0.16),
    (1267, 11, 0.20),
    (1303, 9, 0.38),
    (1442, 11, 0.55),
    (1657, 7, 0.65),
    (1747, 11, 0.14),
    (2726, 16, 0.08),
    (2854, 11, 1.25),
    (2898, 18, 0.85),
    (2930, 14, 0.50),
    (3008, 9, 0.38),
)
PROTEIN = _substance(
    "protein",
    1.1,
    "Rygula et al., J. Raman Spectrosc. 44, 1061 (2013)",
    (643, 8, 0.04),
    (758, 8, 0.07),
    (830, 9, 0.07),
    (853, 9, 0.09),
    (937, 14, 0.08),
    (1004, 3, 0.60),
    (1032, 5, 0.10),
    (1128, 12, 0.08),
    (1240, 25, 0.13),
    (1318, 20, 0.12),
    (1340, 16, 0.12),
    (1450, 14, 0.32),
    (1552, 10, 0.06),
    (1660, 22, 0.30),
    (2880, 22, 0.30),
    (2935, 22, 0.70),
    (3062, 12, 0.12),
)
DNA = _substance(
    "DNA",
    1.1,
    "Prescott, Steinmetz & Thomas, Biopolymers 23, 235 (1984)",
    (682, 8, 0.22),
    (729, 8, 0.22),
    (750, 9, 0.12),
    (785, 8, 0.55),
    (835, 12, 0.10),
    (1014, 10, 0.08),
    (1092, 8, 0.45),
    (1257, 14, 0.20),
    (1302, 14, 0.20),
    (1339, 12, 0.35),
    (1375, 10, 0.35),
    (1421, 8, 0.15),
    (1487, 8, 0.45),
    (1578, 8, 0.42),
    (1668, 18, 0.25),
    (2895, 20, 0.25),
    (2957, 20, 0.45),
)

# Standards for calibration alone; the phantom has none of them.
BENZONITRILE = _substance(
    "benzonitrile",
    1.1,
    "ASTM E1840",
    (460.9, 3.0, 0.35),
    (548.5, 3.0, 0.15),
    (751.3, 3.0, 0.12),
    (767.1, 2.5, 0.70),
    (1000.7, 1.2, 6.5),
    (1026.6, 2.0, 1.2),
    (1177.9, 2.5, 0.90),
    (1192.6, 2.5, 0.95),
    (1598.9, 3.5, 1.5),
    (2229.4, 4.0, 3.2),
    (3072.3, 6.0, 2.6),
)
ACETAMINOPHEN = _substance(
    "acetaminophen",
    1.15,
    "ASTM E1840 (4-acetamidophenol)",
    (213.3, 4.0, 0.30),
    (329.2, 4.0, 0.25),
    (390.9, 4.0, 0.20),
    (465.1, 4.0, 0.15),
    (504.0, 4.0, 0.12),
    (651.6, 4.0, 0.45),
    (710.8, 4.0, 0.10),
    (797.2, 4.0, 0.50),
    (834.5, 4.0, 0.25),
    (857.9, 4.0, 0.80),
    (968.7, 4.0, 0.18),
    (1105.5, 4.0, 0.15),
    (1168.5, 4.0, 0.70),
    (1236.8, 5.0, 0.95),
    (1278.5, 5.0, 0.75),
    (1323.9, 5.0, 1.60),
    (1371.5, 5.0, 0.60),
    (1515.1, 5.0, 0.25),
    (1561.5, 5.0, 0.75),
    (1648.4, 6.0, 1.45),
    (2931.1, 9.0, 0.45),
    (3064.6, 8.0, 0.90),
    (3102.4, 8.0, 0.35),
    (3326.6, 15.0, 0.25),
)

SUBSTANCES: tuple[Substance, ...] = (
    WATER,
    ETHANOL,
    DMSO,
    TOLUENE,
    CYCLOHEXANE,
    ACETONITRILE,
    POLYSTYRENE,
    PMMA,
    LIPID,
    PROTEIN,
    DNA,
)
"""All substances, in the order of the phantom's concentration maps."""
