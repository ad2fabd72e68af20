"""`cars-rt export`: a file of spectra for other programs, written piece by piece.

cube      what is exported: one array in the shape of its scan, its axis, its steps
hspy      HyperSpy, which keeps an axis of any kind     crikit    CRIkit2
zarr      Zarr v3, chunks as tasks read them            tiff      a stack of band images
csv       one spectrum                                  kinds     all of them by name
"""

from cars_rt.files.export.cube import ExportError
from cars_rt.files.export.kinds import KINDS, Wanted, export

__all__ = ["KINDS", "ExportError", "Wanted", "export"]
