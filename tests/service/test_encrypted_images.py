"""Images that the service encrypts: what devices fetch, what the API tells, and who gets the key."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.service.schema import firmware_images, image_pieces
from pdmlab.update.manifest import Manifest, PayloadFormat, PayloadMetadata, SignedManifest
from pdmlab.update.payloads import unpacker
from pdmlab.update.payloads.blocks import sealed_size
from tests.service.corelab import CoreLab, Stage
from tests.service.fota import updatable
from tests.service.restlab import RestLab

IMAGE = hashlib.shake_256(b"image").digest(5000)
LARGE = hashlib.shake_256(b"large").digest((1 << 20) + 70_000)
JOBS = "/v3/firmware-images/upload-jobs"
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def lab(shared_database: str) -> Iterator[RestLab]:
    lab = RestLab(shared_database, hold_s=1)
    yield lab
    lab.close()


def upload(lab: RestLab, data: bytes, wanted: str = "True") -> dict[str, Any]:
    form = {"name": "fw", "datafile_encryption": wanted}
    answer = lab.call("POST", "/v3/firmware-images", data=form, files={"datafile": ("fw.bin", data)})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def upload_in_chunks(lab: RestLab, data: bytes) -> dict[str, Any]:
    job = lab.call("POST", JOBS, json={"name": "fw", "datafile_encryption": True}).json()
    assert job["datafile_encryption"] is True
    for start in range(0, len(data), 300_000):
        assert lab.call("POST", f"{JOBS}/{job['id']}/chunks", content=data[start : start + 300_000]).status_code == 201
    assert lab.call("POST", f"{JOBS}/{job['id']}/chunks", content=b"").status_code == 201
    done = lab.get(f"{JOBS}/{job['id']}")
    assert done["complete"] and done["status"] == "success"
    made: dict[str, Any] = lab.get(f"/v3/firmware-images/{done['firmware_image_id']}")
    return made


def manifest(image: dict[str, Any], form: PayloadFormat = PayloadFormat.ENCRYPTED_RAW) -> bytes:
    """Sign a manifest of what the API tells of an image."""
    return Manifest(
        bytes(16),
        bytes(16),
        "1.1.0",
        bytes.fromhex(image["encrypted_datafile_checksum"] or image["datafile_checksum"]),
        image["encrypted_datafile_size"] or image["datafile_size"],
        image["datafile"],
        format=form,
        metadata=None
        if form is PayloadFormat.RAW
        else PayloadMetadata(image["datafile_size"], bytes.fromhex(image["datafile_checksum"])),
    ).sign(KEY)


def for_device(lab: RestLab, der: bytes, account: str | None = None) -> bytes:
    async def asked() -> bytes:
        return lab.core.firmware.for_device(account or lab.core.account_id, der)

    return lab.run(asked())


def opened(lab: RestLab, image: dict[str, Any], payload: bytes) -> bytes:
    """Unpack a payload as a device does, with the key that it gets."""
    signed = SignedManifest.parse(for_device(lab, manifest(image)), KEY.public_key())
    unpack = unpacker(signed, lambda at, size: b"")
    return b"".join(unpack.feed(payload)) + b"".join(unpack.finish())


@pytest.mark.parametrize("data", [b"x", IMAGE, LARGE], ids=["a byte", "small", "in parts"])
@pytest.mark.parametrize("how", [upload, upload_in_chunks])
def test_devices_fetch_what_only_a_manifests_receiver_can_open(lab: RestLab, data: bytes, how: Any) -> None:
    image = how(lab, data)
    assert (image["datafile_encryption"], image["datafile_size"]) == (True, len(data))
    assert image["datafile_checksum"] == hashlib.sha256(data).hexdigest()
    payload = lab.run(lab.client.request("GET", image["datafile"])).content
    assert len(payload) == image["encrypted_datafile_size"] == sealed_size(len(data))
    assert hashlib.sha256(payload).hexdigest() == image["encrypted_datafile_checksum"]
    assert data[:100] not in payload or len(data) == 1
    assert opened(lab, image, payload) == data
    assert lab.run(_kept(lab, image["id"])) == len(payload)


async def _kept(lab: RestLab, id: str) -> int:
    length = sa.func.sum(sa.func.length(image_pieces.c.data))
    return int(lab.core.store.scalar(sa.select(length).where(image_pieces.c.image_id == id)))


def test_what_came_in_chunks_is_not_kept_as_it_came(lab: RestLab) -> None:
    image = upload_in_chunks(lab, IMAGE)

    async def everything() -> bytes:
        rows = lab.core.store.rows(sa.select(image_pieces.c.data))
        return b"".join(bytes(row["data"]) for row in rows)

    assert IMAGE[:300] not in lab.run(everything())
    assert lab.call("DELETE", f"/v3/firmware-images/{image['id']}").status_code == 204


@pytest.mark.parametrize("wanted", ["False", "false", "", "no"])
def test_an_image_is_encrypted_only_if_that_was_asked_for(lab: RestLab, wanted: str) -> None:
    image = upload(lab, IMAGE, wanted)
    assert image["datafile_encryption"] is False
    assert image["encrypted_datafile_checksum"] is image["encrypted_datafile_size"] is None
    assert lab.run(lab.client.request("GET", image["datafile"])).content == IMAGE


def test_each_image_has_a_key_of_its_own_and_the_api_tells_none(lab: RestLab) -> None:
    images = [upload(lab, IMAGE) for _ in range(2)]

    async def keys() -> list[bytes]:
        c = firmware_images.c
        rows = lab.core.store.rows(sa.select(c.encryption_key).where(c.id.in_([image["id"] for image in images])))
        return [bytes(row["encryption_key"]) for row in rows]

    first, second = lab.run(keys())
    assert first != second and len(first) == len(second) == 16
    for image in images:
        told = str(image) + lab.call("GET", f"/v3/firmware-images/{image['id']}").text
        told += lab.call("GET", "/v3/firmware-images?limit=1000&order=DESC").text
        for key in (first, second):
            assert key.hex() not in told and repr(key)[2:-1] not in told
    named = lab.call("GET", f"/v3/firmware-images?encryption_key__eq={first.hex()}")
    assert named.status_code == 400


def test_the_key_follows_manifests_of_encrypted_payloads_alone(lab: RestLab) -> None:
    image, plain = upload(lab, IMAGE), upload(lab, IMAGE, "False")
    for form in (PayloadFormat.ENCRYPTED_RAW, PayloadFormat.ENCRYPTED_COMBINED):
        der = manifest(image, form)
        sent = for_device(lab, der)
        assert sent[: len(der)] == der and sent[len(der) : len(der) + 2] == b"\x81\x10" and len(sent) == len(der) + 18
    for der in (manifest(image, PayloadFormat.RAW), manifest(plain), manifest({**image, "datafile": "http://h/fw"})):
        assert for_device(lab, der) == der


def test_another_accounts_manifest_gets_no_key(lab: RestLab) -> None:
    der = manifest(upload(lab, IMAGE))
    assert for_device(lab, der, "f" * 32) == der


def test_a_deleted_image_has_no_key_any_more(lab: RestLab) -> None:
    image = upload(lab, IMAGE)
    assert lab.call("DELETE", f"/v3/firmware-images/{image['id']}").status_code == 204
    der = manifest(image)
    assert for_device(lab, der) == der


def test_a_campaigns_devices_get_the_key_with_the_manifest(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        account, firmware = lab.core.account_id, lab.core.firmware
        row = firmware.add_image(account, "image", IMAGE, encrypt=True)
        uri = f"coap://service/fw/{row['id']}"
        der = Manifest(
            bytes(16), bytes(16), "1.1.0", bytes.fromhex(row["encrypted_checksum"]), row["encrypted_size"], uri,
            format=PayloadFormat.ENCRYPTED_RAW, metadata=PayloadMetadata(len(IMAGE), hashlib.sha256(IMAGE).digest()),
        ).sign(KEY)  # fmt: skip
        got: list[bytes] = []
        take = update.update

        async def listen(sent: bytes) -> None:
            got.append(sent)
            await take(sent)

        update.device.on_manifest = listen
        campaign = lab.core.campaigns.create(
            account, name="update", device_filter="", root_manifest_id=firmware.add_manifest(account, "m", der)["id"]
        )
        lab.core.campaigns.start(account, campaign["id"])
        while lab.core.campaigns.find(account, campaign["id"])["phase"] != "stopped":
            await asyncio.sleep(1)
        (sent,) = got
        signed = SignedManifest.parse(sent, KEY.public_key())
        unpack = unpacker(signed, lambda at, size: b"")
        assert b"".join(unpack.feed(update.image)) + b"".join(unpack.finish()) == IMAGE

    play(story)
