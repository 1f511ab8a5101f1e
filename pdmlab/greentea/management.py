"""The service as the host test of `connect` and `update` uses it, through a `pdmlab.Cloud`."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

from pdmlab.errors import ConfigError, NetworkError, ServiceError
from pdmlab.update.developer import Developer

PROTOCOL, MANIFESTS_V1 = "/10255/0/0", "3"
"""Where a device tells which manifests it takes, and what one with the older update hub says there."""


class CloudDevice(Protocol):
    """A device of the directory."""

    @property
    def state(self) -> str:
        """Where it stands: registered, deregistered …"""
        ...

    def read(self, path: str) -> object:
        """Read a resource."""
        ...

    def write(self, path: str, value: str) -> None:
        """Write a resource."""
        ...

    def execute(self, path: str) -> object:
        """Execute a resource."""
        ...

    def delete(self) -> None:
        """Delete it from the directory."""
        ...


class Uploaded(Protocol):
    """An image, a manifest or a campaign."""

    def delete(self) -> None:
        """Delete it."""
        ...


class UploadedImage(Uploaded, Protocol):
    """An image, and where devices find it."""

    @property
    def url(self) -> str:
        """What its manifest names."""
        ...


class RunningCampaign(Uploaded, Protocol):
    """A campaign."""

    def stop(self) -> None:
        """Stop it."""
        ...


class Cloud(Protocol):
    """What is needed of pdmlab.Cloud."""

    def account(self) -> Mapping[str, Any]:
        """Return what the service says of the key's account."""
        ...

    def device(self, id: str) -> CloudDevice:
        """Return a device; raise ConfigError if there is none."""
        ...

    def firmware_image(self, name: str, image: bytes) -> UploadedImage:
        """Upload an image."""
        ...

    def manifest(self, name: str, der: bytes) -> Any:  # whatever campaign() takes
        """Upload a manifest."""
        ...

    def campaign(self, manifest: Any, *, devices: str, name: str) -> RunningCampaign:
        """Start a campaign for a device."""
        ...


class CloudManagement:
    """A `pdmlab.Cloud` as `SdkHostTests` uses it.

    Args:
        developer: whose keys sign the update; None if no update is to be made.
        version: of the update; manifests v1 have the time of day instead.
        sign_image: sign the image as well, for a bootloader that starts signed ones only.
    """

    def __init__(
        self, cloud: Cloud, developer: Developer | None = None, *, version: str = "1.0.1", sign_image: bool = False
    ) -> None:
        self._cloud = cloud
        self._developer = developer
        self._version = version
        self._sign_image = sign_image
        self._campaign: RunningCampaign | None = None
        self._uploads: list[Uploaded] = []

    @property
    def account_id(self) -> str:
        """The account of the API key."""
        return str(self._cloud.account()["id"])

    def state(self, device_id: str) -> str:
        """Return the device's state in the directory, "absent" if it is not there."""
        try:
            return self._cloud.device(device_id).state
        except ConfigError:
            return "absent"

    def read(self, device_id: str, path: str) -> str:
        """Return a resource's value."""
        return str(self._cloud.device(device_id).read(path))

    def write(self, device_id: str, path: str, value: str) -> None:
        """Set a resource's value."""
        self._cloud.device(device_id).write(path, value)

    def execute(self, device_id: str, path: str) -> None:
        """Execute a resource."""
        self._cloud.device(device_id).execute(path)

    def update(self, device_id: str, image: bytes) -> None:
        """Upload and sign an image, by the manifests that the device takes, and start a campaign for it.

        Raises:
            ConfigError: there are no keys to sign with. ServiceError, NetworkError: as the service has it.
        """
        if self._developer is None:
            raise ConfigError("there are no keys to sign the update with", hint="give developer=service.developer")
        name = f"greentea-{hashlib.sha256(image).hexdigest()[:16]}"
        uploaded = self._cloud.firmware_image(name, image)
        self._uploads.append(uploaded)
        if self.read(device_id, PROTOCOL) == MANIFESTS_V1:
            der = self._developer.sign_v1(image, uri=uploaded.url)
        else:
            der = self._developer.sign(image, version=self._version, uri=uploaded.url, sign_image=self._sign_image)
        manifest = self._cloud.manifest(name, der)
        self._uploads.append(manifest)
        self._campaign = self._cloud.campaign(manifest, devices=device_id, name=f"greentea {device_id}")

    def finish(self, device_id: str) -> None:
        """Stop the campaign, and delete the device and what was uploaded for it."""
        if self._campaign is not None:
            for tidy in (self._campaign.stop, self._campaign.delete, *(each.delete for each in self._uploads)):
                # A campaign that has ended cannot be stopped, and one that is stopping cannot be deleted yet.
                with contextlib.suppress(ServiceError, NetworkError):
                    tidy()
        with contextlib.suppress(ConfigError):  # it is gone already
            self._cloud.device(device_id).delete()
