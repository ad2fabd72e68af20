"""Units in which people and programs write the axis of spectra."""

import re

CM1, NM, OTHER = "cm-1", "nm", "other"  # OTHER: neither a wavenumber nor a wavelength

#: What a name or a line has that says that an axis is a raman shift, or a wavelength.
SHIFT = re.compile(
    r"shift|cm\s*\^?\(?\s*[-−⁻–]\s*[1¹]|1\s*/\s*cm|wave\s*number|wellenzahl|verschiebung", re.I
)
WAVELENGTH = re.compile(
    r"wave\s*length|wellenl|longueur|longitud|lunghezza|onda|golfl|v.gl.ngd|длина волн|波长|波長|lambda|λ|"
    r"nanomet(?:er|re)|(?<![a-z])nm(?![a-z])",
    re.I,
)

_CM1 = re.compile(
    r"(?:r?cm\s*\^?\(?\s*[-−⁻–]\s*[1¹]\)?|raman.?shift|wave.?numbers?|"
    r"(?:1?\s*/|per|inv(?:erse)?|reciprocal)\s*(?:cm|centimet(?:er|re)s?))",
    re.I,
)
_TYPESET = re.compile(r"[${}]")  # what LaTeX has around a power: cm$^{-1}$
_LENGTHS = {"nm": 1.0, "nanometer": 1.0, "нм": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "micrometer": 1e3,
            "micron": 1e3, "mm": 1e6, "millimeter": 1e6, "m": 1e9, "meter": 1e9, "a": 0.1, "å": 0.1,
            "angstrom": 0.1, "angström": 0.1, "pm": 1e-3, "picometer": 1e-3}  # fmt: skip
_NEITHER = re.compile(
    r"[mk]?eV|[kMGTP]?Hz|(?:(?:1|rad)\s*/\s*)?[munpfµμ]?s|sec(?:onds?)?|min|h|ppm|m/z|Da|m?V|kK|K|[°º]C?|"
    r"deg(?:rees)?|rad|2[\s_-]?theta|2θ|"
    r"1\s*/\s*[munµμ]?m|[munµμ]?m\s*\^?[-−⁻][1¹]|"
    r"(?:k|(?:10\s*\^?\s*3|1[., ]?000)\s*[*·×/]?\s*)(?:1\s*/\s*)?cm.*"
)
_QUANTITY = re.compile(r"times?|energy|temperature", re.I)  # whose unit is neither, whichever it is
_MARKED = (
    re.compile(r"[\[(]([^\[\]()]+)[\])]?\s*$"),  # Frequency (THz)
    re.compile(r"^[^\[(]*?[^\W\d]\s*/\s*(\S+(?:\s*\^?\s*[-−⁻][1¹])?)\s*$"),  # wavenumber / mm-1
)
_UNMARKED = (
    re.compile(r"(?<!\d)[\s_](\S{2,})\s*$"),  # Energy eV, and not 785 nm
    re.compile(r"^\s*(\S+(?:\s\S+)?)\s*$"),  # nothing but the unit
)
_PER_CM = re.compile(r"(?<![a-z])r?cm.*[1¹]|(?:1\s*/|per|inverse|reciprocal)\s*c(?:m|entim)|kayser", re.I)
_DIFFERENCE = re.compile(r"shift|verschiebung|wave\s*number|wellenzahl|delta|Δ", re.I)


def is_shift(unit: str) -> bool:
    """Whether this is a unit of a raman shift in cm-1, also as LaTeX and Python write powers."""
    return _CM1.fullmatch(_TYPESET.sub("", unit).replace("**", "^").strip()) is not None


def nm_per(unit: str) -> float | None:
    """How many nm one of this unit is; None if it is no length."""
    word = unit.strip().lower().replace("metre", "meter")
    return _LENGTHS.get(word.removesuffix("s") if len(word) > len("nm/s") else word)


def length_um(unit: str) -> float | None:
    """How many um one of this unit is; None if it is no length."""
    nm = nm_per(unit)
    return None if nm is None else nm / 1e3


def is_other(unit: str) -> bool:
    """Whether this is a unit, and neither of wavenumbers nor of lengths."""
    return _NEITHER.fullmatch(unit) is not None or (("/" in unit or "^" in unit) and not _PER_CM.search(unit))


def is_unit(cell: str) -> bool:
    """Whether a cell holds nothing but the unit of an axis, in brackets or not."""
    unit = cell.strip(" []()")
    cm1 = is_shift(unit) and "cm" in unit.lower()
    return cm1 or bool(_NEITHER.fullmatch(unit)) or (len(unit) > 1 and nm_per(unit) is not None)


def unit_in(name: str) -> tuple[str, str]:
    """What the name of an axis says of its unit, and the unit as it is written: CM1, NM for any length,
    OTHER, or nothing. What brackets or a slash mark is a unit, and only a wavenumber's is cm-1."""
    if _NEITHER.fullmatch(name.strip()) or _QUANTITY.fullmatch(name.strip()):
        return OTHER, name.strip()
    shift, length = SHIFT.search(name), WAVELENGTH.search(name)
    for pattern in (*_MARKED, *_UNMARKED):
        if not (found := pattern.search(name)):
            continue
        unit, marked = found[1].strip(), pattern in _MARKED
        if _NEITHER.fullmatch(unit):
            return OTHER, unit
        if marked and (_PER_CM.search(unit) or (shift and "cm" in unit.lower())):
            return CM1, unit
        if nm_per(unit) is not None and (len(unit) > 1 or (marked and not shift)):
            return (OTHER if _DIFFERENCE.search(name) else NM), unit  # a shift in nm is no wavelength
        if marked and (is_other(unit) or not (shift or length or unit.isdecimal())):
            return OTHER, unit
    return (CM1 if shift else NM if length else ""), ""
