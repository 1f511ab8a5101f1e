"""A whole update over a bearer: a service and a board on one virtual clock, an image, and what its download takes."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from pdmlab.client import prefetching
from pdmlab.client.block_size import OPTION, SIZES
from pdmlab.clock import SECOND
from pdmlab.errors import ConfigError, NotMeasurable
from pdmlab.measurements.bench import Bench, Row
from pdmlab.measurements.downloads import make_link, number, whole
from pdmlab.measurements.virtual_lab import VirtualLab, play, update_key, update_resources
from pdmlab.network.fabric import Packet
from pdmlab.network.link import Link
from pdmlab.update.manifest import Manifest, PayloadFormat
from pdmlab.update.payloads.patch import Delta
from pdmlab.update.prefetch import MOST_AHEAD

if TYPE_CHECKING:
    from pdmlab.client import SimpleMbedCloudClient

Payload = Literal["raw", "delta"]
OLD, NEW = "1.0.0", "1.0.1"


def firmware_update(
    board: Bench,
    bearer: str | Link,
    block_B: int = 512,
    image_B: int = 256 * 1024,
    payload: Payload = "raw",
    round_trip_ms: float | None = None,
    loss: float | None = None,
    prefetch: int = 0,
) -> Row:
    """Update a board of this kind over a bearer by CoAP blocks, from 1.0.0 to the next build, in virtual time.

    It is the whole update: registration, campaign, manifest, blocks, verification, restart, installation, and the new
    version in the directory. `download_s` is from the first request for a block until the last block is in the slot.
    `on_air_B` are the bytes of all datagrams meanwhile, lost ones too, before the link's own overhead.
    `total_s` is from the campaign's start to its end, at which the service looks once a second.
    `ram_B` is what a client holds for a download at once, apart from what it has anyhow: the largest datagram as
    it came, the block in it, those ahead of it, and for a delta two frames of 512 B.

    Args:
        bearer: a row of bearers.toml, or a link of your own.
        block_B: the client's largest block (mbed-client.sn-coap-max-blockwise-payload-size), 16 to 1024.
        image_B: size of both images.
        payload: the new image itself, or what changes of the old one (both builds share their code, as real ones do).
        round_trip_ms, loss: instead of the bearer's own.
        prefetch: how many blocks the client asks for while it writes one (pdmlab.prefetch), 0 to 16; the stock one
            does not.

    Raises:
        ConfigError: a figure that no link, image or block can have.
        NotMeasurable: the update does not come to its end.
    """
    link = make_link(bearer, round_trip_ms, None, loss)
    block_B = whole("block_B", block_B, min(SIZES), max(SIZES))
    if block_B not in SIZES:
        raise ConfigError(f"block_B is {block_B}", hint=f"CoAP has blocks of {', '.join(map(str, SIZES))} B")
    capacity = min(board.layout.application.size, board.layout.candidate.size - 4096)
    if not 0x4000 <= number("image_B", image_B) <= capacity or image_B != int(image_B):
        hint = f"this board's flash and slot take 16384 to {capacity} B"
        raise ConfigError(f"image_B is {image_B!r}", hint=hint)
    if payload not in ("raw", "delta"):
        raise ConfigError(f"payload is {payload!r}", hint="raw or delta")
    prefetch = whole("prefetch", prefetch, 0, MOST_AHEAD)
    plan = _Plan(block_B, int(image_B), payload, prefetch)
    held = (1024 if payload == "delta" else 0) + block_B * prefetch
    seen = _Seen(image_B=plan.image_B, held_B=held)
    play(functools.partial(_update, plan, seen), board.info.target, seed=board.seed, link=link)
    row = seen.row(link)
    given = {"round_trip_ms": round_trip_ms, "loss": loss}
    return {name: cell for name, cell in row.items() if given.get(name) is None}


@dataclass(frozen=True)
class _Plan:
    block_B: int
    image_B: int
    payload: Payload
    prefetch: int


@dataclass
class _Seen:
    """What passed between board and service while the payload was fetched; times in ns of the device clock."""

    payload_B: int = 0
    image_B: int = 0
    held_B: int = 0
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
        self.on_air_B += len(packet.body)

    def row(self, link: Link) -> Row:
        """Return what was measured."""
        assert self.first is not None and self.last > self.first
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
            "ram_B": self.largest_B + self.block_B + self.held_B,
            "install_s": round(self.install_s, 6),
            "total_s": round(self.total_s, 6),
            "estimates": link.estimates,
        }


async def _update(plan: _Plan, seen: _Seen, lab: VirtualLab) -> None:
    core, board = lab.core, lab.board
    options = {OPTION: plan.block_B, prefetching.OPTION: plan.prefetch}
    old, new = (lab.build(each, size=plan.image_B, options=options) for each in (OLD, NEW))
    payload = new if plan.payload == "raw" else Delta.between(old, new).patch
    seen.payload_B = len(payload)
    board.flash(old)
    await lab.until(lambda: bool(list(core.registrations)), "the board registers")

    def written(done: int, total: int) -> None:
        if done == total:
            seen.last = lab.clock.now()

    client: SimpleMbedCloudClient = board.wait_for_end(0)  # the example has returned it, and it works on
    client.on_update_progress(written)
    manifest = _manifest(lab, old, new, payload, plan.payload)
    campaign = core.campaigns.create(
        core.account_id, device_filter=f"id__eq={lab.device_id}", root_manifest_id=manifest
    )
    lab.fabric.tap, start = seen.tap, lab.clock.now()
    core.campaigns.start(core.account_id, campaign["id"])
    await lab.until(
        lambda: core.campaigns.find(core.account_id, campaign["id"])["phase"] == "stopped", "the campaign ends"
    )
    seen.total_s = (lab.clock.now() - start) / SECOND
    (row,) = core.campaigns.progress(campaign["id"])
    if row["phase"] != "success":
        raise NotMeasurable(
            f"the update fails: {row['description']}", hint=" / ".join(lab.read_console().splitlines()[-8:])
        )
    seen.install_s = sum(step.duration_ns for step in board.boot_steps if "bootloader" in step.name) / SECOND


def _manifest(lab: VirtualLab, old: bytes, new: bytes, payload: bytes, kind: Payload) -> str:
    """Put payload and manifest into the service; return the manifest's id."""
    resources = update_resources()
    made = Manifest.for_image(
        payload,
        version=NEW,
        uri=lab.offer(payload),
        vendor_id=resources.vendor_id,
        class_id=resources.class_id,
    )
    if kind == "delta":
        made = replace(made, format=PayloadFormat.DELTA, metadata=Delta.between(old, new).metadata)
    return str(lab.core.firmware.add_manifest(lab.core.account_id, f"to {NEW}", made.sign(update_key()))["id"])
