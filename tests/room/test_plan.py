"""A file of `cars-rt up`: what it becomes, and what is said of one that cannot be."""

import importlib
import os
import socket
import sys
from pathlib import Path

import pytest
from helpers import Command

from cars_rt.cli.room import Plan, read_plan
from cars_rt.room import check
from cars_rt.room.example import EXAMPLE
from cars_rt.room.part import Role
from cars_rt.room.wiring import Ends, reached, wire

SIMULATOR = '[driver]\nname = "simulator"\n'


def plan_of(text: str, folder: Path, **environment: str) -> Plan:
    (folder / "lab.toml").write_text(text, encoding="utf-8")
    return read_plan(folder / "lab.toml", environment)


def commands(plan: Plan) -> dict[str, str]:
    return {each.part.name: " ".join(each.part.command) for each in plan.judged}


@pytest.mark.parametrize("text", [SIMULATOR, "[driver.simulator]\n", EXAMPLE])
def test_a_driver_is_all_that_has_to_be_named(text: str, tmp_path: Path) -> None:
    plan = plan_of(text, tmp_path)
    assert not plan.problems
    (parts,) = plan.instruments
    by_role = {each.part.role: each for each in parts}
    assert list(by_role) == [role for role in Role if role in by_role]  # who listens is started first
    assert by_role[Role.DRIVER].part.hearers == (Role.RECORDER, Role.DAEMON)
    assert by_role[Role.DAEMON].part.hearers == (Role.RECORDER,)
    assert by_role[Role.RECORDER].value("raw") == by_role[Role.DRIVER].value("publish")
    assert by_role[Role.RECORDER].value("raman") == by_role[Role.DAEMON].value("publish")
    assert {Path("recordings"), Path("receipts")} <= set(plan.folders)
    if Role.VIEW in by_role:
        assert by_role[Role.VIEW].value("preview") == by_role[Role.DAEMON].value("preview")
        assert by_role[Role.VIEW].value("no_browser")  # nobody sits before this


def test_a_display_is_left_out_where_it_cannot_be_and_of_one_instrument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = '[driver.A]\nname = "simulator"\n[driver.B]\nname = "simulator"\n'
    assert "view-A" not in commands(plan_of(two + "[view]\nA = false\n", tmp_path))
    plan = plan_of(SIMULATOR + '[daemon]\npreview = "none"\n', tmp_path)
    assert not plan.problems and "view" not in commands(plan)
    monkeypatch.setattr("cars_rt.cli.room.find_spec", lambda name: None)
    plan = plan_of(SIMULATOR, tmp_path)
    assert not plan.problems and "[view] cannot be: it needs bokeh, which is not installed: " in plan.notes[0]
    assert "[view] cannot be: it needs bokeh" in plan_of(SIMULATOR + "[view]\n", tmp_path).problems[0]
    problems = plan_of('[driver.epics]\npv = "13SIM1:Pva1:Image"\n', tmp_path).problems
    assert problems[0].startswith("[driver.epics] cannot be: it needs p4p, which is not installed: ")


def test_a_flag_whose_own_name_begins_with_no_can_be_set(tmp_path: Path) -> None:
    for value in ("true", "false"):
        plan = plan_of(
            SIMULATOR + f"[view]\nno-browser = {value}\n[daemon]\nno-realtime = {value}\n", tmp_path
        )
        assert not plan.problems
        (view,) = [each for each in plan.judged if each.part.role is Role.VIEW]
        assert view.value("no_browser") is (value == "true")
    (said,) = plan_of(SIMULATOR + "[daemon]\nno-deviation = true\n", tmp_path).problems
    assert "no-deviation in [daemon] is no flag of `cars-rt run`; did you mean deviation?" in said


def test_two_instruments_share_nothing_and_one_address_is_said_once(tmp_path: Path) -> None:
    plan = plan_of(
        '[driver.A]\nname = "simulator"\n[driver.B]\nname = "simulator"\npublish = "tcp://*:7777"\n'
        'open-to-network = true\n[daemon.B]\nbands = ["CH=2800:3050", "x=1:2"]\ndeviation = false\n',
        tmp_path,
    )
    assert not plan.problems
    said = commands(plan)
    assert "--publish=tcp://127.0.0.1:5555" in said["driver-A"]
    assert (
        "--listen=tcp://127.0.0.1:7777" in said["daemon-B"]
        and "--raw=tcp://127.0.0.1:7777" in said["recorder-B"]
    )
    assert (
        "--http=127.0.0.1:5680" in said["daemon-B"] and "--publish=tcp://127.0.0.1:5656" in said["daemon-B"]
    )
    assert "--bands=CH=2800:3050 --bands=x=1:2" in said["daemon-B"] and "deviation" not in said["daemon-B"]
    assert f"--output={Path('recordings', 'B')}" in said["recorder-B"]
    assert f"--receipts={Path('receipts', 'B')}" in said["daemon-B"]
    bound = [
        (each.part.name, flag, str(each.value(flag))) for each in plan.judged for flag in ("publish", "http")
    ]
    assert not [
        said for said in check.addresses([each for each in bound if each[2] != "None"]) if "same" in said
    ]


