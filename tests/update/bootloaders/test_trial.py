"""The trial bootloader on small media: what it starts, what it keeps, what it refuses, and what it says."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pdmlab.errors import BootFailed, ConfigError, ImageRejected, StorageError
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.storage.kv.sotp import SotpType
from pdmlab.update import bootloaders, signed_version
from pdmlab.update.bootloaders.interface import BootResult, Hardware, TrialStarts
from pdmlab.update.bootloaders.trial import TrialBootloader
from pdmlab.update.bootloaders.trial import key as trial_key
from pdmlab.update.bootloaders.trial.records import TrialRecords, programmer_mark
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.der import sign_digest
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.layout import Area, FlashLayout
from pdmlab.update.manifest import Manifest
from pdmlab.update.pages import ChecksummedPages, EncryptedPages, Pages
from pdmlab.update.payloads.blocks import BlockCipher
from pdmlab.update.version import Version
from tests.update.bootloaders import boards

Medium = Callable[[str, int], Any]  # a CuttableFlash, which lives in conftest.py
K = 1024


def made(seed: int, size: int, version: str) -> bytes:
    """Make an image that says its version where the signature covers it."""
    image = bytearray(random.Random(seed).randbytes(size))
    image[signed_version.OFFSET : signed_version.END] = signed_version.pack(Version.parse(version))
    return bytes(image)


OLD, NEW, NEWER = made(1, 21_000, "1.0.0"), made(2, 25_003, "2.0.0"), made(3, 9_001, "3.0.0")
ROT = bytes(range(16))

LAYOUT = replace(boards.LAYOUT, candidate=Area("candidate", 0, 96 * K))


class Board:
    """A board's two media, its key, and what was printed at its last start."""

    def __init__(
        self, medium: Medium, key: ec.EllipticCurvePrivateKey, part: str = "SD", layout: FlashLayout = LAYOUT
    ) -> None:
        self.layout = layout
        self.flash = medium("FLASHIAP", 64 * K)
        self.storage = medium(part, 96 * K)
        self.key = key
        self.options = {"key": trial_key.as_option(key.public_key())}
        self.console = ""
        self.nvstore.set_once(SotpType.ROT, ROT)

    @property
    def nvstore(self) -> NVStore:
        return NVStore(self.flash, [(area.offset, area.size) for area in LAYOUT.sotp])

    @property
    def hardware(self) -> Hardware:
        return Hardware(self.layout, self.flash, self.storage, self.nvstore)

    @property
    def bootloader(self) -> TrialBootloader:
        built = bootloaders.build("trial", self.hardware, self.options)
        assert isinstance(built, TrialBootloader)
        return built

    @property
    def slot(self) -> CandidateSlot:
        return bootloaders.candidate_slot("trial", self.hardware)

    def sign(self, digest: bytes) -> bytes:
        return sign_digest(self.key, digest)

    def program(self, image: bytes, version: str) -> None:
        """Write an image as a programmer does, who erases first."""
        self.flash.erase(LAYOUT.header_offset, 48 * K)
        for at, data in bootloaders.programmed("trial", LAYOUT, image, Version.parse(version), sign=self.sign):
            self.flash.program(at, data + b"\xff" * (-len(data) % 8))
        self.boot()

    def offer(
        self,
        image: bytes = NEW,
        version: str = "2.0.0",
        *,
        component: str = "MAIN",
        signature: bytes | None = None,
        pages: Pages | None = None,
    ) -> None:
        digest = hashlib.sha256(image).digest()
        manifest = Manifest(
            bytes(16), bytes(16), version, digest, len(image), "/fw", component,
            installed_signature=self.sign(digest) if signature is None else signature,
        )  # fmt: skip
        slot = self.slot
        slot.begin(manifest, pages=pages, signed=True)
        slot.write(0, image)
        slot.finish()

    def boot(self) -> BootResult:
        self.console = ""
        return self.bootloader.boot(self._print)

    def _print(self, text: str) -> None:
        self.console += text

    @property
    def runs(self) -> bytes:
        """What a processor would run."""
        header = FirmwareHeader.parse(self.flash.read(LAYOUT.header_offset, 256))
        return bytes(self.flash.read(LAYOUT.app_offset, header.size + 8))[: header.size]


@pytest.fixture(params=["SD", "QSPIF"])
def board(medium: Medium, key: ec.EllipticCurvePrivateKey, request: pytest.FixtureRequest) -> Board:
    board = Board(medium, key, request.param)
    board.program(OLD, "1.0.0")
    return board


