"""CoAP over TCP and TLS with libcoap (without TLS, on OpenSSL and on GnuTLS), and TLS with openssl's own programs."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import HandshakeStep, Security
from pdmlab.coap.tcp import tcp, tcp_to
from pdmlab.coap.tls import tls, tls_to
from pdmlab.coap.transport import Connection, Opener
from pdmlab.errors import HandshakeFailed
from tests.coap.certificates import Authority
from tests.coap.peers import SOON, Ear
from tests.coap.test_dtls_programs import BODY, CA, Shelf, libcoaps, ours, running, said_by
from tests.tools import program

pytestmark = pytest.mark.debian

LIBRARIES = ("openssl", "gnutls")
KINDS = ("psk", "certificates")
SUITE = "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"


# -- clients of others, at our server ----------------------------------------------------------------

Ask = Callable[..., Awaitable[bytes]]


def with_client(
    client: str, options: tuple[str, ...], security: Security | None, story: Callable[[Shelf, Ask], Awaitable[None]]
) -> None:
    """Run a story with our server, over TLS or without security, and a program of libcoap's to ask it."""
    path = program(f"coap-client-{client}")

    async def run() -> None:
        shelf = Shelf()
        if security is None:
            shelf.endpoint = await Endpoint.open(tcp(), shelf)
        else:
            told = replace(security, names_failure=lambda peer, failure: shelf.failures.append(failure))
            shelf.endpoint = await Endpoint.open(tls("127.0.0.1", 0, told), shelf)
        scheme, port = "coap+tcp" if security is None else "coaps+tcp", shelf.endpoint.address[1]

        async def ask(method: str, resource: str, *more: str) -> bytes:
            return await said_by(
                path, "-B", "20", "-m", method, *options, *more, f"{scheme}://127.0.0.1:{port}/{resource}"
            )

        try:
            await story(shelf, ask)
            assert shelf.endpoint.malformed == 0
        finally:
            await shelf.endpoint.close()

    asyncio.run(run())


async def all_methods(shelf: Shelf, ask: Ask, folder: Path) -> None:
    """Get, put, and move 4 KiB both ways: more than a message may have here, so in blocks."""
    assert (await ask("get", "small")).rstrip(b"\n") == b"hello"
    await ask("put", "small", "-e", "other")
    assert shelf.kept["small"] == b"other"
    body, got = folder / "body", folder / "got"
    body.write_bytes(BODY)
    await ask("put", "put", "-f", str(body))
    assert shelf.kept["put"] == BODY
    await ask("get", "large", "-o", str(got))
    assert got.read_bytes() == BODY
    await ask("get", "large", "-b", "64", "-o", str(got))
    assert got.read_bytes() == BODY


@pytest.mark.parametrize("client", ["notls", *LIBRARIES])
def test_coap_client_over_tcp(client: str, tmp_path: Path) -> None:
    with_client(client, (), None, lambda shelf, ask: all_methods(shelf, ask, tmp_path))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("client", LIBRARIES)
def test_coap_client_over_tls_is_known(client: str, kind: str, tmp_path: Path) -> None:
    async def story(shelf: Shelf, ask: Ask) -> None:
        await all_methods(shelf, ask, tmp_path)
        expected = ("certificate", "libcoap") if kind == "certificates" else ("psk", "device")
        assert {(each.kind, each.name) for each in shelf.identities if each} == {expected}
        assert shelf.failures == [] and None not in shelf.identities

    with_client(client, libcoaps(kind, tmp_path, server=False), ours(kind, server=True), story)


@pytest.mark.parametrize("client", ["notls", *LIBRARIES])
def test_coap_client_observes(client: str, tmp_path: Path) -> None:
    async def story(shelf: Shelf, ask: Ask) -> None:
        async def tell() -> list[str]:
            assert shelf.endpoint is not None
            while shelf.observer is None:
                await asyncio.sleep(0.01)
            peer, token = shelf.observer
            outcomes: list[str] = []
            for n in (2, 3):
                value = Message(code=codes.CONTENT, payload=b"told %d;" % n, observe=n)
                shelf.endpoint.notify(peer, value, token, on_result=outcomes.append)
            while len(outcomes) < 2:
                await asyncio.sleep(0.01)
            return outcomes

        said, outcomes = await asyncio.gather(ask("get", "small", "-s", "1", "-w"), tell())
        assert said.split() == [b"hello", b"told", b"2;", b"told", b"3;"]
        assert outcomes == ["acknowledged"] * 2

    secured = client != "notls"
    options = libcoaps("certificates", tmp_path, server=False) if secured else ()
    with_client(client, options, ours("certificates", server=True) if secured else None, story)


