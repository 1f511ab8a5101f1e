"""The two ends of a desk's network, each a process in a network namespace of its own: a service, and who reaches it.

`python -m tests.service.lan serve HOST` and `… reach` say a line when they run, wait for a line until the network is
there, and say what they found as JSON. They end when their input does, and a namespace ends with its process.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.dtls import dtls_to
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import Security
from pdmlab.coap.tcp import tcp_to
from pdmlab.coap.tls import tls_to
from pdmlab.coap.transport import Address, Connection, Opener, udp
from pdmlab.errors import NetworkError
from pdmlab.service import serve
from pdmlab.update.credentials import Credentials

IMAGE = bytes(range(256)) * 1000


def server(host: str) -> None:
    """Run a service at an address; say what a device is told, and where anything listens."""
    with serve(host=host) as service:
        answer = httpx.post(
            f"{service.url}/v3/firmware-images",
            files={"datafile": IMAGE},
            data={"name": "image"},
            headers={"Authorization": f"Bearer {service.api_key}"},
        )
        say(
            credentials=service.credentials(endpoint_name="desk1").to_c(),
            lwm2m_uri=service.lwm2m_uri,
            image=answer.json()["datafile"],
            rest=service.url,
            https=service.https_url,
            ca=service.ca_file.read_text(),
            key=service.api_key,
            addresses=service.addresses,
            listening=sorted(listening()),
            shown=repr(service),
        )
        sys.stdin.readline()


def listening() -> set[tuple[str, str, int]]:
    """Return transport, address and port of every socket in this namespace that takes what comes."""
    found = set()
    for name, state in (("tcp", "0A"), ("udp", "07")):  # TCP_LISTEN; of UDP, not connected
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == state:
                address, _, port = fields[1].partition(":")
                found.add((name, socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


def client() -> None:
    """Try every way to a service, and say what came of each."""
    for line in sys.stdin:
        say(**asyncio.run(tried(json.loads(line))))


async def tried(told: dict[str, Any]) -> dict[str, Any]:
    credentials = Credentials.from_c(told["credentials"])
    assert credentials.bootstrap_device_certificate and credentials.bootstrap_server_root_ca_certificate
    security = Security(
        (credentials.bootstrap_device_certificate,),
        credentials.bootstrap_device_private_key,
        trust=(credentials.bootstrap_server_root_ca_certificate,),
    )
    found: dict[str, Any] = {}
    for role, uri in (("bootstrap", credentials.bootstrap_server_uri), ("lwm2m", told["lwm2m_uri"])):
        url = httpx.URL(uri)
        assert url.port is not None
        address = url.host, url.port
        here = "::" if ":" in url.host else "0.0.0.0"
        ways: dict[str, tuple[Opener, Address]] = {
            "DTLS": (dtls_to(udp(here), address, security), Connection(*address, "coaps")),
            "TLS": (tls_to(address, security), Connection(*address, "coaps+tcp")),
            "UDP": (udp(here), address),
            "TCP": (tcp_to(address), Connection(*address, "coap+tcp")),
        }
        for way, (opener, peer) in ways.items():
            found[f"{way} {role}"] = await discovered(opener, peer)
    image = httpx.URL(told["image"])
    async with httpx.AsyncClient() as http:
        whole = await http.get(image)
        rest = await http.get(image, headers={"Range": "bytes=255000-"})
        other = await http.get(image.copy_with(path="/v3/devices"))
        found["image"] = [whole.content == IMAGE, rest.status_code, rest.content == IMAGE[255000:], other.status_code]
        try:
            await http.get(httpx.URL(told["rest"]).copy_with(host=image.host))
            found["REST"] = "answers"
        except httpx.ConnectError:
            found["REST"] = "refused"
        try:
            await http.get(httpx.URL(told["https"]).copy_with(scheme="http"))
            found["REST by HTTP"] = "answers"
        except httpx.RemoteProtocolError:
            found["REST by HTTP"] = "hangs up"
    context = ssl.create_default_context(cadata=told["ca"])
    async with httpx.AsyncClient(verify=context, headers={"Authorization": f"Bearer {told['key']}"}) as https:
        answer = await https.get(told["https"] + "/v3/accounts/me")
        found["HTTPS"] = [answer.status_code, answer.json()["object"]]
    found["by program"] = await asyncio.to_thread(programs, told)
    return found


def programs(told: dict[str, Any]) -> dict[str, str]:
    """Ask for the account by programs that are told of the CA's certificate, and look at the TLS there is."""
    url, host = told["https"] + "/v3/accounts/me", httpx.URL(told["https"])
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as ca:
        ca.write(told["ca"])
        ca.flush()
        asked = "import requests, sys; print(requests.get(sys.argv[1], headers={'Authorization': sys.argv[2]}).json())"
        bearer = f"Bearer {told['key']}"
        peer = ["-connect", host.netloc.decode(), "-verify_ip", host.host, "-verify_return_error", "-x509_strict"]
        commands = {
            "curl": ["curl", "-sS", "--cacert", ca.name, "-H", f"Authorization: {bearer}", url],
            "requests": [sys.executable, "-c", asked, url, bearer],
            "openssl": ["openssl", "s_client", *peer, "-CAfile", ca.name],
            "openssl without the CA": ["openssl", "s_client", *peer, "-CAfile", "/dev/null"],
        }
        environment = {"PATH": os.environ["PATH"], "REQUESTS_CA_BUNDLE": ca.name}
        return {name: _said_by(command, environment) for name, command in commands.items()}


def _said_by(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, input="", capture_output=True, text=True, timeout=30)
    return f"{done.returncode} {done.stdout}"


async def discovered(opener: Opener, peer: Address) -> str:
    """Ask for /.well-known/core; return what is there, or why not."""
    request = Message(code=codes.GET)
    request.opt.uri_path = (".well-known", "core")
    try:
        endpoint = await Endpoint.open(opener)
    except NetworkError as error:
        return type(error).__name__
    try:
        async with asyncio.timeout(10):
            answer = await endpoint.request(request, peer)
        return f"{answer.code.dotted} {answer.payload.decode()}"
    except (NetworkError, TimeoutError) as error:
        return type(error).__name__
    finally:
        await endpoint.close()


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    say(ready=True)
    sys.stdin.readline()
    server(sys.argv[2]) if sys.argv[1] == "serve" else client()
