"""What the trial bootloader's places hold, for whoever looks at a board."""

from __future__ import annotations

from collections.abc import Callable

from pdmlab.errors import ImageRejected, StorageError
from pdmlab.update.bootloaders.interface import Slot
from pdmlab.update.bootloaders.trial.choice import Source, is_rejected
from pdmlab.update.bootloaders.trial.places import Places
from pdmlab.update.bootloaders.trial.records import TrialRecords
from pdmlab.update.bootloaders.trial.verify import Verifier
from pdmlab.update.layout import INTERNAL
from pdmlab.update.region import Region

_Place = tuple[str, str, int, int]


def slots(places: Places, verifier: Verifier, records: TrialRecords, storage: str) -> list[Slot]:
    """Look at the active image, the candidate and the image that is kept; storage: what the update storage is."""

    def active(place: _Place) -> Slot:
        header = places.active.header()
        if header is None:
            return Slot(*place, "empty")
        fault = verifier.fault(header, places.active.read)
        if fault:
            return Slot(*place, "corrupt", header, fault)
        return Slot(*place, "whole", header, "confirmed" if header.version_number <= records.floor else "on trial")

    def candidate(place: _Place) -> Slot:
        if places.candidate.header() is not None and places.candidate.read() is None:
            return Slot(*place, "incomplete", places.candidate.header(), "not marked as whole")
        return stored(place, "candidate")

    def stored(place: _Place, source: Source) -> Slot:
        header = places.candidate.header() if source == "candidate" else places.previous.header()
        if header is None:
            return Slot(*place, "empty")
        fault = verifier.fault(header, places.reader(source, header))
        if fault:
            return Slot(*place, "corrupt", header, fault)
        active = places.active.header()
        runs = active is not None and active.digest == header.digest
        rejected = not runs and is_rejected(header, records.floor, records.tried)
        return Slot(*place, "whole", header, "was not confirmed" if rejected else "signed")

    return [
        _looked_at("active", INTERNAL, places.active.region, active),
        _looked_at("candidate", storage, places.candidate.region, candidate),
        _looked_at("previous", storage, places.previous.region, lambda place: stored(place, "previous")),
    ]


def _looked_at(name: str, medium: str, region: Region, look: Callable[[_Place], Slot]) -> Slot:
    place = name, medium, region.offset, region.size
    try:
        return look(place)
    except (ImageRejected, StorageError) as error:
        return Slot(*place, "unreadable", detail=error.message)