@pytest.mark.parametrize("client", LIBRARIES)
def test_coap_client_of_another_ca_is_refused_with_the_reason(client: str, tmp_path: Path) -> None:
    certificate, key, _ = Authority("Other CA").write(tmp_path, "stranger")
    _, _, ca = CA.write(tmp_path, "trusted")

    async def story(shelf: Shelf, ask: Ask) -> None:
        assert b"hello" not in await ask("get", "small", "-B", "2")
        assert {failure.reason for failure in shelf.failures} == {"unknown CA"}
        assert "Other CA" in shelf.failures[0].message
        assert shelf.identities == []

    options = "-c", str(certificate), "-j", str(key), "-C", str(ca)
    with_client(client, options, ours("certificates", server=True), story)


@pytest.mark.parametrize("client", LIBRARIES)
def test_coap_client_with_another_key_is_refused_with_the_reason(client: str, tmp_path: Path) -> None:
    async def story(shelf: Shelf, ask: Ask) -> None:
        assert b"hello" not in await ask("get", "small", "-B", "2")
        assert {failure.reason for failure in shelf.failures} == {"wrong key"}

    with_client(client, ("-k", "another key 1234", "-u", "device"), ours("psk", server=True), story)


# -- servers of others, asked by our client ----------------------------------------------------------


def two_ports() -> int:
    """Return a number that is free for TCP and UDP, as is the next one, where libcoap's server has its secure ones."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@asynccontextmanager
async def served_by(library: str, *options: str) -> AsyncIterator[int]:
    """Run libcoap's server, and wait until its TCP port is there."""
    port = two_ports()
    async with running(program(f"coap-server-{library}"), "-A", "127.0.0.1", "-p", str(port), "-d", "10", *options):
        async with asyncio.timeout(SOON):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    break
        yield port


async def ask_everything(opener: Opener, peer: Connection) -> Endpoint:
    """Ask libcoap's example server for what it has; return the endpoint, still open."""
    client = await Endpoint.open(opener)
    put = Message(code=codes.PUT, uri_path=("example_data",), payload=BODY)
    assert (await client.request(put, peer)).code in (codes.CREATED, codes.CHANGED)
    assert (await client.request(Message(code=codes.GET, uri_path=("example_data",)), peer)).payload == BODY
    told: asyncio.Queue[Message] = asyncio.Queue()
    observation = await client.observe(Message(code=codes.GET, uri_path=("time",)), peer, told.put_nowait)
    for _ in range(2):
        assert (await asyncio.wait_for(told.get(), SOON)).payload
    await observation.cancel()
    assert client.malformed == 0
    return client


