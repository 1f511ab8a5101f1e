"""What DTLS costs: handshakes, records of our own against OpenSSL's, memory an association, and strangers' datagrams.

Both ends share one event loop, and so one core; the network between them is a function call.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from benchmarks.table import Table
from pdmlab.coap.dtls import DtlsClient, DtlsServer, Limits, dtls, dtls_to
from pdmlab.coap.dtls_handshake import datagram_context
from pdmlab.coap.dtls_record import SUITES, Content, Protection
from pdmlab.coap.handshake import Handshake
from pdmlab.coap.openssl import client_context, connection, server_context
from pdmlab.coap.security import Security
from pdmlab.coap.transport import Address, Connection, DatagramSocket, Opener

SERVER: Address = ("192.0.2.1", 5684)
NAME = Connection(*SERVER, "coaps")
HANDSHAKES = 300
DEVICES = 1000
RECORDS = 5000
MESSAGE = bytes(64)
KEY = b"0123456789abcdef"

Kind = tuple[Security, Callable[[int], Security]]
"""A server's security, and that of each of its devices."""


class Wire:
    """Datagrams between addresses, delivered at once, or when the loop comes to it."""

    def __init__(self) -> None:
        self.ends: dict[Address, Callable[[bytes, Address], None]] = {}

    def opener(self, address: Address) -> Opener:
        """Return the opener of a socket there."""

        async def open_(on_datagram: Callable[[bytes, Address], None]) -> DatagramSocket:
            self.ends[address] = on_datagram
            return _End(self, address)

        return open_


class _End:
    def __init__(self, wire: Wire, address: Address) -> None:
        self._wire, self.address = wire, address
        self._loop = asyncio.get_running_loop()

    def send(self, data: bytes, address: Address) -> None:
        if address in self._wire.ends:
            self._loop.call_soon(self._wire.ends[address], data, self.address)

    def close(self) -> None:
        self._wire.ends.pop(self.address, None)


def certified() -> Kind:
    """Return a CA's server and devices, whose certificates are of one key: making keys is not what is measured."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def sign(name: str, public: ec.EllipticCurvePublicKey, *, ca: bool = False) -> bytes:
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, "CA")]
        builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(datetime(1970, 1, 1, tzinfo=UTC))
        builder = builder.not_valid_after(datetime(9999, 12, 31, tzinfo=UTC))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.DER)

    own, trust = sign("server", key.public_key()), (sign("CA", ca_key.public_key(), ca=True),)
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    devices = [Security((sign(f"device-{n}", key.public_key()),), private, trust=trust) for n in range(DEVICES)]
    return Security((own,), private, trust=trust), lambda n: devices[n]


def keyed() -> Kind:
    """Return a server and devices that have one key."""
    return Security(psk_of=lambda identity: KEY), lambda n: Security(psk=(b"device-%d" % n, KEY))


def device_address(n: int) -> Address:
    """Return where a device is: each is a host of its own."""
    return f"10.0.{n >> 8}.{n & 255}", 40000


async def served(wire: Wire, security: Security) -> DtlsServer:
    """Open a server that sends back what comes."""
    server: DtlsServer

    def echo(data: bytes, peer: Address) -> None:
        server.send(data, peer)

    limits = Limits(handshakes_a_second=1e6)
    server = await dtls(wire.opener(SERVER), security, limits=limits)(echo)  # type: ignore[assignment]
    return server


async def device(wire: Wire, security: Security, n: int, **options: object) -> DtlsClient:
    """Connect a device."""
    opener = dtls_to(wire.opener(device_address(n)), SERVER, security, **options)  # type: ignore[arg-type]
    return await opener(lambda data, peer: None)  # type: ignore[return-value]


def resident() -> int:
    """Return the memory of this process (B)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


# -- handshakes --------------------------------------------------------------------------------------


