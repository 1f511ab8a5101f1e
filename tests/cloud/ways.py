"""Stories that are told once and run in every way in which the REST client is used."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from pdmlab.cloud import AsyncCloud, Cloud
from pdmlab.cloud.both import now

Story = Callable[[Any], Coroutine[Any, Any, None]]

WAYS = ("blocking", "blocking in a running loop", "awaited")
"""A script's; a notebook's, whose kernel has a loop; and that of code on a loop."""


def tell(way: str, story: Story, host: str, key: str, **options: Any) -> None:
    """Run a story with a client of that way."""
    if way == "awaited":
        asyncio.run(_awaited(story, AsyncCloud(host, key, **options)))
        return
    with Cloud(host, key, **options) as cloud:
        if way == "blocking":
            now(story(cloud))
        else:
            asyncio.run(story(cloud))


async def _awaited(story: Story, cloud: AsyncCloud) -> None:
    async with cloud:
        await story(cloud)


async def it(found: Any) -> Any:
    """Return what a call returned, or what it returns when it is awaited."""
    return await found if isinstance(found, Awaitable) and inspect.iscoroutine(found) else found


async def every(flow: Any) -> list[Any]:
    """Return everything that a flow gives."""
    if flow._rest.blocks:
        return list(flow)
    return [each async for each in flow]


@asynccontextmanager
async def opened(stream: Any) -> AsyncIterator[Any]:
    """Use a stream in the with statement of its way."""
    if stream._rest.blocks:
        with stream as entered:
            yield entered
    else:
        async with stream as entered:
            yield entered
