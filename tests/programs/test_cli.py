"""The command line as a user meets it: real processes, their output and exit codes."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from helpers import AXIS, PATIENCE_S, Command, Published, spectra_of, summary, wait_until
from rich.console import Console

from cars_rt.cli import app
from cars_rt.cli.config import ConfigError, check_environment
from cars_rt.cli.process import _Progress
from cars_rt.console import LINK_SECRET, STOP_WITH_STDIN
from cars_rt.engines import AUTO, ENGINES, guide, shipped_models
from cars_rt.engines.model import CLASSICAL
from cars_rt.engines.remembered import OFF as FORGETFUL
from cars_rt.engines.tensorrt.plans import CACHE
from cars_rt.files.offline.jobs import targets
from cars_rt.files.spectra import SpectraError
from cars_rt.sockets.free import free_addresses

cars_rt = Command.ran


def test_help_lists_every_command() -> None:
    code, out, _ = cars_rt("--help")
    assert code == 0
    commands = ("run", "drive", "record", "check", "process", "demo", "train", "export", "evaluate")
    for name in (*commands, "--version", "--config"):
        assert name in out


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("run", ["--listen", "--publish", "--model", "--engine", "--max-batch"]),
        ("drive", ["simulator", "replay"]),
        ("drive simulator", ["--rate", "--scan", "--publish", "--overload", "--truth"]),
        ("drive replay", ["FILE", "--loops", "--block", "--subscribers"]),
        ("check", ["--listen", "--rate", "--output", "--seconds", "--json"]),
        ("record", ["OUTPUT", "--raman", "--raw", "--overwrite"]),
        ("process", ["INPUT", "--output", "-o", "--model", "--engine"]),
        ("demo", ["--seconds", "--rate", "--output"]),
        ("train", ["--network", "--out", "--resume"]),
        ("export", ["FILE", "--to", "--output"]),
        ("evaluate", ["MODELS", "--protocol", "--all", "--measured", "--json", "--png"]),
    ],
)
def test_help_of_a_command_lists_its_flags(command: str, flags: list[str]) -> None:
    code, out, _ = cars_rt(*command.split(), "--help")
    assert code == 0
    for flag in flags:
        assert flag in out


def test_help_offers_no_name_in_the_environment_that_is_refused() -> None:
    _, out, _ = cars_rt("drive")
    assert "--config" in out and "_CONFIG" not in out


@pytest.mark.parametrize("command", ["ctl record start", "train", "evaluate"])
def test_help_shows_examples_as_they_are_typed(command: str) -> None:
    """What it shows is Markdown, in which two _ and lines that follow each other are something else."""
    where = app
    for name in command.split():
        where = where[name]
    about = [" ".join(line.split()) for line in (where.default_command.__doc__ or "").splitlines()]
    examples = [line.replace("`", "") for line in about if line.startswith("Example")]
    app.help_print(command.split(), console=(shown := Console(file=StringIO(), width=200)))
    assert examples and set(examples) <= {line.strip() for line in shown.file.getvalue().splitlines()}


@pytest.mark.parametrize(
    ("typed", "said"),
    {
        "frobnicate": "there is no such command as `cars-rt frobnicate`; there are bench, build, c",
        "recrod": "`cars-rt recrod`; did you mean `cars-rt record`?",
        "status": "`cars-rt status`; did you mean `cars-rt ctl status`?",
        "ctl stats": "`cars-rt ctl stats`; did you mean `cars-rt ctl status`?",
        "--frobnicate": "there is no such flag as `cars-rt --frobnicate`; `cars-rt --help` lists",
    }.items(),
)
def test_a_mistyped_command_is_told_with_the_one_that_was_meant(typed: str, said: str) -> None:
    code, _, error = cars_rt(*typed.split())
    assert code == 2 and said in error and error.count("\n") == 1


def test_help_of_run_lists_models_and_engines_with_a_line_each() -> None:
    assert set(guide.MODELS) == {*shipped_models(), *CLASSICAL}
    assert next(iter(guide.ENGINES)) == AUTO and set(guide.ENGINES) == {AUTO, *ENGINES}
    _, out, _ = cars_rt("run", "--help")
    for name, about in (guide.MODELS | guide.ENGINES).items():
        assert (f" {name}: {about}" in out) == (name not in guide.FOR_FILES), out


def test_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert cars_rt("--version")[1].strip() == version("cars-rt")


def test_help_needs_no_torch_and_no_onnx() -> None:
    """Help and errors in the flags come at once: heavy packages are imported inside the commands."""
    program = (
        "import sys, cars_rt.cli\n"
        "heavy = {'torch', 'matplotlib', 'onnxruntime', 'scipy', 'tensorrt'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "unneeded"),
    [
        (["keys", "--help"], {"numpy", "cars_rt.cli.run"}),
        (["ctl", "status", "--help"], {"h5py", "onnx", "cars_rt.cli.run", "cars_rt.cli.ctl_record"}),
        (["record", "--help"], {"onnx", "cars_rt.cli.verify"}),
        (["drive", "simulator", "--help"], {"onnx", "cars_rt.drivers.seabreeze"}),
    ],
)
def test_a_command_starts_with_no_more_than_it_needs(command: list[str], unneeded: set[str]) -> None:
    program = (
        "import atexit, sys\n"
        "from cars_rt.cli import main\n"
        "atexit.register(lambda: print('\\n', *sys.modules, sep='\\n'))\n"
        f"sys.argv[1:] = {command}\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S)
    loaded = set(done.stdout.split())
    assert done.returncode == 0 and "cars_rt.cli.app" in loaded and not loaded & unneeded, done.stderr


@pytest.mark.parametrize("module", ["cyclopts", "cars_rt.cli.run", "cars_rt.daemon.loop"])
def test_ctrl_c_while_it_starts_is_one_line(module: str) -> None:
    """While modules are imported: first those of the command line, then those of the command's program."""
    program = (
        "import signal, sys\n"
        "from cars_rt.__main__ import main\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}:\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv[1:] = ['run']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (130, "cars-rt: interrupted\n")


def test_process_makes_a_file_of_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", spectra=spectra_of(1), raman_shift=AXIS)
    code, _, said = cars_rt("process", tmp_path / "in.npz", "-o", tmp_path / "out.h5")
    assert code == 0 and "1 spectrum of 160 pixels by cnn" in said
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["raman/raman"].shape == (1, 160)


def test_process_takes_many_files_and_replaces_none_unasked(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, spectra=spectra_of(3), raman_shift=AXIS)
    np.savez(tmp_path / "c.npz", spectra=spectra_of(3)[:, ::4], raman_shift=AXIS[::4])
    given = ("process", tmp_path / "[abc].npz", "-o", tmp_path / "out", "--engine", "onnxruntime")
    code, _, said = cars_rt(*given)
    assert code == 1 and "1 of 3 files could not be processed" in said
    assert f"{tmp_path / 'c.npz'}: the axis has steps of" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-raman.npz", "b-raman.npz"]
    (tmp_path / "c.npz").unlink()
    code, _, said = cars_rt(*given)
    assert code == 0 and "a-raman.npz: an earlier result is replaced" in said
    shutil.copy(tmp_path / "a.npz", tmp_path / "out" / "a-raman.npz")  # of something else
    (tmp_path / "out" / "b-raman.npz").unlink()
    code, _, said = cars_rt(*given)
    assert code == 1 and "a-raman.npz exists already; choose another name or give --overwrite" in said
    assert "1 of 2 files could not be processed" in said and (tmp_path / "out" / "b-raman.npz").exists()
    assert cars_rt(*given, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("given", "output", "reason"),
    [
        (["a.npz", "sub/a.npz"], "out", "two of the inputs would become .*a-raman.npz"),
        (["a.npz", "b.npz"], "none/out", "cannot be made: there is no folder .*none; make that"),
        (["a.npz"], "none/out", "cannot be made: there is no folder .*none; make that"),
        (
            ["a.npz", "sub/a.npz"],
            "b.mat",
            "b.mat is one file by its name, and there are 2 inputs: give a folder",
        ),
        (["a.npz"], "a.npz", "is the input; choose another name"),
        (["a.npz", "a-raman.npz"], ".", "a-raman.npz is an input, and would be the result of .*a.npz"),
        (["r-raman.npz", "s-raman.npz"], "out", "all of .*r-raman.npz ... .*s-raman.npz are results$"),
        (["*.csv"], "out", "no file of spectra matches"),
        (["notes.md"], "out", "the file's name must end in one of"),
        (["none"], "out", "^there is no file or folder .*none$"),
        (["a.npz", "none.md"], "out", "^there is no file or folder .*none.md$"),
    ],
)
def test_inputs_that_do_not_fit_their_output_are_refused_first(
    given: list[str], output: str, reason: str, tmp_path: Path
) -> None:
    for folder in ("out", "sub"):
        (tmp_path / folder).mkdir()
    for name in ("a.npz", "b.npz", "a-raman.npz", "sub/a.npz"):
        np.savez(tmp_path / name, spectra=spectra_of(3), raman_shift=AXIS)
    for name in ("r-raman.npz", "s-raman.npz"):
        np.savez(tmp_path / name, raman=spectra_of(3), model_sha256="0")
    (tmp_path / "notes.md").touch()
    with pytest.raises(SpectraError, match=reason):
        targets([tmp_path / each for each in given], tmp_path / output)


def test_what_is_given_by_a_pattern_or_lies_in_a_folder_becomes_results(tmp_path: Path) -> None:
    """Also the second time, when results lie beside the spectra, and in a folder with a dot in its name."""
    (given := tmp_path / "scans").mkdir()
    for name in ("a.npz", "b.npz", "c.partial.npz"):
        np.savez(given / name, spectra=spectra_of(3), raman_shift=AXIS)
    np.savez(given / "a-raman.npz", raman=spectra_of(3), model_sha256="0")
    for inputs, output in (
        ([given / "*.npz"], given),
        ([given / "a.npz", given / "a-raman.npz", given / "b.npz"], given),  # as a shell gives *[ab]*.npz
        ([given], tmp_path / "scans-28.11.2026"),
        ([given / "a.npz", given / "b.npz"], tmp_path / "scans-28.11.2026"),
    ):
        assert targets(inputs, output) == [
            (given / f"{name}.npz", output / f"{name}-raman.npz") for name in ("a", "b")
        ]
    named = targets([given / "a.npz", given / "c.partial.npz"], tmp_path)  # a recording that was cut short
    assert [source.name for source, _ in named] == ["a.npz", "c.partial.npz"]
    one = given / "b.npz"  # what the pattern of a shell may come to as well: a folder then, too
    assert targets([one], tmp_path / "results") == [(one, tmp_path / "results" / "b-raman.npz")]
    assert targets(sorted(given.glob("a*")), tmp_path / "a.h5") == [(given / "a.npz", tmp_path / "a.h5")]


def test_capital_letters_tell_results_apart_where_they_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [tmp_path / "a.npz", tmp_path / "other" / "A.npz"]
    (tmp_path / "other").mkdir()
    for path in given:
        np.savez(path, spectra=spectra_of(3), raman_shift=AXIS)
    monkeypatch.setattr(sys, "platform", "linux")
    assert len(targets(given, tmp_path / "out")) == 2
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SpectraError, match=r"two of the inputs would become .*a-raman.npz"):
        targets(given, tmp_path / "out")