async def handshakes(kind: Kind) -> tuple[float, float]:
    """Return full and abbreviated handshakes a second, of both ends together."""
    wire, (security, security_of) = Wire(), kind
    server = await served(wire, security)
    sessions: list[bytes] = []
    rates = []
    for offered in (False, True):
        took = 0.0
        for n in range(HANDSHAKES):
            session = sessions[-1] if offered else None
            start = time.perf_counter()
            client = await device(wire, security_of(n), n, session=session, on_session=sessions.append, handshake=True)
            took += time.perf_counter() - start
            client.close()
        rates.append(HANDSHAKES / took)
    server.close()
    return rates[0], rates[1]


def openssl_handshakes(kind: Kind) -> float:
    """Return full handshakes a second of OpenSSL alone, without cookies, its client set up anew each time."""
    security, security_of = kind
    context = datagram_context(server_context(security, SSL.DTLS_METHOD), security)
    start = time.perf_counter()
    for n in range(HANDSHAKES):
        client = datagram_context(client_context(security_of(n), SSL.DTLS_METHOD), security_of(n))
        shake(
            connection(context, Handshake(server=True, datagrams=True)),
            connection(client, Handshake(server=False, datagrams=True)),
        )
    return HANDSHAKES / (time.perf_counter() - start)


# -- records -----------------------------------------------------------------------------------------


def openssl_ends(kind: Kind) -> tuple[SSL.Connection, SSL.Connection]:
    """Return both ends of a connection of OpenSSL's after its handshake."""
    security, security_of = kind
    contexts = (
        datagram_context(server_context(security, SSL.DTLS_METHOD), security),
        datagram_context(client_context(security_of(0), SSL.DTLS_METHOD), security_of(0)),
    )
    server = connection(contexts[0], Handshake(server=True, datagrams=True))
    client = connection(contexts[1], Handshake(server=False, datagrams=True))
    shake(server, client)
    return server, client


def shake(server: SSL.Connection, client: SSL.Connection) -> None:
    """Let both ends shake hands."""
    for end in (server, client):
        end.set_ciphertext_mtu(1232)
    for _ in range(4):
        for end, other in ((client, server), (server, client)):
            try:
                end.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(end.bio_read(1 << 16))
            except SSL.WantReadError:
                pass


def record_times(name: str) -> tuple[float, float, float]:
    """Return what it takes to seal 64 B, to open them, and to find that a record is another's (us)."""
    secret, random = bytes(48), bytes(32)
    client = Protection.derive(SUITES[name], secret, random, random, server=False)
    server = Protection.derive(SUITES[name], secret, random, random, server=True)
    stranger = Protection.derive(SUITES[name], bytes(47) + b"x", random, random, server=True)
    start = time.perf_counter()
    records = [client.seal(Content.APPLICATION_DATA, MESSAGE) for _ in range(RECORDS)]
    sealed = time.perf_counter()
    for record in records:
        assert stranger.open(record) is None
    refused = time.perf_counter()
    for record in records:
        assert server.open(record) == MESSAGE
    opened = time.perf_counter()
    return tuple(took / RECORDS * 1e6 for took in (sealed - start, opened - refused, refused - sealed))  # type: ignore[return-value]


def openssl_times(kind: Kind) -> tuple[float, float]:
    """Return what sealing and opening takes OpenSSL over memory, as a socket has to call it (us)."""
    server, client = openssl_ends(kind)
    start = time.perf_counter()
    records = []
    for _ in range(RECORDS):
        client.send(MESSAGE)
        records.append(client.bio_read(1 << 16))
    sealed = time.perf_counter()
    for record in records:
        server.bio_write(record)
        assert server.recv(1 << 14) == MESSAGE
    return (sealed - start) / RECORDS * 1e6, (time.perf_counter() - sealed) / RECORDS * 1e6


# -- many --------------------------------------------------------------------------------------------


async def association_memory(kind: Kind) -> float:
    """Return the memory of an association that is idle (B)."""
    wire, (security, security_of) = Wire(), kind
    server = await served(wire, security)

    async def meet(n: int) -> None:
        client = await device(wire, security_of(n), n, on_session=lambda session: None)
        client.send(b"\x40\x01\x00\x01", NAME)
        client.close()
        await asyncio.sleep(0)

    await meet(0)
    gc.collect()
    before = resident()
    for n in range(1, DEVICES):
        await meet(n)
    gc.collect()
    grown = resident() - before
    server.close()
    return grown / (DEVICES - 1)


