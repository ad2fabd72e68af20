"""The page that a browser shows at the daemon's HTTP address: how it is, and links to all else."""

from html import escape

from cars_rt.daemon.seen.snapshot import Snapshot
from cars_rt.daemon.seen.status import dark_in_words, last_in_words
from cars_rt.kinds import in_words
from cars_rt.printable import lasted, printable

LINKS = {
    "/status": "everything that the daemon knows of itself, as JSON",
    "/metrics": "the same for Prometheus",
    "/readyz": "whether a run can begin: ok, or why not",
    "/livez": "whether the daemon is alive: ok, or why not",
}
#: Nothing but what is written in the page itself, which runs no program.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}"
    ":root{color-scheme:light dark}"
    "td,th{text-align:left;vertical-align:top;padding:.15rem 1.5rem .15rem 0}"
    "th{font-weight:normal;opacity:.7}"
    ".no{color:#c33;font-weight:bold}"
)


def page(now: Snapshot, not_ready: str | None) -> str:
    """The page as HTML, which loads itself again every 2 s. not_ready: why a run cannot begin, or None."""
    rows = [
        ("state", f"{now.state}, up {lasted(now.uptime_s)}"),
        ("driver", f"{now.listen}: {'connected' if now.connected else now.trouble or 'nobody there'}"),
        ("results", f"{now.publish}: {now.subscribers} listening"),
        ("run", f"{now.run} from {now.source}" if now.run else f"none open, {now.runs} closed"),
        ("because", f"it cannot be computed: {now.run_refused}" if now.run_refused else ""),
        ("last run", last_in_words(now.last_run) if now.last_run else ""),
        ("spectra", f"{now.spectra_in} in, {now.spectra_out} out"),
        ("lost", in_words(now.lost) or "none"),
        ("flagged", in_words(now.flagged) or "none"),
        ("model", f"{now.model} on {now.engine or 'no engine yet'}"),
        ("because", now.engine_instead or ""),
        ("dark", dark_in_words(now.dark, now.run)),
    ]
    table = "".join(f"<tr><th>{name}<td>{escape(printable(text))}" for name, text in rows if text)
    links = "".join(f'<li><a href="{path}">{path}</a>: {escape(text)}' for path, text in LINKS.items())
    ready = "ready" if not_ready is None else f'<span class="no">{escape(printable(not_ready))}</span>'
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">'
        '<meta name="viewport" content="width=device-width"><title>CARS-RT</title>'
        f"<style>{STYLE}</style><h1>CARS-RT: {ready}</h1><table>{table}</table><ul>{links}</ul>"
        "<p>To direct it: <code>cars-rt ctl --help</code>.\n"
    )
