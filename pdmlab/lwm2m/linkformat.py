"""The link format (RFC 6690) of registrations: which paths a device has, with their values and observations."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.paths import Path

_TARGET = re.compile(r"\s*<([^<>]*)>")
_ATTRIBUTE = re.compile(r"""\s*;\s*([^\s;,="<>]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"<>]*))?""", re.DOTALL)
_ENABLER = re.compile(r'\s*lwm2m="?([0-9.]{1,8})"?\s*(?:,|$)')
_COMMA = re.compile(r"\s*(,|$)")
_PLAIN = re.compile(r"[A-Za-z0-9.+_-]+", re.ASCII)
MAX_SIZE = 64 << 10
"""The longest list that is read (B): the stock example's has 1126 B."""
_MOST_FORMATS = 32
PIECE = 250
"""Links that are read in one go: 1 or 2 ms."""
_KNOWN = ("rt", "v", "aobs", "obs", "d")


@dataclass(frozen=True)
class Link:
    """One entry: `v` is a value sent along (text; base64 for opaque), `aobs` the number of an auto-observation.

    `others` keeps attributes without a meaning here (ver, ssid, ct), None for those without a value.
    """

    path: Path
    rt: str | None = None
    v: str | None = None
    aobs: int | None = None
    obs: bool = False
    deleted: bool = False
    others: dict[str, str | None] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The object's version: 1.0 if it says none."""
        return self.others.get("ver") or "1.0"

    @property
    def token(self) -> bytes | None:
        """The token of its auto-observed notifications: the number in two bytes, big-endian."""
        return self.aobs.to_bytes(2, "big") if self.aobs is not None else None

    def __str__(self) -> str:
        parts = [f"<{self.path}>"]
        for name, value in (("rt", self.rt), ("v", self.v), ("aobs", self.aobs)):
            if value is not None:
                parts.append(f"{name}={_quoted(str(value))}")
        parts += ["obs"] * self.obs + ["d"] * self.deleted
        for name, other in self.others.items():
            plain = other is not None and _PLAIN.fullmatch(other)
            parts.append(name if other is None else f"{name}={other if plain else _quoted(other)}")
        return ";".join(parts)


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def format_links(links: Iterable[Link]) -> bytes:
    """Return a registration's payload."""
    return ",".join(map(str, links)).encode()


def parse_links(payload: bytes) -> list[Link]:
    """Read a registration's payload; links to anything but LwM2M paths (</>, </.well-known>) are left out.

    Raises:
        Lwm2mError: it is not link format; the message says where.
    """
    links: list[Link] = []
    for target, attributes in _entries(payload):
        try:
            path = Path.parse(target)
        except Lwm2mError:
            continue
        links.append(_link(path, attributes))
    return links


def _entries(payload: bytes) -> Iterator[tuple[str, dict[str, str | None]]]:
    if len(payload) > MAX_SIZE:
        raise Lwm2mError(f"link format: {len(payload)} B, of which {MAX_SIZE} B are read at most")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise Lwm2mError(f"link format: byte {error.start} is not UTF-8") from error
    at = 0
    while at < len(text):
        target = _TARGET.match(text, at)
        if target is None:
            raise Lwm2mError(f"link format: no <path> at character {at}: {text[at : at + 20]!r}")
        at = target.end()
        attributes: dict[str, str | None] = {}
        while (attribute := _ATTRIBUTE.match(text, at)) is not None:
            name, value = attribute.groups()
            if value is not None and value.startswith('"'):
                value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
            attributes.setdefault(name, value)
            at = attribute.end()
        comma = _COMMA.match(text, at)
        if comma is None:
            raise Lwm2mError(f"link format: {text[at : at + 20]!r} at character {at} is neither attribute nor link")
        at = comma.end()
        yield target[1], attributes


@dataclass(frozen=True)
class LinkList:
    """What a device says of itself as a whole, and its links.

    root     where its objects are, such as "/lwm2m"; "" if they are at the top (LwM2M 1.1 core, 6.4.1)
    formats  the content formats that it knows, as far as it says (ct)
    version  of LwM2M, which Discover on the bootstrap interface says
    """

    links: list[Link]
    root: str = ""
    formats: tuple[int, ...] = ()
    version: str | None = None

    def __bytes__(self) -> bytes:
        """Return its link format, beginning with the root."""
        parts = [f"<{self.root or '/'}>"]
        if self.version == "1.0":
            parts = ['lwm2m="1.0"']  # as 1.0 began a bootstrap Discover, and not by RFC 6690
        elif self.version is not None:
            parts.append(f"lwm2m={self.version}")
        else:
            parts.append('rt="oma.lwm2m"')
        if len(self.formats) == 1:
            parts.append(f"ct={self.formats[0]}")
        elif self.formats:
            parts.append(f'ct="{" ".join(map(str, self.formats))}"')
        links = [f"<{self.root}{str(link)[1:]}" for link in self.links]
        return ",".join([";".join(parts), *links]).encode()


def parse_list(payload: bytes) -> LinkList:
    """Read a registration or the answer to a Discover, with what its root says.

    Raises:
        Lwm2mError: it is not link format; the message says where.
    """
    reading = parse_in_pieces(payload)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            found: LinkList = end.value
            return found


def parse_in_pieces(payload: bytes) -> Generator[None, None, LinkList]:
    """Read as `parse_list` does, and yield after every PIECE of links: the longest list takes 20 ms and more.

    Raises:
        Lwm2mError: it is not link format; the message says where.
    """
    # LwM2M 1.0 begins a bootstrap Discover with what is no link: lwm2m="1.0".
    enabler = _ENABLER.match(payload[:40].decode(errors="replace"))
    version = enabler[1] if enabler is not None else None
    entries = []
    for entry in _entries(payload if enabler is None else payload[len(enabler[0].encode()) :]):
        entries.append(entry)
        if len(entries) % PIECE == 0:
            yield
    root, formats = "", tuple[int, ...]()
    for target, attributes in entries:
        if target == "/" or attributes.get("rt") == "oma.lwm2m":
            root = target.rstrip("/")
            version = attributes.get("lwm2m", version)
            said = (attributes.get("ct") or "").split()[:_MOST_FORMATS]
            formats = tuple(int(each) for each in said if each.isascii() and each.isdigit() and len(each) <= 5)
            break
    links = []
    for number, (target, attributes) in enumerate(entries, 1):
        if number % PIECE == 0:
            yield
        if target.startswith(f"{root}/"):
            try:
                links.append(_link(Path.parse(target.removeprefix(root)), attributes))
            except Lwm2mError as error:
                if error.message.startswith("link format"):
                    raise
    return LinkList(links, root, formats, version)


def _link(path: Path, attributes: dict[str, str | None]) -> Link:
    aobs = attributes.get("aobs")
    if aobs is not None and not (aobs.isascii() and aobs.isdigit() and int(aobs[:6]) <= 0xFFFF):
        raise Lwm2mError(f"link format: aobs={aobs[:20]!r} of {path} is no number of two bytes")
    others = {name: value for name, value in attributes.items() if name not in _KNOWN}
    return Link(
        path,
        attributes.get("rt"),
        attributes.get("v"),
        None if aobs is None else int(aobs[:6]),
        "obs" in attributes,
        "d" in attributes,
        others,
    )
