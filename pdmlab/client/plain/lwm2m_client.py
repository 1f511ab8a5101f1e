"""Lwm2mClient: a device of plain LwM2M 1.0 or 1.1, for any server, in a few lines.

with Lwm2mClient("board-1", "coap://127.0.0.1:5683", objects=[TableObject(3303, {0: {5700: 21.5}})]) as client:
    client.wait_registered()
    client["/3303/0/5700"] = 22.0
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine, Iterable
from html import escape
from typing import Any, Literal, TypeVar

from pdmlab.aio import LoopThread
from pdmlab.capture import MessageLog
from pdmlab.client.background import Background
from pdmlab.client.plain.accounts import Certificate, PreSharedKey
from pdmlab.client.plain.connecting import HostNetwork
from pdmlab.client.plain.factory import make_session
from pdmlab.client.plain.firmware import FirmwareObject
from pdmlab.client.plain.kept_accounts import KeptAccounts, made_for
from pdmlab.client.plain.link import ServerLink
from pdmlab.client.plain.objects import Content, Lwm2mObject, TableObject
from pdmlab.client.plain.standard import FIRMWARE
from pdmlab.client.plain.tree import SECURITY
from pdmlab.client.platform import Platform, current_platform
from pdmlab.clock import SECOND
from pdmlab.coap.transport import Address, text_of
from pdmlab.errors import ConfigError, PdmlabError, TimedOut
from pdmlab.lwm2m.dialect import LwM2M
from pdmlab.lwm2m.paths import Path
from pdmlab.network.interface import NetworkInterface
from pdmlab.update.object5 import Status

T = TypeVar("T")

LIFETIME = 300
"""What a device asks for if nobody says another lifetime (s)."""
ENDING = 5.0
"""How long a server has to take a device's leave (s)."""


