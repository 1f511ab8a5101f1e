"""SimpleMbedCloudClient: what an application needs to be managed, in the seed's names; Lwm2mClient for other servers.

On the wire SimpleMbedCloudClient behaves as mbed-cloud-client 4.13 does, its oddities included, except that

* it offers four cipher suites where the stock client has one, and no connection ID over DTLS;
* without security it speaks UDP unless its build says TCP, and there it answers any peer;
* a bootstrap server cannot move itself (instance 1 of object 0), and a URI that cannot be used is refused when it is
  written, not when the device connects;
* a resource of the application is executed before its answer is sent, so that 2.04 means that it was done;
* a download outlives a lost connection: up to ten times a block, the device connects anew and asks again;
* an update's install that is put off is asked for again by update_resume(), as one before its download is;
* encrypted payloads need no encrypted candidates: what a build for the image at once fetches, it decrypts;
* the application hears why the device bootstraps again by the number of the cause, not as ConnectBootstrapFailed;
* a device that was disabled (/1/0/4) comes back after a day, as LwM2M 1.0 has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.lazy import lazily

if TYPE_CHECKING:
    from pdmlab.client.error import Error
    from pdmlab.client.hooks import UpdateQuestion, UpdateRequest
    from pdmlab.client.plain.accounts import Certificate, PreSharedKey
    from pdmlab.client.plain.firmware import FirmwareObject
    from pdmlab.client.plain.lwm2m_client import Lwm2mClient
    from pdmlab.client.plain.objects import TableObject
    from pdmlab.client.resource import M2MMethod, MbedCloudClientResource, NotificationDeliveryStatus
    from pdmlab.client.simple_client import ConnectorClientEndpointInfo, SimpleMbedCloudClient

_HOMES = {
    "Certificate": "plain.accounts",
    "ConnectorClientEndpointInfo": "simple_client",
    "Error": "error",
    "FirmwareObject": "plain.firmware",
    "Lwm2mClient": "plain.lwm2m_client",
    "M2MMethod": "resource",
    "MbedCloudClientResource": "resource",
    "NotificationDeliveryStatus": "resource",
    "PreSharedKey": "plain.accounts",
    "SimpleMbedCloudClient": "simple_client",
    "TableObject": "plain.objects",
    "UpdateQuestion": "hooks",
    "UpdateRequest": "hooks",
}

__all__ = [
    "Certificate",
    "ConnectorClientEndpointInfo",
    "Error",
    "FirmwareObject",
    "Lwm2mClient",
    "M2MMethod",
    "MbedCloudClientResource",
    "NotificationDeliveryStatus",
    "PreSharedKey",
    "SimpleMbedCloudClient",
    "TableObject",
    "UpdateQuestion",
    "UpdateRequest",
]

__getattr__ = lazily(__name__, _HOMES)
