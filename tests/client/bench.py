"""A board of plain parts that a client runs on, and a management server whose every word the test decides."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn, TypeVar

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.boards import catalog
from pdmlab.capture import MessageLog
from pdmlab.client import SimpleMbedCloudClient
from pdmlab.client.download_protocol import DownloadProtocol
from pdmlab.client.platform import current_platform
from pdmlab.client.transport import Transport
from pdmlab.clock import DeviceClock, power_domain
from pdmlab.coap.dtls import dtls
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.router import Router
from pdmlab.coap.security import Security
from pdmlab.coap.tcp import tcp
from pdmlab.coap.tls import tls
from pdmlab.coap.transport import Address, Opener
from pdmlab.errors import HandshakeFailed
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.content import TLV, to_bytes
from pdmlab.lwm2m.linkformat import Link, parse_links
from pdmlab.network.fabric import Fabric
from pdmlab.network.interfaces import EthernetInterface
from pdmlab.network.link import Link as NetworkLink
from pdmlab.storage import HeapBlockDevice, LittleFileSystem2, NVStore
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.interface import Hardware
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.credentials import Credentials, UpdateResources
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.layout import Area
from pdmlab.update.version import Version
from tests.client.pki import ALWAYS, Authority, Times, der

T = TypeVar("T")
ACCOUNT = "0164d9c3a1a0000000000001001003e5"
DEVICE = "0170f1a4b5c6000000000001001000aa"
BS_PORT, LWM2M_PORT = 5683, 5685
CREDENTIALS = Credentials(
    "desk-1", f"coap://cloud:{BS_PORT}?aid={ACCOUNT}", account_id=ACCOUNT, manufacturer="ACME", model_number="M1"
)
LONGEST_STORY = 200_000  # s of device time
IDEAL = NetworkLink(latency=1_000_000)


@dataclass
class Image:
    """What is compiled in."""

    credentials: dict[str, str] | None
    update_resources: dict[str, str] | None = None
    transport: Transport | None = None
    download_protocol: DownloadProtocol | None = None
    options: dict[str, object] = field(default_factory=dict)


class Line:
    """A serial line that keeps what was printed."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def lines(self) -> list[str]:
        found = [line for line in self.text.splitlines() if line]
        self.text = ""
        return found


