"""One script that goes through the SDK's areas, as a person's first script does."""

from __future__ import annotations

from pathlib import Path

from tests.sdk.lab import SdkLab


def test_the_sdk_lists_devices_and_events_makes_a_key_and_uploads_an_image(lab: SdkLab, tmp_path: Path) -> None:
    image = tmp_path / "image.bin"
    image.write_bytes(b"image" * 100)
    desk = lab.device("all-areas")
    said = lab.run(
        """
from mbed_cloud import AccountManagementAPI, DeviceDirectoryAPI, UpdateAPI

device = given["device"]
directory = DeviceDirectoryAPI(config)
said["renamed"] = directory.update_device(device, name="by the SDK").name
found = directory.list_devices(filters={"state": {"$eq": "registered"}, "name": {"$neq": "x"}}, include="total_count")
said["found"] = [each.id for each in found]
said["count"] = len(directory.list_devices())
said["events"] = [each.event_type for each in directory.list_device_events(filters={"device_id": {"$eq": device}})]
accounts = AccountManagementAPI(config)
said["account"] = accounts.get_account().id
made = accounts.add_api_key(name="from the SDK")
said["keys"] = made.id in [each.id for each in accounts.list_api_keys()]
accounts.delete_api_key(made.id)
update = UpdateAPI(config)
uploaded = update.add_firmware_image("sdk image", given["image"])
said["image"] = uploaded.url
said["images"] = [each.id for each in update.list_firmware_images()]
update.delete_firmware_image(uploaded.id)
said["foundation"] = foundation().foundation.account().me().id
""",
        key=lab.new_key(),
        device=desk.id,
        image=str(image),
    )
    assert desk.id in said["found"] and said["count"] >= 1
    assert said["renamed"] == "by the SDK" and "update.device.device-registered" in said["events"]
    assert said["account"] == said["foundation"] == lab.service.account_id and said["keys"]
    assert said["image"].startswith(lab.service.url) and said["images"]
