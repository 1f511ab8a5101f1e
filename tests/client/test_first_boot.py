"""First boots as transcripts: every byte that a device and a server exchange, typed from the wire's description."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.x509.oid import NameOID

from pdmlab.client import SimpleMbedCloudClient
from pdmlab.client.security_object import Lwm2mServer
from pdmlab.network.bytestream import ByteStream
from pdmlab.update.credentials import Credentials
from tests.client.bench import ACCOUNT, BS_PORT, DEVICE, LWM2M_PORT, Bench
from tests.client.pki import Authority, der, key_der
from tests.client.scripted import End, Ended, PlainEnd, Script, TlsEnd, server_context

ASK = f"""
< 44 02 mid1 tok1  b2 "bs"  30  19 "ep=desk-1"  0d17 "aid={ACCOUNT}"  0b "mccv=4.13.2"
> 64 44 mid1 tok1
> 44 04 0001 0a0a0a0a  b1 "0"      # DELETE /0
< 64 42 0001 0a0a0a0a
"""
FINISH = """
> 44 02 0003 0c0c0c0c  b2 "bs"
< 60 00 0003 c0                    # the empty acknowledgement has five bytes
< 44 44 mid2 0c0c0c0c              # and the answer a message ID of the device's
> 60 00 mid2
"""
FINISH_EST = FINISH.replace('b2 "bs"', f'b2 "bs"  4d17 "iep={DEVICE}"')
REGISTER = """
< 44 02 mid3 tok3  b2 "rd"  11 28  20  19 "ep=desk-1" 0a "et=default" 07 "lt=7200" 09 "lwm2m=1.0" ...
"""
PLAIN_QUERIES = f' 03 "b=U" 0d17 "aid={ACCOUNT}" '
QUERIES = f' 0d15 "d={ACCOUNT}" 03 "b=U" 0d17 "aid={ACCOUNT}" 0b "mccv=4.13.2" '
LAST_QUERY = '0b "mccv=4.13.2"'
LOCATION = f'82 "rd" 0d13 "{ACCOUNT}" 0d13 "{DEVICE}"'


def tlv(id: int, value: bytes) -> bytes:
    """A resource, its length in two bytes."""
    return bytes((0xD0, id)) + len(value).to_bytes(2, "big") + value


def instance(resources: bytes) -> bytes:
    """An object instance, its length in two bytes."""
    return b"\x10\x00" + len(resources).to_bytes(2, "big") + resources


async def put_in_blocks(script: Script, body: bytes, *, mid: int = 0x0100) -> None:
    """PUT /0: Content-Format 11542, Block1 n/m/512 and in the first Size1; one token, a message ID each."""
    parts = [body[at : at + 512] for at in range(0, len(body), 512)]
    for number, part in enumerate(parts):
        more = number + 1 < len(parts)
        block = f"{number << 4 | more << 3 | 5:02x}"
        size = f"d214 {len(body):04x}" if number == 0 else ""
        answer = "5f" if more else "44"
        await script.play(f"""
            > 44 03 {mid + number:04x} 0b0b0b0b  b1 "0"  12 2d16  d102 {block}  {size}  ff {part.hex()}
            < 64 {answer} {mid + number:04x} 0b0b0b0b  d001 d100 {block}      # with Max-Age 0
        """)


async def take_registration(script: Script, queries: str) -> bytes:
    """Take POST /rd in blocks, as the stock client sends it; return the link format."""
    whole, number, more = b"", 0, 0x08
    while more:
        mid, token = f"mid{30 + number}", "tok3"
        await script.play(
            f'< 44 02 {mid} {token} b2 "rd" 11 28 20 19 "ep=desk-1" 0a "et=default" 07 "lt=7200" 09 "lwm2m=1.0"'
            f"{queries} c1 ..."
        )
        block, rest = script.rest[0], script.rest[1:]
        more = block & 0x08
        assert block == number << 4 | more | 5
        if number == 0:
            assert rest[:2] == b"\xd2\x14", "Size1 in block 0, and there only"
            size, rest = int.from_bytes(rest[2:4], "big"), rest[4:]
        assert rest[0] == 0xFF
        whole += rest[1:]
        if more:
            await script.play(f"> 64 5f {mid} {token} d10e {block:02x}")
        else:
            await script.play(f"> 64 41 {mid} {token} {LOCATION} d106 {block:02x}")
        number += 1
    assert len(whole) == size
    return whole


class Server:
    """A host of the fabric that plays a scene with whoever connects to a port."""

    def __init__(self, bench: Bench, wrap: Callable[[ByteStream], End]) -> None:
        self._bench = bench
        self._host = bench.fabric.host("cloud")
        self._wrap = wrap
        self._played: list[asyncio.Task[None]] = []

    def at(self, port: int, scene: Callable[[Script], Awaitable[None]]) -> asyncio.Future[None]:
        """Play a scene at a port; the future is done when it has ended."""
        loop = self._bench.clock.loop
        done: asyncio.Future[None] = loop.create_future()

        async def play(stream: ByteStream) -> None:
            try:
                end = self._wrap(stream)
                await end.open()
                await scene(Script(end))
            except BaseException as error:
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(None)

        self._host.listen(port, lambda stream: self._played.append(loop.create_task(play(stream))))
        return done


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_without_security_messages_follow_their_length(bench: Bench) -> None:
    """Plain TCP: docs/wire.md 1.2, 2.6 and 3.1."""
    bench.image.transport = "tcp"
    uri = f"coap://cloud:{LWM2M_PORT}?aid={ACCOUNT}"
    body = f'c8 00 {len(uri):02x} "{uri}"  c1 01 00  c1 02 03  c1 0a 01'

    async def bootstrap(script: Script) -> None:
        await script.play(ASK)
        await script.play(f"""
            > 44 03 0002 0b0b0b0b  b1 "0"  12 2d16  ff  08 00 {3 + len(uri) + 9:02x}  {body}
            < 64 44 0002 0b0b0b0b
        """)
        await script.play(FINISH)

    async def register(script: Script) -> None:
        links = await take_registration(script, PLAIN_QUERIES)
        assert links.startswith(b"</1>,</1/0>,</1/0/0>;")

    async def story() -> None:
        server = Server(bench, PlainEnd)
        first, second = server.at(BS_PORT, bootstrap), server.at(LWM2M_PORT, register)
        await bench.connect()
        await first
        await second

    bench.play(story)


class Desk:
    """A device with a certificate of a CA, and servers of that CA."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.ca = Authority()
        certificate, key = self.ca.issue(CN="desk-1")
        bench.image.credentials = Credentials(
            "desk-1",
            f"coaps://cloud:{BS_PORT}?aid={ACCOUNT}",
            account_id=ACCOUNT,
            bootstrap_device_certificate=certificate,
            bootstrap_server_root_ca_certificate=self.ca.certificate,
            bootstrap_device_private_key=key,
        ).to_mapping()
        context = server_context(folder, self.ca, *self.ca.issue(CN="some-other-name.example"))
        self.ends: list[TlsEnd] = []
        self.server = Server(bench, lambda stream: self._wrap(TlsEnd(stream, context)))
        self.uri = f"coaps://cloud:{LWM2M_PORT}?aid={ACCOUNT}"

    def _wrap(self, end: TlsEnd) -> TlsEnd:
        self.ends.append(end)
        return end

    def names(self, number: int) -> dict[str, str]:
        """What the certificate says that the device showed in its nth connection."""
        shown = self.ends[number].tls.getpeercert()
        assert shown is not None
        return {name: value for part in shown["subject"] for name, value in part}  # type: ignore[union-attr]


