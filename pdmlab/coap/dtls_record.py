"""Records of DTLS 1.2 (RFC 6347 section 4.1) under AES-CCM and AES-GCM: how they are cut, sealed and opened.

Keys come from a master secret that a handshake agreed on. Nonces are the record's epoch and sequence number
(RFC 6655 section 3, RFC 5288 section 3), so a number must never be used twice with one key.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM

HEADER = 13  # B: type, version, epoch and sequence number, length
VERSION = b"\xfe\xfd"  # DTLS 1.2
MAX_PLAINTEXT = 1 << 14  # B, RFC 5246 section 6.2.1
WINDOW = 64  # records that may come late, RFC 6347 section 4.1.2.6

SALT = 4  # B of each record's nonce that come from the handshake
_NONCE = 8  # B of each record's nonce that stand in the record
_EPOCH_1 = 1 << 48
_LAST = (1 << 48) - 1


class Content(IntEnum):
    """What a record carries (RFC 5246 section 6.2.1)."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23


@dataclass(frozen=True, slots=True)
class Suite:
    """A cipher suite by OpenSSL's name; lengths in B."""

    name: str
    key: int
    tag: int
    mode: Literal["CCM", "GCM"]
    hash: str = "sha256"

    def cipher(self, key: bytes) -> AESCCM | AESGCM:
        """Return the cipher with a key; it is made in under a microsecond, and so is not kept."""
        return AESGCM(key) if self.mode == "GCM" else AESCCM(key, self.tag)


# In the order in which they are offered. All have 4 B of nonce from the handshake and 8 B in the record.
SUITES = {
    suite.name: suite
    for suite in (
        Suite("ECDHE-ECDSA-AES128-CCM8", 16, 8, "CCM"),  # the stock client's only one
        Suite("ECDHE-ECDSA-AES128-GCM-SHA256", 16, 16, "GCM"),
        Suite("ECDHE-ECDSA-AES256-GCM-SHA384", 32, 16, "GCM", "sha384"),
        Suite("ECDHE-ECDSA-AES128-CCM", 16, 16, "CCM"),
        Suite("ECDHE-ECDSA-AES256-CCM8", 32, 8, "CCM"),
        Suite("PSK-AES128-CCM8", 16, 8, "CCM"),
        Suite("PSK-AES128-GCM-SHA256", 16, 16, "GCM"),
        Suite("PSK-AES256-GCM-SHA384", 32, 16, "GCM", "sha384"),
        Suite("PSK-AES128-CCM", 16, 16, "CCM"),
        Suite("PSK-AES256-CCM8", 32, 8, "CCM"),
    )
}


def prf(secret: bytes, label: bytes, seed: bytes, length: int, hash: str = "sha256") -> bytes:
    """Return bytes of TLS 1.2's pseudo-random function (RFC 5246 section 5)."""
    seed = label + seed
    out, a = b"", seed
    while len(out) < length:
        a = hmac.digest(secret, a, hash)
        out += hmac.digest(secret, a + seed, hash)
    return out[:length]


def split(datagram: bytes) -> Iterator[bytes]:
    """Cut a datagram, or what OpenSSL writes, into records; what is no whole record ends it (RFC 6347 4.1.2.7)."""
    start = 0
    while start + HEADER <= len(datagram):
        end = start + HEADER + (datagram[start + 11] << 8 | datagram[start + 12])
        if end > len(datagram) or datagram[start + 1] != 0xFE:
            return
        yield datagram if end - start == len(datagram) else datagram[start:end]
        start = end


def number_of(record: bytes) -> tuple[int, int]:
    """Return the epoch and the sequence number of a record."""
    return record[3] << 8 | record[4], int.from_bytes(record[5:11], "big")


