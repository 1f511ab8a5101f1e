"""Whole stories over real TLS, DTLS and TCP: bootstrap, registration, restarts, and strangers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiocoap.numbers import codes
from cryptography.hazmat.primitives.serialization import Encoding

from pdmlab.coap.security import Security
from pdmlab.errors import HandshakeFailed, NetworkError
from pdmlab.service.bootstrap_plan import Plan
from pdmlab.service.certificates import Subject, authority_certificate, client_certificate, key_der, new_key
from tests.service.corelab import value
from tests.service.reallab import Carrier, PlainStreamDevice, RealDevice, RealLab, real, real_device

BOTH = pytest.mark.parametrize("carrier", ["tls", "dtls"])


@BOTH
@pytest.mark.parametrize("mode", ["certificates", "est"])
def test_a_device_bootstraps_registers_is_asked_and_tells(tmp_path: Path, carrier: Carrier, mode: str) -> None:
    async def story(lab: RealLab) -> None:
        lab.core.bootstrap.set_plan(lab.core.account_id, Plan(mode=mode))
        device = await real_device(lab, carrier)
        await device.first_boot()
        assert (await device.come()).opt.location_path == ("rd", lab.core.account_id, device.id)
        registration = lab.core.registrations.find(device.id)
        assert registration.peer.scheme == ("coaps+tcp" if carrier == "tls" else "coaps")
        await lab.ask(device, "GET", "/5000/0/1")
        await lab.ask(device, "PUT", "/5000/0/1", bytes(1500), content_type="application/octet-stream")
        read, written = await lab.answers(2)
        assert value(read) == b"test0" and written["status"] == 200
        await lab.core.observations.subscribe(lab.key_id, device.id, "/3/0/0")
        await lab.answers()
        assert await device.notify("/3/0/0", "told") == "acknowledged"
        assert lab.core.resources.value(device.id, "/3/0/0") == "told"
        assert (await device.deregister()).code == codes.DELETED

    real(story, tmp_path / "lab.sqlite")


@BOTH
@pytest.mark.parametrize("kill", [False, True])
def test_a_restarted_service_knows_a_device_that_goes_on(tmp_path: Path, carrier: Carrier, kill: bool) -> None:
    async def story(lab: RealLab) -> None:
        device = await real_device(lab, carrier)
        await device.first_boot()
        await device.come()
        await lab.core.observations.subscribe(lab.key_id, device.id, "/3/0/0")
        await lab.answers()
        if carrier == "tls":
            await device.disconnect("lwm2m")
        await lab.restart(kill=kill)
        await lab.ask(device, "GET", "/5000/0/1")
        if carrier == "tls":
            assert "was restarted" in lab.core.requests.queue(device.id)[0]["why"]
            await device.connect("lwm2m")
            # DTLS has no connection that could end: the association is where it was.
            assert (await device.update()).code == codes.CHANGED
        assert value((await lab.answers())[0]) == b"test0"
        assert await device.notify("/3/0/0", "after") == "acknowledged"
        assert lab.core.resources.value(device.id, "/3/0/0") == "after"

    real(story, tmp_path / "lab.sqlite")


@BOTH
def test_a_device_that_comes_back_from_another_port_goes_on_with_an_update(tmp_path: Path, carrier: Carrier) -> None:
    async def story(lab: RealLab) -> None:
        device = await real_device(lab, carrier)
        await device.first_boot()
        await device.come()
        await lab.ask(device, "GET", "/5000/0/1")
        await lab.answers()
        await device.disconnect("lwm2m")
        if carrier == "tls":
            await lab.until(lambda: lab.core.registrations.find(device.id).lost_at is not None)
            await lab.ask(device, "GET", "/5000/0/1")
            assert "closed the connection" in lab.core.requests.queue(device.id)[0]["why"]
        await device.connect("lwm2m")
        assert (await device.update()).code == codes.CHANGED
        if carrier == "dtls":
            await lab.ask(device, "GET", "/5000/0/1")
        assert value((await lab.answers())[0]) == b"test0"

    real(story, tmp_path / "lab.sqlite")


@BOTH
def test_strangers_do_not_come_in(tmp_path: Path, carrier: Carrier) -> None:
    async def story(lab: RealLab) -> None:
        device = await real_device(lab, carrier)
        key, other = new_key(), new_key()
        authority = authority_certificate(other, "another CA")
        subject = Subject("desk1", "0" * 32, lab.core.account_id)
        forged = client_certificate(authority, other, key.public_key(), subject)
        der = forged.public_bytes(Encoding.DER)
        trust = (lab.core.pki.certificate,)
        for security in (
            Security(certificates=(der,), private_key=key_der(key), trust=trust),
            Security(psk=(b"desk1", bytes(16))),
        ):
            for role in ("bootstrap", "lwm2m"):
                with pytest.raises(NetworkError) as failed:
                    await device.connect(role, security=security)
                    await device.register("ep=desk1", payload=b"")  # TLS 1.2: what it sends first may be what fails
                assert isinstance(failed.value, HandshakeFailed) or carrier == "tls", failed.value
        assert lab.core.directory.list(lab.core.account_id) == []
        await device.first_boot()
        assert (await device.come()).code == codes.CREATED

    real(story, tmp_path / "lab.sqlite")


@BOTH
def test_a_client_with_a_pre_shared_key_registers_without_bootstrap(tmp_path: Path, carrier: Carrier) -> None:
    async def story(lab: RealLab) -> None:
        shared = lab.core.shared_keys.add(lab.core.account_id, "sensor")
        device = RealDevice(lab, "sensor", carrier)
        lab.devices.append(device)
        security = Security(psk=(shared.identity.encode(), shared.key))
        await device.connect("lwm2m", security=security)
        answer = await device.register("ep=desk1", "lt=60", "lwm2m=1.1", "b=U")
        assert answer.code == codes.BAD_REQUEST
        answer = await device.register("ep=sensor", "lt=60", "lwm2m=1.1", "b=U")
        assert answer.code == codes.CREATED
        id = device.location[2]
        await lab.core.requests.submit(lab.key_id, id, "a", "GET", "/3/0/0")
        assert value((await lab.answers())[0]) == b"pdmlab"

    real(story, tmp_path / "lab.sqlite")


def test_plain_tcp_takes_devices_on_loopback(tmp_path: Path) -> None:
    async def story(lab: RealLab) -> None:
        device = PlainStreamDevice(lab, "desk1", "tls")
        lab.devices.append(device)
        await device.connect("lwm2m")
        assert (await device.register("ep=desk1", "lt=60", "lwm2m=1.0", "b=U")).code == codes.CREATED
        id = device.location[2]
        await lab.core.requests.submit(lab.key_id, id, "a", "GET", "/3/0/0")
        assert value((await lab.answers())[0]) == b"pdmlab"
        await device.disconnect("lwm2m")
        await lab.until(lambda: lab.core.registrations.find(id).lost_at is not None)
        await device.connect("lwm2m")
        assert (await device.update()).code == codes.CHANGED

    real(story, tmp_path / "lab.sqlite")


@BOTH
def test_a_device_that_hangs_up_at_the_end_of_its_bootstrap_has_it_all(tmp_path: Path, carrier: Carrier) -> None:
    async def story(lab: RealLab) -> None:
        device = await real_device(lab, carrier)
        device.silent_at = "/bs"
        await device.connect("bootstrap")
        task = asyncio.ensure_future(device.bootstrap())
        await lab.until(lambda: any(line.startswith("POST /bs") for line in device.asked))
        await device.disconnect("bootstrap")
        task.cancel()
        account = lab.core.account_id
        await lab.until(lambda: lab.core.bootstrap.transcript(account)[0]["state"] == "finished")
        assert (await device.come()).code == codes.CREATED

    real(story, tmp_path / "lab.sqlite")