def test_progress_of_what_goes_on_counts_what_is_done_now(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of it was there, and nothing came for a while: no rate yet, then that of the rest."""
    now = iter([0.0, 100.0, 120.0, 140.0])
    monkeypatch.setattr("cars_rt.cli.process.time.monotonic", lambda: next(now))
    monkeypatch.setattr("cars_rt.cli.process.on_terminal", lambda: False)
    caplog.set_level("INFO", "cars_rt")
    shown = _Progress("a.h5", SimpleNamespace(check=lambda: None))
    for done in (500, 500, 600):
        shown.show(done, 1000)
    assert [record.getMessage() for record in caplog.records] == [
        "a.h5: 500 of 1000 spectra, 0/s, just begun",
        "a.h5: 500 of 1000 spectra, 0/s, just begun",
        "a.h5: 600 of 1000 spectra, 2/s, 0:02:40 left",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--pixels", str(10**12)], "--pixels must be from 2 to 65536"),
        (["--axis", f"400:3400:{10**12}"], "--axis takes LOW:HIGH:PIXELS"),
        (["--pixels", "1340", "--max-batch", str(10**12)], "--max-batch must be from 1 to 4096"),
    ],
)
def test_build_refuses_numbers_that_no_instrument_has(flags: list[str], said: str) -> None:
    code, _, said_of_it = cars_rt("build", "cnn", *flags)
    assert code == 1 and said in said_of_it and "Traceback" not in said_of_it


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_process_that_is_stopped_says_what_it_leaves(number: int, tmp_path: Path) -> None:
    """At its very beginning nothing; later what is done, see tests/files/test_process_resumes.py."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("spectra", (2**20, len(AXIS)), "u2", chunks=(200, len(AXIS)))
        file["raman_shift"] = AXIS
    with Command(
        "process", tmp_path / "in.h5", "-o", tmp_path / "out.h5", "--engine", "onnxruntime"
    ) as command:
        wait_until(lambda: len(list(tmp_path.iterdir())) > 1)
        command.process.send_signal(number)
        assert command.end() == 130
    assert "out.h5 is not written, and " in command.said
    left = {path.name for path in tmp_path.iterdir()} - {"in.h5", ".out.h5.lock"}  # which nobody holds
    assert left == ({"out.partial.h5"} if "the same command goes on" in command.said else set())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            "run --model nonsense",
            "there are cnn, cnn-crimson2024, cnn-kk, kk, rnn, rnn-crimson2024, rnn-kk, or",
        ),
        (
            "process {tmp}/in.npz -o {tmp}/out.npz --model nonsense",
            "no model is called 'nonsense'; there are cnn, cnn-crimson2024, cnn-kk, kk, mem, rnn",
        ),
        ("run --engine nonsense", "no engine is called 'nonsense'; there are auto"),
        ("run --listen nowhere", "cannot connect to 'nowhere': give it as tcp://HOST:PORT"),
        ("run --publish nowhere", "cannot publish at nowhere: give it as tcp://HOST:PORT"),
        ("drive simulator --scan 7", "--scan '7': give rows and columns"),
        ("drive replay {tmp}/none.csv", "there is no file"),
        ("drive replay {tmp}/none", "there is no file"),
        ("record {tmp}/a.txt/scan.h5", "cannot write in"),
        ("record {tmp}/scan.h5 --raman nowhere", "cannot connect to 'nowhere'"),
        ("record {tmp}/scan.partial.h5 --control none", "is a name of recordings that are being written"),
        ("process {tmp}/in.npz -o {tmp}/out.xyz", "the output's name must end in one of"),
        ("process {tmp}/none.npz -o {tmp}/out.npz", "there is no file"),
        (
            "process {tmp}/in.npz -o {tmp}/out.npz --engine nonsense",
            "no engine is called 'nonsense'; there are",
        ),
        ("process {tmp}/in.npz -o {tmp}/out.npz --model {tmp}/a.txt", "no model is called"),
        (f"process {{tmp}}/in.npz -o {{tmp}}/{'x' * 300}.npz", "File name too long"),
        ("calibrate dark {tmp}/in.npz --spectra 0", "--spectra must be more than 0, not 0"),
        ("calibrate dark {tmp}/in.npz --exposure-ms nan", "--exposure-ms must be more than 0, not nan"),
        ("listen --seconds nan", "--runs and --seconds cannot be negative"),
        ("drive replay {tmp}/in.npz --summary {tmp}/no/x.json", "--summary: there is no folder"),
        ("ctl shadow cnn --off --address tcp://127.0.0.1:9", "--off ends whatever candidate there is"),
        ("run --bands CH=900:950 --bands CH=960:980", "two bands are called 'CH'"),
        ("run --summary {tmp}", "is a folder; name a file"),
        ("record {tmp}/scan.h5 --summary {tmp}/no/x.json", "--summary: there is no folder"),
        ("check --seconds 0.1 --engine passthrough --json {tmp}/no/x.json", "--json: there is no folder"),
        ("doctor --quick --model cnn --json {tmp}/no/x.json", "--json: there is no folder"),
        ("bench stream --rounds 1 --seconds 0.1 --png {tmp}/no/x.png", "--png: there is no folder"),
        ("drive replay {tmp}", "is a folder, where a file is needed"),
    ],
)
def test_error_is_one_line_and_exit_code_one(arguments: str, reason: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", spectra=spectra_of(3), raman_shift=AXIS)
    (tmp_path / "a.txt").touch()
    code, _, said = cars_rt(*(argument.format(tmp=tmp_path) for argument in arguments.split()))
    assert code == 1
    assert len(said.strip().splitlines()) == 1, said
    assert said.startswith("cars-rt: ") and reason in said


@pytest.mark.parametrize("command", ["run --publish {taken}", "drive simulator --scan 8x8 --publish {taken}"])
def test_port_in_use_is_one_line(command: str) -> None:
    with Published() as source:
        code, _, said = cars_rt(*command.format(taken=source.address).split())
    assert code == 1 and len(said.strip().splitlines()) == 1
    assert f"cannot publish at {source.address}: another program already uses it" in said


def test_flags_come_from_the_environment() -> None:
    code, _, said = cars_rt("run", CARS_RT_RUN_MODEL="from-the-environment")
    assert code == 1 and "no model is called 'from-the-environment'" in said


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CARS_RT_RUN_MODLE", "did you mean CARS_RT_RUN_MODEL?"),
        ("CARS_RT_MODEL", "did you mean CARS_RT_RUN_MODEL?"),
        ("CARS_RT_RUN_max_batch", "did you mean CARS_RT_RUN_MAX_BATCH?"),
        ("CARS_RT_DRIVE_REPLAY_RAT", "did you mean CARS_RT_DRIVE_REPLAY_RATE?"),
        ("CARS_RT_XYZZY", "`cars-rt COMMAND --help` lists them"),
    ],
)
def test_name_in_the_environment_that_is_no_flag_is_refused(name: str, meant: str) -> None:
    names = [CACHE, FORGETFUL, LINK_SECRET, STOP_WITH_STDIN, "HOME"]
    names += ["CARS_RT_CTL_STATUS_ADDRESS", "CARS_RT_RECORD_OUTPUT"]
    check_environment(dict.fromkeys(names, ""), app)
    with pytest.raises(ConfigError, match=f"^{name} in the environment is no flag of any command") as said:
        check_environment({name: "", **dict.fromkeys(names, "")}, app)
    assert meant in str(said.value)


