"""The programs of a measurement as processes of their own, with the addresses that belong together."""

import json
from pathlib import Path
from typing import Any

from helpers import Command, summary

from cars_rt.sockets.free import free_addresses as addresses

__all__ = ["addresses"]

TESTS = Path(__file__).parents[1]


class Program(Command):
    """A process; what it said is shown where a test fails."""

    def __exit__(self, *arguments: object) -> None:
        super().__exit__(*arguments)
        last = "\n".join(self.said.splitlines()[-12:])
        print(f"-- {' '.join(map(str, self.process.args[2:4]))} said last\n{last}")


def camera(address: str, truth: Path, **flags: object) -> Program:
    """A driver process, see camera.py; flags as there."""
    return Program(
        "--publish", address, "--truth", truth, *_flags(flags), module="chaos.camera", PYTHONPATH=str(TESTS)
    )  # fmt: skip


def daemon(listen: str, publish: str, totals: Path | None = None, **flags: object) -> Program:
    """`cars-rt run`; its engine copies, so that results say which ones they are."""
    given = {"engine": "passthrough", "listen": listen, "publish": publish, "subscribers": 1, "threads": 1}
    return Program("run", *_flags(given | ({"summary": totals} if totals else {}) | flags))


def slow_daemon(
    listen: str, publish: str, totals: Path, ms: float, fails: str = "", **flags: object
) -> Program:
    """As `daemon`, but each spectrum takes `ms`, and those with a spectrum of `fails` fail."""
    given = {"engine": "slow", "listen": listen, "publish": publish, "subscribers": 1, "summary": totals}
    return Program(
        "run", *_flags(given | flags),
        module="chaos.slow", PYTHONPATH=str(TESTS), CHAOS_MS=str(ms), CHAOS_FAILS=fails,
    )  # fmt: skip


def recorder(output: Path, raw: str, raman: str, **flags: object) -> Program:
    """`cars-rt record` of both streams."""
    return Program("record", output, "--raw", raw, "--raman", raman, *_flags(flags))


def totals_of(process: Command, path: Path) -> list[dict[str, Any]]:
    """Ask a daemon to end; what it says of its runs."""
    process.process.terminate()
    assert process.end() == 0, process.said
    assert "Traceback" not in process.said, process.said
    return summary(path)


def truth_of(path: Path) -> list[dict[str, Any]]:
    """Of each run that a camera ended: what it yielded, and its own receipt."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _flags(flags: dict[str, object]) -> list[str]:
    given = []
    for name, value in flags.items():
        values = value if isinstance(value, tuple) else (value,)
        given += [f"--{name.replace('_', '-')}", *map(str, values)]
    return given
