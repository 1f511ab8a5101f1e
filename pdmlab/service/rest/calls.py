"""Calls that are under way, by their keys: a poll, a WebSocket or a log that is followed ends when its key does.

They were let in by a key that was good then. Who revokes it means at once, and also in another process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from starlette.types import Message, Receive, Send

from pdmlab.service.accounts import Accounts, Key
from pdmlab.service.bus import Bus
from pdmlab.service.rights import Rights


class Calls:
    """Those of this process; the bus says which keys have changed, in whichever process it was."""

    def __init__(self, accounts: Accounts, bus: Bus) -> None:
        self._accounts = accounts
        self._open: dict[str, set[Call]] = {}
        bus.hear("key", self._changed)

    @contextlib.contextmanager
    def of(self, key: Key, least: Rights) -> Iterator[Call]:
        """Give a call that has just been let in by a key, because it has at least these rights."""
        call = Call(key, least)
        calls = self._open.setdefault(key.id, set())
        calls.add(call)
        try:
            yield call
        finally:
            calls.discard(call)
            if not calls:
                self._open.pop(key.id, None)

    def _changed(self, key_id: str) -> None:
        if key_id in self._open:
            # Not in the middle of the transaction that tells it: it may yet be undone.
            asyncio.get_running_loop().call_soon(self._look, key_id)

    def _look(self, key_id: str) -> None:
        for call in list(self._open.get(key_id, ())):
            if not self._accounts.holds(call.key, call.least):
                call.end()


class Call:
    """A call: what it receives and sends goes through here."""

    def __init__(self, key: Key, least: Rights) -> None:
        self.key, self.least = key, least
        self.over = False
        """Whether it was ended: then nothing of what it says is sent."""
        self.started = self.finished = False
        """Whether an answer was begun, and whether it was sent whole."""
        self._ended: asyncio.Event | None = None

    def end(self) -> None:
        """Let a call that waits for its caller to go see that; one that does not wait says what it has to."""
        if self._ended is not None:
            self.over = True
            self._ended.set()

    def receiving(self, receive: Receive, gone: str = "http.disconnect") -> Receive:
        """Return what gives the call its messages, the last of which may be that it is over: a message `gone`."""
        whole = False

        async def received() -> Message:
            nonlocal whole
            if whole:
                return await self._or_over(receive, gone)
            message = await receive()
            # Whoever has the whole body, and waits for more, waits for the caller to go.
            whole = message["type"] == "websocket.connect" or not message.get("more_body")
            return message

        return received

    async def _or_over(self, receive: Receive, gone: str) -> Message:
        self._ended = self._ended or asyncio.Event()
        message, ended = asyncio.ensure_future(receive()), asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({message, ended}, return_when=asyncio.FIRST_COMPLETED)
            return {"type": gone, "code": 1008} if self.over else message.result()
        finally:
            for each in (message, ended):
                each.cancel()
            await asyncio.gather(message, ended, return_exceptions=True)

    def sending(self, send: Send) -> Send:
        """Return what takes the call's answer."""

        async def sent(message: Message) -> None:
            if not self.over:
                self.started = True
                self.finished = message["type"] == "http.response.body" and not message.get("more_body")
                await send(message)

        return sent