def server_of(client: SimpleMbedCloudClient) -> Lwm2mServer:
    identity = client._provisioning.identity
    assert identity is not None and identity.server is not None
    return identity.server


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_with_certificates_from_the_bootstrap_server(bench: Bench, tmp_path: Path, form: PrivateFormat) -> None:
    """TLS, mode 2: docs/wire.md 1.2, 1.4, 2.1 to 2.3, 3.1 and 3.2."""
    desk = Desk(bench, tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = [(NameOID.COMMON_NAME, "desk-1"), (NameOID.LOCALITY_NAME, DEVICE)]
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])
    certificate = der(desk.ca.sign(key.public_key(), name))
    body = instance(
        tlv(0, desk.uri.encode())
        + bytes.fromhex("c10100 c10202")
        + tlv(3, certificate)
        + tlv(4, desk.ca.certificate)
        + tlv(5, key_der(key, form))
        + bytes.fromhex("c10a01")
    )

    async def bootstrap(script: Script) -> None:
        await script.play(ASK)
        await put_in_blocks(script, body)
        await script.play(FINISH)
        with pytest.raises(Ended):
            await script.end.read()

    async def register(script: Script) -> None:
        links = await take_registration(script, QUERIES)
        assert b"</35011/0/27002>" in links

    async def story() -> None:
        first, second = desk.server.at(BS_PORT, bootstrap), desk.server.at(LWM2M_PORT, register)
        client = await bench.connect()
        await first
        await second
        assert server_of(client) == Lwm2mServer(desk.uri, (certificate,), desk.ca.certificate, key_der(key, form))
        assert desk.ends[0].tls.cipher()[0] == "ECDHE-ECDSA-AES128-CCM8"  # type: ignore[index]
        assert desk.names(0) == {"commonName": "desk-1"}
        assert desk.names(1) == {"commonName": "desk-1", "localityName": DEVICE}
        await asyncio.sleep(1)
        assert client.is_client_registered() and client.device_id == DEVICE
        names = [(step.server, step.name) for step in client.steps if step.ok]
        assert names == [
            (role, name)
            for role, last in (("bootstrap", "bootstrap"), ("lwm2m", "register"))
            for name in ("resolve name", "TCP connect", "TLS handshake", last)
        ]

    bench.play(story)


