"""One array in .npy, (n, p) or (rows, columns, p), with the axis from --axis."""

from pathlib import Path

from cars_rt.files.npz import read_npy
from cars_rt.files.readers.scale import Asked, scale_of
from cars_rt.files.spectra import Spectra, SpectraError


def read_array(path: Path, asked: Asked) -> Spectra:
    """The spectra. Raises SpectraError without an axis."""
    if asked.needs_own:
        raise SpectraError(
            "holds one array and no axis; give --axis FILE with the raman shift of each pixel, or put both "
            "into an .npz file: np.savez('x.npz', spectra=np.load('x.npy'), raman_shift=AXIS)"
        )
    scale = scale_of(None, "", asked, "")
    counts = read_npy(path)
    return Spectra(
        scale.raman_shift,
        counts[..., ::-1] if scale.turned else counts,
        of_axis=scale.said,
        turned=scale.turned,
    )
