"""Certificates that devices ask for: at bootstrap, and when they are asked to renew; in the stock client's framing."""

from __future__ import annotations

import asyncio

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.service.bootstrap_plan import Plan
from pdmlab.service.est import chain_of, name_tlv
from pdmlab.service.refusal import Refused
from tests.service.corelab import CoreLab, Stage, play, request
from tests.service.secure import SecureDevice, csr, name_of, registered, secure_device

RENEW = "/35011/0/27002"


def est(lab: CoreLab) -> None:
    lab.core.bootstrap.set_plan(lab.core.account_id, Plan(mode="est"))


def test_a_chain_is_a_version_a_count_and_lengths() -> None:
    assert chain_of(b"leaf", b"ca") == b"\x01\x02\x00\x04leaf\x00\x02ca"
    assert chain_of(bytes(300))[:4] == b"\x01\x01\x01\x2c"


def test_a_renewal_names_the_certificate_with_its_nul() -> None:
    # docs/wire.md 2.4: type 1, length, "LWM2M" and NUL, all big-endian
    assert name_tlv("LWM2M") == bytes.fromhex("0001 0006 4c574d324d00")


def test_a_device_makes_its_key_and_is_told_neither_key_nor_certificate(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        est(lab)
        device = await secure_device(lab)
        await device.first_boot()
        account = lab.core.account_id
        (row,) = lab.core.directory.list(account)
        assert sorted(device.security) == [0, 1, 2, 4, 10]
        assert device.security[2] == b"\x04" and device.security[4] == lab.core.pki.certificate
        assert name_of(device.own) == {"CN": "desk1", "L": row["id"], "OU": account}
        (last,) = lab.core.bootstrap.transcript(account)
        assert [step["step"] for step in last["steps"]] == ["DELETE /0", "PUT /0", "POST /bs", "POST /est/sen"]
        assert (last["state"], last["security"]) == ("finished", "est")
        assert (await device.come()).code == codes.CREATED

    play(story)


def test_a_long_answer_comes_in_blocks_that_are_asked_for_with_one_token_and_no_payload(play: Stage) -> None:
    async def story(lab: CoreLab) -> list[str]:
        est(lab)
        device = await secure_device(lab, "n" * 64)
        await device.first_boot()
        sent = [m for m in lab.log if m.endpoint == "bootstrap" and m.path == "/est/sen"]
        asked, answers = sent[::2], sent[1::2]
        assert len({m.token for m in sent}) == 1
        assert [m.payload_B > 0 for m in asked] == [True, False]
        assert "Size2" in answers[0].options and answers[0].payload_B == 512
        return [m.code for m in answers]

    assert play(story) == ["2.04 Changed"] * 2


def test_the_next_block_may_be_asked_for_without_the_options_of_the_first(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab, "n" * 64)
        key = ec.generate_private_key(ec.SECP256R1())
        wanted = csr(key, L=device.id, OU=lab.core.account_id, CN=device.name)
        ask = request(codes.POST, "est/LWM2M/sen", payload=wanted, content_format=0)
        ask.opt.max_age, ask.opt.block2, ask.token = 0, (0, False, 5), b"same"
        first = await device.endpoint.request(ask, device.service)
        assert first.opt.block2.more and first.opt.size2 > 512
        ask = request(codes.POST, "est/LWM2M/sen")
        ask.opt.block2, ask.token = (1, False, 5), b"same"
        last = await device.endpoint.request(ask, device.service)
        assert last.code == codes.CHANGED and len(first.payload + last.payload) == first.opt.size2

    play(story)


def test_a_device_that_never_asks_is_given_up_and_said_so(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        est(lab)
        device = await secure_device(lab)
        device.enrolls = False
        await device.connect("bootstrap")
        asyncio.get_running_loop().create_task(device.bootstrap()).cancel()
        answer = await device.endpoint.request(
            request(codes.POST, "bs", "ep=desk1", f"aid={lab.core.account_id}"), device.bootstrap_server
        )
        assert answer.code == codes.CHANGED
        await asyncio.sleep(260)
        (last,) = lab.core.bootstrap.transcript(lab.core.account_id)
        assert (last["state"], last["step"]) == ("failed", "POST /est/sen")
        assert last["reason"] == "the device asked for no certificate within 247 s"

    play(story)


def test_a_device_that_closes_instead_of_asking_has_not_bootstrapped(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        est(lab)
        device = await secure_device(lab)
        device.enrolls = False
        await device.connect("bootstrap")
        await device.endpoint.request(
            request(codes.POST, "bs", "ep=desk1", f"aid={lab.core.account_id}"), device.bootstrap_server
        )
        await asyncio.sleep(1)
        await device.disconnect("bootstrap")
        await asyncio.sleep(0)
        (last,) = lab.core.bootstrap.transcript(lab.core.account_id)
        assert (last["state"], last["reason"]) == ("failed", "the device closed the connection")

    play(story)


def test_nobody_gets_a_certificate_who_was_not_told_to_ask(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await secure_device(lab)
        await device.connect("bootstrap")
        wanted = csr(ec.generate_private_key(ec.SECP256R1()), L="0" * 32, OU=lab.core.account_id, CN="desk1")
        answer = await device.endpoint.request(request(codes.POST, "est/sen", payload=wanted), device.bootstrap_server)
        assert answer.code == codes.FORBIDDEN and b"POST /bs comes first" in answer.payload
        plain = await lab.registered("plain")
        answer = await plain.send(codes.POST, "est/sen", payload=wanted)
        assert answer.code == codes.FORBIDDEN and b"registered with its certificate" in answer.payload

    play(story)


def test_a_request_that_cannot_be_read_is_refused_in_words(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab)
        whole = csr(ec.generate_private_key(ec.SECP256R1()), CN=device.name)
        for wanted in (b"\x30", b"", b"nonsense", whole[:-1], whole[:40] + b"\xff" + whole[41:]):
            answer = await device.send(codes.POST, "est/LWM2M/sen", payload=wanted)
            said = answer.payload.decode()
            assert answer.code == codes.BAD_REQUEST and said.startswith("the certificate request ")
            assert "{" not in said and "Error" not in said

    play(story)


def test_a_request_for_somebody_else_is_refused(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, other = await registered(lab), await registered(lab, "desk2")
        before = len(lab.core.credentials.of_device(device.id))
        for subject, reason in (
            ({"L": other.id}, f"L={other.id} is not the device"),
            ({"CN": "desk2"}, "CN=desk2 is not the endpoint name"),
            ({"OU": "0" * 32}, f"OU={'0' * 32} is not the account"),
        ):
            answer = await device.enroll("est/LWM2M/sen", **subject)
            assert (answer.code, answer.payload.decode()) == (codes.FORBIDDEN, reason)
        assert len(lab.core.credentials.of_device(device.id)) == before

    play(story)


def test_a_renewed_certificate_replaces_the_old_one_when_it_is_first_used(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab)
        old, id = device.own, device.id
        assert (await device.enroll("est/LWM2M/sen")).code == codes.CHANGED
        assert device.own != old and device.id == id
        new, device.own = device.own, old
        await device.disconnect("lwm2m")
        assert (await device.come()).code == codes.CREATED  # it had no chance to keep the new one
        await device.disconnect("lwm2m")
        device.own = new
        assert (await device.come()).code == codes.CREATED
        await device.disconnect("lwm2m")
        device.own = old
        answer = await device.come()
        assert answer.code == codes.FORBIDDEN and b"taken the place" in answer.payload

    play(story)


class Renewing(SecureDevice):
    """A device with the Enroll resource: empty ACK at once, the status when it is through."""

    status = b"0"

    async def _answer(self, message: Message, peer: tuple[str, int]) -> Message | None:
        if message.opt.uri_path != ("35011", "0", "27002"):
            return await super()._answer(message, peer)
        self.told = message.payload
        assert message.opt.content_format is None  # any but text would never be answered
        self.endpoint.acknowledge(message)
        await asyncio.sleep(120)
        assert (await self.enroll(f"est/{message.payload[4:-1].decode()}/sen")).code == codes.CHANGED
        return Message(code=codes.CHANGED, payload=self.status)


async def renewing(lab: CoreLab) -> Renewing:
    made = await secure_device(lab)
    device = Renewing(lab, "desk2", built_with=made.built_with)
    device.name = "desk1"
    lab.devices.append(device)
    await device.power_on()
    device.values[RENEW] = b""
    await device.first_boot()
    await device.come()
    return device


def test_a_device_is_asked_to_renew_and_how_it_went_is_told(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, account = await renewing(lab), lab.core.account_id
        before = device.own
        enrollment = await lab.core.est.renew(account, device.id)
        assert (enrollment["enroll_status"], enrollment["certificate_name"]) == ("new", "LWM2M")
        with pytest.raises(Refused, match="under way") as refused:
            await lab.core.est.renew(account, device.id)
        assert refused.value.status == 409
        await asyncio.sleep(130)
        assert device.told == name_tlv("LWM2M") and device.own != before
        row = lab.core.est.enrollment(account, enrollment["id"])
        assert (row["enroll_status"], row["enroll_result"]) == ("completed", "success")
        Renewing.status = b"1285"
        try:
            enrollment = await lab.core.est.renew(account, device.id)
            await asyncio.sleep(130)
        finally:
            Renewing.status = b"0"
        row = lab.core.est.enrollment(account, enrollment["id"])
        assert row["enroll_result"] == "failure"
        assert row["enroll_result_detail"] == "the device reports status 1285: it is busy with other renewals"

    play(story)


def test_a_device_that_is_not_there_or_cannot_is_not_asked(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, account = await registered(lab), lab.core.account_id
        for id, status, name in (("0" * 32, 404, "LWM2M"), (device.id, 423, "LWM2M"), (device.id, 400, "a/b")):
            with pytest.raises(Refused) as refused:
                await lab.core.est.renew(account, id, name)
            assert refused.value.status == status
        await device.disconnect("lwm2m")
        with pytest.raises(Refused, match="no connection"):
            await lab.core.est.renew(account, device.id)

    play(story)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers(0, 140))
def test_whatever_a_device_calls_a_request_it_is_refused_with_a_reason(payloads: list[bytes], at: int) -> None:
    async def story(lab: CoreLab) -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        device = await registered(lab)
        good = csr(ec.generate_private_key(ec.SECP256R1()), L=device.id, OU=lab.core.account_id, CN="desk1")
        broken = good[:at] + bytes((good[at] ^ 0x55,)) + good[at + 1 :]
        for payload in (*payloads, broken, good[:at], good * 8):
            answer = await device.send(codes.POST, "est/sen", payload=payload, content_format=0)
            assert answer.code in (codes.BAD_REQUEST, codes.FORBIDDEN) and answer.payload
        assert (await device.enroll()).code == codes.CHANGED
        assert failures == []

    play(story, None)
