"""A device as it leaves the factory: an account of one server, and the objects that every device has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from pdmlab.client.plain.accounts import Certificate, PreSharedKey, factory_objects
from pdmlab.client.plain.connecting import HostNetwork, Network
from pdmlab.client.plain.firmware import FirmwareObject
from pdmlab.client.plain.kept_accounts import KeptAccounts
from pdmlab.client.plain.objects import Lwm2mObject, TableObject
from pdmlab.client.plain.session import Session
from pdmlab.client.plain.standard import (
    FIRMWARE,
    FIRMWARE_VERSION_ID,
    DeviceObject,
    ServerObject,
    StatisticsObject,
    device_values,
    other_objects,
)
from pdmlab.client.plain.tree import SECURITY
from pdmlab.coap.endpoint import Tap
from pdmlab.errors import ConfigError

FIRMWARE_VERSION = "1.0.0"
"""Of a device whose object 5 is its application's own."""


def make_session(
    endpoint_name: str,
    server: str,
    *,
    bootstrap: bool,
    credentials: PreSharedKey | Certificate | None,
    lifetime: int,
    version: str,
    queue_mode: bool,
    objects: Iterable[Lwm2mObject],
    network: Network | HostNetwork,
    tap: Tap,
    restart: Callable[[], object],
    now: Callable[[], float] = time.time,
    seed: int | None = None,
    kept: KeptAccounts | None = None,
) -> Session:
    """Make the session of a device as it leaves the factory; see Lwm2mClient.

    Raises:
        ConfigError: something of it makes no sense.
    """
    if version not in ("1.0", "1.1"):
        raise ConfigError(f"there is no LwM2M {version!r} here", hint='"1.0" or "1.1"')
    if not endpoint_name or lifetime < (version == "1.0"):
        raise ConfigError("a device has a name and a lifetime", hint="0 s is for ever, in LwM2M 1.1")
    security, servers = factory_objects(server, credentials, bootstrap=bootstrap, lifetime=lifetime, version=version)
    given = {each.id: each for each in objects}
    firmware = given.get(FIRMWARE)
    if firmware is None:
        firmware = given[FIRMWARE] = FirmwareObject()
    ours = firmware if isinstance(firmware, FirmwareObject) else None
    runs = FIRMWARE_VERSION if ours is None else ours.store.running.version
    device = DeviceObject(
        device_values(serial=endpoint_name, firmware=runs),
        version=version,
        reboot=lambda _: restart(),
        factory_reset=lambda _: _as_delivered(kept, restart),
        now=now,
    )
    if ours is not None:
        ours.restart = restart
        ours.on_version = lambda version: device.set(0, FIRMWARE_VERSION_ID, version)
    standard = [device, StatisticsObject(), *other_objects(now)]
    return Session(
        endpoint_name,
        TableObject(SECURITY, security, version=version, fixed=False),
        ServerObject(servers, version=version),
        [*given.values(), *(each for each in standard if each.id not in given)],
        version=version,
        queue_mode=queue_mode,
        network=network,
        tap=tap,
        seed=seed,
        kept=kept,
    )


def _as_delivered(kept: KeptAccounts | None, restart: Callable[[], object]) -> None:
    """Forget what a bootstrap server has told, and restart."""
    if kept is not None:
        kept.forget()
    restart()
