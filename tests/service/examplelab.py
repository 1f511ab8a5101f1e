"""A service with everything that the examples of the API name: devices, files, and who listens to callbacks.

The examples are sent here, one after the other, so that what later ones name is there.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from aiocoap import Message
from aiocoap.numbers import codes
from cryptography.hazmat.primitives.serialization import Encoding

from pdmlab.aio import LoopThread
from pdmlab.service import serve
from pdmlab.service.certificates import authority_certificate, new_key
from pdmlab.service.enrollment import identity_of
from pdmlab.service.rest.examples import Example, filled
from pdmlab.service.service import Service
from tests.service.restlab import LINKS, Device

UPDATABLE = LINKS + ',</10252/0/1>,</14/0/2>;v="1.0.0",</35011/0/27002>'
IMAGE = b"firmware" * 100


PATIENCE_S = 20.0
"""How long what happens by itself may take: a device's answer, a campaign's step."""


@dataclass
class ExampleLab:
    """The service, an administrator's key of an account, what names stand for, and the folder that has the files."""

    service: Service
    key: str
    known: dict[str, str]
    folder: Path

    def send(self, example: Example, ask: Callable[[Example], httpx.Response], *, patience: float = PATIENCE_S) -> str:
        """Send an example, and again while it asks for what is not there yet; return what is wrong, or nothing."""
        end = time.monotonic() + patience
        while True:
            try:
                answer = ask(example)
            except (KeyError, IndexError) as error:
                return f"what it needs is not there: {error!r}"
            said, kept = _judged(example, answer)
            if not said or example.method != "GET" or time.monotonic() > end:
                self.known |= kept
                return said

    def by_http(self, client: httpx.Client) -> Callable[[Example], httpx.Response]:
        """Return what sends an example with a client."""

        def ask(example: Example) -> httpx.Response:
            key = {"Authorization": f"Bearer {self.key}"} if example.key else {}
            headers = key | filled(dict(example.headers), self.known)
            url = self.service.url + example.url(self.known.__getitem__)
            return client.request(example.method, url, headers=headers, **self._body(example))

        return ask

    def by_curl(self, example: Example) -> httpx.Response:
        """Paste the line that /docs shows into a shell, in the folder that has the files."""
        variables = {"API_KEY": self.key, **{name.upper(): value for name, value in self.known.items()}}
        done = subprocess.run(
            ["sh", "-uc", f"{example.curl(self.service.url)} -sS -w '\\n%{{http_code}}'"],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], **variables},
            capture_output=True,
            timeout=30,
        )
        content, _, status = done.stdout.rpartition(b"\n")
        if done.returncode or not status.isdigit():
            return httpx.Response(599, content=done.stderr)
        return httpx.Response(int(status), content=content)

    def _body(self, example: Example) -> dict[str, Any]:
        """Return an example's body as httpx takes it."""
        if example.json is not None:
            return {"json": filled(example.json, self.known)}
        if example.files or example.form:
            files = {field: (name, (self.folder / name).read_bytes()) for field, name in example.files.items()}
            return {"data": filled(dict(example.form), self.known), "files": files}
        return {"content": filled(example.body, self.known).encode()} if example.body is not None else {}


def _judged(example: Example, answer: httpx.Response) -> tuple[str, dict[str, str]]:
    """Return what is wrong with an answer, and what is kept of it."""
    if answer.status_code != example.status:
        return f"{answer.status_code}, not {example.status}: {answer.text[:300]}", {}
    kept = {}
    for name, field in example.keep.items():
        value = answer.json()
        for step in field.split("."):
            try:
                value = value[int(step) if isinstance(value, list) else step]
            except (KeyError, IndexError):
                return f"the answer has no {field}: {answer.text[:300]}", {}
        kept[name] = str(value)
    return "", kept


@contextmanager
def example_lab(folder: Path, database: str | None = None) -> Iterator[ExampleLab]:
    """Prepare all that examples.toml says is there."""
    with (
        serve(name=folder.name, database=database) as service,
        prepared(service, folder, service.account_id, service.api_key) as lab,
    ):
        yield lab


@contextmanager
def prepared(service: Service, folder: Path, account_id: str, key: str, *, mark: str = "") -> Iterator[ExampleLab]:
    """Prepare it in an account of a service; `mark` is in all names of what is made."""
    with ExitStack() as stack:
        loop = stack.enter_context(LoopThread("example-devices"))
        (folder / "firmware.bin").write_bytes(IMAGE)
        (folder / "keys.bin").write_bytes(b"keys of devices")
        (folder / "firmware.manifest").write_bytes(
            service.developer.sign(IMAGE, version="1.0.1", uri=f"{service.url}/v3/firmware-images/0/firmware.bin")
        )
        identities = [identity_of(f"{mark}{each}".encode()) for each in ("one", "two", "some device's certificate")]
        (folder / "enrollments.csv").write_text("\n".join(["identity", *identities[:2], ""]))
        desk, spare = (_registered(stack, service, loop, f"{mark}{name}", account_id) for name in ("desk1", "desk2"))
        known = {
            "account_id": account_id,
            "certificate": _factory(mark).replace("\n", ""),
            "keyed_name": f"{mark}my-endpoint-0001",
            "device_id": desk.id,
            "endpoint_name": desk.name,
            "spare_id": spare.id,
            "bootstrapped_id": _bootstrapped(service, spare, f"{mark}desk3", account_id, key),
            "enrollment_identity": identities[2],
            "denying_id": _denied(service, f"{mark}desk4", account_id),
            "callback_url": stack.enter_context(_listening()),
        }
        yield ExampleLab(service, key, known, folder)


def _factory(mark: str) -> str:
    """Return a CA's certificate in PEM."""
    return authority_certificate(new_key(), f"{mark}factory").public_bytes(Encoding.PEM).decode()


def _registered(stack: ExitStack, service: Service, loop: LoopThread, name: str, account_id: str) -> Device:
    device = Device(lambda coroutine: loop.run(coroutine, timeout=30), service.core.lwm2m.address, name)
    device.register(UPDATABLE, f"aid={account_id}")
    stack.callback(device.close)
    return device


def _bootstrapped(service: Service, device: Device, name: str, account_id: str, key: str) -> str:
    """Ask to bootstrap under a name; return the id that it got."""
    message = Message(code=codes.POST)
    message.opt.uri_path, message.opt.uri_query = ("bs",), (f"ep={name}", f"aid={account_id}")
    address = service.core._addresses["bootstrap"]["coap"]
    assert device.run(device.endpoint.request(message, address)).code == codes.CHANGED
    headers = {"Authorization": f"Bearer {key}"}
    (found,) = httpx.get(f"{service.url}/v3/devices?endpoint_name__eq={name}", headers=headers).json()["data"]
    return str(found["id"])


def _denied(service: Service, name: str, account_id: str) -> str:
    """Let a device be turned away; return the id of the certificate that is said to have signed for it."""
    trusted = {"id": account_id[::-1], "account_id": account_id}
    service.call(service.core.enrollments.denied, name, [trusted], "it is not enrolled")
    return str(trusted["id"])


@contextmanager
def _listening() -> Iterator[str]:
    """Run a web server that takes every PUT; give its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Listener)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/news"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Listener(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
