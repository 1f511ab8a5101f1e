"""A whole update over a bearer: a service and a board on one virtual clock, an image, and what its download takes."""

from __future__ import annotations

import asyncio
import datetime
import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.clock import SECOND, DeviceClock
from pdmlab.errors import ConfigError, NotMeasurable
from pdmlab.firmware.image import ImageInfo, build_image
from pdmlab.measurements.bench import Bench, Row
from pdmlab.measurements.downloads import make_link, number, whole
from pdmlab.network.fabric import Fabric, Packet
from pdmlab.network.link import Link
from pdmlab.update.credentials import Credentials, UpdateResources
from pdmlab.update.developer import update_certificate
from pdmlab.update.manifest import Manifest, PayloadFormat
from pdmlab.update.payloads.patch import Delta

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.sim.board import VirtualBoard

Payload = Literal["raw", "delta"]
OLD, NEW = "1.0.0", "1.0.1"
BLOCKS = (16, 32, 64, 128, 256, 512, 1024)
EPOCH = 1_767_225_600.0  # 2026-01-01T00:00:00Z
LONGEST_S = 7 * 24 * 3600
"""Device time that an update may take (s)."""
LOOK_S = 1.0
_PORTS = 5683, 5685


def firmware_update(
    board: Bench,
    bearer: str | Link,
    block_B: int = 512,
    image_B: int = 1 << 20,
    payload: Payload = "raw",
    round_trip_ms: float | None = None,
    loss: float | None = None,
) -> Row:
    """Update a board of this kind over a bearer by CoAP blocks, from 1.0.0 to the next build, in virtual time.

    It is the whole update: registration, campaign, manifest, blocks, verification, restart, installation, and the new
    version in the directory. `download_s` is from the first request for a block to the last block's arrival.
    `on_air_B` are the bytes of all datagrams meanwhile, lost ones too, before the link's own overhead.
    `ram_B` is what a client holds for a download at once, apart from what it has anyhow: the largest datagram as
    it came, the block in it, and for a delta two frames of 512 B.

    Args:
        bearer: a row of bearers.toml, or a link of your own.
        block_B: the client's largest block (mbed-client.sn-coap-max-blockwise-payload-size), 16 to 1024.
        image_B: size of both images.
        payload: the new image itself, or what changes of the old one (both builds share their code, as real ones do).
        round_trip_ms, loss: instead of the bearer's own.

    Raises:
        ConfigError: a figure that no link, image or block can have.
        NotMeasurable: the update does not come to its end.
    """
    block_B = whole("block_B", block_B, min(BLOCKS), max(BLOCKS))
    if block_B not in BLOCKS:
        raise ConfigError(f"block_B is {block_B}", hint=f"CoAP has blocks of {', '.join(map(str, BLOCKS))} B")
    capacity = min(board.layout.application.size, board.layout.candidate.size - 4096)
    if not 0x4000 <= number("image_B", image_B) <= capacity:
        raise ConfigError(f"image_B is {image_B!r}", hint=f"this board's flash and slot take 16384 to {capacity} B")
    if payload not in ("raw", "delta"):
        raise ConfigError(f"payload is {payload!r}", hint="raw or delta")
    link = make_link(bearer, round_trip_ms, None, loss)
    seen = _play(_Plan(board.info.target, board.seed, link, block_B, int(image_B), payload))
    row = seen.row(link)
    given = {"round_trip_ms": round_trip_ms, "loss": loss}
    return {name: cell for name, cell in row.items() if given.get(name) is None}


@dataclass(frozen=True)
class _Plan:
    target: str
    seed: int
    link: Link
    block_B: int
    image_B: int
    payload: Payload


@dataclass
class _Seen:
    """What passed between board and service while the payload was fetched; times in ns of the device clock."""

    payload_B: int = 0
    image_B: int = 0
    extra_B: int = 0
    first: int | None = None
    last: int = 0
    requests: set[int] = field(default_factory=set)
    tokens: set[bytes] = field(default_factory=set)
    repeated: int = 0
    on_air_B: int = 0
    largest_B: int = 0
    block_B: int = 0
    install_s: float = 0.0
    total_s: float = 0.0

    def tap(self, packet: Packet, arrived: int | None) -> None:
        """Take note of a datagram if it belongs to the download."""
        from pdmlab.coap.codec import Malformed, decode

        if not isinstance(packet.body, bytes):
            return
        try:
            message, _ = decode(packet.body, ("board", 0))
        except Malformed:
            return
        if message.opt.uri_path == ("fw",):
            self.first = packet.sent if self.first is None else self.first
            self.repeated += message.mid in self.requests
            self.requests.add(message.mid)
            self.tokens.add(message.token)
        elif message.token not in self.tokens or not message.token:
            return
        else:
            self.largest_B = max(self.largest_B, len(packet.body))
            self.block_B = max(self.block_B, len(message.payload))
            if arrived is not None:
                self.last = max(self.last, arrived)
        self.on_air_B += len(packet.body)

    def row(self, link: Link) -> Row:
        """Return what was measured."""
        assert self.first is not None
        took = self.last - self.first
        return {
            "round_trip_ms": round(link.round_trip / 1e6, 6),
            "loss": link.loss,
            "payload_B": self.payload_B,
            "of_image": round(self.payload_B / self.image_B, 6),
            "blocks": len(self.requests),
            "retransmissions": self.repeated,
            "download_s": round(took / SECOND, 6),
            "throughput_kBps": round(self.payload_B * SECOND / took / 1000, 6),
            "image_kBps": round(self.image_B * SECOND / took / 1000, 6),
            "on_air_B": self.on_air_B,
            "ram_B": self.largest_B + self.block_B + self.extra_B,
            "install_s": round(self.install_s, 6),
            "total_s": round(self.total_s, 6),
            "estimates": link.estimates,
        }


