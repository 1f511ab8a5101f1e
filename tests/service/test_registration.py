"""Registration as devices see it: locations, lifetimes, what is listed, and what bad input gets."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.types import ACK
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.coap.endpoint import Endpoint
from pdmlab.service.register import Register, Registration
from pdmlab.service.registering import MAX_PAYLOAD
from tests.service.corelab import CoreLab, Stage, play, request

# As the stock example registers: objects, instances and resources, values, auto-observations (pelion-wire 3.2).
STOCK = (
    b'</1>,</1/0>,</1/0/1>;v="7200",</3>,</3/0>,</3/0/2>;v="0",</3/0/0>;rt="Manufacturer";v="dev_manufacturer",'
    b'</14/0/0>;v="MAIN",</14/0/2>;v="1.2.3",</10252/0/1>,</10252/0/2>;v="1";aobs="511",</10252/0/3>;v="-1";aobs="512",'
    b'</10255/0/3>;v="AAECAwQFBgcICQoLDA0ODw==",</10255/0/4>;v="/////////////////////w==",'
    b'</3200/0/5501>;v="0";obs,</3201/0/5850>,</5000/0/2>'
)


def test_a_registration_is_created_at_a_location_of_account_and_device(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        await device.bootstrap()
        await lab.events(0.1)
        answer = await device.register(payload=STOCK)
        assert answer.code == codes.CREATED
        assert answer.opt.location_path == ("rd", lab.core.account_id, device.id)
        assert answer.opt.max_age is None  # the stock client would take it for its lifetime
        row = lab.core.directory.find(device.id)
        assert (row["state"], row["endpoint_name"], row["serial_number"]) == ("registered", "desk1", "0")
        assert (row["vendor_id"], row["device_class"]) == (bytes(range(16)).hex(), "f" * 32)
        (event,) = (await lab.events())["registrations"]
        assert (event["ep"], event["original-ep"], event["ept"], event["q"]) == (device.id, "desk1", "default", False)
        shown = {each["path"]: each["obs"] for each in event["resources"]}
        assert shown["/10252/0/2"] and shown["/3200/0/5501"] and not shown["/3/0/0"]
        assert "/3/0" not in shown and "/5000/0/2" in shown
        listed = [row["path"] for row in lab.core.resources.list(device.id)]
        assert listed[:3] == ["/1/0/1", "/3/0/0", "/3/0/2"] and listed[-1] == "/10255/0/4"
        assert lab.core.resources.value(device.id, "/14/0/2") == "1.2.3"

    play(story)


def test_a_list_in_blocks_is_put_together(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        payload = b",".join(b'</5000/0/%d>;v="%d"' % (number, number) for number in range(200))
        assert len(payload) > 3000
        await device.register("ep=desk1", payload=payload)
        assert len(lab.core.resources.list(device.id)) == 200

    play(story)


def test_an_unknown_endpoint_name_makes_a_device_and_a_known_one_finds_it(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        first = (await device.register("ep=x", payload=b"")).opt.location_path
        again = (await device.register("ep=x", payload=b"")).opt.location_path
        assert first == again and first[1] == lab.core.account_id
        assert len(lab.core.directory.list(lab.core.account_id)) == 1

    play(story)


def test_updates_renew_a_registration_and_strangers_are_told_to_register(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        await asyncio.sleep(3000)
        assert (await device.update()).code == codes.CHANGED
        await asyncio.sleep(3000)
        assert (await device.update("lt=60")).code == codes.CHANGED
        assert lab.core.registrations.find(device.id).lifetime == 60
        await asyncio.sleep(61)
        stale = await device.update()
        assert stale.code == codes.NOT_FOUND and b"register again" in stale.payload
        assert (await device.deregister()).code == codes.NOT_FOUND
        assert (await device.register()).code == codes.CREATED

    play(story)


def test_a_silent_device_expires_at_its_lifetime_and_not_before(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        await device.bootstrap()
        await lab.events(0.1)
        await device.register("ep=desk1", f"iep={device.id}", "lt=20")
        await lab.events(0.1)
        await asyncio.sleep(19)
        assert lab.core.registrations.find(device.id) is not None
        await asyncio.sleep(1.5)
        assert lab.core.registrations.find(device.id) is None
        assert (await lab.events())["registrations-expired"] == [device.id]
        assert lab.core.directory.find(device.id)["state"] == "deregistered"

    play(story)


def test_deregistration_is_told_to_every_channel(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        other = lab.new_key()
        for key in (lab.key_id, other):
            await lab.core.channels.pull(key, 0.0)
        device = await lab.registered()
        assert (await device.deregister()).code == codes.DELETED
        for key in (lab.key_id, other):
            events = await lab.events(1, key)
            assert events["de-registrations"] == [device.id] and len(events["registrations"]) == 1
        assert lab.core.registrations.at((device.host.address, 5684)) is None

    play(story)


def test_an_update_with_a_list_replaces_the_list_and_keeps_values(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered(aobs=("/5000/0/1",))
        await device.notify("/5000/0/1", "newer")
        await device.update(payload=b'</5000/0/1>,</5000/0/9>;v="9"')
        assert [row["path"] for row in lab.core.resources.list(device.id)] == ["/5000/0/1", "/5000/0/9"]
        assert lab.core.resources.value(device.id, "/5000/0/1") == "newer"
        assert await device.notify("/5000/0/1", "newest") == "acknowledged"
        await device.update(payload=b"</5000/0/9>;d,</5000/0/7>")
        assert [row["path"] for row in lab.core.resources.list(device.id)] == ["/5000/0/1", "/5000/0/7"]

    play(story)


def test_a_device_behind_another_address_is_found_there_after_its_update(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        await device.endpoint.close()
        device.host = lab.fabric.host("nat")
        await device.power_on()
        assert (await device.update()).code == codes.CHANGED
        await lab.ask(device, "GET", "/3/0/0")
        assert (await lab.answers())[0]["status"] == 200

    play(story)


BAD = {
    "no name": (("lt=60",), b"", "4.00"),
    "empty name": (("ep=",), b"", "4.00"),
    "long name": (("ep=" + "n" * 65,), b"", "4.00"),
    "no lifetime": (("ep=x", "lt=soon"), b"", "4.00"),
    "lifetime 0": (("ep=x", "lt=0"), b"", "4.00"),
    "lifetime too long": (("ep=x", "lt=99999999999"), b"", "4.00"),
    "binding": (("ep=x", "b=Z"), b"", "4.00"),
    "version": (("ep=x", "lwm2m=2.0"), b"", "4.12"),
    "account": (("ep=x", "aid=" + "0" * 32), b"", "4.00"),
    "device": (("ep=x", "iep=" + "0" * 32), b"", "4.03"),
    "links": (("ep=x",), b"<3/0", "4.00"),
    "text": (("ep=x",), b"\xff\xfe", "4.00"),
    "aobs": (("ep=x",), b'</3/0/0>;aobs="70000"', "4.00"),
    "too much": (("ep=x",), b"</3/0/0>," * (MAX_PAYLOAD // 9 + 1), "4.13"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_registrations_get_a_reason_and_leave_nothing(play: Stage, case: str) -> None:
    query, payload, code = BAD[case]

    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        answer = await device.register(*query, payload=payload)
        assert str(answer.code).startswith(code) and answer.payload
        assert lab.core.directory.list(lab.core.account_id) == []
        assert (await device.register("ep=x", payload=b"")).code == codes.CREATED

    play(story)


def test_links_in_another_format_are_refused(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        answer = await device.send(codes.POST, "rd", "ep=x", payload=b"[]", content_format=50)
        assert answer.code == codes.UNSUPPORTED_CONTENT_FORMAT

    play(story)


def test_secret_objects_are_not_kept(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        await device.register("ep=x", payload=b'</0/0/5>;v="secret",</3/0/0>')
        assert [row["path"] for row in lab.core.resources.list(device.id)] == ["/3/0/0"]

    play(story)


def test_a_restarted_service_knows_its_devices(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        for kill in (False, True):
            await lab.restart(away=30, kill=kill)
            assert (await device.update()).code == codes.CHANGED
            await lab.ask(device, "GET", "/3/0/0")
            assert (await lab.answers())[0]["status"] == 200
        await lab.restart(away=4000)
        assert lab.core.directory.find(device.id)["state"] == "deregistered"
        assert (await device.update()).code == codes.NOT_FOUND

    play(story)


def test_whatever_is_acknowledged_is_on_disk_when_its_acknowledgement_goes_out(tmp_path: Path) -> None:
    file = tmp_path / "lab.sqlite"

    def committed() -> list[str]:
        """Return what another connection sees: the state of the device, its registration and a value."""
        other = sqlite3.connect(file)
        try:
            states = other.execute("SELECT state FROM devices").fetchall()
            registered = other.execute("SELECT lifetime FROM registrations").fetchall()
            value = other.execute("SELECT value FROM resources WHERE path = '/5000/0/1'").fetchall()
        finally:
            other.close()
        return [repr(row[0]) for row in (*states, *registered, *value)]

    async def story(lab: CoreLab) -> list[tuple[str, list[str]]]:
        device = await lab.device(aobs=("/5000/0/1",))
        await device.bootstrap()
        seen: list[tuple[str, list[str]]] = []

        def spy(direction: str, peer: object, message: Message, when: int) -> None:
            if direction == "out" and message.mtype == ACK:
                seen.append((str(message.code), committed()))

        lab.core.lwm2m._tap = spy
        await device.register()
        await device.update("lt=77")
        await device.notify("/5000/0/1", "told")
        await device.deregister()
        return seen

    assert play(story, file) == [
        ("2.01 Created", ["'registered'", "3600", "b'test0'"]),
        ("2.04 Changed", ["'registered'", "77", "b'test0'"]),
        ("EMPTY", ["'registered'", "77", "b'told'"]),
        ("2.02 Deleted", ["'deregistered'", "b'told'"]),
    ]


def test_a_renewed_lifetime_does_not_end_with_its_neighbours(play: Stage) -> None:
    now, expired = [0.0], []
    register = Register(lambda: now[0], lambda registration: expired.append(registration.device_id))

    def keep(device_id: str, expires: float) -> None:
        register.keep(
            Registration(device_id, "", "", "", ("h", len(device_id)), 1, "U", False, "1.0", 1, expires, "", "", 0.0)
        )

    async def story(lab: CoreLab) -> None:
        keep("b", 9)
        keep("aa", 10)
        keep("aa", 100)
        now[0] = 50
        register.expire()
        register.close()

    play(story)
    assert expired == ["b"]


def test_each_server_has_its_own_resources_and_lists_them(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        host = lab.fabric.host("service").address
        for port, mine, others in ((5683, "bs", "rd"), (5685, "rd", "bs")):
            answer = await device.endpoint.request(request(codes.GET, ".well-known/core"), (host, port))
            assert answer.opt.content_format == 40
            assert f"</{mine}>".encode() in answer.payload and f"</{others}>".encode() not in answer.payload
            answer = await device.endpoint.request(request(codes.POST, others, "ep=x"), (host, port))
            assert answer.code == codes.NOT_FOUND

    play(story)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=64),
            st.tuples(
                st.sampled_from([0x40, 0x50, 0x44, 0x60, 0x70]),
                st.sampled_from([0, 1, 2, 3, 4, 5, 65, 69, 95, 132, 255]),
                st.integers(0, 255),
                st.sampled_from([b"", b"\xb2rd", b"\xb2bs", b"\xb2fw", b"\xb2rd\x01a\x01b", b"\xb2rd\x44ep=x"]),
                st.binary(max_size=40),
            ).map(lambda t: bytes((t[0], t[1], 1, t[2])) + bytes(t[0] & 15) + t[3] + t[4]),
        ),
        max_size=30,
    )
)
def test_hostile_datagrams_stop_nothing(datagrams: list[bytes]) -> None:
    async def story(lab: CoreLab) -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        stranger = lab.fabric.host("stranger").open_datagram(lambda data, peer: None, 1000)
        for data in datagrams:
            for port in (5683, 5685):
                stranger.send(data, (lab.fabric.host("service").address, port))
        await asyncio.sleep(1)
        device = await lab.registered()
        await lab.ask(device, "GET", "/3/0/0")
        assert (await lab.answers())[0]["status"] == 200
        assert failures == []

    play(story, None)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=4), st.binary(max_size=200))
def test_whatever_a_registration_says_it_is_answered(query: list[str], payload: bytes) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        for path in ("rd", "bs", f"rd/{lab.core.account_id}/x"):
            message = request(codes.POST, path, "ep=x", *query, payload=payload)
            answer = await device.endpoint.request(message, device.service)
            assert answer.code.is_response()
            assert answer.code not in (codes.INTERNAL_SERVER_ERROR, codes.SERVICE_UNAVAILABLE)

    play(story, None)


def test_an_endpoint_that_is_no_device_is_answered_too(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        stranger = await Endpoint.open(lab.fabric.host("stranger").opener(), seed=5)
        address = lab.fabric.host("service").address, 5685
        assert (await stranger.request(request(codes.GET, "rd"), address)).code == codes.METHOD_NOT_ALLOWED
        assert (await stranger.request(request(codes.GET, "nothing"), address)).code == codes.NOT_FOUND
        assert (await stranger.request(request(codes.GET, "fw"), address)).code == codes.BAD_REQUEST
        await stranger.close()

    play(story)