class Lwm2mClient:
    """A plain LwM2M device beside its application, which it never blocks.

    It runs in a thread of its own; made in code that runs on a board, with the board's `net`, on the board, which
    keeps over restarts what a bootstrap server has told it.

    Args:
        endpoint_name: who the device is.
        server: where it is managed: coap:// (UDP), coaps:// (DTLS), coap+tcp:// or coaps+tcp:// (TLS), HOST and PORT.
        bootstrap: the server is a bootstrap server, which says where the device is managed.
        credentials: a pre-shared key, or a certificate; what coaps needs.
        lifetime: of the registration (s).
        version: of LwM2M.
        queue_mode: say that the device sleeps, and sleep: it hears nothing 93 s after its last message.
        objects: beside those that every device has (1, 3 to 7); one of an id of theirs takes its place, such as a
            FirmwareObject (5) that fetches packages only.
        loop: runs several devices in one thread; the device ends its own, and leaves a given one alone.
        seed: of what goes over a simulated network; real servers get what nobody can guess.
    """

    def __init__(
        self,
        endpoint_name: str,
        server: str,
        *,
        bootstrap: bool = False,
        credentials: PreSharedKey | Certificate | None = None,
        lifetime: int = LIFETIME,
        version: Literal["1.0", "1.1"] = "1.1",
        queue_mode: bool = False,
        objects: Iterable[Lwm2mObject] = (),
        net: NetworkInterface | None = None,
        loop: LoopThread | None = None,
        seed: int | None = None,
    ) -> None:
        self._platform: Platform | None = current_platform.get(None)
        if (net is None) != (self._platform is None):
            raise ConfigError(
                "a client on a board needs the board's network, and one elsewhere has none",
                hint="net=board.network in code that runs on the board",
            )
        self.endpoint_name = endpoint_name
        self.server = server
        clock = "host" if self._platform is None else self._platform.clock.name
        self.log = MessageLog(endpoint="device", clock=clock, dialect=LwM2M(), own=True)
        """Every message of the client, decoded."""
        now: Callable[[], float] = time.time
        if self._platform is not None:
            board, seed = self._platform, self._seed(self._platform, seed)
            now = lambda: board.clock.now() / SECOND  # since it was switched on: a board knows no more
        self._kept: KeptAccounts | None = None
        if self._platform is not None and bootstrap:
            self._kept = KeptAccounts(self._platform.nvstore, made_for(endpoint_name, server, credentials))
        self._session = make_session(
            endpoint_name,
            server,
            bootstrap=bootstrap,
            credentials=credentials,
            lifetime=lifetime,
            version=version,
            queue_mode=queue_mode,
            objects=objects,
            network=HostNetwork() if net is None else net,
            tap=self.log,
            restart=self.restart,
            now=now,
            seed=seed,
            kept=self._kept,
        )
        self._context = contextvars.copy_context()  # which board this is
        self._background = Background(self._platform.clock) if self._platform is not None else None
        self._own_loop = loop is None and self._platform is None
        self._loop = loop
        self._task: asyncio.Future[object] | None = None

    @staticmethod
    def _seed(board: Platform, seed: int | None) -> int:
        return int.from_bytes(board.random_bytes(8), "big") if seed is None else seed

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: bootstrap if need be, register, and stay registered, beside the caller; a second call does nothing."""
        if self._task is not None:
            return
        if self._own_loop:
            self._loop = LoopThread(f"lwm2m-{self.endpoint_name}")
        self._call(self._begin)

    def _begin(self) -> None:
        if self._background is not None:
            if self._kept is not None:
                self._kept.blocking = self._background.blocking
            for each in self._session.tree:
                if isinstance(each, TableObject):
                    each.call, each.post = self._background.call, self._background.post
                if isinstance(each, FirmwareObject):
                    each.blocking, each.spawn = self._background.blocking, self._background.spawn
            self._task = self._background.spawn(self._session.run())
        else:
            task: asyncio.Future[object] = asyncio.ensure_future(self._session.run())
            task.add_done_callback(self._ended)
            self._task = task

    def _ended(self, task: asyncio.Future[object]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, PdmlabError):
            self._session.report(error)
        else:
            context = {"message": f"the client {self.endpoint_name} failed", "exception": error}
            task.get_loop().call_exception_handler(context)

    def wait_registered(self, timeout: float = 30.0) -> None:
        """Wait until a server knows the device.

        Raises:
            TimedOut: timeout (s) is over; the hint says what went wrong so far.
        """
        try:
            self._wait(self._session.online.wait, timeout)
        except TimedOut:
            error = self._session.error
            raise TimedOut(
                f"{self.endpoint_name} is not registered at {self.server} after {timeout:g} s",
                hint=error.message if error is not None else "is a server running there?",
            ) from error

    def close(self, timeout: float = ENDING) -> None:
        """Deregister and end, with or without the server's answer after timeout (s); a second call does nothing."""
        task, self._task = self._task, None
        if task is None:
            return
        try:
            self._call(self._session.close)
            self._wait(lambda: _finished(task), timeout)
        except TimedOut:
            self._call(task.cancel)
        finally:
            if self._own_loop and self._loop is not None:
                self._loop.close()
                self._loop = None

    def __enter__(self) -> Lwm2mClient:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- what the application does -----------------------------------------------------------------------------

    def __getitem__(self, path: str) -> Content:
        """Return the value of a resource, such as client["/3/0/9"]."""
        where = self._resource(path)
        return self._call(lambda: self._session.tree[where.object].read(where.ids[1], where.ids[2]))

    def __setitem__(self, path: str, value: Content) -> None:
        """Set the value of a resource, read-only ones too; who observes it is told.

        Raises:
            ConfigError: there is none, or the value is not of its type.
        """
        where = self._resource(path)
        table = self._session.tree[where.object]
        if not isinstance(table, TableObject):
            raise ConfigError(f"{path} is not in a table", hint="its object sets its own values")
        self._call(lambda: table.set(where.ids[1], where.ids[2], value))

    def _resource(self, path: str) -> Path:
        where = Path.parse(path)
        if len(where.ids) != 3 or where.object not in self._session.tree:
            raise ConfigError(f"{path} is no resource of this device", hint='"/object/instance/resource"')
        return where

    def add(self, new: Lwm2mObject) -> None:
        """Offer one more object; a registered device says so at once.

        Raises:
            ConfigError: there is one of that id.
        """
        self._call(lambda: self._session.tree.add(new))

    def update(self) -> None:
        """Update the registrations now."""
        self._call(self._session.update)

    def send(self, *paths: str) -> None:
        """Send values to the server, which has not asked for them (LwM2M 1.1).

        Raises:
            Lwm2mError: the server has muted this, or refuses.
            NetworkError: it does not answer, or the device is not registered.
        """
        wanted: list[Path | None] = [Path.parse(each) for each in paths]
        self._wait(lambda: self._session.send(wanted))

    def bootstrap(self) -> None:
        """Ask the bootstrap server again, in the background."""
        self._call(self._session.bootstrap)

    def restart(self) -> None:
        """Hang up without a word and register anew, as after a reset; on a board, reset it."""
        if self._platform is not None and self._background is not None:
            self._background.post(self._platform.reset)  # once the answer to whoever asks for it has gone
        else:
            self._call(self._session.restart)

    # -- how it is -----------------------------------------------------------------------------------------------

    @property
    def firmware(self) -> FirmwareObject:
        """The device's firmware, object 5: its state, why an update failed, and failures for training.

        Raises:
            ConfigError: the application has given an object 5 of another kind.
        """
        found = self._session.tree[FIRMWARE]
        if not isinstance(found, FirmwareObject):
            raise ConfigError("the application has an object 5 of its own", hint="objects=[FirmwareObject(...)]")
        return found

    @property
    def links(self) -> list[ServerLink]:
        """The servers that the device has accounts of, each with its state."""
        return list(self._session.links)

    @property
    def is_registered(self) -> bool:
        """Whether a server knows the device now."""
        return any(each.online for each in self._session.links)

    @property
    def address(self) -> Address | None:
        """Where its server reaches the device."""
        return next((each.address for each in self._session.links if each.address is not None), None)

    @property
    def error(self) -> PdmlabError | None:
        """What went wrong last."""
        return self._session.error

    def on_registered(self, callback: Callable[[ServerLink], object]) -> None:
        """Call back, on the client's own thread, each time that a server knows the device."""
        self._session.on_registered = self._posted(callback)

    def on_error(self, callback: Callable[[PdmlabError], object]) -> None:
        """Call back, on the client's own thread, with what went wrong; the client goes on trying."""
        self._session.on_error = self._posted(callback)

    def on_firmware(self, callback: Callable[[Status], object]) -> None:
        """Call back, on the client's own thread, each time that object 5 has come to another state or result."""
        self.firmware.on_status = self._posted(callback)

    def _posted(self, callback: Callable[[T], object]) -> Callable[[T], object]:
        """Return what calls back where the callback may block: on a board, in a device thread."""
        background = self._background
        return callback if background is None else lambda what: background.post(callback, what)

    def __repr__(self) -> str:
        states = ", ".join(f"server {each.account.short_id} {each.state}" for each in self._session.links)
        return f"<Lwm2mClient {self.endpoint_name} at {self.server}, {states or 'not started'}>"

    def _repr_html_(self) -> str:
        address = self.address
        rows = {
            "server": self.server,
            "state": ", ".join(f"{each.account.short_id}: {each.state}" for each in self.links) or "not started",
            "answers at": text_of(address) if address is not None else "nowhere",
            "observed": str(sum(len(each.observations) for each in self.links)),
            "objects": ", ".join(f"/{each.id}" for each in self._session.tree if each.id != SECURITY),
            "last error": self.error.message if self.error is not None else "none",
        }
        cells = "".join(
            f"<tr style='text-align:left'><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in rows.items()
        )
        return f"<table><caption>Lwm2mClient {escape(self.endpoint_name)}</caption>{cells}</table>"

    # -- from any thread -------------------------------------------------------------------------------------------

    def _call(self, work: Callable[[], T]) -> T:
        """Do something on the client's loop, where its objects live."""
        if self._platform is not None:
            clock = self._platform.clock
            return work() if clock.inside else self._context.copy().run(clock.call, work)
        if self._loop is None or self._loop.inside or not self._loop.running:
            return work()  # nobody else is there yet, or any more

        async def on_loop() -> T:
            return work()

        return self._loop.run(on_loop())

    def _wait(self, work: Callable[[], Coroutine[Any, Any, object]], timeout: float | None = None) -> None:
        """Wait for a coroutine on the client's loop; raises TimedOut after timeout (s)."""
        if self._platform is not None:
            clock = self._platform.clock
            run: Callable[[], None] = lambda: clock.run(_limited(work, timeout))
            run() if clock.inside else self._context.copy().run(clock.call, run)
        elif self._loop is None:
            raise ConfigError("the client has not been started", hint="client.start(), or use it in a with block")
        else:
            self._loop.run(_limited(work, timeout))


def close_all(clients: Iterable[Lwm2mClient]) -> None:
    """Close many at once, so that a server that does not answer costs ENDING once, and not for each."""
    clients = list(clients)
    for each in clients:
        each._call(each._session.close)
    until = time.monotonic() + ENDING
    for each in clients:
        each.close(max(until - time.monotonic(), 0.0))


async def _limited(work: Callable[[], Coroutine[Any, Any, object]], timeout: float | None) -> None:
    try:
        async with asyncio.timeout(timeout):
            await work()
    except TimeoutError:
        raise TimedOut(f"not done after {timeout:g} s") from None


async def _finished(task: asyncio.Future[object]) -> None:
    await asyncio.wait([task])