@pytest.mark.parametrize("library", ["notls", *LIBRARIES])
def test_coap_server_over_tcp(library: str) -> None:
    async def run() -> None:
        async with served_by(library) as port:
            peer = Connection("127.0.0.1", port, "coap+tcp")
            client = await ask_everything(tcp_to(peer, framing="rfc8323"), peer)
            await client.close()

    asyncio.run(run())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_coap_server_over_tls(library: str, kind: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served_by(library, *libcoaps(kind, tmp_path, server=True)) as port:
            peer = Connection("127.0.0.1", port + 1, "coaps+tcp")
            client = await ask_everything(tls_to(peer, ours(kind, server=False), framing="rfc8323"), peer)
            identity = client.identity(peer)
            assert identity is not None
            assert identity.name == ("device" if kind == "psk" else "libcoap")
            await client.close()

    asyncio.run(run())


@pytest.mark.parametrize("library", LIBRARIES)
def test_coap_server_of_another_ca_is_refused(library: str, tmp_path: Path) -> None:
    async def run() -> HandshakeFailed:
        async with served_by(library, *libcoaps("certificates", tmp_path, server=True)) as port:
            stranger = replace(CA.security("x"), trust=(Authority("Other CA").der,))
            with pytest.raises(HandshakeFailed) as failed:
                await Endpoint.open(tls_to(("127.0.0.1", port + 1), stranger, framing="rfc8323"))
            return failed.value

    failure = asyncio.run(run())
    assert (failure.reason, "Test CA" in failure.message) == ("unknown CA", True)


# -- openssl -----------------------------------------------------------------------------------------


def openssls(folder: Path, authority: Authority = CA) -> tuple[str, ...]:
    """Return the options for a side of openssl's that has a certificate and checks ours."""
    certificate, key, _ = authority.write(folder, "openssl")
    _, _, ca = CA.write(folder, "trusted")
    return "-cert", str(certificate), "-key", str(key), "-CAfile", str(ca), "-verify_return_error"


@asynccontextmanager
async def our_server(security: Security) -> AsyncIterator[tuple[Any, list[HandshakeStep], list[HandshakeFailed]]]:
    """Open a server that sends each message back the other way round."""
    steps: list[HandshakeStep] = []
    failures: list[HandshakeFailed] = []
    told = replace(
        security,
        tells=lambda peer, step: steps.append(step),
        names_failure=lambda peer, failure: failures.append(failure),
    )
    server = await tls("127.0.0.1", 0, told)(lambda data, peer: server.send(data[::-1], peer))
    try:
        yield server, steps, failures
    finally:
        server.close()


async def s_client(port: int, *options: str, version: str = "-tls1_2", tell: str = "") -> bytes:
    """Run openssl s_client to its end; it leaves when its input does."""
    command = program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", version
    return await said_by(*command, *options, tell=tell.encode())


def test_s_client_shakes_hands_with_its_certificate_and_one_suite(tmp_path: Path) -> None:
    async def run() -> None:
        async with our_server(CA.security("our end")) as (server, steps, failures):
            said = await s_client(server.address[1], *openssls(tmp_path), "-cipher", SUITE)
            assert b"Cipher is ECDHE-ECDSA-AES128-CCM8" in said
            assert b"Verify return code: 0 (ok)" in said
            done = [step for step in steps if step.what == "completed"]
            assert [(step.identity.name, step.suite) for step in done if step.identity] == [
                ("openssl", "ECDHE-ECDSA-AES128-CCM8")
            ]
            assert failures == []

    asyncio.run(run())


def test_s_client_is_answered_record_by_record(tmp_path: Path) -> None:
    """What it reads from its input goes into one record; with -msg it tells of each that comes."""

    async def run() -> None:
        async with our_server(CA.security("our end")) as (server, _, _):
            command = ("s_client", "-connect", f"127.0.0.1:{server.address[1]}", "-tls1_2", "-quiet", "-no_ign_eof")
            async with running(program("openssl"), *command, *openssls(tmp_path), "-cipher", SUITE) as client:
                assert client.stdin is not None and client.stdout is not None
                client.stdin.write(b"DCBA@\n")  # in mirror writing, and an odd message of the stock client's
                await client.stdin.drain()
                async with asyncio.timeout(SOON):
                    assert await client.stdout.readexactly(6) == b"\n@ABCD"

    asyncio.run(run())


def test_s_client_resumes_its_session(tmp_path: Path) -> None:
    async def run() -> None:
        async with our_server(CA.security("our end")) as (server, steps, failures):
            kept = tmp_path / "session"
            options = (*openssls(tmp_path), "-cipher", SUITE)
            said = await s_client(server.address[1], *options, "-sess_out", str(kept))
            assert b"New, TLSv1.2" in said and b"TLS session ticket:" not in said
            said = await s_client(server.address[1], *options, "-sess_in", str(kept))
            assert b"Reused, TLSv1.2" in said
            said = await s_client(server.address[1], *options, "-reconnect")
            assert said.count(b"Reused, TLSv1.2") == 5
            done = [step for step in steps if step.what == "completed"]
            assert [step.resumed for step in done] == [False, True, False, *[True] * 5]
            assert {step.identity.name for step in done if step.identity} == {"openssl"}
            assert failures == []

    asyncio.run(run())


def test_s_client_is_told_that_this_is_coap(tmp_path: Path) -> None:
    """RFC 8323 section 8.2; who offers other protocols, or none, is answered too."""

    async def run() -> None:
        async with our_server(CA.security("our end")) as (server, _, failures):
            for offered, chosen in (("h2,coap", b"ALPN protocol: coap"), ("h2", b"No ALPN negotiated")):
                said = await s_client(server.address[1], *openssls(tmp_path), "-cipher", SUITE, "-alpn", offered)
                assert chosen in said
            assert failures == []

    asyncio.run(run())


def test_s_client_may_renegotiate(tmp_path: Path) -> None:
    async def run() -> None:
        async with our_server(CA.security("our end")) as (server, steps, failures):
            said = await s_client(server.address[1], *openssls(tmp_path), "-cipher", SUITE, tell="R\n")
            assert b"RENEGOTIATING" in said
            async with asyncio.timeout(SOON):
                while len([step for step in steps if step.what == "completed"]) < 2:
                    await asyncio.sleep(0.01)
            assert failures == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("case", "reason", "alert"),
    [
        ("no certificate", "no certificate", b"handshake failure"),
        ("another CA", "unknown CA", b"unknown ca"),
        ("another suite", "no common suite", b"handshake failure"),
        ("another version", "wrong version", b"protocol version"),
        ("does not trust us", "unknown CA", b"verify error"),
    ],
)
def test_s_client_that_may_not_come_in_is_named(case: str, reason: str, alert: bytes, tmp_path: Path) -> None:
    async def run() -> None:
        async with our_server(CA.security("our end")) as (server, _, failures):
            good = openssls(tmp_path)
            options = {
                "no certificate": ("-cipher", SUITE),
                "another CA": (*openssls(tmp_path, Authority("Other CA")), "-cipher", SUITE),
                "another suite": (*good, "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"),
                "another version": (*good, "-cipher", "ALL:@SECLEVEL=0"),
                "does not trust us": (*good, "-CAfile", str(Authority("x").write(tmp_path, "y")[2]), "-cipher", SUITE),
            }[case]
            version = "-tls1_1" if case == "another version" else "-tls1_2"
            said = await s_client(server.address[1], *options, version=version)
            assert re.search(alert.replace(b" ", b"."), said.lower())
            async with asyncio.timeout(SOON):
                while not failures:
                    await asyncio.sleep(0.01)
            assert [failure.reason for failure in failures] == [reason]

    asyncio.run(run())


