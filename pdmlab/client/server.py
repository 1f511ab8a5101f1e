"""What the device answers: reads, writes, executes and observations of its resources, as the stock client does."""

from __future__ import annotations

from dataclasses import replace

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.client.background import Background
from pdmlab.client.objects import ObjectTree
from pdmlab.client.observation import Fate, Observations, content
from pdmlab.client.resource import M2MMethod, Resource
from pdmlab.client.update_words import UpdateWords
from pdmlab.coap.blockwise import exponent
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.exchange import Outcome
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.transport import Address
from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import content as formats
from pdmlab.lwm2m.content import LINK_FORMAT, OPAQUE, TEXT, TLV, TLV_OLD
from pdmlab.lwm2m.linkformat import format_links
from pdmlab.lwm2m.paths import Path
from pdmlab.update import device_words

OPTIONS = frozenset({3, 4, 6, 7, 8, 11, 12, 14, 15, 17, 20, 23, 27, 28, 35, 60})
"""What the stock client's parser knows; any other option, elective ones too, makes it reset the message."""
PARAMETERS = TransmissionParameters(
    ack_timeout=3.0,  # the round trip that it assumes at first
    max_retransmit=3,  # MBED_CLIENT_RECONNECTION_COUNT
    block_size=512,  # SN_COAP_MAX_BLOCKWISE_PAYLOAD_SIZE
    max_body=64 * 1024,  # an estimate of what a board has room for
    duplicates=4,
    known_options=OPTIONS,
    blocks_by_token=True,
    block1_max_age=0,
    etags=False,
    empty_ack_tail=b"\xc0",  # a Content-Format without a value: it zero-fills the message that it builds
)
"""The stock client's."""
_READABLE = (TEXT, LINK_FORMAT, OPAQUE, TLV, TLV_OLD)
_WRITABLE = (None, TEXT, OPAQUE, TLV, TLV_OLD)