def test_slip_in_the_environment_stops_every_command() -> None:
    code, _, said = cars_rt("ctl", "status", CARS_RT_RUN_MODLE="cnn")
    assert code == 2 and "did you mean CARS_RT_RUN_MODEL?" in said and len(said.splitlines()) == 1


def test_flags_come_from_a_file_and_the_command_line_wins(tmp_path: Path) -> None:
    config = tmp_path / "lab.toml"
    config.write_text(
        '\ufeff[run]\nmodel = "from-the-file"\n', encoding="utf-8"
    )  # as Windows' editor saves it
    code, _, said = cars_rt("--config", config, "run")
    assert code == 1 and "no model is called 'from-the-file'" in said
    code, _, said = cars_rt("--config", config, "run", "--model", "from-the-flag")
    assert code == 1 and "no model is called 'from-the-flag'" in said


def test_unknown_flag_is_said() -> None:
    code, out, said = cars_rt("run", "--modle", "cnn")
    assert code != 0 and "--modle" in out + said and "Traceback" not in said


def test_values_behind_one_flag_are_said_with_the_remedy() -> None:
    code, _, said = cars_rt("run", "--bands", "A=900:950", "B=960:980")
    assert code == 2 and "'B=960:980' is too much here" in said and "--flag A --flag B" in said


