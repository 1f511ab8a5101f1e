"""The device-management service from outside, over its REST API: devices, their resources, updates, keys.

cloud = Cloud(service.url, service.api_key)
device = cloud.device("K64F")
device.read("/3/0/0")
with device.observe("/3303/0/5700") as values: ...

AsyncCloud has the same nouns and verbs, to be awaited.
"""

from pdmlab.cloud.accounts import Account, ApiKey, Invitation, PolicyGroup, User
from pdmlab.cloud.campaign import Campaign
from pdmlab.cloud.campaign_device import CampaignDevice
from pdmlab.cloud.certificates import DeveloperCertificate, Renewal, ServerCredentials, TrustedCertificate
from pdmlab.cloud.client import AsyncCloud, Cloud
from pdmlab.cloud.connect import Callback
from pdmlab.cloud.device import Device
from pdmlab.cloud.directory import DeviceEvent, Group, Query
from pdmlab.cloud.enrollments import BulkEnrollment, Denial, Enrollment, SharedKey
from pdmlab.cloud.firmware import FirmwareImage, FirmwareManifest
from pdmlab.cloud.listing import Listing
from pdmlab.cloud.notifications import News, Notifications
from pdmlab.cloud.observation import Notification, Observation

__all__ = [
    "Account",
    "ApiKey",
    "AsyncCloud",
    "BulkEnrollment",
    "Callback",
    "Campaign",
    "CampaignDevice",
    "Cloud",
    "Denial",
    "DeveloperCertificate",
    "Device",
    "DeviceEvent",
    "Enrollment",
    "FirmwareImage",
    "FirmwareManifest",
    "Group",
    "Invitation",
    "Listing",
    "News",
    "Notification",
    "Notifications",
    "Observation",
    "PolicyGroup",
    "Query",
    "Renewal",
    "ServerCredentials",
    "SharedKey",
    "TrustedCertificate",
    "User",
]