def test_a_programmed_image_starts_as_confirmed(board: Board) -> None:
    result = board.boot()
    assert (result.active.version_text, result.trial, result.installed) == ("1.0.0", False, False)
    assert board.console.splitlines() == [
        "Trial bootloader: it starts signed images only",
        "[BOOT] Starting 1.0.0, confirmed",
    ]


def test_a_confirmed_image_is_kept_at_its_first_start_and_restored_from_there_when_it_is_damaged(board: Board) -> None:
    assert board.bootloader.slots()[2].header is not None
    damage(board)
    result = board.boot()
    assert result.active.version_text == "1.0.0" and not result.trial and board.runs == OLD
    assert "Restoring 1.0.0 from the previous slot" in board.console


def test_a_new_image_is_on_trial_until_it_is_confirmed(board: Board) -> None:
    board.offer()
    result = board.boot()
    assert result.installed and result.trial and board.runs == NEW
    assert "Starting 2.0.0 on trial: unless the application confirms it, the next start goes back" in board.console
    board.bootloader.confirm()
    assert not board.boot().trial and board.runs == NEW


def test_the_next_update_keeps_the_image_before_it(board: Board) -> None:
    board.offer()
    board.boot()
    board.bootloader.confirm()
    board.offer(NEWER, "3.0.0")
    board.boot()
    assert "Keeping 2.0.0 in the previous slot" in board.console and board.runs == NEWER
    board.boot()
    assert board.runs == NEW


@pytest.mark.parametrize("reason", ["power-on", "pin", "software"])
def test_what_was_not_confirmed_is_put_back_at_the_next_start(board: Board, reason: Any) -> None:
    board.offer()
    board.boot()
    result = board.bootloader.boot(lambda text: None, reason)
    assert result.reverted and not result.trial and board.runs == OLD
    assert result.refused == "2.0.0 was not confirmed, and is not tried again"
    again = board.boot()
    assert (again.installed, again.reverted, board.runs) == (False, False, OLD)


def test_the_application_hears_why_the_new_one_does_not_run(board: Board) -> None:
    digest = hashlib.sha256(NEW).digest()
    board.offer()
    board.boot()
    assert board.bootloader.rejected(digest) is None
    board.boot()
    bootloader = board.bootloader
    assert isinstance(bootloader, TrialStarts) and bootloader.image_key == trial_key.point_of(board.options)
    assert "started on trial and not confirmed" in (bootloader.rejected(digest) or "")
    assert bootloader.rejected(hashlib.sha256(OLD).digest()) is None


def test_what_was_not_confirmed_may_be_asked_for_again(board: Board) -> None:
    board.offer()
    board.boot()
    board.boot()
    board.bootloader.allow_again(hashlib.sha256(NEW).digest())
    assert board.boot().trial and board.runs == NEW


def test_a_newer_image_than_the_one_that_was_not_confirmed_is_installed_after_going_back(board: Board) -> None:
    board.offer()
    board.boot()
    newer = made(3, 9_001, "2.0.1")
    board.offer(newer, "2.0.1")
    result = board.boot()
    assert result.trial and result.active.version_text == "2.0.1" and board.runs == newer
    assert "Going back to 1.0.0" in board.console and "Installing 2.0.1" in board.console
    board.boot()
    assert board.runs == OLD


def test_nothing_older_than_what_was_confirmed_is_installed(board: Board) -> None:
    board.offer()
    board.boot()
    board.bootloader.confirm()
    board.offer(OLD, "1.0.0")
    result = board.boot()
    assert board.runs == NEW and result.refused == "1.0.0 is below 2.0.0, the least that may run"


def test_not_even_when_nothing_else_is_whole(board: Board) -> None:
    board.offer()
    board.boot()
    board.bootloader.confirm()
    board.offer(OLD, "1.0.0")
    damage(board)
    with pytest.raises(BootFailed, match="nothing may start"):
        board.boot()


def damage(board: Board) -> None:
    """Clear some bits of the active image."""
    board.flash._overwrite(LAYOUT.app_offset + 64, bytes(8))