class Bench:
    """A K64F's flash layout over media in memory, littlefs, and an Ethernet link of 1 ms to a fabric."""

    def __init__(self, *, link: NetworkLink = IDEAL, seed: int = 1) -> None:
        self.clock = DeviceClock()
        self.fabric = Fabric(self.clock, seed)
        self.uart = Line()
        self.image = Image(CREDENTIALS.to_mapping())
        self.layout = replace(catalog.find("K64F").layout(), candidate=Area("candidate", 0, 512 * 1024))
        self.flash = HeapBlockDevice(self.layout.geometry.size, 1, 8, 4096, clock=self.clock)
        self.flash.init()
        self.erase_sotp()
        self.block_device = HeapBlockDevice(256 * 1024, clock=self.clock)
        slot = HeapBlockDevice(512 * 1024, clock=self.clock)
        slot.init()
        self.candidate = CandidateSlot(slot)
        hardware = Hardware(self.layout, self.flash, slot, self.nvstore)
        self.bootloader = bootloaders.build(bootloaders.DEFAULT, hardware)
        self.boot_log = ""
        self.network = EthernetInterface(self.clock, fabric=self.fabric, link=link, seed=seed)
        self.resets = 0
        self.restarted = asyncio.Event()
        self._random = random.Random(seed)
        self.open: list[Endpoint] = []
        """What a story has opened, and ends with it."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def erase_sotp(self) -> None:
        for area in self.layout.sotp:
            self.flash.program(area.offset, b"\xff" * area.size)

    def run_version(self, version: str, digest: bytes = bytes(32)) -> None:
        header = FirmwareHeader(1000, Version.parse(version), digest).pack()
        self.flash.program(self.layout.header_offset, header.ljust(160, b"\xff"))

    def random_bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)

    @property
    def nvstore(self) -> NVStore:
        return NVStore(self.flash, [(area.offset, area.size) for area in self.layout.sotp])

    def reset(self) -> NoReturn:
        self.resets += 1
        self.clock.halt_then(self._restarted, self)
        raise AssertionError

    def _restarted(self) -> None:
        self.network.reset()
        self.restarted.set()

    def cut_power(self) -> None:
        """End what runs on the board; call it on the loop."""
        self.clock.halt_then(self.network.reset, self)

    def beside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start what a server does beside its answers; it ends with the story. Call it on the loop."""
        task = self.clock.loop.create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)
        return task

    async def device(self, work: Callable[[], T]) -> T:
        """Run device code."""
        context = contextvars.copy_context()
        context.run(current_platform.set, self)
        context.run(power_domain.set, self)
        return await context.run(self.clock.spawn, work).wait()

    def make_client(self, **options: Any) -> SimpleMbedCloudClient:
        """Connect the network, and make a client; device code."""
        if self.network.get_ip_address() is None:
            self.network.connect()
        fs = LittleFileSystem2("fs")
        return SimpleMbedCloudClient(self.network, self.block_device, fs, **options)

    async def connect(self, prepare: Callable[[SimpleMbedCloudClient], object] = lambda client: None) -> Any:
        """Boot the usual application: init, resources, register; return its client."""

        def main() -> SimpleMbedCloudClient:
            client = self.make_client()
            status = client.init()
            assert status == 0, status
            prepare(client)
            assert client.register_and_connect()
            return client

        return await self.device(main)

    def play(self, story: Callable[[], Awaitable[T]]) -> T:
        """Run a test's story on the board's loop, and end everything with it, before virtual time goes on."""

        async def told() -> T:
            try:
                async with asyncio.timeout(LONGEST_STORY):
                    return await story()
            finally:
                await self._end()

        try:
            return self.clock.call_async(told())
        finally:
            self.clock.close()

    async def _end(self) -> None:
        """End the board first: until the clock is closed it would live on for hours, without a server."""
        off = asyncio.Event()
        self.clock.halt_then(off.set, self)
        await off.wait()
        self.network.reset()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for each in self.open:
            each.abort()


