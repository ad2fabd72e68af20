"""Units in which people and programs write the axis of spectra."""

import re

_SHIFT = re.compile(r"(?:r?cm\s*\^?\(?\s*[-−⁻–]\s*[1¹]\)?|1\s*/\s*cm|raman.?shift|wave.?numbers?)", re.I)
_LENGTHS = {"nm": 1.0, "nanometer": 1.0, "nanometers": 1.0, "nanometre": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3,
            "micrometer": 1e3, "micron": 1e3, "mm": 1e6, "millimeter": 1e6, "m": 1e9, "meter": 1e9, "a": 0.1,
            "å": 0.1, "angstrom": 0.1, "angström": 0.1, "pm": 1e-3}  # fmt: skip
_NEITHER = re.compile(
    r"[mk]?eV|[kMGTP]?Hz|(?:(?:1|rad)\s*/\s*)?[munpfµμ]?s|sec(?:onds?)?|min|h|ppm|m/z|Da|m?V|kK|K|[°º]C?|"
    r"deg(?:rees)?|rad|2[\s_-]?theta|2θ|times?|energy|temperature|"
    r"1\s*/\s*[munµμ]?m|[munµμ]?m\s*\^?[-−⁻][1¹]|"
    r"(?:k|(?:10\s*\^?\s*3|1[., ]?000)\s*[*·×/]?\s*)(?:1\s*/\s*)?cm.*"
)
_STATED = (
    re.compile(r"[\[(]([^\[\]()]+)[\])]?\s*$"),  # Frequency (THz)
    re.compile(r"\s/\s*(\S+(?:\s*\^?\s*[-−⁻][1¹])?)\s*$"),  # wavenumber / mm-1
    re.compile(r"[\s_](\S{2,})\s*$"),  # Energy eV
    re.compile(r"^\s*(\S+(?:\s\S+)?)\s*$"),  # nothing but the unit
)


def is_shift(unit: str) -> bool:
    """Whether this is a unit of a raman shift in cm-1."""
    return _SHIFT.fullmatch(unit.strip()) is not None


def nm_per(unit: str) -> float | None:
    """How many nm one of this unit is; None if it is no length."""
    return _LENGTHS.get(unit.strip().lower())


def length_um(unit: str) -> float | None:
    """How many um one of this unit is; None if it is no length."""
    nm = nm_per(unit)
    return None if nm is None else nm / 1e3


def neither_in(name: str) -> str:
    """The unit that the name of an axis states and that is neither cm-1 nor a length; nothing if none is."""
    return next((unit for unit in _stated(name) if _NEITHER.fullmatch(unit)), "")


def length_in(name: str) -> float:
    """How many nm the unit is that the name of a wavelength states; 1 if it states none."""
    return next((nm for unit in _stated(name) if (nm := nm_per(unit)) is not None), 1.0)


def _stated(name: str) -> list[str]:
    return [found[1].strip() for pattern in _STATED if (found := pattern.search(name))]
