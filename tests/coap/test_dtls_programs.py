"""DTLS with libcoap (on OpenSSL and on GnuTLS), openssl's own client and server, and Mbed TLS, on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.dtls import Timing, dtls, dtls_to
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.security import Security
from pdmlab.coap.transport import Address, Connection, DatagramSocket, Identity, udp
from pdmlab.errors import HandshakeFailed
from tests.coap.certificates import Authority
from tests.tools import environment, program

pytestmark = pytest.mark.debian

BODY = bytes(i * 7 % 251 for i in range(4096))
CA = Authority()
KEY = "0123456789abcdef"
QUICK = Timing(first=0.1, longest=0.4, limit=5)

LIBRARIES = ("openssl", "gnutls")
KINDS = ("psk", "certificates")


# -- ways to be secured ------------------------------------------------------------------------------


def ours(kind: str, *, server: bool) -> Security:
    """Return the security of our end."""
    if kind == "certificates":
        return CA.security("our end")
    return Security(psk_of={b"device": KEY.encode()}.get) if server else Security(psk=(b"device", KEY.encode()))


def libcoaps(kind: str, folder: Path, *, server: bool) -> tuple[str, ...]:
    """Return the options for libcoap's end."""
    if kind == "certificates":
        certificate, key, ca = CA.write(folder, "libcoap")
        return "-c", str(certificate), "-j", str(key), "-C", str(ca)
    return ("-k", KEY) if server else ("-k", KEY, "-u", "device")


# -- clients of others, at our server ----------------------------------------------------------------


@dataclass
class Shelf:
    """Resources that a client can read, replace and observe, and who asked."""

    endpoint: Endpoint | None = None
    kept: dict[str, bytes] = field(default_factory=lambda: {"large": BODY, "small": b"hello"})
    identities: list[Identity | None] = field(default_factory=list)
    observer: tuple[Address, bytes] | None = None
    failures: list[HandshakeFailed] = field(default_factory=list)

    async def __call__(self, message: Message, peer: Address) -> Message:
        assert self.endpoint is not None
        self.identities.append(self.endpoint.identity(peer))
        path = "/".join(message.opt.uri_path)
        if message.code == codes.GET:
            response = Message(code=codes.CONTENT, payload=self.kept[path])
            if message.opt.observe == 0:
                self.observer = peer, message.token
                response.opt.observe = 1
            return response
        self.kept[path] = message.payload
        return Message(code=codes.CHANGED)


@asynccontextmanager
async def shelf_of(security: Security) -> AsyncIterator[Shelf]:
    """Open our server."""
    shelf = Shelf()
    told = replace(security, names_failure=lambda peer, failure: shelf.failures.append(failure))
    shelf.endpoint = await Endpoint.open(dtls(udp(), told, timing=QUICK), shelf)
    try:
        yield shelf
    finally:
        await shelf.endpoint.close()


Ask = Callable[..., Awaitable[bytes]]


def with_client(
    library: str, options: tuple[str, ...], security: Security, story: Callable[[Shelf, Ask], Awaitable[None]]
) -> None:
    """Run a story with our server and libcoap's client to ask it."""
    client = program(f"coap-client-{library}")

    async def run() -> None:
        async with shelf_of(security) as shelf:
            assert shelf.endpoint is not None
            port = shelf.endpoint.address[1]

            async def ask(method: str, path: str, *more: str) -> bytes:
                uri = f"coaps://127.0.0.1:{port}/{path}"
                return await said_by(client, "-B", "20", "-m", method, *options, *more, uri)

            await story(shelf, ask)

    asyncio.run(run())