class Protection:
    """Both directions of an association after its handshake, in epoch 1.

    sent      number that the next record gets
    received  highest number that came and was genuine, -1 before the first
    """

    __slots__ = ("_read_iv", "_read_key", "_seen", "_write_iv", "_write_key", "received", "sent", "suite")

    def __init__(self, suite: Suite, keys: tuple[bytes, bytes, bytes, bytes], sent: int = 0, received: int = -1):
        """Take keys and 4 B of nonce, for writing and for reading; from a `received` on, nothing older is taken."""
        self.suite = suite
        self._write_key, self._write_iv, self._read_key, self._read_iv = keys
        self.sent = sent
        self.received = received
        self._seen = (1 << WINDOW) - 1  # bit n: the record n before the highest has come

    @classmethod
    def derive(
        cls, suite: Suite, master: bytes, client_random: bytes, server_random: bytes, *, server: bool
    ) -> Protection:
        """Derive the keys of one end from the handshake's secret (RFC 5246 section 6.3)."""
        n = suite.key
        block = prf(master, b"key expansion", server_random + client_random, 2 * (n + SALT), suite.hash)
        client, server_ = (block[:n], block[2 * n : 2 * n + SALT]), (block[n : 2 * n], block[2 * n + SALT :])
        return cls(suite, server_ + client if server else client + server_)

    def __repr__(self) -> str:
        return f"<Protection {self.suite.name}, {self.sent} sent, {self.received + 1} received>"

    @property
    def keys(self) -> tuple[bytes, bytes, bytes, bytes]:
        """What it was made with: secrets."""
        return self._write_key, self._write_iv, self._read_key, self._read_iv

    @property
    def exhausted(self) -> bool:
        """Whether all numbers are used; a new handshake is needed."""
        return self.sent > _LAST

    def seal(self, kind: int, data: bytes) -> bytes:
        """Return the next record."""
        if self.exhausted:
            raise OverflowError("all sequence numbers of the epoch are used")
        number = (_EPOCH_1 | self.sent).to_bytes(8, "big")
        self.sent += 1
        head = bytes((kind,)) + VERSION
        aad = number + head + len(data).to_bytes(2, "big")
        sealed = self.suite.cipher(self._write_key).encrypt(self._write_iv + number, data, aad)
        return head + number + (_NONCE + len(sealed)).to_bytes(2, "big") + number + sealed

    def open(self, record: bytes) -> bytes | None:
        """Return what a record carries, once; None if it is not genuine, too old, or has come before."""
        epoch, number = number_of(record)
        if epoch != 1 or not self.fresh(number):
            return None
        data = self._decrypt(record, self._read_key, self._read_iv)
        if data is not None:
            self._mark(number)
        return data

    def genuine(self, record: bytes) -> bool:
        """Whether the peer has sealed a record; it can still be opened."""
        return self._decrypt(record, self._read_key, self._read_iv) is not None

    def open_own(self, record: bytes) -> bytes | None:
        """Return what a record carries that this end, or OpenSSL with the same keys, has sealed."""
        return self._decrypt(record, self._write_key, self._write_iv)

    def fresh(self, number: int) -> bool:
        """Whether a record of this number may be taken (RFC 6347 section 4.1.2.6)."""
        behind = self.received - number
        return behind < 0 or (behind < WINDOW and not self._seen >> behind & 1)

    def _mark(self, number: int) -> None:
        ahead = number - self.received
        if ahead > 0:
            # Numbers before the very first that came are free: they were never behind the window.
            before = self._seen if self.received >= 0 else 0
            self._seen = (before << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self.received = number
        else:
            self._seen |= 1 << -ahead

    def _decrypt(self, record: bytes, key: bytes, iv: bytes) -> bytes | None:
        length = len(record) - HEADER - _NONCE - self.suite.tag
        if not 0 <= length <= MAX_PLAINTEXT or record[1:3] != VERSION:
            return None
        aad = record[3:11] + record[:3] + length.to_bytes(2, "big")
        start = HEADER + _NONCE
        try:
            return self.suite.cipher(key).decrypt(iv + record[HEADER:start], record[start:], aad)
        except InvalidTag:
            return None
