"""What happened in a TLS or DTLS handshake, and why it failed, in words.

A `Handshake` follows one connection: who drives it shows it what arrives, OpenSSL's callbacks tell it of alerts and
certificates, and at the end it makes a `HandshakeFailed` of what OpenSSL raised. The numbers are in handshake.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from cryptography import x509

from pdmlab.errors import HandshakeFailed

TLS_1_2 = 0x0303
DTLS_1_2 = 0xFEFD
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SIGNALLING_SUITES = (0x00FF, 0x5600)  # RFC 5746, RFC 7507
_VERSIONS = {
    0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3",
    0xFEFF: "DTLS 1.0", 0xFEFD: "DTLS 1.2", 0xFEFC: "DTLS 1.3",
}  # fmt: skip

# SSL_CTX_set_info_callback(3)
_START, _DONE, _ALERT_READ, _ALERT_WRITTEN = 0x10, 0x20, 0x4004, 0x4008
_FATAL = 2


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client offers: the highest version, and its cipher suites by their IANA numbers."""

    version: int
    suites: tuple[int, ...]

    def __str__(self) -> str:
        return f"{_VERSIONS.get(self.version, f'version {self.version:04x}')} with {suite_names(self.suites)}"


def client_hello(data: bytes) -> ClientHello | None:
    """Read a ClientHello from the first record of a TLS or DTLS connection; None if it is none, or not whole."""
    if len(data) < 13 or data[0] != _HANDSHAKE:
        return None
    datagram = data[1] == 0xFE
    at = 13 if datagram else 5
    if len(data) <= at or data[at] != _CLIENT_HELLO:
        return None
    at += 12 if datagram else 4
    try:
        version = int.from_bytes(data[at : at + 2], "big")
        at += 34
        at += 1 + data[at]  # the session id
        if datagram:
            at += 1 + data[at]  # the cookie
        length = data[at] << 8 | data[at + 1]
        suites = data[at + 2 : at + 2 + length]
    except IndexError:
        return None
    if len(suites) < length:
        return None
    pairs = zip(suites[::2], suites[1::2], strict=False)
    return ClientHello(
        version, tuple(suite for high, low in pairs if (suite := high << 8 | low) not in _SIGNALLING_SUITES)
    )


def suite_names(suites: Sequence[int]) -> str:
    """Name cipher suites for people, at most eight of them."""
    known = _words()["suite"]
    names = [known.get(f"{suite:04X}", f"0x{suite:04X}") for suite in suites[:8]]
    return ", ".join(names) + (f" and {len(suites) - 8} more" if len(suites) > 8 else "") if names else "no suites"


def spoken(data: bytes) -> str | None:
    """Say what a peer speaks whose first bytes are no TLS record; None if they are, or may become one."""
    if not data or (data[0] == _HANDSHAKE and data[1:2] in (b"", b"\x03")) or data[0] in (20, 21):
        return None
    if data[:4] in (b"GET ", b"POST", b"PUT ", b"HEAD", b"HTTP", b"OPTI", b"DELE", b"PRI ", b"CONN"):
        return "HTTP"
    if data[:4] == b"SSH-":
        return "SSH"
    if data[0] == _HANDSHAKE and data[1:2] == b"\xfe":
        return "DTLS, in a stream"
    if len(data) > 4 and data[:2] == b"\0\0" and data[4] >> 6 == 1:
        return "CoAP without TLS, each message behind its length"
    if (
        data[0] >> 6 == 1
        and len(data) > 1
        and data[1] != 0xE1
        and data[1] >> 5 in (0, 2, 4, 5)
        and not data[:4].isalpha()
    ):
        return "CoAP without TLS"
    if len(data) > 1 and data[1] == 0xE1:
        return "CoAP over TCP without TLS (RFC 8323)"
    return "plain text" if data[:8].isascii() and data[:8].decode().isprintable() else "something that is not TLS"


