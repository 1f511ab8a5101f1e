"""The same over DTLS and TLS, and handshakes: loads by libcoap's client, openssl s_time, and our own DTLS client."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from aiocoap import Message
from aiocoap.numbers import codes

from benchmarks import lean_coap
from benchmarks.side_by_side import IDENTITY, PSK, REPEATS, Comparison, Credentials, Done, Load, Server
from pdmlab.coap.dtls import dtls_to
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import Security
from pdmlab.coap.transport import Connection, udp

HANDSHAKES = 100
REQUESTS = 2000
AT_ONCE = 8
CIPHER = "ECDHE-ECDSA-AES128-GCM-SHA256"
AIM = 0.9
_CSM = b"\x00\xe1"

Connect = Callable[[Server, int], AbstractContextManager[None]]
"""Makes so many devices known to a server, or connected, while the block runs."""
Transfer = Callable[..., Load]


def options_of_server(credentials: Credentials) -> tuple[str, ...]:
    """Return coap-server's options for certificates and a pre-shared key."""
    certificate, key, ca = credentials.files("libcoap")
    return "-c", certificate, "-j", key, "-C", ca, "-k", PSK, "-h", "pdmlab"


def options_of_client(credentials: Credentials, kind: str) -> tuple[str, ...]:
    """Return coap-client's options for one of the two."""
    if kind == "psk":
        return "-u", IDENTITY, "-k", PSK
    certificate, key, ca = credentials.files("client")
    return "-c", certificate, "-j", key, "-C", ca


def security(credentials: Credentials, kind: str) -> Security:
    """Return our client's."""
    return (
        Security(psk=(IDENTITY.encode(), PSK.encode())) if kind == "psk" else credentials.authority.security("client")
    )


# -- connected devices -------------------------------------------------------------------------------


@contextmanager
def ask_once(server: Server, count: int) -> Iterator[None]:
    """Ask once over UDP, each time from another port."""
    for _ in range(count):
        lean_coap.put(server.address, b"value", b"21.5")
    yield


def tls_context(credentials: Credentials) -> ssl.SSLContext:
    """Return a client's context of the standard library."""
    certificate, key, ca = credentials.files("client")
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHER)
    context.load_cert_chain(certificate, key)
    return context


