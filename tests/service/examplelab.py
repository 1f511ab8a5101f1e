"""A service with everything that the examples of the API name: devices, files, and who listens to callbacks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.aio import LoopThread
from pdmlab.service import serve
from pdmlab.service.service import Service
from tests.service.restlab import LINKS, Device

UPDATABLE = LINKS + ',</10252/0/1>,</14/0/2>;v="1.0.0",</35011/0/27002>'
IMAGE = b"firmware" * 100


@dataclass
class ExampleLab:
    """The service, what names stand for, and the folder that has the files."""

    service: Service
    known: dict[str, str]
    folder: Path


@contextmanager
def example_lab(folder: Path) -> Iterator[ExampleLab]:
    """Prepare all that examples.toml says is there."""
    with ExitStack() as stack:
        service = stack.enter_context(serve(name="examples"))
        loop = stack.enter_context(LoopThread("example-devices"))
        (folder / "firmware.bin").write_bytes(IMAGE)
        (folder / "firmware.manifest").write_bytes(
            service.developer.sign(IMAGE, version="1.0.1", uri=f"{service.url}/v3/firmware-images/0/firmware.bin")
        )
        desk, spare = (_registered(stack, service, loop, name) for name in ("desk1", "desk2"))
        known = {
            "account_id": service.account_id,
            "device_id": desk.id,
            "endpoint_name": desk.name,
            "spare_id": spare.id,
            "bootstrapped_id": _bootstrapped(service, spare),
            "callback_url": stack.enter_context(_listening()),
        }
        yield ExampleLab(service, known, folder)


def _registered(stack: ExitStack, service: Service, loop: LoopThread, name: str) -> Device:
    device = Device(lambda coroutine: loop.run(coroutine, timeout=30), service.core.lwm2m.address, name)
    device.register(UPDATABLE)
    stack.callback(device.close)
    return device


def _bootstrapped(service: Service, device: Device) -> str:
    """Ask to bootstrap as desk3; return the id that it got."""
    message = Message(code=codes.POST)
    message.opt.uri_path, message.opt.uri_query = ("bs",), ("ep=desk3",)
    address = service.core._addresses["bootstrap"]["coap"]
    assert device.run(device.endpoint.request(message, address)).code == codes.CHANGED
    headers = {"Authorization": f"Bearer {service.api_key}"}
    (found,) = httpx.get(f"{service.url}/v3/devices?endpoint_name__eq=desk3", headers=headers).json()["data"]
    return str(found["id"])


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