class Handshake:
    """What one end of a connection sees of its handshakes.

    begun, done   handshakes, renegotiations included
    server        whether this end is the server
    datagrams     whether it is DTLS
    """

    __slots__ = (
        "_first",
        "_unverified",
        "alert_read",
        "alert_written",
        "begun",
        "datagrams",
        "done",
        "forgave",
        "forgiven",
        "judged",
        "problem",
        "server",
    )

    def __init__(self, *, server: bool, datagrams: bool = False) -> None:
        self.server = server
        self.datagrams = datagrams
        self.begun = 0
        self.done = 0
        self.alert_read: int | None = None
        self.alert_written: int | None = None
        self._first = b""
        self._unverified: tuple[int, int, x509.Certificate, str] | None = None
        self.judged = False
        """Whether the peer's chain has been found good by whoever judges it (`Security.judges`)."""
        self.problem: Exception | None = None
        """What went wrong when that was asked."""
        self.forgiven: frozenset[int] = frozenset()
        """Faults of certificates (X509_V_ERR_*) that are passed over, since another handshake will follow."""
        self.forgave = False
        """Whether one was."""

    def __repr__(self) -> str:
        return f"<Handshake of a {'server' if self.server else 'client'}: {self.begun} begun, {self.done} done>"

    # -- what it is told -------------------------------------------------------------------------------

    def arrived(self, data: bytes) -> None:
        """Note the first record, or datagram, that came from the peer."""
        if not self._first:
            self._first = bytes(data[:2048])

    def note(self, where: int, value: int) -> None:
        """Take what OpenSSL's info callback says."""
        if where == _START:
            self.begun += 1
        elif where == _DONE:
            self.done += 1
            self._first, self._unverified, self.judged = b"", None, False
        elif where == _ALERT_READ and value >> 8 == _FATAL:
            self.alert_read = value & 0xFF
        elif where == _ALERT_WRITTEN and value >> 8 == _FATAL:
            self.alert_written = value & 0xFF

    def forgives(self, error: int) -> bool:
        """Whether to go on in spite of a fault of the peer's certificate."""
        forgives = error in self.forgiven
        self.forgave = self.forgave or forgives
        return forgives

    def not_verified(self, error: int, depth: int, certificate: x509.Certificate, why: str = "") -> None:
        """Note what is wrong with the peer's certificate (X509_V_ERR_*), or with the one `depth` above it; and why."""
        if self._unverified is None:
            self._unverified = error, depth, certificate, why

    # -- what it says ----------------------------------------------------------------------------------

    @property
    def hello(self) -> ClientHello | None:
        """What the client offers, if this end is the server and has it."""
        return client_hello(self._first) if self.server else None

    def failed(self, error: Exception, peer: str, *, identity: bytes | None = None) -> HandshakeFailed:
        """Return why the handshake failed, from what OpenSSL raised; identity is a PSK's that is not known here."""
        if self._unverified is not None:
            failure = self._of_certificate(peer)
        elif identity is not None:
            shown = identity.decode(errors="backslashreplace")
            failure = self._say(
                peer, f"there is no key for its identity {shown!r}", "unknown identity",
                "is the device known here, and is its identity spelt the same on both sides?",
            )  # fmt: skip
        elif self.alert_read is not None:
            failure = self._of_alert(peer, self.alert_read)
        elif (other := self._spoken()) is not None:
            failure = self._say(peer, f"it spoke {other}", "not TLS", "does it use this port for coaps://?")
        else:
            failure = self._of_error(error, peer)
        failure.__cause__ = self.problem or error
        return failure

    def unwelcome(self, peer: str, why: str) -> HandshakeFailed:
        """Return the failure of a handshake that resumed the session of a peer which is not let in any more."""
        return self._say(peer, f"the session that it resumed is good no more: {why}", "revoked", None)

    def timed_out(self, peer: str, seconds: float) -> HandshakeFailed:
        """Return the failure of a handshake that takes too long."""
        hint = None
        if not self._first:
            what = f"nothing came in {seconds:g} s"
            hint = "is there a TLS end at all? A device that expects plain CoAP waits as well"
        elif (other := self._spoken()) is not None:
            return self._say(peer, f"it spoke {other}", "not TLS", "does it use this port for coaps://?")
        else:
            what = f"it was not complete after {seconds:g} s"
        return self._say(peer, what, "timed out", hint)

    def closed(self, peer: str) -> HandshakeFailed:
        """Return the failure of a handshake in whose middle the peer closed the connection."""
        if self._unverified is not None:
            return self._of_certificate(peer)
        if self.alert_read is not None:
            return self._of_alert(peer, self.alert_read)
        if (other := self._spoken()) is not None:
            return self._say(peer, f"it spoke {other}", "not TLS", "does it use this port for coaps://?")
        hint = "it gave no reason: some clients leave like this when they do not trust the certificate"
        return self._say(peer, "it closed the connection before it was agreed on", "closed", hint)

    def _spoken(self) -> str | None:
        return None if self.datagrams else spoken(self._first)

    def _say(self, peer: str, what: str, reason: str, hint: str | None) -> HandshakeFailed:
        alert = self.alert_read if self.alert_read is not None else self.alert_written
        return HandshakeFailed(f"no handshake with {peer}: {what}", reason=reason, alert=alert, hint=hint)

    def _of_certificate(self, peer: str) -> HandshakeFailed:
        assert self._unverified is not None
        error, depth, certificate, why = self._unverified
        subject, issuer = name_of(certificate.subject), name_of(certificate.issuer)
        row = _words()["certificate"].get(str(error), {})
        reason, hint = row.get("reason", "bad certificate"), row.get("hint")
        whose = "its certificate" if depth == 0 else "a certificate of its chain"
        if why:
            return self._say(peer, f"{whose} {subject} is of {issuer}: {why}", reason, hint)
        if reason == "unknown CA":
            what = f"{whose} {subject} is of {issuer}, a CA that is not trusted here"
            what = f"{whose} {subject} is of {issuer}: {row['words']}" if "words" in row else what
            hint = hint or (
                "is it a device of another service, or of this one before its CA was made anew?"
                if self.server
                else "is the CA in the credentials that of this service?"
            )
        elif reason == "certificate in the future":
            what = f"{whose} {subject} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"
        elif reason == "certificate expired":
            what = f"{whose} {subject} was valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        else:
            what = f"{whose} {subject} cannot be used: {row.get('words', f'OpenSSL calls it X509_V_ERR {error}')}"
        return self._say(peer, what, reason, hint)

    def _of_alert(self, peer: str, number: int) -> HandshakeFailed:
        row = _words()["alert"].get(str(number), {})
        hello = self.hello
        hint = row.get("hint")
        what = f"it ended it with alert {row.get('name', 'unknown')} ({number})"
        if hello is not None and row.get("reason") == "no common suite":
            what += f"; it had offered {hello}"
        return self._say(peer, what, row.get("reason", "alert"), hint)

    def _of_error(self, error: Exception, peer: str) -> HandshakeFailed:
        text = _text_of(error)
        for part, row in _words()["error"].items():
            if part in text:
                what, reason, hint = row["words"], row["reason"], row.get("hint")
                hello = self.hello
                if hello is not None and reason in ("no common suite", "wrong version"):
                    what += f"; it offers {hello}"
                    hint = hint or "the stock client's is ECDHE-ECDSA-AES128-CCM8 (0xC0AE), with TLS 1.2"
                return self._say(peer, what, reason, hint)
        return self._say(peer, text or "OpenSSL gives no reason", "other", None)


def _text_of(error: Exception) -> str:
    """Return what OpenSSL says: SSL.Error has a list of (library, function, reason)."""
    if error.args and isinstance(error.args[0], list):
        return "; ".join(str(each[-1]) for each in error.args[0])
    return str(error)


def alert_name(number: int) -> str:
    """Return what RFC 5246 section 7.2 calls an alert, and its number: unknown_ca (48)."""
    return f"{_words()['alert'].get(str(number), {}).get('name', 'unknown')} ({number})"


def name_of(name: x509.Name) -> str:
    """Write a distinguished name as people read it."""
    return repr(name.rfc4514_string())


@cache
def _words() -> dict[str, Any]:
    with files("pdmlab.coap").joinpath("handshake.toml").open("rb") as file:
        return tomllib.load(file)
