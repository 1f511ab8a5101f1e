"""serve(): one service a name, at home on disk, gone without a trace when it is closed."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

import pdmlab
from pdmlab import service as package
from pdmlab import settings
from pdmlab.errors import ConfigError, PortBusy, Unreachable
from pdmlab.service.service import Service

CLIENT = ("coap-client-notls", "coap-client-openssl", "coap-client-gnutls", "coap-client")


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """Start services, and close those that a test leaves running."""
    yield pdmlab.serve
    for running in list(package._running.values()):
        running.close()


def get(service: Service, path: str) -> httpx.Response:
    return httpx.get(service.url + path, headers={"Authorization": f"Bearer {service.api_key}"})


def test_a_service_answers_and_says_that_it_is_not_secure(serve: Callable[..., Service]) -> None:
    with serve() as service:
        assert get(service, "/v3/devices/").json()["data"] == []
        assert get(service, "/v3/accounts/me").json()["id"] == service.account_id
        assert httpx.get(service.url + "/v3/devices/").status_code == 401
        for shown in (repr(service), service._repr_html_()):
            assert "NO SECURITY, loopback only" in shown and service.url in shown
            assert service.api_key not in shown
        assert service.bootstrap_uri.startswith("coap://127.0.0.1:")
        assert service.bootstrap_uri.endswith(f"?aid={service.account_id}")
        assert package.current() is service
    assert package.current() is None
    assert repr(service) == "<Service 'default', closed>"


def test_running_a_cell_again_returns_the_service_that_runs(serve: Callable[..., Service]) -> None:
    service = serve()
    assert serve() is service
    port = int(service.url.rpartition(":")[2])
    assert serve(port=port) is service
    with pytest.raises(ConfigError, match=rf"runs already, with port={port}, not 1"):
        serve(port=1)
    other = serve(name="other")
    assert other is not service and package.current() is other
    assert other.account_id != service.account_id and other.api_key != service.api_key
    other.close()
    assert package.current() is service


def test_a_service_that_comes_back_has_its_key_its_account_and_its_ports(serve: Callable[..., Service]) -> None:
    first = serve()
    first.close()
    first.close()
    again = serve()
    assert again is not first
    for name in ("url", "api_key", "account_id", "bootstrap_uri", "lwm2m_uri"):
        assert getattr(again, name) == getattr(first, name)
    assert again.credentials() == first.credentials()


def test_a_port_that_somebody_else_took_meanwhile_is_no_obstacle(serve: Callable[..., Service]) -> None:
    first = serve()
    first.close()
    with socket.create_server(("127.0.0.1", int(first.url.rpartition(":")[2]))):
        again = serve()
        assert again.url != first.url and get(again, "/v3/devices/").status_code == 200


def test_a_busy_port_that_was_asked_for_is_said_and_nothing_is_left(serve: Callable[..., Service]) -> None:
    threads = threading.active_count()
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(Unreachable, match=r"cannot listen on 127\.0\.0\.1") as busy,
    ):
        serve(port=taken.getsockname()[1])
    assert busy.value.hint is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="cannot bind UDP"):
            serve(coap_port=taken.getsockname()[1])
    assert threading.active_count() == threads and package.current() is None
    assert serve().running


def test_the_key_is_for_its_owner_only_and_a_lost_one_is_replaced(serve: Callable[..., Service]) -> None:
    service = serve()
    file = service.folder / "api-key"
    assert file.read_text() == service.api_key + "\n"
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    service.close()
    file.unlink()
    again = serve()
    assert again.api_key != service.api_key and get(again, "/v3/devices/").status_code == 200
    again.close()
    file.write_bytes(b"\xff\xfe\x00\x80")
    third = serve()
    assert third.api_key.isascii() and get(third, "/v3/devices/").status_code == 200


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_what_the_service_keeps_is_for_its_owner_only(serve: Callable[..., Service]) -> None:
    folder = settings.load().folder("state") / "service/default"
    folder.mkdir(parents=True)  # as an older version left it
    (folder / "pdmlab.sqlite").touch(0o644)
    service = serve()
    assert get(service, "/v3/accounts/me").status_code == 200
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.glob("pdmlab.sqlite*")}
    assert len(modes) > 1 and set(modes.values()) == {0o600}


def test_nothing_but_loopback_is_listened_on(serve: Callable[..., Service]) -> None:
    service = serve()
    assert service._http._listener.getsockname()[0] == "127.0.0.1"
    assert {endpoint.address[0] for endpoint in service.core._endpoints.values()} == {"127.0.0.1"}


def test_the_labs_update_keys_are_made_once(serve: Callable[..., Service]) -> None:
    service = serve()
    resources = service.update_resources()
    assert resources == service.developer.resources
    assert service.developer.private_key.public_key().public_numbers() == resources.public_key.public_numbers()
    service.close()
    assert serve().update_resources() == resources


def test_credentials_lead_to_the_bootstrap_server(serve: Callable[..., Service]) -> None:
    service = serve()
    credentials = service.credentials()
    assert credentials.bootstrap_server_uri == service.bootstrap_uri
    assert credentials.account_id == service.account_id


def test_the_core_is_called_on_its_own_thread(serve: Callable[..., Service]) -> None:
    service = serve()
    assert service.call(service.core.requests.queue) == []
    assert service.call(threading.current_thread).name == "pdmlab-service-default"
    with pytest.raises(pdmlab.errors.ServiceError, match="there is no campaign"):
        service.call(service.core.campaigns.find, service.account_id, "x")


@pytest.mark.parametrize("name", ["", "../up", "a/b", "x" * 65])
def test_names_that_are_no_folder_are_refused(serve: Callable[..., Service], name: str) -> None:
    with pytest.raises(ConfigError, match="is no name for a service"):
        serve(name=name)


def test_a_state_folder_that_cannot_be_written_is_said(
    serve: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path / "file"))
    with pytest.raises(pdmlab.errors.ServiceError, match="cannot be used") as error:
        serve()
    assert "PDMLAB_STATE" in str(error.value)


PROGRAM = "import pdmlab, sys; s = pdmlab.serve(); print(s.url, s.lwm2m_uri, flush=True); sys.stdin.read()"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as it:
        yield it
        it.kill()


def test_another_process_is_told_who_runs_the_service(
    serve: Callable[..., Service], process: subprocess.Popen[str]
) -> None:
    url = process.stdout.readline().split()[0]
    with pytest.raises(PortBusy, match=f"the service 'default' is open in process {process.pid}") as busy:
        serve()
    key = (settings.load().folder("state") / "service/default/api-key").read_text().strip()
    assert "api-key" in str(busy.value)
    assert httpx.get(url + "/v3/devices", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_a_killed_service_forgets_nothing(serve: Callable[..., Service], process: subprocess.Popen[str]) -> None:
    ask = coap_client()
    _, lwm2m_uri = process.stdout.readline().split()
    location = ask("post", f"{lwm2m_uri}/rd?ep=x&lt=1000")
    process.kill()
    process.wait()
    service = serve()
    assert service.lwm2m_uri == lwm2m_uri
    (device,) = get(service, "/v3/devices").json()["data"]
    assert (device["state"], device["endpoint_name"]) == ("registered", "x")
    assert f"Location-Path:{device['id']}" in location
    assert "2.04" in ask("post", f"{lwm2m_uri}/rd/{service.account_id}/{device['id']}")


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_ctrl_c_ends_a_service_in_a_shell_at_once(process: subprocess.Popen[str]) -> None:
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert process.wait(20) != 0
    assert time.monotonic() - started < 15


def coap_client() -> Callable[..., str]:
    """Return `ask(method, uri, *options)`: what libcoap's client says of a request and its answer."""
    from tests.tools import program

    client = program(*CLIENT)

    def ask(method: str, uri: str, *options: str) -> str:
        done = subprocess.run(
            [client, "-v", "7", "-B", "5", "-m", method, *options, uri], capture_output=True, text=True, timeout=30
        )
        return done.stdout + done.stderr

    return ask


@pytest.mark.debian
def test_libcoap_registers_and_is_given_a_location(serve: Callable[..., Service]) -> None:
    ask, service = coap_client(), serve()
    said = ask("post", f"{service.lwm2m_uri}/rd?ep=x&lt=60&lwm2m=1.0&b=U", "-t", "40", "-e", "</3/0/0>")
    assert "2.01" in said
    assert f"Location-Path:rd, Location-Path:{service.account_id}" in said
    assert "4.00" in ask("post", f"{service.lwm2m_uri}/rd")


@pytest.mark.debian
def test_libcoap_finds_rd_and_bs_on_both_ports(serve: Callable[..., Service]) -> None:
    ask, service = coap_client(), serve()
    for uri in (service.lwm2m_uri, service.bootstrap_uri.partition("?")[0]):
        said = ask("get", f"{uri}/.well-known/core")
        assert "</rd>" in said and "</bs>" in said
