"""init(): what a board prints, stores and finds again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest

from pdmlab.client import Error, SimpleMbedCloudClient
from pdmlab.client.provisioning import ITEMS
from pdmlab.client.security_object import Lwm2mServer
from pdmlab.codes import explain
from pdmlab.errors import ConfigError, StorageError
from pdmlab.storage import CredentialStore, FATFileSystem, LittleFileSystem2, Medium, SDBlockDevice
from pdmlab.storage.kv import SotpType
from pdmlab.storage.kv.esfsfile import short_name
from tests.client.bench import CREDENTIALS, DEVICE, Bench

T = TypeVar("T")
FOUR_LINES = [
    "[SMCC] Initializing storage.",
    "[SMCC] Autoformatting the storage.",
    "[SMCC] Reset storage to an empty state.",
    "[SMCC] Starting developer flow",
]
HEALTHY = [FOUR_LINES[0], FOUR_LINES[3], "[SMCC] Developer credentials already exist"]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.clock.close()


def on(bench: Bench, work: Callable[[], T]) -> T:
    return bench.clock.call_async(bench.device(work))


def boot(bench: Bench, **options: bool) -> int:
    return on(bench, lambda: bench.make_client(**options).init())


def stored(bench: Bench) -> dict[str, bytes]:
    def read() -> dict[str, bytes]:
        fs = LittleFileSystem2("fs", bench.block_device)
        store = CredentialStore(fs, bench.nvstore.get(SotpType.ROT))
        return {name: store.get(name) for name in store.list()}

    return on(bench, read)


def test_a_blank_board_prints_the_seeds_four_lines_and_stores_its_credentials(bench: Bench) -> None:
    assert boot(bench) == 0
    assert bench.uart.lines() == FOUR_LINES
    items = stored(bench)
    assert items["mbed.EndpointName"] == b"desk-1"
    assert items["mbed.BootstrapServerURI"] == CREDENTIALS.bootstrap_server_uri.encode()
    assert set(items) == {ITEMS[name] for name in ITEMS if getattr(CREDENTIALS, name) is not None}


def test_a_second_boot_finds_what_the_first_has_stored(bench: Bench) -> None:
    boot(bench)
    bench.uart.lines()
    assert boot(bench) == 0
    assert bench.uart.lines() == HEALTHY


def test_without_its_root_of_trust_a_board_starts_over(bench: Bench) -> None:
    boot(bench)
    remember(bench)
    bench.erase_sotp()
    bench.uart.lines()
    assert boot(bench) == 0
    assert bench.uart.lines() == FOUR_LINES
    assert "mbed.InternalEndpoint" not in stored(bench)


def test_without_leave_to_format_nothing_is_lost(bench: Bench) -> None:
    boot(bench)
    remember(bench)
    before = dict(bench.block_device._blocks)
    bench.erase_sotp()
    bench.uart.lines()
    assert boot(bench, format_storage_layer_on_error=False) == Error.ConnectorFailedToReadCredentials
    assert any("format-storage-layer-on-error" in line for line in bench.uart.lines())
    assert bench.block_device._blocks == before


def test_a_pulled_card_is_reported_with_the_code_of_its_driver(bench: Bench) -> None:
    card = Medium(16 << 20, erase_value=0)
    card.seated = False

    def main() -> int:
        bd = SDBlockDevice(card, clock=bench.clock)
        return SimpleMbedCloudClient(bench.network, bd, FATFileSystem("fs", bd)).init()

    assert on(bench, main) == -5005
    assert bench.uart.lines() == [*FOUR_LINES[:2], "[SMCC] Autoformatting failed with error -5005"]
    assert explain(-5005).name == "SD_BLOCK_DEVICE_ERROR_NO_DEVICE"


def test_init_can_be_told_to_format(bench: Bench) -> None:
    boot(bench)
    remember(bench)
    bench.uart.lines()
    assert on(bench, lambda: bench.make_client().init(format=True)) == 0
    assert bench.uart.lines() == FOUR_LINES
    assert "mbed.InternalEndpoint" not in stored(bench)


def remember(bench: Bench) -> None:
    """Store what bootstrap and registration would have brought."""

    def store() -> None:
        client = bench.make_client()
        client.init()
        identity = client._provisioning.identity
        assert identity is not None
        identity.remember(Lwm2mServer("coap://cloud:5685?aid=x"), device_id=DEVICE)

    on(bench, store)


def test_an_identity_outlives_a_reset(bench: Bench) -> None:
    boot(bench)
    remember(bench)

    def main() -> str | None:
        client = bench.make_client()
        client.init()
        return client.device_id

    assert on(bench, main) == DEVICE


def test_other_compiled_in_credentials_make_another_device(bench: Bench) -> None:
    boot(bench)
    remember(bench)
    bench.uart.lines()
    bench.image.credentials = replace(CREDENTIALS, bootstrap_endpoint_name="desk-2").to_mapping()
    assert boot(bench) == 0
    assert bench.uart.lines() == [FOUR_LINES[0], *FOUR_LINES[2:]]
    items = stored(bench)
    assert items["mbed.EndpointName"] == b"desk-2"
    assert "mbed.InternalEndpoint" not in items and "mbed.LwM2MServerURI" not in items


def test_a_service_that_has_moved_is_bootstrapped_at_again_by_the_same_device(bench: Bench) -> None:
    boot(bench)
    remember(bench)
    moved = replace(CREDENTIALS, bootstrap_server_uri="coap://cloud:9999?aid=x")
    bench.image.credentials = moved.to_mapping()
    assert boot(bench) == 0
    items = stored(bench)
    assert items["mbed.BootstrapServerURI"] == b"coap://cloud:9999?aid=x"
    assert items["mbed.InternalEndpoint"] == DEVICE.encode()
    assert "mbed.LwM2MServerURI" not in items


def test_a_server_address_that_a_power_cut_tore_is_forgotten_and_the_device_stays_who_it_was(bench: Bench) -> None:
    boot(bench)
    remember(bench)

    def tear() -> None:
        fs = LittleFileSystem2("fs", bench.block_device)
        with fs.open(f"/WORKING/{short_name('CfgParam_mbed.LwM2MServerURI')}", "w") as file:
            file.write(b"\1")
        fs.unmount()

    on(bench, tear)
    bench.uart.lines()

    def boot_again() -> tuple[str | None, str | None]:
        client = bench.make_client()
        assert client.init() == 0
        identity = client._provisioning.identity
        assert identity is not None
        return identity.lwm2m_uri, identity.device_id

    assert on(bench, boot_again) == (None, DEVICE)
    assert bench.uart.lines() == HEALTHY


def test_credentials_of_before_esfs_are_replaced(bench: Bench) -> None:
    def old() -> None:
        fs = LittleFileSystem2("fs")
        fs.reformat(bench.block_device)
        fs.mkdir("/kcm")
        with fs.open("/kcm/1b16b1df538ba12dc3f97edbb85caa70", "w") as file:
            file.write(bytes(60))
        fs.unmount()

    on(bench, old)
    assert boot(bench) == 0
    assert bench.uart.lines() == FOUR_LINES
    assert stored(bench)["mbed.EndpointName"] == b"desk-1"


def test_an_image_without_credentials_says_so(bench: Bench) -> None:
    bench.image.credentials = None
    assert boot(bench) == Error.ConnectorInvalidCredentials
    assert bench.uart.lines()[-1] == "[SMCC] Failed to load developer credentials - the image has none"


def test_a_medium_that_fails_in_the_developer_flow_gives_its_number(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StorageError("full", code=-28)

    monkeypatch.setattr(CredentialStore, "set", refuse)
    assert boot(bench) == -28
    assert bench.uart.lines()[-1] == "[SMCC] Failed to load developer credentials - full (-28)"


def test_a_firmware_without_credentials_says_where_they_come_from(bench: Bench) -> None:
    bench.image.credentials = None
    with pytest.raises(ConfigError, match=r"no mbed_cloud_dev_credentials\.c in the working folder") as error:
        on(bench, lambda: bench.make_client().register_and_connect())
    for way in ("pdmlab dm init", "Credentials", "setting `credentials`"):
        assert way in str(error.value)


def test_registering_needs_init_and_a_client_needs_a_board(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="no credentials"):
        on(bench, lambda: bench.make_client().register_and_connect())
    with pytest.raises(ConfigError, match="runs on a board"):
        bench.make_client()


def test_a_bootstrap_address_must_name_the_account_unless_the_device_is_to_be_claimed(bench: Bench) -> None:
    """The factory configurator's check, docs/wire.md 1.1."""
    bench.image.credentials = replace(CREDENTIALS, bootstrap_server_uri="coap://cloud:5683").to_mapping()
    assert boot(bench) == Error.ConnectorInvalidCredentials
    assert "names no account (aid=)" in bench.uart.lines()[-1]

    def claim() -> None:
        fs = LittleFileSystem2("fs", bench.block_device)
        CredentialStore(fs, bench.nvstore.get(SotpType.ROT)).set("mbed.FirstToClaim", (1).to_bytes(4, "little"))
        fs.unmount()

    on(bench, claim)
    assert boot(bench) == 0
