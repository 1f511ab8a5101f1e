"""A board and a service over real sockets: what the example sets is read by REST, and by programs of others."""

from __future__ import annotations

import contextlib
import queue
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdmlab import Cloud, M2MMethod, SimpleMbedCloudClient, serve
from pdmlab.client.transport import Transport
from pdmlab.clock import SECOND
from pdmlab.coap.transport import scheme_of
from pdmlab.network.interface import NetworkInterface
from pdmlab.service import Service
from pdmlab.sim.board import VirtualBoard
from pdmlab.storage import FATFileSystem, LittleFileSystem2
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.update.manifest import Manifest
from tests.tools import program

CLIENT = ("coap-client-notls", "coap-client-openssl", "coap-client-gnutls", "coap-client")
LARGE = bytes(i * 7 % 251 for i in range(4096))
CONNECTED = r"Connected to Pelion Device Management\. Device ID: ([0-9a-f]{32})"
FOUR_LINES = [
    "[SMCC] Initializing storage.",
    "[SMCC] Autoformatting the storage.",
    "[SMCC] Reset storage to an empty state.",
    "[SMCC] Starting developer flow",
]


@pytest.fixture
def service() -> Iterator[Service]:
    with serve(name="live") as service:
        yield service


@pytest.fixture
def board(service: Service) -> Iterator[VirtualBoard]:
    with VirtualBoard("K64F", id="live", memory=True, seed=3) as board:
        yield board


def connected(board: VirtualBoard) -> str:
    """Wait until the board has registered; return its device id."""
    return board.console.expect(CONNECTED, timeout=30)[1]


def smcc_lines(board: VirtualBoard) -> list[str]:
    return [line for line in board.console.transcript["text"] if str(line).startswith("[SMCC]")]


