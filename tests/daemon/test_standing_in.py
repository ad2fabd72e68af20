"""An engine that was asked for by name and cannot be, or takes long: another one computes meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import simulated
from helpers import AXIS, PATIENCE_S, Collected, Command, Published, spectra_of, summary, wait_until

from cars_rt.remote import Remote
from cars_rt.sockets.free import free_addresses

pytestmark = simulated.there


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated.build(tmp_path_factory.mktemp("card"))


@contextmanager
def rig(
    card: Path, folder: Path, **environment: str
) -> Iterator[tuple[Published, Command, Collected, Remote]]:
    publish, control = free_addresses(2)
    with (
        Published() as source,
        Command(
            "run", "--engine", "tensorrt", "--listen", source.address, "--publish", publish,
            "--control", control, "--max-batch", "8", "--subscribers", "1",
            "--summary", folder / "summary.json",
            **simulated.environment(card, folder, **environment),
        ) as command,
        Collected(publish) as results,
        Remote(control) as remote,
    ):  # fmt: skip
        source.wait()
        yield source, command, results, remote


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"SIMULATED_CUDA": "12080"},
            "is built for CUDA 13, the NVIDIA driver 580.65.06 here runs CUDA 12.8",
        ),
        ({"SIMULATED_TRT": "crash"}, "tensorrt: crashed when it was tried (exit status 139)"),
    ],
    ids=["driver too old", "library crashes"],
)
def test_daemon_lives_and_another_engine_computes(
    wrong: dict[str, str], said: str, card: Path, tmp_path: Path
) -> None:
    with rig(card, tmp_path, **wrong) as (source, command, results, remote):
        source.run("run-1", spectra_of(40))
        assert results.ends().spectra == 40
        # Where it takes a while to fail, it is being compiled until then.
        wait_until(lambda: said in remote.ask("status")["engine_instead"])
        assert remote.ask("status")["engine_name"] in ("openvino", "openvino-bf16", "onnxruntime")
        command.wait_for(said)
        assert "Traceback" not in command.said
        remote.ask("stop")
        assert command.end() == 0
    (receipt,) = summary(tmp_path / "summary.json")
    assert receipt["sent"] == 40 and not receipt["lost"]


def test_another_engine_computes_while_a_plan_is_built_and_hands_over(card: Path, tmp_path: Path) -> None:
    """Runs of other axes of as many pixels do not begin it anew. Another one computes again when the card is
    lost in a run, which costs that run what was under way, and the next one nothing."""
    built, fault = tmp_path / "built", tmp_path / "fault"
    wrong = {"SIMULATED_BUILD_UNTIL": str(built), "SIMULATED_FAULT": str(fault)}
    with rig(card, tmp_path, **wrong) as (source, command, results, remote):
        first, second, third, fourth, fifth = (spectra_of(40, first=40 * number) for number in range(5))
        source.run("run-1", first)
        assert results.ends().spectra == 40
        status = remote.ask("status")
        assert status["engine_name"] != "tensorrt" and status["ready"]
        assert status["engine_instead"].startswith(
            "tensorrt is being compiled, which may take minutes the first time ("
        )
        wait_until(lambda: remote.ask("status")["engine_instead"].endswith(" s so far, its plan 50 %)"))
        source.run("run-2", second, axis=AXIS + 9)
        assert results.ends(2).spectra == 80
        built.touch()
        wait_until(lambda: remote.ask("status")["engine_name"] == "tensorrt", PATIENCE_S)
        assert remote.ask("status")["engine_instead"] == ""
        command.wait_for(
            "tensorrt is being compiled, which may take minutes the first time; until then computes "
        )
        command.wait_for("CUDA graphs 18 of 18) is compiled and takes over")
        assert command.said.count("until then computes") == 1  # a second run does not begin it anew
        source.run("run-3", third, axis=AXIS + 9)
        assert results.ends(3).spectra == 120
        fault.touch()
        source.run("run-4", fourth, axis=AXIS + 9)
        results.ends(4)
        wait_until(lambda: remote.ask("status")["engine_name"] != "tensorrt", PATIENCE_S)
        source.run("run-5", fifth, axis=AXIS + 9)
        results.ends(5)
        assert remote.ask("status")["engine_instead"] == "tensorrt failed"
        command.wait_for("CUDA_ERROR_ILLEGAL_ADDRESS")
        remote.ask("stop")
        assert command.end() == 0 and "Traceback" not in command.said
    *whole, cut, last = summary(tmp_path / "summary.json")
    assert [(each["sent"], each["lost"]) for each in [*whole, last]] == [(40, {})] * 4
    assert set(cut["lost"]) == {"engine"} and cut["sent"] + cut["lost"]["engine"] == 40


def test_stop_does_not_wait_for_a_plan(card: Path, tmp_path: Path) -> None:
    never = tmp_path / "never"
    with rig(card, tmp_path, SIMULATED_BUILD_UNTIL=str(never)) as (_, command, _, remote):
        assert remote.ask("status")["engine_instead"].startswith("tensorrt is being compiled")
        remote.ask("stop")
        assert command.end() == 0 and "left behind" not in command.said


def test_nothing_stands_in_where_that_is_not_wanted(card: Path, tmp_path: Path) -> None:
    environment = simulated.environment(card, tmp_path, SIMULATED_CUDA="12080")
    with Command("run", "--engine", "tensorrt", "--engine-only", **environment) as command:
        assert command.end() == 1
        assert "is built for CUDA 13, the NVIDIA driver 580.65.06 here runs CUDA 12.8 at most" in command.said
        assert "in its place" not in command.said
