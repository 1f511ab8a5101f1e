"""What the device answers an LwM2M server: device management and information reporting (LwM2M 1.1 core, 6.3, 6.4)."""

from __future__ import annotations

import re
from collections.abc import Callable

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.client.plain.attributes import AttributeTable
from pdmlab.client.plain.discovering import discovered
from pdmlab.client.plain.objects import Refusal, TakesBlocks
from pdmlab.client.plain.observing import Observations
from pdmlab.client.plain.reading import composite_content_of, content_of, default_format
from pdmlab.client.plain.tree import SERVER, ObjectTree
from pdmlab.client.plain.writing import (
    create_instance,
    read_new_instance,
    read_payload,
    write_composite,
    write_instance,
    write_resource,
)
from pdmlab.coap.transport import Address
from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.content import JSON, LINK_FORMAT, OPAQUE, RECORDS, SENML_CBOR, TEXT, registered_format
from pdmlab.lwm2m.linkformat import format_links
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.payload import decode_paths

# 0-9, each perhaps with a value: 5,2='10.3',7 (LwM2M 1.1 core, 6.3.5)
_ARGUMENTS = re.compile(r"([0-9](='[!#-&(-[\]-~]*')?(,[0-9](='[!#-&(-[\]-~]*')?)*)?", re.ASCII)
_EACH = re.compile(r"([0-9])(?:='[^']*')?(?:,|$)")