class ResourceServer:
    """Answers requests to the resources of a tree; `endpoint` is what they come in by."""

    def __init__(self, tree: ObjectTree, observations: Observations, background: Background) -> None:
        self._tree = tree
        self._observations = observations
        self._background = background
        self.endpoint: Endpoint | None = None
        self.words: UpdateWords | None = None
        """What the device says of its updates, where it does."""

    async def __call__(self, request: Message, peer: Address) -> Message | None:
        segments = request.opt.uri_path
        if (refusal := refuse_unblocked(request)) is not None:
            return refusal
        if segments == (".well-known", "core") and request.code == codes.GET:
            return None  # the stock client gives no answer at all
        try:
            path = Path.parse("/".join(segments))
        except Lwm2mError:
            return _answer(codes.NOT_FOUND)
        if request.code == codes.GET:
            if path.object == device_words.OBJECT and self.words is not None:
                return await self.words.answer(path, request)
            return self._get(path, request, peer)
        if request.code == codes.PUT:
            return self._put(path, request)
        if request.code == codes.POST:
            return await self._post(path, request, peer)
        return _answer(codes.METHOD_NOT_ALLOWED)

    # -- GET -----------------------------------------------------------------------------------------

    def _get(self, path: Path, request: Message, peer: Address) -> Message:
        accept = None if request.opt.accept is None else int(request.opt.accept)
        resource = self._tree.find(path)
        if resource is None and len(path.ids) == 4:
            return self._get_instance(path, accept)
        if resource is None:
            return self._get_parent(path, accept, observe=request.opt.observe is not None)
        if not resource.operations & M2MMethod.GET:
            return _answer(codes.METHOD_NOT_ALLOWED)
        if accept not in (None, *_READABLE):
            return _answer(codes.NOT_ACCEPTABLE)
        if accept == LINK_FORMAT:
            return self._links(path)
        observe = request.opt.observe
        if observe == 0 and not resource.is_observable:
            return _answer(codes.METHOD_NOT_ALLOWED, f"{path} is not observable")
        try:
            response = content(resource, accept)
        except Lwm2mError as error:
            return _answer(codes.NOT_ACCEPTABLE, error.message)
        if accept is not None:
            resource.sticky_format = accept
        if observe == 0 and self._observations.observe(resource, peer, request.token):
            response.opt.observe = 0
        elif observe == 1:
            response.opt.observe = self._observations.cancel(resource, peer)
        return response

    def _get_instance(self, path: Path, accept: int | None) -> Message:
        """Read one value of a multiple resource."""
        above = path.parent
        resource = self._tree.find(above) if above is not None else None
        value = resource.value if resource is not None else None
        if resource is None or not isinstance(value, dict) or path.ids[3] not in value:
            return _answer(codes.NOT_FOUND)
        format = formats.default_format(resource.type) if accept is None else accept
        try:
            payload = formats.encode(value[path.ids[3]], resource.type, format, path, wide_integers=True)
        except Lwm2mError as error:
            return _answer(codes.NOT_ACCEPTABLE, error.message)
        return Message(code=codes.CONTENT, payload=payload, content_format=format, max_age=0)

    def _get_parent(self, path: Path, accept: int | None, *, observe: bool) -> Message:
        """Read an object or instance."""
        payload = self._tree.content(path)
        if payload is None:
            return _answer(codes.NOT_FOUND)
        if observe:
            return _answer(codes.METHOD_NOT_ALLOWED, f"{path} is not observable")
        if accept == LINK_FORMAT:
            return self._links(path)
        if accept not in (None, TLV, TLV_OLD):
            return _answer(codes.NOT_ACCEPTABLE)
        return Message(code=codes.CONTENT, payload=payload, content_format=accept or TLV, max_age=0)

    def _links(self, under: Path | None) -> Message:
        # The values are for the server's registration only: here they would make it long.
        links = [replace(each, v=None, aobs=None) for each in self._tree.links(under)]
        return Message(code=codes.CONTENT, payload=format_links(links), content_format=LINK_FORMAT, max_age=0)

    # -- PUT -----------------------------------------------------------------------------------------

    def _put(self, path: Path, request: Message) -> Message:
        queries = request.opt.uri_query
        resource = self._tree.find(path)
        if resource is None and not self._tree.below(path):
            return _answer(codes.NOT_FOUND)
        if queries:
            try:
                self._observations.write_attributes(path, queries)
            except Lwm2mError as error:
                return _answer(codes.BAD_REQUEST, error.message)
            return _answer(codes.CHANGED)
        if resource is None or not resource.operations & M2MMethod.PUT:
            return _answer(codes.METHOD_NOT_ALLOWED)
        format = None if request.opt.content_format is None else int(request.opt.content_format)
        if format not in _WRITABLE:
            return _answer(codes.UNSUPPORTED_CONTENT_FORMAT)
        try:
            value = formats.decode(request.payload, resource.type, format, path)
        except Lwm2mError as error:
            return _answer(resource.refusal, error.message)
        if isinstance(value, dict):
            return _answer(codes.BAD_REQUEST, f"{path} has one value")
        text = (
            request.payload.decode() if isinstance(value, str | int | float) and format not in (TLV, TLV_OLD) else None
        )
        return _answer(resource.write(value, text))

    # -- POST ----------------------------------------------------------------------------------------

    async def _post(self, path: Path, request: Message, peer: Address) -> Message | None:
        resource = self._tree.find(path)
        if resource is None:
            return _answer(codes.NOT_FOUND)
        if not resource.operations & M2MMethod.POST:
            return _answer(codes.METHOD_NOT_ALLOWED)
        format = None if request.opt.content_format is None else int(request.opt.content_format)
        endpoint = self.endpoint
        if endpoint is None:
            return None
        if format not in (None, TEXT):
            if not resource.delayed:
                return _answer(codes.UNSUPPORTED_CONTENT_FORMAT)
            endpoint.acknowledge(request)
            return None  # the stock client's own trap: acknowledged, and never answered
        if resource.delayed:
            endpoint.acknowledge(request)
            self._background.spawn(self._execute_delayed(endpoint, request, peer, resource))
            return None
        fate = Fate()
        if not resource.answer_first:
            await resource.execute(request.payload)
        endpoint.answer(request, Message(code=codes.CHANGED), on_result=fate)
        if resource.answer_first:
            self._background.spawn(self._execute_after(fate, request, resource))
        return None

    async def _execute_after(self, fate: Fate, request: Message, resource: Resource) -> None:
        """Execute once the server has the answer, or has not taken it: a reboot must not swallow it."""
        await fate.known()
        await resource.execute(request.payload)

    async def _execute_delayed(self, endpoint: Endpoint, request: Message, peer: Address, resource: Resource) -> None:
        """Answer what was acknowledged already, by a message of its own."""
        response = Message(code=codes.CHANGED, content_format=TEXT)
        block1 = request.opt.block1
        if block1 is not None:
            response.opt.block1, response.opt.max_age = (block1.block_number, False, block1.size_exponent), 0
        if resource.reply is not None:
            response.payload = await resource.reply(request.payload)
        await delivered(endpoint, peer, response, request.token)
        await resource.execute(request.payload)


async def delivered(endpoint: Endpoint, peer: Address, message: Message, token: bytes) -> Outcome:
    """Send a confirmable response of its own, and return how it fared."""
    fate = Fate()
    endpoint.notify(peer, message, token, on_result=fate)
    return await fate.known()


def refuse_unblocked(request: Message) -> Message | None:
    """Return what answers a payload that should have come in blocks: 4.13 with their size."""
    if request.opt.block1 is not None or len(request.payload) <= PARAMETERS.block_size:
        return None
    hint = (0, True, exponent(PARAMETERS.block_size))
    return Message(code=codes.REQUEST_ENTITY_TOO_LARGE, block1=hint, max_age=0)


def _answer(code: Code, text: str = "") -> Message:
    # Without Max-Age: the stock client says it only where it has other options to say.
    return Message(code=code, payload=text.encode())
