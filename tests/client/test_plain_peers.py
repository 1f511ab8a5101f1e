"""A plain LwM2M device over every transport: at servers of our own endpoint, and at directories that others wrote."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiocoap
import pytest
from aiocoap import Message
from aiocoap.cli.rd import StandaloneResourceDirectory
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.client import Certificate, Lwm2mClient, PreSharedKey, TableObject
from pdmlab.coap.dtls import dtls
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import Security
from pdmlab.coap.tcp import tcp
from pdmlab.coap.tls import tls
from pdmlab.coap.transport import Address, Opener, udp
from pdmlab.errors import HandshakeFailed, TimedOut
from pdmlab.lwm2m.content import OPAQUE, TEXT, TLV
from tests.client.pki import ALWAYS, Authority, der, key_der, write_pem
from tests.tools import program

KEY = PreSharedKey("dev", b"sixteen byte key")


class Desk:
    """A server on loopback that keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[Message, Address]] = asyncio.Queue()
        self.endpoint: Endpoint

    async def handle(self, message: Message, peer: Address) -> Message:
        self.asked.put_nowait((message, peer))
        if message.opt.uri_path == ("rd",):
            return Message(code=codes.CREATED, location_path=("rd", "1"))
        return Message(code=codes.DELETED if message.code == codes.DELETE else codes.CHANGED)


@contextlib.asynccontextmanager
async def desk(opener: Opener) -> AsyncIterator[Desk]:
    found = Desk()
    found.endpoint = await Endpoint.open(opener, found.handle)
    try:
        yield found
    finally:
        await found.endpoint.close()


def with_device(
    opener: Opener,
    scheme: str,
    credentials: PreSharedKey | Certificate | None,
    story: Callable[[Desk, Lwm2mClient], Awaitable[None]],
) -> None:
    async def told() -> None:
        async with desk(opener) as found:
            uri = f"{scheme}://127.0.0.1:{found.endpoint.address[1]}"
            client = Lwm2mClient("dev-1", uri, credentials=credentials, objects=[TableObject(3303, {0: {5700: 21.5}})])
            await asyncio.to_thread(client.start)
            try:
                await story(found, client)
            finally:
                await asyncio.to_thread(client.close, 2.0)

    asyncio.run(told())


async def managed(found: Desk, client: Lwm2mClient) -> None:
    """Register, read, observe, be told, and deregister."""
    request, peer = await asyncio.wait_for(found.asked.get(), 20)
    assert "ep=dev-1" in request.opt.uri_query
    binding = "b=T" if "+tcp" in client.server else "b=U"
    assert binding in request.opt.uri_query
    get = Message(code=codes.GET, uri_path=("3303", "0", "5700"), accept=TEXT)
    assert (await found.endpoint.request(get, peer)).payload == b"21.5"
    told: asyncio.Queue[Message] = asyncio.Queue()
    await found.endpoint.observe(get, peer, told.put_nowait)
    await asyncio.to_thread(client.__setitem__, "/3303/0/5700", 22.5)
    assert (await asyncio.wait_for(told.get(), 20)).payload == b"22.5"
    await asyncio.to_thread(client.close)
    request, _ = await asyncio.wait_for(found.asked.get(), 20)
    assert (request.code, request.opt.uri_path) == (codes.DELETE, ("rd", "1"))


def key_of(identity: bytes) -> bytes | None:
    return KEY.key if identity == b"dev" else None


AUTHORITY = Authority()
SERVER = AUTHORITY.issue(CN="server.example.com")
DEVICE = AUTHORITY.issue(CN="dev-1")
BY_KEY = Security(psk_of=key_of)
BY_CERTIFICATE = Security(certificates=(SERVER[0],), private_key=SERVER[1], trust=(AUTHORITY.certificate,))
WITH_CERTIFICATE = Certificate(DEVICE[0], DEVICE[1], AUTHORITY.certificate)

WAYS = {
    "UDP": (udp, "coap", None),
    "106 TCP": (tcp, "coap+tcp", None),
    "401 DTLS with a key": (lambda: dtls(udp(), BY_KEY), "coaps", KEY),
    "402 DTLS with certificates": (lambda: dtls(udp(), BY_CERTIFICATE), "coaps", WITH_CERTIFICATE),
    "404 TLS with certificates": (lambda: tls("127.0.0.1", 0, BY_CERTIFICATE), "coaps+tcp", WITH_CERTIFICATE),
    "406 TLS with a key": (lambda: tls("127.0.0.1", 0, BY_KEY), "coaps+tcp", KEY),
}