def test_a_damaged_image_is_restored_from_the_candidate_that_it_came_from(board: Board) -> None:
    board.offer()
    board.boot()
    board.bootloader.confirm()
    damage(board)
    result = board.boot()
    assert not result.trial and board.runs == NEW
    assert "Restoring 2.0.0 from the candidate slot" in board.console
    assert "6 of 7 sectors held their bytes already" in board.console


def test_a_damaged_image_on_trial_is_not_installed_again_but_the_old_one_is_put_back(board: Board) -> None:
    board.offer()
    board.boot()
    damage(board)
    result = board.boot()
    assert result.reverted and board.runs == OLD


def test_an_image_that_another_key_signed_is_not_started(board: Board) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    board.offer(signature=sign_digest(other, hashlib.sha256(NEW).digest()))
    result = board.boot()
    assert result.refused == "it is signed by another key than this bootloader's" and board.runs == OLD


def test_another_images_signature_is_none(board: Board) -> None:
    board.offer(signature=board.sign(hashlib.sha256(OLD).digest()))
    assert board.boot().refused == "it is signed by another key than this bootloader's" and board.runs == OLD


def test_an_image_without_a_signature_is_not_started(board: Board) -> None:
    digest = hashlib.sha256(NEW).digest()
    slot = board.slot
    slot.begin(Manifest(bytes(16), bytes(16), "2.0.0", digest, len(NEW), "/fw"))
    slot.write(0, NEW)
    slot.finish()
    assert board.boot().refused == "it is not signed" and board.runs == OLD


def test_an_active_image_without_a_signature_is_not_started_but_the_one_that_was_kept(board: Board) -> None:
    header = FirmwareHeader(len(OLD), Version.parse("1.0.0"), hashlib.sha256(OLD).digest())
    board.flash.erase(LAYOUT.header_offset, 4 * K)
    board.flash.program(LAYOUT.header_offset, header.pack())
    board.flash.program(LAYOUT.app_offset, OLD[: 3 * K])
    board.boot()
    assert "Active image: it is not signed" in board.console and board.runs == OLD
    assert FirmwareHeader.parse(board.flash.read(LAYOUT.header_offset, 256)).signature


# -- the version that was signed ---------------------------------------------------------------------------


def test_an_old_release_under_a_header_that_claims_a_high_version_is_not_installed(board: Board) -> None:
    board.offer()
    board.boot()
    board.bootloader.confirm()
    board.offer(OLD, "999.999.999")
    result = board.boot()
    assert result.refused == "its header says 999.999.999, what was signed 1.0.0" and board.runs == NEW
    assert board.bootloader.slots()[1].detail == result.refused
    damage(board)
    board.storage._overwrite(48 * K, bytes(512))
    with pytest.raises(BootFailed, match=r"candidate: its header says 999\.999\.999"):
        board.boot()  # not when there is nothing else either


@pytest.mark.parametrize("claims", ["999.999.999", "0.0.1"])
def test_an_active_image_of_another_version_than_was_signed_is_not_started(board: Board, claims: str) -> None:
    rewrite_header(board, OLD, claims)
    assert board.boot().active.version_text == "1.0.0" and board.runs == OLD
    assert f"Active image: its header says {claims}, what was signed 1.0.0" in board.console
    assert "Restoring 1.0.0 from the previous slot" in board.console


def rewrite_header(board: Board, image: bytes, version: str) -> None:
    digest = hashlib.sha256(image).digest()
    header = FirmwareHeader(len(image), Version.parse(version), digest, signature=board.sign(digest))
    head = header.pack().ljust(240, b"\xff") if version == "0.0.1" else header.pack() + programmer_mark(digest)
    board.flash._overwrite(LAYOUT.header_offset, head)


def test_a_kept_image_of_another_version_than_was_signed_is_not_gone_back_to(board: Board) -> None:
    board.offer()
    board.boot()
    digest = hashlib.sha256(OLD).digest()
    forged = FirmwareHeader(len(OLD), Version(999, 0, 0), digest, signature=board.sign(digest))
    board.storage._overwrite(48 * K, forged.pack())
    damage(board)
    board.offer(b"no image" * 100, "0.0.1")
    with pytest.raises(BootFailed, match=r"previous: its header says 999\.0\.0, what was signed 1\.0\.0"):
        board.boot()


def test_a_programmers_image_of_another_version_than_was_signed_is_not_started(
    medium: Medium, key: ec.EllipticCurvePrivateKey
) -> None:
    with pytest.raises(BootFailed, match=r"its header says 7\.0\.0, what was signed 1\.0\.0"):
        Board(medium, key).program(OLD, "7.0.0")


