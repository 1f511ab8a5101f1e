"""Object 5 on real sockets: packages that libcoap's client pushes, and that come by HTTP."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdmlab.aio import LoopThread
from pdmlab.client import FirmwareObject, Lwm2mClient
from pdmlab.client.plain.firmware_store import MemoryFirmware
from pdmlab.service.image_server import ImageServer
from pdmlab.update.object5 import Result, State
from pdmlab.update.packages import pack_image
from tests.client.test_plain_client import Server
from tests.tools import program

IMAGE = bytes(number * 37 % 251 for number in range(30_000))
PACKAGE = pack_image(IMAGE, "1.2.0")
IMAGE_ID = "0" * 31 + "1"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def wait(firmware: FirmwareObject, *states: State) -> None:
    until = time.monotonic() + 20
    while firmware.state not in states:
        assert time.monotonic() < until, (firmware, firmware.reason)
        time.sleep(0.01)


class OneImage:
    """What an image server hands out."""

    size = len(PACKAGE)

    def read(self, start: int, stop: int) -> bytes:
        return PACKAGE[start:stop]


@contextlib.contextmanager
def http() -> Iterator[str]:
    loop = LoopThread("images")
    server = loop.run(ImageServer.open(lambda id: OneImage() if id == IMAGE_ID else None, "127.0.0.1"))
    try:
        yield f"http://127.0.0.1:{server.port}/v3/firmware-images"
    finally:
        loop.run(server.close())
        loop.close()


def test_a_package_comes_by_http(server: Server) -> None:
    with http() as url, Lwm2mClient("board-1", server.uri) as client:
        client.wait_registered()
        firmware = client.firmware
        for path, expected in (
            (f"{url}/{IMAGE_ID}/firmware.bin", (State.DOWNLOADED, Result.INITIAL)),
            (f"{url}/{'0' * 32}/firmware.bin", (State.IDLE, Result.BAD_URI)),
            ("http://127.0.0.1:1/firmware.bin", (State.IDLE, Result.CONNECTION_LOST)),
        ):
            client._call(lambda path=path: firmware.write(0, 1, path))
            wait(firmware, State.DOWNLOADED, State.IDLE)
            while (firmware.state, firmware.result) == (State.IDLE, Result.INITIAL):
                time.sleep(0.01)
            assert (firmware.state, firmware.result) == expected, firmware.reason
            client._call(lambda: firmware.write(0, 1, ""))


@pytest.mark.debian
def test_libcoaps_client_updates_a_device(server: Server, tmp_path: Path) -> None:
    coap = program("coap-client-notls", "coap-client")
    package = tmp_path / "package"
    package.write_bytes(PACKAGE)

    with Lwm2mClient("board-1", server.uri, objects=[FirmwareObject(MemoryFirmware())]) as client:
        client.wait_registered()
        firmware, port = client.firmware, int(server.uri.rpartition(":")[2])
        address = client.address
        assert address is not None
        # A device hears its server only: libcoap speaks from the server's own port, while that is closed.
        server.loop.run(server.endpoint.close())
        device = f"coap://127.0.0.1:{address[1]}"

        def run(*options: str) -> str:
            command = [coap, "-p", str(port), "-a", "127.0.0.1", "-B", "10", *options]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

        assert run("-A", "0", f"{device}/5/0/3") == "0"
        run("-m", "put", "-b", "512", "-t", "42", "-f", str(package), f"{device}/5/0/0")
        assert run("-A", "0", f"{device}/5/0/3") == "2" and firmware.state is State.DOWNLOADED
        assert run("-A", "0", f"{device}/5/0/7") == "1.2.0"
        assert firmware.store.package().read(0, 1 << 20) == PACKAGE
        run("-m", "post", f"{device}/5/0/2")
        wait(firmware, State.IDLE)
        assert firmware.result is Result.SUCCESS and client["/3/0/3"] == "1.2.0"
