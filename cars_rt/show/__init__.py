"""Pictures of a file without code: maps at bands, mean spectra, spectra at points, flags.

bands: what of the spectra makes a map. shown: the numbers that are shown, read piece by piece. picture: they
as PNG, SVG or PDF by matplotlib. terminal: they as text.
"""

from cars_rt.show.bands import Band, parse_bands
from cars_rt.show.errors import ShowError
from cars_rt.show.shown import Shown, read

__all__ = ["Band", "ShowError", "Shown", "parse_bands", "read"]
