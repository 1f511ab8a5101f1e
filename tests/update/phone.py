"""A device under update without a network: what outlives a reset, what it told, and a server that hands out files."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pdmlab.clock import DeviceClock
from pdmlab.update import signed_version
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.candidate_form import CandidateForm
from pdmlab.update.checks import Acceptance
from pdmlab.update.components import MAIN, Component, Components
from pdmlab.update.download import ALLOWED, Answer, Fota, Secrets, Step
from pdmlab.update.interface import Trials
from pdmlab.update.manifest import Manifest, PayloadFormat, PayloadMetadata
from pdmlab.update.results import FotaResult, FotaState
from pdmlab.update.version import Version
from tests.update.kept import KeptInMemory
from tests.update.wrong import CLASS, KEY, VENDOR

OLD, _CODE = random.Random(1).randbytes(30_001), random.Random(2).randbytes(40_003)
NEW = _CODE[: signed_version.OFFSET] + signed_version.pack(Version(1, 0, 1)) + _CODE[signed_version.END :]
URI = "/fw/1"
DEVICE_KEY = bytes(range(50, 66))


class Phone(KeptInMemory):
    """One device; `boot` makes its update client, once for each start."""

    def __init__(self, storage: Any, form: CandidateForm = CandidateForm()) -> None:
        super().__init__()
        self.storage, self.form = storage, form
        self.slot_at = 0
        self.files: dict[str, bytes] = {URI: NEW}
        self.runs = OLD
        self.version = Version(1, 0, 0)
        self.components: tuple[Component, ...] = ()
        self.trials: Trials | None = None
        self.told: list[Any] = []
        self.asked: list[int] = []
        self.questions: list[Step] = []
        self.reasons: list[str] = []
        self.answers: list[Answer] = []
        self.trouble: dict[int, list[BaseException]] = {}
        self.at_block: dict[int, Callable[[], object]] = {}
        self._random = random.Random(1)

    # -- Callbacks ---------------------------------------------------------------------------------------

    async def state(self, state: FotaState) -> None:
        self.told.append(int(state))

    async def result(self, result: FotaResult, reason: str) -> None:
        self.told.append(("result", int(result)))
        self.reasons.append(reason)

    async def authorise(self, step: Step, manifest: Manifest) -> Answer:
        self.questions.append(step)
        return self.answers.pop(0) if self.answers else ALLOWED

    def progress(self, done: int, total: int) -> None:
        self.done = done, total

    async def reboot(self) -> None:
        self.told.append("reboot")

    async def installed(self, component: str) -> None:
        self.told.append(component)

    async def fetch(self, uri: str, number: int, size: int) -> tuple[bytes, bool, int | None]:
        self.asked.append(number)
        if number in self.at_block:
            self.at_block[number]()
        if self.trouble.get(number):
            raise self.trouble[number].pop(0)
        data = self.files[uri]
        return data[number * size : (number + 1) * size], (number + 1) * size < len(data), len(data)

    # -- one start ---------------------------------------------------------------------------------------

    @property
    def slot(self) -> CandidateSlot:
        return CandidateSlot(self.storage, offset=self.slot_at)

    def boot(self, clock: DeviceClock) -> Fota:
        self.told, self.asked, self.questions, self.reasons = [], [], [], []
        main = Component(
            MAIN,
            str(self.version),
            needs_reboot=True,
            read=lambda position, size: self.runs[position : position + size],
            digest=lambda: hashlib.sha256(self.runs).digest(),
        )
        known = Components(main, self.components, self)

        def accepts() -> Acceptance:
            return Acceptance(
                KEY.public_key(),
                VENDOR,
                CLASS,
                known.current,
                digests={MAIN: hashlib.sha256(self.runs).digest()},
                parts=frozenset(each.name for each in self.components if each.parts),
                signed=self.form.signed,
            )

        return Fota(
            accepts,
            self.slot,
            self.fetch,
            self,
            self,
            known,
            blocking=clock.blocking,
            form=self.form,
            secrets=Secrets(lambda: DEVICE_KEY, self._random.randbytes),
            trials=self.trials,
        )

    def receive(self, manifest: bytes) -> Fota:
        """Start, register, and take a manifest; return the client as it is at the end."""

        async def start(fota: Fota) -> None:
            assert not await fota.prepare()
            await fota.receive(manifest)

        with DeviceClock() as clock:
            fota = self.boot(clock)
            clock.call_async(start(fota))
        return fota

    def restart(self) -> Fota:
        """Start, register, and go on with what was under way."""

        async def start(fota: Fota) -> None:
            if await fota.prepare():
                self.told.append(int(fota.state))
                await fota.resume()

        with DeviceClock() as clock:
            fota = self.boot(clock)
            clock.call_async(start(fota))
        return fota

    def run_candidate(self) -> None:
        """Do what the bootloader does with a whole candidate for MAIN."""
        found = self.slot.read()
        assert found is not None and found.component == MAIN
        self.runs = b"".join(self.slot.image(found.header, DEVICE_KEY))
        self.version = found.header.version

    def is_as_before(self) -> bool:
        return self.runs == OLD and self.version == Version(1, 0, 0)


def order(payload: bytes = NEW, image: bytes | None = None, **fields: Any) -> bytes:
    """Sign a manifest for a payload, which makes an image, or is it."""
    raw = Manifest.for_image(payload, version="1.0.1", uri=URI, vendor_id=VENDOR, class_id=CLASS)
    if image is not None:
        fields["metadata"] = PayloadMetadata(len(image), hashlib.sha256(image).digest(), fields.pop("precursor", None))
    return replace(raw, **fields).sign(KEY)


def delta(patch: bytes, image: bytes = NEW, old: bytes = OLD) -> bytes:
    precursor = hashlib.sha256(old).digest()
    return order(patch, image, format=PayloadFormat.DELTA, precursor=precursor)
