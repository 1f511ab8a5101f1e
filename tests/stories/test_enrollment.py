"""A board that a factory made is nobody's, until an account enrolls it: the whole way, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pdmlab import serve
from pdmlab.capture.failures import Failures
from pdmlab.service import Service
from pdmlab.service.enrollment import identity_of
from pdmlab.sim.board import VirtualBoard
from pdmlab.storage import FATFileSystem
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.credentials import CredentialStore
from pdmlab.storage.kv.nvstore import SotpType
from pdmlab.update.credentials import Credentials
from tests.client.pki import Authority

CONNECTED = r"Connected to Pelion Device Management\. Device ID: ([0-9a-f]{32})"
PATIENCE_S = 30.0


@pytest.fixture
def service() -> Iterator[Service]:
    with serve(name="factory") as service:
        yield service


@pytest.fixture
def board() -> Iterator[VirtualBoard]:
    with VirtualBoard("K64F", id="from-a-factory", memory=True, seed=5) as board:
        yield board


def until(found: Callable[[], Any]) -> Any:
    """Ask again until there is something."""
    end = time.monotonic() + PATIENCE_S
    while not (what := found()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
    return what


def first_to_claim(device: Any) -> None:
    """What the factory writes beside the credentials: that the device is whose account enrolls it."""
    fs = FATFileSystem("fs", BlockDevice.get_default_instance())
    store = CredentialStore(fs, device.nvstore.get(SotpType.ROT), random_bytes=device.random_bytes)
    store.set("mbed.FirstToClaim", (1).to_bytes(4, "little"), factory=True)
    fs.unmount()


class Account:
    """An account of the service, by its administrator's key."""

    def __init__(self, service: Service, name: str) -> None:
        create = service.core.accounts.create_account
        row, _, key = service.call(create, {"display_name": name}, {"email": f"{name}@example.com"})
        self.id = str(row["id"])
        self.http = httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {key}"}, timeout=30)

    def get(self, path: str, **query: str) -> Any:
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **body: Any) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def trust(self, certificate: bytes) -> str:
        """Trust a factory's CA, for devices that the account enrolls; return the trusted certificate's id."""
        pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode()
        body = {"name": "the factory", "certificate": pem, "service": "bootstrap", "enrollment_mode": True}
        return str(self.post("/v3/trusted-certificates", **body)["id"])


@pytest.fixture
def accounts(service: Service) -> Iterator[tuple[Account, Account]]:
    made = Account(service, "buyer"), Account(service, "neighbour")
    yield made
    for each in made:
        each.http.close()


def test_a_factorys_board_comes_into_the_account_that_enrolled_it(
    service: Service, board: VirtualBoard, accounts: tuple[Account, Account]
) -> None:
    buyer, neighbour = accounts
    factory = Authority("Factory CA")
    certificate, key = factory.issue(CN="meter-0001")
    trusted = buyer.trust(factory.certificate)
    neighbour.trust(factory.certificate)
    built_in = Credentials(
        "meter-0001",
        service.core.uri("bootstrap", secure=True).partition("?")[0],
        bootstrap_device_certificate=certificate,
        bootstrap_server_root_ca_certificate=service.core.pki.certificate,
        bootstrap_device_private_key=key,
    )
    board.flash_application("example", credentials=built_in)
    board.console.expect(r"the bootstrap URI names no account", timeout=30)
    board.run(first_to_claim, timeout=30)
    board.flash_application("example", credentials=built_in)

    # Nobody has enrolled it: it is turned away, which both accounts that trust its factory see.
    denied = until(lambda: buyer.get("/v3/device-enrollment-denials", trusted_certificate_id__eq=trusted)["data"])
    assert [(each["endpoint_name"], each["account_id"]) for each in denied] == [("meter-0001", buyer.id)]
    assert buyer.get("/v3/devices")["data"] == neighbour.get("/v3/devices")["data"] == []
    assert "not enrolled" in [each.kind for each in Failures(service.log)]

    enrollment = buyer.post("/v3/device-enrollments", enrollment_identity=identity_of(certificate))
    board.reset()
    device_id = board.console.expect(CONNECTED, timeout=30)[1]
    device = buyer.get(f"/v3/devices/{device_id}")
    assert (device["state"], device["account_id"], device["endpoint_name"]) == ("registered", buyer.id, "meter-0001")
    assert device["device_execution_mode"] == 5 and device["ca_id"] == trusted
    assert f"A-{device['device_key']}" == identity_of(certificate) and device["enrolment_list_timestamp"]
    claimed = buyer.get(f"/v3/device-enrollments/{enrollment['id']}")
    assert claimed["enrolled_device_id"] == device_id and claimed["claimed_at"]
    kinds = [each["event_type"] for each in buyer.get("/v3/device-events", device_id__eq=device_id)["data"]]
    steps = ["created", "enrolled", "bootstrapped", "registered"]
    assert [each.rpartition("-")[2] for each in kinds if each.rpartition("-")[2] in steps] == steps
    assert neighbour.get("/v3/devices")["data"] == [] and neighbour.get("/v3/device-enrollments")["data"] == []

    # It is a production device: it goes with its enrollment, and then it is anybody's again.
    assert buyer.http.delete(f"/v3/devices/{device_id}").status_code == 400
    assert buyer.http.delete(f"/v3/device-enrollments/{enrollment['id']}").status_code == 204
    assert buyer.get("/v3/devices")["data"] == []
    neighbour.post("/v3/device-enrollments", enrollment_identity=identity_of(certificate))
    board.reset()
    board.console.expect("bootstrap again", timeout=30)
    board.reset()  # the client itself waits a minute or two before it asks again
    moved = board.console.expect(CONNECTED, timeout=30)[1]
    assert moved != device_id and neighbour.get(f"/v3/devices/{moved}")["state"] == "registered"
    assert buyer.get("/v3/devices")["data"] == []
