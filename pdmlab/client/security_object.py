"""Object 0 while a bootstrap server writes it: what the stock client takes, and what it refuses.

Instance 0 is the LwM2M server; instance 1, the bootstrap server itself, stays as the credentials have it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pdmlab.client.server_uri import ServerUri
from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.content import from_bytes
from pdmlab.lwm2m.tlv import Kind

MAX_ITEM = 1024
"""MAX_CERTIFICATE_SIZE (B)."""
URI, BOOTSTRAP_SERVER, MODE, CERTIFICATE, CA, KEY, SHORT_ID = 0, 1, 2, 3, 4, 5, 10
_RESOURCES = {URI, BOOTSTRAP_SERVER, MODE, CERTIFICATE, CA, KEY, SHORT_ID}
_NAMES = {URI: "the server's URI", CERTIFICATE: "the device's certificate", CA: "the server's CA", KEY: "the key"}
CERTIFICATES, NO_SECURITY, EST = 2, 3, 4
_NEEDS = {CERTIFICATES: (URI, CERTIFICATE, CA, KEY), NO_SECURITY: (URI,), EST: (URI, CA)}
_MODES = {0: "a pre-shared key", 1: "a raw public key"}
LWM2M_SERVER = 0


@dataclass(frozen=True)
class Lwm2mServer:
    """The LwM2M server, and what to prove oneself with there: nothing, without security.

    certificates: the device's own, and those that lead to its CA (DER); ca: the server's; private_key: PKCS#8 or SEC1.
    """

    uri: str
    certificates: tuple[bytes, ...] = ()
    ca: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)


class SecurityObject:
    """What has been written so far.

    chain_lost: the instance was written as bare resources, which costs it those that read the certificate chain: the
    client cannot connect with certificates until it is started anew.
    """

    def __init__(self) -> None:
        self._values: dict[int, bytes] | None = None
        self.chain_lost = False

    def delete(self) -> None:
        """Forget the LwM2M server."""
        self._values = None

    def write(self, entries: Iterable[tlv.Entry]) -> None:
        """Take object instances (PUT /0), and look whether the object makes sense then.

        Raises:
            Lwm2mError: it does not.
        """
        for instance in entries:
            if instance.kind != Kind.OBJECT_INSTANCE:
                raise Lwm2mError("it is no object instance", hint="PUT /0 carries TLV of type 0x00 or 0x08, with id 0")
            if instance.id != LWM2M_SERVER:
                raise Lwm2mError(f"instance {instance.id} is not the LwM2M server's, which is {LWM2M_SERVER}")
            values = _values(instance.entries)
            if instance.entries and instance.entries[-1].id not in _RESOURCES:
                # The last one's status is that of the whole write.
                raise Lwm2mError(f"resource {instance.entries[-1].id} at the end is none of a security instance")
            self._values = {**(self._values or {}), **values}
        self._check()

    def replace(self, entries: Iterable[tlv.Entry]) -> None:
        """Take bare resources (PUT /0/0), which replace the instance; unknown ones are passed over.

        Raises:
            Lwm2mError: the object makes no sense then.
        """
        self._values = _values(entries)
        self.chain_lost = True
        self._check()

    def _check(self) -> None:
        values, mode = self._values, self.mode
        if values is None or not values.get(URI):
            raise Lwm2mError("the instance has no server URI")
        if mode not in _NEEDS:
            what = _MODES.get(mode if mode is not None else -1, "what is not known")
            raise Lwm2mError(
                f"security mode {mode} ({what}) is not compiled in",
                hint="2 is certificates, 3 no security, 4 enrolment over EST",
            )
        missing = [_NAMES[each] for each in _NEEDS[mode] if not values.get(each)]
        if missing:
            raise Lwm2mError(f"security mode {mode} needs {' and '.join(missing)}")
        # The stock client finds this out when it connects, and bootstraps again and again.
        ServerUri.parse(self.uri)

    @property
    def mode(self) -> int | None:
        """The security mode; certificates unless told."""
        data = (self._values or {}).get(MODE)
        if data is None:
            return CERTIFICATES
        try:
            value = from_bytes(data, "integer")
        except Lwm2mError:
            return None
        return value if isinstance(value, int) else None

    @property
    def uri(self) -> str:
        """The LwM2M server's URI."""
        value = from_bytes((self._values or {}).get(URI, b""), "string")
        assert isinstance(value, str)
        return value

    @property
    def complete(self) -> bool:
        """Whether there is an LwM2M server to go to."""
        return self._values is not None and bool(self._values.get(URI))

    def server(self) -> Lwm2mServer:
        """Return the LwM2M server as it was written; with EST it lacks certificate and key."""
        values = self._values or {}
        if self.mode == NO_SECURITY:
            return Lwm2mServer(self.uri)
        if self.mode == EST:
            return Lwm2mServer(self.uri, ca=values[CA])
        return Lwm2mServer(self.uri, (values[CERTIFICATE],), values[CA], values[KEY])


def _values(entries: Iterable[tlv.Entry]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for each in entries:
        if each.kind != Kind.RESOURCE:
            raise Lwm2mError(f"{each.kind.name.lower().replace('_', ' ')} {each.id} is no resource")
        if len(each.value) > MAX_ITEM:
            raise Lwm2mError(f"resource {each.id} has {len(each.value)} B, and {MAX_ITEM} is the most")
        if each.id in _RESOURCES:
            found[each.id] = each.value
    return found
