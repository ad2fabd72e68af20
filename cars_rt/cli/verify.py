"""`cars-rt verify`: whether recordings are what they say."""

import sys
from pathlib import Path

from rich.text import Text

from cars_rt.cli.app import Logs
from cars_rt.console import EXIT_INCOMPLETE, Logging, Terminal, start_logging
from cars_rt.engines import REFERENCE
from cars_rt.printable import printable


def verify(
    raw: Path,
    result: Path | None = None,
    *,
    model: str | None = None,
    reference: Path | None = None,
    engine: str = REFERENCE,
    logs: Logs = Logging(log_level="warning"),
) -> None:
    """Prove from recordings that results belong to counts and that nothing was lost unsaid.

    Checks the receipts of both streams against what is in the files, the time stamps, and computes some
    results and flags again. The last line is the verdict; the exit code is 3 if anything is not as it should
    be.

    Example: cars-rt verify counts.h5 results.h5

    Parameters
    ----------
    raw
        Recording of the raw stream.
    result
        Recording of the result stream; the same file if not given.
    model
        The model's name or path, if it is not a shipped one.
    reference
        The reference that the model was given, if it was.
    engine
        What computes the results again: by itself the one that all others are held against.
    """
    from cars_rt.files.verify import verify as verify_recordings

    start_logging(logs)
    findings = verify_recordings(raw, result or raw, model=model, reference=reference, engine=engine)
    out = Terminal()
    for finding in findings:
        mark = ("yes", "green") if finding.true else ("NO ", "bold red")
        out.say(Text.assemble(mark, "  ", printable(finding.text)))
    untrue = [finding for finding in findings if not finding.true]
    told = "".join(f"; {printable(finding.text)}" for finding in findings if finding.told)
    if untrue:
        said = f"{len(untrue)} of {len(findings)} checks failed, first that {printable(untrue[0].text)}{told}"
        out.say(Text.assemble(("NOT VERIFIED", "bold red"), f": {said}"))
        sys.exit(EXIT_INCOMPLETE)
    said = f"all {len(findings)} checks passed: the results belong to the counts, and nothing was lost unsaid"
    out.say(Text.assemble(("VERIFIED", "bold green"), f": {said}{told}"))
