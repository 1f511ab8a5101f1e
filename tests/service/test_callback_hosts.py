"""Whom callbacks may reach."""

from __future__ import annotations

import asyncio

import pytest

from pdmlab.errors import ConfigError, ServiceError
from pdmlab.service import service
from pdmlab.service.callback_hosts import CallbackHosts
from pdmlab.service.callbacks import MAX_LENGTH, check

MANY = CallbackHosts.parse("loopback, bench.example, 10.20.0.0/16, 192.168.1.7, fd00::/8")


@pytest.mark.parametrize(
    ("host", "address", "allowed"),
    [
        ("localhost", "127.0.0.1", True),
        ("anything.example", "127.8.9.10", True),
        ("x", "::1", True),
        ("x", "::ffff:127.0.0.1", True),
        ("x", "::ffff:10.21.0.1", False),
        ("x", "10.20.255.255", True),
        ("x", "10.21.0.0", False),
        ("x", "192.168.1.7", True),
        ("x", "192.168.1.8", False),
        ("x", "fd12::1%eth0", True),
        ("x", "fe80::1%eth0", False),
        ("169.254.169.254", "169.254.169.254", False),
        ("0.0.0.0", "0.0.0.0", False),
        ("bench.example", "203.0.113.5", True),
        ("BENCH.example.", "203.0.113.5", True),
        ("bench.example.evil.example", "203.0.113.5", False),
    ],
)
def test_names_and_networks_are_allowed_and_nothing_else(host: str, address: str, allowed: bool) -> None:
    assert MANY.allows(host, address) is allowed


@pytest.mark.parametrize("text", ["", "none", " , "])
def test_nobody_is_allowed_by_an_empty_list(text: str) -> None:
    assert not CallbackHosts.parse(text).allows("localhost", "127.0.0.1")


def test_a_service_that_others_reach_calls_nobody_unless_it_is_told_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Told(Exception):
        pass

    def core(*_: object, callback_hosts: str, **__: object) -> None:
        told.append(callback_hosts)
        raise Told

    monkeypatch.setattr(service, "Core", core)
    for host, setting in (("127.0.0.1", ""), ("0.0.0.0", ""), ("0.0.0.0", "10.0.0.0/8"), ("127.0.0.1", "none")):
        monkeypatch.setenv("PDMLAB_CALLBACK_HOSTS", setting)
        with pytest.raises(Told):
            service.Service(name="callbacks", host=host, address="127.0.0.1")
    assert told == ["loopback", "", "10.0.0.0/8", "none"]


@pytest.mark.parametrize("text", ["http://x", "10.0.0.0/33", "a b", "*", "bench..example", "10.0.0.1/8"])
def test_a_list_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        CallbackHosts.parse(text)


def test_every_address_of_a_name_has_to_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(*addresses: str) -> str:
        async def looked_up(*_: object, **__: object) -> list[object]:
            return [(None, None, None, "", (address, 80)) for address in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", looked_up, raising=False)
        return await CallbackHosts.parse("loopback").resolve("rebinding.example", 80)

    assert asyncio.run(story("127.0.0.1", "127.0.0.2")) == "127.0.0.1"
    with pytest.raises(ServiceError) as refused:
        asyncio.run(story("127.0.0.1", "10.0.0.1"))
    assert (refused.value.status, refused.value.message) == (400, "CALLBACK_URL_NOT_ALLOWED")
    assert "loopback" in str(refused.value) and "PDMLAB_CALLBACK_HOSTS" in str(refused.value)
    with pytest.raises(ServiceError):
        asyncio.run(story())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bench.example/x",
        "ftp://bench.example/",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://user:secret@bench.example/",
        "http://bench.example:99999/",
        "http://bench.example:0/",
        "http://[::1/",
        "http://a b/",
        "http://x/\r\nX: y",
        "http://bücher.example/",
        "gopher://x",
        "http://" + "x" * MAX_LENGTH,
    ],
)
def test_what_is_no_url_for_a_callback_is_refused(url: str) -> None:
    with pytest.raises(ServiceError) as refused:
        check(url, {})
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"a b": "c"},
        {"": "c"},
        {"x": "a\r\nb: c"},
        {"x": "ü"},
        {"Host": "elsewhere"},
        {"transfer-encoding": "chunked"},
        {"Content-Length": "0"},
        {"x": "y" * 400},
    ],
)
def test_headers_that_would_change_the_message_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ServiceError) as refused:
        check("http://127.0.0.1/", headers)
    assert refused.value.status == 400


def test_url_and_headers_have_400_characters_together() -> None:
    url = "http://127.0.0.1/"
    check(url, {"x": "y" * (MAX_LENGTH - len(url) - 1)})
    with pytest.raises(ServiceError, match="401"):
        check(url, {"x": "y" * (MAX_LENGTH - len(url))})