@dataclass
class Cloud:
    """A bootstrap server and an LwM2M server at host `cloud`; a test replaces what it wants otherwise.

    `carrier` is what it is reached by: udp, tcp with four bytes of length, and with certificates of `ca` dtls and tls.
    `server_times` is when the servers' certificates are valid. `answers` maps (method, first path
    segment) to codes that are answered once each before the usual one.
    """

    bench: Bench
    device_id: str = DEVICE
    grant: int | None = None
    carrier: Literal["udp", "tcp", "dtls", "tls"] = "udp"
    ca: Authority | None = None
    server_times: Times = ALWAYS
    mode: int = 2
    answers: dict[tuple[str, str], list[Code]] = field(default_factory=dict)
    firmware: dict[str, bytes] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    notified: list[tuple[str, int | None, bytes]] = field(default_factory=list)
    links: dict[str, Link] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    """Why handshakes failed, by the server."""
    peer: Address = ("", 0)

    async def open(self) -> Cloud:
        """Start both servers."""
        self.registered = asyncio.Event()
        self.log = MessageLog(endpoint="cloud", clock="device")
        self.queries: list[str] = []
        self._changed = asyncio.Condition()
        self.bench.fabric.host("cloud")
        parameters = TransmissionParameters(block_size=512)
        bootstrap, lwm2m = Router(), Router()
        bootstrap.add(codes.POST, "bs", self.on_bootstrap)
        bootstrap.add(codes.POST, "est/sen", self.on_enrol)
        lwm2m.add(codes.POST, "est/sen", self.on_enrol)
        lwm2m.add(codes.POST, "rd", self.on_register)
        lwm2m.add(codes.POST, "rd/*/*", self.on_update)
        lwm2m.add(codes.DELETE, "rd/*/*", self.on_deregister)
        lwm2m.add(codes.GET, "fw", self.on_firmware)
        self.bs = await Endpoint.open(
            self._opener(BS_PORT), bootstrap, parameters=parameters, seed=1, tap=self.log.of("bs")
        )
        self.rd = await Endpoint.open(
            self._opener(LWM2M_PORT), lwm2m, parameters=parameters, seed=2, tap=self.log.of("rd")
        )
        self.bench.open += [self.bs, self.rd]
        self.rd.on_unasked = self.on_notification
        return self

    def _opener(self, port: int) -> Opener:
        host = self.bench.fabric.hosts["cloud"]
        if self.ca is None:
            return host.opener(port) if self.carrier == "udp" else tcp(accept=host.acceptor(port))
        certificate, key = self.ca.issue(self.server_times, CN="cloud.example")
        security = Security((certificate,), key, (self.ca.certificate,), names_failure=self._failed)
        if self.carrier == "dtls":
            return dtls(host.opener(port), security)
        return tls("cloud", port, security, accept=host.acceptor(port))

    def _failed(self, address: Address, why: HandshakeFailed) -> None:
        self.failures.append(why.reason)

    def drop(self) -> None:
        """End the connection of the registered device."""
        for stream in list(self.bench.fabric.hosts["cloud"]._streams.values()):
            stream.close()

    @property
    def uri(self) -> str:
        if self.ca is not None:
            return f"coaps://cloud:{LWM2M_PORT}?aid={ACCOUNT}"
        return f"coap://cloud:{LWM2M_PORT}?aid={ACCOUNT}&iep={self.device_id}"

    def security(self, uri: str | None = None, mode: int | None = None) -> bytes:
        """The object instance that PUT /0 carries."""
        mode = mode if mode is not None else 3 if self.ca is None else self.mode
        values = [(0, (uri or self.uri).encode()), (1, b"\0"), (2, to_bytes(mode, "integer"))]
        if self.ca is not None:
            if mode == 2:
                certificate, key = self.ca.issue(CN="desk-1", L=self.device_id)
                values += [(3, certificate), (5, key)]
            values.append((4, self.ca.certificate))
        values.append((10, to_bytes(1, "integer")))
        return tlv.encode([tlv.object_instance(0, [tlv.resource(id, value) for id, value in values])])

    def _heard(self, what: str) -> None:
        self.heard.append(what)
        self.bench.beside(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], object], seconds: float = 10_000) -> None:
        """Wait until the condition holds; looks whenever a message has come."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    async def hears(self, what: str, times: int = 1) -> None:
        """Wait for a request, such as "POST rd"."""
        await self.until(lambda: self.heard.count(what) >= times)

    def _refusal(self, method: str, path: str) -> Message | None:
        waiting = self.answers.get((method, path))
        return Message(code=waiting.pop(0)) if waiting else None

    # -- the servers -----------------------------------------------------------------------------------

    async def on_bootstrap(self, request: Message, peer: Address) -> Message:
        self._heard("POST bs")
        self.queries.append("&".join(request.opt.uri_query))
        refusal = self._refusal("POST", "bs")
        if refusal is None:
            self.sequence = self.bench.beside(self.write(peer))
        return refusal or Message(code=codes.CHANGED)

    async def write(self, peer: Address) -> None:
        """What follows an accepted POST /bs."""
        deleted = await self.bs.request(Message(code=codes.DELETE, uri_path=("0",)), peer)
        assert deleted.code == codes.DELETED
        put = Message(code=codes.PUT, uri_path=("0",), content_format=TLV, payload=self.security())
        assert (await self.bs.request(put, peer)).code == codes.CHANGED
        query = (f"iep={self.device_id}",) if self.mode == 4 else ()
        done = await self.bs.request(Message(code=codes.POST, uri_path=("bs",), uri_query=query), peer)
        assert done.code == codes.CHANGED
        self._heard("bootstrapped")

    async def on_enrol(self, request: Message, peer: Address) -> Message:
        self._heard("POST est")
        refusal = self._refusal("POST", "est")
        if refusal is not None:
            return refusal
        assert self.ca is not None
        csr = x509.load_der_x509_csr(request.payload)
        key = csr.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        chain = [der(self.ca.sign(key, csr.subject)), self.ca.certificate]
        body = bytes((1, len(chain))) + b"".join(len(each).to_bytes(2, "big") + each for each in chain)
        return Message(code=codes.CHANGED, payload=body)

    async def on_register(self, request: Message, peer: Address) -> Message:
        self._heard("POST rd")
        self.queries.append("&".join(request.opt.uri_query))
        refusal = self._refusal("POST", "rd")
        if refusal is not None:
            return refusal
        self.peer = peer
        self.links = {str(link.path): link for link in parse_links(request.payload)}
        self.payload = request.payload
        self.registered.set()
        created = Message(code=codes.CREATED, location_path=("rd", ACCOUNT, self.device_id))
        if self.grant is not None:
            created.opt.max_age = self.grant
        return created

    async def on_update(self, request: Message, peer: Address) -> Message:
        self._heard("update")
        self.queries.append("&".join(request.opt.uri_query))
        self.update_payload = request.payload
        refusal = self._refusal("POST", "update")
        if refusal is None:
            self.peer = peer
        return refusal or Message(code=codes.CHANGED)

    async def on_deregister(self, request: Message, peer: Address) -> Message:
        self._heard("DELETE")
        return Message(code=codes.DELETED)

    async def on_firmware(self, request: Message, peer: Address) -> Message:
        number = request.opt.block2.block_number
        self._heard(f"fw {number}")
        refusal = self._refusal("GET", "fw")
        if refusal is not None:
            return refusal
        assert request.opt.content_format == 0 and request.opt.max_age == 0
        data, size = self.firmware[request.opt.proxy_uri], 512
        part = data[number * size : (number + 1) * size]
        more = (number + 1) * size < len(data)
        return Message(code=codes.CONTENT, payload=part, content_format=42, block2=(number, more, 5), size2=len(data))

    def on_notification(self, message: Message, peer: Address) -> bool:
        number = int.from_bytes(message.token, "big")
        path = next((path for path, link in self.links.items() if link.aobs == number), message.token.hex())
        self.notified.append((path, message.opt.observe, message.payload))
        self._heard("notification")
        return True

    # -- what the server asks --------------------------------------------------------------------------

    async def ask(self, code: Code, path: str, payload: bytes = b"", **options: Any) -> Message:
        """Ask the registered device."""
        message = Message(code=code, uri_path=path.strip("/").split("/"), payload=payload, **options)
        return await self.rd.request(message, self.peer)

    async def get(self, path: str, **options: Any) -> Message:
        return await self.ask(codes.GET, path, **options)


def secured(bench: Bench, ca: Authority | None = None) -> Authority:
    """Give a device credentials of a CA, for coaps://; return the CA."""
    ca = ca or Authority()
    certificate, key = ca.issue(CN="desk-1")
    bench.image.credentials = Credentials(
        "desk-1",
        f"coaps://cloud:{BS_PORT}?aid={ACCOUNT}",
        account_id=ACCOUNT,
        bootstrap_device_certificate=certificate,
        bootstrap_server_root_ca_certificate=ca.certificate,
        bootstrap_device_private_key=key,
    ).to_mapping()
    return ca


def updatable(bench: Bench, resources: UpdateResources, version: str = "1.0.0") -> None:
    """Compile update resources in, and let a version run."""
    bench.image.update_resources = resources.to_mapping()
    bench.run_version(version)