class DeviceManagement:
    """Answers the requests of one server; `ours` is the instance of /1 that it is described by."""

    def __init__(
        self,
        tree: ObjectTree,
        attributes: AttributeTable,
        observations: Observations,
        *,
        ours: int,
        version: Callable[[], str],
    ) -> None:
        self._tree = tree
        self._attributes = attributes
        self._observations = observations
        self._ours = ours
        self._version = version

    async def __call__(self, request: Message, peer: Address) -> Message:
        try:
            return await self._answer(request)
        except Refusal as refusal:
            return answer(refusal.code, refusal.message)

    async def _answer(self, request: Message) -> Message:
        path = path_of(request)
        if path is None:
            if request.code == codes.FETCH:
                return self._read_composite(request)
            if request.code == codes.iPATCH:
                write_composite(self._tree, read_payload(self._tree, None, request.payload, format_of(request)))
                return answer(codes.CHANGED)
            raise Refusal(codes.METHOD_NOT_ALLOWED)
        self._tree.object(path)
        if request.code == codes.GET:
            return self._get(path, request)
        if request.code == codes.PUT:
            return await self._take(path, request) if self.streams(request) else self._put(path, request)
        if request.code == codes.POST:
            return await self._post(path, request)
        if request.code == codes.DELETE:
            return self._delete(path)
        raise Refusal(codes.METHOD_NOT_ALLOWED)

    # -- read, observe, discover ---------------------------------------------------------------------------

    def _get(self, path: Path, request: Message) -> Message:
        self._tree.require(path)
        accept = None if request.opt.accept is None else int(request.opt.accept)
        if accept == LINK_FORMAT:
            links = format_links(discovered(self._tree, path, self._attributes))
            return Message(code=codes.CONTENT, payload=links, content_format=LINK_FORMAT)
        known = self._tree.definition(path)
        if known is not None and "R" not in known.operations:
            raise Refusal(codes.METHOD_NOT_ALLOWED, f"{path} ({known.name}) cannot be read")
        format = default_format(self._version()) if accept is None else accept
        response = content_of(self._tree, path, format)
        self._observe(request, [path], format, response, composite=False)
        return response

    def _read_composite(self, request: Message) -> Message:
        block = request.opt.block2
        if block is not None and block.block_number and not request.payload:
            # Of a notification, whose paths the server does not repeat.
            if self._observations.recent is None:
                raise Refusal(codes.REQUEST_ENTITY_INCOMPLETE, "nothing was told that this could be a block of")
            return composite_content_of(self._tree, *self._observations.recent)
        format = format_of(request)
        try:
            paths = decode_paths(request.payload, format)
        except Lwm2mError as error:
            code = codes.BAD_REQUEST if format in RECORDS - {JSON} else codes.UNSUPPORTED_CONTENT_FORMAT
            raise Refusal(code, error.message) from error
        accept = SENML_CBOR if request.opt.accept is None else int(request.opt.accept)
        response = composite_content_of(self._tree, paths, accept)
        self._observe(request, paths, accept, response, composite=True)
        return response

    def _observe(
        self, request: Message, paths: list[Path | None], format: int, response: Message, *, composite: bool
    ) -> None:
        if request.opt.observe == 0:
            response.opt.observe = self._observations.observe(request.token, paths, format, composite=composite)
        elif request.opt.observe == 1:
            self._observations.cancel(request.token, paths if composite else None)

    # -- write block by block --------------------------------------------------------------------------------

    def streams(self, request: Message) -> bool:
        """Whether a request writes a value whose blocks are taken as they come."""
        if request.code != codes.PUT or request.opt.uri_query or format_of(request) not in (None, OPAQUE):
            return False
        try:
            path = path_of(request)
            found = None if path is None or len(path.ids) != 3 else self._tree.require(path)
        except Refusal:
            return False
        return isinstance(found, TakesBlocks) and path is not None and found.streams(path.ids[2])

    async def _take(self, path: Path, request: Message) -> Message:
        found, block = self._tree.require(path), request.opt.block1
        assert isinstance(found, TakesBlocks)
        start = 0 if block is None else block.block_number << (block.size_exponent + 4)
        more = block is not None and bool(block.more)
        code = await found.take(request.payload, start, more=more, total=request.opt.size1, sender=self)
        response = answer(code)
        if block is not None:
            response.opt.block1 = (block.block_number, more, block.size_exponent)
        return response

    # -- write -----------------------------------------------------------------------------------------------

    def _put(self, path: Path, request: Message) -> Message:
        queries = request.opt.uri_query
        if queries:
            self._tree.require(path)
            if request.payload:
                raise Refusal(codes.BAD_REQUEST, "a write has no query, and attributes have no payload")
            try:
                self._attributes.write(path, queries)
            except Lwm2mError as error:
                raise Refusal(codes.BAD_REQUEST, error.message) from error
            self._observations.changed(path)
            return answer(codes.CHANGED)
        if path.instance is None:
            raise Refusal(codes.METHOD_NOT_ALLOWED, "an object is not written as a whole")
        self._tree.require(Path(path.ids[:2]))
        values = read_payload(self._tree, path, request.payload, format_of(request))
        if path.resource is None:
            write_instance(self._tree, path, values, replace=True)
        else:
            write_resource(self._tree, path, values, partial=False)
        return answer(codes.CHANGED)

    # -- create, write in part, execute, delete --------------------------------------------------------------

    async def _post(self, path: Path, request: Message) -> Message:
        if path.instance is None:
            values = read_new_instance(self._tree, path, request.payload, format_of(request))
            created = create_instance(self._tree, path, values)
            return Message(code=codes.CREATED, location_path=created.segments)
        if path.resource is None:
            self._tree.require(path)
            values = read_payload(self._tree, path, request.payload, format_of(request))
            write_instance(self._tree, path, values, replace=False)
            return answer(codes.CHANGED)
        found, known = self._tree.require(Path(path.ids[:3])), self._tree.definition(path)
        assert known is not None
        if path.resource_instance is None and known.multiple and "W" in known.operations:
            values = read_payload(self._tree, path, request.payload, format_of(request))
            write_resource(self._tree, path, values, partial=True)
            return answer(codes.CHANGED)
        if "E" not in known.operations or path.resource_instance is not None:
            raise Refusal(codes.METHOD_NOT_ALLOWED, f"{path} ({known.name}) cannot be executed")
        await found.execute(path.ids[1], path.ids[2], _arguments(request))
        return answer(codes.CHANGED)

    def _delete(self, path: Path) -> Message:
        if path.instance is None or path.resource is not None:
            raise Refusal(codes.METHOD_NOT_ALLOWED, "object instances are deleted, and nothing else")
        found = self._tree.require(path)
        if path == Path.of(SERVER, self._ours):
            raise Refusal(codes.METHOD_NOT_ALLOWED, "a server's own account is for the bootstrap server")
        found.delete(path.instance)
        self._attributes.forget(path)
        return answer(codes.DELETED)


def _arguments(request: Message) -> str:
    if format_of(request) not in (None, TEXT):
        raise Refusal(codes.UNSUPPORTED_CONTENT_FORMAT, "arguments are text")
    text: str = request.payload.decode("ascii", errors="replace")
    if _ARGUMENTS.fullmatch(text) is None:
        raise Refusal(codes.BAD_REQUEST, "arguments are digits, each perhaps with a value: 0='text',1")
    digits: list[str] = _EACH.findall(text)
    if len(set(digits)) != len(digits):
        raise Refusal(codes.BAD_REQUEST, "an argument comes twice")
    return text


def format_of(request: Message) -> int | None:
    """Return the content format of a request's payload, if it names one."""
    return None if request.opt.content_format is None else registered_format(int(request.opt.content_format))


def path_of(request: Message) -> Path | None:
    """Return the path of a request; None for the root.

    Raises:
        Refusal: it is none.
    """
    segments = request.opt.uri_path
    if segments in ((), ("",)):
        return None
    try:
        return Path.parse("/".join(segments))
    except Lwm2mError as error:
        raise Refusal(codes.NOT_FOUND, error.message) from error


def answer(code: Code, text: str = "") -> Message:
    """Return an answer, with why not as its payload."""
    return Message(code=code, payload=text.encode()[:200])
