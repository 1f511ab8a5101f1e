"""Components that the application installs: one by one, with or without a reboot, and several in a package."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pdmlab.errors import ConfigError, StorageError
from pdmlab.update.candidate_form import CandidateForm
from pdmlab.update.components import MAIN, Component, Components, Installation, SubComponent
from pdmlab.update.manifest import PayloadFormat
from pdmlab.update.payloads.combined import SubImage, make_package
from pdmlab.update.payloads.descriptor import Described, encode
from pdmlab.update.payloads.encrypted import encrypt, with_key
from pdmlab.update.payloads.patch import make_patch
from pdmlab.update.version import Version
from tests.update.phone import NEW, OLD, URI, Phone, order

Medium = Callable[[str, int], Any]  # a CuttableFlash, which lives in conftest.py
K = 1024
FORMS = [CandidateForm(), CandidateForm(checksummed=True), CandidateForm(encryption="one-time key")]


class Radio:
    """A part beside the processor that the application flashes."""

    def __init__(self, runs: bytes = b"old radio") -> None:
        self.runs = runs
        self.verified: list[Version] = []
        self.fails: Any = None
        self.works: object = True

    def install(self, update: Installation) -> object:
        if isinstance(self.fails, Exception):
            raise self.fails
        if self.fails is not None:
            return self.fails
        self.runs = b"".join(update.pieces(1000))
        assert len(self.runs) == update.size
        return None

    def verify(self, update: Installation) -> object:
        self.verified.append(update.version)
        return self.works

    def component(self, **options: Any) -> Component:
        return Component("RADIO", "0.9.0", self.install, self.verify, **options)


@pytest.fixture
def radio() -> Radio:
    return Radio()


@pytest.fixture(params=FORMS, ids=["at once", "checksummed", "encrypted"])
def phone(medium: Medium, radio: Radio, request: pytest.FixtureRequest) -> Phone:
    phone = Phone(medium("QSPIF", 128 * K), request.param)
    phone.components = (radio.component(),)
    return phone


def for_radio(**fields: Any) -> bytes:
    return order(component="RADIO", **fields)


def test_a_component_is_installed_on_the_running_device_and_reports_18(phone: Phone, radio: Radio) -> None:
    phone.receive(for_radio())
    assert phone.told == [3, 4, 6, 7, "RADIO", ("result", 18), 1]
    assert radio.runs == NEW and radio.verified == [Version(1, 0, 1)] and phone.is_as_before()
    assert phone.versions == {"RADIO": Version(1, 0, 1).number}
    assert (phone.manifest, phone.key, phone.slot.read()) == (None, None, None)
    phone.restart()
    phone.receive(for_radio())
    assert phone.told == [("result", 27), 1], "the version outlives a reset"


@pytest.mark.parametrize(
    ("fails", "reason"),
    [
        (False, "refused"),
        (StorageError("no answer from the radio", code=-1), "no answer from the radio"),
        (KeyError("slot"), "KeyError"),
    ],
)
def test_an_installer_that_fails_is_result_40_and_the_next_update_goes_through(
    phone: Phone, radio: Radio, fails: Any, reason: str
) -> None:
    radio.fails = fails
    phone.receive(for_radio())
    assert phone.told == [3, 4, 6, 7, ("result", 40), 1] and reason in phone.reasons[0]
    assert radio.runs == b"old radio" and phone.versions == {}
    radio.fails = None
    phone.receive(for_radio())
    assert phone.told[-2:] == [("result", 18), 1] and radio.runs == NEW


def test_an_image_that_does_not_work_is_result_40_and_its_version_is_not_stored(phone: Phone, radio: Radio) -> None:
    radio.works = False
    phone.receive(for_radio())
    assert phone.told == [3, 4, 6, 7, ("result", 40), 1] and "verification of RADIO" in phone.reasons[0]
    assert phone.versions == {}


def test_a_component_that_needs_a_reboot_is_verified_after_it(phone: Phone, radio: Radio) -> None:
    phone.components = (radio.component(needs_reboot=True),)
    phone.receive(for_radio())
    assert phone.told == [3, 4, 6, 7, 8, "reboot"] and radio.runs == NEW and radio.verified == []
    fota = phone.restart()
    assert (phone.told, fota.result, radio.verified) == ([], None, [Version(1, 0, 1)])
    assert phone.versions == {"RADIO": Version(1, 0, 1).number} and phone.slot.read() is None


def test_a_component_that_does_not_work_after_the_reboot_is_result_40_once(phone: Phone, radio: Radio) -> None:
    phone.components = (radio.component(needs_reboot=True),)
    radio.works = False
    phone.receive(for_radio())
    assert phone.restart().result == 40 and phone.versions == {}
    assert phone.restart().result is None


def test_a_component_that_is_not_there_is_result_39(phone: Phone) -> None:
    phone.receive(order(component="SCREEN"))
    assert phone.told == [("result", 39), 1] and "MAIN, RADIO" in phone.reasons[0]


def test_a_delta_needs_a_component_that_can_read_what_it_runs(phone: Phone) -> None:
    from hashlib import sha256

    patch = make_patch(OLD, NEW)
    precursor = sha256(OLD).digest()
    phone.receive(order(patch, NEW, component="RADIO", format=PayloadFormat.DELTA, precursor=precursor))
    assert phone.told == [("result", 25), 1]


# -- packages ----------------------------------------------------------------------------------------


class Rig:
    """A component of two parts, and what was done to them in which order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.images: dict[str, bytes] = {}
        self.refuse = ""

    def _handler(self, what: str) -> Callable[..., object]:
        def handler(update: Installation, *result: int) -> object:
            name = " ".join([what, update.part, *map(str, result)])
            self.done.append(name)
            if what == "install":
                self.images[update.part] = b"".join(update.pieces(333)) + update.vendor_data
            return name != self.refuse

        return handler

    def component(self, **options: Any) -> Component:
        handlers = [self._handler(what) for what in ("install", "verify", "rollback", "finalize")]
        return Component(
            "RIG", "1.0.0", parts=(SubComponent("arm", *handlers), SubComponent("eye", *handlers)), **options
        )


