"""What a board checks of a SUIT envelope before it fetches anything, and what it is to fetch then."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from pdmlab.errors import ConfigError
from pdmlab.update.checks import Acceptance
from pdmlab.update.manifest import Manifest
from pdmlab.update.results import FotaResult, rejected
from pdmlab.update.suit import cbor
from pdmlab.update.suit.envelope import Envelope
from pdmlab.update.suit.manifest import ComponentId
from pdmlab.update.suit.processing import name, process
from pdmlab.update.version import Version


def accept(data: bytes, device: Acceptance, *, running: bytes | None = None) -> Manifest:
    """Return what a device is to fetch and install, if it accepts the envelope.

    Its signature comes first, then its conditions, played through without touching anything, then version and size.
    An integrated payload has its URI, "#…"; `Envelope.payloads` has its bytes. running: the active image's SHA-256.

    Raises:
        ManifestRejected: with the result that the FOTA client would report.
    """
    return accept_envelope(Envelope.parse(data, device.public_key), device, running=running)


def accept_envelope(envelope: Envelope, device: Acceptance, *, running: bytes | None = None) -> Manifest:
    """Return what a device is to fetch and install by an envelope whose signature is checked already; see accept."""
    rehearsal = _Rehearsal(device, running)
    process(envelope.manifest, rehearsal)
    component, fetched = rehearsal.fetched()
    version = envelope.manifest.version
    try:
        offered = Version.parse(version or "")
    except ConfigError as error:
        raise cbor.malformed(
            f"neither its text nor its sequence number {envelope.manifest.sequence_number} is a version a.b.c"
        ) from error
    current = device.components[component]
    if offered <= current:
        raise rejected(FotaResult.VERSION_TOO_OLD, f"it brings {offered}, the device runs {current}")
    if fetched.size > device.storage_size:
        raise rejected(
            FotaResult.NO_STORAGE, f"the image has {fetched.size} B, the candidate storage {device.storage_size} B"
        )
    integrated = envelope.payloads.get(fetched.uri)
    if integrated is not None and hashlib.sha256(integrated).digest() != fetched.digest:
        raise rejected(FotaResult.PAYLOAD_CORRUPTED, f"the payload {fetched.uri} in the envelope is another one")
    return Manifest(
        device.vendor_id, device.class_id, str(offered), fetched.digest, fetched.size, fetched.uri, component=component
    )


@dataclass
class _Fetched:
    """A payload that the manifest has fetched: what is known of it, and whether it is matched before it counts."""

    uri: str
    size: int
    digest: bytes
    matched: bool = False


@dataclass
class _Rehearsal:
    """Plays a manifest through (processing.Processor): notes what would be fetched, and changes nothing."""

    device: Acceptance
    running: bytes | None
    found: dict[ComponentId, _Fetched] = field(default_factory=dict)
    device_id: bytes | None = None

    @property
    def vendor_id(self) -> bytes:
        return self.device.vendor_id

    @property
    def class_id(self) -> bytes:
        return self.device.class_id

    def has(self, component: ComponentId) -> bool:
        return name(component) in self.device.components

    def fetch(self, component: ComponentId, uri: str, size: int | None, digest: bytes | None) -> None:
        if size is None or digest is None:
            raise cbor.malformed("a payload is fetched whose size and digest the manifest does not say")
        if not uri:
            raise rejected(FotaResult.BAD_URI, "the URI is empty")
        self.found[component] = _Fetched(uri, size, digest)

    def copy(self, component: ComponentId, source: ComponentId) -> None:
        raise cbor.malformed("boards here copy no component over another: their bootloader installs")

    def write(self, component: ComponentId, content: bytes) -> None:
        raise cbor.malformed("boards here write nothing that a manifest carries: they fetch")

    def matches(self, component: ComponentId, digest: bytes, size: int | None) -> bool:
        fetched = self.found.get(component)
        if fetched is None:
            return digest == self.running
        fetched.matched = digest == fetched.digest and size in (None, fetched.size)
        return fetched.matched

    def invoke(self, component: ComponentId) -> None:
        raise cbor.malformed("an update does not start what it brings: the bootloader does")

    def fetched(self) -> tuple[str, _Fetched]:
        """Return the one component that is fetched, and what."""
        if len(self.found) != 1:
            raise cbor.malformed(f"the manifest fetches {len(self.found)} components: boards here take one at a time")
        ((component, fetched),) = self.found.items()
        if not fetched.matched:
            raise cbor.malformed("the manifest installs a payload that it does not match against its digest")
        return name(component), fetched
