"""Tests that are coroutines run on a virtual clock, with a lab on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from pdmlab.clock import DeviceClock
from tests.lwm2m.scripted import Lab
from tests.on_its_clock import run_coroutine

settings.register_profile("steady", deadline=None)  # a busy machine decides no test
settings.load_profile("steady")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    return run_coroutine(pyfuncitem)


@pytest.fixture
def clock() -> Iterator[DeviceClock]:
    with DeviceClock() as clock:
        yield clock


@pytest.fixture
def lab(clock: DeviceClock) -> Iterator[Lab]:
    """A network, servers and devices, which end with the test."""

    async def make() -> Lab:
        return Lab()

    lab = clock.call_async(make())
    yield lab
    clock.call_async(lab.close())
