"""What a device offers for updates: objects 14, 10252 and 10255 of the FOTA client, or those of the older hub."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pdmlab.client.resource import M2MMethod, Resource
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.registry import core_objects
from pdmlab.update.bootloaders.interface import ImageHeader
from pdmlab.update.components import Components
from pdmlab.update.credentials import UpdateResources
from pdmlab.update.results import FotaState

MANIFESTS_V3, MANIFESTS_V1 = 4, 3
"""What /10255/0/0 (ProtocolSupported) says of manifests v3, and of v1."""
UNKNOWN = "-1"
"""What the hub says of the firmware that runs as long as it cannot read its header."""
Execute = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True)
class UpdateObjects:
    """The resources of updates; those that change by themselves, by name."""

    resources: list[Resource]
    state: Resource
    result: Resource
    versions: tuple[Resource, ...] = ()
    """What object 14 says of each component, in the order of its instances."""


def fota_objects(update: UpdateResources | None, components: Components, receive_manifest: Execute) -> UpdateObjects:
    """Make objects 14 (software component), 10252 (update) and 10255 (device metadata) of the FOTA client."""
    state, result = number("/10252/0/2", int(FotaState.IDLE)), number("/10252/0/3", -1)
    current = components.current
    versions = tuple(text(f"/14/{index}/2", str(current[name])) for index, name in enumerate(current))
    resources = [
        *(text(f"/14/{index}/0", name) for index, name in enumerate(current)),
        *versions,
        action("/10252/0/1", receive_manifest, delayed=True),
        state,
        result,
        number("/10255/0/0", MANIFESTS_V3),
        *_identifiers(update),
    ]
    return UpdateObjects(resources, state, result, versions)


def hub_objects(
    update: UpdateResources | None, running: ImageHeader | None, bootloader: bytes, receive_manifest: Execute
) -> UpdateObjects:
    """Make objects 10252 and 10255 as FirmwareUpdateResource.cpp and DeviceMetadataResource.cpp of the hub do.

    running: the header of the firmware that runs. bootloader: its bytes, whose SHA-256 is /10255/0/1; that of an OEM's
    own (/10255/0/2) stays nought.
    """

    async def nothing(payload: bytes) -> None:
        """Take /10252/0/9, to which the stock hub attaches nothing either: manifests begin updates."""

    state, result = number("/10252/0/2", int(FotaState.IDLE)), number("/10252/0/3", -1)
    resources = [
        action("/10252/0/1", receive_manifest, delayed=True),
        state,
        result,
        text("/10252/0/5", UNKNOWN if running is None else running.digest.hex()),
        text("/10252/0/6", UNKNOWN if running is None else str(running.version_number)),
        action("/10252/0/9", nothing, delayed=True),
        number("/10255/0/0", MANIFESTS_V1),
        opaque("/10255/0/1", hashlib.sha256(bootloader).digest()),
        opaque("/10255/0/2", bytes(32)),
        *_identifiers(update),
    ]
    return UpdateObjects(resources, state, result)


def _identifiers(update: UpdateResources | None) -> list[Resource]:
    if update is None:
        return []
    return [opaque("/10255/0/3", update.vendor_id), opaque("/10255/0/4", update.class_id)]


def text(path: str, value: str) -> Resource:
    """Make a text that the server hears of without asking."""
    return Resource(Path.parse(path), "string", value=value, name=name_of(path), auto=True)


def opaque(path: str, value: bytes) -> Resource:
    """Make bytes that the server hears of without asking."""
    return Resource(Path.parse(path), "opaque", value=value, name=name_of(path), auto=True)


def number(path: str, value: int, *, auto: bool = True) -> Resource:
    """Make a whole number that the registration tells."""
    return Resource(Path.parse(path), "integer", value=value, name=name_of(path), auto=auto, publish=True)


def action(path: str, execute: Execute, *, delayed: bool = False) -> Resource:
    """Make something that the server may have done; delayed: answered first, and then done."""
    return Resource(Path.parse(path), operations=M2MMethod.POST, name=name_of(path), execute=execute, delayed=delayed)


def name_of(path: str) -> str:
    """Return the name that the registry has for a resource; "" for one that it does not know."""
    known = core_objects().resource(Path.parse(path))
    return known.name if known is not None else ""
