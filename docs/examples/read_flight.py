"""Why a flight file was written, and what is in it, with h5py alone."""

import json
import sys

import h5py

if len(sys.argv) != 2:
    sys.exit("python read_flight.py flight.h5")
if not h5py.is_hdf5(sys.argv[1]):
    sys.exit(f"{sys.argv[1]} is no HDF5 file")
with h5py.File(sys.argv[1]) as file:
    if "flight" not in file:
        sys.exit(f"{sys.argv[1]} is no flight file, as `cars-rt run --flight FOLDER` writes them")
    about = file["flight"].attrs
    print(f"{about['reason']}: {about['text']}")
    print("lost by then:", json.loads(about["lost"]), "alarms:", len(json.loads(about["alarms"])))
    if "raw" in file:
        index = file["raw/index"]
        print(f"run {file.attrs['run']}: {len(index)} spectra from {index[0]} to {index[-1]}")
        print("not in the file:", json.loads(file["raw"].attrs["ranges"]))  # cause, first, how many
        print(f"replay: --rate {about['spectra_per_s']:.0f} --block {about['block']}")
    for number, message in file.get("flight/rejected", {}).items():
        print(f"refused message {number}, {message.attrs['bytes']} bytes: {message.attrs['text']}")
