"""What one end of a TLS or DTLS connection proves itself with, and whom it believes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pdmlab.coap.transport import Address, Identity
from pdmlab.errors import ConfigError, HandshakeFailed


@dataclass(frozen=True, slots=True)
class HandshakeStep:
    """How far a handshake is; once it is completed, by which suite, whether resumed, and who the peer is."""

    what: Literal["started", "completed", "failed"]
    suite: str = ""
    resumed: bool = False
    identity: Identity | None = None
    failure: HandshakeFailed | None = None


class PeerTime(Protocol):
    """The clock of a client that only its servers set: by the time in their ServerHello, as the stock client's is.

    A certificate that is not valid yet by it is checked again, by the time of the server that shows it, in a second
    handshake; with `trusted`, so is one that is valid no more.
    """

    trusted: bool

    def now(self) -> int:
        """Return what time the client thinks it is (s since 1970); 0 if nobody has told it."""
        ...

    def told(self, seconds: int) -> None:
        """Take the time of a server that has proved itself; it may be noise."""
        ...


@dataclass(frozen=True, slots=True)
class Security:
    """Certificates and keys (DER; keys as PKCS#8 or SEC1), or a pre-shared key; P-256 throughout.

    certificates  one's own, and those that lead to the CA, its own first
    trust         CAs; a peer must prove itself with a certificate of one of them
    psk           a client's identity and key
    psk_of        a server's: returns the key of an identity, None if it knows none of that name
    judges        a server's: whom it believes besides, and of those whom not; called with who a peer proves to be, in
                  the handshake and when a session is resumed, it returns None to let it in, or why not
    names_failure a server calls it with the address and the reason of each handshake that failed
    clock         a client's that does not know the time by itself; the real time unless given
    tells         hears of each handshake, at either end, as it begins, is completed or fails: for a log
    keylog        takes lines of the NSS key log format, for Wireshark
    """

    certificates: tuple[bytes, ...] = ()
    private_key: bytes | None = field(default=None, repr=False)
    trust: tuple[bytes, ...] = ()
    psk: tuple[bytes, bytes] | None = field(default=None, repr=False)
    psk_of: Callable[[bytes], bytes | None] | None = None
    judges: Callable[[Identity], str | None] | None = None
    names_failure: Callable[[Address, HandshakeFailed], None] | None = None
    clock: PeerTime | None = field(default=None, repr=False)
    tells: Callable[[Address, HandshakeStep], None] | None = field(default=None, repr=False)
    keylog: Callable[[str], None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if bool(self.certificates) != (self.private_key is not None):
            raise ConfigError("a certificate and its private key go together")
        if not (self.certificates or self.psk or self.psk_of):
            raise ConfigError("neither a certificate nor a pre-shared key")
