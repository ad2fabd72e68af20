"""Whether the computer kept up with the rate that was asked of it."""

from dataclasses import dataclass

LATE_S = 1.0  # who keeps up has the last spectrum sooner
ENOUGH = 0.9  # of the rate
ADVISED = 0.7  # of what came out, as the rate of the next attempt


@dataclass(slots=True)
class Pace:
    """When spectra were measured and when their results came, in ns of the same clock."""

    spectra: int = 0  # after the first message
    measured: tuple[int, int] = (0, 0)  # the first and the last
    came: tuple[int, int] = (0, 0)

    def add(self, spectra: int, measured_ns: int, came_ns: int) -> None:
        """A message of results came."""
        if self.came == (0, 0):
            self.measured, self.came = (measured_ns, measured_ns), (came_ns, came_ns)
        else:
            self.spectra += spectra
            self.measured, self.came = (self.measured[0], measured_ns), (self.came[0], came_ns)

    def verdict(self, rate: float) -> str | None:
        """What to say if it did not keep up with `rate` spectra per second (0: no rate was asked for)."""
        measuring, coming = ((last - first) / 1e9 for first, last in (self.measured, self.came))
        if min(measuring, coming) <= 0 or rate <= 0:
            return None
        measured, came = self.spectra / measuring, self.spectra / coming
        late_s = (self.came[1] - self.measured[1]) / 1e9
        if late_s < LATE_S and measured >= ENOUGH * rate:
            return None
        advised = max(int(float(f"{ADVISED * min(measured, came):.2g}")), 1)
        return (
            f"this computer did not keep up with {rate:g} spectra/s: {measured:.0f}/s were measured, "
            f"{came:.0f}/s came out, the last one {late_s:.1f} s late; try cars-rt demo --rate {advised}"
        )
