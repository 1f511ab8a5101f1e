"""serve(): one service a name, at home on disk, gone without a trace when it is closed."""

from __future__ import annotations

import os
import re
import shutil
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
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

import pdmlab
from pdmlab import service as package
from pdmlab import settings
from pdmlab.errors import ConfigError, PortBusy, ServiceError, Unreachable
from pdmlab.service.certificates import subject_of
from pdmlab.service.schema import accounts
from pdmlab.service.service import Service
from pdmlab.update.credentials import Credentials

CLIENT = ("coap-client-notls", "coap-client-openssl", "coap-client-gnutls", "coap-client")


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """Start services, and close those that a test leaves running."""
    yield pdmlab.serve
    for running in list(package._running.values()):
        running.close()


def get(service: Service, path: str) -> httpx.Response:
    return httpx.get(service.url + path, headers={"Authorization": f"Bearer {service.api_key}"})


def test_a_service_answers_and_says_what_is_secure(serve: Callable[..., Service]) -> None:
    with serve() as service:
        assert get(service, "/v3/devices/").json()["data"] == []
        assert get(service, "/v3/accounts/me").json()["id"] == service.account_id
        assert httpx.get(service.url + "/v3/devices/").status_code == 401
        for shown in (repr(service), service._repr_html_()):
            assert "TLS and DTLS at coaps://" in shown and service.url in shown and service.bootstrap_uri in shown
            assert "plain coap:// on loopback only" in shown
            assert service.api_key not in shown
        for uri, scheme in ((service.bootstrap_uri, "coaps"), (service.plain_bootstrap_uri, "coap")):
            assert re.fullmatch(rf"{scheme}://127\.0\.0\.1:\d+\?aid={service.account_id}", uri)
        for uri, scheme in ((service.lwm2m_uri, "coaps"), (service.plain_lwm2m_uri, "coap")):
            assert re.fullmatch(rf"{scheme}://127\.0\.0\.1:\d+", uri)
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
    for asked, said in (
        ({"host": "0.0.0.0"}, r"with host=127\.0\.0\.1, not 0\.0\.0\.0"),
        ({"address": "lab.example"}, r"with address=127\.0\.0\.1, not lab\.example"),
        ({"keylog": "keys.log"}, r"with keylog=None, not keys\.log"),
        ({"coaps_port": 1}, r"with coaps_port=\d+, not 1"),
        ({"image_port": 1}, r"with image_port=0, not 1"),
        ({"https_port": 1}, r"with https_port=0, not 1"),
    ):
        with pytest.raises(ConfigError, match=said):
            serve(**asked)
    assert serve(host="127.0.0.1") is service and not Path("keys.log").exists()
    other = serve(name="other")
    assert other is not service and package.current() is other
    assert other.account_id != service.account_id and other.api_key != service.api_key
    other.close()
    assert package.current() is service


def test_a_service_that_comes_back_has_its_key_its_account_and_its_ports(serve: Callable[..., Service]) -> None:
    first = serve()
    kept = [
        first.credentials(),
        first.credentials(endpoint_name="desk1"),
        first.psk("desk2"),
        first.ca_file.read_bytes(),
    ]
    shown = [first.call(first.core.pki.server_certificate, role) for role in ("bootstrap", "lwm2m")]
    first.close()
    first.close()
    again = serve()
    assert again is not first
    uris = ("bootstrap_uri", "lwm2m_uri", "plain_bootstrap_uri", "plain_lwm2m_uri")
    for name in ("url", "api_key", "account_id", *uris):
        assert getattr(again, name) == getattr(first, name)
    assert kept == [
        again.credentials(),
        again.credentials(endpoint_name="desk1"),
        again.psk("desk2"),
        again.ca_file.read_bytes(),
    ]
    assert shown == [again.call(again.core.pki.server_certificate, role) for role in ("bootstrap", "lwm2m")]


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
    assert service._http._listener.getsockname()[0] == "127.0.0.1" and service.image_url is None
    opened = [each for role in service.core._addresses.values() for each in role.values()]
    assert len(opened) == 8 and {address[0] for address in opened} == {"127.0.0.1"}


