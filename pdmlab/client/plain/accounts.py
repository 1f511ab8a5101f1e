"""Server accounts: what objects 0 and 1 say of a server, and how a device leaves the factory."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pdmlab.client.plain.objects import Content, TableObject
from pdmlab.client.plain.standard import Server
from pdmlab.client.plain.tree import SECURITY
from pdmlab.coap.security import Security
from pdmlab.coap.transport import Scheme
from pdmlab.errors import ConfigError

PSK, CERTIFICATE, NO_SECURITY = 0, 2, 3
"""Security modes, /0/x/2."""
BOOTSTRAP_INSTANCE = 1
"""Where a factory account of a bootstrap server is: /0/1, so that the first server gets /0/0."""
DEFAULT_PORTS = {"coap": 5683, "coaps": 5684, "coap+tcp": 5683, "coaps+tcp": 5684}
MAX_HOLD_OFF = 3600  # s

_URI, BOOTSTRAP, _MODE, _IDENTITY, _SERVER_KEY, _KEY, _SHORT_ID, _HOLD_OFF = 0, 1, 2, 3, 4, 5, 10, 11


@dataclass(frozen=True)
class Uri:
    """A server's URI, taken apart; the port is the scheme's own if it names none.

    queries: what is said with the request by which the device begins there, such as aid=ACCOUNT.
    """

    scheme: Scheme
    host: str
    port: int
    queries: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Read coap://, coaps://, coap+tcp:// or coaps+tcp://.

        Raises:
            ConfigError: it is none of them.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"{text[:80]!r} is no URI: {error}") from error
        for scheme in ("coap", "coaps", "coap+tcp", "coaps+tcp"):
            if parts.scheme == scheme and parts.hostname and port != 0:
                queries = tuple(part for part in parts.query.split("&") if part)
                return cls(scheme, parts.hostname, port or DEFAULT_PORTS[scheme], queries)
        raise ConfigError(f"{text[:80]!r} is no server's URI", hint="coap://HOST:PORT, coaps://…, coap+tcp://…")

    @property
    def stream(self) -> bool:
        """Whether it is reached over TCP."""
        return self.scheme.endswith("+tcp")

    @property
    def secure(self) -> bool:
        """Whether it is reached over DTLS or TLS."""
        return self.scheme.startswith("coaps")


@dataclass(frozen=True)
class Account:
    """What a security instance says of a server."""

    instance: int
    uri: Uri
    bootstrap: bool
    mode: int
    short_id: int
    hold_off: int = 0
    identity: bytes = field(default=b"", repr=False)
    server_key: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)

    def security(self) -> Security | None:
        """Return what proves who the device is; None without security.

        Raises:
            ConfigError: the instance does not say enough.
        """
        if self.uri.secure == (self.mode == NO_SECURITY):
            raise ConfigError(f"/0/{self.instance}: {self.uri.scheme}:// with security mode {self.mode}")
        if self.mode == NO_SECURITY:
            return None
        if self.mode == PSK:
            return Security(psk=(self.identity, self.key))
        if self.mode == CERTIFICATE:
            return Security(certificates=(self.identity,), private_key=self.key, trust=(self.server_key,))
        raise ConfigError(f"/0/{self.instance}: security mode {self.mode}", hint="0 (PSK), 2 (certificate) or 3 (none)")


def accounts_of(security: TableObject) -> list[Account]:
    """Read all accounts.

    Raises:
        ConfigError: an instance has no URI or mode, or they make no sense.
    """
    return [_account(security, each) for each in security.instances()]


def _account(security: TableObject, instance: int) -> Account:
    there = security.resources(instance)
    said = {id: security.read(instance, id) for id in there}
    uri, mode, short_id, hold_off = said.get(_URI), said.get(_MODE), said.get(_SHORT_ID, 0), said.get(_HOLD_OFF, 0)
    if not isinstance(uri, str) or not isinstance(mode, int):
        raise ConfigError(f"/0/{instance} has no URI, or no security mode")
    bootstrap = said.get(BOOTSTRAP) is True
    assert isinstance(short_id, int) and isinstance(hold_off, int)
    if not bootstrap and not 0 < short_id < 0xFFFF:
        raise ConfigError(f"/0/{instance} has no short server id from 1 to 65534")
    keys = [said.get(id, b"") for id in (_IDENTITY, _SERVER_KEY, _KEY)]
    identity, server_key, key = (each if isinstance(each, bytes) else b"" for each in keys)
    hold_off = min(max(hold_off, 0), MAX_HOLD_OFF)
    return Account(instance, Uri.parse(uri), bootstrap, mode, short_id, hold_off, identity, server_key, key)


@dataclass(frozen=True)
class PreSharedKey:
    """A pre-shared key and the name that it goes by."""

    identity: str
    key: bytes = field(repr=False)

    @property
    def resources(self) -> dict[int, Content]:
        """What object 0 says of it."""
        return {_MODE: PSK, _IDENTITY: self.identity.encode(), _SERVER_KEY: b"", _KEY: self.key}


@dataclass(frozen=True)
class Certificate:
    """A certificate, its private key (PKCS#8 or SEC1), and whom the server's must be of; all DER."""

    certificate: bytes = field(repr=False)
    private_key: bytes = field(repr=False)
    trust: bytes = field(repr=False)

    @property
    def resources(self) -> dict[int, Content]:
        """What object 0 says of it."""
        keys = {_IDENTITY: self.certificate, _SERVER_KEY: self.trust, _KEY: self.private_key}
        return {_MODE: CERTIFICATE, **keys}


_NOTHING: dict[int, Content] = {_MODE: NO_SECURITY, _IDENTITY: b"", _SERVER_KEY: b"", _KEY: b""}


def security_instance(
    uri: str, credentials: PreSharedKey | Certificate | None, *, bootstrap: bool, short_id: int
) -> dict[int, Content]:
    """Return the resources of a factory account in object 0.

    Raises:
        ConfigError: the URI is none, or does not go with the credentials.
    """
    values: dict[int, Content] = {_URI: uri, BOOTSTRAP: bootstrap, _SHORT_ID: short_id}
    values |= _NOTHING if credentials is None else credentials.resources
    _account(TableObject(SECURITY, {0: values}), 0).security()
    return values


def factory_objects(
    uri: str,
    credentials: PreSharedKey | Certificate | None,
    *,
    bootstrap: bool,
    lifetime: int,
    version: str,
) -> tuple[dict[int, dict[int, Content]], dict[int, dict[int, Content]]]:
    """Return the instances of objects 0 and 1 with which a device leaves the factory."""
    if bootstrap:
        return {BOOTSTRAP_INSTANCE: security_instance(uri, credentials, bootstrap=True, short_id=0)}, {}
    server: dict[int, Content] = {
        Server.SHORT_ID: 1,
        Server.LIFETIME: lifetime,
        Server.STORING: True,
        Server.BINDING: "U",
    }
    if version != "1.0":
        server[Server.MUTE_SEND] = False
    return {0: security_instance(uri, credentials, bootstrap=False, short_id=1)}, {0: server}