async def said_by(*command: str, tell: bytes | None = None) -> bytes:
    """Run a program to its end; return what it says on both streams."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if tell is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(tell), 60)
    return said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_coap_client_gets_puts_and_is_known(library: str, kind: str, tmp_path: Path) -> None:
    async def story(shelf: Shelf, ask: Ask) -> None:
        assert (await ask("get", "small")).rstrip(b"\n") == b"hello"
        await ask("put", "small", "-e", "other")
        assert shelf.kept["small"] == b"other"
        expected = ("certificate", "libcoap") if kind == "certificates" else ("psk", "device")
        for identity in shelf.identities:
            assert identity is not None
            assert (identity.kind, identity.name) == expected
        assert shelf.failures == []

    with_client(library, libcoaps(kind, tmp_path, server=False), ours(kind, server=True), story)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_coap_client_gets_and_puts_4_kib(library: str, kind: str, tmp_path: Path) -> None:
    async def story(shelf: Shelf, ask: Ask) -> None:
        body, got = tmp_path / "body", tmp_path / "got"
        body.write_bytes(BODY)
        await ask("put", "put", "-b", "512", "-f", str(body))
        assert shelf.kept["put"] == BODY
        await ask("get", "large", "-b", "512", "-o", str(got))
        assert got.read_bytes() == BODY

    with_client(library, libcoaps(kind, tmp_path, server=False), ours(kind, server=True), story)


@pytest.mark.parametrize("library", LIBRARIES)
def test_coap_client_observes(library: str, tmp_path: Path) -> None:
    async def story(shelf: Shelf, ask: Ask) -> None:
        async def tell() -> str:
            assert shelf.endpoint is not None
            while shelf.observer is None:
                await asyncio.sleep(0.01)
            peer, token = shelf.observer
            done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            value = Message(code=codes.CONTENT, payload=b"told 2;", observe=2)
            shelf.endpoint.notify(peer, value, token, on_result=done.set_result)
            return await done

        said, outcome = await asyncio.gather(ask("get", "small", "-s", "1", "-w"), tell())
        assert said.split() == [b"hello", b"told", b"2;"]
        assert outcome == "acknowledged"

    with_client(library, libcoaps("psk", tmp_path, server=False), ours("psk", server=True), story)


WRONG = {
    "another key": (("-k", "another key 1234", "-u", "device"), "psk", "wrong key"),
    "another identity": (("-k", KEY, "-u", "nobody"), "psk", "unknown identity"),
    "a key, for a server of certificates": (("-k", KEY, "-u", "device"), "certificates", "no common suite"),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", WRONG)
def test_coap_client_that_is_wrong_is_refused_with_the_reason(library: str, case: str) -> None:
    options, kind, reason = WRONG[case]

    async def story(shelf: Shelf, ask: Ask) -> None:
        assert b"hello" not in await ask("get", "small", "-B", "2")
        assert {failure.reason for failure in shelf.failures} == {reason}
        assert shelf.identities == []

    with_client(library, options, ours(kind, server=True), story)


@pytest.mark.parametrize("library", LIBRARIES)
def test_coap_client_of_another_ca_is_refused_with_the_reason(library: str, tmp_path: Path) -> None:
    certificate, key, _ = Authority("Other CA").write(tmp_path, "stranger")
    _, _, ca = CA.write(tmp_path, "trusted")

    async def story(shelf: Shelf, ask: Ask) -> None:
        assert b"hello" not in await ask("get", "small", "-B", "2")
        assert {failure.reason for failure in shelf.failures} == {"unknown CA"}
        assert "Other CA" in shelf.failures[0].message

    with_client(
        library, ("-c", str(certificate), "-j", str(key), "-C", str(ca)), ours("certificates", server=True), story
    )


def test_coap_client_without_security_is_told_to_use_it(tmp_path: Path) -> None:
    client = program("coap-client-notls", "coap-client-openssl", "coap-client-gnutls")

    async def run() -> None:
        async with shelf_of(ours("psk", server=True)) as shelf:
            assert shelf.endpoint is not None
            said = await said_by(client, "-B", "2", f"coap://127.0.0.1:{shelf.endpoint.address[1]}/small")
            assert b"4.00 this port is for coaps" in said
            assert [failure.reason for failure in shelf.failures] == ["not DTLS"]

    asyncio.run(run())


@pytest.mark.parametrize("kind", KINDS)
def test_mbed_tls_is_answered_also_when_it_goes_on_from_another_port(kind: str, tmp_path: Path) -> None:
    python = environment("python-mbedtls-2.10.1", "python-mbedtls==2.10.1", python="3.11")
    certificate, key, ca = CA.write(tmp_path, "board")
    options = (str(ca), str(certificate), str(key)) if kind == "certificates" else ("device", KEY)
    peers: list[Address] = []

    async def run() -> bytes:
        socket_: DatagramSocket

        def echo(data: bytes, peer: Address) -> None:
            peers.append(peer)
            socket_.send(data[::-1], peer)

        socket_ = await dtls(udp(), ours(kind, server=True), timing=QUICK)(echo)
        said = await said_by(
            str(python), str(Path(__file__).with_name("mbed_tls_client.py")), str(socket_.address[1]), *options
        )
        socket_.close()
        return said

    suite, *answers = asyncio.run(run()).decode().splitlines()
    assert suite.split()[0].endswith("WITH-AES-128-CCM-8")
    assert answers == ["olleh", "niaga olleh"]
    assert peers[0] == peers[1]


# -- servers of others, asked by our client ----------------------------------------------------------


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program meanwhile."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_coap_server_is_asked_and_observed(library: str, kind: str, tmp_path: Path) -> None:
    server = program(f"coap-server-{library}")
    port = free_port()
    options = libcoaps(kind, tmp_path, server=True)

    async def run() -> None:
        async with running(server, "-A", "127.0.0.1", "-p", str(port - 1), "-d", "10", *options):
            peer = Connection("127.0.0.1", port, "coaps")
            opener = dtls_to(udp(), peer, ours(kind, server=False), timing=QUICK)
            client = await Endpoint.open(opener, parameters=TransmissionParameters(ack_timeout=0.5))
            put = Message(code=codes.PUT, uri_path=("example_data",), payload=BODY)
            assert (await client.request(put, peer, block_size=512)).code in (codes.CREATED, codes.CHANGED)
            get = Message(code=codes.GET, uri_path=("example_data",))
            assert (await client.request(get, peer, block_size=512)).payload == BODY
            told: asyncio.Queue[Message] = asyncio.Queue()
            observation = await client.observe(Message(code=codes.GET, uri_path=("time",)), peer, told.put_nowait)
            assert (await asyncio.wait_for(told.get(), 60)).payload
            await observation.cancel()
            identity = client.identity(peer)
            assert identity is not None
            assert identity.name == ("device" if kind == "psk" else "libcoap")
            await client.close()

    asyncio.run(run())


@pytest.mark.parametrize("library", LIBRARIES)
def test_coap_server_with_another_key_falls_silent_and_the_hint_says_why(library: str) -> None:
    server = program(f"coap-server-{library}")
    port = free_port()

    async def run() -> HandshakeFailed:
        async with running(server, "-A", "127.0.0.1", "-p", str(port - 1), "-k", "another"):
            opener = dtls_to(
                udp(), ("127.0.0.1", port), ours("psk", server=False), timing=Timing(first=0.1, longest=0.4, limit=2)
            )
            with pytest.raises(HandshakeFailed) as failed:
                await Endpoint.open(opener)
            return failed.value

    failure = asyncio.run(run())
    assert failure.reason in ("timed out", "wrong key")
    assert "key" in str(failure)


# -- openssl -----------------------------------------------------------------------------------------

HEX_KEY = KEY.encode().hex()


def openssls(kind: str, folder: Path) -> tuple[str, ...]:
    if kind == "certificates":
        certificate, key, ca = CA.write(folder, "openssl")
        return "-cert", str(certificate), "-key", str(key), "-CAfile", str(ca), "-verify_return_error"
    return "-psk_identity", "device", "-psk", HEX_KEY, "-cipher", "PSK-AES128-CCM8:PSK-AES128-GCM-SHA256:@SECLEVEL=0"


@pytest.mark.parametrize("kind", KINDS)
def test_s_client_is_answered(kind: str, tmp_path: Path) -> None:
    openssl = program("openssl")

    async def run() -> bytes:
        socket_: DatagramSocket

        def echo(data: bytes, peer: Address) -> None:
            socket_.send(data[::-1], peer)

        socket_ = await dtls(udp(), ours(kind, server=True), timing=QUICK)(echo)
        process = await asyncio.create_subprocess_exec(
            *(
                openssl,
                "s_client",
                "-dtls1_2",
                "-connect",
                f"127.0.0.1:{socket_.address[1]}",
                *openssls(kind, tmp_path),
            ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"hello\n")
        said = b""
        while b"\nolleh" not in said:
            piece = await asyncio.wait_for(process.stdout.read(4096), 60)
            assert piece, said.decode()
            said += piece
        process.stdin.write(b"Q\n")
        await process.communicate()
        socket_.close()
        return said

    assert b"Extended master secret: yes" in asyncio.run(run())


@pytest.mark.parametrize("wrong", [("-psk", "00" * 16), ("-psk_identity", "nobody")], ids=["key", "identity"])
def test_s_client_with_a_wrong_key_or_identity_is_refused(wrong: tuple[str, str], tmp_path: Path) -> None:
    openssl = program("openssl")

    async def run() -> list[str]:
        async with shelf_of(ours("psk", server=True)) as shelf:
            assert shelf.endpoint is not None
            where = f"127.0.0.1:{shelf.endpoint.address[1]}"
            await said_by(
                openssl, "s_client", "-dtls1_2", "-connect", where, *openssls("psk", tmp_path), *wrong, tell=b""
            )
            return [failure.reason for failure in shelf.failures]

    assert asyncio.run(run()) == ["wrong key" if wrong[0] == "-psk" else "unknown identity"]


def test_s_client_that_does_not_trust_our_ca_says_so(tmp_path: Path) -> None:
    openssl = program("openssl")
    _, _, other = Authority("Other CA").write(tmp_path, "other")

    async def run() -> list[HandshakeFailed]:
        async with shelf_of(ours("certificates", server=True)) as shelf:
            assert shelf.endpoint is not None
            where = f"127.0.0.1:{shelf.endpoint.address[1]}"
            options = (*openssls("certificates", tmp_path), "-CAfile", str(other))
            said = await said_by(openssl, "s_client", "-dtls1_2", "-connect", where, *options, tell=b"")
            assert b"unable to get local issuer certificate" in said
            return shelf.failures

    (failure,) = asyncio.run(run())
    assert (failure.reason, failure.alert) == ("unknown CA", 48)
    assert "it ended it with alert unknown_ca (48)" in failure.message


@pytest.mark.parametrize("cookies", [(), ("-listen",)], ids=["at once", "with a cookie"])
@pytest.mark.parametrize("kind", KINDS)
def test_s_server_is_spoken_to(kind: str, cookies: tuple[str, ...], tmp_path: Path) -> None:
    openssl = program("openssl")
    port = free_port()
    options = openssls(kind, tmp_path)
    if kind == "certificates":
        options += ("-Verify", "2")
    else:
        options = (*options, "-nocert")

    async def run() -> bytes:
        command = (openssl, "s_server", "-dtls1_2", "-accept", f"127.0.0.1:{port}", "-quiet", *cookies, *options)
        async with running(*command) as process:
            assert process.stdin is not None and process.stdout is not None
            heard: asyncio.Queue[bytes] = asyncio.Queue()
            opener = dtls_to(udp(), ("127.0.0.1", port), ours(kind, server=False), timing=QUICK)
            client = await opener(lambda data, peer: heard.put_nowait(data))
            client.send(b"from us\n", Connection("127.0.0.1", port, "coaps"))
            said = await asyncio.wait_for(process.stdout.readline(), 60)
            process.stdin.write(b"from openssl\n")
            said += await asyncio.wait_for(heard.get(), 60)
            client.close()
            return said

    assert asyncio.run(run()) == b"from us\nfrom openssl\n"
