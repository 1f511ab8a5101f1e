"""ConnectAPI: devices' resources, subscriptions and notifications by the vendor's SDK."""

from __future__ import annotations

import pytest

from tests.sdk.lab import SdkLab
from tests.service.restlab import Device


@pytest.fixture
def desk(lab: SdkLab, request: pytest.FixtureRequest) -> Device:
    return lab.device(request.node.name[:60])


def test_resources_are_listed_read_written_executed_and_subscribed_to(lab: SdkLab, desk: Device) -> None:
    said = lab.run(
        """
from mbed_cloud import ConnectAPI

connect, device = ConnectAPI(config), given["device"]
said["connected"] = [each.id for each in connect.list_connected_devices()]
said["resources"] = sorted(each.path for each in connect.list_resources(device))
said["value"] = connect.get_resource_value(device, "/5000/0/1", timeout=20)
connect.set_resource_value(device, "/5000/0/2", "86405", timeout=20)
connect.execute_resource(device, "/5000/0/3", timeout=20)
values = connect.add_resource_subscription(device, "/3/0/9")
step("subscribed")
said["notified"] = str(values.get(timeout=20))
connect.delete_resource_subscription(device, "/3/0/9")
connect.stop_notifications()
""",
        key=lab.new_key(),
        device=desk.id,
        steps={"subscribed": lambda: desk.tell("/3/0/9", b"96")},
    )
    assert desk.id in said["connected"] and {"/3/0/9", "/5000/0/1"} <= set(said["resources"])
    assert said["value"] == "test0" and "96" in said["notified"]
    assert desk.values["/5000/0/2"] == b"86405" and "POST /5000/0/3" in desk.asked
