"""A firmware on trial is kept once it has registered, or when the application says so, and not before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pdmlab.errors import StorageError
from tests.client.bench import Bench, Cloud


class Trial:
    """A bootloader that notes when it was told to keep the firmware."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._real = bench, bench.bootloader
        self.confirmed: list[bool] = []
        self.registered = False
        self.fails = False

    def confirm(self) -> None:
        if self.fails:
            raise StorageError("the flash refuses")
        self.confirmed.append(self.registered)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.mark.parametrize("itself", [False, True])
def test_a_registration_confirms_unless_the_application_does(itself: bool) -> None:
    bench = Bench()
    bench.bootloader = trial = Trial(bench)  # type: ignore[assignment]
    bench_client = bench.make_client
    bench.make_client = lambda **options: bench_client(confirm_when_registered=not itself)  # type: ignore[method-assign]

    async def story() -> None:
        cloud = await Cloud(bench).open()
        assert trial.confirmed == []
        client = await bench.connect(
            lambda client: client.on_registered(lambda info: setattr(trial, "registered", True))
        )
        await cloud.registered.wait()
        await asyncio.sleep(60)
        assert trial.confirmed == ([] if itself else [True])
        if itself:
            await bench.device(client.confirm_firmware)
            assert trial.confirmed == [True]

    bench.play(story)


def test_a_firmware_that_cannot_be_confirmed_is_an_error_in_words() -> None:
    bench = Bench()
    bench.bootloader = trial = Trial(bench)  # type: ignore[assignment]
    trial.fails = True
    errors: list[tuple[int, str]] = []

    async def story() -> str:
        cloud = await Cloud(bench).open()
        client = await bench.connect(lambda client: client.on_error(lambda *error: errors.append(error)))
        await cloud.registered.wait()
        await asyncio.sleep(60)
        return str(client.error_description)

    assert bench.play(story) == "the firmware is not confirmed: the flash refuses"
    assert len(errors) == 1, errors
