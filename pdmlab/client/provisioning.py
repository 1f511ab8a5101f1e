"""The device's storage and identity: mounted, formatted where need be, and filled by the developer flow.

What must survive a reset lies in the credential store, encrypted under the root of trust in SOTP, by the names
of the stock client's key and configuration manager. Where it cannot be opened, the seed's client makes the
storage anew: so a device whose SOTP was erased comes back with another identity.
"""

from __future__ import annotations

from dataclasses import fields

from pdmlab.client.error import Error
from pdmlab.client.identity import DEVICE_ID, Identity, get, get_unless_torn, is_first_to_claim, remove, stored_server
from pdmlab.client.platform import Platform
from pdmlab.client.server_uri import names_account
from pdmlab.errors import ConfigError, StorageError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.credentials import CredentialStore
from pdmlab.storage.filesystem import FileSystem
from pdmlab.storage.kv.nvstore import root_of_trust
from pdmlab.update.credentials import Credentials, UpdateResources

ITEMS = {
    "bootstrap_server_uri": "mbed.BootstrapServerURI",
    "bootstrap_endpoint_name": "mbed.EndpointName",
    "account_id": "mbed.AccountID",
    "bootstrap_device_certificate": "mbed.BootstrapDeviceCert",
    "bootstrap_server_root_ca_certificate": "mbed.BootstrapServerCACert",
    "bootstrap_device_private_key": "mbed.BootstrapDevicePrivateKey",
    "manufacturer": "mbed.Manufacturer",
    "model_number": "mbed.ModelNumber",
    "serial_number": "mbed.SerialNumber",
    "device_type": "mbed.DeviceType",
    "hardware_version": "mbed.HardwareVersion",
    "memory_total_kb": "mbed.MemoryTotalKB",
}
"""Where each of the compiled-in credentials is kept."""
UPDATE_ITEMS = {
    "vendor_id": "mbed.VendorId",
    "class_id": "mbed.ClassId",
    "default_certificate": "mbed.UpdateAuthCert",
}


class Provisioning:
    """Opens the storage of a board and returns who it is; every method blocks."""

    def __init__(self, platform: Platform, bd: BlockDevice, fs: FileSystem, *, format_on_error: bool = True) -> None:
        self._platform = platform
        self._bd = bd
        self._fs = fs
        self._format_on_error = format_on_error
        self.identity: Identity | None = None
        self._changed: set[str] = set()  # which compiled-in credentials are not the stored ones

    def init(self, *, format: bool = False) -> int:
        """Do what the seed's init() does, with its lines on the console; return 0 or an error's number."""
        self._print("Initializing storage.")
        credentials = self._compiled_in()
        if credentials is None:
            return Error.ConnectorInvalidCredentials
        identity = None if format else self._open(credentials)
        if identity is None and not (format or self._format_on_error):
            self._print("Device not configured: format the storage, or set format-storage-layer-on-error to 1")
            return Error.ConnectorFailedToReadCredentials
        if identity is None and (status := self.reformat()) != 0:
            return status
        try:
            if identity is None or self._changed & _WHO:
                identity = self._reset_storage(credentials)
            self._print("Starting developer flow")
            self._developer_flow(identity)
            self._update_resources(identity)
        except StorageError as error:
            self._print(f"Failed to load developer credentials - {error.message} ({int(error.code)})")
            return int(error.code) or Error.ConnectorFailedToStoreCredentials
        if not names_account(identity.credentials.bootstrap_server_uri) and not is_first_to_claim(identity.store):
            self._print("Device not configured: the bootstrap URI names no account (aid=)")
            return Error.ConnectorInvalidCredentials
        self.identity = identity
        return 0

    def reformat(self) -> int:
        """Make an empty file system; return 0, or the code of what stood in the way."""
        self._print("Autoformatting the storage.")
        try:
            self._fs.reformat(self._bd)
        except StorageError as error:
            self._print(f"Autoformatting failed with error {int(error.code)}")
            return int(error.code) or Error.ConnectorFailedToStoreCredentials
        return 0

    def _compiled_in(self) -> Credentials | None:
        mapping = self._platform.image.credentials
        if mapping is None:
            self._print("Failed to load developer credentials - the image has none")
            return None
        try:
            return Credentials.from_mapping(mapping)
        except ConfigError as error:
            self._print(f"Failed to load developer credentials - {error.message}")
            return None

    def _open(self, compiled_in: Credentials) -> Identity | None:
        """Mount the storage and return the identity in it.

        None if there is none, it was stored under another root of trust, or the device does not answer.
        """
        try:
            if not self._fs.mounted:
                self._fs.mount(self._bd)
            store = self._store()
            stored = {name: get(store, item) for name, item in ITEMS.items()}
            server, device_id = stored_server(store), get_unless_torn(store, DEVICE_ID)
        except StorageError as error:
            if not self._format_on_error:
                self._print(f"Failed to open the storage - {error.message} ({int(error.code)})")
            return None
        if stored["bootstrap_endpoint_name"] is None or stored["bootstrap_server_uri"] is None:
            return None
        self._changed = {name for name, value in _items(compiled_in).items() if value != stored[name]}
        return Identity(
            compiled_in,
            server=server,
            device_id=None if device_id is None else device_id.decode(),
            store=store,
        )

    def _store(self) -> CredentialStore:
        random_bytes = self._platform.random_bytes
        root = root_of_trust(self._platform.nvstore, random_bytes)
        return CredentialStore(self._fs, root, random_bytes=random_bytes)

    def _reset_storage(self, credentials: Credentials) -> Identity:
        self._print("Reset storage to an empty state.")
        identity = Identity(credentials, store=self._store())
        identity.store.clear()
        self._changed = set(ITEMS)
        return identity

    def _developer_flow(self, identity: Identity) -> None:
        """Store the compiled-in credentials, where they differ from the stored ones."""
        if not self._changed:
            self._print("Developer credentials already exist")
        elif self._changed & _WHERE and identity.lwm2m_uri is not None:
            identity.forget_server()  # the same device, at a service that has moved
        store, items = identity.store, _items(identity.credentials)
        # The endpoint name last: without it the device counts as not configured.
        for name in sorted(self._changed, key=lambda name: (name == "bootstrap_endpoint_name", name)):
            value = items[name]
            if value is None:
                remove(store, ITEMS[name])
            else:
                store.set(ITEMS[name], value, factory=True)

    def _update_resources(self, identity: Identity) -> None:
        """Copy the compiled-in update resources to the store where they differ, as the stock client does."""
        mapping = self._platform.image.update_resources
        if mapping is None:
            return
        try:
            identity.update = UpdateResources.from_mapping(mapping)
        except ConfigError as error:
            self._print(f"No firmware update - {error.message}")
            return
        for name, item in UPDATE_ITEMS.items():
            value: bytes = getattr(identity.update, name)
            if get(identity.store, item) != value:
                identity.store.set(item, value, factory=True)

    def _print(self, text: str) -> None:
        self._platform.uart.write(f"[SMCC] {text}\r\n")


_WHO = {
    "bootstrap_endpoint_name",
    "account_id",
    "bootstrap_device_certificate",
    "bootstrap_device_private_key",
}
"""A device that changes one of these is another device."""
_WHERE = {"bootstrap_server_uri", "bootstrap_server_root_ca_certificate"}
"""Who changes one of these asks another service who manages it."""


def _items(credentials: Credentials) -> dict[str, bytes | None]:
    return {part.name: _bytes(getattr(credentials, part.name)) for part in fields(Credentials) if part.name in ITEMS}


def _bytes(value: str | int | bytes | None) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else str(value).encode()
