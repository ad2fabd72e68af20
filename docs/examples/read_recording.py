"""Read a recording with h5py alone."""

import sys
from contextlib import suppress

import h5py

with suppress(ImportError):  # of a recording that is not compressed (--compression none) it is not needed
    import hdf5plugin  # noqa: F401

if len(sys.argv) != 2:
    sys.exit("python read_recording.py scan.h5")
with h5py.File(sys.argv[1]) as file:
    raman = file["raman"]
    print(file.attrs["source"], "complete" if file.attrs["complete"] else "incomplete")
    print("model:", raman.attrs["model_name"], raman.attrs["model_sha256"])
    rows = raman["written"][()]  # fewer than allocated if the recorder was killed
    print("spectra:", raman["raman"][:rows].shape, "axis:", raman["raman_shift"][[0, -1]], "cm-1")
