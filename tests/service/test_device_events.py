"""Devices over time: what events tell of a life, and whom a campaign for a group means."""

from __future__ import annotations

import asyncio
import gc

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pdmlab.coap.transport import Identity
from pdmlab.service.directory import EVENTS
from pdmlab.service.enrollment import identity_of
from pdmlab.service.factory import Claim
from pdmlab.service.proof import proof_of
from tests.client.pki import Authority
from tests.service.corelab import CoreLab, Stage
from tests.service.fota import publish, updatable
from tests.service.secure import SecureDevice

LIFE = "update.device.device-"
QUERY = "ep=meter", "mccv=4.13.2"


def told(lab: CoreLab, device_id: str) -> list[tuple[str, str, bool]]:
    """Return what events say: type, new state, whether it changed."""
    return [
        (each["event_type"].removeprefix(LIFE), str(each["changes"].get("state", "")), bool(each["state_change"]))
        for each in lab.core.directory.events(lab.core.account_id, device_id)
    ]


def test_a_life_from_bootstrap_to_deletion_is_told_step_by_step(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        id = device.id
        await device.register()  # again: nothing changes
        await device.deregister()
        device.lifetime = 60
        await device.register()
        await asyncio.sleep(61)
        assert lab.core.directory.remove(lab.core.account_id, id)
        assert told(lab, id) == [
            ("created", "", False),
            ("bootstrapped", "bootstrapped", True),
            ("registered", "registered", True),
            ("registered", "", False),
            ("deregistered", "deregistered", True),
            ("registered", "registered", True),
            ("update.device.registration-expired", "deregistered", True),
            ("deleted", "", True),
        ]
        for each in lab.core.directory.events(lab.core.account_id, id):
            assert each["device_id"] == id and each["event_type_category"] == "update.device"
            assert each["description"] and each["event_type_description"] == EVENTS[each["event_type"]]
            assert each["date_time"] == each["created_at"]

    play(story)


def test_a_factorys_device_is_told_to_be_enrolled(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        core, factory = lab.core, Authority("Factory CA")
        certificate, _ = factory.issue(CN="meter")
        pem = x509.load_der_x509_certificate(factory.certificate).public_bytes(Encoding.PEM).decode()
        trusted = core.trusted.add(core.account_id, "factory", pem, "bootstrap", enrollment_mode=True)
        device = SecureDevice(lab, "meter", built_with=certificate)
        lab.devices.append(device)
        await device.power_on()
        assert str((await device.first_boot(*QUERY)).code) == "4.03 Forbidden"
        (denied,) = core.directory.events(core.account_id, "")
        assert denied["event_type"] == "update.device.enrollment-denied" and "meter" in denied["description"]
        assert denied["data"] == {"trusted_certificate_id": trusted["id"], "endpoint_name": "meter"}
        enrollment = core.enrollments.add(core.account_id, identity_of(certificate))
        assert (await device.first_boot(*QUERY)).code.is_successful()
        enrolled = core.enrollments.find(core.account_id, enrollment["id"])
        kinds = [each[0] for each in told(lab, enrolled["enrolled_device_id"])]
        assert kinds == ["created", "enrolled", "bootstrapped"]
        row = core.directory.find(enrolled["enrolled_device_id"])
        assert row is not None and row["enrolment_list_timestamp"] == enrolled["claimed_at"]

    play(story)


def test_a_campaign_for_a_group_updates_the_devices_in_it_and_no_others(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        core, account = lab.core, lab.core.account_id
        within, without = await updatable(lab, "within"), await updatable(lab, "without")
        group = core.device_groups.add(account, "first floor")["id"]
        core.device_groups.put_in(account, group, [within.device.id])
        id = publish(lab, device_filter=f"groups__in={group},{'0' * 32}")
        core.campaigns.start(account, id)
        while core.campaigns.find(account, id)["phase"] != "stopped":
            await asyncio.sleep(1)
        assert [each["device_id"] for each in core.campaigns.metadata(account, id)] == [within.device.id]
        assert (within.manifests, without.manifests) == (1, 0)

    play(story)


def test_two_processes_that_meet_a_device_at_once_make_one_of_it(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        core, factory = lab.core, Authority("Factory CA")
        certificate, _ = factory.issue(CN="meter")
        pem = x509.load_der_x509_certificate(factory.certificate).public_bytes(Encoding.PEM).decode()
        core.trusted.add(core.account_id, "factory", pem, "bootstrap", enrollment_mode=True)
        core.enrollments.add(core.account_id, identity_of(certificate))
        proof = proof_of(Identity("certificate", "meter", (certificate,)), core.pki.certificate)
        # Both have read the enrollment before either claims it.
        claims = [core.factory.claim("bootstrap", "meter", None, proof) for _ in range(2)]
        assert all(isinstance(each, Claim) for each in claims)
        known, core.factory.known = core.factory.known, lambda *_: None
        with core.store.begin():
            found = [core.factory.device(each, proof, "cloud_enrolling")["id"] for each in claims]
        core.factory.known = known
        assert found[0] == found[1]
        assert [each["id"] for each in core.directory.list(core.account_id)] == [found[0]]

    play(story)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_device_that_is_deleted_while_it_bootstraps_is_another_one_when_it_asks_again(
    play: Stage, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """elsewhere: another process deletes it, so that this one finds out by itself."""

    async def story(lab: CoreLab) -> None:
        failures: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        device = await lab.device()
        device.silent_at = "/0"
        asking = asyncio.ensure_future(device.bootstrap())
        await asyncio.sleep(2)
        (first,) = lab.core.directory.list(lab.core.account_id)
        with monkeypatch.context() as patch:
            if elsewhere:
                patch.setattr(lab.core.bootstrap, "forget", lambda _: None)
            assert lab.core.directory.remove(lab.core.account_id, first["id"])
        device.silent_at = ""
        await asyncio.sleep(400)
        asking.cancel()
        assert lab.core.bootstrap.transcript(lab.core.account_id) == []
        assert (await device.bootstrap()).code.is_successful()
        (second,) = lab.core.directory.list(lab.core.account_id)
        assert second["id"] != first["id"]
        gc.collect()
        await asyncio.sleep(1)
        assert failures == []

    play(story)