def tls_connection(server: Server, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Return a connection on which RFC 8323 has begun."""
    plain = socket.create_connection(("127.0.0.1", server.ports["coaps+tcp"]), timeout=10)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = context.wrap_socket(plain)
    connection.sendall(_CSM)
    return connection


def connect_tls(credentials: Credentials) -> Connect:
    """Return what connects by TLS."""

    @contextmanager
    def connect(server: Server, count: int) -> Iterator[None]:
        context = tls_context(credentials)
        with contextlib.ExitStack() as opened:
            for _ in range(count):
                opened.enter_context(tls_connection(server, context))
            time.sleep(0.5)  # until the last handshake is over at the server's end too
            yield

    return connect


def connect_dtls(credentials: Credentials) -> Connect:
    """Return what connects by DTLS with a certificate."""

    @contextmanager
    def connect(server: Server, count: int) -> Iterator[None]:
        secured = security(credentials, "certificate")
        loop = asyncio.new_event_loop()
        remote = "127.0.0.1", server.ports["coaps"]
        opened = []
        try:
            for _ in range(count):
                opener = dtls_to(udp(), remote, secured)
                opened.append(loop.run_until_complete(opener(lambda data, peer: None)))
            yield
        finally:
            for each in opened:
                each.close()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    return connect


# -- requests ----------------------------------------------------------------------------------------


def dtls_gets(credentials: Credentials, kind: str, under_way: int) -> Load:
    """Return a load of small GETs over DTLS by our client."""

    async def ask(server: Server) -> float:
        remote = "127.0.0.1", server.ports["coaps"]
        endpoint = await Endpoint.open(dtls_to(udp(), remote, security(credentials, kind)))
        peer = Connection(*remote, "coaps")

        async def some() -> None:
            for _ in range(REQUESTS // under_way):
                response = await endpoint.request(Message(code=codes.GET, uri_path=("value",)), peer)
                assert response.code == codes.CONTENT

        start = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(under_way)))
        seconds = time.perf_counter() - start
        await endpoint.close()
        return REQUESTS // under_way * under_way / seconds

    return lambda server: Done(asyncio.run(ask(server)), REQUESTS)


def tls_gets(credentials: Credentials, under_way: int) -> Load:
    """Return a load of small GETs over TLS by the standard library's, in RFC 8323's framing."""
    context = tls_context(credentials)
    request = b"\x61\x01\x01" + b"\xb5value"  # 6 B of options, a token of one
    answer = len(b"\x51\x45\x01\xff21.5")

    def load(server: Server) -> Done:
        with tls_connection(server, context) as connection:
            connection.sendall(request)
            time.sleep(0.2)
            connection.recv(4096)  # the server's own CSM, and the first answer
            sent = answered = received = 0
            start = time.perf_counter()
            while answered < REQUESTS:
                while sent < REQUESTS and sent - answered < under_way:
                    connection.sendall(request)
                    sent += 1
                received += len(connection.recv(4096))
                answered = received // answer
            return Done(REQUESTS / (time.perf_counter() - start), REQUESTS)

    return load


def bench_requests(
    servers: tuple[Server, Server], credentials: Credentials, transfer: Transfer, sizes: tuple[int, ...]
) -> None:
    """Compare the servers' ends over DTLS and TLS."""
    comparison = Comparison(f"CoAP over DTLS and TLS, server end: medians of {REPEATS}, with coap-server-openssl")
    for server in servers:
        transfer("put", 1024, credentials.folder)(server)
    for under_way, what in ((1, "one by one"), (16, "16 under way")):
        load = dtls_gets(credentials, "psk", under_way)
        comparison.row(f"DTLS PSK, small GET, {what}", "requests/s", load, servers, AIM)
    for under_way, what in ((1, "one by one"), (16, "16 under way")):
        comparison.row(f"TLS, small GET, {what}", "requests/s", tls_gets(credentials, under_way), servers, AIM)
    for scheme, kind in (("coaps", "psk"), ("coaps+tcp", "certificate")):
        options = options_of_client(credentials, kind)
        for method in ("get", "put"):
            for size in sizes:
                what = f"{'DTLS' if scheme == 'coaps' else 'TLS'}, {method.upper()} 1 MiB in {size} B"
                load = transfer(method, size, credentials.folder, scheme, *options)
                comparison.row(what, "MB/s", load, servers, AIM)


# -- handshakes --------------------------------------------------------------------------------------


def dtls_handshakes(credentials: Credentials, kind: str) -> Load:
    """Return a load of handshakes of our DTLS client, some at once."""

    async def shake(server: Server) -> float:
        remote, secured = ("127.0.0.1", server.ports["coaps"]), security(credentials, kind)

        async def some() -> None:
            for _ in range(HANDSHAKES // AT_ONCE):
                (await dtls_to(udp(), remote, secured)(lambda data, peer: None)).close()

        start = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(AT_ONCE)))
        return HANDSHAKES // AT_ONCE * AT_ONCE / (time.perf_counter() - start)

    return lambda server: Done(asyncio.run(shake(server)), HANDSHAKES)


def tls_handshakes(credentials: Credentials) -> Load:
    """Return a load of full handshakes by openssl s_time for two seconds."""
    certificate, key, ca = credentials.files("client")
    command = ("openssl", "s_time", "-new", "-time", "2", "-tls1_2", "-cipher", CIPHER)
    files = ("-cert", certificate, "-key", key, "-CAfile", ca)

    def load(server: Server) -> Done:
        connect = f"127.0.0.1:{server.ports['coaps+tcp']}"
        start = time.perf_counter()
        done = subprocess.run([*command, *files, "-connect", connect], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
        count = re.search(r"^(\d+) connections in [\d.]+ real seconds", done.stdout, re.MULTILINE)
        assert count is not None, done.stdout
        return Done(int(count[1]) / seconds, int(count[1]))

    return load


def bench_handshakes(servers: tuple[Server, Server], credentials: Credentials) -> None:
    """Compare full, mutual handshakes."""
    comparison = Comparison("Handshakes: DTLS by our client, 8 at once; TLS by openssl s_time, one after the other")
    comparison.row("DTLS, PSK", "handshakes/s", dtls_handshakes(credentials, "psk"), servers)
    comparison.row("DTLS, X.509", "handshakes/s", dtls_handshakes(credentials, "certificate"), servers)
    comparison.row("TLS, X.509", "handshakes/s", tls_handshakes(credentials), servers)
