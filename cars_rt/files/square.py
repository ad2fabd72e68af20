"""Which way round as many spectra as pixels lie: their shape does not say it, their smoothness does."""

import numpy as np
from numpy.typing import NDArray

from cars_rt.physics.darkness import light_in, noise_of

FEWEST = 64  # of either; in fewer there is little to see
MOST = 4096  # of either that are looked at: 128 MB
NOISE = 0.5  # correlation of neighbours in what is only noise; spectra with light have more
SMOOTHER = (
    4.0  # times: the other direction may be the pixels, though a slow change of the sample is as smooth
)


def turned(counts: NDArray[np.generic]) -> tuple[bool | None, str]:
    """Whether counts (n, n) must be turned round to be (spectra, pixels), and what was taken, in words.

    True: their rows are noise, and the other direction has the relief of a spectrum. None: it is smoother, at
    least. False: nothing speaks for it.
    """
    values = np.asarray(counts, np.float64)
    along, across = _correlation(values), _correlation(values.T)
    said = f"holds as many spectra as pixels, {len(values)}: each row was taken as a spectrum"
    if len(values) < FEWEST:
        return False, said
    if along < NOISE < across and light_in(values.mean(axis=1), noise_of(values[:8])):
        return True, said
    if (1 - along) > SMOOTHER * (1 - across):
        return None, f"{said}, though each column is smoother; if that is one, turn them round: spectra.T"
    return False, said


def _correlation(rows: NDArray[np.float64]) -> float:
    """Of each value with its neighbour in the row, the median of all rows; 0 for constant ones."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    power = (rows * rows).sum(axis=1)
    product = (rows[:, 1:] * rows[:, :-1]).sum(axis=1)
    return float(np.median(np.divide(product, power, out=np.zeros_like(power), where=power > 0)))