def openssl_memory(kind: Kind) -> float:
    """Return the memory of a server's connection of OpenSSL's after its handshake (B)."""
    security, security_of = kind
    context = datagram_context(server_context(security, SSL.DTLS_METHOD), security)
    client = datagram_context(client_context(security_of(0), SSL.DTLS_METHOD), security_of(0))
    kept: list[SSL.Connection] = []

    def meet() -> None:
        server = connection(context, Handshake(server=True, datagrams=True))
        shake(server, connection(client, Handshake(server=False, datagrams=True)))
        kept.append(server)

    meet()
    gc.collect()
    before = resident()
    for _ in range(200):
        meet()
    gc.collect()
    return (resident() - before) / 200


def alone(call: str) -> float:
    """Return what a call of this module returns in a process of its own, whose heap has no gaps yet."""
    code = f"from benchmarks.dtls import *; print({call})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


async def strangers(kind: Kind) -> tuple[float, float]:
    """Return what a datagram costs that is nobody's among 1000 associations, and one of a device that moved (us)."""
    wire, (security, security_of) = Wire(), kind
    server: DtlsServer = await served(wire, security)
    protections = []
    for n in range(DEVICES):
        client = await device(wire, security_of(n), n, on_session=lambda session: None)
        assert client._association is not None
        protections.append(client._association.protection)
        client.close()
    garbage = bytes.fromhex("17fefd 0001 000000000005 0050") + bytes(80)
    start = time.perf_counter()
    for n in range(10):
        server._received(garbage, ("203.0.113.5", n))
    unknown = (time.perf_counter() - start) / 10
    await asyncio.sleep(1)  # what may be tried in a second is saved up again
    start = time.perf_counter()
    for n in range(DEVICES):
        server._received(protections[n].seal(Content.APPLICATION_DATA, MESSAGE), (device_address(n)[0], 50000))
    moved = (time.perf_counter() - start) / DEVICES
    server.close()
    return unknown * 1e6, moved * 1e6


def bench() -> None:
    """Print them all."""
    kinds = {"certificates, both sides": certified(), "pre-shared key": keyed()}
    table = Table(
        "DTLS handshakes (ECDHE-ECDSA-AES128-CCM8, PSK-AES128-CCM8); both ends on one core",
        {"what": "", "full/s": ".0f", "OpenSSL/s": ".0f", "ratio": ".2f", "abbreviated/s": ".0f"},
        text_width=26,
    )
    for what, kind in kinds.items():
        (full, short), alone_ = asyncio.run(handshakes(kind)), openssl_handshakes(kind)
        table.row(what, full, alone_, full / alone_, short)
    table = Table(
        "Records of 64 B (us)",
        {"suite": "", "seal": ".1f", "open": ".1f", "another's": ".1f", "OpenSSL seal": ".1f", "OpenSSL open": ".1f"},
        text_width=30,
    )
    for name in SUITES:
        theirs: tuple[float | None, float | None] = (None, None)
        if name.endswith("AES128-CCM8"):
            theirs = openssl_times(kinds["pre-shared key" if name.startswith("PSK") else "certificates, both sides"])
        table.row(name, *record_times(name), *theirs)
    table = Table(
        f"Memory of an idle association (B, resident, of {DEVICES})",
        {"what": "", "ours": ".0f", "OpenSSL": ".0f", "ratio": ".3f"},
        text_width=26,
    )
    for what, make in (("certificates, both sides", "certified"), ("pre-shared key", "keyed")):
        ours, theirs_ = (alone(f"{each}({make}()))") for each in ("asyncio.run(association_memory", "(openssl_memory"))
        table.row(what, ours, theirs_, ours / theirs_)
    table = Table(
        f"Datagrams from unknown addresses, at {DEVICES} associations (us)",
        {"what": "", "each": ".0f"},
        text_width=40,
    )
    unknown, moved = asyncio.run(strangers(kinds["pre-shared key"]))
    table.row("nobody's: all keys are tried", unknown)
    table.row("a device's that moved, with the echo", moved)
