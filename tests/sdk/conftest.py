"""A service for each module of SDK tests; what it answers is held against the vendor's description."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pdmlab.aio import LoopThread
from pdmlab.service import serve
from pdmlab.service.service import Service
from tests.sdk.lab import SdkLab
from tests.vendor.watching import answers_as_the_vendor_has_them, watched

__all__ = ["answers_as_the_vendor_has_them", "watched"]


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with serve(name=request.module.__name__.rpartition(".")[2].replace("_", "-")) as running:
        yield running


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    with LoopThread("devices") as loop:
        yield loop


@pytest.fixture
def lab(service: Service, loop: LoopThread) -> Iterator[SdkLab]:
    made = SdkLab(service, loop)
    try:
        yield made
    finally:
        made.close()