def test_with_a_certificate_that_the_device_asks_for(bench: Bench, tmp_path: Path) -> None:
    """TLS, mode 4: docs/wire.md 2.2 e and 2.4; the chain comes in blocks, further ones are asked for with nothing."""
    desk = Desk(bench, tmp_path)
    body = instance(
        tlv(0, desk.uri.encode()) + bytes.fromhex("c10100 c10204") + tlv(4, desk.ca.certificate) + b"\xc1\x0a\x01"
    )
    issued: list[bytes] = []

    async def bootstrap(script: Script) -> None:
        await script.play(ASK)
        await put_in_blocks(script, body)
        await script.play(FINISH_EST)
        await script.play('< 44 02 mid4 tok4  b3 "est" 03 "sen"  10  20  91 05  ff ...')
        request = x509.load_der_x509_csr(script.rest)
        assert request.is_signature_valid and not list(request.extensions)
        assert [(each.oid, each.value) for each in request.subject] == [
            (NameOID.LOCALITY_NAME, DEVICE),
            (NameOID.ORGANIZATIONAL_UNIT_NAME, ACCOUNT),
            (NameOID.COMMON_NAME, "desk-1"),
        ]
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        issued.extend([der(desk.ca.sign(key, request.subject)), desk.ca.certificate])
        chain = bytes((1, 2)) + b"".join(len(each).to_bytes(2, "big") + each for each in issued)
        parts = [chain[at : at + 512] for at in range(0, len(chain), 512)]
        assert len(parts) > 1
        for number, part in enumerate(parts):
            more = number + 1 < len(parts)
            mid = f"mid{4 + number}"
            if number:
                await script.play(f'< 44 02 {mid} tok4  b3 "est" 03 "sen"  10  20  91 {number << 4 | 5:02x}')
            block2, size2 = f"d10a {number << 4 | more << 3 | 5:02x}", f"52 {len(chain):04x}"
            await script.play(f"> 64 44 {mid} tok4  {block2} {size2} ff {part.hex()}")
        with pytest.raises(Ended):
            await script.end.read()

    async def register(script: Script) -> None:
        await take_registration(script, QUERIES)

    async def story() -> None:
        first, second = desk.server.at(BS_PORT, bootstrap), desk.server.at(LWM2M_PORT, register)
        client = await bench.connect()
        await first
        await second
        server = server_of(client)
        assert server.certificates == tuple(issued) and server.ca == desk.ca.certificate
        assert desk.names(1) == {"localityName": DEVICE, "organizationalUnitName": ACCOUNT, "commonName": "desk-1"}
        assert "enrolment" in [step.name for step in client.steps]

    bench.play(story)
