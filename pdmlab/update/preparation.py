"""Makes the candidate slot ready for a payload: its key, how it is to lie, and how far a reset finds it written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.candidate_form import CandidateForm
from pdmlab.update.checks import check_storage
from pdmlab.update.components import Component
from pdmlab.update.header import NO_PRECURSOR
from pdmlab.update.interface import UpdateStore
from pdmlab.update.manifest import SignedManifest
from pdmlab.update.payloads import unpacker
from pdmlab.update.payloads.blocks import KEY_SIZE
from pdmlab.update.payloads.interface import Unpacker


@dataclass(frozen=True)
class Secrets:
    """Where keys come from: the device's own (its root of trust, 16 B; blocking), and its source of randomness."""

    device_key: Callable[[], bytes | None] = lambda: None
    random_bytes: Callable[[int], bytes] = field(default=bytes)


@dataclass(frozen=True)
class Begun:
    """A slot that is ready: what unpacks the payload into it, and from where to fetch (B)."""

    unpacker: Unpacker
    start: int


def begin(
    signed: SignedManifest,
    component: Component,
    slot: CandidateSlot,
    store: UpdateStore,
    form: CandidateForm,
    secrets: Secrets,
    *,
    resumed: bool,
) -> Begun | None:
    """Make the slot ready, anew or where a reset has cut the download off; None if the candidate is whole. Blocking.

    Raises:
        ManifestRejected: the image does not fit (33), or the payload cannot be unpacked.
        ImageRejected: candidates are to be encrypted, and the device has no key.
        StorageError: a medium fails.
    """
    manifest = signed.manifest
    if resumed and slot.is_finished(manifest):
        return None
    kept = store.load_key() if resumed else None
    key = kept or signed.encryption_key or secrets.random_bytes(KEY_SIZE)
    # Without encryption it is kept all the same: after the reboot it says that there is something to look at.
    if kept is None:
        store.save_key(key)
    device_key = None if form.encryption is None else secrets.device_key()
    iv = int.from_bytes(secrets.random_bytes(8), "little")
    pages = form.pages(key, device_key, iv, slot.header() if resumed else None)
    check_storage(manifest, slot.capacity_for(pages, signed=form.signed))
    unpack = unpacker(signed, component.read or _nothing)
    precursor = NO_PRECURSOR if component.digest is None else component.digest()
    if resumed:
        position = slot.resume(manifest, precursor=precursor, pages=pages, signed=form.signed)
        start = unpack.resumes_at(position) if position else 0
        if start is not None:
            return Begun(unpack, start)
    slot.begin(manifest, precursor=precursor, pages=pages, signed=form.signed)
    return Begun(unpack, 0)


def _nothing(position: int, size: int) -> bytes:
    """Read what runs, of a component that cannot: check() lets no delta through to it."""
    return b""
