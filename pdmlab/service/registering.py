"""What a registration asks for: its query and its links, read from whoever may have written them."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import content
from pdmlab.lwm2m.linkformat import Link, LinkList, parse_in_pieces
from pdmlab.lwm2m.paths import Path
from pdmlab.service.values import published

MAX_NAME = 64  # characters of an endpoint name or type
MAX_PAYLOAD = 64 << 10  # B of links
MAX_LIFETIME = 0x7FFF_FFFF  # s
VERSIONS = ("1.0", "1.1")
DEFAULT_LIFETIME = 86_400  # s, LwM2M 1.0 section 5.3.1

_FACTS = {
    Path.parse("/3/0/2"): "serial_number",
    Path.parse("/10255/0/3"): "vendor_id",
    Path.parse("/10255/0/4"): "device_class",
}

T = TypeVar("T")


@dataclass(frozen=True)
class Wish:
    """A registration's or an update's query; None for what it does not say."""

    endpoint_name: str
    endpoint_type: str
    account_id: str | None
    device_id: str | None
    lifetime: int | None
    binding: str | None
    queue_mode: bool
    lwm2m_version: str


def answer(code: Code, reason: str) -> Message:
    """Return an error with its reason in words."""
    return Message(code=code, payload=reason.encode()[:400])


def query_of(message: Message) -> dict[str, str]:
    """Return a request's query as a dict; the first of several of one name counts.

    Raises:
        Lwm2mError: a part is not name=value, or cannot be printed.
    """
    found: dict[str, str] = {}
    for part in message.opt.uri_query:
        name, equals, value = part.partition("=")
        if not part.isprintable() or not name or (not equals and name != "Q"):
            raise Lwm2mError(f"the query part {part[:40]!r} is not name=value")
        found.setdefault(name, value)
    return found


def endpoint_name_of(query: dict[str, str]) -> str:
    """Return the endpoint name that a query has.

    Raises:
        Lwm2mError: it has none, or one that is too long.
    """
    name = query.get("ep", "")
    if not 0 < len(name) <= MAX_NAME:
        raise Lwm2mError(f"ep must be an endpoint name of 1 to {MAX_NAME} characters")
    return name


def read_wish(message: Message, *, update: bool = False) -> Wish | Message:
    """Read the query of POST /rd, or of an update; return what to answer if the version is none of ours.

    Raises:
        Lwm2mError: it cannot be read.
    """
    if len(message.payload) > MAX_PAYLOAD:
        return answer(codes.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_PAYLOAD} B of links are taken")
    if message.payload and message.opt.content_format not in (None, content.LINK_FORMAT):
        return answer(codes.UNSUPPORTED_CONTENT_FORMAT, "registrations are in link format (40)")
    query = query_of(message)
    if query.get("aid", query.get("d")) != query.get("d", query.get("aid")):
        raise Lwm2mError("d= and aid= name two accounts")
    version = query.get("lwm2m", VERSIONS[0])
    if version not in VERSIONS:
        return answer(codes.PRECONDITION_FAILED, f"lwm2m={version[:16]} is not supported: {', '.join(VERSIONS)} are")
    binding = query.get("b")
    if binding is not None and not (0 < len(binding) <= 8 and set(binding) <= set("UTSNQ")):
        raise Lwm2mError(f"b={binding[:16]} is no binding")
    endpoint_type = query.get("et", "")
    if len(endpoint_type) > MAX_NAME:
        raise Lwm2mError(f"et has more than {MAX_NAME} characters")
    return Wish(
        endpoint_name=query.get("ep", "") if update else endpoint_name_of(query),
        endpoint_type=endpoint_type,
        account_id=query.get("aid") or query.get("d"),
        device_id=query.get("iep"),
        lifetime=_lifetime(query.get("lt")),
        binding=binding,
        queue_mode="Q" in query or (binding is not None and "Q" in binding),
        lwm2m_version=version,
    )


def _lifetime(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text[:12]) <= MAX_LIFETIME):
        raise Lwm2mError(f"lt={text[:16]} is no lifetime: 1 to {MAX_LIFETIME} s")
    return int(text)


def span_of(lifetime: int, version: str) -> int:
    """Return how long a registration lasts (s): with LwM2M 1.1, 0 is without end.

    Raises:
        Lwm2mError: it is 0 with LwM2M 1.0.
    """
    if lifetime == 0 and version == "1.0":
        raise Lwm2mError(f"lt=0 is no lifetime in LwM2M 1.0: 1 to {MAX_LIFETIME} s")
    return lifetime or MAX_LIFETIME


async def in_pieces(work: Generator[None, None, T]) -> T:
    """Carry out what yields now and then, and let others have their turn there."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            done: T = end.value
            return done
        await asyncio.sleep(0)


async def read_links(payload: bytes, root: str = "") -> LinkList:
    """Read the links of a registration, or of an update by a device whose objects are below root.

    Raises:
        Lwm2mError: they are not link format, or their root is too long.
    """
    if root and b"oma.lwm2m" not in payload:
        payload = bytes(LinkList([], root)) + b"," + payload
    found = await in_pieces(parse_in_pieces(payload))
    if len(found.root) > MAX_NAME:
        raise Lwm2mError(f"the root {found.root[:40]!r} of the objects has more than {MAX_NAME} characters")
    return found


def facts_of(links: Iterable[Link]) -> dict[str, Any]:
    """Return what the directory shows of a device's own values: serial number, vendor id and class id (hex)."""
    found: dict[str, Any] = {}
    for link in links:
        name = _FACTS.get(link.path)
        if name is None or link.v is None:
            continue
        value, _ = published(link.path, link.v)
        if name == "serial_number":
            found[name] = value.decode("utf-8", "replace")[:64]
        elif len(value) == 16:
            found[name] = value.hex()
    return found