def test_both_transports_of_a_server_have_one_number(serve: Callable[..., Service]) -> None:
    service = serve()
    for role in service.core._addresses.values():
        assert role["coaps"][1] == role["coaps+tcp"][1] != role["coap"][1] == role["coap+tcp"][1]


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@pytest.mark.parametrize("keyword", ["coaps_port", "coaps_bootstrap_port", "coap_port", "bootstrap_port"])
def test_a_number_that_is_free_for_one_transport_alone_is_not_taken(
    serve: Callable[..., Service], kind: socket.SocketKind, keyword: str
) -> None:
    first = serve()
    last = getattr(first._ports, keyword)
    first.close()
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", last))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        again = serve()
        assert getattr(again._ports, keyword) not in (0, last)
        again.close()
        with pytest.raises(Unreachable, match=str(last)):
            serve(**{keyword: last})


def test_the_labs_update_keys_are_made_once(serve: Callable[..., Service]) -> None:
    service = serve()
    resources = service.update_resources()
    assert resources == service.developer.resources
    assert service.developer.private_key.public_key().public_numbers() == resources.public_key.public_numbers()
    service.close()
    assert serve().update_resources() == resources


def test_credentials_lead_to_the_bootstrap_server(serve: Callable[..., Service]) -> None:
    service = serve()
    secure, plain = service.credentials(), service.credentials(secure=False)
    assert secure.bootstrap_server_uri == service.bootstrap_uri
    assert plain.bootstrap_server_uri == service.plain_bootstrap_uri
    assert secure.account_id == plain.account_id == service.account_id
    assert secure.bootstrap_endpoint_name == plain.bootstrap_endpoint_name
    assert secure.bootstrap_server_root_ca_certificate == service.call(lambda: service.core.pki.certificate)
    assert plain.bootstrap_device_private_key is None
    assert secure.bootstrap_device_private_key.hex() not in repr(secure) + repr(service) + service._repr_html_()


def test_every_endpoint_name_has_credentials_of_its_own_and_keeps_them(serve: Callable[..., Service]) -> None:
    service = serve()
    first, other = service.credentials(endpoint_name="desk1"), service.credentials(endpoint_name="desk2")
    assert (first.bootstrap_endpoint_name, other.bootstrap_endpoint_name) == ("desk1", "desk2")
    assert first.bootstrap_device_private_key != other.bootstrap_device_private_key
    assert service.credentials(endpoint_name="desk1") == first
    own = service.credentials()
    for name in ("lab", "default", own.bootstrap_endpoint_name):
        assert service.credentials(endpoint_name=name).bootstrap_endpoint_name == name
    assert service.credentials(endpoint_name=own.bootstrap_endpoint_name) == own == service.credentials()
    with pytest.raises(ServiceError, match=r"the endpoint name 'x+' has 65 B; a certificate takes 1 to 64"):
        service.credentials(endpoint_name="x" * 65)


def test_developer_credentials_are_given_again_to_their_account_alone(serve: Callable[..., Service]) -> None:
    service = serve()

    def another() -> tuple[str, str]:
        store = service.core.store
        id, at = store.ids.new(), store.timestamp()
        with store.begin() as db:
            db.execute(sa.insert(accounts).values(id=id, display_name="other", created_at=at, updated_at=at))
        return id, service.core.accounts.create_key(id, "theirs")[1]

    account, key = service.call(another)
    path, theirs = "/v3/developer-certificates", {"Authorization": f"Bearer {key}"}
    mine = {"Authorization": f"Bearer {service.api_key}"}
    made = httpx.post(service.url + path, json={"name": "desk"}, headers=theirs).json()
    credentials = Credentials.from_c(made["security_file_content"])
    assert credentials.account_id == account
    assert credentials.bootstrap_server_uri == service.bootstrap_uri.replace(service.account_id, account)
    assert subject_of(credentials.bootstrap_device_certificate).account_id == account
    certificate = x509.load_pem_x509_certificate(made["developer_certificate"].encode())
    assert certificate.public_bytes(Encoding.DER) == credentials.bootstrap_device_certificate
    private = load_pem_private_key(made["developer_private_key"].encode(), None)
    assert private.public_key() == certificate.public_key()
    assert httpx.get(f"{service.url}{path}/{made['id']}", headers=theirs).json() == made
    hidden = httpx.get(f"{service.url}{path}/{made['id']}", headers=mine)
    assert hidden.status_code == 404 and "PRIVATE KEY" not in hidden.text
    assert httpx.get(f"{service.url}{path}/{made['id']}").status_code == 401


