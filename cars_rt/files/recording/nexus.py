"""What other programs find in a recording: NeXus (NXraman), and dimension scales as netCDF has them.

Everything here is made from what the recording says already, when it is finished, and made anew by `repair`:

    /entry          NXentry, definition NXraman: who, when, with what; default: data
    /entry/data     NXdata, the default plot: raman (or counts) in the shape of the scan, (y, x, p) or
                    (z, y, x, p), NaN where no spectrum is, or (n, p) of a run without scan; with axes,
                    deviation, flags, time, and a mask for each stream
    /entry/counts   NXdata of the counts, where there are results, too
    /entry/bands    NXdata of the results at a few bands, as pictures
    /entry/instrument, sample, process_..., receipt_...
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import h5py
import numpy as np

from cars_rt.files.checksum import WHOLE, checksum
from cars_rt.files.hdf5 import numbers
from cars_rt.files.recording.maps import Map, nexus_group, say_axes, text_of, write_bands, write_map
from cars_rt.files.recording.replaced import put_aside
from cars_rt.files.unreadable import UNREADABLE, is_of_file
from cars_rt.files.written import rows_of
from cars_rt.storage import StorageError

ENTRY, NEW = "entry", "entry_new"  # until it is whole
DEFINITION = "NXraman"
DEFINITION_VERSION = "v2026.01"
URL = "https://fairmat-nfdi.github.io/nexus_definitions/classes/applications/NXraman.html"


def describe(file: h5py.File, streams: Mapping[str, h5py.Group]) -> None:
    """Write, or write anew, what other programs look for. streams: those that can be read, by name.

    Raises OSError and RuntimeError of HDF5.
    """
    made = nexus_group(file, NEW, "NXentry")
    try:
        _write(made, streams)
        if ENTRY in file:  # which stays where no other one can be made
            if _is_whole(file[ENTRY]):
                del file[ENTRY]
            else:
                put_aside(file, ENTRY)
    except Exception:
        del file[NEW]
        raise
    file.move(NEW, ENTRY)


def _is_whole(entry: h5py.Group) -> bool:
    """Whether all of it can be found, so that it can be deleted."""

    def find(_: str, each: Any) -> None:
        if isinstance(each, h5py.Dataset) and each.chunks:
            each.id.get_num_chunks()

    try:
        entry.visititems(find)
    except UNREADABLE as error:
        if not is_of_file(error):
            raise
        return False
    return True


def _write(entry: h5py.Group, streams: Mapping[str, h5py.Group]) -> None:
    file = entry.file
    file.attrs["NX_class"], file.attrs["default"] = "NXroot", ENTRY
    main = "raman" if "raman" in streams else "raw"
    about = dict(streams[main].attrs)
    maps = {name: Map.of(group) for name, group in streams.items()}
    _head(entry, about, streams[main])
    _instrument(entry, about, streams)
    sample = nexus_group(entry, "sample", "NXsample")
    sample["name"] = text_of(file.attrs.get("sample", "")) or "not stated"
    if notes := text_of(file.attrs.get("notes", "")):
        entry["experiment_description"] = notes
    _processes(entry, streams)
    data, shown = write_map(entry, "data", maps, main)
    if main == "raman" and "counts" in data:
        _links(entry, "counts", data, "counts")
    if main == "raman":
        write_bands(entry, data, shown[main])
    entry.attrs["default"] = "data"


def room_for(streams: Mapping[str, h5py.Group]) -> int:
    """Bytes that `describe` writes at most, about."""
    return 4 * 2**20 + 16 * sum(len(group["index"]) for group in streams.values())


def _head(entry: h5py.Group, about: Mapping[str, Any], group: h5py.Group) -> None:
    entry["definition"] = DEFINITION
    entry["definition"].attrs.update({"version": DEFINITION_VERSION, "URL": URL})
    entry["title"] = f"{text_of(about.get('source', ''))}, run {text_of(about.get('run', ''))}"
    entry["experiment_type"] = "Raman spectroscopy"
    entry["raman_experiment_type"] = "coherent anti-Stokes Raman spectroscopy (CARS)"
    entry["identifier_experiment"] = text_of(about.get("run", ""))
    entry["program_name"] = "cars-rt"
    entry["program_name"].attrs["version"] = version("cars-rt")
    times = rows_of(group, "time_ns", spoiled=True)
    last = int(times[len(times) - 1 :][0]) if len(times) else 0
    for name, time_ns in (("start_time", about.get("time_ns")), ("end_time", last)):
        if time_ns and (said := _iso(int(time_ns))):
            entry[name] = said


def _instrument(entry: h5py.Group, about: Mapping[str, Any], streams: Mapping[str, h5py.Group]) -> None:
    """The instrument, as far as its driver says what it is."""
    instrument = nexus_group(entry, "instrument", "NXinstrument")
    instrument["name"] = text_of(about.get("source", ""))
    instrument["scattering_configuration"] = "z(..)z"  # along the optical axis, polarisations not stated
    calibration = _facts(about.get("calibration"))
    beam = nexus_group(instrument, "beam_incident", "NXbeam")
    beam["parameter_reliability"] = "nominal"
    probe = calibration.get("probe_nm")
    beam["wavelength"] = float(probe) if isinstance(probe, int | float) else np.nan  # not known
    beam["wavelength"].attrs.update(
        {"units": "nm", "long_name": "wavelength of the probe, NaN if not stated"}
    )
    camera = nexus_group(instrument, "detector_camera", "NXdetector")
    camera["detector_channel_type"] = "multichannel"
    for name, key, unit in (("count_time", "exposure_s", "s"), ("saturation_value", "full_scale", "count")):
        if key in about:
            camera[name] = float(about[key])
            camera[name].attrs["units"] = unit
    if (raw := streams.get("raw")) is not None:
        dark = None
        with suppress(StorageError):
            dark = numbers(raw, "dark")
        if dark is not None:
            camera["dark"] = dark
            camera["dark"].attrs.update({"units": "count", "long_name": "counts with the beams blocked"})
            camera["dark"].attrs[WHOLE] = checksum(dark)
        shown = nexus_group(camera, "raw_data", "NXdata", signal="raw")
        shown["raw"] = raw["counts"]
    if said := _facts(about.get("instrument")):
        _note(instrument, "settings", said, "what the driver says of the instrument")
    scale = nexus_group(instrument, "instrument_calibration_axis", "NXcalibration")
    scale["device_path"] = f"/{ENTRY}/instrument/detector_camera"
    timed = "time" in calibration
    scale["calibration_status"] = "calibration time provided" if timed else "no calibration"
    if timed:
        scale["calibration_time"] = text_of(calibration["time"])
    if calibration:
        _note(scale, "facts", calibration, "where the axis comes from")
        scale.attrs.update(
            {name: value for name, value in calibration.items() if not isinstance(value, list)}
        )


def _processes(entry: h5py.Group, streams: Mapping[str, h5py.Group]) -> None:
    """What computed the results, from what, and what became of each spectrum on its way."""
    if (raman := streams.get("raman")) is not None:
        process = nexus_group(entry, "process_retrieval", "NXprocess")
        process["program"] = "cars-rt"
        said = {key: text_of(value) for key, value in raman.attrs.items() if key.startswith("model_")}
        for key, text in said.items():
            if key == "model_card":
                _note(process, key, text, "what the network's author says of it")
            else:
                process[key] = text
        _note(process, "made_by", text_of(raman.attrs.get("made_by", "[]")),
              "index of the first spectrum, and what made results from there on")  # fmt: skip
    recorder = nexus_group(entry, "process_recorder", "NXprocess")
    recorder["program"] = text_of(entry.file.attrs.get("program", "cars-rt"))
    for key in ("compression", "mantissa_bits"):
        if key in entry.file.attrs:
            recorder[key] = entry.file.attrs[key]
    for name, group in streams.items():
        names = ("announced", "reason", "lost_before", "lost", "ranges")
        receipt = {key: _plain(group.attrs[key]) for key in names if key in group.attrs}
        for key in ("lost_before", "lost", "ranges"):
            if isinstance(receipt.get(key), str):
                receipt[key] = json.loads(receipt[key])
        _note(entry, f"receipt_{name}", receipt, f"what became of the spectra of the {name} stream")


def _links(entry: h5py.Group, name: str, data: h5py.Group, signal: str) -> None:
    """Another plot of the same map."""
    group = nexus_group(entry, name, "NXdata", signal=signal, interpretation="spectrum")
    axes = [str(axis) for axis in data.attrs["axes"]]
    for key in (signal, *axes):
        group[key] = data[key]
    say_axes(group, axes)


def _note(parent: h5py.Group, name: str, data: Any, about: str) -> None:
    note = nexus_group(parent, name, "NXnote")
    note["type"], note["description"] = "application/json", about
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    note["data"] = np.bytes_(text.encode("utf-8", "replace") or b"{}")


def _facts(value: Any) -> dict[str, Any]:
    """A map that a recording holds as JSON."""
    try:
        found = json.loads(text_of(value)) if value is not None else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _iso(time_ns: int) -> str:
    try:
        return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat()
    except (OverflowError, ValueError, OSError):  # a time that no calendar reaches
        return ""
