"""What callers with a key, and without, may send to break the service: each ends in a bounded refusal."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator

import httpx
import pytest

import pdmlab
from pdmlab.service.rest.examples import examples
from pdmlab.service.rest.front import MAX_BODY, MAX_UPLOAD
from pdmlab.service.service import Service

DEVICE = "0" * 32
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with pdmlab.serve(name="hostile") as service:
        yield service


@pytest.fixture
def rest(service: Service) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {service.api_key}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=PATIENCE_S, verify=False) as client:
        yield client
        assert client.get("/v3/accounts/me").status_code == 200  # it still answers


def sent(service: Service, data: bytes, *, key: bool = True) -> tuple[int, bytes]:
    """Send bytes as they are; return status and answer."""
    port = int(service.url.rpartition(":")[2])
    bearer = f"authorization: Bearer {service.api_key}\r\n".encode() if key else b""
    first, _, others = data.partition(b"\r\n")
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(first + b"\r\n" + bearer + b"connection: close\r\n" + others)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return int(answer.split()[1]), answer


def assert_is_refused(answer: httpx.Response) -> None:
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    assert len(answer.content) < 20_000 and "Traceback" not in answer.text
    if not answer.request.url.raw_path.startswith(b"/v2"):
        assert answer.json()["object"] == "error"


# -- paths ---------------------------------------------------------------------------------------------------

PATHS = [
    b"/v3/../etc/passwd",
    b"/v3/firmware-images/../../../../etc/passwd",
    b"/v3/%2e%2e/%2e%2e/etc/passwd",
    b"/v3/firmware-images/..%2f..%2fetc/passwd",
    b"/v3/firmware-images/" + b"0" * 32 + b"/..%2f..%2f..%2fapi-key",
    b"/v3/devices/%00",
    b"/v3/devices/" + b"%00" * 1000,
    b"/v3/devices/\x00",
    b"/v3/devices?id__eq=%00",
    b"/v3/devices/" + b"a" * 30_000,
    b"/v3/devices/" + b"a/" * 10_000,
    b"/v3/devices?" + b"id__eq=a&" * 3_000,
    b"/v3/devices?id__in=" + b"a," * 20_000,
    b"/v3/devices?limit=" + b"9" * 10_000,
    b"/v3/devices?filter=" + b"(" * 20_000,
    b"/v3/devices/%ff%fe%fd",
    b"/v3/devices?name__eq=%ff%fe",
    b"/v3/devices/%ed%a0%80",
    b"/v3/devices?name__eq=%ed%a0%80",
    b"/v3/devices/\xff\xfe",
    b"/v3/devices/%",
    b"/v3/devices/%zz",
    b"/v2/endpoints/" + DEVICE.encode() + b"/" + b"3/" * 5_000,
    b"/v2/endpoints/" + DEVICE.encode() + b"/..%2f..",
    b"/v2/subscriptions/%00/%00",
    b"/v2/notification/pull/../../../v3/api-keys/%00",
    b"/lab/log/%2e%2e",
    b"/lab/queue/" + b"x" * 10_000,
    b"http://elsewhere/v3/devices/x",
    b"*",
    b"//" * 10_000 + b"x",
]


@pytest.mark.parametrize("path", PATHS, ids=[repr(each[:40]) for each in PATHS])
@pytest.mark.parametrize("key", [True, False], ids=["with a key", "without"])
def test_a_path_breaks_nothing(service: Service, rest: httpx.Client, path: bytes, key: bool) -> None:
    for method in (b"GET", b"DELETE", b"PUT", b"POST"):
        status, answer = sent(service, b"%b %b HTTP/1.1\r\nhost: a\r\n\r\n" % (method, path), key=key)
        harmless = key and method == b"GET" and path.startswith((b"/v3/devices?name__eq=", b"/v3/devices?limit="))
        assert 400 <= status < 500 or (harmless and status == 200), (method, answer[:300])
        assert len(answer) < 20_000 and b"root:" not in answer


# -- bodies --------------------------------------------------------------------------------------------------

_JSON = [name for name, each in examples().items() if each.json is not None]
_BODIES = {
    "a million items": b"[" + b"0," * 500_000 + b"0]",
    "a long list of texts": b"[" + b'"a",' * 200_000 + b'"a"]',
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a huge number": b'{"name": ' + b"9" * 500_000 + b"}",
    "a huge exponent": b'{"valid_for_days": 1e400, "retry": -1e400}',
    "a long text": b'{"name": "' + b"n" * 900_000 + b'"}',
    "NUL": b'{"name": "a\\u0000b", "email": "a\\u0000@b"}',
    "no UTF-8": b'{"name": "\xff\xfe\xfd"}',
    "half a character": b'{"name": "\\ud800"}',
    "many names": b"{" + b",".join(b'"n%d": 1' % n for n in range(60_000)) + b"}",
    "a name a million times": b"{" + b'"name": 1,' * 90_000 + b'"name": 1}',
}


@pytest.mark.parametrize("kind", _BODIES)
def test_a_body_breaks_nothing(rest: httpx.Client, kind: str) -> None:
    for name in _JSON:
        example = examples()[name]
        path = re.sub(r"\{(\w+)\}", lambda found: "3/0/0" if found[1] == "path" else DEVICE, example.path)
        answer = rest.request(example.method, path, content=_BODIES[kind], headers={"Content-Type": "application/json"})
        if answer.is_success:  # where nothing has to be said, what is unknown is left out
            assert len(answer.content) < 20_000, name
        else:
            assert_is_refused(answer)


def test_what_is_kept_of_an_account_is_bounded(rest: httpx.Client) -> None:
    for kind, body in _BODIES.items():
        answer = rest.put("/v3/accounts/me", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (200, 400, 413), kind
    account = rest.get("/v3/accounts/me?include=limits,policies")
    assert len(account.content) < 20_000 and account.json()["display_name"] == "pdmlab"


@pytest.mark.parametrize("path", ["/v3/api-keys", "/v3/users", "/v3/policy-groups", "/v3/device-queries"])
def test_lists_of_a_body_are_bounded(rest: httpx.Client, path: str) -> None:
    for many in (101, 1001, 20_000):
        ids = [f"{n:032x}" for n in range(many)]
        body = {"name": "n", "email": "a@b", "query": "", "groups": ids, "members": {"apikeys": ids, "users": ids}}
        answer = rest.post(path, json=body if path != "/v3/device-queries" else {"name": "n", "query": ",".join(ids)})
        assert_is_refused(answer)


def test_an_upload_is_so_large_and_no_larger(service: Service, rest: httpx.Client) -> None:
    for path, limit in (
        ("/v3/firmware-images", MAX_UPLOAD),
        ("/v3/firmware-manifests", MAX_BODY),
        ("/v3/users", MAX_BODY),
    ):
        head = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data; boundary=x\r\n"
        status, answer = sent(service, f"{head}content-length: {limit + 1}\r\n\r\n".encode())
        assert status == 413 and b"the body is larger than" in answer
        status, _ = sent(service, f"{head}content-length: {'9' * 400}\r\n\r\n".encode())
        assert status in (400, 413)
        status, _ = sent(service, f"{head}content-length: {limit + 1}\r\n\r\n".encode(), key=False)
        assert status == 401


@pytest.mark.parametrize("path", ["/v3/api-keys", "/v3/firmware-manifests", f"/v2/device-requests/{DEVICE}?async-id=a"])
def test_chunks_without_end_come_to_one(service: Service, path: str) -> None:
    port = int(service.url.rpartition(":")[2])
    head = f"POST {path} HTTP/1.1\r\nauthorization: Bearer {service.api_key}\r\ntransfer-encoding: chunked\r\n"
    kind = "multipart/form-data; boundary=x" if "manifests" in path else "application/json"
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(f"{head}content-type: {kind}\r\n\r\n".encode())
        part = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
        taken, answer = 0, b""
        with contextlib.suppress(OSError):  # it hangs up
            while taken < 10_000:
                connection.sendall(part)
                taken += 1
        with contextlib.suppress(OSError):
            answer = connection.recv(65536)
    assert taken < 1000  # 16 MB of the 160
    assert not answer or answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))


# -- heads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        b"x: y\r\n" * 5000,
        b"content-length: 0\r\ncontent-length: 5\r\n",
        b"content-length: -1\r\n",
        b"content-length: 0x10\r\n",
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: nonsense\r\n",
        b"authorization: Bearer \xff\xfe\r\n",
        b"content-type: \xff\r\n",
        b"content-type: multipart/form-data\r\n",
        b"range: bytes=" + b"0-1," * 5000 + b"\r\n",
        b"cookie: " + b"a=b;" * 10_000 + b"\r\n",
        b"x-forwarded-for: 10.0.0.1\r\nforwarded: for=10.0.0.1\r\nx-forwarded-proto: https\r\n",
        b"host: elsewhere\r\n",
    ],
    ids=lambda headers: repr(headers[:40]),
)
def test_headers_break_nothing(service: Service, rest: httpx.Client, headers: bytes) -> None:
    for method, path in ((b"GET", b"/v3/devices/x"), (b"POST", b"/v3/users"), (b"POST", b"/v3/firmware-images")):
        status, answer = sent(service, b"%b %b HTTP/1.1\r\nhost: a\r\n%b\r\n" % (method, path, headers))
        assert 400 <= status < 500 and len(answer) < 20_000, answer[:300]


def test_methods_that_nobody_uses_break_nothing(rest: httpx.Client) -> None:
    for method in ("PATCH", "OPTIONS", "TRACE", "PROPFIND", "LINK"):
        for path in ("/v3/devices", "/v2/endpoints", "/lab/log", "/docs"):
            answer = rest.request(method, path)
            assert answer.status_code == 405, (method, path, answer.text)


def test_many_callers_are_served(service: Service) -> None:
    headers = {"Authorization": f"Bearer {service.api_key}"}
    with contextlib.ExitStack() as stack:
        port = int(service.url.rpartition(":")[2])
        for _ in range(200):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S))
            silent.sendall(b"GET /v3/devices HTTP/1.1\r\nx: ")
        with httpx.Client(base_url=service.url, headers=headers, timeout=PATIENCE_S) as client:
            assert [client.get("/v3/devices").status_code for _ in range(20)] == [200] * 20


def test_a_refusal_is_json_that_says_why(rest: httpx.Client) -> None:
    answer = rest.get("/v3/devices/" + "%F0%9F%98%80" * 100)
    assert answer.status_code == 404 and json.loads(answer.text)["type"] == "not_found"
