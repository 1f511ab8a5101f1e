"""Updates that a board has to refuse: each sent to a board that runs, and what it says, runs and keeps afterwards."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace

from aiocoap import Message
from aiocoap.numbers import codes
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.clock import SECOND
from pdmlab.measurements.bench import Bench, Row
from pdmlab.measurements.downloads import make_link
from pdmlab.measurements.virtual_lab import VirtualLab, play, update_key, update_resources
from pdmlab.update import hub
from pdmlab.update.bootloaders import DEFAULT, Kind, timestamp_of
from pdmlab.update.manifest import Manifest, PayloadFormat, PayloadMetadata
from pdmlab.update.manifest_v1 import ManifestV1
from pdmlab.update.results import FotaResult
from pdmlab.update.version import Version

OLD, NEW = "1.0.0", "1.0.1"
IMAGE_B = 16 * 1024 + 200  # no whole number of blocks: what is too long shows in the last one
GOOD = "nothing"
"""The case that is refused nowhere: the board can still be updated."""
_PACKAGE, _STATE, _RESULT = ("10252", "0", "1"), "/10252/0/2", "/10252/0/3"
_SETTLED_S = 5.0
_DETAILS = "[SMCC] Error details : "


def refused_updates(board: Bench, bootloader: Kind = DEFAULT) -> list[Row]:
    """Send a board of this kind every wrong update in turn, and a good one at the end: one row each.

    wrong       what is wrong with it
    result      what the board reports on /10252/0/3; `means` says it in words. Of a good update it reports nothing
    said        what the board says of it on its console
    runs        the version that runs afterwards
    same_image, same_identity   whether the flash of the running image, and the device's id, are what they were

    The boards with `mbed` take manifests v1, the others v3.
    """
    rows: list[Row] = []
    link = make_link("ethernet", None, None, None)
    play(functools.partial(_story, rows), board.info.target, seed=board.seed, link=link, bootloader=bootloader)
    return rows


async def _story(rows: list[Row], lab: VirtualLab) -> None:
    old, new = (lab.build(version, size=IMAGE_B) for version in (OLD, NEW))
    lab.board.flash(old)
    await lab.until(lambda: bool(list(lab.core.registrations)), "the board registers")
    device_id, before = lab.device_id, _running(lab)
    for wrong, order in (_orders_v1 if lab.board.bootloader == "mbed" else _orders)(lab, new).items():
        lab.read_console()
        said = await _send(lab, device_id, order, wrong)
        result = lab.core.resources.value(device_id, _RESULT)
        number = None if wrong == GOOD or result in (None, "-1") else int(result)
        installed = lab.board.installed()
        rows.append(
            {
                "wrong": wrong,
                "result": number,
                "means": "" if number is None else _meaning(number),
                "said": said,
                "runs": "nothing" if installed is None else installed.version,
                "same_image": _running(lab) == before,
                "same_identity": lab.device_id == device_id,
            }
        )


async def _send(lab: VirtualLab, device_id: str, order: bytes, wrong: str) -> str:
    """Send a manifest, wait until the board has refused it or has come back with the image; return what it said."""
    boots, sent = lab.board.boots, lab.clock.now()
    await lab.core.delivery.ask(device_id, Message(code=codes.POST, payload=order, uri_path=_PACKAGE))
    said = ""

    def decided() -> bool:
        nonlocal said
        said += lab.read_console()
        if lab.board.boots > boots:
            return "Device ID" in said
        idle = lab.core.resources.value(device_id, _STATE) in (None, "1")
        return idle and lab.clock.now() > sent + _SETTLED_S * SECOND

    await lab.until(decided, f"the board decides on an update with the wrong {wrong}", seconds=3600)
    lines = [line.partition(_DETAILS)[2] for line in said.splitlines() if line.startswith(_DETAILS)]
    return lines[-1] if lines else ""


def _orders(lab: VirtualLab, image: bytes) -> dict[str, bytes]:
    """Sign every wrong manifest v3, and a good one."""
    resources, key = update_resources(), update_key()
    good = Manifest.for_image(
        image, version=NEW, uri=lab.offer(image), vendor_id=resources.vendor_id, class_id=resources.class_id
    )
    digest = hashlib.sha256(image).digest()
    packed = PayloadMetadata(len(image), digest)
    cut, more = (replace(good, uri=lab.offer(data)) for data in (image[:-100], image + bytes(100)))
    wrong = {
        "vendor id": replace(good, vendor_id=bytes(16)),
        "class id": replace(good, class_id=bytes(16)),
        "component": replace(good, component="LAMP"),
        "version": replace(good, version=OLD),
        "precursor": replace(good, format=PayloadFormat.DELTA, metadata=replace(packed, precursor_digest=bytes(32))),
        "format": replace(good, format=PayloadFormat.COMBINED, metadata=packed),
        "URI": replace(good, uri=f"{good.uri.rpartition('/v3/')[0]}/v3/firmware-images/{'0' * 32}/firmware.bin"),
        "digest": replace(good, payload_digest=bytes(32)),
        "size, too small": replace(good, payload_size=len(image) - 100),
        "payload, truncated": cut,
        "payload, oversized": more,
        "size, for no slot": replace(good, payload_size=0x7FFF_FFFF),
    }
    if lab.board.bootloader == "trial":
        unsigned, signature = good, lab.board.sign_image(image)
        good, *others = (replace(each, installed_signature=signature) for each in (good, *wrong.values()))
        wrong = {**dict(zip(wrong, others, strict=True)), "image signature": unsigned}
    orders = {name: manifest.sign(key) for name, manifest in wrong.items()}
    order = good.sign(key)
    return {
        "key": good.sign(_stranger()),
        "manifest, truncated": order[:-10],
        "manifest, another schema": order.replace(b"\x0a\x01\x03", b"\x0a\x01\x09", 1),
        **orders,
        GOOD: order,
    }


def _orders_v1(lab: VirtualLab, image: bytes) -> dict[str, bytes]:
    """Sign every wrong manifest v1, and a good one, for the older update hub."""
    resources, key = update_resources(), update_key()
    good = ManifestV1.for_image(
        image,
        timestamp=Version.parse(NEW).number,
        uri=lab.offer(image),
        vendor_id=resources.vendor_id,
        class_id=resources.class_id,
    )
    packed = PayloadMetadata(len(image), hashlib.sha256(image).digest(), bytes(32))
    wrong = {
        "vendor id": replace(good, vendor_id=bytes(16)),
        "class id": replace(good, class_id=bytes(16)),
        "version": replace(good, timestamp=timestamp_of(Version.parse(OLD))),
        "precursor": good.of_delta(packed),
        "format": replace(good, format=9),
        "URI": replace(good, uri=f"{good.uri.rpartition('/v3/')[0]}/v3/firmware-images/{'0' * 32}/firmware.bin"),
        "digest": replace(good, payload_digest=bytes(32)),
        "size, too small": replace(good, payload_size=len(image) - 100),
        "payload, truncated": replace(good, uri=lab.offer(image[:-100])),
        "payload, oversized": replace(good, uri=lab.offer(image + bytes(100))),
        "size, for no slot": replace(good, payload_size=0x7FFF_FFFF),
    }
    certificate = resources.default_certificate
    order = good.sign(key, certificate)
    return {
        "key": good.sign(_stranger(), certificate),
        "manifest, truncated": order[:-10],
        **{name: manifest.sign(key, certificate) for name, manifest in wrong.items()},
        GOOD: order,
    }


@functools.cache
def _stranger() -> ec.EllipticCurvePrivateKey:
    """Return a key that no board believes."""
    return ec.derive_private_key(0xBAD, ec.SECP256R1())


def _meaning(number: int) -> str:
    return hub.explain(number)[0] if hub.is_hub_result(number) else FotaResult(number).meaning


def _running(lab: VirtualLab) -> str:
    """Return what tells the running image from others: the SHA-256 of where it lies."""
    return hashlib.sha256(lab.board.media.flash.peek(lab.board.layout.app_offset, IMAGE_B)).hexdigest()
