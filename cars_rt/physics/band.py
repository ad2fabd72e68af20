"""The ends of a band of raman shift, as people write them. Pure."""


def ends(text: str) -> tuple[float, float]:
    """Low and high, cm-1, of LOW:HIGH or LOW-HIGH, in whatever order. Raises ValueError."""
    text = text.replace("–", "-")  # as it is printed
    low, high = sorted(map(float, text.split(":") if ":" in text else text.rsplit("-", 1)))
    return low, high