def test_driver_daemon_and_recorder_as_commands_lose_nothing(tmp_path: Path) -> None:
    raw, raman = free_addresses(2)
    totals = {name: tmp_path / f"{name}.json" for name in ("driver", "daemon", "recorder")}
    np.savez(tmp_path / "in.npz", spectra=spectra_of(500), raman_shift=AXIS)
    with (
        Command(
            "record", tmp_path / "scan.h5", "--raman", raman, "--raw", raw, "--summary", totals["recorder"]
        ) as recorder,
        Command(
            "run", "--listen", raw, "--publish", raman, "--subscribers", 1, "--threads", 1,
            "--summary", totals["daemon"],
        ) as daemon,
        Command(
            "drive", "replay", tmp_path / "in.npz", "--rate", 0, "--loops", 4, "--publish", raw,
            "--subscribers", 2, "--summary", totals["driver"],
        ) as driver,
    ):  # fmt: skip
        assert driver.end() == 0, driver.said
        assert recorder.end() == 0, recorder.said
        daemon.process.terminate()
        assert daemon.end() == 0, daemon.said
    (drove,), (ran,), (recorded,) = (summary(path) for path in totals.values())
    assert drove["produced"] == drove["sent"] == ran["received"] == ran["sent"] == 2000
    assert recorded["rows"] == {"raw": 2000, "raman": 2000} and recorded["complete"]
    assert drove["lost"] == ran["lost"] == {}


