from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.clock import DeviceClock, PowerLost
from pdmlab.errors import ResponseError, StorageError, TimedOut
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.checks import Acceptance
from pdmlab.update.components import MAIN, Component, Components
from pdmlab.update.download import ALLOWED, Answer, Fota, Secrets, Step
from pdmlab.update.interface import rejected_for
from pdmlab.update.manifest import Manifest
from pdmlab.update.results import FotaResult, FotaState
from pdmlab.update.version import Version
from tests.update.kept import KeptInMemory

Medium = Callable[[str, int], Any]  # a CuttableFlash, which lives in conftest.py
KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
IMAGE = random.Random(3).randbytes(50_003)


class Phone(KeptInMemory):
    """A device under update: what outlives a reset, and what it told."""

    def __init__(self, storage: Any, image: bytes = IMAGE, *, prefetch: bool = False) -> None:
        super().__init__()
        self.storage, self.image, self.prefetch = storage, image, prefetch
        self.version = Version(1, 0, 0)
        self.runs = b"r" * 32
        self.told: list[Any] = []
        self.asked: list[int] = []
        self.refuse: Step | None = None
        self.trouble: dict[int, list[BaseException]] = {}
        self.size = len(image)

    async def state(self, state: FotaState) -> None:
        self.told.append(int(state))

    async def result(self, result: FotaResult, reason: str) -> None:
        self.told.append(("result", int(result)))

    async def authorise(self, step: Step, manifest: Manifest) -> Answer:
        assert manifest.version == "1.0.1"
        return rejected_for() if step is self.refuse else ALLOWED

    def progress(self, done: int, total: int) -> None:
        self.done = done

    async def reboot(self) -> None:
        self.told.append("reboot")

    async def installed(self, component: str) -> None:
        self.told.append(component)

    async def fetch(self, uri: str, number: int, size: int) -> tuple[bytes, bool, int | None]:
        assert uri == "/fw/1"
        self.asked.append(number)
        if self.trouble.get(number):
            raise self.trouble[number].pop(0)
        piece = self.image[number * size : (number + 1) * size]
        return piece, (number + 1) * size < len(self.image), self.size

    def accepts(self) -> Acceptance:
        return Acceptance(KEY.public_key(), bytes(16), bytes(16), {"MAIN": self.version})

    @property
    def slot(self) -> CandidateSlot:
        return CandidateSlot(self.storage)

    def boot(self, clock: DeviceClock) -> Fota:
        self.told, self.asked = [], []
        main = Component(MAIN, str(self.version), needs_reboot=True, digest=lambda: self.runs)
        components = Components(main, (), self)
        secrets = Secrets(random_bytes=random.Random(1).randbytes)
        return Fota(
            self.accepts,
            self.slot,
            self.fetch,
            self,
            self,
            components,
            blocking=clock.blocking,
            secrets=secrets,
            prefetch=self.prefetch,
        )

    def update(self, version: str = "1.0.1") -> None:
        """Receive a manifest for the image, to the end."""
        with DeviceClock() as clock:
            clock.call_async(self.boot(clock).receive(order(version)))

    def go_on(self) -> None:
        """Start again after a reset."""

        async def start(fota: Fota) -> None:
            if await fota.prepare():
                self.told.append(int(fota.state))
                await fota.resume()

        with DeviceClock() as clock:
            clock.call_async(start(self.boot(clock)))


def order(version: str = "1.0.1") -> bytes:
    return Manifest.for_image(IMAGE, version=version, uri="/fw/1", vendor_id=bytes(16), class_id=bytes(16)).sign(KEY)


@pytest.fixture(params=["SD", "QSPIF", "FLASHIAP", "FLASHIAP prefetching"])
def phone(medium: Medium, request: pytest.FixtureRequest) -> Phone:
    name, _, prefetching = request.param.partition(" ")
    return Phone(medium(name, 64 * 1024), prefetch=bool(prefetching))


def test_an_update_goes_through_the_stock_states_to_the_reboot(phone: Phone) -> None:
    phone.update()
    assert phone.told == [3, 4, 6, 7, 8, "reboot"]
    assert phone.asked == list(range(98)) and phone.done == len(IMAGE)
    candidate = phone.slot.read()
    assert candidate is not None and candidate.header.version == Version(1, 0, 1)
    assert candidate.header.precursor == b"r" * 32