ARM, EYE = SubImage("arm", NEW[:5000], b"rev 2"), SubImage("eye", NEW[5000:9999])
PACKAGE = make_package([EYE, ARM])


def package(data: bytes = PACKAGE) -> bytes:
    return order(data, data, component="RIG", format=PayloadFormat.COMBINED)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def rigged(phone: Phone, rig: Rig) -> Phone:
    phone.components = (rig.component(),)
    phone.files = {URI: PACKAGE}
    return phone


def test_the_parts_of_a_package_are_installed_and_verified_in_their_order(rigged: Phone, rig: Rig) -> None:
    rigged.receive(package())
    assert rigged.told == [3, 4, 6, 7, "RIG", ("result", 18), 1], rigged.reasons
    assert rig.done == ["install arm", "install eye", "verify arm", "verify eye", "finalize arm 0", "finalize eye 0"]
    assert rig.images == {"arm": ARM.data + b"rev 2", "eye": EYE.data}


def test_an_encrypted_package_is_installed(rigged: Phone, rig: Rig) -> None:
    rigged.files = {URI: encrypt(PACKAGE, b"k" * 16)}
    signed = order(rigged.files[URI], PACKAGE, component="RIG", format=PayloadFormat.ENCRYPTED_COMBINED)
    rigged.receive(with_key(signed, b"k" * 16))
    assert rigged.told[-2:] == [("result", 18), 1] and rig.images["eye"] == EYE.data


