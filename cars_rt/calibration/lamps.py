"""Lines of calibration lamps.

Wavelengths of lines of neutral atoms in standard air, nm, as NIST lists them: Kramida, Ralchenko, Reader and
NIST ASD Team, NIST Atomic Spectra Database (physics.nist.gov/asd), and Sansonetti & Martin, J. Phys. Chem.
Ref. Data 34, 1559 (2005). Such tables are in air from 200 to 2000 nm; `lamp` gives vacuum.
Beside each line stands how bright it is in a pen lamp: 3 bright, 2 medium, 1 faint; intensities of tables do
not compare over a wide range, and lamps differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cars_rt.calibration.errors import CalibrationError
from cars_rt.physics.air import in_vacuum

Lines = tuple[tuple[float, int], ...]

NEON: Lines = (
    (503.1348, 1), (503.7751, 1), (508.0383, 1), (511.6503, 1), (514.4938, 1), (533.0778, 1), (534.1094, 2),
    (534.3283, 1), (540.0562, 2), (576.4419, 1), (582.0156, 1), (585.2488, 3), (588.1895, 2), (594.4834, 2),
    (596.5471, 1), (597.4627, 1), (597.5534, 1), (602.9997, 1), (607.4338, 2), (609.6163, 2), (612.8450, 1),
    (614.3063, 3), (616.3594, 2), (618.2146, 1), (621.7281, 2), (626.6495, 2), (630.4789, 1), (633.4428, 2),
    (638.2991, 3), (640.2248, 3), (650.6528, 3), (653.2882, 2), (659.8953, 2), (667.8277, 2), (671.7043, 2),
    (692.9467, 2), (702.4050, 1), (703.2413, 3), (705.9107, 1), (717.3938, 2), (724.5166, 2), (743.8898, 2),
    (747.2438, 1), (748.8871, 1), (753.5774, 1), (754.4044, 1), (794.3181, 1), (808.2458, 1), (811.8549, 1),
    (813.6406, 1), (825.9379, 1), (826.6077, 1), (830.0326, 2), (836.5749, 1), (837.7608, 3), (841.8427, 2),
    (846.3358, 1), (849.5360, 3), (854.4696, 1), (857.1352, 1), (859.1259, 2), (863.4647, 2), (865.4383, 3),
    (867.9493, 1), (868.1921, 1), (870.4112, 1), (877.1656, 1), (878.0621, 2), (878.3753, 2), (885.3867, 2),
    (886.5755, 1), (891.9501, 1), (914.8672, 1), (920.1759, 1), (930.0853, 1), (932.6507, 1), (942.5379, 1),
    (948.6682, 1), (953.4163, 1), (966.5420, 1),
)  # fmt: skip
ARGON: Lines = (
    (415.8590, 1), (419.8317, 1), (420.0674, 2), (425.9362, 1), (427.2169, 1), (430.0101, 1), (433.3561, 1),
    (451.0733, 1), (603.2127, 1), (641.6307, 1), (667.7282, 1), (675.2834, 1), (687.1289, 1), (696.5431, 3),
    (706.7218, 2), (714.7042, 1), (727.2936, 2), (738.3980, 3), (750.3869, 3), (751.4652, 2), (763.5106, 3),
    (772.3761, 2), (772.4207, 2), (794.8176, 2), (800.6157, 2), (801.4786, 2), (810.3693, 2), (811.5311, 3),
    (826.4522, 2), (840.8210, 2), (842.4648, 3), (852.1442, 2), (866.7944, 1), (912.2967, 3), (922.4499, 2),
    (935.4220, 1), (965.7786, 2), (978.4503, 1),
)  # fmt: skip
KRYPTON: Lines = (
    (427.3969, 2), (428.2967, 1), (431.8551, 1), (431.9579, 2), (435.1359, 1), (436.2641, 2), (437.6121, 2),
    (439.9965, 1), (445.3917, 2), (446.3690, 2), (450.2354, 2), (556.2225, 2), (557.0289, 3), (587.0914, 3),
    (642.1026, 1), (645.6288, 1), (690.4678, 1), (722.4104, 1), (758.7414, 2), (760.1546, 3), (768.5246, 2),
    (769.4540, 2), (785.4823, 2), (805.9504, 2), (810.4366, 2), (811.2901, 3), (819.0057, 2), (826.3242, 2),
    (828.1050, 1), (829.8110, 2), (850.8873, 2), (877.6750, 2), (892.8693, 2), (975.1761, 1),
)  # fmt: skip
MERCURY: Lines = (
    (365.0158, 3), (365.4842, 2), (366.3279, 2), (404.6565, 3), (407.7837, 1), (433.9223, 1), (434.7494, 1),
    (435.8335, 3), (546.0750, 3), (576.9610, 2), (579.0670, 2), (1013.9750, 1),
)  # fmt: skip

ELEMENTS: Mapping[str, Lines] = {"Ne": NEON, "Ar": ARGON, "Kr": KRYPTON, "Hg": MERCURY}
LAMPS: Mapping[str, tuple[str, ...]] = {
    "neon": ("Ne",),
    "argon": ("Ar",),
    "krypton": ("Kr",),
    "mercury-argon": ("Hg", "Ar"),
}
SHORT = {"ne": "neon", "ar": "argon", "kr": "krypton", "hg-ar": "mercury-argon", "hgar": "mercury-argon"}


@dataclass(frozen=True, eq=False)
class Lamp:
    """A lamp with n lines in ascending order. vacuum_nm: (n,) float64. brightness: (n,), 1 to 3. names: n."""

    name: str
    vacuum_nm: NDArray[np.float64]
    brightness: NDArray[np.float64]
    names: tuple[str, ...]


def lamp(name: str) -> Lamp:
    """The lamp of this name, also its elements: Ne, Ar, Kr, Hg-Ar. Raises CalibrationError."""
    known = SHORT.get(name.lower(), name.lower())
    if known not in LAMPS:
        raise CalibrationError(f"no lamp is called {name!r}; there are {', '.join(LAMPS)}")
    lines = sorted((air, bright, element) for element in LAMPS[known] for air, bright in ELEMENTS[element])
    return Lamp(
        known,
        in_vacuum([air for air, _, _ in lines]),
        np.array([bright for _, bright, _ in lines], np.float64),
        tuple(f"{element} {air:.3f}" for air, _, element in lines),
    )
