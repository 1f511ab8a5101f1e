"""Where boards reach the service: this machine's addresses, and what another one sees of it."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pdmlab.errors import ConfigError, Unreachable
from pdmlab.service import _running, reach, serve
from pdmlab.service.reach import Reach, machine_addresses
from tests.tools import program, require_namespaces

SERVER, SERVER_6, CLIENT, CLIENT_6 = "198.18.7.1", "2001:db8:7::1", "198.18.7.2", "2001:db8:7::2"


# -- addresses -----------------------------------------------------------------------------------------------


def test_loopback_is_for_this_machine_alone() -> None:
    for host in ("127.0.0.1", "::1"):
        at = Reach.at(host)
        assert at.loopback and (at.address, at.addresses) == (host, (host,))
        assert repr(at) == f"<Reach {host}, this machine only>"


def test_what_boards_are_told_can_be_chosen() -> None:
    at = Reach.at("127.0.0.1", "lab.example")
    assert (at.host, at.address, at.addresses) == ("127.0.0.1", "lab.example", ("lab.example", "127.0.0.1"))
    assert Reach.at("0.0.0.0", "[2001:DB8::1]").address == "2001:db8::1"
    with pytest.raises(ConfigError, match=r"nobody reaches 192\.0\.2\.1 here"):
        Reach.at("127.0.0.1", "192.0.2.1")
    assert (reach.url_host("2001:db8::1"), reach.url_host("192.0.2.1")) == ("[2001:db8::1]", "192.0.2.1")


@pytest.mark.parametrize(
    ("host", "address", "said"),
    [
        ("nonsense", None, "'nonsense' is no address"),
        ("", None, "'' is no address"),
        ("127.0.0.1:80", None, "'127.0.0.1:80' is no address"),
        ("203.0.113.77", None, "203.0.113.77 is no address of this machine"),
        ("2001:db8:ffff::77", None, "2001:db8:ffff::77 is no address of this machine"),
        ("fe80::1", None, "boards cannot be told fe80::1: it is link-local"),
        ("224.0.0.1", None, "boards cannot be told 224.0.0.1: it is multicast"),
        ("127.0.0.1", "0.0.0.0", "boards cannot be told 0.0.0.0"),
        ("127.0.0.1", "no name", "'no name' is neither an address nor a host name"),
        ("127.0.0.1", "coaps://x", "neither an address nor a host name"),
    ],
)
def test_an_address_that_cannot_be_is_refused_with_those_that_can(host: str, address: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as error:
        Reach.at(host, address)
    assert "this machine's addresses are: " in str(error.value)
    for each in machine_addresses():
        assert each in str(error.value)


def test_a_machine_without_network_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "_way_out", lambda family: None)
    monkeypatch.setattr(reach, "_interface_addresses", lambda: iter(["127.0.0.1", "fe80::1"]))
    assert machine_addresses() == ()
    with pytest.raises(Unreachable, match="this machine has no IPv4 address that boards could reach"):
        Reach.at("0.0.0.0")
    assert Reach.at("0.0.0.0", "lab.example").addresses == ("lab.example",)


def test_other_systems_say_their_addresses_under_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(
        reach.socket,
        "getaddrinfo",
        lambda host, port: [(2, 1, 6, "", ("192.0.2.9", 0)), (30, 1, 6, "", ("fe80::1%en0", 0, 0, 1))],
    )
    assert list(reach._interface_addresses()) == ["192.0.2.9", "fe80::1"]


@pytest.mark.debian
@pytest.mark.skipif(sys.platform != "linux", reason="iproute2 is Linux's")
def test_the_addresses_are_those_that_iproute2_shows() -> None:
    shown = json.loads(subprocess.run([program("ip"), "-j", "addr"], capture_output=True, check=True).stdout)
    addresses = {each["local"] for device in shown for each in device.get("addr_info", []) if "local" in each}
    usable = {each for each in addresses if not _private(each)}
    assert set(machine_addresses()) == usable
    assert set(reach._interface_addresses()) == addresses


def _private(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return parsed.is_loopback or parsed.is_link_local


def test_a_port_that_is_not_opened_there_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"the service opens no image_port at 127\.0\.0\.1: on loopback the REST API has"
    ):
        serve(image_port=8080)
    with pytest.raises(ConfigError, match=r"no coap_port at 0\.0\.0\.0: without security it listens on loopback alone"):
        serve(host="0.0.0.0", address="lab.example", coap_port=5683)
    assert not _running


# -- from another machine ------------------------------------------------------------------------------------


class Machine:
    """A process of `lan` in a network namespace of its own."""

    def __init__(self, *role: str) -> None:
        self._process = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-m", "tests.service.lan", *role],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        self.hear()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))

    def tell(self, line: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, *command: str) -> None:
        subprocess.run(["nsenter", "-t", str(self.pid), "-n", *command], check=True)

    def close(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture
def lan() -> Iterator[Callable[[str], tuple[dict[str, Any], dict[str, Any]]]]:
    """Run a service at an address in one namespace, and reach for it from another: what both say."""
    require_namespaces()
    for name in ("curl", "openssl"):
        program(name)
    machines = contextlib.ExitStack()

    def run(host: str) -> tuple[dict[str, Any], dict[str, Any]]:
        server = machines.enter_context(contextlib.closing(Machine("serve", host)))
        client = machines.enter_context(contextlib.closing(Machine("reach")))
        name = f"pdm{os.getpid() % 100_000}r"
        subprocess.run(
            [program("ip"), "link", "add", f"{name}s", "netns", str(server.pid), "type", "veth",
             "peer", "name", f"{name}c", "netns", str(client.pid)], check=True,
        )  # fmt: skip
        for machine, device, addresses in (
            (server, f"{name}s", (f"{SERVER}/24", f"{SERVER_6}/64")),
            (client, f"{name}c", (f"{CLIENT}/24", f"{CLIENT_6}/64")),
        ):
            for address in addresses:
                # nodad: an IPv6 address would take a second to be good
                machine.run("ip", "addr", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
            machine.run("ip", "link", "set", "lo", "up")
            machine.run("ip", "link", "set", device, "up")
        server.tell()
        told = server.hear()
        client.tell()
        client.tell(json.dumps(told))
        return told, client.hear()

    with machines:
        yield run


def ports(told: dict[str, Any]) -> tuple[int, ...]:
    """Return the ports of REST, of both servers, of the images and of REST by HTTPS."""
    bootstrap = re.search(r'"(coaps://[^"]*)"', told["credentials"])[1]
    uris = (told["rest"], told["lwm2m_uri"], bootstrap, told["image"], told["https"])
    return tuple(int(re.search(r":(\d+)(?=[/?]|$)", uri)[1]) for uri in uris)


@pytest.mark.debian
@pytest.mark.parametrize(("host", "wide"), [(SERVER, SERVER), ("0.0.0.0", "0.0.0.0"), ("::", None)])
def test_another_machine_reaches_the_secure_ports_and_the_images_and_nothing_else(
    lan: Callable[[str], tuple[dict[str, Any], dict[str, Any]]], host: str, wide: str | None
) -> None:
    told, found = lan(host)
    address = f"[{SERVER_6}]" if ":" in host else SERVER
    assert f'"coaps://{address}:' in told["credentials"] and told["lwm2m_uri"].startswith(f"coaps://{address}:")
    assert told["image"].startswith(f"http://{address}:") and told["addresses"][0] in (SERVER, SERVER_6)
    assert "TLS and DTLS alone" in told["shown"] and "plain coap" not in told["shown"]
    assert told["https"].startswith(f"https://{address}:") and told["https"] in told["shown"]
    rest, lwm2m, bootstrap, image, https = ports(told)
    if wide is None:  # what listens by IPv6 is in another list of the kernel's; by IPv4 there is the REST API alone
        assert {tuple(each) for each in told["listening"]} == {("tcp", "127.0.0.1", rest)}
    else:
        assert {tuple(each) for each in told["listening"]} == {
            ("tcp", "127.0.0.1", rest), ("tcp", wide, https), ("tcp", wide, image),
            ("tcp", wide, lwm2m), ("udp", wide, lwm2m), ("tcp", wide, bootstrap), ("udp", wide, bootstrap),
        }  # fmt: skip
    for role, path in (("bootstrap", "</bs>"), ("lwm2m", "</rd>")):
        for way in ("DTLS", "TLS"):
            assert found[f"{way} {role}"].startswith("2.05 ") and path in found[f"{way} {role}"], found
        for way in ("UDP", "TCP"):
            assert not found[f"{way} {role}"].startswith("2."), found
    assert found["image"] == [True, 206, True, 404]
    assert (found["REST"], found["REST by HTTP"], found["HTTPS"]) == ("refused", "hangs up", [200, "account"])
    programs = found["by program"]
    assert programs["curl"].startswith('0 {"object":"account"') and "'object': 'account'" in programs["requests"]
    assert programs["openssl"].startswith("0 ") and "Verify return code: 0 (ok)" in programs["openssl"]
    assert not programs["openssl without the CA"].startswith("0 ")
