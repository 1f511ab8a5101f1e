"""Answers that come later, resets and lost links, installations that are looked at, and the forms of candidates."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.clock import DeviceClock, PowerLost
from pdmlab.errors import ConfigError, StorageError
from pdmlab.storage import SDBlockDevice
from pdmlab.storage.medium import Medium as Card
from pdmlab.update.candidate_form import CandidateForm, options_of
from pdmlab.update.download import ALLOWED, DEFERRED, Fota, Step
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.interface import Answer, Interrupted, Trials, rejected_for
from pdmlab.update.manifest import PayloadFormat
from pdmlab.update.payloads.encrypted import encrypt, with_key
from pdmlab.update.payloads.patch import make_patch
from pdmlab.update.version import Version
from tests.update.bootloaders.second import ACTIVE_HEADER, ACTIVE_IMAGE, FLASH, SLOT, look
from tests.update.phone import NEW, OLD, URI, Phone, delta, order

Medium = Callable[[str, int], Any]  # a CuttableFlash, which lives in conftest.py
K = 1024
SECRET = bytes(range(16))
FORMS = {
    "at once": CandidateForm(),
    "checksummed": CandidateForm(checksummed=True),
    "one-time key": CandidateForm(encryption="one-time key"),
    "device key": CandidateForm(encryption="device key"),
}
PAYLOADS = {
    "raw": (NEW, order()),
    "delta": (make_patch(OLD, NEW), delta(make_patch(OLD, NEW))),
    "encrypted": (
        encrypt(NEW, SECRET),
        with_key(order(encrypt(NEW, SECRET), NEW, format=PayloadFormat.ENCRYPTED_RAW), SECRET),
    ),
}


@pytest.fixture(params=["SD", "QSPIF", "FLASHIAP"])
def phone(medium: Medium, request: pytest.FixtureRequest) -> Phone:
    return Phone(medium(request.param, 64 * K))


@pytest.fixture
def flash(medium: Medium) -> Phone:
    return Phone(medium("FLASHIAP", 64 * K))


# -- answers -----------------------------------------------------------------------------------------


def test_the_state_stays_what_it_is_until_the_application_answers(flash: Phone) -> None:
    told: list[Any] = []

    async def think(step: Step, manifest: object) -> Answer:
        await asyncio.sleep(3 * 86_400)
        told.append(list(flash.told))
        return ALLOWED

    flash.authorise = think  # type: ignore[method-assign]
    flash.receive(order())
    assert told == [[3], [3, 4, 6]] and flash.told[-1] == "reboot"


@pytest.mark.parametrize(
    ("answers", "told", "reason"),
    [
        ([rejected_for(127)], [3, ("result", 38), 1], "refused the download, reason 127"),
        ([ALLOWED, rejected_for()], [3, 4, 6, ("result", 37), 1], "refused the install"),
    ],
)
def test_a_refusal_says_the_applications_own_reason(flash: Phone, answers: Any, told: Any, reason: str) -> None:
    flash.answers = answers
    flash.receive(order())
    assert flash.told == told and reason in flash.reasons[0] and flash.manifest is None and flash.key is None


def later(phone: Phone, fota_work: Callable[[Fota], Any], *, answers: list[Answer]) -> None:
    """Take a manifest that is put off, and do something then."""

    async def story(fota: Fota) -> None:
        await fota.receive(order())
        phone.told.append("later")
        await fota_work(fota)

    with DeviceClock() as clock:
        fota = phone.boot(clock)
        phone.answers = answers
        clock.call_async(story(fota))


def test_a_download_that_is_put_off_goes_on_when_the_application_resumes_it(flash: Phone) -> None:
    async def resume(fota: Fota) -> None:
        assert fota.busy and fota.deferred
        await fota.receive(order(version="9.0.0"))  # dropped, as while an update is under way
        await fota.resume()  # the device registers anew: that does not undo it
        assert flash.told == [3, 2, "later"]
        await fota.resume(wanted=True)

    later(flash, resume, answers=[DEFERRED])
    assert flash.told == [3, 2, "later", 3, 4, 6, 7, 8, "reboot"]
    assert flash.questions == [Step.DOWNLOAD, Step.DOWNLOAD, Step.INSTALL]


def test_an_installation_that_is_put_off_stays_at_6_and_downloads_nothing_twice(flash: Phone) -> None:
    flash.form = FORMS["checksummed"]

    async def resume(fota: Fota) -> None:
        assert flash.told == [3, 4, 6, "later"]
        flash.asked.clear()
        await fota.resume(wanted=True)

    later(flash, resume, answers=[ALLOWED, DEFERRED])
    assert flash.told == [3, 4, 6, "later", 3, 4, 6, 7, 8, "reboot"] and flash.asked == []


@pytest.mark.parametrize("answers", [[DEFERRED], [ALLOWED, DEFERRED]])
def test_what_is_put_off_is_asked_again_after_a_reset(flash: Phone, answers: list[Answer]) -> None:
    flash.answers = answers
    flash.receive(order())
    assert flash.manifest is not None
    flash.restart()
    assert flash.told == [2, 3, 4, 6, 7, 8, "reboot"] and flash.questions == [Step.DOWNLOAD, Step.INSTALL]


@pytest.mark.parametrize(("answers", "result"), [([DEFERRED], 38), ([ALLOWED, DEFERRED], 37)])
def test_what_is_put_off_may_be_refused(flash: Phone, answers: list[Answer], result: int) -> None:
    async def refuse(fota: Fota) -> None:
        await fota.refuse(5)
        await fota.refuse(5)  # there is nothing any more
        await fota.resume(wanted=True)

    later(flash, refuse, answers=answers)
    assert flash.told[-3:] == ["later", ("result", result), 1] and flash.manifest is None


# -- resets and lost links ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_reset_in_the_download_goes_on_where_the_payload_allows_it(phone: Phone, form: str, payload: str) -> None:
    data, manifest = PAYLOADS[payload]
    phone.form, phone.files = FORMS[form], {URI: data}
    cut = len(data) // 512 - 2
    phone.trouble = {cut: [PowerLost()]}
    with pytest.raises(PowerLost):
        phone.receive(manifest)
    phone.restart()
    assert phone.told == [2, 3, 4, 6, 7, 8, "reboot"], phone.reasons
    again = 0 if payload == "delta" else max(0, cut - 34)  # 16 KiB and a page
    assert again <= phone.asked[0] <= cut and (payload != "delta" or phone.asked[0] == 0)
    if form != "at once" and payload != "delta":
        assert phone.asked[0] >= cut - 4, "pages are small"
    phone.run_candidate()
    assert phone.runs == NEW


def test_a_download_of_which_nothing_is_kept_begins_anew(flash: Phone) -> None:
    flash.trouble = {70: [PowerLost()]}
    with pytest.raises(PowerLost):
        flash.receive(order())
    flash.storage.restore(b"\xff" * flash.storage.size)  # another card
    flash.restart()
    assert flash.asked[0] == 0 and flash.told[-1] == "reboot"


def test_an_encrypted_candidate_whose_key_is_gone_begins_anew(flash: Phone) -> None:
    flash.form = FORMS["one-time key"]
    flash.trouble = {70: [PowerLost()]}
    with pytest.raises(PowerLost):
        flash.receive(order())
    flash.key = None
    flash.restart()
    assert flash.asked[0] == 0 and flash.told[-1] == "reboot"
    flash.run_candidate()
    assert flash.runs == NEW


def test_a_reset_between_the_mark_and_the_reboot_installs_without_a_second_download(flash: Phone) -> None:
    async def lost() -> None:
        raise PowerLost

    flash.reboot = lost  # type: ignore[method-assign]
    manifest = order()
    with pytest.raises(PowerLost):
        flash.receive(manifest)
    flash.manifest = manifest  # the cut came before it was forgotten, and the bootloader has not run
    del flash.reboot
    flash.restart()
    assert flash.told == [2, 3, 6, 7, 8, "reboot"] and flash.asked == []


def test_a_server_that_forgot_the_device_in_mid_download_begins_the_update_again_and_nobody_is_asked(
    phone: Phone,
) -> None:
    phone.trouble = {70: [Interrupted()]}
    phone.receive(order())
    assert phone.told == [3, 4, 2, 3, 4, 6, 7, 8, "reboot"]
    assert phone.questions == [Step.DOWNLOAD, Step.INSTALL]
    assert phone.asked[:71] == list(range(71)) and 0 < phone.asked[71] <= 70


def test_a_manifest_that_is_gone_after_a_reset_is_said(flash: Phone) -> None:
    flash.trouble = {70: [PowerLost()]}
    with pytest.raises(PowerLost):
        flash.receive(order())

    async def start(fota: Fota) -> None:
        assert await fota.prepare()
        flash.manifest = None
        await fota.resume()

    with DeviceClock() as clock:
        fota = flash.boot(clock)
        clock.call_async(start(fota))
    assert flash.told == [("result", 44), 1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("torn", [0.0, 0.6])
def test_a_cut_at_any_write_of_an_update_can_be_made_good(medium: Medium, form: str, torn: float) -> None:
    phone = Phone(medium("FLASHIAP", 128 * K), FORMS[form])
    blank = phone.storage.contents()
    phone.receive(order())
    total = phone.storage.operations
    for cut in random.Random(form).sample(range(total), 7):
        phone.storage.restore(blank)
        phone.manifest = phone.key = None
        phone.storage.cut_at, phone.storage.torn = cut, torn
        with pytest.raises(PowerLost):
            phone.receive(order())
        phone.storage.cut_at = None
        phone.restart()
        assert phone.told == [2, 3, 4, 6, 7, 8, "reboot"], f"replay: {cut=} {torn=} {form=}"
        phone.run_candidate()
        assert phone.runs == NEW
        phone.runs, phone.version = OLD, Version(1, 0, 0)


# -- what became of the installation ------------------------------------------------------------------


def test_an_installation_that_went_through_is_not_spoken_of(phone: Phone) -> None:
    phone.receive(order())
    assert phone.manifest is None and phone.key is not None
    phone.run_candidate()
    fota = phone.restart()
    assert (phone.told, fota.result, phone.key, phone.slot.read()) == ([], None, None, None)


def test_a_candidate_that_the_bootloader_did_not_take_is_result_40_once(phone: Phone) -> None:
    phone.receive(order())
    fota = phone.restart()  # and the old one still runs
    assert fota.result == 40 and "1.0.1 was not installed: 1.0.0 runs" in fota.reason
    assert phone.restart().result is None and phone.slot.read() is None
    phone.receive(order())
    assert phone.told[-1] == "reboot"


def test_a_card_that_is_out_after_the_reboot_is_looked_at_when_it_is_back() -> None:
    phone = Phone(storage := SDBlockDevice(Card(64 * K, erase_value=0)))
    storage.init()
    phone.receive(order())
    phone.run_candidate()
    storage.medium.seated = False
    with pytest.raises(StorageError):
        phone.restart()
    assert phone.key is not None
    storage.medium.seated = True
    storage.deinit()
    storage.init()
    assert phone.restart().result is None and phone.key is None


def test_with_trial_starts_the_candidate_stays_and_a_firmware_that_was_taken_back_is_result_40(flash: Phone) -> None:
    taken_back: dict[bytes, str] = {}
    again: list[bytes] = []
    key = ec.derive_private_key(0x5EED, ec.SECP256R1()).public_key()
    flash.trials = Trials(key, taken_back.get, again.append)
    flash.receive(order())
    digest = hashlib.sha256(NEW).digest()
    assert again == [digest]
    flash.run_candidate()
    assert flash.restart().result is None and flash.slot.read() is not None and flash.key is not None
    flash.runs, flash.version = OLD, Version(1, 0, 0)  # the trial was not confirmed
    taken_back[digest] = "it was started on trial and not confirmed"
    fota = flash.restart()
    assert fota.result == 40 and "not confirmed" in fota.reason
    assert flash.restart().result is None


@pytest.mark.parametrize("form", FORMS)
def test_with_trial_starts_an_image_that_was_signed_as_another_version_ends_with_26(flash: Phone, form: str) -> None:
    key = ec.derive_private_key(0x5EED, ec.SECP256R1()).public_key()
    flash.trials = Trials(key, {}.get, lambda digest: None)
    flash.form = FORMS[form]
    fota = flash.receive(order(version="999.999.999"))
    assert fota.result == 26 and fota.reason.endswith("its header says 999.999.999, what was signed 1.0.1")
    assert flash.slot.read() is None, "nothing is there for the bootloader"
    flash.receive(order())
    flash.run_candidate()
    assert flash.runs == NEW and flash.version == Version(1, 0, 1)


# -- forms -------------------------------------------------------------------------------------------


def test_the_forms_of_candidates_are_read_from_mbed_app_json() -> None:
    document = {
        "target_overrides": {
            "*": {"fota.resume-support": "FOTA_RESUME_SUPPORT_RESUME", "fota.candidate-block-size": 512},
            "K64F": {"fota.encryption-support": 1, "fota.key-encryption": "FOTA_USE_DEVICE_KEY"},
            "K66F": {"fota.signed-image-support": True},
        }
    }
    assert CandidateForm.of_options(options_of(document, "K64F")) == CandidateForm(True, "device key", 512)
    assert CandidateForm.of_options(options_of(document, "K66F")) == CandidateForm(True, None, 512, signed=True)
    assert options_of({}, "K64F") == {} and CandidateForm.of_options({}) == CandidateForm()


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("form", ["at once", "checksummed"])
@pytest.mark.parametrize("cut", [None, 60])
def test_what_a_client_writes_to_internal_flash_a_reader_made_from_the_page_alone_installs(
    medium: Medium, payload: str, form: str, cut: int | None
) -> None:
    phone = Phone(medium("FLASHIAP", FLASH), FORMS[form])
    data, manifest = PAYLOADS[payload]
    phone.slot_at, phone.files = SLOT, {URI: data}
    if cut is not None and cut < len(data) // 512:
        phone.trouble = {cut: [PowerLost()]}
        with pytest.raises(PowerLost):
            phone.receive(manifest)
        phone.restart()
    else:
        phone.receive(manifest)
    assert phone.told[-1] == "reboot"
    active = FirmwareHeader(len(OLD), Version(1, 0, 0), hashlib.sha256(OLD).digest()).pack()
    flash = bytearray(phone.storage.contents())
    flash[ACTIVE_HEADER : ACTIVE_HEADER + len(active)] = active
    flash[ACTIVE_IMAGE : ACTIVE_IMAGE + len(OLD)] = OLD
    verdict = look(bytes(flash))
    assert verdict.installs, verdict
    if form == "at once":
        assert flash[SLOT + 24 + 160 :][: len(NEW)] == NEW


@pytest.mark.parametrize(
    "options",
    [
        {"resume-support": "YES"},
        {"key-encryption": 1},
        {"candidate-block-size": 1000.5},
        {"candidate-block-size": 63},
        {"encryption-support": 2},
        {"block-size": 1024},
    ],
)
def test_what_no_build_can_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"fota\."):
        CandidateForm.of_options(options)
