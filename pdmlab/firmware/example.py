"""The seed's example application, line by line, and the call that connects it."""

from __future__ import annotations

from pdmlab.client import M2MMethod, SimpleMbedCloudClient
from pdmlab.firmware.device import Device
from pdmlab.network.interface import NetworkInterface
from pdmlab.storage.blockdevice import BlockDevice


def example(device: Device) -> SimpleMbedCloudClient:
    """Connect a board and offer one resource; the client works on when this has returned."""
    # Initialize connectivity
    net = NetworkInterface.get_default_instance()
    net.connect()

    # Initialize storage
    bd = BlockDevice.get_default_instance()
    fs = device.make_file_system("fs")

    # Initialize SimpleMbedCloudClient
    client = SimpleMbedCloudClient(net, bd, fs)
    client.init()

    # Create resource
    variable = client.create_resource("3201/0/5853", "variable")
    variable.set_value("assign new value")
    variable.methods(M2MMethod.GET | M2MMethod.PUT)

    # Connect, in the background
    client.on_registered(
        lambda endpoint: device.uart.write(
            f"[INFO] Connected to Pelion Device Management. Device ID: {endpoint.internal_endpoint_name}\r\n"
        )
    )
    client.register_and_connect()
    return client
