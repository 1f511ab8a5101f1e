"""Devices with certificates, as the stock client has them: built with one, told another, and asked for a third."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from aiocoap import Message
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.router import Router
from pdmlab.coap.transport import Address, Identity
from pdmlab.lwm2m import tlv
from tests.service.corelab import CoreLab, FakeDevice, request

_ports = itertools.count(20_000)


def name_of(certificate: bytes) -> dict[str, str]:
    """Return CN, L and OU of a certificate."""
    subject = x509.load_der_x509_certificate(certificate).subject
    return {each.rfc4514_attribute_name: str(each.value) for each in subject}


def csr(key: ec.EllipticCurvePrivateKey, **subject: str) -> bytes:
    """Return a PKCS#10 request as the stock client makes it: L, OU and CN, SHA-256, no extensions."""
    oids = {"L": NameOID.LOCALITY_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "CN": NameOID.COMMON_NAME}
    name = x509.Name([x509.NameAttribute(oids[part], value) for part, value in subject.items()])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)


def leaf_of(payload: bytes) -> bytes:
    """Return the first certificate of an EST answer: version, count, then each behind its length."""
    assert payload[0] == 1 and payload[1] >= 1
    return payload[4 : 4 + int.from_bytes(payload[2:4], "big")]


class SecureDevice(FakeDevice):
    """A device that comes over connections; `own` is the certificate that it registers with."""

    key_s = 3.0

    def __init__(self, lab: CoreLab, name: str, *, built_with: bytes = b"", **options: Any) -> None:
        super().__init__(lab, name, **options)
        self.built_with = built_with
        self.own = b""
        self.above: tuple[bytes, ...] = ()  # certificates that lead from its own to the CA
        self.port = 0
        self.enrolls = True
        self.enrolled = False

    @property
    def id(self) -> str:
        return name_of(self.own)["L"]

    @property
    def service(self) -> Address:
        return self.lab.fabric.host("service").address, 5695

    @property
    def bootstrap_server(self) -> Address:
        return self.lab.fabric.host("service").address, 5693

    @property
    def address(self) -> Address:
        return self.host.address, self.port

    async def power_on(self) -> None:
        self.boots += 1
        self.bootstrapped = asyncio.Event()

    async def connect(self, role: str, certificate: bytes | None = None, *, psk: str = "") -> None:
        """Open a connection, from a new port."""
        router = Router()
        for code in (codes.GET, codes.PUT, codes.POST, codes.DELETE):
            router.add(code, "**", self._answer)
        self.port = next(_ports)
        parameters = TransmissionParameters(block_size=512, empty_ack_tail=b"\xc0")
        self.endpoint = await Endpoint.open(self.host.opener(self.port), router, seed=self.port, parameters=parameters)
        if psk:
            identity = Identity("psk", psk)
        else:
            proof = certificate or (self.own if role == "lwm2m" else self.built_with)
            identity = Identity("certificate", name_of(proof).get("CN", ""), (proof, *self.above))
        self.lab.proven[role].identities[self.address] = identity

    async def disconnect(self, role: str, why: str = "the device closed the connection") -> None:
        self.lab.proven[role].end(self.address, why)
        await self.endpoint.close()

    async def close(self) -> None:
        if self.port:
            await self.endpoint.close()

    async def first_boot(self, *query: str) -> Message:
        """Bootstrap over a connection of its own, which ends with it."""
        await self.connect("bootstrap")
        answer = await self.bootstrap(*query)
        await asyncio.sleep(0.5)
        await self.disconnect("bootstrap")
        return answer

    async def register(self, *query: str, payload: bytes | None = None) -> Message:
        if not query:
            asked = self.uri.partition("?")[2].split("&")
            account = asked[0].removeprefix("aid=")
            query = (
                f"ep={self.name}",
                "et=default",
                f"lt={self.lifetime}",
                "lwm2m=1.0",
                f"d={account}",
                f"b={self.binding}",
                *asked,
                "mccv=4.13.2",
            )
        return await super().register(*query, payload=payload)

    async def come(self) -> Message:
        """Connect and register."""
        await self.connect("lwm2m")
        return await self.register()

    async def reconnect(self, away: float = 10.0) -> Message:
        """Lose the connection, come back after a while (s), and go on with an update, as the stock client does."""
        await self.disconnect("lwm2m")
        await asyncio.sleep(away)
        await self.connect("lwm2m")
        return await self.update()

    async def enroll(self, path: str = "est/sen", **subject: str) -> Message:
        """Ask for a certificate, and take it."""
        self.key = ec.generate_private_key(ec.SECP256R1())
        wanted = {"L": self.id, "OU": self.lab.core.account_id, "CN": self.name, **subject}
        message = request(codes.POST, path, payload=csr(self.key, **wanted), content_format=0)
        server = self.bootstrap_server if not self.location else self.service
        answer = await self.endpoint.request(message, server, block_size=512)
        if answer.code < 128:
            self.own = leaf_of(answer.payload)
        return answer

    def _configured(self, message: Message, path: str) -> Message:
        if message.code == codes.PUT and path == "/0":
            (instance,) = tlv.decode(message.payload)
            self.security = {entry.id: entry.value for entry in instance.entries}
            self.own = self.security.get(3, b"")
            return Message(code=codes.CHANGED)
        if path == "/bs":
            self.endpoint.acknowledge(message)  # five bytes, then the answer in a message of its own
            if self.security[2] == b"\x04":
                asyncio.get_running_loop().create_task(self._enroll(message.opt.uri_query))
                return Message(code=codes.CHANGED)
        return super()._configured(message, path)

    async def _enroll(self, query: tuple[str, ...]) -> None:
        (iep,) = query
        if self.enrolls:
            await asyncio.sleep(self.key_s)  # a microcontroller makes its key
            self.key = ec.generate_private_key(ec.SECP256R1())
            wanted = {"L": iep.partition("=")[2], "OU": self.lab.core.account_id, "CN": self.name}
            message = request(codes.POST, "est/sen", payload=csr(self.key, **wanted), content_format=0)
            answer = await self.endpoint.request(message, self.bootstrap_server, block_size=512)
            assert answer.code == codes.CHANGED, answer.payload
            self.own, self.enrolled = leaf_of(answer.payload), True
            self.bootstrapped.set()


class SharedKeyDevice(SecureDevice):
    """A device that proves itself by a pre-shared key, with or without bootstrap."""

    @property
    def id(self) -> str:
        return self.location[2]

    async def connect(self, role: str, certificate: bytes | None = None, *, psk: str = "") -> None:
        await super().connect(role, certificate, psk=psk or self.name)


async def secure_device(lab: CoreLab, name: str = "desk1", *, account_id: str = "", **options: Any) -> SecureDevice:
    """Return a device that is built with a developer certificate of its account."""
    core = lab.core
    row = core.developers.of_endpoint(account_id or core.account_id, name)
    built_with = x509.load_pem_x509_certificate(row["certificate"].encode()).public_bytes(serialization.Encoding.DER)
    device = SecureDevice(lab, name, built_with=built_with, **options)
    lab.devices.append(device)
    await device.power_on()
    return device


async def registered(lab: CoreLab, name: str = "desk1", **options: Any) -> SecureDevice:
    """Return a device that has bootstrapped and registered with a certificate."""
    device = await secure_device(lab, name, **options)
    assert (await device.first_boot()).code == codes.CHANGED
    assert (await device.come()).code == codes.CREATED
    return device