@pytest.mark.parametrize("image", [bytes(30_000), b"short", random.Random(5).randbytes(30_000)])
def test_an_image_that_does_not_say_its_version_is_not_started(board: Board, image: bytes) -> None:
    board.offer(image)
    assert board.boot().refused == "what was signed does not say of which version it is" and board.runs == OLD


def test_the_counter_is_raised_to_what_was_signed_whatever_the_header_says(board: Board) -> None:
    board.offer()
    board.boot()
    rewrite_header(board, NEW, "999.999.999")
    board.bootloader.confirm()
    assert TrialRecords(board.nvstore).floor == Version.parse("2.0.0").number


# -- a trial that cannot be noted ----------------------------------------------------------------------------


def refuse_nvstore(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    program = board.flash.program

    def refuse(address: int, data: bytes) -> None:
        if address >= LAYOUT.sotp[0].offset:
            raise StorageError("the flash refuses", code=-4001)
        program(address, data)

    monkeypatch.setattr(board.flash, "program", refuse)


def fill_nvstore(board: Board, room: int) -> None:
    """Leave so much room (B) beside an application's live record."""
    nvstore = board.nvstore
    size = next(size for size in range(4088, 0, -8) if nvstore.fits({11: size, 15: room - 8}))
    nvstore.set(11, bytes(size))


@pytest.mark.parametrize("how", ["full", "refusing"])
def test_a_new_image_is_not_installed_if_its_trial_cannot_be_noted(
    board: Board, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.offer()
    fill_nvstore(board, 24) if how == "full" else refuse_nvstore(board, monkeypatch)
    before = board.flash.contents()
    for _ in range(3):
        result = board.boot()
        assert not result.trial and not result.installed and board.runs == OLD
        assert result.refused and result.refused.startswith("that 2.0.0 is on trial could not be noted (")
    assert board.flash.contents()[: 56 * K] == before[: 56 * K]
    assert board.nvstore.get(SotpType.ROT) == ROT


def test_one_that_is_installed_already_is_put_back_if_its_trial_cannot_be_noted(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.offer()

    def cut(self: TrialRecords, digest: bytes) -> None:
        raise KeyboardInterrupt  # the supply goes, after the installation

    with monkeypatch.context() as patch:
        patch.setattr(TrialRecords, "tried", property(lambda self: None, cut))
        with pytest.raises(KeyboardInterrupt):
            board.boot()
    assert board.runs == NEW
    refuse_nvstore(board, monkeypatch)
    result = board.boot()
    assert result.reverted and not result.trial and board.runs == OLD
    assert result.refused and "that 2.0.0 is on trial cannot be noted (NVStore: the flash refuses" in result.refused
    assert not board.boot().trial and board.runs == OLD


def test_with_nothing_to_go_back_to_it_starts_and_says_so(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board.offer()
    board.boot()
    board.bootloader.allow_again(hashlib.sha256(NEW).digest())
    board.storage._overwrite(48 * K, bytes(512))
    refuse_nvstore(board, monkeypatch)
    assert board.boot().trial and board.runs == NEW
    assert "Starting 2.0.0 all the same: it is not confirmed, and there is nothing to go back to" in board.console


def test_what_a_programmer_has_written_starts_also_where_the_counter_cannot_be_set(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_nvstore(board, monkeypatch)
    board.program(NEW, "2.0.0")
    assert "The version counter cannot be set" in board.console
    assert not board.boot().trial and board.runs == NEW


@pytest.mark.parametrize("room", range(8, 96, 8))
def test_the_identity_outlives_an_nvstore_that_is_full_of_live_records(board: Board, room: int) -> None:
    board.offer()
    fill_nvstore(board, room)
    bootloader = board.bootloader  # one NVStore for all of it, as on a board until its next reset
    trial = bootloader.boot(lambda text: None).trial
    for _ in range(3):
        with contextlib.suppress(StorageError):
            bootloader.confirm()
    assert board.nvstore.get(SotpType.ROT) == ROT and bytes(board.nvstore.get(11)).strip(b"\0") == b""
    assert trial is (board.boot().active.version_text == "2.0.0")


# -- an image that is kept, and gone --------------------------------------------------------------------------


def test_with_the_kept_image_gone_a_newer_candidate_is_installed_and_the_two_do_not_take_turns(board: Board) -> None:
    board.offer()
    board.boot()
    board.storage._overwrite(48 * K, bytes(512))
    assert board.boot().trial and board.runs == NEW
    assert "2.0.0 was not confirmed, but there is nothing to go back to: starting it again" in board.console
    board.offer(NEWER, "3.0.0")
    result = board.boot()
    assert result.installed and result.trial and board.runs == NEWER
    assert "2.0.0 was not confirmed, and there is nothing to go back to" in board.console
    for _ in range(3):  # 2.0.0 is kept, but nobody has confirmed that either
        assert not board.boot().reverted and board.runs == NEWER
    damage(board)
    assert board.boot().active.version_text in ("2.0.0", "3.0.0")


def test_a_candidate_that_does_not_come_instead_says_why(board: Board) -> None:
    board.offer()
    board.boot()
    board.storage._overwrite(48 * K, bytes(512))
    board.offer(OLD, "1.0.0")
    result = board.boot()
    assert result.refused == "1.0.0 is not newer than 2.0.0" and result.trial and board.runs == NEW


def test_a_candidate_that_changed_on_its_medium_is_not_installed(board: Board) -> None:
    board.offer()
    at = board.slot.image_region(board.slot.header()).offset  # type: ignore[arg-type]
    board.storage._overwrite(at + 4096, bytes(512))
    assert board.boot().refused == "it is not whole: its SHA-256 is another" and board.runs == OLD


def test_a_candidate_for_another_component_is_none(board: Board) -> None:
    board.offer(component="METER")
    assert board.boot().refused == "it is for component METER"


def test_an_image_that_has_no_room_to_be_kept_is_not_replaced(medium: Medium, key: ec.EllipticCurvePrivateKey) -> None:
    board = Board(medium, key, layout=replace(LAYOUT, candidate=Area("candidate", 0, 64 * K)))
    board.program(made(4, 40_000, "1.0.0"), "1.0.0")
    board.offer()
    assert board.boot().refused == "1.0.0 has no room in the slot that would keep it"


@pytest.mark.parametrize("pages", [ChecksummedPages(), EncryptedPages(BlockCipher.of_device(ROT))], ids=repr)
def test_a_candidate_in_pages_is_installed(board: Board, pages: Pages) -> None:
    board.offer(pages=pages)
    assert board.boot().trial and board.runs == NEW


def test_a_candidate_that_another_board_has_encrypted_is_none(board: Board) -> None:
    board.offer(pages=EncryptedPages(BlockCipher.of_device(bytes(16))))
    result = board.boot()
    assert result.refused and not result.installed and board.runs == OLD


def test_the_identity_stays_as_it_was(board: Board) -> None:
    board.offer()
    board.boot()
    board.boot()
    assert board.nvstore.get(SotpType.ROT) == ROT


def test_slots_say_what_lies_where(board: Board) -> None:
    board.offer()
    board.boot()
    active, candidate, previous = board.bootloader.slots()
    assert (active.state, active.detail) == ("whole", "on trial")
    assert (candidate.state, candidate.detail) == ("whole", "signed")
    assert (previous.state, previous.header.version_text if previous.header else "") == ("whole", "1.0.0")
    assert candidate.offset + candidate.size == previous.offset
    board.boot()
    assert board.bootloader.slots()[1].detail == "was not confirmed"


def test_the_programmers_mark_is_no_part_of_an_update(board: Board) -> None:
    board.offer()
    board.boot()
    assert board.flash.read(LAYOUT.header_offset + 224, 16) == b"\xff" * 16


def test_a_programmer_may_go_back(board: Board) -> None:
    board.offer()
    board.boot()
    board.bootloader.confirm()
    board.program(OLD, "1.0.0")
    result = board.boot()
    assert result.active.version_text == "1.0.0"
    assert result.refused == "2.0.0 was not confirmed, and is not tried again"
    board.bootloader.allow_again(hashlib.sha256(NEW).digest())
    board.offer()
    assert board.boot().trial


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_lies_in_its_slots_only_signed_images_start(
    medium: Medium, key: ec.EllipticCurvePrivateKey, data: st.DataObject
) -> None:
    board = Board(medium, key)
    board.program(OLD, "1.0.0")
    board.offer(pages=data.draw(st.sampled_from([None, ChecksummedPages()])))
    for flash, start, size in ((board.storage, 0, 2048), (board.storage, 48 * K, 2048), (board.flash, 8 * K, 256)):
        for _ in range(data.draw(st.integers(0, 3))):
            at = start + data.draw(st.integers(0, size - 9))
            there, scribble = bytearray(flash.contents()), data.draw(st.binary(min_size=1, max_size=8))
            there[at : at + len(scribble)] = scribble
            flash.restore(bytes(there))
    try:
        board.boot()
    except BootFailed:
        return
    assert board.runs in (OLD, NEW)


class Absent:
    """A card that is out for so many looks, and then is back."""

    def __init__(self, board: Board, looks: int) -> None:
        self.read, self.looks, board.storage.read = board.storage.read, looks, self
        self.init, board.storage.init = board.storage.init, self._init

    def _init(self) -> None:
        self.looks -= 1
        self.init()

    def __call__(self, address: int, size: int) -> bytes:
        if self.looks > 0:
            raise StorageError("no card", code=-5005)
        return bytes(self.read(address, size))


def test_without_its_card_a_whole_image_starts(board: Board) -> None:
    Absent(board, 1000)
    result = board.boot()
    assert board.runs == OLD and result.refused == "the update storage cannot be read (no card)"


def test_a_card_that_comes_back_is_waited_for(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board.offer()
    board.boot()
    board.bootloader.confirm()
    damage(board)
    slept: list[int] = []
    monkeypatch.setattr(board.flash.clock, "sleep", slept.append)
    Absent(board, 3)
    board.boot()
    assert board.runs == NEW and len(slept) == 3
    assert "The update storage does not answer (no card): put its card back, and the copy goes on" in board.console


def test_a_card_that_stays_away_ends_the_start_in_words(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(board)
    monkeypatch.setattr(board.flash.clock, "sleep", lambda ns: None)
    Absent(board, 1000)
    with pytest.raises(BootFailed, match="no card") as caught:
        board.boot()
    assert "put the card back" in str(caught.value)
    assert board.console.splitlines()[-1] == "[BOOT] Nothing may start: the board waits for its next reset"


def test_flash_that_fails_once_is_copied_to_again(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board.offer()
    program, failures = board.flash.program, [True]

    def fail_once(address: int, data: bytes) -> None:
        if address == LAYOUT.app_offset + 3 * K + 4 * K and failures:
            failures.pop()
            raise StorageError("the flash refuses", code=-4001)
        program(address, data)

    monkeypatch.setattr(board.flash, "program", fail_once)
    assert board.boot().trial and board.runs == NEW
    assert "The copy failed: the flash refuses" in board.console


def test_flash_that_refuses_for_good_ends_in_words(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board.offer()
    program = board.flash.program

    def refuse(address: int, data: bytes) -> None:
        if address == LAYOUT.app_offset + 3 * K + 4 * K:
            raise StorageError("the flash refuses", code=-4001)
        program(address, data)

    monkeypatch.setattr(board.flash, "program", refuse)
    with pytest.raises(BootFailed, match="candidate: it cannot be copied into flash; previous"):
        board.boot()
    monkeypatch.undo()
    assert board.boot().active.version_text == "2.0.0"  # once it takes bytes again


def test_flash_that_forgets_what_it_was_told_ends_in_words(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board.offer()
    place = board.bootloader._places.active
    write_header = type(place).write_header

    def forget(self: Any, header: FirmwareHeader) -> None:
        write_header(self, header)
        if self.name == place.name:
            damage(board)

    monkeypatch.setattr(type(place), "write_header", forget)
    with pytest.raises(BootFailed, match="does not stay there"):
        board.boot()


@pytest.mark.parametrize("options", [{}, {"key": 7}, {"key": "04"}, {"key": "04" + "00" * 64}, {"key": None}])
def test_a_key_that_is_none_is_refused(board: Board, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        bootloaders.check_options("trial", options)


def test_other_options_are_refused(board: Board) -> None:
    with pytest.raises(ConfigError, match="has no option slots"):
        bootloaders.check_options("trial", {**board.options, "slots": 3})


def test_a_programmer_without_a_key_writes_nothing() -> None:
    with pytest.raises(ConfigError, match="no key to sign with"):
        bootloaders.programmed("trial", LAYOUT, OLD, Version.parse("1.0.0"))


def test_a_manifest_without_a_signature_does_not_get_into_the_slot(board: Board) -> None:
    with pytest.raises(ImageRejected):
        board.offer(signature=b"")