@asynccontextmanager
async def s_server(*options: str) -> AsyncIterator[tuple[int, asyncio.subprocess.Process]]:
    """Run openssl s_server, and wait until it listens."""
    port = two_ports()
    async with running(
        program("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_2", "-naccept", "10", *options
    ) as process:
        assert process.stdout is not None
        async with asyncio.timeout(SOON):
            while b"ACCEPT" not in await process.stdout.readline():
                pass
        yield port, process


def test_s_server_with_one_suite_asks_for_our_certificate_and_resumes_our_session(tmp_path: Path) -> None:
    async def run() -> None:
        steps: list[HandshakeStep] = []
        mine = replace(CA.security("our end"), tells=lambda peer, step: steps.append(step))
        options = (*openssls(tmp_path), "-cipher", SUITE, "-Verify", "1", "-no_ticket", "-rev")
        async with s_server(*options) as (port, _):
            kept: list[bytes] = []
            for n in range(2):
                ear = Ear()
                opener = tls_to(("127.0.0.1", port), mine, session=kept[0] if n else None, on_session=kept.append)
                client = await ear.open(opener)
                client.send(b"abcd\n", client.name)
                assert (await ear.heard())[0] == b"dcba\n"
                known = client.identity(client.name)
                assert known is not None and known.name == "openssl"
                client.close()
            done = [step for step in steps if step.what == "completed"]
            assert [(step.suite, step.resumed) for step in done] == [
                ("ECDHE-ECDSA-AES128-CCM8", False),
                ("ECDHE-ECDSA-AES128-CCM8", True),
            ]

    asyncio.run(run())


def test_s_server_of_another_ca_or_without_our_suite_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        async with s_server(*openssls(tmp_path, Authority("Other CA")), "-cipher", SUITE) as (port, _):
            with pytest.raises(HandshakeFailed) as failed:
                await Ear().open(tls_to(("127.0.0.1", port), CA.security("our end")))
            assert (failed.value.reason, "Other CA" in failed.value.message) == ("unknown CA", True)
        async with s_server(*openssls(tmp_path), "-cipher", "ECDHE-RSA-AES128-GCM-SHA256") as (port, _):
            with pytest.raises(HandshakeFailed) as failed:
                await Ear().open(tls_to(("127.0.0.1", port), CA.security("our end")))
            assert (failed.value.reason, failed.value.alert) == ("no common suite", 40)

    asyncio.run(run())
