"""Who a device is, and what it has made of that: its LwM2M server, its id there, sessions, an update under way.

All of it lies in the credential store under the names of the stock client's key and configuration manager.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from pdmlab.client import certificates
from pdmlab.client.security_object import Lwm2mServer
from pdmlab.client.server_uri import ServerUri
from pdmlab.coap.security import Security
from pdmlab.errors import CorruptMedium, StorageError
from pdmlab.storage.credentials import CredentialStore, KcmStatus
from pdmlab.update.credentials import Credentials, UpdateResources

LWM2M_URI = "mbed.LwM2MServerURI"
LWM2M_CA = "mbed.LwM2MServerCACert"
LWM2M_CERTIFICATE = "mbed.LwM2MDeviceCert"
LWM2M_KEY = "mbed.LwM2MDevicePrivateKey"
DEVICE_ID = "mbed.InternalEndpoint"
TIME, OFFSET, ZONE = "mbed.CurrentTime", "mbed.UTCOffset", "mbed.Timezone"
FIRST_TO_CLAIM = "mbed.FirstToClaim"
SESSION = "sslsession"
MANIFEST, ENCRYPT_KEY = "FOTA_MANIFEST_KEY", "FOTA_ENCRYPT_KEY"
COMPONENT_VERSION = "FTCmpV"
"""Followed by the component's name."""


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
            remove(self.store, item)

    def session(self) -> bytes | None:
        """Return the TLS session to go on with at the LwM2M server, if one was stored; blocking."""
        return get_unless_torn(self.store, SESSION)

    def remember_session(self, session: bytes) -> None:
        """Store a TLS session, unless it is stored already; blocking."""
        if self.session() != session:
            self.store.set(SESSION, session)

    def forget_session(self) -> None:
        """Begin with a full handshake next time; blocking."""
        remove(self.store, SESSION)

    def load(self) -> bytes | None:
        """Return the manifest of an update that a reset cut off."""
        return get_unless_torn(self.store, MANIFEST)

    def save(self, manifest: bytes) -> None:
        """Keep the manifest of the update under way."""
        self.store.set(MANIFEST, manifest)

    def clear(self) -> None:
        """Forget it."""
        remove(self.store, MANIFEST)

    def load_key(self) -> bytes | None:
        """Return the key of the update under way, or of an installation that is to be looked at."""
        return get_unless_torn(self.store, ENCRYPT_KEY)

    def save_key(self, key: bytes) -> None:
        """Keep the key of the update under way."""
        self.store.set(ENCRYPT_KEY, key)

    def clear_key(self) -> None:
        """Forget it."""
        remove(self.store, ENCRYPT_KEY)

    def component_version(self, name: str) -> int | None:
        """Return the number of a component's version, if one was stored."""
        stored = get_unless_torn(self.store, COMPONENT_VERSION + name)
        return None if stored is None else int.from_bytes(stored, "little")

    def remember_component_version(self, name: str, number: int) -> None:
        """Store the number of a component's version (64 bits)."""
        self.store.set(COMPONENT_VERSION + name, number.to_bytes(8, "little"))


def _chained(number: int) -> str:
    """Return the item of a chain's certificate: the device's own has the plain name."""
    return LWM2M_CERTIFICATE if number == 0 else f"Crt{number}_{LWM2M_CERTIFICATE}"


def stored_server(store: CredentialStore) -> Lwm2mServer | None:
    """Return the LwM2M server as far as it is whole: a device without one bootstraps again."""
    uri = get_unless_torn(store, LWM2M_URI)
    if uri is None:
        return None
    own = get_unless_torn(store, LWM2M_CERTIFICATE)
    if own is None:
        return Lwm2mServer(uri.decode()) if uri.startswith(b"coap://") else None
    chain = [own]
    for number in count(1):
        more = get_unless_torn(store, _chained(number))
        if more is None:
            break
        chain.append(more)
    ca, key = get_unless_torn(store, LWM2M_CA), get_unless_torn(store, LWM2M_KEY)
    if ca is None or key is None or not certificates.belong_together(own, key):
        return None
    return Lwm2mServer(uri.decode(), tuple(chain), ca, key)


def is_first_to_claim(store: CredentialStore) -> bool:
    return int.from_bytes(get_unless_torn(store, FIRST_TO_CLAIM) or b"", "little") == 1


def get(store: CredentialStore, item: str) -> bytes | None:
    try:
        return store.get(item)
    except StorageError as error:
        if error.code != KcmStatus.ITEM_NOT_FOUND or isinstance(error, CorruptMedium):
            raise
        return None


def get_unless_torn(store: CredentialStore, item: str) -> bytes | None:
    """Return an item that the device can do without, so that one which a power cut tore counts as missing."""
    try:
        return get(store, item)
    except CorruptMedium:
        return None


def remove(store: CredentialStore, item: str) -> None:
    try:
        store.remove(item)
    except StorageError as error:
        if error.code != KcmStatus.ITEM_NOT_FOUND:
            raise
