"""A service and a board on one virtual clock, over a link that loses packets: the same story, twice, to the byte."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.clock import SECOND, DeviceClock
from pdmlab.network.fabric import Fabric, Packet
from pdmlab.network.link import Link
from pdmlab.service.core import Core
from pdmlab.sim.board import VirtualBoard
from pdmlab.update.credentials import Credentials, UpdateResources
from pdmlab.update.developer import update_certificate
from pdmlab.update.manifest import Manifest

EPOCH = 1_767_225_600.0  # 2026-01-01T00:00:00Z
KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
LOSSY = Link.of("ethernet", loss=0.05, latency=20_000_000)


@cache
def update_resources() -> UpdateResources:
    """Made once: a certificate's signature is another each time."""
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return UpdateResources(b"v" * 16, b"c" * 16, update_certificate(KEY, "company.com", now))


@cache
def manifest(image: bytes, uri: str) -> bytes:
    """Made once, for the same reason."""
    update = update_resources()
    made = Manifest.for_image(image, version="1.0.1", uri=uri, vendor_id=update.vendor_id, class_id=update.class_id)
    return made.sign(KEY)


@dataclass
class Told:
    """What there was to see of a story."""

    wire: list[str] = field(default_factory=list)
    lost: int = 0
    device_ids: list[str] = field(default_factory=list)
    boots: int = 0
    versions: list[str] = field(default_factory=list)
    phase: str = ""
    took_s: float = 0.0
    console: str = ""


def tell(seed: int) -> Told:
    """Register the example over the lossy link, then update it by a campaign."""
    told = Told()
    with DeviceClock() as clock:
        fabric = Fabric(clock, seed)
        cloud = fabric.host("service")
        core = Core("sqlite://", now=lambda: EPOCH + clock.now() / SECOND, seed=seed)
        board = VirtualBoard(
            "K64F", id=f"story-{seed}", memory=True, clock=clock, fabric=fabric, seed=seed, power=False
        )
        board.network.link = LOSSY
        try:
            clock.call_async(play(told, clock, fabric, core, board, lambda port: cloud.opener(port)))
        finally:
            board.close()
    return told


async def play(
    told: Told, clock: DeviceClock, fabric: Fabric, core: Core, board: VirtualBoard, opener: Callable[[int], object]
) -> None:
    def tap(packet: Packet, arrived: int | None) -> None:
        assert isinstance(packet.body, bytes)
        told.wire.append(f"{packet.sent} {packet.source} {packet.target} {arrived} {packet.body.hex()}")
        told.lost += arrived is None

    async def until(condition: Callable[[], object], seconds: float = 3600) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.25)

    def registered() -> list[str]:
        return [each.device_id for each in core.registrations]

    fabric.tap = tap
    await core.start(bootstrap=opener(5683), lwm2m=opener(5685))  # type: ignore[arg-type]
    try:
        credentials = Credentials("story", core.bootstrap_uri, core.account_id)
        images = [
            board.build("example", version=version, credentials=credentials, update_resources=update_resources())
            for version in ("1.0.0", "1.0.1")
        ]
        board.flash(images[0])
        await until(registered)
        told.device_ids += registered()
        told.versions.append(str(board.installed()))
        image = core.firmware.add_image(core.account_id, "example 1.0.1", images[1])
        order = manifest(images[1], f"http://127.0.0.1/v3/firmware-images/{image['id']}/firmware.bin")
        row = core.firmware.add_manifest(core.account_id, "to 1.0.1", order)
        campaign = core.campaigns.create(
            core.account_id, device_filter=f"id__eq={told.device_ids[0]}", root_manifest_id=row["id"]
        )
        core.campaigns.start(core.account_id, campaign["id"])
        await until(lambda: core.campaigns.find(core.account_id, campaign["id"])["phase"] == "stopped", 24 * 3600)
        told.device_ids += registered()
        told.versions.append(str(board.installed()))
        told.boots = board.boots
        told.phase = core.campaigns.find(core.account_id, campaign["id"])["phase"]
        told.took_s = clock.now() / SECOND
        told.console = board.uart.host_read(1 << 20, 0).decode()
    finally:
        fabric.tap = None
        await core.stop()


@pytest.fixture(scope="module")
def first() -> Told:
    return tell(seed=11)


def test_a_board_registers_and_is_updated_over_a_link_that_loses_packets(first: Told) -> None:
    assert first.lost > 20
    assert first.versions == ["example 1.0.0 (build 0)", "example 1.0.1 (build 0)"]
    assert first.boots == 2
    assert first.device_ids[0] == first.device_ids[1], "the identity outlives the update"
    assert first.console.count("[SMCC] Autoformatting the storage.") == 1
    assert first.console.count(f"Device ID: {first.device_ids[0]}") == 2
    assert first.took_s > 60


def test_the_same_seed_tells_the_same_story_to_the_byte(first: Told) -> None:
    assert tell(seed=11) == first


def test_another_seed_tells_another_one(first: Told) -> None:
    other = tell(seed=12)
    assert other.wire != first.wire and other.versions == first.versions
