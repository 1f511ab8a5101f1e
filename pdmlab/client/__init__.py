"""SimpleMbedCloudClient: what an application needs to be managed, in the seed's names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdmlab.client.error import Error
    from pdmlab.client.hooks import UpdateRequest
    from pdmlab.client.resource import M2MMethod, MbedCloudClientResource, NotificationDeliveryStatus
    from pdmlab.client.simple_client import ConnectorClientEndpointInfo, SimpleMbedCloudClient

_HOMES = {
    "ConnectorClientEndpointInfo": "simple_client",
    "Error": "error",
    "M2MMethod": "resource",
    "MbedCloudClientResource": "resource",
    "NotificationDeliveryStatus": "resource",
    "SimpleMbedCloudClient": "simple_client",
    "UpdateRequest": "hooks",
}

__all__ = [
    "ConnectorClientEndpointInfo",
    "Error",
    "M2MMethod",
    "MbedCloudClientResource",
    "NotificationDeliveryStatus",
    "SimpleMbedCloudClient",
    "UpdateRequest",
]


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'pdmlab.client' has no attribute {name!r}") from None
    value = getattr(import_module(f"pdmlab.client.{home}"), name)
    globals()[name] = value
    return value