def test_the_environment_counts_where_the_file_says_nothing(tmp_path: Path) -> None:
    plan = plan_of(SIMULATOR, tmp_path, CARS_RT_DRIVE_SIMULATOR_PUBLISH="tcp://127.0.0.1:7001")
    assert "--listen=tcp://127.0.0.1:7001" in commands(plan)["daemon"]
    assert "--publish" not in commands(plan)["driver"]  # it reads that itself


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no [driver]; name one, such as name = \"simulator\""),
        ("[driver]\nrate = 1\n", "[driver] does not say which driver"),
        ('[driver]\nname = "simulater"\n', "no driver is called 'simulater'; did you mean simulator?"),
        (SIMULATOR + "[deamon]\n", "[deamon] is no part of a room; did you mean daemon?"),
        (SIMULATOR + "rat = 1\n", "rat in [driver] is no flag of `cars-rt drive simulator`; did you"),
        (SIMULATOR + "[daemon]\nmax_batch = 0\n", "[daemon]: --max-batch must be from 1 to 4096, not 0"),
        (SIMULATOR + "rate = nan\n", "[driver]: --rate must be 0 or more, not nan"),
        (SIMULATOR + "settle-s = nan\n", "[driver]: --settle-s must be 0 or more, not nan"),
        (SIMULATOR + "truth-every = 0\n", "[driver]: --truth-every must be 1 or more, not 0"),
        (SIMULATOR + 'truth = "t.csv"\n', "[driver]: --truth t.csv is to be HDF5: name it t.h5"),
        ('[driver]\nname = "replay"\n', "[driver] does not say file, which `cars-rt drive replay` needs"),
        (SIMULATOR + 'scan = "7"\n', "[driver]: --scan '7': give rows and columns"),
        ('[driver]\nname = "replay"\nfile = "a.h5"\nloops = -1\n', "[driver]: --loops must be 0 or more"),
        (SIMULATOR + "[daemon]\nmax-batch = 1.5\n", "max-batch in [daemon] is 1.5, where a whole number is"),
        (SIMULATOR + '[daemon]\nlog-format = "json"\n', "`cars-rt up --log-format` says for all"),
        (SIMULATOR + '[recorder]\nraman = "tcp://x"\n', "[recorder]: cannot connect to 'tcp://x'"),
        (SIMULATOR + "[daemon.A]\n[daemon.B]\n", "[driver] does not say whose it is: there are A and B"),
        ("[driver.simulator]\n[daemon.smulator]\n", "there is no [driver.smulator]; did you mean simulator?"),
        ("daemon = false\n" + SIMULATOR, "a room has a daemon"),
        ("view = 3\n" + SIMULATOR, "view is a part: write its flags under [view], or view = false for none"),
        ("[driver]\nx = 1\n[driver.A]\n", "x stands in [driver] beside [driver.A]"),
        ('["driver"."a b"]\nname = "simulator"\n', "an instrument's name has letters, digits, - and _"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    problems = plan_of(text, tmp_path).problems
    assert any(said in each for each in problems), problems
    assert all("\n" not in each for each in problems)


MICRO = '[driver.micromanager]\ndevice = "DemoCamera/DCam"\naxis = "500:3100"\n'
GENICAM = '[driver.genicam]\nproducer = "maker.cti"\naxis = "500:3100"\n'
EPICS = '[driver.epics]\npv = "13SIM1:Pva1:Image"\naxis = "500:3100"\n'
SEABREEZE = "[driver.seabreeze]\npump-nm = 785\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MICRO, ""), (EPICS, ""), (SEABREEZE, ""),
        (MICRO + "exposure-ms = -1\n", "--exposure-ms must be 0 or more, not -1"),
        (MICRO + "ring-mb = 0\n", "--ring-mb must be at least 1, not 0"),
        (MICRO + 'region = "0,0,1340"\n', "--region 0,0,1340: give x,y,width,height"),
        (MICRO + 'region = "0,0,0,4"\n', "--region 0,0,0,4: width and height are at least 1"),
        (MICRO + 'property = ["Gain=2"]\n', "--property Gain=2: give Device.Property=Value"),
        (MICRO + 'rows = "9:3"\n', "--rows 9:3: give the first and the one after the last, such as 100:140"),
        (MICRO + "tracks = -1\n", "--tracks cannot be negative"),
        (MICRO + 'scan = "64"\n', "--scan 64: give rows and columns, such as 256x256"),
        (MICRO + 'step-um = "1x1"\n', "--order, --flyback and --step-um need --scan"),
        (MICRO + 'scan = "4x4"\nstep-um = "0x1"\n', "--step-um 0x1: give two numbers above 0"),
        (MICRO + 'calibration = "lab.json"\n', "lab.json"),
        (MICRO + 'pump-nm = 785\n', "--axis: the axis reaches 9513.05, beyond every raman shift"),
        (MICRO + 'adapters = "nowhere"\n', "device adapters are not found in nowhere"),
        (MICRO.replace("DemoCamera/DCam", "DCam"), "--device DCam: give adapter and device"),
        ("[driver.simulator]\nexposure-ms = -1\n", "--exposure-ms must be more than 0, not -1"),
        ("[driver.simulator]\npixels = 1\n", "--pixels must be from 2 to 65536, not 1"),
        ('[driver.micromanager]\naxis = "500:3100"\n', "give --system FILE.cfg of Micro-Manager"),
        (GENICAM, "there is no producer maker.cti"),
        (GENICAM + 'property = ["Gain"]\n', "--property Gain: give Feature=Value"),
        (GENICAM + "exposure-ms = 0\n", "--exposure-ms must be more than 0, not 0"),
        (EPICS + "connect-s = 0\n", "--connect-s must be more than 0, not 0"),
        (EPICS.replace('500:3100', "gone.txt"), "there is no file gone.txt"),
        (EPICS.replace('500:3100', "3100:3100"), "--axis: the raman-shift axis is not strictly monotonic"),
        (EPICS.replace('axis = "500:3100"\n', ""), "which raman shift the camera's pixels have is not known"),
        (EPICS + 'exposure-ms = "fast"\n', '--exposure-ms: unable to convert "fast" into float'),
        (SEABREEZE + "exposure-ms = -3\n", "--exposure-ms must be more than 0, not -3"),
        (SEABREEZE + 'trigger = "soft"\n', "soft"),
        (SEABREEZE + 'pyusb-backend = "libusb"\n', "libusb1"),
        (SEABREEZE.replace("785", "0"), "--pump-nm must be a wavelength in nm, such as 785, not 0"),
    ],
)  # fmt: skip
def test_a_driver_is_judged_without_its_instrument(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when the sample lies there, one flag after the other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cars_rt.cli.room.find_spec", lambda name: True)
    plan = plan_of(text, tmp_path)
    driver = next((each for each in plan.judged if each.part.role is Role.DRIVER), None)
    seen = [] if driver is None else list(check.instrument(driver.every()))
    found = [*plan.problems, *seen]
    assert [said in each for each in found] == [True] * bool(said), found
    assert all("\n" not in each for each in found)


def test_an_address_given_at_one_end_is_the_other_ends_too() -> None:
    driver = Ends(Role.DRIVER, {"publish": "tcp://127.0.0.1:5555"}, {"publish": "tcp://0.0.0.0:7000"})
    daemon = Ends(Role.DAEMON, {"listen": "tcp://127.0.0.1:5555", "http": "127.0.0.1:5580"})
    assert wire(1, [daemon, driver]) == [{"listen": "tcp://127.0.0.1:7000", "http": "127.0.0.1:5680"}, {}]
    elsewhere = Ends(Role.DAEMON, {"listen": "tcp://127.0.0.1:5555"}, {"listen": "tcp://scope:5555"})
    recorder = Ends(Role.RECORDER, {"raw": "tcp://127.0.0.1:5555"})
    assert wire(0, [recorder, elsewhere]) == [{"raw": "tcp://scope:5555"}, {}]
    assert reached("tcp://[::]:7") == "tcp://[::1]:7" and reached("*:80") == "127.0.0.1:80"


def test_the_computer_is_asked_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        (said,) = check.addresses([("[driver]", "publish", address), ("[daemon]", "http", "none")])
        assert said.startswith(f"[driver]: --publish {address} cannot be used: ") and "give another" in said
    both = [("[driver]", "publish", "tcp://*:7777"), ("[daemon]", "publish", "tcp://127.0.0.1:7777")]
    assert next(check.addresses(both)) == (
        "[driver] --publish and [daemon] --publish are the same address, tcp://127.0.0.1:7777: give two"
    )
    (said,) = check.folders({tmp_path / "no" / "where": "--output"}, [])
    assert "there is no folder" in said and ("make it (mkdir " in said and "or mount its disk" in said)
    assert not list(check.folders({tmp_path / "a" / "b": "--output"}, [tmp_path / "a", tmp_path / "a" / "b"]))
    (tmp_path / "file").touch()
    assert "is no folder" in next(check.folders({tmp_path / "file": "--output"}, []))
    if sys.platform != "win32" and os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        assert "nothing can be written" in next(check.folders({tmp_path / "closed": "--output"}, []))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[daemon]\npreview = "tcp://*:7757"\n', "other computers can reach tcp://*:7757"),
        ('[daemon]\nspectra = "tcp://*:7759"\n', "other computers can reach tcp://*:7759"),
        ('[daemon]\npreview = "none"\nspectra = "none"\ncontrol = "none"\n', ""),
        ('[recorder]\ncontrol = "tcp://*:7560"\n', "other computers can reach tcp://*:7560"),
        ('[recorder]\ncontrol = "none"\n', ""),
        ('[view]\nkey = "a.key"\n', "--key without --server-key"),
        ('[view]\nkey = "a.key"\nserver-key = "a.pub"\n', "there is no key file a.key"),
    ],
)
def test_keys_are_judged_at_every_address(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cars_rt.cli.room.find_spec", lambda name: True)
    plan = plan_of(SIMULATOR + text, tmp_path)
    found = [*plan.problems]
    for each in plan.judged:
        found += check.keys(each.flags.arguments.values())
    assert [said in each for each in found] == [True] * bool(said), found


def test_check_says_all_that_is_wrong_and_starts_nothing(tmp_path: Path) -> None:
    text = (
        'view = false\n[driver]\nname = "replay"\nfile = "gone.h5"\npublish = "tcp://*:7770"\nruns = 2\n'
        '[daemon]\nmodel = "cnnn"\nengine = "opnvino"\nreceipts = "no/where"\nbands = ["CH"]\n'
        '[recorder]\noutput = "elsewhere/x.h5"\n'
    )
    (tmp_path / "lab.toml").write_text(text, encoding="utf-8")
    ports = {
        f"CARS_RT_RUN_{name}": f"tcp://127.0.0.1:{port}"
        for name, port in (("PREVIEW", 7757), ("CONTROL", 7758))
    }
    with Command("up", "--check", tmp_path / "lab.toml", **ports) as command:
        assert command.process.stdout is not None
        found = command.process.stdout.read()
        assert command.end() == 1
    for said in (
        "[driver]: there is no file gone.h5", "[driver]: other computers can reach tcp://*:7770",
        "--model: no model is called 'cnnn'", "--engine: no engine is called 'opnvino'",
        "[daemon]: --receipts: there is no folder no: make it (",
        "[recorder]: --output: there is no folder elsewhere", "[daemon]: --bands: a band is NAME=LOW:HIGH",
        "takes one run, and the driver makes more: give a folder",
    ):  # fmt: skip
        assert said in found, found
    assert "things are in the way; nothing was started" in command.said
    assert {each.name for each in tmp_path.iterdir()} == {"lab.toml"}


@pytest.mark.parametrize(("typed", "there"), [("logs2/x", "logs2/x"), (None, "sub/logs")])
def test_a_folder_that_is_typed_counts_from_where_it_is_typed(
    typed: str | None, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("cars_rt.cli.up")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "lab.toml").write_text(SIMULATOR, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = list[Path]()
    monkeypatch.setattr(module.app, "config", module.app.config)
    monkeypatch.setattr(module, "start_logging", lambda *logs, **how: None)
    monkeypatch.setattr(module, "_troubles", lambda plan, folder: [])
    monkeypatch.setattr(module, "_serve", lambda plan, _, folder, *more: found.append(folder.absolute()))
    given = {} if typed is None else {"log_folder": Path(typed)}
    with pytest.raises(SystemExit):
        module.up(Path("sub/lab.toml"), **given)
    assert found == [tmp_path / there]
