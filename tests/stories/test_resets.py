"""A notebook observes a board that is reset, and switched off and on: values go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

import pdmlab
from pdmlab import BlockDevice, FATFileSystem, M2MMethod, NetworkInterface, SimpleMbedCloudClient, measurements, serve
from pdmlab.service import Service
from pdmlab.sim.board import VirtualBoard

TEMPERATURE = "/3303/0/5700"


@pytest.fixture
def service() -> Iterator[Service]:
    with serve(name="resets") as service:
        yield service


@pytest.fixture
def board(service: Service) -> Iterator[VirtualBoard]:
    with VirtualBoard("K64F", id="reset-at-times", memory=True, seed=7) as board:
        yield board


def measuring(value: float) -> Callable[[], SimpleMbedCloudClient]:
    """Return an application that measures that."""

    def main() -> SimpleMbedCloudClient:
        net, storage = NetworkInterface.get_default_instance(), BlockDevice.get_default_instance()
        net.connect()
        client = SimpleMbedCloudClient(net, storage, FATFileSystem("fs", storage))
        client.init()
        temperature = client.create_resource(TEMPERATURE[1:], "temperature")
        temperature.set_value(value)
        temperature.methods(M2MMethod.GET)
        temperature.observable(True)
        client.register_and_connect()
        return client

    return main


def test_values_go_on_after_a_reset_and_after_a_power_cycle(service: Service, board: VirtualBoard) -> None:
    client = measurements.run_until_registered(board, measuring(20.5))
    with pdmlab.Cloud(service.url, service.api_key) as cloud:
        device = cloud.device(client.device_id)
        with device.observe(TEMPERATURE) as values:
            for value, disturb in ((21.5, board.reset), (22.5, board.power_cycle)):
                disturb()
                measurements.run_until_registered(board, measuring(value))
                assert values.next(30).value == str(value)
            assert [note.value for note in values.seen] == ["20.5", "21.5", "22.5"]
        assert cloud.subscriptions.paths(device) == []


def test_values_that_are_awaited_go_on_as_well(service: Service, board: VirtualBoard) -> None:
    client = measurements.run_until_registered(board, measuring(20.5))

    async def story() -> None:
        async with pdmlab.AsyncCloud(service.url, service.api_key) as cloud:
            device = await cloud.device(client.device_id)
            async with device.observe(TEMPERATURE) as values:
                await asyncio.to_thread(board.reset)
                await asyncio.to_thread(measurements.run_until_registered, board, measuring(21.5))
                assert (await values.next(30)).value == "21.5"
            assert await cloud.subscriptions.paths(device) == []

    asyncio.run(story())
