"""The device-management service from outside, over its REST API: devices, their resources, updates, keys.

cloud = Cloud(service.url, service.api_key)
device = cloud.device("K64F")
device.read("/3/0/0")
with device.observe("/3303/0/5700") as values: ...
"""

from pdmlab.cloud.campaign import Campaign
from pdmlab.cloud.client import Cloud
from pdmlab.cloud.device import Device
from pdmlab.cloud.observation import Notification, Observation
from pdmlab.cloud.uploads import FirmwareImage, FirmwareManifest

__all__ = ["Campaign", "Cloud", "Device", "FirmwareImage", "FirmwareManifest", "Notification", "Observation"]
