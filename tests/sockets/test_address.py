"""Addresses: what ZeroMQ would take for another one is refused, by every flag, in one sentence."""

import pytest
from helpers import LOCAL, Collected, a_frame, a_start, an_end, spectra_of

from cars_rt.check import CheckSettings, check
from cars_rt.daemon.seen.http import HttpServer
from cars_rt.daemon.settings import DaemonSettings, SettingsError
from cars_rt.drivers import DriveSettings
from cars_rt.files.recorder import RecordSettings
from cars_rt.remote import Remote
from cars_rt.sockets import Publisher, StreamError, Subscriber
from cars_rt.sockets.addresses import Address, AddressError

BAD = [
    ("tcp://localhost:99999", "the port must be a number from 1 to 65535, not '99999'"),
    ("tcp://localhost:80x", "not '80x'"),
    ("tcp://localhost:-1", "not '-1'"),
    ("tcp://localhost:", "not ''"),
    ("tcp://localhost: 80", "not ' 80'"),
    ("tcp://localhost:8०", "the port must be"),
    ("tcp://localhost:" + 5000 * "9", "the port must be"),
    ("tcp://localhost:5555/raw", "the port must be"),
    ("tcp://localhost", "give it as tcp://HOST:PORT"),
    ("tcp://:5555", "give it as tcp://HOST:PORT"),
    ("localhost:5555", "give it as tcp://HOST:PORT"),
    ("", "give it as tcp://HOST:PORT"),
    ("TCP://localhost:5555", "TCP is not supported, only tcp"),
    ("ipc:///tmp/raw", "ipc is not supported, only tcp"),
    ("http://localhost:5555", "http is not supported, only tcp"),
    ("tcp://::1:5555", r"stands in brackets, such as \[::1\]"),
    ("tcp://[::1:5555", "is no address of IPv6"),
    ("tcp://[::zz]:5555", "'::zz' is no address of IPv6"),
    ("tcp://[127.0.0.1]:5555", "is no address of IPv6"),
    ("tcp://127.0.0.256:5555", "127.0.0.256 is no address of IPv4"),
    ("tcp://127.1:5555", "127.1 is no address of IPv4"),
    ("tcp://my computer:5555", "'my computer' is no name of a computer"),
    ("tcp://eth0;10.0.0.1:5555", "is no name of a computer"),
]


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_what_is_no_address_is_refused_by_every_program(text: str, reason: str) -> None:
    for give in (
        lambda: DriveSettings(publish=text),
        lambda: DaemonSettings(listen=text),
        lambda: DaemonSettings(publish=text),
        lambda: DaemonSettings(preview=text),
        lambda: DaemonSettings(control=text),
        lambda: RecordSettings(raman=text),
        lambda: RecordSettings(raw=text),
        lambda: check(CheckSettings(listen=text)),
    ):
        with pytest.raises(AddressError, match=reason):
            give()
    for use in (lambda: Publisher(text, "raw"), lambda: Subscriber(text, "raw"), lambda: Remote(text)):
        with pytest.raises(StreamError, match=reason):
            use()


def test_only_who_binds_may_leave_something_open() -> None:
    assert Address.to_bind("tcp://*:*") == Address.to_bind("tcp://*:0") == Address("*", 0)
    assert str(Address.to_bind("tcp://[::1]:0")) == "tcp://[::1]:*"
    for text, reason in (
        ("tcp://*:5555", "every address of this computer; name one"),
        ("tcp://localhost:*", "the port must be"),
        ("tcp://localhost:0", "nobody publishes at port 0"),
    ):
        with pytest.raises(AddressError, match=reason):
            Address.to_connect(text)


@pytest.mark.parametrize("text", ["127.0.0.1:99999", "127.0.0.1:80x", "127.0.0.1", "http://a:80", "::1:80"])
def test_address_of_http_is_refused_likewise(text: str) -> None:
    with pytest.raises(AddressError, match=r"^cannot serve HTTP at "):
        DaemonSettings(http=text)
    with pytest.raises(StreamError, match=r"^cannot serve HTTP at "):
        HttpServer(text)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("tcp://127.0.0.1:1", "tcp://localhost:1", True),
        ("tcp://127.0.0.1:1", "tcp://LOCALHOST:1", True),
        ("tcp://[::1]:1", "tcp://127.8.0.1:1", True),
        ("tcp://127.0.0.1:1", "tcp://*:1", True),
        ("tcp://0.0.0.0:1", "tcp://10.0.0.1:1", True),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", False),
        ("tcp://10.0.0.1:1", "tcp://10.0.0.2:1", False),
        ("tcp://*:*", "tcp://*:*", False),
    ],
)
def test_two_addresses_that_are_one_are_found(one: str, other: str, meet: bool) -> None:
    assert Address.to_bind(one).meets(Address.to_bind(other)) is meet
    if meet:
        with pytest.raises(SettingsError, match="--publish and --preview are the same address"):
            DaemonSettings(publish=one, preview=other)


@pytest.mark.parametrize("address", [LOCAL, "tcp://localhost:*", "tcp://[::1]:*"])
def test_numbers_names_and_ipv6_work_from_end_to_end(address: str) -> None:
    try:
        publisher = Publisher(address, "raw")
    except StreamError as error:
        if "[::1]" not in address:
            raise
        pytest.skip(f"no IPv6 here: {error}")
    with publisher, Collected(publisher.address, "raw") as collected:
        assert publisher.wait_for_subscribers(1, 60)
        ((_, peer),) = publisher.audience._listeners
        assert peer[0] in ("127.0.0.1", "::1")  # read as what it is, each time
        publisher.open(a_start())
        publisher.send(a_frame(0, spectra_of(1)))
        publisher.end(an_end(1))
        assert collected.ends().spectra == 1