@pytest.mark.parametrize("way", WAYS)
def test_106_401_402_404_406_a_device_is_managed_by_every_transport(way: str) -> None:
    opener, scheme, credentials = WAYS[way]
    with_device(opener(), scheme, credentials, managed)  # type: ignore[operator]


def selfsigned() -> tuple[bytes, bytes]:
    """Return a certificate that nobody but itself vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "leshan")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(ALWAYS[0]).not_valid_after(ALWAYS[1])
    return der(builder.sign(key, hashes.SHA256())), key_der(key)


@pytest.mark.parametrize("certificate", ["of a CA", "of itself"])
@pytest.mark.parametrize("scheme", ["coaps", "coaps+tcp"])
def test_402_404_the_server_may_be_known_by_its_very_certificate(scheme: str, certificate: str) -> None:
    """As LwM2M means /0/x/4, and as Leshan's demo server has it."""
    own, key = SERVER if certificate == "of a CA" else selfsigned()
    security = Security(certificates=(own,), private_key=key, trust=(AUTHORITY.certificate,))
    opener = dtls(udp(), security) if scheme == "coaps" else tls("127.0.0.1", 0, security)
    with_device(opener, scheme, Certificate(*DEVICE, own), managed)


STRANGER = Authority("Another CA")
WRONG = {
    "a server of another certificate": (
        "402 DTLS with certificates",
        Certificate(*DEVICE, AUTHORITY.issue(CN="server.example.com")[0]),
    ),
    "a key of another": ("401 DTLS with a key", PreSharedKey("dev", b"another key 1234")),
    "an identity of nobody": ("401 DTLS with a key", PreSharedKey("who", KEY.key)),
    "a server of another CA": ("404 TLS with certificates", Certificate(*DEVICE, STRANGER.certificate)),
    "a device of another CA": (
        "404 TLS with certificates",
        Certificate(*STRANGER.issue(CN="dev-1"), AUTHORITY.certificate),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_credentials_that_do_not_match_are_named(what: str) -> None:
    way, credentials = WRONG[what]
    opener, scheme, _ = WAYS[way]

    async def story(found: Desk, client: Lwm2mClient) -> None:
        async with asyncio.timeout(20):
            while client.error is None:
                await asyncio.sleep(0.01)
        assert isinstance(client.error, HandshakeFailed)
        assert client.error.reason
        assert found.asked.empty()
        with pytest.raises(TimedOut, match="is not registered at coaps") as caught:
            await asyncio.to_thread(client.wait_registered, 0.01)
        assert caught.value.hint == client.error.message

    with_device(opener(), scheme, credentials, story)  # type: ignore[operator]


def write(path: str, payload: bytes, format: int = TEXT) -> Message:
    return Message(code=codes.PUT, uri_path=tuple(path.split("/")), payload=payload, content_format=format)


BOOTSTRAPS = {
    "1 with keys": ("401 DTLS with a key", "401 DTLS with a key", b"0"),
    "2 with certificates": ("402 DTLS with certificates", "402 DTLS with certificates", b"2"),
    "404 from TLS to TLS": ("404 TLS with certificates", "404 TLS with certificates", b"2"),
    "from TLS to DTLS": ("404 TLS with certificates", "401 DTLS with a key", b"0"),
}


@pytest.mark.parametrize("what", BOOTSTRAPS)
def test_1_2_404_a_secure_bootstrap_leads_to_a_secure_server(what: str) -> None:
    first_way, second_way, mode = BOOTSTRAPS[what]

    async def told() -> None:
        (first, scheme, credentials), (second, next_scheme, _) = WAYS[first_way], WAYS[second_way]
        async with desk(first()) as bootstrap, desk(second()) as server:  # type: ignore[operator]
            uri = f"{scheme}://127.0.0.1:{bootstrap.endpoint.address[1]}"
            client = Lwm2mClient("dev-1", uri, bootstrap=True, credentials=credentials)
            await asyncio.to_thread(client.start)
            try:
                request, peer = await asyncio.wait_for(bootstrap.asked.get(), 20)
                assert request.opt.uri_path == ("bs",)
                identity, key = (KEY.identity.encode(), KEY.key) if mode == b"0" else AUTHORITY.issue(CN="dev-1")
                for message in (
                    write("0/0/0", f"{next_scheme}://127.0.0.1:{server.endpoint.address[1]}".encode()),
                    write("0/0/2", mode),
                    write("0/0/3", identity, OPAQUE),
                    write("0/0/4", AUTHORITY.certificate, OPAQUE),
                    write("0/0/5", key, OPAQUE),
                    write("0/0/10", b"9"),
                    write("1/0", bytes.fromhex("C1 00 09 C1 01 3C C1 06 01 C1 07 55"), TLV),
                    Message(code=codes.POST, uri_path=("bs",)),
                ):
                    answer = await bootstrap.endpoint.request(message, peer)
                    assert answer.code == codes.CHANGED, (message.opt.uri_path, answer.payload)
                request, peer = await asyncio.wait_for(server.asked.get(), 20)
                assert "lt=60" in request.opt.uri_query
                get = Message(code=codes.GET, uri_path=("3", "0", "0"), accept=TEXT)
                assert (await server.endpoint.request(get, peer)).payload == b"pdmlab"
            finally:
                await asyncio.to_thread(client.close, 2.0)

    asyncio.run(told())


# -- others' directories -----------------------------------------------------------------------------------------


def free_port() -> int:
    """Return an even UDP port that was free a moment ago; libcoap's DTLS takes the one above it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1]) & ~1


@contextlib.contextmanager
def coap_rd(*options: str) -> Iterator[int]:
    """Run libcoap's resource directory, and give its port."""
    names = ("coap-rd-notls", "coap-rd") if not options else ("coap-rd-openssl",)
    for _ in range(5):
        port = free_port()
        command = [program(*names), "-A", "127.0.0.1", "-p", str(port), *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if listens(process, port):
                yield port
                return
        finally:
            process.kill()
            process.wait()
    pytest.fail(f"{command[0]} found no port")


def listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until it listens on TCP, which libcoap opens with UDP; return False if the port is another's."""
    until = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.01)
    return False


def links_of(port: int) -> list[str]:
    client = program("coap-client-notls", "coap-client")
    command = [client, "-B", "5", f"coap://127.0.0.1:{port}/.well-known/core"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split(",")


@pytest.mark.debian
@pytest.mark.parametrize("scheme", ["coap", "coap+tcp", "coaps", "coaps+tcp"])
def test_libcoaps_directory_takes_a_device(scheme: str) -> None:
    secure = scheme.startswith("coaps")
    options = ("-k", KEY.key.decode()) if secure else ()
    with coap_rd(*options) as port:
        client = Lwm2mClient("dev-1", f"{scheme}://127.0.0.1:{port + secure}", credentials=KEY if secure else None)
        client.start()
        try:
            client.wait_registered(20)
            location = client.links[0].registration.location
            assert location[0] == "rd" and len(location) == 2
            assert any(f"</{'/'.join(location)}>" in each for each in links_of(port))
        finally:
            client.close(0.0)  # this directory dies of a DELETE: a double free in libcoap 4.3.1's example


@pytest.mark.debian
def test_libcoaps_directory_takes_a_device_with_a_certificate(tmp_path: Path) -> None:
    server = tmp_path / "server.pem"
    certificate, key = write_pem(tmp_path, *SERVER)
    server.write_bytes(certificate.read_bytes() + key.read_bytes())
    ca = tmp_path / "ca"
    ca.mkdir()
    trust, _ = write_pem(ca, AUTHORITY.certificate, SERVER[1])
    with coap_rd("-c", str(server), "-C", str(trust)) as port:
        client = Lwm2mClient("dev-1", f"coaps://127.0.0.1:{port + 1}", credentials=WITH_CERTIFICATE)
        client.start()
        try:
            client.wait_registered(20)
            assert client.links[0].registration.location[0] == "rd"
        finally:
            client.close(0.0)


def test_aiocoaps_directory_takes_updates_and_lets_go_of_a_device() -> None:
    async def told() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            server = probe.getsockname()
        context = await aiocoap.Context.create_server_context(None, bind=server, transports=["simplesocketserver"])
        site = StandaloneResourceDirectory(context=context, lwm2m_compat=True)
        context.serversite = site
        client = Lwm2mClient("dev-1", f"coap://127.0.0.1:{server[1]}", lifetime=60)
        await asyncio.to_thread(client.start)
        try:
            await asyncio.to_thread(client.wait_registered, 20)
            location = client.links[0].registration.location
            (known,) = site.common_rd.get_endpoints()
            assert (known.registration_parameters["ep"], known.lt) == (["dev-1"], 60)
            assert "/3/0" in {link.href for link in known.links.links}
            await asyncio.to_thread(client.update)
            assert client.links[0].registration.location == location
        finally:
            await asyncio.to_thread(client.close)
            await context.shutdown()
        assert list(site.common_rd.get_endpoints()) == []

    asyncio.run(told())
