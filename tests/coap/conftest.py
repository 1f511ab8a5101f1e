"""An endpoint on a virtual clock, with a test on the other side of the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pdmlab.clock import DeviceClock
from tests.coap.wire import Wire, live_timers
from tests.on_its_clock import run_coroutine


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run tests that are coroutines on the loop of their virtual clock."""
    return run_coroutine(pyfuncitem)


@pytest.fixture
def clock() -> Iterator[DeviceClock]:
    with DeviceClock() as clock:
        yield clock


@pytest.fixture
def wire(clock: DeviceClock) -> Iterator[Wire]:
    """A wire whose endpoints leave no timer and no task behind, however the test ends."""
    wire = Wire(clock)
    yield wire

    async def close() -> None:
        for endpoint in wire.endpoints:
            await endpoint.close()
        assert not live_timers(clock.loop)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    clock.call_async(close())
