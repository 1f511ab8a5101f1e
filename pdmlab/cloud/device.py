"""A device as the service knows it, and its resources: read, write, execute, observe."""

from __future__ import annotations

import base64
import math
import time
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pdmlab.capture import LoggedMessage
from pdmlab.cloud.both import M, asked, both
from pdmlab.cloud.certificates import Renewal
from pdmlab.cloud.channel import Channel, refused, refused_by_service
from pdmlab.cloud.directory import DeviceEvent
from pdmlab.cloud.frames import BOOTSTRAP_COLUMNS, QUEUE_COLUMNS, frame_of
from pdmlab.cloud.item import Collection, Item, text
from pdmlab.cloud.listing import Listing, filter_of
from pdmlab.cloud.mailbox import Event
from pdmlab.cloud.observation import Observation
from pdmlab.cloud.values import Value, decode, encode
from pdmlab.errors import ServiceError, TimedOut
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.registry import core_objects

if TYPE_CHECKING:
    import pandas as pd

TIMEOUT_S = 30.0


class Device(Item[M]):
    """A device of the directory; get it with `cloud.device(id)`."""

    PATH = "/v3/devices"
    SHOWN = (
        *("name", "endpoint_name", "state", "endpoint_type", "vendor_id", "device_class", "created_at", "updated_at"),
    )

    endpoint_name = text("The name that it registers with.")
    endpoint_type = text("The type that it registers with.")
    vendor_id = text("Whose it is, 32 hex digits, as manifests name it.")
    device_class = text("What it is, 32 hex digits, as manifests name it.")
    description = text("What people say of it.")

    @property
    def _channel(self) -> Channel:
        return Channel.of(self._rest, self._rest.channel)

    @asked
    async def state(self) -> str:
        """Where the device stands: bootstrapped, registered, deregistered …; asked anew each time."""
        return str((await self._info())["state"])

    @both
    async def resources(self) -> pd.DataFrame:
        """Return what the device registered: path, what people call it, and whether it can be observed."""
        rows = [
            {
                "path": row["uri"],
                "name": core_objects().name(Path.parse(row["uri"])),
                "observable": bool(row["obs"]),
                "type": row.get("rt", ""),
            }
            for row in await self._rest.get_list(f"/v2/endpoints/{self.id}")
        ]
        return frame_of(rows, ("path", "name", "observable", "type"))

    @both
    async def read(self, path: str, *, timeout: float = TIMEOUT_S) -> Value:
        """Read a resource from the device: text, bytes if it is opaque, values by id for a whole instance.

        Raises:
            Lwm2mError: path is none.
            ServiceError: the service or the device refused; status and hint say why.
            TimedOut: no answer within timeout (s); the request is withdrawn by then.
        """
        event = await self._ask("GET", path, None, timeout)
        return decode(event.get("payload", ""), event.get("ct"), path)

    @both
    async def write(self, path: str, value: str | bytes | int | float | bool, *, timeout: float = TIMEOUT_S) -> None:
        """Write a resource; bytes go as opaque, everything else as text. Raises as `read` does."""
        await self._ask("PUT", path, encode(value), timeout)

    @both
    async def execute(self, path: str, argument: str = "", *, timeout: float = TIMEOUT_S) -> str:
        """Execute a resource; return what the device answers, mostly nothing. Raises as `read` does."""
        event = await self._ask("POST", path, encode(argument) if argument else None, timeout)
        return str(decode(event.get("payload", ""), event.get("ct"), path))

    @both
    async def set_attributes(self, /, path: str, *, timeout: float = TIMEOUT_S, **attributes: float) -> None:
        """Set when a resource notifies: pmin and pmax (s), gt, lt and st (the resource's unit). Raises as `read`."""
        query = "&".join(f"{name}={value}" for name, value in attributes.items())
        await self._ask("PUT", f"{path}?{query}", None, timeout)

    def observe(self, path: str, *, timeout: float = TIMEOUT_S) -> Observation[M]:
        """Observe a resource, in a with statement; leaving it ends the observation. timeout: for the first value."""
        return Observation(self._rest, self._channel, self.id, str(Path.parse(path)), timeout)

    @both
    async def queue(self) -> pd.DataFrame:
        """Return what waits for the device, and why: requests, observations to be made, a campaign's manifest."""
        return frame_of(await self._rest.get_list(f"/lab/queue/{self.id}"), QUEUE_COLUMNS)

    @both
    async def bootstrap_steps(self) -> pd.DataFrame:
        """Return the steps of the device's latest bootstrap, with its answers; the one that failed is the last.

        Raises:
            ServiceError: it never asked to bootstrap (404).
        """
        last = await self._rest.get(f"/lab/bootstrap/{self.id}")
        steps = list(last["steps"])
        if last["state"] != "finished":
            steps.append({"at": last["updated_at"], "step": last["step"], "answer": last["reason"] or last["state"]})
        return frame_of(steps, BOOTSTRAP_COLUMNS)

    async def _messages(self, after: int = -1) -> list[LoggedMessage]:
        found = await self._rest.get_list(f"/lab/log/{self.id}", after=str(after))
        return [LoggedMessage(**row) for row in found]

    @both
    async def log(self) -> pd.DataFrame:
        """Return the messages between the service and the device, bootstrap included, oldest first."""
        return frame_of(map(asdict, await self._messages()), list(LoggedMessage.__dataclass_fields__))

    @both
    async def messages(self, after: int = -1) -> list[LoggedMessage]:
        """Return the rows of the service's log of the device with a greater `number` than `after`."""
        return await self._messages(after)

    def events(self) -> Listing[DeviceEvent[M], M]:
        """Return what the directory recorded about the device, oldest first."""
        conditions = filter_of({"device_id": self.id})
        return Listing(self._rest, DeviceEvent.PATH, DeviceEvent, DeviceEvent.COLUMNS, parameters=conditions)

    @both
    async def wait_for(self, state: str = "registered", *, timeout: float = TIMEOUT_S) -> None:
        """Wait until the directory says so; raise TimedOut with the state it is in instead, after timeout (s)."""
        end = time.monotonic() + timeout
        while (found := (await self._info())["state"]) != state:
            if time.monotonic() > end:
                raise TimedOut(
                    f"device {self.id} is still {found}, not {state}, after {timeout:.0f} s",
                    hint="device.events() shows what it did last",
                )
            await self._rest.sleep(0.1)

    @both
    async def rename(self, name: str) -> None:
        """Give the device a name in the directory."""
        await self._change({"name": name})

    @both
    async def renew_certificate(self, name: str = "LWM2M") -> Renewal[M]:
        """Ask the device to renew a certificate; the renewal's `info` tells how far it is."""
        return Renewal(self._rest, await self._rest.post(f"{self._path}/certificates/{name}/renew"))

    async def _ask(self, method: str, path: str, body: tuple[bytes, str] | None, timeout: float) -> Event:
        plain, mark, query = path.partition("?")
        path = f"{Path.parse(plain)}{mark}{query}"
        what = f"{method} {path} on device {self.id}"
        request: dict[str, str] = {"method": method, "uri": path}
        if body is not None:
            request |= {"payload-b64": base64.b64encode(body[0]).decode(), "content-type": body[1]}
        async_id = uuid.uuid4().hex
        with self._channel.answer(async_id, self._rest.mailbox()) as mailbox:
            try:
                await self._rest.call(
                    "POST",
                    f"/v2/device-requests/{self.id}",
                    body=request,
                    parameters={"async-id": async_id, "expiry-seconds": str(max(1, math.ceil(timeout)))},
                )
            except ServiceError as error:
                raise refused_by_service(error, what) from error
            hint = "the device may sleep, or be off: device.queue() shows what waits"
            event = await self._channel.next(mailbox, timeout, what, hint)
        if event["status"] >= 300:
            raise refused(event, what)
        return event


class Devices(Collection[Device[M], M]):
    """The directory: `cloud.devices(state="registered")`."""

    ITEM = Device
    # Columns are named, so that a frame of nothing has them as well.
    COLUMNS = (
        *("id", "name", "state", "endpoint_name", "endpoint_type", "created_at", "updated_at"),
        *("bootstrapped_timestamp", "vendor_id", "device_class", "serial_number", "description", "custom_attributes"),
        *("groups", "host_gateway", "mechanism", "device_execution_mode", "lifecycle_status", "firmware_checksum"),
        *("manifest", "manifest_timestamp", "deployed_state", "deployment", "account_id"),
    )

    @both
    async def create(self, /, **fields: Any) -> Device[M]:  # what JSON can hold
        """Make a device before it has been heard of: name, device_key, ca_id …"""
        return await self._create({"mechanism": "connector", **fields})
