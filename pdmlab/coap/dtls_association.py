"""A DTLS association after its handshake: what is kept of each peer, in under 2 KB, and how it is written down."""

from __future__ import annotations

from collections.abc import Iterator

import cbor2

from pdmlab.coap.dtls_record import SALT, SUITES, Content, Protection
from pdmlab.coap.transport import Address, Connection, Identity

RESERVE = 1024
"""Sequence numbers that may be used before the next of them is kept: a restart goes on behind them."""

RESERVE_MARGIN = 16
"""More than what one record that came can make an end send."""

_FORMAT = 1

# RFC 5246 section 7.2: level and description of an alert; section 7.4: types of handshake messages.
_WARNING, _FATAL = 1, 2
_CLOSE_NOTIFY, _NO_RENEGOTIATION = 0, 100
_HELLO_REQUEST, _CLIENT_HELLO, _FINISHED = 0, 1, 20

CLOSE_NOTIFY = bytes((_WARNING, _CLOSE_NOTIFY))


class Flight:
    """The handshake messages that an end sent last, ready to go out again under new numbers.

    parts  for each record its first three bytes (type and version), its epoch, and what it carries
    """

    __slots__ = ("_number", "parts")

    def __init__(self) -> None:
        self.parts: list[tuple[bytes, int, bytes]] = []
        self._number = 0

    def start_at(self, number: int) -> None:
        """Number records of epoch 0 from here on, if not already beyond."""
        self._number = max(self._number, number)

    def datagrams(self, protection: Protection | None, mtu: int) -> Iterator[bytes]:
        """Return the flight in datagrams of at most `mtu` B, if its records are not larger."""
        datagram = b""
        for head, epoch, body in self.parts:
            if epoch:
                assert protection is not None
                record = protection.seal(head[0], body)
            else:
                record = head + self._number.to_bytes(8, "big") + len(body).to_bytes(2, "big") + body
                self._number += 1
            if datagram and len(datagram) + len(record) > mtu:
                yield datagram
                datagram = b""
            datagram += record
        if datagram:
            yield datagram


class Association:
    """One peer: `name` stays as long as the association does, `address` is where it spoke from last.

    flight    our last messages of the handshake, until the peer shows that it has them
    reserved  sequence numbers below this may be used: those that a store knows of
    """

    __slots__ = ("address", "flight", "identity", "name", "protection", "reserved")

    def __init__(
        self,
        name: Connection,
        address: Address,
        identity: Identity | None,
        protection: Protection,
        flight: Flight | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self.identity = identity
        self.protection = protection
        self.flight = flight
        self.reserved = 0

    def __repr__(self) -> str:
        who = f"{self.identity.kind} {self.identity.name!r}" if self.identity else "nobody"
        return f"<Association {self.name.serial:x} with {who} at {self.address[0]}:{self.address[1]}>"

    @property
    def key(self) -> str:
        """What a store knows it by."""
        return f"{self.name.serial:x}"

    def to_bytes(self) -> bytes:
        """Write it down, secrets included, to go on with the first number that is not reserved."""
        name, who = self.name, self.identity
        return cbor2.dumps(
            [
                _FORMAT, *name, name.serial, *self.address,
                self.protection.suite.name, *self.protection.keys,
                max(self.reserved, self.protection.sent), self.protection.received,
                None if who is None else [who.kind, who.name, *who.certificates],
            ]
        )  # fmt: skip

    @classmethod
    def from_bytes(cls, data: bytes) -> Association:
        """Read what `to_bytes` wrote; what came before it was written does not come again.

        Raises:
            ValueError: it wrote no such thing, or another version of it did.
        """
        try:
            form, name_host, name_port, serial, host, port, suite, *keys, sent, received, who = cbor2.loads(data)
            kind, name, *certificates = who or ("psk", "")
            suite = SUITES[suite]
            _check(bytes, *keys, *certificates)
            _check(str, name_host, host, name)
            _check(int, name_port, serial, port, sent, received)
            if form != _FORMAT or [len(key) for key in keys] != [suite.key, SALT, suite.key, SALT]:
                raise ValueError(f"an association of format {form!r}")
        except (cbor2.CBORDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"no association: {error}") from error
        association = cls(
            Connection(name_host, name_port, "coaps", serial),
            (host, port),
            None if who is None else Identity("psk" if kind == "psk" else "certificate", name, tuple(certificates)),
            Protection(suite, (keys[0], keys[1], keys[2], keys[3]), sent, received),
        )
        association.reserved = sent
        return association

    def control(self, kind: int, data: bytes, mtu: int) -> tuple[list[bytes], str | None]:
        """Take a genuine record that carries no application data.

        Returns:
            the datagrams that answer it, and why the association has ended (None: it goes on).
        """
        if kind == Content.ALERT and len(data) == 2:
            level, description = data
            if description == _CLOSE_NOTIFY:
                return [self.protection.seal(Content.ALERT, CLOSE_NOTIFY)], "it closed the connection"
            if level == _FATAL:
                return [], f"it ended the connection with alert {description}"
        elif kind == Content.HANDSHAKE and data:
            if data[0] == _FINISHED and self.flight is not None:
                # The peer did not get our last messages, and sends its own again (RFC 6347 section 4.2.4).
                return list(self.flight.datagrams(self.protection, mtu)), None
            if data[0] in (_HELLO_REQUEST, _CLIENT_HELLO):
                return [self.protection.seal(Content.ALERT, bytes((_WARNING, _NO_RENEGOTIATION)))], None
        return [], None


def _check(kind: type, *values: object) -> None:
    for value in values:
        if not isinstance(value, kind):
            raise TypeError(f"a {type(value).__name__} where {kind.__name__} belongs")
