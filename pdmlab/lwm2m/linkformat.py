"""The link format (RFC 6690) of registrations: which paths a device has, with their values and observations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.paths import Path

_TARGET = re.compile(r"\s*<([^<>]*)>")
_ATTRIBUTE = re.compile(r"""\s*;\s*([^\s;,="<>]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"<>]*))?""", re.DOTALL)
_COMMA = re.compile(r"\s*(,|$)")
_PLAIN = re.compile(r"[A-Za-z0-9.+_-]+", re.ASCII)
MAX_SIZE = 64 << 10
"""The longest list that is read (B): the stock example's has 1126 B."""
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
    if len(payload) > MAX_SIZE:
        raise Lwm2mError(f"link format: {len(payload)} B, of which {MAX_SIZE} B are read at most")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise Lwm2mError(f"link format: byte {error.start} is not UTF-8") from error
    links: list[Link] = []
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
        try:
            path = Path.parse(target[1])
        except Lwm2mError:
            continue
        links.append(_link(path, attributes))
    return links


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
