"""Registration as devices see it: locations, lifetimes, what is listed, and what bad input gets."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.types import ACK
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.coap.endpoint import Endpoint
from pdmlab.lwm2m.linkformat import PIECE
from pdmlab.service.certificates import Subject
from pdmlab.service.directory import MAX_DEVICES
from pdmlab.service.refusal import Refused
from pdmlab.service.register import Register, Registration
from pdmlab.service.registering import MAX_PAYLOAD
from tests.service.corelab import CoreLab, FakeDevice, Stage, play, request, value
from tests.service.secure import SharedKeyDevice, registered

# As the stock example registers: objects, instances and resources, values, auto-observations (docs/wire.md 3.2).
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
            await lab.events(0.0, key)
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

        def spy(direction: str, peer: object, data: bytes, when: int) -> None:
            message = Message.decode(data)
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


# -- over connections ---------------------------------------------------------------------------------------


def test_the_stock_clients_registration_is_taken_in_its_order_and_in_any_other(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, account = await registered(lab), lab.core.account_id
        stock = ("ep=desk1", "et=default", "lt=7200", "lwm2m=1.0", f"d={account}", "b=U", f"aid={account}")
        for query in ((*stock, "mccv=4.13.2"), ("mccv=4.13.2", *reversed(stock)), ("ep=desk1",)):
            answer = await device.register(*query, payload=STOCK)
            assert answer.code == codes.CREATED and answer.opt.max_age is None
            assert answer.opt.location_path == ("rd", account, device.id)
        answer = await device.register(*stock, "aid=" + "0" * 32, payload=STOCK)
        assert answer.code == codes.CREATED  # the first one of a name counts
        answer = await device.register("ep=desk1", f"d={account}", "aid=" + "0" * 32, payload=STOCK)
        assert answer.code == codes.BAD_REQUEST and b"two accounts" in answer.payload

    play(story)


def test_a_certificate_registers_its_own_device_and_no_other(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        mine, theirs = await registered(lab), await registered(lab, "desk2")
        account, elsewhere = lab.core.account_id, lab.new_account()
        for query, code, reason in (
            (("ep=desk2",), codes.BAD_REQUEST, "not the name in the certificate"),
            (("ep=desk1", f"iep={theirs.id}"), codes.FORBIDDEN, "not the device of the certificate"),
            (("ep=desk1", f"aid={elsewhere}"), codes.BAD_REQUEST, "not of the account"),
        ):
            answer = await mine.register(*query, payload=b"")
            assert (answer.code, reason in answer.payload.decode()) == (code, True), query
        strange = lab.core.pki.sign(
            ec.generate_private_key(ec.SECP256R1()).public_key(), Subject("desk1", mine.id, account)
        )
        for certificate, reason in ((mine.built_with, b"no L"), (strange, b"taken the place")):
            await mine.connect("lwm2m", certificate)
            answer = await mine.register("ep=desk1", payload=b"")
            assert answer.code == codes.FORBIDDEN and reason in answer.payload

    play(story)


ATTEMPTS = {
    "update": (codes.POST, "rd/{account}/{theirs}", codes.NOT_FOUND),
    "deregistration": (codes.DELETE, "rd/{account}/{theirs}", codes.NOT_FOUND),
    "certificate": (codes.POST, "est/sen", codes.BAD_REQUEST),
    "rest": (codes.GET, "v3/devices/{theirs}", codes.NOT_FOUND),
}


@pytest.mark.parametrize("victim", ["certificate", "psk", "none"])
@pytest.mark.parametrize("attacker", ["certificate", "psk", "none"])
def test_nobody_is_another_device(play: Stage, victim: str, attacker: str) -> None:
    """Each kind of device against each other kind: it learns nothing, changes nothing, and hears nothing."""

    async def story(lab: CoreLab) -> None:
        theirs, mine = await a_device(lab, victim, "victim"), await a_device(lab, attacker, "attacker")
        account = lab.core.account_id
        await lab.core.observations.subscribe(lab.key_id, theirs.id, "/5000/0/1")
        await lab.answers()
        before = lab.core.registrations.find(theirs.id)
        if attacker != "none" or victim != "none":
            # Without security an id is all there is; and it is for loopback.
            for method, path, code in ATTEMPTS.values():
                answer = await mine.send(method, path.format(account=account, theirs=theirs.id))
                assert answer.code in (code, codes.FORBIDDEN), path
                assert theirs.name not in answer.payload.decode()
            for query in ((f"ep={theirs.name}",), (f"ep={mine.name}", f"iep={theirs.id}")):
                answer = await mine.register(*query, payload=b'</3/0/0>;v="mine"')
                refused = answer.code in (codes.BAD_REQUEST, codes.FORBIDDEN)
                assert refused or (answer.opt.location_path[2] != theirs.id and query == ("ep=victim",)), query
        token = theirs.observers["/5000/0/1"]
        told = Message(code=codes.CONTENT, payload=b"forged", observe=9, content_format=0)
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        mine.endpoint.notify(mine.service, told, token, on_result=ended.set_result)
        assert await ended == "reset"
        assert lab.core.registrations.find(theirs.id) is before
        assert lab.core.resources.value(theirs.id, "/5000/0/1") == "test0"
        assert await theirs.notify("/5000/0/1", "mine") == "acknowledged"

    play(story)


def test_the_images_of_another_account_are_not_given_away(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        core, elsewhere = lab.core, lab.new_account()
        mine = core.firmware.add_image(core.account_id, "mine", b"m" * 600)
        theirs = core.firmware.add_image(elsewhere, "theirs", b"t" * 600)
        device = await registered(lab)
        for image, code in ((mine, codes.CONTENT), (theirs, codes.NOT_FOUND)):
            ask = request(codes.GET, "fw")
            ask.opt.proxy_uri, ask.opt.block2 = f"coaps://192.0.2.1:5684/fw/{image['id']}", (0, False, 5)
            answer = await device.endpoint.request(ask, device.service)
            assert answer.code == code and (answer.payload == b"m" * 512) == (code == codes.CONTENT)

    play(story)


def test_a_device_that_lost_its_connection_is_asked_when_it_is_back(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab)
        await device.disconnect("lwm2m")
        assert lab.core.directory.find(device.id)["state"] == "registered"
        await asyncio.sleep(3)
        await lab.ask(device, "GET", "/3/0/0")
        await asyncio.sleep(1)
        (row,) = lab.core.requests.queue(device.id)
        assert row["why"].startswith(
            "the device has no connection: the device closed the connection, 4 s ago; it comes back within about 10 s,"
            " at the latest when its lifetime ends, in 35"
        )
        await asyncio.sleep(7)
        await device.connect("lwm2m")
        assert (await device.update()).code == codes.CHANGED
        assert (await lab.answers())[0]["status"] == 200

    play(story)


def test_what_was_under_way_is_asked_again_but_an_execution_is_not_done_twice(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab)
        for method, sent, status in (("GET", 2, 200), ("PUT", 2, 200), ("POST", 1, 502)):
            device.silent = True
            asked = len(device.asked)
            await lab.ask(device, method, "/5000/0/1", b"x" if method == "PUT" else b"")
            await asyncio.sleep(1)
            assert len(device.asked) == asked + 1
            await device.disconnect("lwm2m")
            device.silent = False
            await asyncio.sleep(10)
            await device.connect("lwm2m")
            await device.update()
            (answer,) = await lab.answers()
            assert answer["status"] == status
            assert len(device.asked) == asked + sent
        assert "may have been executed" in value(answer).decode()

    play(story)


def test_an_execution_that_may_be_repeated_says_so_itself(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab)
        device.silent = True
        await lab.ask(device, "POST", "/5000/0/1", retry=1)
        await asyncio.sleep(1)
        device.silent = False
        await device.reconnect()
        assert (await lab.answers())[0]["status"] == 200

    play(story)


def test_an_execution_that_waited_for_the_connection_is_done_once_it_is_there(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab)
        await device.disconnect("lwm2m")
        await lab.ask(device, "POST", "/5000/0/1")
        await asyncio.sleep(10)
        await device.connect("lwm2m")
        await device.update()
        assert (await lab.answers())[0]["status"] == 200
        assert device.asked.count("POST /5000/0/1") == 1

    play(story)


@pytest.mark.parametrize("kill", [False, True])
def test_a_restarted_service_knows_its_devices_when_they_connect_again(play: Stage, kill: bool) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab, aobs=("/3/0/0",))
        await lab.core.observations.subscribe(lab.key_id, device.id, "/5000/0/1")
        await lab.answers()
        await lab.ask(device, "GET", "/5000/0/1")
        await lab.answers()
        device.lab.proven["lwm2m"].identities.pop(device.address)
        await device.endpoint.close()
        await lab.restart(away=5, kill=kill)
        await lab.ask(device, "GET", "/3/0/0")
        await asyncio.sleep(1)
        assert "the service was restarted, 1 s ago" in lab.core.requests.queue(device.id)[0]["why"]
        await device.connect("lwm2m")
        assert (await device.update()).code == codes.CHANGED
        assert (await lab.answers())[0]["status"] == 200
        for path in ("/5000/0/1", "/3/0/0"):  # both kinds of tokens are what they were
            assert await device.notify(path, "later") == "acknowledged"
            assert lab.core.resources.value(device.id, path) == "later"
        assert not any("Observe" in line for line in device.asked[-2:])

    play(story)


def test_a_device_that_connects_again_may_notify_before_it_updates(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab, aobs=("/3/0/0",))
        await device.disconnect("lwm2m")
        await device.connect("lwm2m")
        assert await device.notify("/3/0/0", "early") == "acknowledged"
        assert lab.core.resources.value(device.id, "/3/0/0") == "early"

    play(story)


def test_a_device_with_a_pre_shared_key_registers_under_its_identity_alone(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        account = lab.core.account_id
        device = await a_device(lab, "psk", "sensor")
        row = lab.core.directory.find(device.id, account)
        assert (row["endpoint_name"], row["state"]) == ("sensor", "registered")
        answer = await device.register("ep=other", "lt=60", "lwm2m=1.1", "b=U", payload=b"")
        assert answer.code == codes.BAD_REQUEST and b"identity of the pre-shared key" in answer.payload
        again = await device.register("ep=sensor", "lt=60", "lwm2m=1.1", "b=UQ", payload=b"")
        assert again.opt.location_path == ("rd", account, device.id)
        lab.core.shared_keys.remove(account, "sensor")
        assert "pre-shared key was withdrawn" in lab.core.delivery.obstacle(device.id)
        await device.connect("lwm2m", psk="sensor")
        answer = await device.register("ep=sensor", payload=b"")
        assert answer.code == codes.FORBIDDEN and b"withdrawn" in answer.payload

    play(story)


def test_an_endpoint_with_a_key_or_a_certificate_does_not_come_without(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        secure, keyed = await registered(lab), await a_device(lab, "psk", "sensor")
        plain = await lab.device("plain")
        for query, word in (
            (("ep=desk1", f"iep={secure.id}"), b"has a certificate"),
            (("ep=sensor",), b"pre-shared key"),
            (("ep=x", f"iep={keyed.id}"), b"pre-shared key"),
        ):
            answer = await plain.register(*query, payload=b"")
            assert answer.code == codes.FORBIDDEN and word in answer.payload
        answer = await plain.register("ep=desk1", payload=b"")
        assert answer.code == codes.CREATED and answer.opt.location_path[2] != secure.id

    play(story)


def test_what_a_device_is_refused_is_in_its_events_once_a_minute(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab)
        refused = [e for e in lab.core.directory.events(lab.core.account_id) if e["event_type"].endswith("refused")]
        assert refused == []
        for _ in range(5):
            await device.update("lt=soon")
        await asyncio.sleep(60)
        await device.update("lt=0")
        events = [e for e in lab.core.directory.events(lab.core.account_id) if e["event_type"].endswith("refused")]
        first, second = events
        assert first["device_id"] == device.id and "lt=soon is no lifetime" in first["description"]
        assert "4.00 Bad Request" in first["description"] and second["data"]["passed_over"] == 4

    play(story)


def test_a_lifetime_of_zero_is_without_end_from_lwm2m_1_1_on(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        answer = await device.register("ep=x", "lt=0", "lwm2m=1.1", payload=b"")
        assert answer.code == codes.CREATED
        await asyncio.sleep(3 * 86_400)  # a day is what it would have had by default
        assert lab.core.registrations.find(device.location[2]) is not None

    play(story)


async def a_device(lab: CoreLab, kind: str, name: str) -> FakeDevice:
    """Return a registered device that proves itself by a certificate, a pre-shared key or not at all."""
    if kind == "certificate":
        return await registered(lab, name)
    if kind == "none":
        return await lab.registered(name)
    lab.core.shared_keys.add(lab.core.account_id, name)
    device = SharedKeyDevice(lab, name)
    lab.devices.append(device)
    await device.power_on()
    await device.connect("lwm2m", psk=name)
    assert (await device.register(f"ep={name}", "lt=3600", "lwm2m=1.1", "b=U")).code == codes.CREATED
    return device


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


ROUTES = (
    *(
        (method, path, 5685)
        for method in (codes.POST, codes.GET, codes.DELETE)
        for path in ("rd", "rd/{a}/x", "rd/x/{d}")
    ),
    *((codes.GET, path, 5685) for path in ("fw", "download", "nothing", ".well-known/core")),
    *((codes.POST, path, 5685) for path in ("est/sen", "est/x/sen", "bs")),
    *((method, path, 5683) for method in (codes.POST, codes.PUT) for path in ("bs", "est/sen", "rd")),
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(max_size=30), max_size=4),
    st.binary(max_size=200),
    st.one_of(st.none(), st.tuples(st.integers(0, 1 << 19), st.booleans(), st.integers(0, 6))),
    st.one_of(st.none(), st.sampled_from([0, 40, 42, 50, 11542, 65535])),
    st.one_of(st.none(), st.text(max_size=40)),
)
def test_whatever_a_device_asks_it_is_answered_with_a_reason(
    query: list[str],
    payload: bytes,
    block: tuple[int, bool, int] | None,
    content_format: int | None,
    proxy_uri: str | None,
) -> None:
    async def story(lab: CoreLab) -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        device, other = await lab.registered(), await lab.registered("other")
        address, account = lab.fabric.host("service").address, lab.core.account_id
        for method, path, port in ROUTES:
            wanted = path.format(a=account, d=device.id)
            message = request(method, wanted, "ep=x", *query, payload=payload, content_format=content_format)
            message.opt.block2 = block
            message.opt.proxy_uri = proxy_uri or None
            answer = await device.endpoint.request(message, (address, port))
            assert answer.code.is_response() and (answer.payload or answer.code < 128), (path, answer)
            assert answer.code not in (codes.INTERNAL_SERVER_ERROR, codes.SERVICE_UNAVAILABLE)
        assert failures == []
        assert (await other.update()).code == codes.CHANGED

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


def test_a_full_account_takes_no_device_and_drops_none(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        directory, account_id = lab.core.directory, lab.core.account_id
        assert directory.quota(account_id) == MAX_DEVICES
        known = await lab.registered()
        directory.set_quota(account_id, 1)
        query = ("ep=another", f"d={account_id}")
        for _ in range(3):
            answer = await known.send(codes.POST, "rd", *query, payload=STOCK, content_format=40)
            # 4.00 and 4.03 would make the stock client drop its credentials
            assert (answer.code, answer.payload[:11]) == (codes.SERVICE_UNAVAILABLE, b"allocation:")
        newcomer = await lab.device("newcomer")
        answer = await newcomer.bootstrap()
        assert (answer.code, answer.payload[:11]) == (codes.SERVICE_UNAVAILABLE, b"allocation:")
        with pytest.raises(Refused, match="allocation") as refused:
            directory.add(account_id, endpoint_name="by hand")
        assert (refused.value.status, refused.value.problem) == (403, {"type": "account_limit_exceeded"})
        told = [each for each in directory.events(account_id) if "allocation" in each["event_type"]]
        assert [(each["device_id"], each["description"]) for each in told] == [
            ("", "allocation: the account has 1 of 1 devices")
        ]
        # Whoever is there stays, and comes back; another account has its own number.
        assert (await known.register()).code == codes.CREATED
        assert (await known.bootstrap(f"ep={known.name}", f"aid={account_id}", f"iep={known.id}")).code == codes.CHANGED
        other = lab.new_account()
        answer = await known.send(codes.POST, "rd", "ep=another", f"d={other}", payload=STOCK, content_format=40)
        assert answer.code == codes.CREATED
        directory.set_quota(account_id, 2)
        await lab.restart()
        assert lab.core.directory.quota(account_id) == 2
        answer = await known.send(codes.POST, "rd", *query, payload=STOCK, content_format=40)
        assert answer.code == codes.CREATED
        with pytest.raises(Refused, match="-1"):
            lab.core.directory.set_quota(account_id, -1)

    play(story)


def test_others_have_their_turn_while_the_longest_list_is_read(play: Stage) -> None:
    links = b",".join(b'</%d/%d/5700>;v="%d"' % (3000 + n % 50, n, n) for n in range(2500))
    assert MAX_PAYLOAD * 0.9 < len(links) <= MAX_PAYLOAD

    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        loop, turns = asyncio.get_running_loop(), 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(turn)

        query = ("ep=desk1", f"d={lab.core.account_id}", f"iep={device.id}")
        message = request(codes.POST, "rd", *query, payload=links, content_format=40)
        peer = lab.core.registrations.find(device.id).peer
        loop.call_soon(turn)
        answering = asyncio.ensure_future(lab.core.registrations.register(message, peer))
        while len(lab.core.resources.list(device.id)) != 2500:
            await asyncio.sleep(0)
        assert turns >= 2500 / PIECE * 2
        assert (await answering).code == codes.CREATED
        shown = [row["path"] for row in lab.core.resources.list(device.id)]
        assert shown == sorted(shown, key=lambda path: [int(part) for part in path[1:].split("/")])

    play(story)


def test_what_a_device_makes_the_service_remember_has_an_end(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from pdmlab.service import credentials, directory

    monkeypatch.setattr(directory, "MAX_EVENTS", 40)
    monkeypatch.setattr(directory, "ROOM_EVERY", 10)
    monkeypatch.setattr(credentials, "KEPT", 4)

    async def story(lab: CoreLab) -> None:
        device = await registered(lab)
        in_use = device.own
        for _ in range(80):
            assert (await device.register()).code == codes.CREATED
        events = lab.core.directory.events(lab.core.account_id, device.id)
        assert 40 <= len(events) <= 50
        assert {each["event_type"] for each in events} == {"update.device.device-registered"}  # older ones made way
        for _ in range(9):
            await asyncio.sleep(1)
            assert (await device.enroll("est/LWM2M/sen")).code == codes.CHANGED
        newest, device.own = device.own, in_use
        kept = [bytes(row["certificate"]) for row in lab.core.credentials.of_device(device.id)]
        assert len(kept) == 5 and in_use in kept and newest in kept
        await device.disconnect("lwm2m")
        assert (await device.come()).code == codes.CREATED  # what it has still counts
        for _ in range(9):
            await device.first_boot("ep=desk1", f"iep={'0' * 32}")
        assert len(lab.core.directory.list(lab.core.account_id)) == 10  # one each time that it came through
        for _ in range(9):
            await device.connect("bootstrap")
            await device.endpoint.request(
                request(codes.POST, "bs", "ep=desk1", f"iep={'0' * 32}"), device.bootstrap_server
            )
            await device.disconnect("bootstrap")
        assert len(lab.core.directory.list(lab.core.account_id)) == 11  # and one that never did

    play(story)