@pytest.mark.parametrize(
    ("refuse", "rolled_back"),
    [
        ("install arm", ["rollback arm"]),
        ("install eye", ["rollback eye", "rollback arm"]),
        ("verify eye", ["rollback eye", "rollback arm"]),
    ],
)
def test_parts_are_rolled_back_when_one_of_them_fails(
    rigged: Phone, rig: Rig, refuse: str, rolled_back: list[str]
) -> None:
    rig.refuse = refuse
    rigged.receive(package())
    assert rigged.told == [3, 4, 6, 7, ("result", 40), 1]
    assert [each for each in rig.done if each.startswith("rollback")] == rolled_back
    assert rig.done[-2:] == ["finalize arm 40", "finalize eye 40"]


def described(*images: Described) -> bytes:
    """Pack the two images under a descriptor of one's own."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in (("_desc_", encode(images)), ("arm", ARM.data), ("eye", EYE.data)):
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return written.getvalue()


DESCRIBED = Described("arm", len(ARM.data)), Described("eye", len(EYE.data))


def test_a_package_that_is_described_right_is_installed(rigged: Phone, rig: Rig) -> None:
    data = described(*DESCRIBED)
    rigged.files = {URI: data}
    rigged.receive(package(data))
    assert rigged.told[-2:] == [("result", 18), 1] and rig.images["arm"] == ARM.data


@pytest.mark.parametrize(
    ("data", "result"),
    [
        pytest.param(NEW, 46, id="no package"),
        pytest.param(described(replace(DESCRIBED[0], name="shoulders"), DESCRIBED[1]), 48, id="a long name"),
        pytest.param(described(replace(DESCRIBED[0], vendor_data=bytes(33)), DESCRIBED[1]), 49, id="vendor data"),
        pytest.param(make_package([ARM]), 47, id="a part too few"),
        pytest.param(make_package([ARM, replace(EYE, name="ear")]), 41, id="a part for others"),
    ],
)
def test_a_package_that_is_wrong_installs_nothing(rigged: Phone, rig: Rig, data: bytes, result: int) -> None:
    rigged.files = {URI: data}
    rigged.receive(package(data))
    assert rigged.told == [3, 4, 6, 7, ("result", result), 1] and rig.done == []
    rigged.files = {URI: PACKAGE}
    rigged.receive(package())
    assert rigged.told[-2:] == [("result", 18), 1]


def test_a_component_of_parts_may_need_a_reboot(rigged: Phone, rig: Rig) -> None:
    rigged.components = (rig.component(needs_reboot=True),)
    rigged.receive(package())
    assert rigged.told[-2:] == [8, "reboot"] and rig.done == ["install arm", "install eye"]
    assert rigged.restart().result is None and rig.done[2:4] == ["verify arm", "verify eye"]


# -- what components can be --------------------------------------------------------------------------


def test_impossible_components_are_refused(radio: Radio) -> None:
    for name in ("", "NINECHARS", "%internal", "rädio"):
        with pytest.raises(ConfigError):
            Component(name, "1.0.0", radio.install)
    with pytest.raises(ConfigError, match="nobody installs"):
        Component("RADIO", "1.0.0")
    with pytest.raises(ConfigError):
        Component("RADIO", "one", radio.install)
    part = SubComponent("arm", radio.install)
    with pytest.raises(ConfigError, match="same name"):
        Component("RIG", "1.0.0", parts=(part, part))


def test_a_device_has_at_most_eight_components_with_names_of_their_own(medium: Medium, radio: Radio) -> None:
    phone, main = Phone(medium("QSPIF", 64 * K)), Component(MAIN, "1.0.0")
    others = tuple(Component(f"C{n}", "1.0.0", radio.install) for n in range(8))
    assert len(list(Components(main, others[:7], phone))) == 8
    for too_many in (others, (others[0], others[0]), (replace(others[0], name=MAIN),)):
        with pytest.raises(ConfigError):
            Components(main, too_many, phone)


def test_a_stored_version_that_is_damaged_leaves_that_of_the_factory(medium: Medium, radio: Radio) -> None:
    phone = Phone(medium("QSPIF", 64 * K))
    phone.versions["RADIO"] = 7
    known = Components(Component(MAIN, "1.0.0"), (radio.component(),), phone)
    known.load()
    assert known.current["RADIO"] == Version(0, 9, 0)