def notebook() -> SimpleMbedCloudClient:
    """What notebook 03 runs: the seed's example, and a large resource."""
    # Initialize connectivity
    net = NetworkInterface.get_default_instance()
    net.connect()

    # Initialize storage
    bd = BlockDevice.get_default_instance()
    fs = FATFileSystem("fs", bd)

    # Initialize SimpleMbedCloudClient
    client = SimpleMbedCloudClient(net, bd, fs)
    client.init()

    # Create resource
    variable = client.create_resource("3201/0/5853", "variable")
    variable.set_value("assign new value")
    variable.methods(M2MMethod.GET | M2MMethod.PUT)

    large = client.create_resource("5000/0/2", "large")
    large.set_value(LARGE)

    client.register_and_connect()
    while not client.is_client_registered():
        net.clock.sleep(SECOND // 100)
    return client


def test_rest_reads_and_writes_what_the_example_has_set(service: Service, board: VirtualBoard) -> None:
    board.flash_application("example")
    device_id = connected(board)
    with Cloud(service.url, service.api_key) as cloud:
        device = cloud.device(device_id)
        assert device.state == "registered"
        assert device.read("/3201/0/5853") == "assign new value"
        device.write("/3201/0/5853", "another one")
        assert device.read("/3201/0/5853") == "another one"
        assert device.read("/3/0/0") == "dev_manufacturer"
        assert list(device.resources()["path"]).count("/3201/0/5853") == 1


def test_a_function_of_a_notebook_goes_on_working_after_it_has_returned(service: Service, board: VirtualBoard) -> None:
    client = board.run(notebook, timeout=60)
    assert re.fullmatch("[0-9a-f]{32}", client.device_id)
    assert "registered" in repr(client) and client.device_id in client._repr_html_()
    with Cloud(service.url, service.api_key) as cloud:
        device = cloud.device(client.device_id)
        assert device.read("/3201/0/5853") == "assign new value"
        assert device.read("/5000/0/2") == LARGE
        assert len(client.log.frame()) == len(client.log) > 10
        gone: queue.Queue[bool] = queue.Queue()
        client.on_unregistered(lambda: gone.put(True))
        client.close()
        assert gone.get(timeout=30)
        device.wait_for("deregistered")


def test_values_set_in_a_notebook_are_notified(service: Service, board: VirtualBoard) -> None:
    client = board.run(notebook, timeout=60)
    variable = next(each for each in client._resources if each.name == "variable")
    variable.observable(True)
    with (
        Cloud(service.url, service.api_key) as cloud,
        cloud.device(client.device_id).observe("/3201/0/5853") as observation,
    ):
        variable.set_value("from the notebook's thread")
        while observation.next(timeout=30).value != "from the notebook's thread":
            pass


def test_a_second_boot_skips_bootstrap_and_keeps_the_identity(service: Service, board: VirtualBoard) -> None:
    board.flash_application("example")
    device_id = connected(board)
    board.reset()
    assert connected(board) == device_id
    assert sum(row.path == "/bs" and row.code == "POST" and row.direction == "in" for row in service.log) == 1
    assert smcc_lines(board) == [
        *FOUR_LINES,
        FOUR_LINES[0],
        FOUR_LINES[3],
        "[SMCC] Developer credentials already exist",
    ]


def test_with_its_root_of_trust_a_board_loses_its_identity(service: Service, board: VirtualBoard) -> None:
    board.flash_application("example")
    device_id = connected(board)
    board.power_off()
    board.faults.erase_sotp()
    board.power_on()
    assert connected(board) != device_id
    assert smcc_lines(board) == [*FOUR_LINES, *FOUR_LINES]


def test_a_board_follows_a_service_that_comes_back_on_other_ports(board: VirtualBoard, service: Service) -> None:
    first = board.run(notebook, timeout=60).device_id
    service.close()
    with serve(name="live", bootstrap_port=0) as again:
        assert again is not service
        assert board.run(notebook, timeout=60).device_id == first


def test_an_update_goes_through_to_the_new_version(service: Service, board: VirtualBoard) -> None:
    board.flash_application("example", version="1.0.0")
    device_id = connected(board)
    image = board.build("example", version="1.0.1")
    with Cloud(service.url, service.api_key) as cloud:
        uploaded = cloud.firmware_image("example 1.0.1", image)
        update = service.update_resources()
        assert update is not None
        manifest = Manifest.for_image(
            image, version="1.0.1", uri=uploaded.url, vendor_id=update.vendor_id, class_id=update.class_id
        ).sign(service.developer.private_key)
        cloud.campaign(cloud.manifest("to 1.0.1", manifest), devices=device_id)
        assert connected(board) == device_id
        assert str(board.installed()) == "example 1.0.1 (build 0)"
        assert cloud.device(device_id).read("/14/0/2") == "1.0.1"


@pytest.mark.debian
def test_coap_client_reads_the_boards_own_port(
    service: Service, board: VirtualBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without security a board has a UDP port, and answers anybody there."""
    coap_client = program(*CLIENT)
    plain = tmp_path / "mbed_cloud_dev_credentials.c"
    plain.write_text(service.credentials(secure=False).to_c())
    monkeypatch.setenv("PDMLAB_CREDENTIALS", str(plain))
    client = board.run(notebook, timeout=60)
    address = client.address
    assert address is not None

    def get(path: str, *options: str) -> bytes:
        url = f"coap://127.0.0.1:{address[1]}{path}"
        command = [coap_client, "-m", "get", "-B", "20", *options, url]
        done = subprocess.run(command, capture_output=True, timeout=30)
        assert done.returncode == 0 and done.stderr == b"", done.stderr
        return done.stdout

    assert get("/3/0/0").strip() == b"dev_manufacturer"
    assert get("/5000/0/2")[:4096] == LARGE
    assert b"</3201/0/5853>" in get("/3201", "-A", "40")


@pytest.mark.parametrize(
    ("transport", "secure", "scheme"),
    [
        (None, True, "coaps+tcp"),
        ("udp", True, "coaps"),
        ("udp_queue", True, "coaps"),
        ("tcp", False, "coap+tcp"),
        (None, False, "coap"),
    ],
)
def test_each_transport_carries_a_bootstrap_a_registration_and_a_read(
    service: Service,
    transport: Transport | None,
    secure: bool,
    scheme: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    credentials = tmp_path / "mbed_cloud_dev_credentials.c"
    credentials.write_text(service.credentials(secure=secure).to_c())
    monkeypatch.setenv("PDMLAB_CREDENTIALS", str(credentials))
    with VirtualBoard("K64F", id="carried", memory=True, seed=3, transport=transport) as board:
        client = board.run(notebook, timeout=60)
        assert client.server is not None and scheme_of(client.server) == scheme
        assert [step.name for step in client.steps if not step.ok] == []
        with Cloud(service.url, service.api_key) as cloud:
            assert cloud.device(client.device_id).read("/3201/0/5853") == "assign new value"
        assert (abs(client.time - time.time()) < 3600) is secure, "only a secure server tells the time"


def test_boards_with_one_certificate_that_come_at_once_are_as_many_devices(service: Service) -> None:
    def prepare() -> SimpleMbedCloudClient:
        net = NetworkInterface.get_default_instance()
        net.connect()
        client = SimpleMbedCloudClient(net, BlockDevice.get_default_instance(), LittleFileSystem2("fs"))
        assert client.init() == 0
        return client

    with contextlib.ExitStack() as boards:
        clients = [
            boards.enter_context(VirtualBoard("K64F", id=f"many{number}", memory=True)).run(prepare)
            for number in range(8)
        ]
        registered: queue.Queue[str] = queue.Queue()
        for client in clients:
            client.on_registered(lambda info: registered.put(info.internal_endpoint_name))
            client.register_and_connect()
        ids = {registered.get(timeout=30) for _ in clients}
        assert len(ids) == len(clients) and [client.error_description for client in clients] == [""] * len(clients)
