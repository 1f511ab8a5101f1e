"""Firmware images and the manifests that name them, as accounts upload them and devices fetch them."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.service.described import Described
from pdmlab.service.ids import timestamp
from pdmlab.service.incoming import Content, Incoming
from pdmlab.service.pieces import Pieces
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import firmware_images, firmware_manifests
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row
from pdmlab.update.checks import ENCRYPTED
from pdmlab.update.manifest import SignedManifest
from pdmlab.update.manifest_v1 import is_v1
from pdmlab.update.payloads.encrypted import with_key

if TYPE_CHECKING:
    from pdmlab.service.core import Core


MAX_IMAGE = 256 << 20  # B; what comes in one request is limited before (rest/front.py)
MAX_MANIFEST = 2048  # B
MAX_KEY_TABLE = 64 << 10  # B
MAX_IMAGES, MAX_MANIFESTS = 1000, 10_000
"""Of an account."""
MAX_NAME, MAX_DESCRIPTION = 128, 2000
FILE_NAME = "firmware.bin"
"""Last segment of an image's address."""

_PAYLOAD = re.compile(r"(?:[a-z]+://[^/]*)?/(?:v3/firmware-images|fw)/([0-9a-f]{32})(?:/.*)?")
_REMEMBERED = 64  # images whose size is remembered: it is wanted with each block
_REMEMBERED_S = 1.0  # for how long: another process may have deleted the image

_C = firmware_images.c
_IMAGE = Statement(
    sa.select(_C.id, _C.account_id, sa.func.coalesce(_C.encrypted_size, _C.size).label("size")).where(
        _C.id == sa.bindparam("image")
    )
)
_KEY = Statement(
    sa.select(_C.encryption_key).where(_C.id == sa.bindparam("image"), _C.account_id == sa.bindparam("account"))
)

IMAGE = [column for column in _C if column.name != "encryption_key"]
"""An image's columns, without what is secret."""

MANIFEST = [
    *(column for column in firmware_manifests.c if column.name not in ("data", "key_table")),
    firmware_manifests.c.key_table.is_not(None).label("has_key_table"),
]
"""A manifest's columns, without the bytes."""