@functools.cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(0x5EED, ec.SECP256R1())


@functools.cache
def _resources() -> UpdateResources:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return UpdateResources(b"v" * 16, b"c" * 16, update_certificate(_key(), "company.com", now))


def _play(plan: _Plan) -> _Seen:
    from pdmlab.service.core import Core
    from pdmlab.sim.board import VirtualBoard

    seen = _Seen(image_B=plan.image_B, extra_B=1024 if plan.payload == "delta" else 0)
    with DeviceClock() as clock:
        fabric = Fabric(clock, plan.seed)
        core = Core("sqlite://", now=lambda: EPOCH + clock.now() / SECOND, seed=plan.seed)
        with VirtualBoard(
            plan.target, id="measured", memory=True, clock=clock, fabric=fabric, seed=plan.seed, power=False
        ) as board:
            board.network.link = plan.link
            clock.call_async(_update(plan, seen, clock, fabric, core, board))
    return seen


async def _update(
    plan: _Plan, seen: _Seen, clock: DeviceClock, fabric: Fabric, core: Core, board: VirtualBoard
) -> None:
    host = fabric.host("service")
    await core.start(bootstrap=host.opener(_PORTS[0]), lwm2m=host.opener(_PORTS[1]))
    try:
        credentials = Credentials("measured", core.bootstrap_uri, core.account_id)
        old, new = (_build(plan, board, version, credentials) for version in (OLD, NEW))
        payload = new if plan.payload == "raw" else Delta.between(old, new).patch
        seen.payload_B = len(payload)
        board.flash(old)
        await _until(lambda: bool(list(core.registrations)), "the registration")
        manifest = _manifest(core, old, new, payload, plan.payload)
        (device,) = core.registrations
        campaign = core.campaigns.create(
            core.account_id, device_filter=f"id__eq={device.device_id}", root_manifest_id=manifest
        )
        fabric.tap, start = seen.tap, clock.now()
        core.campaigns.start(core.account_id, campaign["id"])
        await _until(lambda: core.campaigns.find(core.account_id, campaign["id"])["phase"] == "stopped", "the campaign")
        seen.total_s = (clock.now() - start) / SECOND
        (row,) = core.campaigns.progress(campaign["id"])
        if row["phase"] != "success":
            said = board.uart.host_read(1 << 16, 0).decode("utf-8", "replace").splitlines()[-30:]
            raise NotMeasurable(f"the update fails: {row['description']}", hint=" / ".join(said))
        seen.install_s = sum(step.duration_ns for step in board.boot_steps if "bootloader" in step.name) / SECOND
    finally:
        fabric.tap = None
        await core.stop()


def _build(plan: _Plan, board: VirtualBoard, version: str, credentials: Credentials) -> bytes:
    info = ImageInfo(
        "example",
        version,
        credentials=credentials.to_mapping(),
        update_resources=_resources().to_mapping(),
        options={"block_size": plan.block_B},
    )
    return build_image(info, size=plan.image_B, load_address=board.layout.address(board.layout.application))


def _manifest(core: Core, old: bytes, new: bytes, payload: bytes, kind: Payload) -> str:
    """Put payload and manifest into the service; return the manifest's id."""
    resources = _resources()
    image = core.firmware.add_image(core.account_id, f"example {NEW}", payload)
    uri = f"http://127.0.0.1/v3/firmware-images/{image['id']}/firmware.bin"
    made = Manifest.for_image(
        payload, version=NEW, uri=uri, vendor_id=resources.vendor_id, class_id=resources.class_id
    )
    if kind == "delta":
        made = replace(made, format=PayloadFormat.DELTA, metadata=Delta.between(old, new).metadata)
    return str(core.firmware.add_manifest(core.account_id, f"to {NEW}", made.sign(_key()))["id"])


async def _until(condition: object, what: str) -> None:
    assert callable(condition)
    try:
        async with asyncio.timeout(LONGEST_S):
            while not condition():
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise NotMeasurable(f"{what} has not come in {LONGEST_S // 3600} h of device time") from None
