"""Firmware images and the manifests that name them, as accounts upload them and devices fetch them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import OrderedDict
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.errors import ConfigError
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import firmware_images, firmware_manifests, upload_chunks, upload_jobs
from pdmlab.service.store import Row
from pdmlab.update.manifest import SignedManifest

if TYPE_CHECKING:
    from pdmlab.service.core import Core


MAX_IMAGE = 256 << 20  # B; what comes in one request is limited before (rest/front.py)
MAX_MANIFEST = 2048  # B
MAX_NAME, MAX_DESCRIPTION = 128, 2000
FILE_NAME = "firmware.bin"
"""Last segment of an image's address."""

_PAYLOAD = re.compile(r"(?:[a-z]+://[^/]*)?/(?:v3/firmware-images|fw)/([0-9a-f]{32})(?:/.*)?")
_CACHED = 2  # images kept in memory: a device asks for the same one block by block

_WITHOUT_DATA = [column for column in firmware_images.c if column.name != "data"]
_MANIFEST_WITHOUT_DATA = [column for column in firmware_manifests.c if column.name != "data"]


class Firmware:
    """The service's images, manifests and unfinished uploads."""

    def __init__(self, core: Core) -> None:
        self.url: str | None = None
        """Where boards fetch images by HTTP, such as http://192.0.2.1:8080; None for the REST API's own address."""
        self._store = core.store
        self._cache: OrderedDict[str, bytes] = OrderedDict()

    # -- images --------------------------------------------------------------------------------------------

    def add_image(
        self, account_id: str, name: str, data: bytes, *, description: str = "", encrypted: bool = False
    ) -> Row:
        """Keep an image; return its row, without the bytes.

        Raises:
            Refused: it is empty (400) or larger than MAX_IMAGE (413).
        """
        if not data:
            raise Refused(400, "the image is empty", hint="was the file written before it was uploaded?")
        if len(data) > MAX_IMAGE:
            raise Refused(413, f"the image has {len(data)} B; at most {MAX_IMAGE} B are taken")
        at = self._store.timestamp()
        row = {
            "id": self._store.ids.new(),
            "account_id": account_id,
            "name": name,
            "description": description,
            "size": len(data),
            "checksum": hashlib.sha256(data).hexdigest(),
            "datafile_encryption": encrypted,
            "created_at": at,
            "updated_at": at,
        }
        with self._store.begin() as db:
            db.execute(sa.insert(firmware_images).values(**row, data=data))
        return row

    def image(self, account_id: str, id: str) -> Row:
        """Return an image's row, without the bytes; raise Refused (404) if the account has no such image."""
        found = sa.select(*_WITHOUT_DATA).where(firmware_images.c.account_id == account_id, firmware_images.c.id == id)
        return self._found(found, "firmware image", id)

    def delete_image(self, account_id: str, id: str) -> None:
        """Delete an image; devices that still download it get no more. Raises as `image` does."""
        self.image(account_id, id)
        with self._store.begin() as db:
            db.execute(sa.delete(firmware_images).where(firmware_images.c.id == id))
        self._cache.pop(id, None)

    def data(self, image_id: str) -> bytes | None:
        """Return an image's bytes, for devices: they have no key, but an address that cannot be guessed."""
        if image_id not in self._cache:
            row = self._store.row(sa.select(firmware_images.c.data).where(firmware_images.c.id == image_id))
            if row is None or row["data"] is None:
                return None
            self._cache[image_id] = bytes(row["data"])
            while len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(image_id)
        return self._cache[image_id]

    def payload(self, uri: str) -> bytes | None:
        """Return the image that a manifest's URI means: this service's datafile or short_datafile, at any port."""
        match = _PAYLOAD.fullmatch(uri)
        return self.data(match.group(1)) if match else None

    def owner(self, uri: str) -> str | None:
        """Return whose image a manifest's URI means; None if there is none."""
        match = _PAYLOAD.fullmatch(uri)
        found = sa.select(firmware_images.c.account_id).where(firmware_images.c.id == (match.group(1) if match else ""))
        account_id: str | None = self._store.scalar(found)
        return account_id

    # -- manifests -----------------------------------------------------------------------------------------

    def add_manifest(
        self, account_id: str, name: str, der: bytes, *, description: str = "", key_table: str | None = None
    ) -> Row:
        """Keep a signed manifest v3; return its row. Whose signature it is, the devices find out.

        Raises:
            Refused: it is larger than MAX_MANIFEST (400).
            ManifestRejected: it is no manifest, or one that no device could take.
        """
        if len(der) > MAX_MANIFEST:
            raise Refused(400, f"the manifest has {len(der)} B; at most {MAX_MANIFEST} B are taken")
        manifest = SignedManifest.parse(der).manifest
        for _, fault in manifest.faults():
            raise ConfigError(f"the manifest cannot be used: {fault}")
        at = self._store.timestamp()
        row = {
            "id": self._store.ids.new(),
            "account_id": account_id,
            "name": name,
            "description": description,
            "size": len(der),
            "vendor_id": manifest.vendor_id.hex(),
            "device_class": manifest.class_id.hex(),
            "version": manifest.version,
            "component": manifest.component,
            "payload_uri": manifest.uri,
            "payload_size": manifest.payload_size,
            "payload_digest": manifest.payload_digest.hex(),
            "timestamp": at,  # a manifest v3 carries a version and no time
            "key_table": key_table,
            "created_at": at,
            "updated_at": at,
        }
        with self._store.begin() as db:
            db.execute(sa.insert(firmware_manifests).values(**row, data=der))
        return row

    def manifest(self, account_id: str, id: str) -> Row:
        """Return a manifest's row, without the bytes; raise Refused (404) if the account has no such one."""
        table = firmware_manifests
        found = sa.select(*_MANIFEST_WITHOUT_DATA).where(table.c.account_id == account_id, table.c.id == id)
        return self._found(found, "firmware manifest", id)

    def manifest_data(self, id: str) -> bytes | None:
        """Return a manifest's bytes."""
        row = self._store.row(sa.select(firmware_manifests.c.data).where(firmware_manifests.c.id == id))
        return bytes(row["data"]) if row is not None else None

    def delete_manifest(self, account_id: str, id: str) -> None:
        """Delete a manifest; campaigns that have started keep their copy. Raises as `manifest` does."""
        self.manifest(account_id, id)
        with self._store.begin() as db:
            db.execute(sa.delete(firmware_manifests).where(firmware_manifests.c.id == id))

    # -- uploads in chunks ---------------------------------------------------------------------------------

    def add_job(self, account_id: str, name: str, *, description: str = "", encrypted: bool = False) -> Row:
        """Begin an upload in chunks; return its row."""
        at = self._store.timestamp()
        row = {
            "id": self._store.ids.new(),
            "account_id": account_id,
            "name": name,
            "description": description,
            "datafile_encryption": encrypted,
            "status": "in_progress",
            "firmware_image_id": None,
            "created_at": at,
            "updated_at": at,
        }
        with self._store.begin() as db:
            db.execute(sa.insert(upload_jobs).values(row))
        return row

    def job(self, account_id: str, id: str) -> Row:
        """Return an upload's row; raise Refused (404) if the account has no such one."""
        found = sa.select(upload_jobs).where(upload_jobs.c.account_id == account_id, upload_jobs.c.id == id)
        return self._found(found, "upload job", id)

    def update_job(self, account_id: str, id: str, **changes: object) -> Row:
        """Change name or description; return the row. Raises as `job` does."""
        self.job(account_id, id)
        with self._store.begin() as db:
            changed = {**changes, "updated_at": self._store.timestamp()}
            db.execute(sa.update(upload_jobs).where(upload_jobs.c.id == id).values(**changed))
        return self.job(account_id, id)

    def delete_job(self, account_id: str, id: str) -> None:
        """Give an upload up; an image that it has become stays. Raises as `job` does."""
        self.job(account_id, id)
        with self._store.begin() as db:
            db.execute(sa.delete(upload_jobs).where(upload_jobs.c.id == id))

    def chunks(self, job_id: str) -> list[Row]:
        """Return what has come of an upload, chunk by chunk, without the bytes."""
        columns = [column for column in upload_chunks.c if column.name != "data"]
        return self._store.rows(
            sa.select(*columns).where(upload_chunks.c.upload_job_id == job_id).order_by(upload_chunks.c.number)
        )

    def add_chunk(self, account_id: str, job_id: str, data: bytes, md5: str | None) -> Row:
        """Append a chunk to an upload, and return the chunk's row; an empty one makes the image.

        md5: base64, as the header Content-MD5 has it.

        Raises:
            Refused: no such upload (404), it is finished or nothing came before the end (400), the bytes are
                not those that md5 promises (400), or all of it is too large (413).
        """
        job = self.job(account_id, job_id)
        if job["status"] != "in_progress":
            raise Refused(400, f"upload job {job_id} is finished")
        found = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        if md5 is not None and md5.strip() != found:
            raise Refused(400, "the chunk's bytes are not those that Content-MD5 promises")
        before = self.chunks(job_id)
        if sum(chunk["length"] for chunk in before) + len(data) > MAX_IMAGE:
            raise Refused(413, f"the image has more than {MAX_IMAGE} B")
        row = {
            "upload_job_id": job_id,
            "number": len(before) + 1,
            "account_id": account_id,
            "hash": hashlib.sha256(data).hexdigest(),
            "length": len(data),
            "created_at": self._store.timestamp(),
        }
        with self._store.begin() as db:
            db.execute(sa.insert(upload_chunks).values(**row, data=data))
            if not data:
                self._finish(db, job)
        return row

    def _finish(self, db: sa.Connection, job: Row) -> None:
        c = upload_chunks.c
        whole = b"".join(db.scalars(sa.select(c.data).where(c.upload_job_id == job["id"]).order_by(c.number)))
        image = self.add_image(
            job["account_id"],
            job["name"],
            whole,
            description=job["description"],
            encrypted=job["datafile_encryption"],
        )
        db.execute(sa.update(upload_chunks).where(c.upload_job_id == job["id"]).values(data=b""))
        db.execute(
            sa.update(upload_jobs)
            .where(upload_jobs.c.id == job["id"])
            .values(status="success", firmware_image_id=image["id"], updated_at=self._store.timestamp())
        )

    def _found(self, statement: sa.Executable, what: str, id: str) -> Row:
        row = self._store.row(statement)
        if row is None:
            raise not_found(what, id)
        return row
