"""What is to be recorded until somebody ends it."""

from dataclasses import dataclass
from pathlib import Path

from cars_rt.files.recorder.names import Template, values_of
from cars_rt.files.recorder.settings import RecordSettings
from cars_rt.files.recording import Claim
from cars_rt.protocol import Start


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """Each run into a file of its own, named by the template, or one run into the file that is claimed."""

    template: Template | None
    claimed: Claim | None
    sample: str = ""
    notes: str = ""

    @property
    def name(self) -> str:
        """What the files are called, as was asked for."""
        if self.claimed is not None:
            return self.claimed.path.name
        assert self.template is not None  # one of the two is there
        return self.template.text

    @property
    def about(self) -> dict[str, str]:
        """What the files say of themselves."""
        return {name: text for name in ("sample", "notes") if (text := getattr(self, name))}

    def claim(self, folder: Path, start: Start) -> Claim:
        """The file of this run. Raises RecordingError."""
        if self.claimed is not None:
            return self.claimed
        assert self.template is not None  # one of the two is there
        return self.template.claim(folder, values_of(start, self.sample))

    def release(self) -> None:
        """Let others have the file, if nothing was written to it."""
        if self.claimed is not None:
            self.claimed.release()


def planned(
    settings: RecordSettings,
    template: Template | None,
    claim: Claim | None,
    sample: str | None = None,
    notes: str | None = None,
) -> Plan:
    """A plan; what is not given is as the settings say. Raises RecordingError for a name that cannot be."""
    sample = settings.sample if sample is None else sample
    if template is not None:
        template.check(sample)
    return Plan(template, claim, sample, "\n".join(settings.note) if notes is None else notes)
