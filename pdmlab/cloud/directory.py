"""What the directory has beside devices: what happened to them, kept queries, and groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pdmlab.cloud.both import M, both
from pdmlab.cloud.item import Collection, Item, flag, id_of, moment, number, text
from pdmlab.cloud.listing import Condition, HasId, Listing, filter_of

if TYPE_CHECKING:
    from pdmlab.cloud.device import Device


class DeviceEvent(Item[M]):
    """Something that happened to a device."""

    PATH = "/v3/device-events"
    COLUMNS = ("date_time", "device_id", "event_type", "description", "changes", "data", "state_change", "id")
    SHOWN = ("date_time", "device_id", "event_type", "description", "changes", "data")

    date_time = moment("When it happened (UTC).")
    device_id = text("To which device.")
    event_type = text("What: update.device.device-registered …")
    description = text("The same in words.")
    state_change = flag("Whether the device's state changed.")


class DeviceEvents(Collection[DeviceEvent[M], M]):
    """What happened to devices: `cloud.events(device_id=…)`."""

    ITEM = DeviceEvent
    COLUMNS = DeviceEvent.COLUMNS


class Query(Item[M]):
    """A filter of devices that is kept under a name."""

    PATH = "/v3/device-queries"
    SHOWN = ("name", "query", "created_at")

    query = text("The filter, as the API writes it: state__eq=registered.")

    def devices(self) -> Listing[Device[M], M]:
        """Return the devices that it finds now."""
        from pdmlab.cloud.device import Device, Devices

        return Listing(self._rest, Device.PATH, Device, Devices.COLUMNS, parameters={"filter": self.query})


class Queries(Collection[Query[M], M]):
    """Kept queries: `cloud.queries()`."""

    ITEM = Query
    COLUMNS = ("id", "name", "query", "created_at", "updated_at")

    @both
    async def create(self, /, name: str, **conditions: Condition) -> Query[M]:
        """Keep a query under a name; conditions as for cloud.devices."""
        return await self._create({"name": name, "query": urlencode(filter_of(conditions))})


class Group(Item[M]):
    """A group of devices; a device may be in several."""

    PATH = "/v3/device-groups"
    SHOWN = ("name", "description", "devices_count", "custom_attributes", "created_at")

    description = text("What people say of it.")
    devices_count = number("How many devices it had when it was asked for.")

    def devices(self, **conditions: Condition) -> Listing[Device[M], M]:
        """Return its devices that meet all conditions."""
        from pdmlab.cloud.device import Device, Devices

        found = filter_of(conditions)
        return Listing(self._rest, f"{self._path}/devices", Device, Devices.COLUMNS, parameters=found)

    @both
    async def add(self, *devices: HasId | str) -> None:
        """Put devices into the group."""
        for device in devices:
            await self._rest.call("POST", f"{self._path}/devices/add", body={"device_id": id_of(device)})

    @both
    async def remove(self, *devices: HasId | str) -> None:
        """Take devices out of the group."""
        for device in devices:
            await self._rest.call("POST", f"{self._path}/devices/remove", body={"device_id": id_of(device)})


class Groups(Collection[Group[M], M]):
    """Groups of devices: `cloud.groups()`."""

    ITEM = Group
    COLUMNS = ("id", "name", "description", "devices_count", "custom_attributes", "created_at", "updated_at")

    @both
    async def create(
        self, name: str, *, description: str = "", custom_attributes: Mapping[str, str] | None = None
    ) -> Group[M]:
        """Make a group without devices."""
        attributes = None if custom_attributes is None else dict(custom_attributes)
        return await self._create({"name": name, "description": description or None, "custom_attributes": attributes})
