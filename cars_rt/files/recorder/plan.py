"""What is to be recorded until somebody ends it."""

from dataclasses import dataclass
from pathlib import Path

from cars_rt.files.recorder.names import Template, values_of
from cars_rt.files.recording import Claim
from cars_rt.protocol import Start


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """Each run into a file of its own, named by the template, or one run into the file that is claimed."""

    template: Template | None
    claimed: Claim | None
    sample: str = ""
    notes: str = ""
    overwrite: bool = False

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