@pytest.mark.parametrize(("output", "code", "said"), [("scan.h5", 3, "cars-rt: "), (".", 0, "INFO ")])
def test_record_without_a_run_says_so(output: str, code: int, said: str, tmp_path: Path) -> None:
    """Of a folder, which takes every run until it is stopped, that is a normal end."""
    with (
        Published("raman") as source,
        Command("record", tmp_path / output, "--raman", source.address) as recorder,
    ):
        source.wait()
        recorder.process.terminate()
        assert recorder.end() == code
    assert f"{said}no run came" in recorder.said and not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_no_bar_is_left_standing_above_an_error(tmp_path: Path) -> None:
    import pty

    (tmp_path / "bad.csv").write_text("only words\n", encoding="ascii")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "cars_rt", "process", "bad.csv", "-o", "out.h5"],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"},
    ) as program:  # fmt: skip
        os.close(theirs)
        said = b""
        with suppress(OSError):  # Linux says so when the last one has closed the other end
            while part := os.read(ours, 4096):
                said += part
        os.close(ours)
    _, bar, after = said.decode().rpartition("0/?")
    assert program.returncode == 1 and bar and "\x1b[1A\x1b[2K" in after, said
    assert "bad.csv: needs two columns of numbers" in after


@pytest.mark.parametrize(
    ("own", "found"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")]
)
def test_threads_of_torch_sleep_where_they_wait_unless_the_user_wants_it_otherwise(
    own: dict[str, str], found: str
) -> None:
    """Where other programs take the cores, threads that spin make a step of training ten times as long."""
    names = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
    environment = {name: value for name, value in os.environ.items() if name not in names} | own
    code = "import os, sys, cars_rt.cli; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.split() == [found, "False"]
