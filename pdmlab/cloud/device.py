"""A device as the service knows it, and its resources: read, write, execute, observe."""

from __future__ import annotations

import base64
import math
import time
import uuid
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any

from pdmlab.capture import LoggedMessage
from pdmlab.cloud.channel import Channel, Event, refused
from pdmlab.cloud.frames import BOOTSTRAP_COLUMNS, EVENT_COLUMNS, QUEUE_COLUMNS, frame_of
from pdmlab.cloud.observation import Observation
from pdmlab.cloud.rest import Rest, refusal
from pdmlab.cloud.values import Value, decode, encode
from pdmlab.errors import ServiceError, TimedOut
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.registry import core_objects

if TYPE_CHECKING:
    import pandas as pd

TIMEOUT_S = 30.0

_SHOWN = ("name", "endpoint_name", "state", "endpoint_type", "vendor_id", "device_class", "created_at", "updated_at")


class Device:
    """A device of the directory; get it with `cloud.device(id)`."""

    def __init__(self, rest: Rest, id: str) -> None:
        self._rest = rest
        self.id = id

    @property
    def info(self) -> dict[str, Any]:
        """What the directory says, field by field; asked anew each time."""
        return self._rest.get(f"/v3/devices/{self.id}")

    @property
    def state(self) -> str:
        """Where the device stands: bootstrapped, registered, deregistered …"""
        return str(self.info["state"])

    def resources(self) -> pd.DataFrame:
        """Return what the device registered: path, what people call it, and whether it can be observed."""
        path = f"/v2/endpoints/{self.id}"
        rows = [
            {
                "path": row["uri"],
                "name": core_objects().name(Path.parse(row["uri"])),
                "observable": bool(row["obs"]),
                "type": row.get("rt", ""),
            }
            for row in self._rest.call("GET", path).json()
        ]
        return frame_of(rows, ("path", "name", "observable", "type"))

    def read(self, path: str, *, timeout: float = TIMEOUT_S) -> Value:
        """Read a resource from the device: text, bytes if it is opaque, values by id for a whole instance.

        Raises:
            Lwm2mError: path is none.
            ServiceError: the service or the device refused; status and hint say why.
            TimedOut: no answer within timeout (s); the request is withdrawn by then.
        """
        event = self._ask("GET", path, None, timeout)
        return decode(event.get("payload", ""), event.get("ct"), path)

    def write(self, path: str, value: str | bytes | int | float | bool, *, timeout: float = TIMEOUT_S) -> None:
        """Write a resource; bytes go as opaque, everything else as text. Raises as `read` does."""
        self._ask("PUT", path, encode(value), timeout)

    def execute(self, path: str, argument: str = "", *, timeout: float = TIMEOUT_S) -> str:
        """Execute a resource; return what the device answers, mostly nothing. Raises as `read` does."""
        event = self._ask("POST", path, encode(argument) if argument else None, timeout)
        return str(decode(event.get("payload", ""), event.get("ct"), path))

    def set_attributes(self, path: str, *, timeout: float = TIMEOUT_S, **attributes: float) -> None:
        """Set when a resource notifies: pmin and pmax (s), gt, lt and st (the resource's unit). Raises as `read`."""
        query = "&".join(f"{name}={value}" for name, value in attributes.items())
        self._ask("PUT", f"{path}?{query}", None, timeout)

    def observe(self, path: str, *, timeout: float = TIMEOUT_S) -> Observation:
        """Observe a resource, in a with statement; leaving it ends the observation. timeout: for the first value."""
        return Observation(self._rest, self.id, str(Path.parse(path)), timeout)

    def queue(self) -> pd.DataFrame:
        """Return what waits for the device, and why: requests, observations to be made, a campaign's manifest."""
        return frame_of(self._rest.call("GET", f"/lab/queue/{self.id}").json(), QUEUE_COLUMNS)

    def bootstrap_steps(self) -> pd.DataFrame:
        """Return the steps of the device's latest bootstrap, with its answers; the one that failed is the last.

        Raises:
            ServiceError: it never asked to bootstrap (404).
        """
        last = self._rest.call("GET", f"/lab/bootstrap/{self.id}").json()
        steps = list(last["steps"])
        if last["state"] != "finished":
            steps.append({"at": last["updated_at"], "step": last["step"], "answer": last["reason"] or last["state"]})
        return frame_of(steps, BOOTSTRAP_COLUMNS)

    def log(self) -> pd.DataFrame:
        """Return the messages between the service and the device, bootstrap included, oldest first."""
        return frame_of(map(asdict, self.messages()), list(LoggedMessage.__dataclass_fields__))

    def messages(self, after: int = -1) -> list[LoggedMessage]:
        """Return the rows of the service's log of the device with a greater `number` than `after`."""
        found = self._rest.call("GET", f"/lab/log/{self.id}", parameters={"after": str(after)}).json()
        return [LoggedMessage(**row) for row in found]

    def events(self) -> pd.DataFrame:
        """Return what the directory recorded about the device, oldest first."""
        return frame_of(self._rest.items("/v3/device-events", filter=f"device_id={self.id}"), EVENT_COLUMNS)

    def wait_for(self, state: str = "registered", *, timeout: float = TIMEOUT_S) -> None:
        """Wait until the directory says so; raise TimedOut with the state it is in instead, after timeout (s)."""
        end = time.monotonic() + timeout
        while (found := self.state) != state:
            if time.monotonic() > end:
                raise TimedOut(
                    f"device {self.id} is still {found}, not {state}, after {timeout:.0f} s",
                    hint="device.events() shows what it did last",
                )
            time.sleep(0.1)

    def rename(self, name: str) -> None:
        """Give the device a name in the directory."""
        self._rest.call("PUT", f"/v3/devices/{self.id}", body={"name": name})

    def delete(self) -> None:
        """Delete the device from the directory; it can bootstrap again as a new one."""
        self._rest.call("DELETE", f"/v3/devices/{self.id}")

    def _ask(self, method: str, path: str, body: tuple[bytes, str] | None, timeout: float) -> Event:
        plain, mark, query = path.partition("?")
        path = f"{Path.parse(plain)}{mark}{query}"
        what = f"{method} {path} on device {self.id}"
        request: dict[str, str] = {"method": method, "uri": path}
        if body is not None:
            request |= {"payload-b64": base64.b64encode(body[0]).decode(), "content-type": body[1]}
        async_id = uuid.uuid4().hex
        with Channel.of(self._rest).answer(async_id) as mailbox:
            try:
                self._rest.call(
                    "POST",
                    f"/v2/device-requests/{self.id}",
                    body=request,
                    parameters={"async-id": async_id, "expiry-seconds": str(max(1, math.ceil(timeout)))},
                )
            except ServiceError as error:
                raise refusal(error.status, str(error.problem.get("message", "")), what, error.hint) from error
            event = mailbox.get(timeout, what, "the device may sleep, or be off: device.queue() shows what waits")
        if event["status"] >= 300:
            raise refused(event, what)
        return event

    def __repr__(self) -> str:
        return f"<Device {self.id} of {self._rest.host}>"

    def _repr_html_(self) -> str:
        info = self.info
        shown = {name.replace("_", " "): str(info[name]) for name in _SHOWN if info.get(name) not in (None, "")}
        rows = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in shown.items())
        return f"<table><caption>Device {escape(self.id)}</caption>{rows}</table>"
