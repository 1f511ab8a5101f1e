"""The device's storage and identity: mounted, formatted where need be, and filled by the developer flow.

What must survive a reset lies in the credential store, encrypted under the root of trust in SOTP, by the names
of the stock client's key and configuration manager. Where it cannot be opened, the seed's client makes the
storage anew: so a device whose SOTP was erased comes back with another identity.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from itertools import count

from pdmlab.client import certificates
from pdmlab.client.error import Error
from pdmlab.client.platform import Platform
from pdmlab.client.security_object import Lwm2mServer
from pdmlab.client.server_uri import ServerUri, names_account
from pdmlab.coap.security import Security
from pdmlab.errors import ConfigError, CorruptMedium, StorageError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.credentials import CredentialStore, KcmStatus
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
LWM2M_URI = "mbed.LwM2MServerURI"
LWM2M_CA = "mbed.LwM2MServerCACert"
LWM2M_CERTIFICATE = "mbed.LwM2MDeviceCert"
LWM2M_KEY = "mbed.LwM2MDevicePrivateKey"
DEVICE_ID = "mbed.InternalEndpoint"
TIME, OFFSET, ZONE = "mbed.CurrentTime", "mbed.UTCOffset", "mbed.Timezone"
FIRST_TO_CLAIM = "mbed.FirstToClaim"
SESSION = "sslsession"
UPDATE_ITEMS = {
    "vendor_id": "mbed.VendorId",
    "class_id": "mbed.ClassId",
    "default_certificate": "mbed.UpdateAuthCert",
}
MANIFEST = "FOTA_MANIFEST_KEY"


@dataclass
class Identity:
    """Who the device is: what was compiled in, and what bootstrap and registration have made of it."""

    credentials: Credentials
    update: UpdateResources | None = None
    server: Lwm2mServer | None = None
    device_id: str | None = None
    store: CredentialStore = field(kw_only=True, repr=False)

    @property
    def lwm2m_uri(self) -> str | None:
        """Where the LwM2M server is; None: the device has to bootstrap."""
        return self.server.uri if self.server is not None else None

    @property
    def endpoint_name(self) -> str:
        """The name to register by: the one in the LwM2M certificate, or without one in the credentials."""
        name = certificates.fields(self.server.certificates[0])[0] if self.server and self.server.certificates else None
        return name or self.credentials.bootstrap_endpoint_name

    @property
    def account_id(self) -> str | None:
        """The account in the credentials, or in the LwM2M server's URI."""
        uri = self.lwm2m_uri
        return self.credentials.account_id or (ServerUri.parse(uri).query("aid") if uri else None)

    def bootstrap_security(self) -> Security | None:
        """Return what to prove oneself with to the bootstrap server; None for coap://."""
        credentials = self.credentials
        if not credentials.bootstrap_server_uri.startswith("coaps://"):
            return None
        own, ca = credentials.bootstrap_device_certificate, credentials.bootstrap_server_root_ca_certificate
        assert own is not None and ca is not None
        return Security(certificates=(own,), private_key=credentials.bootstrap_device_private_key, trust=(ca,))

    def lwm2m_security(self) -> Security | None:
        """Return what to prove oneself with to the LwM2M server; None without security."""
        server = self.server
        if server is None or not server.certificates or server.ca is None:
            return None
        return Security(certificates=server.certificates, private_key=server.private_key, trust=(server.ca,))

    @property
    def tells_time(self) -> bool:
        """Whether the LwM2M server's CA is the bootstrap server's, whose time the device believes without limits."""
        return self.server is not None and self.server.ca == self.credentials.bootstrap_server_root_ca_certificate

    def remember(self, server: Lwm2mServer | None = None, *, device_id: str | None = None) -> None:
        """Store who the LwM2M server is, and the device's id there; blocking.

        Raises:
            StorageError: they cannot be stored.
        """
        if device_id is not None and device_id != self.device_id:
            self.store.set(DEVICE_ID, device_id.encode())
            self.device_id = device_id
        if server is None or server == self.server:
            return
        # The URI goes first and comes last: without it the device bootstraps, and does not mix old and new.
        self.forget_server()
        if server.certificates:
            assert server.ca is not None and server.private_key is not None
            self.store.set(LWM2M_CA, server.ca)
            for number, certificate in enumerate(server.certificates):
                self.store.set(_chained(number), certificate)
            self.store.set(LWM2M_KEY, server.private_key)
        self.store.set(LWM2M_URI, server.uri.encode())
        self.server = server

    def remember_time(self, seconds: int | None, offset: str | None, zone: str | None) -> None:
        """Store what bootstrap has said of time, under the names of the factory's items; blocking."""
        if seconds is not None:
            self.store.set(TIME, (seconds & 0xFFFF_FFFF).to_bytes(4, "little"))
        for item, text in ((OFFSET, offset), (ZONE, zone)):
            if text:
                self.store.set(item, text.encode())

    def forget_server(self) -> None:
        """Forget the LwM2M server and all that belongs to it: the device bootstraps again, as who it was; blocking."""
        known, self.server = self.server, None
        chain = len(known.certificates) if known is not None else 1
        for item in (LWM2M_URI, SESSION, LWM2M_CA, *map(_chained, range(chain)), LWM2M_KEY):
            _remove(self.store, item)

    def session(self) -> bytes | None:
        """Return the TLS session to go on with at the LwM2M server, if one was stored; blocking."""
        return _get_unless_torn(self.store, SESSION)

    def remember_session(self, session: bytes) -> None:
        """Store a TLS session, unless it is stored already; blocking."""
        if self.session() != session:
            self.store.set(SESSION, session)

    def forget_session(self) -> None:
        """Begin with a full handshake next time; blocking."""
        _remove(self.store, SESSION)

    def load(self) -> bytes | None:
        """Return the manifest of an update that a reset cut off."""
        return _get_unless_torn(self.store, MANIFEST)

    def save(self, manifest: bytes) -> None:
        """Keep the manifest of the update under way."""
        self.store.set(MANIFEST, manifest)

    def clear(self) -> None:
        """Forget it."""
        _remove(self.store, MANIFEST)


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
        if not names_account(identity.credentials.bootstrap_server_uri) and not _is_first_to_claim(identity.store):
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
            stored = {name: _get(store, item) for name, item in ITEMS.items()}
            server, device_id = _stored_server(store), _get_unless_torn(store, DEVICE_ID)
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
                _remove(store, ITEMS[name])
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
            if _get(identity.store, item) != value:
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


