"""Bootstrap: the device asks who manages it, and takes the server's sequence of writes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.client.server import PARAMETERS, delivered, refuse_unblocked
from pdmlab.client.server_uri import ServerUri
from pdmlab.coap.endpoint import Endpoint, Tap
from pdmlab.coap.transport import Address, Opener
from pdmlab.errors import BootstrapFailed, ConfigError, Lwm2mError, TimedOut
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.content import TLV, TLV_OLD, from_bytes

PATIENCE = 60.0
"""How long the server may take from its answer to the finish (s): an estimate; the stock client's is not known."""
MAX_ITEM = 1024  # MAX_CERTIFICATE_SIZE (B)
NO_SECURITY = 3


@dataclass(frozen=True)
class Bootstrapped:
    """What the server has written: the LwM2M server's URI, and the lifetime for /1/0/1 if it wrote one (s)."""

    lwm2m_uri: str
    device_id: str | None
    lifetime: int | None


async def bootstrap(
    opener: Opener,
    peer: Address,
    uri: ServerUri,
    endpoint_name: str,
    device_id: str | None,
    *,
    seed: int | None,
    tap: Tap | None = None,
) -> Bootstrapped:
    """Ask the bootstrap server at peer, take what it writes, and return it once it has said that it is done.

    Raises:
        BootstrapFailed: it refused, wrote what makes no sense, or never finished.
        NetworkError: it cannot be reached.
    """
    sequence = _Sequence()
    endpoint = await Endpoint.open(opener, sequence, parameters=PARAMETERS, seed=seed, tap=tap)
    sequence.endpoint = endpoint
    try:
        queries = [f"ep={endpoint_name}", *uri.queries]
        if device_id is not None:
            queries.append(f"iep={device_id}")
        ask = Message(code=codes.POST, uri_path=("bs",), uri_query=queries, max_age=0)
        response = await endpoint.request(ask, peer)
        if not response.code.is_successful():
            said = response.payload[:80].decode(errors="replace")
            raise BootstrapFailed(
                f"the bootstrap server answered {response.code} {said}".rstrip(),
                hint="does the account of the device's credentials exist in this service?",
            )
        try:
            async with asyncio.timeout(PATIENCE):
                return await sequence.finished()
        except TimeoutError:
            raise TimedOut(f"the bootstrap server at {peer[0]}:{peer[1]} did not finish in {PATIENCE:g} s") from None
    finally:
        sequence.cancel()
        endpoint.abort()


class _Sequence:
    """Takes DELETE /0, PUT /0 and PUT /1, and POST /bs when the server is done."""

    def __init__(self) -> None:
        self.endpoint: Endpoint | None = None
        self._uri: str | None = None
        self._device_id: str | None = None
        self._lifetime: int | None = None
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._finishing: asyncio.Task[None] | None = None

    async def finished(self) -> Bootstrapped:
        """Wait for the server's POST /bs."""
        await self._done
        assert self._uri is not None
        return Bootstrapped(self._uri, self._device_id, self._lifetime)

    def cancel(self) -> None:
        """Wait for nothing any more."""
        if self._finishing is not None:
            self._finishing.cancel()

    async def __call__(self, request: Message, peer: Address) -> Message | None:
        path = request.opt.uri_path
        if (refusal := refuse_unblocked(request)) is not None:
            return refusal
        if request.code == codes.DELETE and path and all(len(part) == 1 and part.isdigit() for part in path[:2]):
            self._uri = None if path[0] == "0" else self._uri
            return Message(code=codes.DELETED, max_age=0)
        if request.code == codes.PUT and path[:1] in (("0",), ("1",), ("3",)):
            return self._write(path[0], request)
        if request.code == codes.POST and path == ("bs",):
            return self._finish(request, peer)
        return self._fail(f"the bootstrap server sent {request.code} /{'/'.join(path)}")

    def _write(self, object: str, request: Message) -> Message:
        format = request.opt.content_format
        try:
            if format is None or int(format) not in (TLV, TLV_OLD):
                raise Lwm2mError(f"content format {format} is not TLV")
            entries = tlv.decode(request.payload)
            if len(entries) == 1 and entries[0].kind == tlv.Kind.OBJECT_INSTANCE:
                entries = entries[0].entries
            values = {each.id: each.value for each in entries if each.kind == tlv.Kind.RESOURCE}
            if any(len(value) > MAX_ITEM for value in values.values()):
                raise Lwm2mError(f"an item has more than {MAX_ITEM} B")
            if object == "0":
                self._security(values)
            elif object == "1" and 1 in values:
                lifetime = from_bytes(values[1], "integer")
                self._lifetime = lifetime if isinstance(lifetime, int) else None
        except (Lwm2mError, ConfigError) as error:
            return self._fail(f"the bootstrap server wrote /{object}: {error.message}", error.hint)
        return Message(code=codes.CHANGED, max_age=0)

    def _security(self, values: dict[int, bytes]) -> None:
        uri, mode = from_bytes(values.get(0, b""), "string"), from_bytes(values.get(2, b""), "integer")
        assert isinstance(uri, str)
        if mode != NO_SECURITY:
            raise Lwm2mError(f"security mode {mode!r} for {uri}; this client knows {NO_SECURITY} (NoSec) only")
        self._device_id = ServerUri.parse(uri).query("iep") or self._device_id
        self._uri = uri

    def _finish(self, request: Message, peer: Address) -> Message | None:
        endpoint = self.endpoint
        if self._uri is None or endpoint is None:
            return self._fail("the bootstrap server finished before it wrote where the LwM2M server is")
        self._device_id = next(
            (each.removeprefix("iep=") for each in request.opt.uri_query if each.startswith("iep=")), self._device_id
        )
        endpoint.acknowledge(request)
        self._finishing = asyncio.get_running_loop().create_task(self._say_done(endpoint, request, peer))
        return None

    async def _say_done(self, endpoint: Endpoint, request: Message, peer: Address) -> None:
        # The server must have the answer before the device hangs up.
        await delivered(endpoint, peer, Message(code=codes.CHANGED, max_age=0), request.token)
        if not self._done.done():
            self._done.set_result(None)

    def _fail(self, why: str, hint: str | None = None) -> Message:
        if not self._done.done():
            self._done.set_exception(BootstrapFailed(why, hint=hint or "look at the service's log of this device"))
            self._done.exception()  # whoever waits sees it; perhaps nobody does yet
        code: Code = codes.BAD_REQUEST
        return Message(code=code, payload=why.encode()[:200], max_age=0)
