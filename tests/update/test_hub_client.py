"""The older hub's states and results, in the stock order, over media that fail and servers that do."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import hashlib
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.clock import DeviceClock
from pdmlab.errors import NetworkError, ResponseError, StorageError, TimedOut
from pdmlab.update.candidate_v2 import StorageLocation, UpdateStorage
from pdmlab.update.developer import update_certificate
from pdmlab.update.hub import HubResult
from pdmlab.update.hub_checks import HubAcceptance
from pdmlab.update.hub_client import Hub, Patience
from pdmlab.update.interface import ALLOWED, DEFERRED, Answer, Step, rejected_for
from pdmlab.update.manifest import Manifest
from pdmlab.update.manifest_v1 import FormatV1, ManifestV1
from pdmlab.update.payloads.patch import make_patch
from pdmlab.update.results import FotaState

Medium = Callable[[str, int], Any]  # a CuttableFlash, which lives in conftest.py
KEY, OTHER = (ec.derive_private_key(seed, ec.SECP256R1()) for seed in (0x5EED, 0xBAD))
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CERTIFICATE, STRANGERS = update_certificate(KEY, "company.com", NOW), update_certificate(OTHER, "else.where", NOW)
VENDOR, CLASS = b"v" * 16, b"c" * 16
IMAGE = random.Random(3).randbytes(50_003)
OLD = IMAGE[:20_000] + b"something else" + IMAGE[21_000:]
RUNNING = 1_600_000_000
HMAC_KEY = b"k" * 32
TO_DOWNLOAD, TO_VERIFY, TO_INSTALL = [2, 3, 4], [2, 3, 4, 5], [2, 3, 4, 5, 6]


class Phone:
    """A device under update: what it stores, and what it told."""

    def __init__(self, medium: Any, *, internal: bool = False) -> None:
        self.medium = medium
        location = StorageLocation(medium, key=None if internal else lambda: HMAC_KEY)
        self.storage = UpdateStorage([location])
        self.payload = IMAGE
        self.told: list[Any] = []
        self.asked: list[int] = []
        self.answers: dict[Step, Answer] = {}
        self.unheard: FotaState | None = None
        self.trouble: dict[int, BaseException] = {}
        self.reason = ""

    # HubCallbacks
    async def state(self, state: FotaState) -> None:
        if state is self.unheard:
            raise TimedOut("no acknowledgement")
        self.told.append(int(state))

    async def result(self, result: int, reason: str) -> None:
        self.told.append(("result", int(result)))
        self.reason = reason

    async def authorise(self, step: Step, manifest: ManifestV1) -> Answer:
        return self.answers.get(step, ALLOWED)

    def progress(self, done: int, total: int) -> None:
        self.done = (done, total)

    async def reboot(self) -> None:
        self.told.append("reboot")

    async def fetch(self, uri: str, number: int, size: int) -> tuple[bytes, bool, int | None]:
        self.asked.append(number)
        if number in self.trouble:
            raise self.trouble.pop(number)
        piece = self.payload[number * size : (number + 1) * size]
        return piece, (number + 1) * size < len(self.payload), len(self.payload)

    def accepts(self) -> HubAcceptance:
        return HubAcceptance(CERTIFICATE, VENDOR, CLASS, RUNNING, hashlib.sha256(OLD).digest())

    def update(self, manifest: bytes) -> None:
        """Receive a manifest, to the end."""
        self.told, self.asked = [], []
        with DeviceClock() as clock:
            read: Callable[[int, int], bytes] = lambda position, size: OLD[position : position + size]
            hub = Hub(self.accepts, self.storage, self.fetch, self, blocking=clock.blocking, read_active=read)
            clock.call_async(hub.receive(manifest))
            self.state_after = hub.state

    @property
    def stored(self) -> Any:
        return self.storage.locations[0].header()


def described(**other: Any) -> ManifestV1:
    manifest = ManifestV1.for_image(IMAGE, timestamp=RUNNING + 1, uri="http://a/1", vendor_id=VENDOR, class_id=CLASS)
    return dataclasses.replace(manifest, **other)


def order(key: Any = KEY, certificate: bytes = CERTIFICATE, **other: Any) -> bytes:
    return described(**other).sign(key, certificate)


@pytest.fixture(params=["SD", "QSPIF", "FLASHIAP"])
def phone(medium: Medium, request: pytest.FixtureRequest) -> Phone:
    return Phone(medium(request.param, 64 * 1024), internal=request.param == "FLASHIAP")


@pytest.fixture
def sd(medium: Medium) -> Phone:
    return Phone(medium("SD", 64 * 1024))


def test_an_update_goes_through_the_hubs_states_to_the_reboot(phone: Phone) -> None:
    phone.update(order())
    assert phone.told == [*TO_INSTALL, 7, 8, "reboot"]
    assert phone.asked == list(range(98)) and phone.done == (len(IMAGE), len(IMAGE))
    assert (phone.stored.version, phone.stored.size) == (RUNNING + 1, len(IMAGE))
    assert phone.storage.locations[0].digest(phone.stored) == hashlib.sha256(IMAGE).digest()


REFUSED: list[tuple[str, bytes, list[Any]]] = [
    ("bytes that are none", b"no manifest", [("result", 218)]),
    ("a manifest v3", Manifest.for_image(IMAGE, version="1.0.1", uri="/1", vendor_id=VENDOR, class_id=CLASS).sign(KEY),
     [("result", 218)]),
    ("signed by another key", order(OTHER), [("result", 210)]),
    ("signed with another certificate", order(OTHER, STRANGERS), [("result", 208)]),
    ("for another vendor", order(vendor_id=b"x" * 16), [("result", 215)]),
    ("for another class", order(class_id=b"x" * 16), [("result", 216)]),
    ("no newer", order(timestamp=RUNNING), [2, ("result", 221)]),
    ("larger than the storage", order(payload_size=1 << 20), [2, 3, ("result", 225)]),
    ("a storage location that is not there", order(storage="7"), [2, 3, ("result", 503)]),
]  # fmt: skip


@pytest.mark.parametrize(("manifest", "told"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED])
def test_what_is_refused_is_a_result_and_idle_and_fetches_nothing(sd: Phone, manifest: bytes, told: list[Any]) -> None:
    sd.update(manifest)
    assert sd.told == [*told, 1] and sd.asked == [] and sd.stored is None
    assert sd.state_after is FotaState.IDLE and sd.reason
    sd.update(order())
    assert sd.told[-1] == "reboot", "a good update works afterwards"


def test_a_manifest_with_a_bit_changed_or_cut_off_is_refused(sd: Phone) -> None:
    good, rng = order(), random.Random(21)
    read = len(good) - 2  # but for the certificate's URL at the end, which nothing signs and no device reads
    wrong = [good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :] for at in range(read)]
    wrong += [good[:size] for size in range(len(good))] + [good + b"\0"]
    for manifest in wrong:
        sd.update(manifest)
        *told, (_, result), state = sd.told
        assert told in ([], [2]) and 200 <= result <= 230 and state == 1, manifest.hex()
        assert sd.asked == [] and sd.stored is None
    sd.update(good)
    assert sd.told[-1] == "reboot"


@pytest.mark.parametrize(
    ("step", "told", "results"), [(Step.DOWNLOAD, [2, 3], (315, 316)), (Step.INSTALL, TO_INSTALL, (511, 512))]
)
def test_an_application_that_refuses_or_cannot_say_stops_the_update(
    phone: Phone, step: Step, told: list[Any], results: tuple[int, int]
) -> None:
    for answer, result in zip((rejected_for(77), DEFERRED), results, strict=True):
        phone.told.clear()
        phone.answers[step] = answer
        phone.update(order())
        assert phone.told == [*told, ("result", result), 1] and phone.stored is None
        assert ("reason 77" in phone.reason) is (answer != DEFERRED)
    phone.told.clear()
    phone.answers.clear()
    phone.update(order())
    assert phone.told[-1] == "reboot", "a good update works afterwards"


def test_a_payload_that_is_another_one_is_found_out_by_its_digest(phone: Phone) -> None:
    phone.payload = IMAGE[:-1] + b"!"
    phone.update(order())
    assert phone.told == [*TO_VERIFY, ("result", 504), 1] and phone.stored is None


@pytest.mark.parametrize(("payload", "result"), [(IMAGE + bytes(600), 504), (IMAGE[:-600], 302), (b"", 302)])
def test_a_payload_of_another_size_ends_the_download(sd: Phone, payload: bytes, result: int) -> None:
    sd.payload = payload
    sd.update(order())
    assert sd.told == [*TO_DOWNLOAD, ("result", result), 1] and sd.stored is None


@pytest.mark.parametrize("trouble", [ResponseError("4.04", code="4.04 Not Found", path="/fw"), TimedOut("nothing")])
def test_a_source_that_fails_leaves_no_way_to_the_firmware(sd: Phone, trouble: BaseException) -> None:
    sd.trouble = {3: trouble}
    sd.update(order())
    assert sd.told == [*TO_DOWNLOAD, ("result", 302), 1] and sd.asked == [0, 1, 2, 3]


@pytest.mark.parametrize("state", [FotaState(number) for number in (2, 3, 4, 5, 6, 7, 8)])
def test_a_state_that_is_not_acknowledged_ends_the_update(sd: Phone, state: FotaState) -> None:
    sd.unheard = state
    sd.update(order())
    assert sd.told[-2:] == [("result", 304), 1] and "reboot" not in sd.told
    assert sd.state_after is FotaState.IDLE


def test_idle_that_is_not_acknowledged_is_idle_nevertheless(sd: Phone) -> None:
    sd.unheard = FotaState.IDLE
    sd.update(b"no manifest")
    assert sd.told == [("result", 218)] and sd.state_after is FotaState.IDLE


@pytest.mark.parametrize(
    ("method", "result", "told"),
    [("erase", 503, [2, 3]), ("program", 503, TO_DOWNLOAD), ("read", 503, TO_VERIFY), ("sync", 503, TO_VERIFY)],
)
def test_a_medium_that_fails_is_a_result(
    sd: Phone, monkeypatch: pytest.MonkeyPatch, method: str, result: int, told: list[int]
) -> None:
    def fails(*args: object) -> None:
        raise StorageError("the card was pulled", code=-5005)

    monkeypatch.setattr(sd.medium, method, fails)
    sd.update(order())
    assert sd.told == [*told, ("result", result), 1] and "pulled" in sd.reason
    monkeypatch.undo()
    sd.update(order())
    assert sd.told[-1] == "reboot"


def test_a_header_that_cannot_be_written_is_an_activation_that_failed(
    sd: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = sd.storage.locations[0]
    program = location.region.device.program

    def at_the_image_only(address: int, data: bytes) -> None:
        if address == 0:
            raise StorageError("the card was pulled", code=-5005)
        program(address, data)

    monkeypatch.setattr(location.region.device, "program", at_the_image_only)
    sd.update(order())
    assert sd.told == [*TO_INSTALL, 7, ("result", 505), 1] and sd.stored is None


def delta(payload: bytes, **other: Any) -> bytes:
    fields: dict[str, Any] = {
        "format": FormatV1.DELTA,
        "payload_size": len(payload),
        "payload_digest": hashlib.sha256(payload).digest(),
        "installed_size": len(IMAGE),
        "installed_digest": hashlib.sha256(IMAGE).digest(),
        "precursor_digest": hashlib.sha256(OLD).digest(),
    }
    return order(**(fields | other))


def test_a_delta_makes_the_image_from_the_one_that_runs(phone: Phone) -> None:
    phone.payload = make_patch(OLD, IMAGE)
    phone.update(delta(phone.payload))
    assert phone.told == [*TO_INSTALL, 7, 8, "reboot"]
    assert len(phone.payload) < len(IMAGE) and phone.done[1] == len(phone.payload)
    assert phone.stored.digest == hashlib.sha256(IMAGE).digest() == phone.storage.locations[0].digest(phone.stored)


def test_a_delta_of_another_firmware_is_refused_before_it_is_fetched(sd: Phone) -> None:
    sd.payload = make_patch(OLD, IMAGE)
    sd.update(delta(sd.payload, precursor_digest=bytes(32)))
    assert sd.told == [2, ("result", 229), 1] and sd.asked == []


@pytest.mark.parametrize("broken", [b"PELION/BSDIFF001", b"x" * 700])
def test_a_patch_that_is_none_is_bad_data(sd: Phone, broken: bytes) -> None:
    sd.payload = broken
    sd.update(delta(broken))
    assert sd.told == [*TO_DOWNLOAD, ("result", 411), 1] and sd.stored is None


def test_manifests_that_come_during_an_update_are_dropped(sd: Phone) -> None:
    with DeviceClock() as clock:
        hub = Hub(sd.accepts, sd.storage, sd.fetch, sd, blocking=clock.blocking, read_active=lambda at, size: b"")

        async def both() -> None:
            await asyncio.gather(hub.receive(order()), hub.receive(order(OTHER)))

        clock.call_async(both())
    assert sd.told == [*TO_INSTALL, 7, 8, "reboot"]


def test_the_hub_waits_twice_as_long_each_time_and_gives_up_after_a_week() -> None:
    with DeviceClock() as clock:
        at: list[float] = []

        async def attempt() -> tuple[bytes, bool, int | None]:
            at.append(clock.loop.time())
            if len(at) == 4:
                return b"x", False, 1
            raise TimedOut("nothing")

        patience = Patience(asyncio.sleep, clock.loop.time)
        assert clock.call_async(patience.persist(attempt)) == (b"x", False, 1)
        assert [round(later - sooner) for sooner, later in itertools.pairwise(at)] == [5, 10, 20]

        async def never() -> tuple[bytes, bool, int | None]:
            raise NetworkError("no route")

        began = clock.loop.time()
        with pytest.raises(NetworkError, match="no route"):
            clock.call_async(patience.persist(never))
        assert 7 * 24 * 3600 - 3600 <= clock.loop.time() - began <= 7 * 24 * 3600


def test_results_have_words() -> None:
    for result in HubResult:
        assert result.meaning in str(result) and len(result.advice) > 20
