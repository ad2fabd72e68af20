"""What a gap before a frame is called, by the numbers that were due."""


def jumped(due: int, sequence: int, missing: int) -> str:
    """Frames did not come: `due` was the next one. missing: spectra."""
    if due or missing:
        return f"the sequence jumps from {due} to {sequence}"
    return f"the sequence begins at {sequence} in place of 0"


def skipped(due: int, index: int, first: bool) -> str:
    """The source says that spectra are missing: `due` was the next one. first: before the first frame."""
    which = f"spectra {due} to {index - 1}" if index - due > 1 else f"spectrum {due}"
    from_1 = " (or does index begin at 1 in place of 0?)" if first and index == 1 else ""
    return f"the source skips {which}{from_1}"
