"""The door over HTTP: what every request passes first, the form that takes a key, and links that work once."""

from __future__ import annotations

from html import escape
from importlib import resources
from urllib.parse import parse_qs, urlsplit

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pdmlab.errors import PdmlabError, ServiceError
from pdmlab.page.door import Door, Session, bearer

MAX_FORM = 4096
"""Of what may come without a session (B)."""
MAX_BODY = 110 << 20
"""Of what may come with one: firmware images (B)."""
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)
"""Content-Security-Policy: a browser loads nothing from elsewhere, whatever stands in the page."""

_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # with none at all, browsers say not even where a form comes from
    (b"x-frame-options", b"DENY"),
]
_SAY = {
    "out": "You have signed out.",
    "key": "The key is not valid any more: it was revoked, or is not active.",
    "over": "You were signed in before: the page has started anew since, or nobody looked for 12 hours. Sign in again.",
    "used": "This link has been used, or is too old: each works once. Sign in with a key.",
}


class Doorway:
    """An ASGI application in front of another: nothing of that is seen without a session, its scripts included."""

    def __init__(self, app: ASGIApp, door: Door, hosts: frozenset[str] | None, *, secure: bool) -> None:
        """hosts: names that the page may be asked by, None for any; secure: whether it is served by https."""
        self.app, self._door, self._hosts, self._secure = app, door, hosts, secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        session = self._door.session(connection.cookies.get(self._door.cookie))
        if scope["type"] == "websocket":
            if session is None or not self._ours(connection):
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        request = Request(scope, _limited(receive, MAX_FORM if session is None else MAX_BODY))
        answer = await self._answer(request, session)
        if answer is None:
            scope["state"] = {**scope.get("state", {}), "session": session}
            await self.app(scope, request.receive, _guarded(send, cached=scope["path"].startswith("/_nicegui/")))
        else:
            await answer(scope, receive, _guarded(send, cached=False))

    async def _answer(self, request: Request, session: Session | None) -> Response | None:
        """Return the door's own answer; None for what is for the page."""
        path, method = request.url.path, request.method
        if self._hosts is not None and (request.url.hostname or "") not in self._hosts:
            return PlainTextResponse("this page is not known by that name", 421)
        if method == "POST" and not self._ours(request):
            return PlainTextResponse("this call comes from another page", 403)
        if path == "/sign-in":
            return await self._sign_in(request)
        if path.startswith("/enter/") and method == "GET":
            return await self._enter(path.removeprefix("/enter/"))
        if path == "/links" and method == "POST":
            return await self._link(request)
        if path == "/alive":
            return PlainTextResponse("alive")
        if session is None:
            return self._refuse(request)
        if path == "/sign-out" and method == "POST":
            self._door.sign_out(session)
            return self._without(RedirectResponse("/sign-in?why=out", 303))
        return None

    def _ours(self, connection: HTTPConnection) -> bool:
        """Whether a call comes from a page of ours, or from no page at all."""
        origin = connection.headers.get("origin")
        try:
            return origin is None or urlsplit(origin).netloc == connection.headers.get("host")
        except ValueError:  # it is no origin
            return False

    def _refuse(self, request: Request) -> Response:
        if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse("sign in first", 401)
        if request.headers.get("sec-fetch-site") == "cross-site":
            # Somebody followed a link from another page, a notebook say: the browser keeps the cookie back until
            # this page itself asks.
            return HTMLResponse(_onward(request.url.path))
        return RedirectResponse(f"/sign-in{'?why=over' if self._door.cookie in request.cookies else ''}", 303)

    async def _sign_in(self, request: Request) -> Response:
        if request.method != "POST":
            return HTMLResponse(_form(self._door.url, _SAY.get(request.query_params.get("why", ""), "")))
        try:
            given = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
        except (ClientDisconnect, ValueError):  # it was cut off, or has too many fields
            return PlainTextResponse("the form is too large", 413)
        try:
            cookie = await self._door.sign_in(given.get("key", [""])[0])
        except PdmlabError as error:
            status, said = _words(error)
            return HTMLResponse(_form(self._door.url, said, bad=True), status)
        return self._with(cookie, RedirectResponse("/", 303))

    async def _enter(self, token: str) -> Response:
        try:
            cookie = await self._door.enter(token)
        except PdmlabError as error:
            status, said = _words(error)
            return HTMLResponse(_form(self._door.url, said, bad=True), status)
        if cookie is None:
            return RedirectResponse("/sign-in?why=used", 303)
        # No redirect: after one from another page, a browser would keep a strict cookie back.
        return self._with(cookie, HTMLResponse(_onward("/")))

    async def _link(self, request: Request) -> Response:
        """Make a link that signs in, for somebody who has the key already: a program, which opens a browser with it."""
        try:
            token = await self._door.make_link(bearer(request.headers))
        except PdmlabError as error:
            status, said = _words(error)
            return JSONResponse({"object": "error", "code": status, "message": said}, status)
        base = str(request.base_url).rstrip("/")
        return JSONResponse({"url": f"{base}/enter/{token}"}, 201)

    def _with(self, cookie: str, answer: Response) -> Response:
        answer.set_cookie(self._door.cookie, cookie, httponly=True, samesite="strict", secure=self._secure, path="/")
        return answer

    def _without(self, answer: Response) -> Response:
        answer.delete_cookie(self._door.cookie, httponly=True, samesite="strict", secure=self._secure, path="/")
        return answer


def _words(error: PdmlabError) -> tuple[int, str]:
    """Return the status and the words for an error at the door."""
    if isinstance(error, ServiceError):
        if error.status == 401:
            return 401, "The service does not know this key, or it is revoked or not active."
        return 502, f"The service refused: {error.message}."
    return 502, f"The service does not answer: {error.message}."


def _guarded(send: Send, *, cached: bool) -> Send:
    async def respond(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), *_HEADERS]
            if not cached:  # what is the page's own library may be kept by the browser; nothing else
                headers = [each for each in headers if each[0].lower() != b"cache-control"]
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await send(message)

    return respond


def _limited(receive: Receive, limit: int) -> Receive:
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            return {"type": "http.disconnect"}
        return message

    return counted


def _onward(path: str) -> str:
    # With two slashes it would name another host.
    to = escape("/" + path.lstrip("/"), quote=True)
    return (
        '<!doctype html><link rel="icon" href="data:,"><title>…</title>'
        f'<meta http-equiv="refresh" content="0;url={to}">'
    )


def _form(url: str, said: str, *, bad: bool = False) -> str:
    page = resources.files("pdmlab.page").joinpath("sign-in.html").read_text(encoding="utf-8")
    style = resources.files("pdmlab.page").joinpath("look.css").read_text(encoding="utf-8")
    shown = f'<p class="{"said bad" if bad else "said"}" role="status">{escape(said)}</p>' if said else ""
    return page.replace("{{style}}", style).replace("{{url}}", escape(url)).replace("{{said}}", shown)
