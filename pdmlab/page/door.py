"""Who may see the page: an API key at the door, a cookie for the browser's session, and links that work once.

The key stays in this process. Everything but the door itself wants a session, the page's own scripts included.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pdmlab.errors import ServiceError
from pdmlab.page.seat import Seat

SESSIONS = 1_000
IDLE_S = 12 * 3600.0
"""How long a browser stays signed in that asks for nothing."""
LINK_S = 120.0
"""How long a link that signs in may wait for its only use."""
LINKS = 1_000


@dataclass
class Session:
    """A browser that has signed in; `tabs` are what it has open, and `dark` how it wants them (None: as the system)."""

    seat: Seat
    digest: str = field(repr=False)
    used: float = 0.0
    dark: bool | None = None
    tabs: set[Callable[[str], None]] = field(default_factory=set, repr=False)
    """What ends each open tab of it, and says why: "out", "key", "end" of the page itself."""


class Door:
    """Sessions by cookie, seats by key, links by token; of secrets it keeps digests, and the key in its seat."""

    def __init__(
        self, url: str, ca: Path | None, name: str, *, beside: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        """beside: whether the page was started by the service, and ends with it."""
        self.url, self.beside = url, beside
        self.cookie = f"pdmlab-page-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        """The cookie's name: several pages of one host do not take each other's."""
        self._ca, self._name, self._now = ca, name, now
        self._secret = secrets.token_bytes(32)
        self._sessions: dict[str, Session] = {}
        self._seats: dict[str, Seat] = {}
        self._links: dict[str, tuple[str, float]] = {}
        self._opening = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Door to {self.url}, {len(self._sessions)} sessions>"

    async def sign_in(self, key: str) -> str:
        """Return the cookie of a new session with this key.

        Raises:
            ServiceError: the service does not know the key.
            Unreachable, TimedOut: the service does not answer.
        """
        key = _checked(key)
        digest = _digest(key)
        async with self._opening:
            seat = self._seats.get(digest)
            if seat is None:
                seat = Seat(self.url, key, self._ca, self._name)
                try:
                    await seat.open()
                except BaseException:
                    await seat.close()
                    raise
                self._seats[digest] = seat
            else:
                await seat.api.get("/v3/api-keys/me")  # it may have been revoked since
        self._forget()
        id = secrets.token_urlsafe(32)
        self._sessions[_digest(id)] = Session(seat, digest, self._now())
        return f"{id}.{self._sign(id)}"

    def session(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie; None for one that is not ours, or over."""
        id, _, signature = (cookie or "").partition(".")
        if not id or not hmac.compare_digest(signature.encode(), self._sign(id).encode()):
            return None
        session = self._sessions.get(_digest(id))
        if session is None or self._now() - session.used > IDLE_S:
            return None
        session.used = self._now()
        return session

    def touch(self, session: Session) -> None:
        """Note that a session is in use."""
        session.used = self._now()

    def sign_out(self, session: Session, why: str = "out") -> None:
        """End a session with all its tabs; the last one of a key takes that key's observations with it."""
        for id in [id for id, each in self._sessions.items() if each is session]:
            del self._sessions[id]
        for close in list(session.tabs):
            close(why)
        if all(each.seat is not session.seat for each in self._sessions.values()):
            self._seats.pop(session.digest, None)
            task = asyncio.get_running_loop().create_task(session.seat.close())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    # -- links -----------------------------------------------------------------------------------------------

    async def make_link(self, key: str) -> str:
        """Return a token that signs in with this key, once and soon. Raises as `sign_in` does."""
        key = _checked(key)
        seat = Seat(self.url, key, self._ca, self._name)
        try:
            await seat.open()
        finally:
            await seat.close()
        token = secrets.token_urlsafe(32)
        now = self._now()
        self._links = {name: each for name, each in self._links.items() if each[1] > now}
        while len(self._links) >= LINKS:
            self._links.pop(next(iter(self._links)))
        self._links[_digest(token)] = key, now + LINK_S
        return token

    async def enter(self, token: str) -> str | None:
        """Return the cookie of a new session for a link's token; None if it has been used, or is too old."""
        key, until = self._links.pop(_digest(token), ("", 0.0))
        return await self.sign_in(key) if key and until > self._now() else None

    async def close(self) -> None:
        """End everything."""
        for session in list(self._sessions.values()):
            self.sign_out(session, "end")
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _sign(self, id: str) -> str:
        return hmac.new(self._secret, id.encode(), hashlib.sha256).hexdigest()

    def _forget(self) -> None:
        """Let sessions go that are over; if there are too many, the one that was used longest ago."""
        for session in [each for each in self._sessions.values() if self._now() - each.used > IDLE_S]:
            self.sign_out(session)
        while len(self._sessions) >= SESSIONS:
            self.sign_out(min(self._sessions.values(), key=lambda each: each.used))


def _checked(key: str) -> str:
    """Return a key as it is sent; raise ServiceError (401) if it cannot be one."""
    key = key.strip()
    if not key.isascii() or not key.isprintable() or not 1 <= len(key) <= 512:
        raise ServiceError("that is no API key", status=401, hint="it begins with ak_ and has no spaces")
    return key


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def bearer(headers: Any) -> str:
    """Return the key of a call's Authorization header; "" if it carries none."""
    scheme, _, key = str(headers.get("authorization", "")).partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
