"""Bootstrap: the device asks who manages it, and takes the server's sequence of writes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.client import certificates
from pdmlab.client.est import enrol
from pdmlab.client.security_object import EST, Lwm2mServer, SecurityObject
from pdmlab.client.server import PARAMETERS, delivered, refuse_unblocked
from pdmlab.client.server_uri import ServerUri
from pdmlab.client.steps import ConnectionSteps
from pdmlab.coap.endpoint import Endpoint, Tap
from pdmlab.coap.transport import Address, Opener
from pdmlab.errors import BootstrapFailed, ConfigError, Lwm2mError, NetworkError, ResponseError, TimedOut, Unreachable
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.content import TLV, TLV_OLD, from_bytes
from pdmlab.lwm2m.tlv import Kind

PATIENCE = 60.0
"""How long the server may take from its answer to the finish (s): an estimate; the stock client's is not known."""
VERSION = "mccv=4.13.2"
"""What the stock client says of itself."""
_SERVER_LIFETIME = 1
_TIME, _OFFSET, _ZONE = 13, 14, 15


@dataclass(frozen=True)
class Asking:
    """Who asks: the name in the credentials, and what the device knows of itself already."""

    endpoint_name: str
    device_id: str | None = None
    account_id: str | None = None


@dataclass(frozen=True)
class Bootstrapped:
    """What the server has written.

    lifetime: for /1/0/1, if it wrote one (s). time: seconds since 1970; offset, zone: of UTC and by name, if it did.
    chain_lost: see SecurityObject.
    """

    server: Lwm2mServer
    device_id: str | None
    lifetime: int | None = None
    time: int | None = None
    offset: str | None = None
    zone: str | None = None
    chain_lost: bool = False


async def bootstrap(
    opener: Opener,
    peer: Address,
    uri: ServerUri,
    asking: Asking,
    *,
    steps: ConnectionSteps,
    seed: int | None,
    tap: Tap | None = None,
) -> Bootstrapped:
    """Ask the bootstrap server at peer, take what it writes, and return it once it has said that it is done.

    Raises:
        BootstrapFailed: it refused, wrote what makes no sense, or never finished.
        HandshakeFailed: there is no secure connection to it.
        NetworkError: it cannot be reached.
    """
    sequence = _Sequence(asking)
    endpoint = await Endpoint.open(opener, sequence, parameters=PARAMETERS, seed=seed, tap=tap)
    endpoint.on_lost = sequence.lost
    sequence.endpoint = endpoint
    try:
        with steps.measure("bootstrap"):
            await _ask(endpoint, peer, uri, asking)
            sequence.accepted = True
            try:
                async with asyncio.timeout(PATIENCE):
                    done = await sequence.finished()
            except TimeoutError:
                raise TimedOut(
                    f"the bootstrap server at {peer[0]}:{peer[1]} did not finish in {PATIENCE:g} s"
                ) from None
        if sequence.security.mode == EST:
            with steps.measure("enrolment"):
                return await _enrolled(endpoint, peer, asking, done)
        return _named(done)
    finally:
        sequence.cancel()
        endpoint.abort()


_HINTS = {
    codes.SERVICE_UNAVAILABLE: "has the account room for another device? delete one, or have its allocation raised",
    codes.FORBIDDEN: "does the account trust the CA of the device's certificate, and has it enrolled the device?",
}


async def _ask(endpoint: Endpoint, peer: Address, uri: ServerUri, asking: Asking) -> None:
    queries = [f"ep={asking.endpoint_name}"]
    if uri.queries:  # without any, the stock client says its name only
        queries += uri.queries
        if asking.device_id is not None and uri.query("iep") is None:
            queries.append(f"iep={asking.device_id}")
        queries.append(VERSION)
    ask = Message(code=codes.POST, uri_path=("bs",), uri_query=queries, max_age=0)
    response = await endpoint.request(ask, peer)
    if not response.code.is_successful():
        said = response.payload[:80].decode(errors="replace")
        raise BootstrapFailed(
            f"the bootstrap server answered {response.code} {said}".rstrip(),
            hint=_HINTS.get(response.code, "does the account of the device's credentials exist in this service?"),
        )


async def _enrolled(endpoint: Endpoint, peer: Address, asking: Asking, done: Bootstrapped) -> Bootstrapped:
    """Get the certificate that the server has not written."""
    account = asking.account_id or ServerUri.parse(done.server.uri).query("aid")
    if not account or not done.device_id:
        raise BootstrapFailed("the bootstrap server wants the device to enrol, and did not say its account")
    try:
        made = await enrol(
            endpoint, peer, endpoint_name=asking.endpoint_name, device_id=done.device_id, account_id=account
        )
    except (ResponseError, Lwm2mError, ConfigError) as error:
        raise BootstrapFailed(f"enrolment failed: {error.message}", hint=error.hint) from error
    server = replace(done.server, certificates=made.certificates, private_key=made.private_key)
    return _named(replace(done, server=server))


def _named(done: Bootstrapped) -> Bootstrapped:
    """Take the device id from the certificate: without one, the credentials cannot be used."""
    if not done.server.certificates:
        return done
    try:
        name, device_id = certificates.fields(done.server.certificates[0])
    except ConfigError as error:
        raise BootstrapFailed(f"the certificate from bootstrap: {error.message}", hint=error.hint) from error
    if device_id is None or name is None:
        raise BootstrapFailed(
            f"the certificate from bootstrap has no {'L' if device_id is None else 'CN'} in its subject",
            hint="the subject needs CN=endpoint name and L=device id, of 1 to 64 characters",
        )
    assert done.server.private_key is not None
    if not certificates.belong_together(done.server.certificates[0], done.server.private_key):
        raise BootstrapFailed("the certificate from bootstrap is for another key than the one that came with it")
    return replace(done, device_id=device_id)