def test_after_the_reboot_a_manifest_that_was_carried_out_is_forgotten(phone: Phone) -> None:
    phone.update()
    phone.version = Version(1, 0, 1)
    phone.go_on()
    assert phone.told == [] and phone.manifest is None


@pytest.mark.parametrize(
    ("step", "told"),
    [(Step.DOWNLOAD, [3, ("result", 38), 1]), (Step.INSTALL, [3, 4, 6, ("result", 37), 1])],
)
def test_an_application_that_refuses_stops_the_update(phone: Phone, step: Step, told: list[Any]) -> None:
    phone.refuse = step
    phone.update()
    assert phone.told == told and phone.manifest is None and phone.slot.read() is None


def test_an_unacceptable_manifest_is_reported_and_fetches_nothing(phone: Phone) -> None:
    phone.update(version="1.0.0")
    assert phone.told == [("result", 27), 1] and phone.asked == []


@pytest.mark.parametrize(("image", "result"), [(b"?" + IMAGE[1:], 26), (IMAGE[:-1], 26), (IMAGE + b"?" * 600, 41)])
def test_another_file_under_the_uri_is_not_installed(phone: Phone, image: bytes, result: int) -> None:
    phone.image, phone.size = image, len(image)
    phone.update()
    assert phone.told[-2:] == [("result", result), 1] and phone.slot.read() is None


def test_a_file_that_ends_early_is_a_failed_download(phone: Phone) -> None:
    phone.image = IMAGE[:1000]
    phone.update()
    assert phone.told == [3, 4, ("result", 24), 1]


@pytest.mark.parametrize(
    "error", [TimedOut("no answer in 93 s"), ResponseError("4.04 Not Found", code="4.04 Not Found", path="fw")]
)
def test_a_block_that_cannot_be_had_is_a_failed_download(phone: Phone, error: Exception) -> None:
    phone.trouble = {7: [error]}
    phone.update()
    assert phone.told == [3, 4, ("result", 24), 1] and phone.asked[-1] == 7


def test_a_busy_server_is_asked_again(phone: Phone) -> None:
    busy = ResponseError("5.03 Service Unavailable", code="5.03 Service Unavailable", path="fw")
    phone.trouble = {7: [busy, busy]}
    phone.update()
    assert phone.asked.count(7) == 3 and phone.told[-1] == "reboot"


def test_a_medium_that_fails_is_reported(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise StorageError("worn out", code=-4001)

    monkeypatch.setattr(phone.storage, "program", broken)
    phone.update()
    assert phone.told == [3, ("result", 35), 1]


def test_a_manifest_that_comes_during_an_update_is_dropped(phone: Phone) -> None:
    with DeviceClock() as clock:
        fota = phone.boot(clock)

        async def twice() -> None:
            await asyncio.gather(fota.receive(order()), fota.receive(order("9.0.0")))

        clock.call_async(twice())
    assert phone.told == [3, 4, 6, 7, 8, "reboot"]


def test_a_reset_in_the_download_goes_on_where_it_was(phone: Phone) -> None:
    phone.trouble = {80: [PowerLost()]}
    with pytest.raises(PowerLost):
        phone.update()
    phone.go_on()
    assert phone.told == [2, 3, 4, 6, 7, 8, "reboot"]
    assert 0 < phone.asked[0] <= 80 and phone.slot.read() is not None


@pytest.mark.parametrize("torn", [0.0, 0.5])
def test_a_cut_at_any_write_of_an_update_can_be_made_good(medium: Medium, torn: float) -> None:
    phone = Phone(medium("FLASHIAP", 64 * 1024))
    blank = phone.storage.contents()
    phone.update()
    total = phone.storage.operations
    for cut in range(0, total, 7):
        phone.storage.restore(blank)
        phone.manifest = None
        phone.storage.cut_at, phone.storage.torn = cut, torn
        with pytest.raises(PowerLost):
            phone.update()
        phone.storage.cut_at = None
        phone.go_on()
        assert phone.told == [2, 3, 4, 6, 7, 8, "reboot"], f"replay: cut={cut} torn={torn}"
        assert phone.slot.read() is not None
