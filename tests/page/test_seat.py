"""A key at work, without a browser: what is observed stays so over a new registration, and ends with the seat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from pdmlab import Cloud
from pdmlab.errors import ServiceError
from pdmlab.page.seat import Observed, Seat
from pdmlab.service import Service, serve
from tests.page.devices import registered
from tests.service.restlab import LINKS, Device


@pytest.fixture(scope="module")
def service(_no_settings_of_yours: None) -> Iterator[Service]:
    with serve(name="seat") as service:
        yield service


@pytest.fixture
def device(service: Service) -> Iterator[Device]:
    device = registered(service, "desk1")
    yield device
    device.close()


def play(service: Service, story: Callable[[Seat], Awaitable[None]], key: str | None = None) -> None:
    """Play a story of a seat."""

    async def run() -> None:
        seat = Seat(service.url, key or service.api_key, None, "page of a test")
        try:
            await seat.open()
            await story(seat)
        finally:
            await seat.close()

    asyncio.run(run())


async def value(observed: Observed, wanted: str) -> None:
    """Wait until a value has come."""
    while not observed.history or observed.history[-1].value != wanted:
        await asyncio.sleep(0.01)


def key_of(service: Service, group: str) -> str:
    """Make a key of a group."""
    with Cloud(service.url, service.api_key) as cloud:
        groups = [each for each in cloud.policy_groups() if each.name == group]
        return cloud.api_keys.create(f"a key of {group}", groups=groups).key


def test_what_is_observed_is_observed_again_after_a_new_registration(service: Service, device: Device) -> None:
    async def story(seat: Seat) -> None:
        observed = await seat.observe(device.id, "/5000/0/1")
        await value(observed, "test0")
        device._observed.clear()
        await asyncio.to_thread(device.close)
        await asyncio.to_thread(device.register)
        await asyncio.to_thread(device.tell, "/5000/0/1", b"back")
        await value(observed, "back")
        assert observed.state == "active" and observed.count == len(observed.history)

    play(service, story)


def test_what_is_observed_is_observed_again_after_its_channel_was_gone(service: Service, device: Device) -> None:
    async def story(seat: Seat) -> None:
        observed = await seat.observe(device.id, "/5000/0/1")
        while seat.key_id not in service.core.channels.polls:
            await asyncio.sleep(0.001)
        # As if the device had registered while there was no channel to tell it.
        await seat.api.call("DELETE", f"/v2/subscriptions/{device.id}/5000/0/1")
        device.values["/5000/0/1"] = b"meanwhile"
        await seat.api.call("DELETE", "/v2/notification/pull")
        await value(observed, "meanwhile")

    play(service, story, key_of(service, "Developers"))


def test_what_a_device_has_no_more_after_a_new_registration_says_so_until_it_has(
    service: Service, device: Device
) -> None:
    async def story(seat: Seat) -> None:
        observed = await seat.observe(device.id, "/5000/0/1")
        for links, state in (("</3/0/0>", "refused"), (LINKS, "active")):
            await asyncio.to_thread(device.close)
            await asyncio.to_thread(device.register, links)
            while observed.state != state:
                await asyncio.sleep(0.001)
            assert (observed.trouble is not None) == (state == "refused")

    play(service, story)


def test_what_is_observed_is_observed_with_another_key_when_the_pages_own_is_revoked(
    service: Service, device: Device
) -> None:
    async def story(seat: Seat) -> None:
        observed = await seat.observe(device.id, "/5000/0/1")
        await seat.api.call("DELETE", f"/v3/api-keys/{seat._own_id}")
        device.values["/5000/0/1"] = b"with another"
        assert (await seat.read(device.id, "/3/0/0")).value == "pdmlab"
        await value(observed, "with another")
        assert observed.state == "active" and observed.trouble is None

    play(service, story)


def test_the_pages_own_key_is_of_the_group_developers_and_goes_with_it(service: Service, device: Device) -> None:
    async def story(seat: Seat) -> None:
        await seat.read(device.id, "/3/0/0")
        assert "ak_" not in repr(seat) + repr(seat.api)
        keys = (await seat.api.get("/v3/api-keys", limit=1000))["data"]
        (own,) = [key for key in keys if key["name"].startswith("page of a test")]
        (group,) = (await seat.api.get(f"/v3/api-keys/{own['id']}/groups"))["data"]
        assert group["name"] == "Developers"

    play(service, story)
    with Cloud(service.url, service.api_key) as cloud:
        assert [key for key in cloud.api_keys() if key.name.startswith("page of a test")] == []


@pytest.mark.parametrize(("group", "rights"), [("Developers", "developer"), ("Readers", "read-only")])
def test_keys_that_may_make_none_use_their_own_channel(
    service: Service, device: Device, group: str, rights: str
) -> None:
    async def story(seat: Seat) -> None:
        assert seat.rights == rights
        assert (await seat.read(device.id, "/3/0/0")).value == "pdmlab"
        observed = await seat.observe(device.id, "/5000/0/1")
        await asyncio.to_thread(device.tell, "/5000/0/1", b"told")
        await value(observed, "told")
        if seat.may_write:
            await seat.write(device.id, "/5000/0/2", "9")
            assert device.values["/5000/0/2"] == b"9"
        else:
            with pytest.raises(ServiceError, match="403"):
                await seat.write(device.id, "/5000/0/2", "9")

    play(service, story, key_of(service, group))


def test_a_refusal_is_in_words_and_leaves_nothing_observed(service: Service, device: Device) -> None:
    async def story(seat: Seat) -> None:
        with pytest.raises(ServiceError, match="RESOURCE_NOT_FOUND"):
            await seat.read(device.id, "/3/0/77")
        del device.values["/5000/0/1"]
        with pytest.raises(ServiceError, match="404"):
            await seat.observe(device.id, "/5000/0/1")
        assert seat.observed == {}

    play(service, story)
