"""What one API key sees of a service: shared by all browsers that signed in with it, and by nobody else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import time
import uuid
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from pdmlab.cloud.channel import Channel, refused
from pdmlab.cloud.mailbox import AwaitedMailbox, Event
from pdmlab.cloud.rest import Awaited
from pdmlab.cloud.values import Value, encode
from pdmlab.errors import PdmlabError, ServiceError, TimedOut
from pdmlab.lwm2m.content import FORMAT_NAMES, TEXT
from pdmlab.page.api import Api
from pdmlab.page.values import decode

ASK_S = 30.0
"""How long a device may take to answer."""
HISTORY = 240
"""Values that are kept of what is observed."""
OBSERVED = 200
"""Resources that are observed at once, at most."""

_WAITS = "the device may sleep, or be off: its queue shows what waits, and why"

READ_ONLY = "this key may only read: it is in the group Readers"
NOT_ADMINISTRATOR = "this wants a key of the group Administrators"


class Sample(NamedTuple):
    """A value, its content type, and when the page got it (Unix s, host clock)."""

    at: float
    value: Value
    format: str


@dataclass
class Observed:
    """A resource that is observed for the page; `count` goes up with each value."""

    device: str
    path: str
    state: str = "asked"
    trouble: PdmlabError | None = None
    count: int = 0
    history: deque[Sample] = field(default_factory=lambda: deque(maxlen=HISTORY))
    stack: ExitStack = field(default_factory=ExitStack, repr=False)

    def take(self, event: Event) -> None:
        """Keep a value that came."""
        self.history.append(sample(event, self.path))
        self.state, self.trouble = "active", None
        self.count += 1

    def fail(self, error: PdmlabError) -> None:
        """Keep why none comes."""
        self.state, self.trouble = "refused", error
        self.count += 1


def sample(event: Event, path: str) -> Sample:
    """Return what an async-response or a notification brought."""
    format = str(event.get("ct") or FORMAT_NAMES[TEXT])
    return Sample(time.time(), decode(str(event.get("payload") or ""), format, path), format)


class Seat:
    """An API key at work; `rights` is "read-only", "developer" or "administrator"."""

    def __init__(self, url: str, key: str, ca: Path | None, name: str) -> None:
        """name: what the page calls itself, where it makes a key to hear answers with."""
        self.url = url
        self.api = Api(url, key, ca)
        self.key_name = self.key_id = self.account_id = self.account_name = ""
        self.rights = "administrator"
        self.observed: dict[tuple[str, str], Observed] = {}
        self._key, self._ca, self._name = key, ca, name
        self._own: Api | None = None  # with a key of the page's own
        self._own_id = ""
        self._heard: Awaited | None = None  # the key on whose channel answers come
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Seat at {self.url} of key {self.key_id}, {self.rights}, {len(self.observed)} observed>"

    async def open(self) -> None:
        """Find out whose key it is and what it may do.

        Raises:
            ServiceError: the service does not know the key (401).
            Unreachable, TimedOut: the service does not answer.
        """
        me = await self.api.get("/v3/api-keys/me")
        account = await self.api.get("/v3/accounts/me")
        self.key_id, self.key_name = str(me["id"]), str(me["name"])
        self.account_id, self.account_name = str(account["id"]), str(account.get("display_name") or "")
        with contextlib.suppress(ServiceError):
            groups = await self.api.get("/v3/api-keys/me/groups")
            names = {str(group["name"]) for group in groups["data"]}
            if "Administrators" not in names:
                self.rights = "developer" if "Developers" in names else "read-only"

    @property
    def may_write(self) -> bool:
        """Whether the key may change anything."""
        return self.rights != "read-only"

    @property
    def is_administrator(self) -> bool:
        """Whether the key may make and revoke keys."""
        return self.rights == "administrator"

    # -- asking devices --------------------------------------------------------------------------------------

    async def read(self, device: str, path: str) -> Sample:
        """Read a resource from the device; with a key that only reads, perhaps from what the service knows.

        Raises:
            ServiceError: the service or the device refused.
            TimedOut: no answer in ASK_S.
        """
        if self.may_write:
            return sample(await self._ask(device, "GET", path), path)
        channel, answer = await self._call("GET", f"/v2/endpoints/{device}{path}")
        if answer.status_code != 202:
            payload = base64.b64encode(answer.content).decode()
            return sample({"payload": payload, "ct": answer.headers.get("content-type")}, path)
        what = f"GET {path} on device {device}"
        return sample(await self._answer(channel, answer.json()["async-response-id"], what), path)

    async def write(self, device: str, path: str, value: str | bytes) -> None:
        """Write a resource: text, or bytes as opaque. Raises as `read` does."""
        await self._ask(device, "PUT", path, value)

    async def execute(self, device: str, path: str, argument: str = "") -> str:
        """Execute a resource; return what the device answers, mostly nothing. Raises as `read` does."""
        answer = await self._ask(device, "POST", path, argument or None)
        return str(decode(str(answer.get("payload") or ""), answer.get("ct"), path))

    async def _ask(self, device: str, method: str, path: str, value: str | bytes | None = None) -> Event:
        request = {"method": method, "uri": path}
        if value is not None:
            body, content_type = encode(value)
            request |= {"payload-b64": base64.b64encode(body).decode(), "content-type": content_type}
        async_id = uuid.uuid4().hex
        parameters = {"async-id": async_id, "expiry-seconds": str(math.ceil(ASK_S))}
        channel, _ = await self._call("POST", f"/v2/device-requests/{device}", json=request, params=parameters)
        return await self._answer(channel, async_id, f"{method} {path} on device {device}")

    async def _answer(self, channel: Channel, async_id: str, what: str, *, observing: bool = False) -> Event:
        with channel.answer(async_id, AwaitedMailbox()) as mailbox:
            event = await channel.next(mailbox, ASK_S, what, _WAITS)
        if int(event["status"]) >= 300:
            raise refused(event, what, observing=observing)
        return event

    # -- observing -------------------------------------------------------------------------------------------

    async def observe(self, device: str, path: str) -> Observed:
        """Observe a resource, until `unobserve`; what comes is in its history. Raises as `read` does."""
        if (device, path) in self.observed:
            return self.observed[device, path]
        if len(self.observed) >= OBSERVED:
            raise ServiceError(f"{OBSERVED} resources are observed already", status=429, hint="end some of them")
        observed = self.observed[device, path] = Observed(device, path)
        try:
            await self._subscribe(observed)
        except BaseException:
            await self.unobserve(device, path)
            raise
        return observed

    async def unobserve(self, device: str, path: str) -> None:
        """Observe a resource no longer."""
        observed = self.observed.pop((device, path), None)
        if observed is None:
            return
        observed.stack.close()
        with contextlib.suppress(PdmlabError):  # it may be gone already, as after a new registration
            await (self._own or self.api).call("DELETE", f"/v2/subscriptions/{device}{path}")

    async def _subscribe(self, observed: Observed) -> None:
        """Subscribe, and keep what comes from then on."""
        device, path, mailbox = observed.device, observed.path, AwaitedMailbox()
        what = f"observe {path} of device {device}"
        channel, answer = await self._call("PUT", f"/v2/subscriptions/{device}{path}")
        observer = observed.stack.enter_context(channel.values(device, path, mailbox))
        if answer.status_code == 202:
            event = await self._answer(channel, str(answer.json()["async-response-id"]), what, observing=True)
            if event.get("payload"):
                observed.take(event)
        observed.state, observed.trouble = "active", None
        channel.made(observer)
        following = asyncio.get_running_loop().create_task(self._follow(observed, channel, mailbox, what))
        observed.stack.callback(following.cancel)

    async def _follow(self, observed: Observed, channel: Channel, mailbox: AwaitedMailbox, what: str) -> None:
        while True:
            try:
                observed.take(await channel.next(mailbox, ASK_S, what, _WAITS))
            except TimedOut:
                continue
            except PdmlabError as error:
                observed.fail(error)

    async def _again(self, observed: Observed) -> None:
        try:
            await self._subscribe(observed)
        except PdmlabError as error:
            observed.fail(error)

    # -- hearing answers -------------------------------------------------------------------------------------

    async def _call(self, method: str, path: str, **options: Any) -> tuple[Channel, httpx.Response]:
        """Make a call whose answer, or what it subscribes to, comes on a channel; return that too. Raises as `call`."""
        heard, api = await self._hear()
        try:
            return Channel.of(heard), await api.call(method, path, **options)
        except ServiceError as error:
            if error.status != 401 or api is self.api:
                raise
        await self._lose_own_key(heard)
        heard, api = await self._hear()
        return Channel.of(heard), await api.call(method, path, **options)

    async def _lose_own_key(self, heard: Awaited) -> None:
        """Do without the page's own key, which somebody has revoked; what was observed with it is observed anew."""
        async with self._opening:
            if self._heard is not heard or self._own is None:
                return
            own, self._own, self._heard = self._own, None, None
            again = [observed for observed in self.observed.values() if observed.state != "asked"]
            for observed in again:
                observed.state = "asked"
                observed.stack.close()
        await _hang_up(heard)
        await own.close()
        for observed in again:
            task = asyncio.get_running_loop().create_task(self._again(observed))
            observed.stack.callback(task.cancel)

    async def _hear(self) -> tuple[Awaited, Api]:
        """Return the key on whose channel answers come, and the calls that they are answers to."""
        async with self._opening:
            if self._heard is None:
                key = self._key
                if self.is_administrator and self._own is None:
                    with contextlib.suppress(ServiceError):
                        key = await self._make_own_key()
                self._heard = Awaited(self.url, key, ca=self._ca)
            return self._heard, self._own or self.api

    async def _make_own_key(self) -> str:
        """Make a key to hear answers with: a channel has one hearer, and a notebook may use the same key.

        One that is left of a page that was killed is revoked first.
        """
        name = f"{self._name} for {self.key_id[-8:]}"
        for key in (await self.api.get("/v3/api-keys", limit=1000))["data"]:
            if key["name"] == name:
                await self.api.call("DELETE", f"/v3/api-keys/{key['id']}")
        groups = (await self.api.get("/v3/policy-groups", limit=1000))["data"]
        developers = [str(group["id"]) for group in groups if group["name"] == "Developers"]
        made = (await self.api.call("POST", "/v3/api-keys", json={"name": name, "groups": developers})).json()
        self._own, self._own_id = Api(self.url, str(made["key"]), self._ca), str(made["id"])
        return str(made["key"])

    async def close(self) -> None:
        """End the observations, revoke the page's own key, and close the connections."""
        for observed in self.observed.values():
            observed.stack.close()
        if self._heard is not None:
            await _hang_up(self._heard)
        if self._own is not None:
            with contextlib.suppress(PdmlabError):
                await self.api.call("DELETE", f"/v3/api-keys/{self._own_id}")
            await self._own.close()
        else:
            for device, path in list(self.observed):
                await self.unobserve(device, path)
        self.observed.clear()
        await self.api.close()

    async def addresses(self) -> dict[str, Any]:
        """Return where the service is reached by devices, as /lab/service says it."""
        found: dict[str, Any] = await self.api.get("/lab/service")
        return found


async def _hang_up(heard: Awaited) -> None:
    """Let go of a key's channel, unless somebody else in this program waits for something on it."""
    with contextlib.suppress(PdmlabError):
        await asyncio.to_thread(Channel.end, heard)
    await heard.close()
