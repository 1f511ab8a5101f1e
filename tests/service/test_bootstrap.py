"""Bootstrap as the stock client sees it: what it asks, what it is told in which order, and how it fails."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.coap.openssl import SESSION_LIFETIME
from pdmlab.coap.transport import Identity
from pdmlab.lwm2m import tlv
from pdmlab.network.link import Link
from pdmlab.service.bootstrap_plan import Plan, Told, security_object
from pdmlab.service.certificates import Subject
from pdmlab.service.directory import UNFINISHED_S
from pdmlab.service.shared_keys import WITHDRAWN
from tests.service.corelab import CoreLab, Stage, play, request
from tests.service.secure import SecureDevice, SharedKeyDevice, name_of, registered, secure_device

NONSENSE = (codes.BAD_REQUEST, codes.CONTENT, codes.CONTINUE, codes.VALID, codes.INTERNAL_SERVER_ERROR)


def test_a_device_is_told_its_server_and_its_identity(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        assert (await device.bootstrap()).code == codes.CHANGED
        assert device.asked == ["DELETE /0", "PUT /0", f"POST /bs?iep={device.id}"]
        account, address = lab.core.account_id, lab.fabric.host("service").address
        assert device.uri == f"coap://{address}:5685?aid={account}&iep={device.id}"
        assert {id: bytes(value) for id, value in device.security.items() if id} == {1: b"\0", 2: b"\x03", 10: b"\x01"}
        (row,) = lab.core.directory.list(account)
        assert (row["id"], row["endpoint_name"]) == (device.id, "desk1")
        await asyncio.sleep(1)
        assert lab.core.directory.find(device.id)["state"] == "bootstrapped"
        (last,) = lab.core.bootstrap.transcript(account)
        assert (last["state"], last["step"], last["reason"]) == ("finished", "POST /bs", None)

    play(story)


def test_the_security_object_is_one_instance_that_ends_with_a_resource_the_client_knows() -> None:
    (instance,) = tlv.decode(security_object(Told("coap://127.0.0.1:5685?aid=0")))
    assert (instance.kind, instance.id) == (tlv.Kind.OBJECT_INSTANCE, 0)
    assert [entry.id for entry in instance.entries] == [0, 1, 2, 10]


def test_a_device_that_kept_its_id_is_the_same_device_and_one_that_lost_it_is_another(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, account = await lab.device(), lab.core.account_id
        await device.bootstrap()
        first = device.id
        await device.bootstrap("ep=desk1", f"aid={account}", f"iep={first}", "mccv=4.13.2")
        assert device.id == first
        await asyncio.sleep(1)
        await device.bootstrap("ep=desk1", f"aid={account}")
        assert device.id != first
        assert [row["endpoint_name"] for row in lab.core.directory.list(account)] == ["desk1", "desk1"]

    play(story)


def test_the_id_of_another_accounts_device_opens_nothing(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        await device.bootstrap("ep=desk1", f"aid={lab.core.account_id}", f"iep={'0' * 32}")
        assert device.id != "0" * 32

    play(story)


def test_bad_queries_are_answered_with_a_reason(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, account = await lab.device(), lab.core.account_id
        for query, reason in (
            ((f"aid={account}",), "ep must be"),
            (("ep=", f"aid={account}"), "ep must be"),
            ((f"ep={'x' * 65}", f"aid={account}"), "1 to 64 characters"),
            (("ep=desk1", "aid=" + "0" * 32), "there is no account"),
            (("ep=desk1", "nonsense"), "not name=value"),
            (("ep=desk1\x00", f"aid={account}"), "not name=value"),
        ):
            answer = await device.bootstrap(*query)
            assert answer.code == codes.BAD_REQUEST and reason in answer.payload.decode(), query
        assert lab.core.directory.list(account) == []

    play(story)


def test_a_device_that_refuses_its_configuration_is_in_the_events_with_the_step(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        device.refuse = codes.BAD_REQUEST
        task = asyncio.ensure_future(device.bootstrap())
        await asyncio.sleep(5)
        task.cancel()
        (row,) = lab.core.directory.list(lab.core.account_id)
        failed = [e for e in lab.core.directory.events(row["account_id"]) if e["event_type"].endswith("failed")]
        assert failed[0]["description"] == "Bootstrap failed at DELETE /0: the device answered 4.00 Bad Request no"
        assert lab.core.bootstrap.transcript(row["account_id"])[0]["state"] == "failed"

    play(story)


def test_a_device_that_tries_again_after_a_failure_is_no_second_device(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        device.refuse = codes.BAD_REQUEST
        for _ in range(3):
            task = asyncio.ensure_future(device.bootstrap())
            await asyncio.sleep(20)
            task.cancel()
        device.refuse = None
        await device.bootstrap()
        assert [row["id"] for row in lab.core.directory.list(lab.core.account_id)] == [device.id]

    play(story)


def test_a_device_that_never_finishes_is_deleted_after_a_while(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        core = lab.core
        kept = await lab.registered("kept")
        waits = core.directory.add(core.account_id, endpoint_name="made by hand")["id"]
        device = await lab.device("never")
        device.refuse = codes.BAD_REQUEST
        await device.endpoint.request(request(codes.POST, "bs", "ep=never"), device.bootstrap_server)
        await asyncio.sleep(UNFINISHED_S - 60)
        first = await lab.device("first")
        first.refuse = codes.BAD_REQUEST
        await first.endpoint.request(request(codes.POST, "bs", "ep=first"), first.bootstrap_server)
        names = {row["endpoint_name"] for row in core.directory.list(core.account_id)}
        assert names == {"kept", "made by hand", "never", "first"}
        await asyncio.sleep(120)
        await (await lab.device("second")).bootstrap()
        names = {row["endpoint_name"] for row in core.directory.list(core.account_id)}
        assert names == {"kept", "made by hand", "first", "second"}
        assert core.directory.find(kept.id) is not None and core.directory.find(waits) is not None

    play(story)


def test_a_device_that_falls_silent_is_given_up_and_said_so(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        server = lab.fabric.host("service").address, 5683
        answer = await device.endpoint.request(request(codes.POST, "bs", "ep=desk1"), server)
        assert answer.code == codes.CHANGED
        device.power_off()
        await asyncio.sleep(200)
        (last,) = lab.core.bootstrap.transcript(lab.core.account_id)
        assert (last["state"], last["step"]) == ("failed", "DELETE /0")
        assert "no answer to 5 transmissions" in last["reason"]

    play(story)


def test_bootstrap_and_registration_over_a_lossy_link_are_the_same_each_time(tmp_path: Path) -> None:
    async def story(lab: CoreLab) -> tuple[list[str], str]:
        device = await lab.device(link=Link(up=50_000, down=50_000, latency=40_000_000, jitter=10_000_000, loss=0.25))
        await device.bootstrap()
        await device.register()
        await lab.ask(device, "GET", "/3/0/0")
        await lab.answers()
        return lab.log.lines().splitlines(), device.id

    runs = [play(story, tmp_path / f"{number}.sqlite", seed=7) for number in range(2)]
    assert runs[0] == runs[1]
    assert play(story, tmp_path / "other.sqlite", seed=8)[0] != runs[0][0]
    without_loss = 6
    assert sum(" CON " in line for line in runs[0][0]) > without_loss


# -- with certificates ------------------------------------------------------------------------------------


def test_a_device_is_told_key_and_certificate_that_name_it(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, account = await secure_device(lab), lab.core.account_id
        assert (await device.first_boot()).code == codes.CHANGED
        assert device.asked == ["DELETE /0", "PUT /0", f"POST /bs?iep={device.id}"]
        address = lab.fabric.host("service").address
        assert device.uri == f"coaps://{address}:5695?aid={account}"
        assert list(device.security) == [0, 1, 2, 3, 4, 5, 10]
        assert (device.security[1], device.security[2], device.security[10]) == (b"\0", b"\x02", b"\x01")
        assert device.security[4] == lab.core.pki.certificate
        assert name_of(device.own) == {"CN": "desk1", "L": device.id, "OU": account}
        key = serialization.load_der_private_key(device.security[5], None)
        assert key.public_key() == x509.load_der_x509_certificate(device.own).public_key()
        row = lab.core.directory.find(device.id, account)
        assert (row["state"], row["endpoint_name"]) == ("bootstrapped", "desk1")
        assert row["device_key"].replace(":", "").lower() == hashlib.sha256(device.built_with).hexdigest()
        (last,) = lab.core.bootstrap.transcript(account)
        assert (last["state"], last["security"]) == ("finished", "certificate")
        assert [(step["step"], step["answer"]) for step in last["steps"]] == [
            ("DELETE /0", "2.02 Deleted"),
            ("PUT /0", "2.04 Changed"),
            ("POST /bs", "2.04 Changed"),
        ]
        assert (await device.come()).code == codes.CREATED

    play(story)


def test_the_configuration_goes_out_in_blocks_of_one_token_with_its_size_ahead(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await secure_device(lab)
        await device.first_boot()
        puts = [m for m in lab.log if m.endpoint == "bootstrap" and m.direction == "out" and m.code == "PUT"]
        assert len(puts) > 1 and len({m.token for m in puts}) == 1 and len({m.mid for m in puts}) == len(puts)
        assert {m.payload_B for m in puts[:-1]} == {512}
        assert ["Size1" in m.options for m in puts] == [True] + [False] * (len(puts) - 1)
        assert all("Content-Format 11542" in m.options.replace(":", "") for m in puts)
        assert not any("Accept" in m.options or "If-" in m.options for m in puts)

    play(story)


def test_neither_key_nor_certificate_is_in_log_or_events(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await secure_device(lab)
        await device.first_boot()
        kept = lab.log.lines() + repr(lab.core.directory.events(lab.core.account_id))
        kept += repr(lab.core.bootstrap.transcript(lab.core.account_id))
        for secret in (device.security[5], device.security[5][40:56]):
            assert secret.hex() not in kept.lower()

    play(story)


def test_boards_of_one_file_are_devices_of_their_own(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        first = await secure_device(lab)
        second = SecureDevice(lab, "board2", built_with=first.built_with)
        second.name, second.host = "desk1", first.host
        lab.devices.append(second)
        await second.power_on()
        await asyncio.gather(first.first_boot(), second.first_boot())  # at the same time, from the same host
        assert first.id != second.id
        for device in (first, second):
            assert (await device.come()).code == codes.CREATED
        assert len(lab.core.directory.list(lab.core.account_id)) == 2

    play(story)


def test_a_device_that_asks_several_times_at_once_is_finished_once(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await secure_device(lab)
        await device.connect("bootstrap")
        ask = ("ep=desk1", f"aid={lab.core.account_id}", "mccv=4.13.2")
        both = [device.endpoint.request(request(codes.POST, "bs", *ask), device.bootstrap_server) for _ in range(3)]
        assert {answer.code for answer in await asyncio.gather(*both)} == {codes.CHANGED}
        await device.bootstrapped.wait()
        await asyncio.sleep(1)
        assert device.asked[-3:] == ["DELETE /0", "PUT /0", f"POST /bs?iep={device.id}"]
        assert device.asked.count(f"POST /bs?iep={device.id}") == 1  # what was begun for the others was broken off
        assert [row["id"] for row in lab.core.directory.list(lab.core.account_id)] == [device.id]

    play(story)


def test_a_device_that_brings_its_id_is_the_same_and_its_old_certificate_goes_with_the_new_one(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab)
        id, old, account = device.id, device.own, lab.core.account_id
        await device.disconnect("lwm2m")
        await device.first_boot("ep=desk1", f"aid={account}", f"iep={id}", "mccv=4.13.2")
        assert device.id == id and device.own != old
        assert (await device.come()).code == codes.CREATED
        await device.disconnect("lwm2m")
        device.own = old
        assert (await device.come()).code == codes.FORBIDDEN
        await device.disconnect("lwm2m")
        await device.first_boot("ep=desk1", f"aid={account}")
        assert device.id != id  # it has lost what it was

    play(story)


def test_a_device_that_failed_and_asks_again_is_no_second_device(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await secure_device(lab)
        for refuse in (codes.BAD_REQUEST, None):
            device.refuse = refuse
            await device.connect("bootstrap")
            task = asyncio.ensure_future(device.bootstrap())
            await asyncio.sleep(3)
            task.cancel()
            await device.disconnect("bootstrap")
            await asyncio.sleep(12)
        assert [row["id"] for row in lab.core.directory.list(lab.core.account_id)] == [device.id]
        assert (await device.come()).code == codes.CREATED

    play(story)


def test_what_a_device_was_told_and_did_not_confirm_is_good_for_nobody_after_its_next_try(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await secure_device(lab)
        await device.connect("bootstrap")
        device.silent_at = "/bs"
        task = asyncio.ensure_future(device.bootstrap())
        await asyncio.sleep(400)
        task.cancel()
        await device.disconnect("bootstrap")
        (last,) = lab.core.bootstrap.transcript(lab.core.account_id)
        assert (last["state"], last["step"]) == ("failed", "POST /bs")
        told_first, device.silent_at = device.own, ""
        await device.first_boot()
        assert name_of(told_first) == name_of(device.own)
        assert (await device.come()).code == codes.CREATED
        await device.disconnect("lwm2m")
        device.own = told_first
        assert (await device.come()).code == codes.FORBIDDEN

    play(story)


def test_a_device_that_closes_at_the_end_instead_of_answering_has_it_all(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await secure_device(lab)
        await device.connect("bootstrap")
        device.silent_at = "/bs"
        task = asyncio.ensure_future(device.bootstrap())
        await asyncio.sleep(1)
        task.cancel()
        await device.disconnect("bootstrap")
        await asyncio.sleep(0.1)
        (last,) = lab.core.bootstrap.transcript(lab.core.account_id)
        assert (last["state"], last["steps"][-1]["answer"]) == ("finished", "connection closed")
        assert (await device.come()).code == codes.CREATED

    play(story)


def test_a_connection_that_ends_in_the_middle_is_a_failure_with_its_step(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await secure_device(lab)
        await device.connect("bootstrap")
        device.silent_at = "/0"
        task = asyncio.ensure_future(device.bootstrap())
        await asyncio.sleep(1)
        task.cancel()
        await device.disconnect("bootstrap", "the connection was reset by the device")
        await asyncio.sleep(0.1)
        (row,) = lab.core.directory.list(lab.core.account_id)
        failed = [e for e in lab.core.directory.events(row["account_id"]) if e["event_type"].endswith("failed")]
        assert failed[0]["description"].startswith("Bootstrap failed at DELETE /0: ")
        assert "reset by the device" in failed[0]["description"]

    play(story)


def test_who_asks_must_be_who_its_certificate_says(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        account = lab.core.account_id
        other_account = lab.new_account()
        mine, theirs = await registered(lab), await registered(lab, "desk2")
        elsewhere = await secure_device(lab, "desk9", account_id=other_account)
        await elsewhere.first_boot("ep=desk9", f"aid={other_account}")
        for device in (mine, theirs):
            await device.disconnect("lwm2m")
        nobody = lab.core.pki.sign(ec.generate_private_key(ec.SECP256R1()).public_key(), Subject("desk1"))
        before = lab.core.directory.list(account)
        for certificate, query, code, reason in (
            (mine.built_with, ("ep=desk2", f"aid={account}"), "4.00", "not the name in the certificate"),
            (mine.built_with, ("ep=desk1", f"aid={other_account}"), "4.03", "not the account of the certificate"),
            (mine.built_with, ("ep=desk1", f"iep={theirs.id}"), "4.03", "has another certificate"),
            (mine.built_with, ("ep=desk1", f"iep={elsewhere.id}"), "4.03", "not of this account"),
            (mine.own, ("ep=desk1", f"iep={theirs.id}"), "4.03", "not that device's"),
            (nobody, ("ep=desk1", f"aid={account}"), "4.03", "no account"),
        ):
            await mine.connect("bootstrap", certificate)
            answer = await mine.bootstrap(*query)
            assert str(answer.code).startswith(code) and reason in answer.payload.decode(), query
            await mine.disconnect("bootstrap")
        assert [row["id"] for row in lab.core.directory.list(account)] == [row["id"] for row in before]

    play(story)


def test_nobody_without_a_certificate_is_a_device_that_has_one(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, plain = await registered(lab), await lab.device("plain")
        answer = await plain.bootstrap("ep=desk1", f"aid={lab.core.account_id}", f"iep={device.id}")
        assert answer.code == codes.FORBIDDEN and b"another certificate" in answer.payload
        await plain.bootstrap("ep=desk1", f"aid={lab.core.account_id}")
        assert plain.id != device.id

    play(story)


def test_a_device_that_had_no_security_keeps_its_id_when_it_gets_a_certificate(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        plain = await lab.registered()
        device = await secure_device(lab)
        await device.first_boot("ep=desk1", f"aid={lab.core.account_id}", f"iep={plain.id}")
        assert device.id == plain.id and (await device.come()).code == codes.CREATED
        assert (await plain.update()).code == codes.NOT_FOUND
        assert (await plain.register()).code == codes.FORBIDDEN

    play(story)


async def keyed(lab: CoreLab, name: str = "sensor") -> SharedKeyDevice:
    """Return a device that has a pre-shared key."""
    lab.core.shared_keys.add(lab.core.account_id, name)
    device = SharedKeyDevice(lab, name)
    lab.devices.append(device)
    await device.power_on()
    return device


def test_with_a_pre_shared_key_a_device_is_told_to_register_by_it(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, account = await keyed(lab), lab.core.account_id
        assert (await device.first_boot()).code == codes.CHANGED
        address = lab.fabric.host("service").address
        (row,) = lab.core.directory.list(account)
        assert (row["endpoint_name"], row["state"]) == ("sensor", "bootstrapped")
        assert device.uri == f"coaps://{address}:5695?aid={account}&iep={row['id']}"
        told = {id: bytes(value) for id, value in device.security.items() if id}
        key = lab.core.shared_keys.of(b"sensor")
        assert told == {1: b"\0", 2: b"\0", 3: b"sensor", 5: key, 10: b"\x01"}
        assert (await device.come()).opt.location_path == ("rd", account, row["id"])
        (last,) = lab.core.bootstrap.transcript(account)
        assert (last["state"], last["security"]) == ("finished", "psk")

    play(story)


def test_a_device_with_a_pre_shared_key_is_the_same_one_each_time(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, account = await keyed(lab), lab.core.account_id
        await device.first_boot()
        await device.come()
        first = device.id
        await device.first_boot()  # its storage was wiped, and it knows no id
        await device.first_boot("ep=sensor", f"aid={account}", f"iep={first}")
        assert (await device.come()).opt.location_path == ("rd", account, first)
        other = await keyed(lab, "other")
        await other.connect("bootstrap")
        for query, code, word in (
            (("ep=other", f"aid={account}", f"iep={first}"), codes.FORBIDDEN, b"not this pre-shared key"),
            (("ep=sensor", f"aid={account}"), codes.BAD_REQUEST, b"not the identity"),
            (("ep=other", f"aid={'0' * 32}"), codes.BAD_REQUEST, b"not of the account"),
        ):
            answer = await other.bootstrap(*query)
            assert answer.code == code and word in answer.payload, answer.payload
        assert [row["endpoint_name"] for row in lab.core.directory.list(account)] == ["sensor", "other"]

    play(story)


def test_a_pre_shared_key_that_is_deleted_opens_nothing_from_then_on(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, account = await keyed(lab), lab.core.account_id
        await device.first_boot()
        await device.come()
        lab.core.shared_keys.remove(account, "sensor")
        assert "its pre-shared key was withdrawn" in lab.core.registrations.find(device.id).lost_why
        for role in ("bootstrap", "lwm2m"):
            assert lab.core.belief.fault(role, Identity("psk", "sensor")) == WITHDRAWN
        await device.connect("bootstrap")
        answer = await device.bootstrap()
        assert answer.code == codes.FORBIDDEN and b"withdrawn" in answer.payload
        lab.core.shared_keys.add(account, "sensor")  # another one: what was agreed by the first is resumed no more
        assert lab.core.belief.fault("lwm2m", Identity("psk", "sensor")) == WITHDRAWN
        await asyncio.sleep(SESSION_LIFETIME)
        assert lab.core.belief.fault("lwm2m", Identity("psk", "sensor")) is None

    play(story)


def test_a_pre_shared_key_is_in_neither_log_nor_events(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await keyed(lab)
        await device.first_boot()
        kept = lab.log.lines() + repr(lab.core.directory.events(lab.core.account_id))
        kept += repr(lab.core.bootstrap.transcript(lab.core.account_id)) + repr(lab.core.shared_keys)
        key = lab.core.shared_keys.of(b"sensor")
        assert key is not None and key.hex() not in kept.lower() and repr(key) not in kept

    play(story)


@pytest.mark.parametrize("mode", ["certificates", "est"])
@pytest.mark.parametrize("delete", [True, False])
@pytest.mark.parametrize("server", [True, False])
def test_the_way_is_the_accounts_choice(play: Stage, mode: str, delete: bool, server: bool) -> None:
    async def story(lab: CoreLab) -> None:
        plan = Plan(mode=mode, delete=delete, server=server, lifetime=600)
        lab.core.bootstrap.set_plan(lab.core.account_id, plan)
        await lab.restart()
        assert lab.core.bootstrap.plan(lab.core.account_id) == plan
        rehearsed = [row["step"] for row in lab.core.bootstrap.rehearse(lab.core.account_id, "desk1")]
        device = await secure_device(lab)
        await device.first_boot()
        expected = ["DELETE /0"] * delete + ["PUT /0"] + ["PUT /1"] * server + [f"POST /bs?iep={device.id}"]
        assert device.asked == expected
        (last,) = lab.core.bootstrap.transcript(lab.core.account_id)
        assert [step["step"] for step in last["steps"]] == rehearsed
        assert (await device.come()).code == codes.CREATED

    play(story)


def test_a_rehearsal_tells_sizes_and_asks_nobody(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        account = lab.core.account_id
        put = next(row for row in lab.core.bootstrap.rehearse(account, "desk1") if row["step"] == "PUT /0")
        assert put["problems"] == "" and put["blocks"] == -(-put["payload_B"] // 512) > 1
        device = await secure_device(lab)
        await device.first_boot()
        told = next(s for s in lab.core.bootstrap.transcript(account)[0]["steps"] if s["step"] == "PUT /0")
        assert abs(told["payload_B"] - put["payload_B"]) < 12  # signatures and serial numbers vary
        assert len(lab.core.directory.list(account)) == 1

    play(story)


def test_what_no_client_would_take_is_found_before_it_is_sent() -> None:
    certificate, uri = b"c", "coaps://192.0.2.1:5684?aid=0"
    whole = Told(uri, 2, certificate, certificate, certificate)
    assert whole.problems() == [] and Told(uri, 4, authority=certificate).problems() == []
    for told, word in (
        (Told("coaps://192.0.2.1?aid=0", 2, certificate, certificate, certificate), "port"),
        (Told("coaps://192.0.2.1:5684", 2, certificate, certificate, certificate), "aid="),
        (Told("coaps://192.0.2.1:70000?aid=0", 2, certificate, certificate, certificate), "port 70000"),
        (Told("coap://192.0.2.1:5684?aid=0", 2, certificate, certificate, certificate), "do not go together"),
        (Told(uri), "do not go together"),
        (Told(uri, 2, certificate, certificate), "with a private key"),
        (Told(uri, 4, certificate, certificate), "without a device certificate"),
        (Told(uri, 2, bytes(1025), certificate, certificate), "1025 B"),
    ):
        (problem,) = told.problems()
        assert word in problem


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=4), st.binary(max_size=200), st.sampled_from(list(NONSENSE)))
def test_whatever_a_device_answers_its_bootstrap_ends_with_a_reason(
    query: list[str], payload: bytes, code: codes.Code
) -> None:
    async def story(lab: CoreLab) -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        device = await secure_device(lab)
        device.refuse = code
        device.refuse_with = payload
        await device.connect("bootstrap")
        account = lab.core.account_id
        for wanted in (("ep=desk1", *query), ("ep=desk1", f"aid={account}")):
            message = request(codes.POST, "bs", *wanted, payload=payload)
            answer = await device.endpoint.request(message, device.bootstrap_server)
            assert answer.code in (codes.CHANGED, codes.BAD_REQUEST, codes.FORBIDDEN)
            await asyncio.sleep(1)
        (last,) = lab.core.bootstrap.transcript(account)
        assert (last["state"], last["step"]) == ("failed", "DELETE /0") and str(code) in last["reason"]
        assert failures == []

    play(story, None)


def test_a_plain_device_is_told_its_server_object_too(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device("plain")
        await device.bootstrap("ep=plain")  # without mccv, which the stock client alone sends
        assert [each for each in device.asked if each.startswith("PUT")] == ["PUT /0", "PUT /1"]

    play(story)
