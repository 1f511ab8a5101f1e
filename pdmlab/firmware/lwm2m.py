"""A board of another vendor: a plain LwM2M client, no device-management library, its firmware updated by object 5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.client import Certificate, FirmwareObject, Lwm2mClient
from pdmlab.errors import ConfigError, PdmlabError
from pdmlab.firmware.device import Device
from pdmlab.update.credentials import Credentials

if TYPE_CHECKING:
    from pdmlab.client.plain.link import ServerLink


def lwm2m(device: Device) -> Lwm2mClient:
    """Bootstrap, register, and tell of each update on the console; the client works on when this has returned.

    The server that is compiled in is a bootstrap server, over DTLS with a certificate, or without security. Firmware
    may be pushed or pulled, and shows as object 33629 too.

    Raises:
        ConfigError: nothing is compiled in.
    """

    def say(text: str) -> None:
        device.uart.write(f"{text}\r\n")

    def registered(link: ServerLink) -> None:
        uri, location = link.account.uri, link.registration.location
        say(f"[INFO] Registered at {uri.scheme}://{uri.host}:{uri.port}. Device ID: {location[-1]}")

    def failed(error: PdmlabError) -> None:
        say(f"[ERROR] {error.message}")

    if device.image.credentials is None:
        raise ConfigError("the image has no credentials: which server?", hint="`pdmlab dm init` in its folder")
    credentials = Credentials.from_mapping(device.image.credentials)
    firmware = FirmwareObject()
    device.network.connect()
    client = Lwm2mClient(
        credentials.bootstrap_endpoint_name,
        credentials.bootstrap_server_uri,
        bootstrap=True,
        credentials=_certificate(credentials),
        objects=[firmware, firmware.components()],
        net=device.network,
    )
    say(f"[INFO] {client.endpoint_name}, firmware {firmware.store.running.version}")
    client.on_registered(registered)
    client.on_error(failed)
    client.on_firmware(lambda status: say(f"[INFO] Firmware update: {status}"))
    client.start()
    return client


def _certificate(credentials: Credentials) -> Certificate | None:
    own, key = credentials.bootstrap_device_certificate, credentials.bootstrap_device_private_key
    trust = credentials.bootstrap_server_root_ca_certificate
    if not credentials.bootstrap_server_uri.startswith("coaps://"):
        return None
    assert own is not None and key is not None and trust is not None  # or these were no credentials
    return Certificate(own, key, trust)
