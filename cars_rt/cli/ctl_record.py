"""`cars-rt ctl record`: requests to a running recorder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from cars_rt.cli.ctl import Where as DaemonWhere
from cars_rt.cli.ctl import counts, say, show
from cars_rt.printable import counted
from cars_rt.sockets import RECORDER_ADDRESS

record = App(name="record", help="Tell a running recorder (`cars-rt record`) to start and stop.")


@dataclass(frozen=True, kw_only=True)
class Where(DaemonWhere):
    """Which recorder is asked."""

    address: str = RECORDER_ADDRESS
    """Control address of the recorder (its --control)."""

    token: Path | None = None
    """File of the recorder's token, if another user of this computer started it."""


At = Annotated[Where, Parameter(name="*")]


@record.command
def start(
    name: str | None = None,
    *,
    sample: str | None = None,
    note: tuple[str, ...] = (),
    at: At = Where(),
) -> None:
    """Record from now on, each run into a file of its own, until `stop`. A run that is open is joined.

    Example: `cars-rt ctl record start "{sample}_{date}_{number:03d}" --sample liver-7 --note "dry objective"`

    Parameters
    ----------
    name
        What the files are called, in the recorder's folder; {sample}, {date}, {time}, {run}, {source} and
        {number:03d} stand for what they say. Without it, as the recorder's --name says.
    sample
        What is measured; kept in the files.
    note
        Anything else that the files shall say; may be repeated.
    """
    from cars_rt.remote import begun

    result = _ask(at).start(name, sample=sample, notes="\n".join(note) or None)
    say(at, result, begun(result))


@record.command(name="open")
def open_(path: str, *, sample: str | None = None, note: tuple[str, ...] = (), at: At = Where()) -> None:
    """Record the open run, or the next one, into exactly this file.

    Parameters
    ----------
    path
        The file, as from the recorder's folder; it must not exist. Folders that lead there are made.
    sample
        What is measured; kept in the file.
    note
        Anything else that the file shall say; may be repeated.
    """
    result = _ask(at).open(path, sample=sample, notes="\n".join(note) or None)
    say(at, result, f"one run goes into {result['path']}")


@record.command
def stop(*, at: At = Where()) -> None:
    """Close what is being recorded, and record nothing more."""
    result = _ask(at).stop()
    files = [_described(each) for each in result["files"]]
    say(at, result, "\n".join(files) or "no file was open, and nothing more is recorded")


@record.command
def close(*, at: At = Where()) -> None:
    """Close the file of `open`; of one whose run has ended already, say what is in it."""
    result = _ask(at).close_file()
    say(at, result, _described(result) if result["path"] else "nothing was recorded")


@record.command
def status(*, at: At = Where()) -> None:
    """Show what the recorder is doing: file, spectra on disk, room left."""
    show(at, _ask(at).status(), _rows)


def _ask(at: Where) -> Any:
    from cars_rt.remote import Recorder

    return Recorder(at.address, at.access.client(), at.token)


def _described(file: dict[str, Any]) -> str:
    rows = ", ".join(f"{count} spectra {stream}" for stream, count in file["rows"].items()) or "no spectra"
    planned = file["planned"]
    of = f", {planned} were planned" if planned and planned != max(file["rows"].values(), default=0) else ""
    return f"{file['path']}: {rows}{of}, {'complete' if file['complete'] else 'incomplete'}"


def _rows(now: dict[str, Any]) -> list[tuple[str, str]]:
    closed = "" if now["recording"] else ", closed"
    planned = f" of {now['planned']} planned" if now["planned"] else ""
    late = f", from spectrum {now['first']} on" if now["first"] else ""
    minutes = "" if now["minutes_left"] is None else f", {now['minutes_left']:.0f} min at the present rate"
    streams = (
        f"{name} at {each['address']} ({'connected' if each['connected'] else 'nobody there'})"
        for name, each in now["streams"].items()
    )
    done = counted(now["runs"], "run")
    rows = [
        ("state", f"waiting for a run: {now['name']}" if now["state"] == "waiting" else now["state"]),
        ("file", f"{now['path']}{late}{closed}" if now["path"] else f"none; they go into {now['folder']}"),
        ("run", str(now["run"] or "none")),
        ("sample", now["sample"]),
        ("notes", now["notes"].replace("\n", "; ")),
        ("on disk", f"{counts(now['rows'])}{planned}; {counts(now['received'])} received"),
        ("size", f"{now['bytes'] / 1e6:.1f} MB, {now['bytes_per_s'] / 1e6:.1f} MB/s"),
        ("disk", f"{now['disk_free'] / 1e9:.1f} GB free{minutes}"),
        ("streams", ", ".join(streams)),
        ("done", f"{done}, {now['incomplete']} incomplete, {now['passed_over']} passed over"),
        ("trouble", now["trouble"]),
    ]
    return [(name, text) for name, text in rows if text]
