"""Many live virtual devices in one process: `python -m benchmarks.soak_devices`; it is told what to do by lines.

Each is the Python client as a board runs it, with storage of its own, over real sockets; what it has not is a board
around it. They share one clock and one loop. On standard input come `credentials` as C, one device a JSON line, then
`start`, `change` and `report`; on standard output go JSON lines.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import random
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import NoReturn

from pdmlab.boards import catalog
from pdmlab.client import M2MMethod, SimpleMbedCloudClient
from pdmlab.client.platform import current_platform
from pdmlab.clock import DeviceClock, power_domain
from pdmlab.network.interfaces import EthernetInterface
from pdmlab.network.link import Link
from pdmlab.storage import HeapBlockDevice, LittleFileSystem2, NVStore
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.interface import Hardware
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.credentials import Credentials
from pdmlab.update.layout import Area

COUNTER = "3200/0/5501"
AT_ONCE = 20
"""Devices that start at once: a rack that is switched on starts one after the other, too."""


@dataclass
class Image:
    """What is compiled in."""

    credentials: dict[str, str]
    update_resources: None = None
    transport: None = None
    download_protocol: None = None
    options: dict[str, object] = field(default_factory=dict)


class Silent:
    """A serial line that nobody looks at."""

    def write(self, text: str) -> None:
        """Print nothing."""


class Device:
    """A platform that a client runs on, and the client."""

    layout = replace(catalog.find("K64F").layout(), candidate=Area("candidate", 0, 64 * 1024))

    def __init__(self, clock: DeviceClock, name: str, credentials: dict[str, str], seed: int) -> None:
        self.clock, self.name = clock, name
        self.uart = Silent()
        self.image = Image(credentials)
        self.flash = HeapBlockDevice(self.layout.geometry.size, 1, 8, 4096, clock=clock)
        self.flash.init()
        for area in self.layout.sotp:
            self.flash.program(area.offset, b"\xff" * area.size)
        self._random = random.Random(seed)
        slot = HeapBlockDevice(64 * 1024, clock=clock)
        slot.init()
        self.candidate = CandidateSlot(slot)
        hardware = Hardware(self.layout, self.flash, slot, self.nvstore)
        self.bootloader = bootloaders.build(bootloaders.DEFAULT, hardware)
        self.boot_log = ""
        self.network = EthernetInterface(clock, link=Link(name="loopback"), name=name, seed=seed)
        self.registered = threading.Event()
        self.value = 0
        self.client: SimpleMbedCloudClient | None = None

    @property
    def nvstore(self) -> NVStore:
        """Where the root of trust is kept."""
        return NVStore(self.flash, [(area.offset, area.size) for area in self.layout.sotp])

    def random_bytes(self, n: int) -> bytes:
        """Return bytes of the TRNG."""
        return self._random.randbytes(n)

    def reset(self) -> NoReturn:
        """Nobody resets these devices."""
        raise AssertionError("a device was reset")

    async def start(self) -> None:
        """Boot: bootstrap and register."""
        context = contextvars.copy_context()
        context.run(current_platform.set, self)
        context.run(power_domain.set, self)
        await context.run(self.clock.spawn, self._boot).wait()

    def _boot(self) -> None:
        self.network.connect()
        block_device = HeapBlockDevice(64 * 1024, clock=self.clock)
        client = self.client = SimpleMbedCloudClient(self.network, block_device, LittleFileSystem2("fs"))
        if client.init() != 0:
            raise AssertionError(f"{self.name}: {client.error_description}")
        self.counter = client.create_resource(COUNTER, "counter")
        self.counter.set_value(0)
        self.counter.methods(M2MMethod.GET)
        self.counter.observable(True)
        client.on_registered(lambda info: self.registered.set())
        client.register_and_connect()

    def change(self) -> None:
        """Count; whoever observes is told."""
        self.value += 1
        self.counter.set_value(self.value)


class Rack:
    """The devices, and what the parent wants of them."""

    def __init__(self) -> None:
        self.clock = DeviceClock("live", name="rack")
        self.devices: list[Device] = []

    def serve(self) -> None:
        """Do what the lines say, until they end."""
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "add":
                credentials = Credentials.from_c(command["credentials"]).to_mapping()
                self.devices.append(Device(self.clock, command["name"], credentials, len(self.devices)))
            elif command["do"] == "start":
                self.clock.loop.call_soon_threadsafe(lambda: self.clock.loop.create_task(self._start()))
            elif command["do"] == "change":
                first, step = command["first"], command["step"]
                for device in self.devices[first::step]:
                    device.change()
            elif command["do"] == "report":
                self._report()

    async def _start(self) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def start(device: Device) -> None:
            async with gate:
                await device.start()
                while not device.registered.is_set():
                    await asyncio.sleep(0.1)

        await asyncio.gather(*(start(device) for device in self.devices))

    def _report(self) -> None:
        said: Counter[str] = Counter()
        for device in self.devices:
            if device.client is not None:
                said["registered"] += device.client.is_client_registered()
                for step in device.client.steps:
                    said[f"{step.server} {step.name}"] += 1
        values = {device.name: device.value for device in self.devices}
        print(json.dumps({"said": said, "values": values}), flush=True)


if __name__ == "__main__":
    Rack().serve()