class _Sequence:
    """Takes DELETE /0, PUT /0, PUT /1 and PUT /3, and POST /bs when the server is done."""

    def __init__(self, asking: Asking) -> None:
        self.endpoint: Endpoint | None = None
        self.accepted = False
        self.security = SecurityObject()
        self._device_id = asking.device_id
        self._lifetime: int | None = None
        self._time: int | None = None
        self._texts: dict[int, str] = {}
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._finishing: asyncio.Task[None] | None = None

    async def finished(self) -> Bootstrapped:
        """Wait for the server's POST /bs."""
        await self._done
        return Bootstrapped(
            self.security.server(),
            self._device_id,
            self._lifetime,
            self._time,
            self._texts.get(_OFFSET),
            self._texts.get(_ZONE),
            self.security.chain_lost,
        )

    def cancel(self) -> None:
        """Wait for nothing any more."""
        if self._finishing is not None:
            self._finishing.cancel()

    def lost(self, peer: Address, why: NetworkError) -> None:
        """Hear that the connection has ended: too early, unless the device has said that all is done."""
        if not self._done.done() and self._finishing is None:
            self._done.set_exception(Unreachable(f"in the middle of bootstrap: {why.message}", hint=why.hint))
            self._done.exception()  # whoever waits sees it; perhaps nobody does yet

    async def __call__(self, request: Message, peer: Address) -> Message | None:
        path = request.opt.uri_path
        if (refusal := refuse_unblocked(request)) is not None:
            return refusal
        if not self.accepted:
            self._leave(request)
            return None
        numbers = all(len(part) == 1 and part.isdigit() for part in path)
        if request.code == codes.DELETE and path and numbers and len(path) <= 2:
            if path[0] == "0":
                self.security.delete()
            return Message(code=codes.DELETED)
        if request.code == codes.PUT and numbers and path[:1] in (("0",), ("1",), ("3",)) and len(path) <= 2:
            return self._write(path, request)
        if request.code == codes.POST and path == ("bs",):
            return self._finish(request, peer)
        return self._fail(f"the bootstrap server sent {request.code} /{'/'.join(path)}")

    def _leave(self, request: Message) -> None:
        """Leave alone what comes before POST /bs was answered, as the stock client does; it will come again."""
        if self.endpoint is not None:
            self.endpoint.ignore(request)

    def _write(self, path: tuple[str, ...], request: Message) -> Message:
        format = request.opt.content_format
        try:
            if format is None or int(format) not in (TLV, TLV_OLD):
                raise Lwm2mError(f"content format {format} is not TLV")
            entries = tlv.decode(request.payload)
            if path[0] == "0":
                (self.security.write if len(path) == 1 else self.security.replace)(entries)
            else:
                if len(entries) == 1 and entries[0].kind == Kind.OBJECT_INSTANCE:
                    entries = entries[0].entries
                self._take(path[0], {each.id: each.value for each in entries if each.kind == Kind.RESOURCE})
        except (Lwm2mError, ConfigError) as error:
            return self._fail(f"the bootstrap server wrote /{'/'.join(path)}: {error.message}", error.hint)
        return Message(code=codes.CHANGED)

    def _take(self, object: str, values: dict[int, bytes]) -> None:
        def number(id: int) -> int | None:
            value = from_bytes(values[id], "integer") if id in values else None
            return value if isinstance(value, int) else None

        if object == "1":
            self._lifetime = number(_SERVER_LIFETIME) if _SERVER_LIFETIME in values else self._lifetime
        else:
            self._time = number(_TIME) if _TIME in values else self._time
            for id in (_OFFSET, _ZONE):
                if id in values:
                    self._texts[id] = str(from_bytes(values[id], "string"))

    def _finish(self, request: Message, peer: Address) -> Message | None:
        endpoint, security = self.endpoint, self.security
        if not security.complete or endpoint is None:
            return self._fail("the bootstrap server finished before it wrote where the LwM2M server is")
        told = next((each[4:] for each in request.opt.uri_query if each.startswith("iep=")), None)
        if security.mode == EST and not told:
            return self._fail(
                "the bootstrap server finished without the device's id, which enrolment needs",
                "POST /bs?iep=DEVICE with security mode 4",
            )
        self._device_id = told or ServerUri.parse(security.uri).query("iep") or self._device_id
        endpoint.acknowledge(request)
        self._finishing = asyncio.get_running_loop().create_task(self._say_done(endpoint, request, peer))
        return None

    async def _say_done(self, endpoint: Endpoint, request: Message, peer: Address) -> None:
        # The server must have the answer before the device hangs up; if it hangs up itself, it has.
        await delivered(endpoint, peer, Message(code=codes.CHANGED), request.token)
        if not self._done.done():
            self._done.set_result(None)

    def _fail(self, why: str, hint: str | None = None) -> Message:
        if not self._done.done():
            self._done.set_exception(BootstrapFailed(why, hint=hint or "look at the service's log of this device"))
            self._done.exception()  # whoever waits sees it; perhaps nobody does yet
        code: Code = codes.BAD_REQUEST
        return Message(code=code, payload=why.encode()[:200])