def _chained(number: int) -> str:
    """Return the item of a chain's certificate: the device's own has the plain name."""
    return LWM2M_CERTIFICATE if number == 0 else f"Crt{number}_{LWM2M_CERTIFICATE}"


def _stored_server(store: CredentialStore) -> Lwm2mServer | None:
    """Return the LwM2M server as far as it is whole: a device without one bootstraps again."""
    uri = _get_unless_torn(store, LWM2M_URI)
    if uri is None:
        return None
    own = _get_unless_torn(store, LWM2M_CERTIFICATE)
    if own is None:
        return Lwm2mServer(uri.decode()) if uri.startswith(b"coap://") else None
    chain = [own]
    for number in count(1):
        more = _get_unless_torn(store, _chained(number))
        if more is None:
            break
        chain.append(more)
    ca, key = _get_unless_torn(store, LWM2M_CA), _get_unless_torn(store, LWM2M_KEY)
    if ca is None or key is None or not certificates.belong_together(own, key):
        return None
    return Lwm2mServer(uri.decode(), tuple(chain), ca, key)


def _is_first_to_claim(store: CredentialStore) -> bool:
    return int.from_bytes(_get_unless_torn(store, FIRST_TO_CLAIM) or b"", "little") == 1


def _get(store: CredentialStore, item: str) -> bytes | None:
    try:
        return store.get(item)
    except StorageError as error:
        if error.code != KcmStatus.ITEM_NOT_FOUND or isinstance(error, CorruptMedium):
            raise
        return None


def _get_unless_torn(store: CredentialStore, item: str) -> bytes | None:
    """Return an item that the device can do without, so that one which a power cut tore counts as missing."""
    try:
        return _get(store, item)
    except CorruptMedium:
        return None


def _remove(store: CredentialStore, item: str) -> None:
    try:
        store.remove(item)
    except StorageError as error:
        if error.code != KcmStatus.ITEM_NOT_FOUND:
            raise
