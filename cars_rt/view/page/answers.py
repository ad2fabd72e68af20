"""The answers of daemon and recorder to a browser's requests; none takes the place of another one."""


class Answers:
    """One sentence for all requests since the last time that none was open."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, bool]] = {}  # by what was asked; whether it failed
        self._open: set[str] = set()

    def ask(self, do: str) -> tuple[str, bool]:
        """A request is made. Returns what to say now, and whether anything failed."""
        if not self._open:
            self._said.clear()
        self._open.add(do)
        return self._now(do, f"{do} …", False)

    def answer(self, do: str, text: str, bad: bool) -> tuple[str, bool]:
        """A request is answered. Returns what to say now, and whether anything failed."""
        self._open.discard(do)
        return self._now(do, text, bad)

    def _now(self, do: str, text: str, bad: bool) -> tuple[str, bool]:
        self._said[do] = text, bad
        return " · ".join(text for text, _ in self._said.values()), any(bad for _, bad in self._said.values())
