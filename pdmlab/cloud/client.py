"""The service over its REST API, by two clients with the same nouns: `Cloud` blocks, `AsyncCloud` is awaited."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from pdmlab.capture import LoggedMessage
from pdmlab.cloud.accounts import Account, ApiKeys, Invitations, PolicyGroups, Users
from pdmlab.cloud.answers import Object
from pdmlab.cloud.both import M, Noun, both, now
from pdmlab.cloud.campaign import Campaign, Campaigns
from pdmlab.cloud.certificates import AllServerCredentials, DeveloperCertificates, Renewals, TrustedCertificates
from pdmlab.cloud.channel import Channel
from pdmlab.cloud.connect import Presubscriptions, Subscriptions, Webhook
from pdmlab.cloud.device import Device, Devices
from pdmlab.cloud.directory import DeviceEvents, Groups, Queries
from pdmlab.cloud.enrollments import Denials, Enrollments, SharedKeys
from pdmlab.cloud.firmware import FirmwareImage, FirmwareImages, FirmwareManifest, FirmwareManifests
from pdmlab.cloud.frames import frame_of
from pdmlab.cloud.item import Item, card
from pdmlab.cloud.listing import Condition, HasId, Listing, filter_of
from pdmlab.cloud.notifications import Notifications
from pdmlab.cloud.rest import Awaited, Blocking, Kind
from pdmlab.errors import ConfigError
from pdmlab.update.credentials import Credentials

if TYPE_CHECKING:
    import pandas as pd

SHOWN_IDS = 10
"""Of devices that share a name: in an error."""
METRICS = (
    *("transactions", "full_registrations", "registration_updates", "deleted_registrations"),
    *("expired_registrations", "handshakes_successful", "bootstraps_successful", "bootstraps_failed"),
    *("bootstraps_pending", "device_proxy_request_success", "device_proxy_request_error"),
    *("device_subscription_request_success", "device_subscription_request_error", "device_observations"),
)


class Nouns(Noun[M]):
    """What both clients have: a collection for each noun, called for a list, and a few words for what is done most.

    A collection's list is asked for when it is walked through: `for device in cloud.devices(state="registered")`,
    or as a table: `cloud.devices().frame()`.
    """

    def __init__(self, rest: M) -> None:
        super().__init__(rest)
        self.devices: Devices[M] = Devices(rest)
        self.events: DeviceEvents[M] = DeviceEvents(rest)
        self.queries: Queries[M] = Queries(rest)
        self.groups: Groups[M] = Groups(rest)
        self.subscriptions: Subscriptions[M] = Subscriptions(rest)
        self.presubscriptions: Presubscriptions[M] = Presubscriptions(rest)
        self.webhook: Webhook[M] = Webhook(rest)
        self.firmware_images: FirmwareImages[M] = FirmwareImages(rest)
        self.manifests: FirmwareManifests[M] = FirmwareManifests(rest)
        self.campaigns: Campaigns[M] = Campaigns(rest)
        self.api_keys: ApiKeys[M] = ApiKeys(rest)
        self.users: Users[M] = Users(rest)
        self.invitations: Invitations[M] = Invitations(rest)
        self.policy_groups: PolicyGroups[M] = PolicyGroups(rest)
        self.trusted_certificates: TrustedCertificates[M] = TrustedCertificates(rest)
        self.developer_certificates: DeveloperCertificates[M] = DeveloperCertificates(rest)
        self.server_credentials: AllServerCredentials[M] = AllServerCredentials(rest)
        self.renewals: Renewals[M] = Renewals(rest)
        self.enrollments: Enrollments[M] = Enrollments(rest)
        self.denials: Denials[M] = Denials(rest)
        self.shared_keys: SharedKeys[M] = SharedKeys(rest)

    @property
    def host(self) -> str:
        """The address of the REST API."""
        return self._rest.host

    # -- account and keys --------------------------------------------------------------------------------

    async def _account(self) -> Account[M]:
        return Account(self._rest, await self._rest.get("/v3/accounts/me", include="limits, policies"))

    @both
    async def account(self) -> Account[M]:
        """Return the account that the key belongs to, with its limits."""
        return await self._account()

    @both
    async def create_api_key(self, name: str) -> str:
        """Make a key and return it; nobody, the service included, can show it a second time."""
        return str((await self._rest.post("/v3/api-keys", {"name": name}))["key"])

    @both
    async def delete_api_key(self, id: str) -> None:
        """Revoke a key."""
        await self._rest.call("DELETE", f"/v3/api-keys/{id}")

    @both
    async def developer_credentials(self, name: str) -> Credentials:
        """Make the credentials that devices are built with; the name must be new in the account."""
        return (await self.developer_certificates._made(name)).credentials

    # -- devices -----------------------------------------------------------------------------------------

    @both
    async def device(self, id: str) -> Device[M]:
        """Return a device by its id, or, where there is no such id, by its name or endpoint name.

        Raises:
            ConfigError: the directory has none, or several of that name.
        """
        found: list[Object] = []
        for field in ("id", "endpoint_name", "name"):
            if not found:
                pages = self._rest.pages(Device.PATH, filter_of({field: id}))
                found = [row async for page in pages for row in page["data"]]
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
        return Device(self._rest, found[0])

    def notifications(self, *, timeout: float = 30.0) -> Notifications[M]:
        """Listen to everything that the key is told, in a with statement; timeout: for each, in a for loop (s)."""
        return Notifications(self._rest, Channel.of(self._rest, self._rest.channel), timeout)

    async def _messages(self, after: int = -1) -> list[LoggedMessage]:
        return [LoggedMessage(**row) for row in await self._rest.get_list("/lab/log", after=str(after))]

    @both
    async def log(self) -> pd.DataFrame:
        """Return the messages between the service and its devices, oldest first; device.log() has those of one."""
        return frame_of(map(asdict, await self._messages()), list(LoggedMessage.__dataclass_fields__))

    @both
    async def messages(self, after: int = -1) -> list[LoggedMessage]:
        """Return the rows of the service's log with a greater `number` than `after`, of peers too that nobody knows."""
        return await self._messages(after)

    def metrics(
        self, *include: str, interval: str = "1d", period: str | None = None, **parameters: str
    ) -> Listing[Item[M], M]:
        """Return what devices did, counted in intervals ("1h", "1d") of a period ("2d"), or from start= to end=."""
        chosen = include or METRICS
        wanted = {"include": ",".join(chosen), "interval": interval, **parameters}
        if "start" not in wanted:
            wanted["period"] = period or "1d"
        return Listing(self._rest, "/v3/metrics", Item, ("timestamp", *chosen), parameters=wanted)

    # -- updates -----------------------------------------------------------------------------------------

    @both
    async def firmware_image(self, name: str, image: bytes | Path | str, *, encrypt: bool = False) -> FirmwareImage[M]:
        """Upload an image: its bytes, or the file that has them; encrypt: devices are to fetch it encrypted."""
        return await self.firmware_images._upload(name, image, encrypt)

    @both
    async def manifest(self, name: str, der: bytes) -> FirmwareManifest[M]:
        """Upload a signed manifest, such as `service.developer.sign(image, version="1.0.1", uri=image.url)`."""
        return await self.manifests._upload(name, der)

    @both
    async def campaign(
        self,
        /,
        manifest: HasId | str,
        *,
        devices: Iterable[HasId | str] | HasId | str = (),
        name: str | None = None,
        start: bool = True,
        when: datetime.datetime | None = None,
        **conditions: Condition,
    ) -> Campaign[M]:
        """Update devices, named or chosen by conditions (state="registered", vendor_id="…"), and start at once.

        Raises:
            ConfigError: neither devices nor conditions say which are meant.
        """
        return await self.campaigns._make(manifest, devices, name, start, when, conditions)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host}>"


