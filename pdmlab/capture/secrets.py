"""Payloads that a log must not keep: of the security object and certificate enrolment, and manifests with a key.

They are held apart until the last of their blocks has passed, then put in words that hold no secret, and forgotten.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeAlias

from pdmlab.capture.dialect import Body, Dialect
from pdmlab.capture.kept import Direction, Secret
from pdmlab.capture.parts import BLOCK1, BLOCK2, CONTENT_FORMAT, URI_PATH, URI_QUERY, Parts

PATHS = {"0", "est", "21"}
"""First segments: Security, certificate enrolment, OSCORE."""
MANIFEST = ("10252", "0", "1")
"""The vendor's firmware package: behind the manifest of an encrypted payload is its key, context tag 1 and 16 B."""
FIRST = frozenset(ord(segment[0]) for segment in (*PATHS, MANIFEST[0]))
"""What a path that may be secret begins with."""
KEPT = Secret("(kept secret)")
MOST_HELD = 256
"""Exchanges that are held of each direction: what one side floods the log with displaces nothing of the other's."""
LONGEST = 16 << 10
"""The longest body that is put together (B): a chain of certificates fits."""


_Key: TypeAlias = tuple[str, tuple[str, int], bytes]
"""An endpoint, its peer, and the token of what was asked."""


@dataclass(slots=True)
class _Held:
    path: tuple[str, ...]
    query: tuple[str, ...]
    code: int
    request: bytearray = field(default_factory=bytearray)
    response: bytearray = field(default_factory=bytearray)


class Secrets:
    """Knows which messages carry secrets, and what may be said of them."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._asked: dict[Direction, OrderedDict[_Key, _Held]] = {
            "in": OrderedDict(),
            "out": OrderedDict(),
        }
        self._lock = threading.Lock()
        self.held: set[str] = set()
        """Endpoints with exchanges that a message could belong to."""

    def __repr__(self) -> str:
        return f"<Secrets of {sum(map(len, self._asked.values()))} exchanges>"

    def of_request(self, endpoint: str, direction: Direction, peer: tuple[str, int], message: Parts) -> Secret | None:
        """Return what stands for the payload of a request if it is a secret one; it may have none."""
        segments = message.texts(URI_PATH)
        key = endpoint, peer, message.token
        with self._lock:
            secret = self._of_request(key, direction, segments, message)
            self.held = {key[0] for asked in self._asked.values() for key in asked}
            return secret

    def _of_request(self, key: _Key, direction: Direction, segments: tuple[str, ...], message: Parts) -> Secret | None:
        held_now = self._asked[direction]
        if not _is_secret(segments, message):
            held_now.pop(key, None)  # its token means another exchange now
            return None
        held = held_now.get(key)
        if held is None or (held.path, held.code) != (segments, message.code):
            held = held_now[key] = _Held(segments, message.texts(URI_QUERY), message.code)
            if len(held_now) > MOST_HELD:
                held_now.popitem(last=False)
        return self._taken(held, held.request, message.block(BLOCK1), message)

    def of_response(self, endpoint: str, direction: Direction, peer: tuple[str, int], message: Parts) -> Secret | None:
        """Return what stands for the payload of a response if its request was a secret one."""
        asked: Direction = "out" if direction == "in" else "in"
        with self._lock:
            held = self._asked[asked].get((endpoint, peer, message.token))
            return None if held is None else self._taken(held, held.response, message.block(BLOCK2), message)

    def _taken(self, held: _Held, body: bytearray, block: tuple[int, bool, int] | None, message: Parts) -> Secret:
        """Add a payload to a body; put the body in words if that was all of it, and forget it."""
        number, more, size = block if block is not None else (0, False, 0)
        start = number * size
        if start == 0:
            body.clear()
        if not message.payload:
            return Secret("")
        if start != len(body):
            if start < len(body) and more:  # the same block again
                return KEPT
            body.clear()
            return KEPT
        if len(body) + len(message.payload) > LONGEST:
            body.clear()
            return KEPT
        body += message.payload
        if more:
            return Secret(f"{KEPT.words}, {len(body)} B so far")
        answer = None if message.is_request else message.code
        whole = Body(held.path, held.query, held.code, answer, message.number(CONTENT_FORMAT), bytes(body))
        body.clear()
        words = self._dialect.words(whole)
        return KEPT if words is None else Secret(words, self._dialect.who(whole))


def _is_secret(segments: tuple[str, ...], message: Parts) -> bool:
    if segments == MANIFEST:  # in blocks, the key may be in two of them
        return message.block(BLOCK1) is not None or message.payload[-18:-16] == b"\x81\x10"
    return bool(segments) and (segments[0].lstrip("0") or segments[0][:1]) in PATHS
