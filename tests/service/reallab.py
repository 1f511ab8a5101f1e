"""A core behind real sockets on loopback (TLS, DTLS, TCP, UDP), and devices that prove themselves by cryptography."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.capture import MessageLog
from pdmlab.coap.dtls import dtls_to
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.router import Router
from pdmlab.coap.security import Security
from pdmlab.coap.tcp import tcp_to
from pdmlab.coap.tls import tls_to
from pdmlab.coap.transport import Address, Connection, Opener, Scheme, udp
from pdmlab.service.associations import Associations
from pdmlab.service.certificates import key_der
from pdmlab.service.core import Core
from pdmlab.service.openers import Wanted, server_opener
from tests.service.corelab import CoreLab
from tests.service.secure import SecureDevice

Carrier = Literal["tls", "dtls"]
PATIENCE_S = 30.0
SCHEMES: dict[Carrier, Scheme] = {"tls": "coaps+tcp", "dtls": "coaps"}


class RealLab(CoreLab):
    """The lab of corelab, on a real loop."""

    def __init__(self, database: Path) -> None:
        self.url = f"sqlite:///{database}"
        self.log = MessageLog(clock="host")
        self.devices = []
        self.key = self.key_id = ""
        self.ports: dict[str, tuple[int, int]] = {}

    async def start(self) -> None:
        self.core = core = Core(self.url, log=self.log)
        core.store.open()
        openers = {}
        for role in ("bootstrap", "lwm2m"):
            secure, plain = self.ports.get(role, (0, 0))
            openers[role] = server_opener(
                "127.0.0.1", core.security(role), Associations(core.store, role), Wanted(secure), Wanted(plain)
            )
        await core.start(**openers)
        for role in ("bootstrap", "lwm2m"):
            found = core._addresses[role]
            self.ports[role] = found["coaps"][1], found["coap"][1]
        if not self.key:
            row, self.key = core.accounts.create_key(core.account_id, "tests")
            self.key_id = row["id"]

    def host(self, name: str, link: object) -> Any:
        """Return nothing: devices have this machine's sockets."""
        return None

    def now(self) -> float:
        return time.time()

    async def restart(self, *, away: float = 0.0, kill: bool = False) -> None:
        """Stop the service, or kill it, and start it at the same ports."""
        if kill:
            for endpoint in self.core._endpoints.values():
                endpoint.abort()
            self.core._endpoints.clear()
        await self.core.stop()
        await self.start()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.002)


def real(story: Callable[[RealLab], Awaitable[None]], database: Path) -> None:
    """Play a story; the loop must have nothing to complain of."""
    failures: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        lab = RealLab(database)
        await lab.start()
        try:
            await story(lab)
        finally:
            await lab.close()

    asyncio.run(run())
    assert failures == []


class RealDevice(SecureDevice):
    """A device over real sockets; certificates come with their keys."""

    lab: RealLab
    key_s = 0.0

    def __init__(self, lab: RealLab, name: str, carrier: Carrier, built_with: bytes = b"", key: bytes = b"") -> None:
        self.carrier = carrier
        self.built_with_key = key
        self.session: bytes | None = None
        self.aobs = {}
        super().__init__(lab, name, built_with=built_with)

    def _server(self, role: str) -> Address:
        return Connection("127.0.0.1", self.lab.ports[role][0], SCHEMES[self.carrier])

    @property
    def service(self) -> Address:
        return self._server("lwm2m")

    @property
    def bootstrap_server(self) -> Address:
        return self._server("bootstrap")

    @property
    def own_key(self) -> bytes:
        return self.security[5] if 5 in self.security and not self.enrolled else key_der(self.key)

    def trusts(self, role: str) -> Security:
        proof = (self.own, self.own_key) if role == "lwm2m" else (self.built_with, self.built_with_key)
        return Security(certificates=(proof[0],), private_key=proof[1], trust=(self.lab.core.pki.certificate,))

    async def connect(
        self, role: str, certificate: bytes | None = None, *, psk: str = "", security: Security | None = None
    ) -> None:
        router = Router()
        for code in (codes.GET, codes.PUT, codes.POST, codes.DELETE):
            router.add(code, "**", self._answer)
        security = security or self.trusts(role)
        remote = ("127.0.0.1", self.lab.ports[role][0])
        opener: Opener
        if self.carrier == "tls":
            opener = tls_to(remote, security)
        else:
            session, keep = (self.session, self._kept) if role == "lwm2m" else (None, None)
            opener = dtls_to(udp(), remote, security, session=session, on_session=keep)
        parameters = TransmissionParameters(block_size=512, empty_ack_tail=b"\xc0")
        self.endpoint = await Endpoint.open(opener, router, parameters=parameters)
        self.port = 1

    def _kept(self, session: bytes) -> None:
        self.session = session

    async def disconnect(self, role: str, why: str = "") -> None:
        await self.endpoint.close()

    async def first_boot(self, *query: str) -> Message:
        await self.connect("bootstrap")
        answer = await self.bootstrap(*query)
        if answer.code < 128:
            rows = functools.partial(self.lab.core.bootstrap.transcript, self.lab.core.account_id)
            await self.lab.until(lambda: any(row["state"] == "finished" for row in rows()))
        await self.disconnect("bootstrap")
        return answer

    async def reconnect(self, away: float = 0.0) -> Message:
        await self.disconnect("lwm2m")
        await self.connect("lwm2m")
        return await self.update()


class PlainStreamDevice(RealDevice):
    """A device on plain TCP, with the stock client's four bytes of length."""

    @property
    def service(self) -> Address:
        return Connection("127.0.0.1", self.lab.ports["lwm2m"][1], "coap+tcp")

    async def connect(
        self, role: str, certificate: bytes | None = None, *, psk: str = "", security: Security | None = None
    ) -> None:
        router = Router()
        for code in (codes.GET, codes.PUT, codes.POST, codes.DELETE):
            router.add(code, "**", self._answer)
        self.endpoint = await Endpoint.open(tcp_to(("127.0.0.1", self.lab.ports[role][1])), router)
        self.port = 1


async def real_device(lab: RealLab, carrier: Carrier, name: str = "desk1") -> RealDevice:
    """Return a device with a developer certificate and its key."""
    developers = lab.core.developers
    credentials = developers.credentials(developers.of_endpoint(lab.core.account_id, name))
    built_with, key = credentials.bootstrap_device_certificate, credentials.bootstrap_device_private_key
    assert built_with is not None and key is not None
    device = RealDevice(lab, name, carrier, built_with, key)
    lab.devices.append(device)
    await device.power_on()
    return device