def test_a_pre_shared_key_is_shown_to_nobody_who_did_not_ask(serve: Callable[..., Service]) -> None:
    service = serve()
    key = service.psk("desk1")
    assert len(key.key) == 16 and key.hex == key.key.hex() and service.psk("desk1") == key
    assert key.hex not in repr(key) and repr(key) == "SharedKey(identity='desk1')"
    assert service.psk("desk1", bytes(range(32))).key == bytes(range(32)) == service.psk("desk1").key
    security = service.call(service.core.security, "lwm2m")
    assert security.psk_of is not None
    asked = service.call(lambda: [security.psk_of(each) for each in (b"desk1", b"desk", b"\xff\xfe", b"x" * 200, b"")])
    assert asked == [bytes(range(32)), None, None, None, None]
    for identity, secret in (
        ("", None),
        ("x" * 129, None),
        ("tab\t", None),
        (" x", None),
        ("a", b"15 bytes, no mor"[:15]),
        ("a", bytes(65)),
    ):
        with pytest.raises(ServiceError, match=r"no PSK identity|16 to 64"):
            service.psk(identity, secret)


def test_a_folder_that_is_copied_takes_the_service_along(
    serve: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = serve()
    kept = first.credentials(), first.psk("desk1"), first.account_id, first.api_key
    first.close()
    shutil.copytree(first.folder.parents[1], tmp_path / "moved")
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path / "moved"))
    again = serve()
    assert again.folder != first.folder
    assert kept == (again.credentials(), again.psk("desk1"), again.account_id, again.api_key)


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_a_database_that_others_could_read_is_closed_to_them_and_that_is_said(
    serve: Callable[..., Service], caplog: pytest.LogCaptureFixture
) -> None:
    first = serve()
    first.close()
    assert not caplog.records
    database = first.folder / "pdmlab.sqlite"
    database.chmod(0o640)
    serve()
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    (record,) = caplog.records
    assert "could be read by others" in record.message and str(database) in record.message


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


@pytest.mark.skipif(os.name != "posix", reason="POSIX file kinds")
@pytest.mark.parametrize("make", [Path.mkdir, lambda file: file.write_bytes(b"not a database at all" * 300)])
def test_a_database_that_is_none_is_said(serve: Callable[..., Service], make: Callable[[Path], object]) -> None:
    with serve() as first:
        database = first.folder / "pdmlab.sqlite"
    database.unlink()
    make(database)
    with pytest.raises(ServiceError, match="cannot be used") as error:
        serve()
    assert error.value.hint and package.current() is None
    with socket.socket() as probe:  # nothing is left open
        probe.bind(("127.0.0.1", first._ports.port))


@pytest.mark.parametrize("name", ["ca.pem", "api-key"])
def test_a_file_that_cannot_be_written_is_said(serve: Callable[..., Service], name: str) -> None:
    with serve() as first:
        file = first.folder / name
    file.unlink()
    (file / "in the way").mkdir(parents=True)
    with pytest.raises(ServiceError, match=f"cannot be used: {name}: ") as error:
        serve()
    assert "PDMLAB_STATE" in error.value.hint and package.current() is None


PROGRAM = "import pdmlab, sys; s = pdmlab.serve(); print(s.url, s.plain_lwm2m_uri, flush=True); sys.stdin.read()"


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
    assert service.plain_lwm2m_uri == lwm2m_uri
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
    said = ask("post", f"{service.plain_lwm2m_uri}/rd?ep=x&lt=60&lwm2m=1.0&b=U", "-t", "40", "-e", "</3/0/0>")
    assert "2.01" in said
    assert f"Location-Path:rd, Location-Path:{service.account_id}" in said
    assert "4.00" in ask("post", f"{service.plain_lwm2m_uri}/rd")


@pytest.mark.debian
def test_libcoap_finds_each_server_where_it_is(serve: Callable[..., Service]) -> None:
    ask, service = coap_client(), serve()
    for uri, path in ((service.plain_lwm2m_uri, "</rd>"), (service.plain_bootstrap_uri.partition("?")[0], "</bs>")):
        assert path in ask("get", f"{uri}/.well-known/core")