class Cloud(Nouns[Blocking]):
    """A device-management service, seen with one API key.

    >>> service = pdmlab.serve()                                   # doctest: +SKIP
    >>> cloud = pdmlab.Cloud(service.url, service.api_key)         # doctest: +SKIP
    >>> cloud.devices(state="registered").frame()                  # doctest: +SKIP

    host, api_key  as given, else from the settings, else of the service that runs in this process or on this machine;
                   the key last from CLOUD_SDK_API_KEY
    ca             file with the certificate of the CA that signed an https service's: service.ca_file
    timeout        what one answer of the service may take (s)
    channel        how answers of devices and news come: by long polls, or by a websocket
    """

    def __init__(
        self,
        host: str | None = None,
        api_key: str | None = None,
        *,
        ca: Path | str | None = None,
        timeout: float = 30.0,
        channel: Kind = "poll",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(Blocking(host, api_key, ca=ca, timeout=timeout, channel=channel, transport=transport))

    def close(self) -> None:
        """Close the connections; the objects that came from here are of no use then."""
        now(self._rest.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _repr_html_(self) -> str:
        account: Any = self.account()
        rows = {"service": self.host, "account": account.id, "name": account.display_name}
        return card("Device-management service", rows, tuple(rows))


class AsyncCloud(Nouns[Awaited]):
    """The same as `Cloud` for code that runs on an event loop: what asks the service is awaited.

    >>> async with pdmlab.AsyncCloud(service.url, service.api_key) as cloud:      # doctest: +SKIP
    ...     device = await cloud.device("K64F")
    ...     print(await device.read("/3/0/0"))
    """

    def __init__(
        self,
        host: str | None = None,
        api_key: str | None = None,
        *,
        ca: Path | str | None = None,
        timeout: float = 30.0,
        channel: Kind = "poll",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(Awaited(host, api_key, ca=ca, timeout=timeout, channel=channel, transport=transport))

    async def close(self) -> None:
        """Close the connections; the objects that came from here are of no use then."""
        await self._rest.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _repr_html_(self) -> str:
        return f"<b>{escape(self.host)}</b>"
