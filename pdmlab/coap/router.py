"""Which handler answers which method and path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.coap.endpoint import Handler
from pdmlab.coap.transport import Address


class Router:
    """A handler that asks others: 4.04 for unknown paths, 4.05 for methods that a path has not, 5.05 for proxying.

    In a pattern `*` stands for one segment and a last `**` for any number: "rd/*/*", "fw/**". Patterns are
    tried in the order in which they were added.
    """

    def __init__(self) -> None:
        self._routes: list[tuple[tuple[str, ...], dict[Code, Handler]]] = []

    def add(self, method: Code, pattern: str, handler: Handler) -> None:
        """Let handler answer the method on paths of the pattern."""
        segments = tuple(pattern.strip("/").split("/")) if pattern.strip("/") else ()
        for known, methods in self._routes:
            if known == segments:
                methods[method] = handler
                return
        self._routes.append((segments, {method: handler}))

    def on(self, method: Code, pattern: str) -> Callable[[Handler], Handler]:
        """Decorate a handler: `@router.on(POST, "rd")`."""

        def add(handler: Handler) -> Handler:
            self.add(method, pattern, handler)
            return handler

        return add

    def __call__(self, message: Message, peer: Address) -> Awaitable[Message | None] | Message | None:
        path = message.opt.uri_path
        allowed = [methods for pattern, methods in self._routes if _matches(pattern, path)]
        for methods in allowed:
            if message.code in methods:
                return methods[message.code](message, peer)
        if allowed:
            return Message(code=codes.METHOD_NOT_ALLOWED, payload=b"the path has no such method")
        # RFC 7252 section 5.7.2; a path that takes Proxy-Uri as it takes a query (fw) has a route.
        if message.opt.proxy_uri is not None:
            return Message(code=codes.PROXYING_NOT_SUPPORTED, payload=b"nothing is fetched from elsewhere here")
        return Message(code=codes.NOT_FOUND, payload=b"there is no such path")


def _matches(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    if pattern and pattern[-1] == "**":
        pattern = pattern[:-1]
        path = path[: len(pattern)]
    return len(pattern) == len(path) and all(p in ("*", s) for p, s in zip(pattern, path, strict=True))
