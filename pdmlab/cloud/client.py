"""The service over its REST API: devices, resources, updates, keys, as Python objects and frames."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx

from pdmlab.capture import LoggedMessage
from pdmlab.cloud.campaign import Campaign
from pdmlab.cloud.device import Device
from pdmlab.cloud.frames import DEVICE_COLUMNS, EVENT_COLUMNS, frame_of
from pdmlab.cloud.rest import Rest, parsed
from pdmlab.cloud.uploads import FirmwareImage, FirmwareManifest, upload_image, upload_manifest
from pdmlab.errors import ConfigError
from pdmlab.update.credentials import Credentials

if TYPE_CHECKING:
    import pandas as pd

SHOWN_IDS = 10
"""Of devices that share a name: in an error."""


class Cloud:
    """A device-management service, seen with one API key.

    >>> service = pdmlab.serve()                                   # doctest: +SKIP
    >>> cloud = pdmlab.Cloud(service.url, service.api_key)         # doctest: +SKIP
    >>> cloud.devices()[["id", "name", "state"]]                   # doctest: +SKIP

    host, api_key  as given, else from the settings, else of the service that runs in this process or on this machine;
                   the key last from CLOUD_SDK_API_KEY
    timeout        what one answer of the service may take (s)
    """

    def __init__(
        self,
        host: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._rest = Rest(host, api_key, timeout=timeout, transport=transport)

    @property
    def host(self) -> str:
        """The address of the REST API."""
        return self._rest.host

    # -- account and keys --------------------------------------------------------------------------------

    def account(self) -> dict[str, Any]:
        """Return what the service says of the account that the key belongs to."""
        return self._rest.get("/v3/accounts/me")

    def api_keys(self) -> pd.DataFrame:
        """Return the account's keys, without what makes them keys."""
        columns = ("id", "name", "key", "status", "created_at", "last_login_time")
        return frame_of(self._rest.items("/v3/api-keys"), columns)

    def create_api_key(self, name: str) -> str:
        """Make a key and return it; nobody, the service included, can show it a second time."""
        return str(parsed(self._rest.call("POST", "/v3/api-keys", body={"name": name}), "POST /v3/api-keys")["key"])

    def delete_api_key(self, id: str) -> None:
        """Revoke a key."""
        self._rest.call("DELETE", f"/v3/api-keys/{id}")

    def developer_credentials(self, name: str) -> Credentials:
        """Make the credentials that devices are built with; the name must be new in the account."""
        path = "/v3/developer-certificates"
        answer = parsed(self._rest.call("POST", path, body={"name": name}), f"POST {path}")
        return Credentials.from_c(str(answer["security_file_content"]))

    # -- devices -----------------------------------------------------------------------------------------

    def devices(self, **conditions: str) -> pd.DataFrame:
        """Return the directory, or what meets all conditions: state="registered", name__neq="desk1"."""
        return frame_of(self._rest.items("/v3/devices", **_filtered(conditions)), DEVICE_COLUMNS)

    def device(self, id: str) -> Device:
        """Return a device by its id, or, where there is no such id, by its name or endpoint name.

        Raises:
            ConfigError: the directory has none, or several of that name.
        """
        found: list[dict[str, Any]] = []
        for field in ("id", "endpoint_name", "name"):
            found = found or list(self._rest.items("/v3/devices", **_filtered({field: id})))
        if len(found) != 1:
            what, ids = "no device", ""
            if found:
                shown, left_out = [str(each["id"]) for each in found[:SHOWN_IDS]], len(found) - SHOWN_IDS
                what = f"{len(found)} devices"
                ids = f": {', '.join(shown)}" + (f" and {left_out} more" if left_out > 0 else "")
            raise ConfigError(
                f"the directory has {what} {id!r}{ids}",
                hint="give one's id" if found else "cloud.devices() lists them, each with its id",
            )
        return Device(self._rest, str(found[0]["id"]))

    def events(self, **conditions: str) -> pd.DataFrame:
        """Return what happened to devices, oldest first; conditions as for `devices`: device_id="…"."""
        return frame_of(self._rest.items("/v3/device-events", **_filtered(conditions)), EVENT_COLUMNS)

    def log(self) -> pd.DataFrame:
        """Return the messages between the service and its devices, oldest first; device.log() has those of one."""
        return frame_of(map(asdict, self.messages()), list(LoggedMessage.__dataclass_fields__))

    def messages(self, after: int = -1) -> list[LoggedMessage]:
        """Return the rows of the service's log with a greater `number` than `after`, of peers too that nobody knows."""
        found = self._rest.call("GET", "/lab/log", parameters={"after": str(after)}).json()
        return [LoggedMessage(**row) for row in found]

    # -- updates -----------------------------------------------------------------------------------------

    def firmware_image(self, name: str, image: bytes | Path | str) -> FirmwareImage:
        """Upload an image: its bytes, or the file that has them."""
        data = image if isinstance(image, bytes) else _contents(Path(image))
        return upload_image(self._rest, name, data)

    def firmware_images(self) -> pd.DataFrame:
        """Return the account's images."""
        columns = ("id", "name", "datafile_size", "datafile_checksum", "datafile", "created_at")
        return frame_of(self._rest.items("/v3/firmware-images"), columns)

    def manifest(self, name: str, der: bytes) -> FirmwareManifest:
        """Upload a signed manifest, such as `service.developer.sign(image, version="1.0.1", uri=image.url)`."""
        return upload_manifest(self._rest, name, der)

    def manifests(self) -> pd.DataFrame:
        """Return the account's manifests."""
        columns = ("id", "name", "device_class", "datafile_size", "datafile", "created_at")
        return frame_of(self._rest.items("/v3/firmware-manifests"), columns)

    def campaign(
        self,
        manifest: FirmwareManifest | str,
        *,
        devices: Iterable[Device | str] | Device | str = (),
        name: str | None = None,
        start: bool = True,
        **conditions: str,
    ) -> Campaign:
        """Update devices, named or chosen by conditions (state="registered", vendor_id="…"), and start at once.

        Raises:
            ConfigError: neither devices nor conditions say which are meant.
        """
        chosen = [devices] if isinstance(devices, Device | str) else list(devices)
        wanted = dict(conditions)
        if chosen:
            wanted["id__in"] = ",".join(each.id if isinstance(each, Device) else each for each in chosen)
        if not wanted:
            raise ConfigError(
                "the campaign says nothing of which devices it is for",
                hint='give devices=device, or conditions such as state="registered"',
            )
        body = {
            "name": name or f"update of {datetime.datetime.now():%Y-%m-%d %H:%M:%S}",
            "device_filter": urlencode(wanted),
            "root_manifest_id": manifest if isinstance(manifest, str) else manifest.id,
        }
        path = "/v3/update-campaigns"
        made = Campaign(self._rest, str(parsed(self._rest.call("POST", path, body=body), f"POST {path}")["id"]))
        return made.start() if start else made

    def campaigns(self) -> pd.DataFrame:
        """Return the account's campaigns."""
        columns = ("id", "name", "phase", "state", "device_filter", "started_at", "finished", "autostop_reason")
        return frame_of(self._rest.items("/v3/update-campaigns"), columns)

    # -- the rest ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections; the objects that came from here are of no use then."""
        self._rest.close()

    def __enter__(self) -> Cloud:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Cloud {self.host}>"

    def _repr_html_(self) -> str:
        account = self.account()
        rows = {"service": self.host, "account": account["id"], "name": account.get("display_name") or ""}
        cells = "".join(f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
        return f"<table><caption>Device-management service</caption>{cells}</table>"


def _filtered(conditions: dict[str, str]) -> dict[str, str]:
    return {"filter": urlencode(conditions)} if conditions else {}


def _contents(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"the image {file} cannot be read: {error.strerror}") from error
