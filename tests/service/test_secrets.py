"""No API key is written anywhere: everything that a run of the whole API leaves behind is searched for each of them."""

from __future__ import annotations

import dataclasses
import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from pdmlab import settings
from pdmlab.cli import device_log
from pdmlab.service import schema
from pdmlab.service.rest.examples import examples
from tests.service.examplelab import ExampleLab, example_lab

KEY = re.compile(r"ak_1[0-9a-f]{32}([A-Za-z0-9]{32})")
SHOWN_ONCE = re.compile(r"POST /v3/(accounts(/[^/]+/api-keys(/[^/]+/reset-secret)?)?|api-keys(/[^/]+/reset-secret)?)$")
"""The calls whose answer has a key, because they make it."""


@dataclasses.dataclass
class Run:
    """What a run of the API wrote, each thing under its name; and the secret parts of all keys that it knew."""

    written: dict[str, str]
    secrets: set[str]


@pytest.fixture
def run(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Run:
    written: dict[str, str] = {}
    secrets: set[str] = set()

    def heard(answer: httpx.Response) -> None:
        answer.read()
        call = f"{answer.request.method} {answer.request.url.path}"
        if SHOWN_ONCE.match(call):
            secrets.update(KEY.findall(answer.text))
        else:
            written[f"answer {len(written)} {call}"] = f"{answer.headers}\n{answer.text}"

    # The client of this test tells its own log what it sends; it is no part of the service.
    with caplog.at_level(logging.INFO, "websockets.client"), caplog.at_level(logging.DEBUG):
        folder = tmp_path / "secrets"
        folder.mkdir()
        with (
            example_lab(folder) as lab,
            device_log.written(lab.service.log, folder / "log.pcapng"),
            device_log.written(lab.service.log, folder / "log.jsonl"),
        ):
            secrets.update(KEY.findall(lab.key))
            headers = {"Authorization": f"Bearer {lab.key}"}
            with httpx.Client(base_url=lab.service.url, timeout=30, event_hooks={"response": [heard]}) as client:
                for example in examples().values():
                    if not example.path.endswith("/live"):
                        lab.send(example, lab.by_http(client))
                for page in ("/docs", "/openapi.json"):
                    client.get(page)
                for wrong in misused(lab):
                    client.send(client.build_request(**wrong))
            websockets(lab, headers)
            with socket.create_connection(("127.0.0.1", int(lab.service.url.rpartition(":")[2]))) as bare:
                bare.sendall(
                    f"GET / HTTP/1.1\r\nAuthorization: Bearer {lab.key}\r\n\0broken: {lab.key}\r\n\r\n".encode()
                )
                written["answer to what is no HTTP"] = bare.recv(4096).decode()
            service = lab.service
            for shown in (service, service.core, service.core.store, service.core.accounts, service._home):
                written[f"repr {type(shown).__name__}"] = repr(shown)
            written["html"] = service._repr_html_()
            known = service.call(service.core.accounts.authenticate, lab.key)
            written["repr Key"] = repr(known)
            written["database"] = service.call(rows, service.core.store)
    written["log"] = "\n".join(f"{each.name} {each.getMessage()} {each.exc_text}" for each in caplog.records)
    written["stdout"], written["stderr"] = capfd.readouterr()
    for file in files(settings.load().folder("state"), folder):
        if file.name != "api-key":  # which is what it is for, and for its owner only
            written[str(file)] = file.read_bytes().decode("latin-1")
    return Run(written, secrets)


def misused(lab: ExampleLab) -> Iterator[dict[str, object]]:
    """Give calls that are refused although their key is good, or was, or that have it where it does not belong."""
    bearer = {"Authorization": f"Bearer {lab.key}"}
    yield {
        "method": "POST",
        "url": "/v3/api-keys",
        "headers": bearer,
        "content": b'{"name": 5, "x": "%b"}' % lab.key.encode(),
    }
    yield {"method": "POST", "url": "/v3/update-campaigns", "headers": bearer, "content": b"{"}
    yield {"method": "GET", "url": "/v3/devices", "headers": {"Authorization": f"Basic {lab.key}"}}
    yield {"method": "GET", "url": "/v3/devices", "headers": {"Authorization": f"Bearer {lab.key}x"}}
    yield {"method": "GET", "url": "/v2/endpoints", "headers": {"Authorization": f"Bearer  {lab.key} {lab.key}"}}
    yield {"method": "PUT", "url": "/v2/subscriptions", "headers": bearer, "content": lab.key.encode()}
    yield {"method": "GET", "url": "/nothing", "headers": bearer}


def websockets(lab: ExampleLab, headers: dict[str, str]) -> None:
    uri = lab.service.url.replace("http", "ws") + "/v2/notification/websocket-connect"
    for method, kind in (("DELETE", "pull"), ("DELETE", "callback"), ("PUT", "websocket")):
        httpx.request(method, f"{lab.service.url}/v2/notification/{kind}", headers=headers)
    with connect(uri, additional_headers=headers):
        pass
    with connect(uri, subprotocols=["wss", f"pelion_{lab.key}"]):
        pass
    with connect(uri, subprotocols=["wss", f"pelion_{lab.key}x"]) as socket, pytest.raises(ConnectionClosed):
        socket.recv(timeout=20)


def rows(store: object) -> str:
    """Return all that the database has."""
    return "\n".join(
        f"{table.name} {row}"
        for table in schema.metadata.sorted_tables
        for row in store.rows(sa.select(table))  # type: ignore[attr-defined]  # it is a Store
    )


def files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (each for each in folder.rglob("*") if each.is_file())


def test_no_key_is_written_anywhere(run: Run) -> None:
    assert len(run.secrets) >= 6  # the service's own, and those that the examples make, and make anew
    assert {"log", "stdout", "stderr", "database", "html"} < run.written.keys()
    assert any(name.endswith("pdmlab.sqlite") for name in run.written)
    assert any(name.endswith(".pcapng") for name in run.written) and len(run.written) > 150
    found = [
        f"{name}: …{secret[-4:]}" for name, text in run.written.items() for secret in run.secrets if secret in text
    ]
    assert not found


def test_no_answer_has_a_key_but_the_one_that_makes_it(run: Run) -> None:
    answers = {name: text for name, text in run.written.items() if name.startswith("answer")}
    assert any("/openapi.json" in name for name in answers) and len(answers) > 150
    assert [name for name, text in answers.items() if KEY.search(text)] == []