@dataclass(frozen=True)
class Image:
    """An image as devices fetch it: whose it is, its size (B), and any part of its bytes."""

    id: str
    account_id: str
    size: int
    pieces: Pieces = field(repr=False)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from start to stop; raise Refused (404) if the image has been deleted meanwhile."""
        return self.pieces.read(self.id, start, stop)


class Firmware:
    """The service's images and manifests."""

    def __init__(self, core: Core) -> None:
        self.url: str | None = None
        """Where boards fetch images by HTTP, such as http://192.0.2.1:8080; None for the REST API's own address."""
        self.pieces = Pieces(core)
        self._store = core.store
        self._now = core.now
        self._images: OrderedDict[str, tuple[float, Image]] = OrderedDict()

    # -- images --------------------------------------------------------------------------------------------

    def add_image(
        self, account_id: str, name: str, data: bytes, *, description: str = "", encrypt: bool = False
    ) -> Row:
        """Keep an image, or what it is encrypted; return its row. Larger ones come by `Uploads`, little by little.

        Raises:
            Refused: it is empty (400), larger than MAX_IMAGE (413), or the account has MAX_IMAGES (403).
        """
        self.must_fit(len(data))
        incoming = Incoming(encrypt=encrypt)
        kept = incoming.take(data)
        last, content = incoming.finish()
        with self._store.begin():
            id = self._store.ids.new()
            row = self.enter(id, account_id, name, content, description=description)
            self.pieces.append(account_id, id, 0, kept + last)
        return row

    def enter(self, id: str, account_id: str, name: str, content: Content, *, description: str = "") -> Row:
        """Make an image of the pieces that are there, as part of the open transaction; as `add_image` does."""
        if not content.size:
            raise Refused(400, "the image is empty", hint="was the file written before it was uploaded?")
        self.must_fit(content.size)
        self.must_have_room(account_id, firmware_images, MAX_IMAGES, "firmware images")
        at = self._store.timestamp()
        row: Row = {
            "id": id,
            "account_id": account_id,
            "name": name,
            "description": description,
            "size": content.size,
            "checksum": content.checksum,
            "datafile_encryption": content.is_encrypted,
            "encrypted_size": content.encrypted_size,
            "encrypted_checksum": content.encrypted_checksum,
            "created_at": at,
            "updated_at": at,
        }
        with self._store.begin() as db:
            db.execute(sa.insert(firmware_images).values(**row, encryption_key=content.key))
        return row

    def must_fit(self, size: int) -> None:
        """Raise Refused (413) for an image that is too large (B)."""
        if size > MAX_IMAGE:
            raise Refused(413, f"the image has {size} B; at most {MAX_IMAGE} B are taken")

    def must_have_room(self, account_id: str, table: sa.Table, most: int, what: str) -> None:
        """Raise Refused (403) if an account has as many as it may have."""
        mine = sa.select(sa.func.count()).select_from(table).where(table.c.account_id == account_id)
        if self._store.scalar(mine) >= most:
            raise Refused(403, f"the account has {most} {what}: delete some first", type="account_limit_exceeded")

    def image(self, account_id: str, id: str) -> Row:
        """Return an image's row; raise Refused (404) if the account has no such image."""
        found = sa.select(*IMAGE).where(_C.account_id == account_id, _C.id == id)
        return self._found(found, "firmware image", id)

    def delete_image(self, account_id: str, id: str) -> None:
        """Delete an image; devices that still download it get no more. Raises as `image` does."""
        self.image(account_id, id)
        with self._store.begin() as db:
            db.execute(sa.delete(firmware_images).where(firmware_images.c.id == id))
        self._images.pop(id, None)
        self.pieces.drop(id)

    def open(self, image_id: str) -> Image | None:
        """Return an image to read from, for devices: they have no key, but an address that cannot be guessed."""
        now = self._now()
        since, image = self._images.get(image_id, (0.0, None))
        if image is not None and now - since < _REMEMBERED_S:
            return image
        self._images.pop(image_id, None)
        row = self._store.row(_IMAGE, image=image_id)
        if row is None:
            return None
        image = Image(pieces=self.pieces, **row)
        self._images[image_id] = now, image
        if len(self._images) > _REMEMBERED:
            self._images.popitem(last=False)
        return image

    def payload(self, uri: str) -> Image | None:
        """Return the image that a manifest's URI means: this service's datafile or short_datafile, at any port."""
        match = _PAYLOAD.fullmatch(uri)
        return self.open(match.group(1)) if match else None

    def for_device(self, account_id: str, der: bytes) -> bytes:
        """Return a manifest as it goes to a device: the key behind it, if it is of an image that is encrypted.

        The key comes from the account's own image alone; without one, the device says that there is no key.
        """
        if is_v1(der):
            return der
        manifest = SignedManifest.parse(der).manifest
        match = _PAYLOAD.fullmatch(manifest.uri) if manifest.format in ENCRYPTED else None
        key = self._store.scalar(_KEY, image=match.group(1), account=account_id) if match else None
        return der if key is None else with_key(der, bytes(key))

    # -- manifests -----------------------------------------------------------------------------------------

    def add_manifest(
        self, account_id: str, name: str, der: bytes, *, description: str = "", key_table: bytes | None = None
    ) -> Row:
        """Keep a signed manifest, v3 or v1; return its row. Whose signature it is, the devices find out.

        Raises:
            Refused: it is larger than MAX_MANIFEST (400), or the account has MAX_MANIFESTS (403).
            ManifestRejected, ConfigError: it is no manifest, or one that no device could take.
        """
        if len(der) > MAX_MANIFEST:
            raise Refused(400, f"the manifest has {len(der)} B; at most {MAX_MANIFEST} B are taken")
        if key_table is not None and len(key_table) > MAX_KEY_TABLE:
            raise Refused(400, f"the key table has {len(key_table)} B; at most {MAX_KEY_TABLE} B are taken")
        described = Described.of(der)
        self.must_have_room(account_id, firmware_manifests, MAX_MANIFESTS, "firmware manifests")
        at = self._store.timestamp()
        row: Row = {
            "id": self._store.ids.new(),
            "account_id": account_id,
            "name": name,
            "description": description,
            "size": len(der),
            "schema_version": described.schema_version,
            "vendor_id": described.vendor_id,
            "device_class": described.device_class,
            "version": described.version,
            "component": described.component,
            "payload_uri": described.payload_uri,
            "payload_size": described.payload_size,
            "payload_digest": described.payload_digest,
            "timestamp": at if described.made_at is None else timestamp(described.made_at),
            "created_at": at,
            "updated_at": at,
        }
        with self._store.begin() as db:
            db.execute(sa.insert(firmware_manifests).values(**row, data=der, key_table=key_table))
        return {**row, "has_key_table": key_table is not None}

    def manifest(self, account_id: str, id: str) -> Row:
        """Return a manifest's row, without the bytes; raise Refused (404) if the account has no such one."""
        table = firmware_manifests
        found = sa.select(*MANIFEST).where(table.c.account_id == account_id, table.c.id == id)
        return self._found(found, "firmware manifest", id)

    def manifest_data(self, id: str) -> bytes | None:
        """Return a manifest's bytes."""
        row = self._store.row(sa.select(firmware_manifests.c.data).where(firmware_manifests.c.id == id))
        return bytes(row["data"]) if row is not None else None

    def key_table(self, account_id: str, id: str) -> bytes:
        """Return the key table that came with a manifest; raise Refused (404) if none did, or as `manifest` does."""
        self.manifest(account_id, id)
        data = self._store.scalar(sa.select(firmware_manifests.c.key_table).where(firmware_manifests.c.id == id))
        if data is None:
            raise not_found("key table of firmware manifest", id)
        return bytes(data)

    def delete_manifest(self, account_id: str, id: str) -> None:
        """Delete a manifest; campaigns that have started keep their copy. Raises as `manifest` does."""
        self.manifest(account_id, id)
        with self._store.begin() as db:
            db.execute(sa.delete(firmware_manifests).where(firmware_manifests.c.id == id))

    def _found(self, statement: sa.Executable, what: str, id: str) -> Row:
        row = self._store.row(statement)
        if row is None:
            raise not_found(what, id)
        return row


def same_payload(one: str, other: str) -> bool:
    """Whether two URIs mean the same image: by the same words, or as `Firmware.payload` reads them."""
    first, second = _PAYLOAD.fullmatch(one), _PAYLOAD.fullmatch(other)
    return one == other or (first is not None and second is not None and first.group(1) == second.group(1))
