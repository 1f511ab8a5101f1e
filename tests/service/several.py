"""Several cores in virtual time over one PostgreSQL database, as several processes are; devices go from one to another.

What one has committed, the others have heard when the loop takes its next turn: so stories are the same each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from pdmlab.clock import DeviceClock
from pdmlab.network.fabric import Fabric
from tests.service.corelab import CoreLab, FakeDevice

T = TypeVar("T")


class SeveralLab:
    """Labs by name, on one fabric; `hears` is False while no news reach anybody."""

    def __init__(self, clock: DeviceClock, database: str, *names: str) -> None:
        fabric = Fabric(clock, 1)
        self.hears = True
        self.labs: dict[str, CoreLab] = {}
        for number, name in enumerate(names):
            self.labs[name] = CoreLab(clock, database, 1 + 1000 * number, fabric=fabric, name=name)

    def __getitem__(self, name: str) -> CoreLab:
        return self.labs[name]

    async def start(self, name: str) -> None:
        lab = self.labs[name]
        others = [each for each in self.labs.values() if each.key]
        if others:
            lab.key_id, lab.key = others[0].key_id, others[0].key
        await lab.start()
        self._watch(lab)

    def _watch(self, lab: CoreLab) -> None:
        store, loop = lab.core.store, asyncio.get_running_loop()
        commit = store._commit

        def committed(transaction: Any) -> None:
            commit(transaction)
            loop.call_soon(self.deliver)

        store._commit = committed  # type: ignore[method-assign]

    def deliver(self) -> None:
        """Let every core hear what was committed."""
        for lab in self.labs.values():
            listener = getattr(lab, "core", None) and lab.core.nodes._listener
            if listener and listener._connection is not None:
                listener._connection.pgconn.exec_(b"SELECT 1")  # the server sends news before the answer
                if self.hears:
                    lab.core.nodes.look()
                else:
                    while listener._connection.pgconn.notifies() is not None:
                        pass

    async def restart(self, name: str, **options: Any) -> None:
        await self.labs[name].restart(**options)
        self._watch(self.labs[name])

    async def kill(self, name: str) -> None:
        await self.labs[name].kill()

    async def move(self, device: FakeDevice, to: str, *, full: bool = True) -> None:
        """Let a device go to another process: with a full registration, or with an update of the one it has."""
        device.lab = self.labs[to]
        if full:
            await device.register()
        else:
            await device.update()

    async def close(self) -> None:
        for lab in self.labs.values():
            if hasattr(lab, "core"):
                await lab.close()


Story = Callable[[SeveralLab], Coroutine[Any, Any, T]]


class Stage(Protocol):
    def __call__(self, story: Story[T]) -> T: ...


def play(story: Story[T], database: str, *names: str) -> T:
    """Run a story in virtual time with a core of each name; return what it returns."""
    with DeviceClock(name="story") as clock:

        async def run() -> T:
            lab = SeveralLab(clock, database, *names)
            try:
                for name in names:
                    await lab.start(name)
                return await story(lab)
            finally:
                await lab.close()

        return clock.call_async(run())
