"""Updates that go wrong end with the stock client's result, change nothing, and the next one goes through."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from pdmlab.clock import PowerLost
from pdmlab.errors import NoSpace, ResponseError, StorageError, TimedOut
from pdmlab.storage import FlashIAPBlockDevice, Medium, QSPIFBlockDevice, SDBlockDevice
from pdmlab.storage.faults import MediumFaults
from pdmlab.update.candidate_form import CandidateForm
from pdmlab.update.der import sign_digest
from pdmlab.update.manifest import PayloadFormat
from pdmlab.update.payloads.encrypted import encrypt, with_key
from pdmlab.update.payloads.patch import make_patch
from tests.update.phone import NEW, OLD, URI, Phone, delta, order
from tests.update.wrong import CLASS, KEY, STRANGERS_KEY, VENDOR, WRONG, v3

K = 1024
SECRET = bytes(range(16))
PAYLOAD = encrypt(NEW, SECRET)
PATCH = make_patch(OLD, NEW)


def storage(size: int = 64 * K) -> SDBlockDevice:
    device = SDBlockDevice(Medium(size, erase_value=0))
    device.init()
    return device


@pytest.fixture
def phone() -> Phone:
    return Phone(storage())


def another_update_goes_through(phone: Phone) -> None:
    assert phone.is_as_before() and phone.manifest is None and phone.slot.read() is None
    phone.files, phone.trouble, phone.at_block, phone.answers = {URI: NEW}, {}, {}, []
    phone.receive(order(**({"installed_signature": SIGNATURE} if phone.form.signed else {})))
    assert phone.told == [3, 4, 6, 7, 8, "reboot"], phone.reasons
    phone.run_candidate()
    assert phone.runs == NEW


# -- the manifest ------------------------------------------------------------------------------------

AFTER_APPROVAL = {"image for a larger board", "format that the device has not"}


@pytest.mark.parametrize(
    "name", [name for name in WRONG if name not in AFTER_APPROVAL | {"version that runs", "version before"}]
)
def test_a_wrong_manifest_fetches_nothing(phone: Phone, name: str) -> None:
    phone.receive(WRONG[name].v3())
    assert phone.told == [("result", int(WRONG[name].result)), 1] and phone.asked == [] and phone.reasons[0]
    another_update_goes_through(phone)


@pytest.mark.parametrize("version", ["1.0.0", "0.9.9"])
def test_a_version_that_is_not_newer_fetches_nothing(phone: Phone, version: str) -> None:
    phone.receive(order(version=version))
    assert phone.told == [("result", 27), 1] and phone.asked == []
    another_update_goes_through(phone)


def test_an_image_too_large_for_the_storage_is_refused_once_its_download_is_allowed(phone: Phone) -> None:
    phone.receive(order(bytes(64 * K)))
    assert phone.told == [3, ("result", 33), 1] and phone.asked == []
    another_update_goes_through(phone)


def test_a_package_for_a_component_without_parts_is_a_format_that_it_does_not_take(phone: Phone) -> None:
    phone.receive(order(NEW, NEW, format=PayloadFormat.COMBINED))
    assert phone.told == [("result", 25), 1]
    another_update_goes_through(phone)


def test_a_delta_for_another_image_is_refused(phone: Phone) -> None:
    phone.receive(delta(PATCH, old=NEW))
    assert phone.told == [("result", 32), 1] and phone.asked == []
    another_update_goes_through(phone)


def test_an_encrypted_payload_without_its_key_is_refused(phone: Phone) -> None:
    phone.receive(order(PAYLOAD, NEW, format=PayloadFormat.ENCRYPTED_RAW))
    assert phone.told == [("result", 22), 1]
    another_update_goes_through(phone)


# -- the payload -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("served", "result"),
    [
        pytest.param(NEW[:-1] + b"?", 26, id="another digest"),
        pytest.param(NEW[:-1], 26, id="truncated"),
        pytest.param(NEW + bytes(600), 41, id="oversized"),
        pytest.param(NEW[:1000], 26, id="cut short"),
    ],
)
def test_a_wrong_payload_is_not_installed(phone: Phone, served: bytes, result: int) -> None:
    phone.files = {URI: served}
    phone.receive(order())
    assert (
        phone.told == [3, 4, ("result", result), 1]
        and ("SHA-256" if served[:-1] == NEW[:-1] else URI) in phone.reasons[0]
    )
    another_update_goes_through(phone)


def test_a_file_that_goes_on_behind_the_image_at_a_blocks_end_is_taken_as_the_stock_client_does(phone: Phone) -> None:
    phone.files = {URI: NEW[: 512 * 20] + bytes(5000)}
    phone.receive(order(NEW[: 512 * 20]))
    assert phone.told[-1] == "reboot"


GONE = ResponseError("4.04 Not Found", code="4.04 Not Found", path="fw")
BUSY = ResponseError("5.03 Service Unavailable", code="5.03 Service Unavailable", path="fw")


@pytest.mark.parametrize(
    ("trouble", "result"), [([GONE], 24), ([TimedOut("no answer")], 24), ([BUSY] * 6, 24)], ids=["gone", "away", "busy"]
)
def test_a_server_that_goes_away_in_mid_download_ends_it(phone: Phone, trouble: list[Any], result: int) -> None:
    phone.trouble = {40: list(trouble)}
    phone.receive(order())
    assert phone.told == [3, 4, ("result", result), 1] and "block 40" in phone.reasons[0]
    another_update_goes_through(phone)


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        pytest.param(b"?" * 100, 42, id="no patch"),
        pytest.param(PATCH[:-20], 42, id="patch cut short"),
        pytest.param(make_patch(OLD, NEW[:-1] + b"?"), 26, id="patch to another image"),
    ],
)
def test_a_wrong_patch_is_not_installed(phone: Phone, patch: bytes, result: int) -> None:
    phone.files = {URI: patch}
    phone.receive(delta(patch))
    assert phone.told == [3, 4, ("result", result), 1]
    another_update_goes_through(phone)


def test_a_payload_under_another_key_is_not_installed(phone: Phone) -> None:
    phone.files = {URI: PAYLOAD}
    phone.receive(with_key(order(PAYLOAD, NEW, format=PayloadFormat.ENCRYPTED_RAW), b"?" * 16))
    assert phone.told == [3, 4, ("result", 43), 1]
    another_update_goes_through(phone)


SIGNATURE = sign_digest(KEY, hashlib.sha256(NEW).digest())
STRANGERS = sign_digest(STRANGERS_KEY, hashlib.sha256(NEW).digest())


@pytest.mark.parametrize(
    ("signature", "told"),
    [(b"", [("result", 22), 1]), (STRANGERS, [3, 4, ("result", 26), 1])],
    ids=["none", "a stranger's"],  # the signature itself is another in each process
)
def test_a_device_for_signed_images_takes_no_others(signature: bytes, told: list[Any]) -> None:
    phone = Phone(storage(), CandidateForm(signed=True))
    phone.receive(order(installed_signature=signature))
    assert phone.told == told
    another_update_goes_through(phone)
    header = phone.slot.header()
    assert header is not None and header.signature == SIGNATURE and header.length == 224


def test_every_format_is_installed(phone: Phone) -> None:
    for payload, manifest in (
        (NEW, order()),
        (PATCH, delta(PATCH)),
        (PAYLOAD, with_key(order(PAYLOAD, NEW, format=PayloadFormat.ENCRYPTED_RAW), SECRET)),
    ):
        phone.files = {URI: payload}
        phone.receive(manifest)
        assert phone.told == [3, 4, 6, 7, 8, "reboot"] and phone.done == (len(payload), len(payload))
        found = phone.slot.read()
        assert found is not None and b"".join(phone.slot.image(found.header)) == NEW
        assert found.header.precursor == hashlib.sha256(OLD).digest()


# -- media -------------------------------------------------------------------------------------------


DRIVERS: dict[str, Callable[[], Any]] = {
    "SD": lambda: SDBlockDevice(Medium(64 * K, erase_value=0)),
    "QSPIF": lambda: QSPIFBlockDevice(Medium(64 * K)),
    "FLASHIAP": lambda: FlashIAPBlockDevice(Medium(64 * K), part="K64F"),
}
FORMS = {
    "at once": CandidateForm(),
    "checksummed": CandidateForm(checksummed=True),
    "encrypted": CandidateForm(encryption="one-time key"),
}
# Mbed's SD driver does not notice that one of many blocks was not written: it shows when the image is read back.
NOTICED_LATER = {("SD", "checksummed"): 26, ("SD", "encrypted"): 36}


@pytest.mark.parametrize("part", DRIVERS)
@pytest.mark.parametrize("form", FORMS)
def test_a_worn_slot_ends_the_update_with_a_storage_error(part: str, form: str) -> None:
    device = DRIVERS[part]()
    device.init()
    phone = Phone(device, FORMS[form])
    MediumFaults.of(device.medium).wear_out(20 * K)
    phone.receive(order())
    assert phone.told[-2:] == [("result", NOTICED_LATER.get((part, form), 35)), 1] and phone.reasons[0]
    phone.storage = storage()
    another_update_goes_through(phone)


@pytest.mark.parametrize(("block", "result"), [(0, 35), (50, 35), (78, 35)])
def test_a_card_pulled_in_mid_download_is_a_storage_error(phone: Phone, block: int, result: int) -> None:
    def pull() -> None:
        phone.storage.medium.seated = False

    phone.at_block[block] = pull
    phone.receive(order())
    assert phone.told == [3, 4, ("result", result), 1]
    phone.storage.medium.seated = True
    phone.storage.deinit()
    phone.storage.init()
    another_update_goes_through(phone)


def test_a_card_pulled_while_the_application_thinks_about_the_installation_installs_nothing(phone: Phone) -> None:
    authorise = phone.authorise

    async def pull(step: Any, manifest: Any) -> Any:
        phone.storage.medium.seated = phone.told[-1] != 6
        return await authorise(step, manifest)

    phone.authorise = pull  # type: ignore[method-assign]
    phone.receive(order())
    assert phone.told == [3, 4, 6, ("result", 35), 1]
    phone.storage.medium.seated = True
    phone.storage.deinit()
    phone.storage.init()
    phone.authorise = authorise  # type: ignore[method-assign]
    another_update_goes_through(phone)


@pytest.mark.parametrize("what", ["save", "save_key"])
def test_secure_storage_that_is_full_ends_the_update_before_a_byte_is_fetched(phone: Phone, what: str) -> None:
    def full(data: bytes) -> None:
        raise NoSpace("cannot write it (ENOSPC, -28)", code=-28)

    kept = getattr(phone, what)
    setattr(phone, what, full)
    phone.receive(order())
    assert phone.told[-2:] == [("result", 35), 1] and phone.asked == []
    setattr(phone, what, kept)
    another_update_goes_through(phone)


def test_an_image_that_cannot_be_read_back_is_a_read_error() -> None:
    device = DRIVERS["QSPIF"]()
    device.init()
    phone = Phone(device)
    phone.at_block[78] = lambda: MediumFaults.of(device.medium).bad_block(5, "readerror")
    phone.receive(order())
    assert phone.told == [3, 4, ("result", 36), 1] and phone.reasons[0]
    phone.storage = storage()
    another_update_goes_through(phone)


def test_a_manifest_that_cannot_be_read_after_a_reset_is_a_read_error(phone: Phone) -> None:
    phone.trouble = {50: [PowerLost()]}
    with pytest.raises(PowerLost):
        phone.receive(order())
    loads = iter([phone.manifest])

    def load() -> bytes | None:
        try:
            return next(loads)  # at prepare(), but not at resume()
        except StopIteration:
            raise StorageError("cannot read it (EIO, -5)", code=-5) from None

    phone.load = load  # type: ignore[method-assign]
    phone.restart()
    assert phone.told == [2, ("result", 36), 1]
    del phone.load
    another_update_goes_through(phone)


@pytest.mark.parametrize("version", ["1.0.1000", "1000.0.0"])
def test_a_version_with_a_number_above_999_is_an_internal_error_as_in_the_stock_client(
    phone: Phone, version: str
) -> None:
    phone.receive(v3(version=version, vendor_id=VENDOR, class_id=CLASS)())
    assert phone.told == [("result", 41), 1]
    another_update_goes_through(phone)
