"""The `update` suite: 11 cases in two boots, between which the service replaces the firmware.

Which firmware runs shows in the key that it sends when it has booted, which is read from the image's own
bytes: `spdmc_ready_chk`, and `firmware_update` in the image that the host has prepared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.clock import SECOND
from pdmlab.firmware.device import Device
from pdmlab.firmware.dm_suites import DIRECTORY, REGISTER_AGAIN, CaseFailed, DeviceManagementSuite, first_cases

if TYPE_CHECKING:
    from pdmlab.client import SimpleMbedCloudClient

TIMEOUT_S = 1800
PREPARE, DOWNLOAD, UPDATE = "Firmware Prepare", "Firmware Download", "Firmware Update"
IDENTITY = "Post-update Identity"
FIRST_UPDATE_ERROR = 1024
"""From this number on, the client's errors are of updates (MbedCloudClient::Error)."""


def update(device: Device) -> None:
    """Register, download a firmware, be restarted into it, and come back as the same device."""
    cases = [*first_cases(device), PREPARE, DOWNLOAD, UPDATE, REGISTER_AGAIN, IDENTITY]
    with DeviceManagementSuite(device, cases, timeout=TIMEOUT_S, ready_key=device.image.ready_key) as suite:
        if suite.iteration:
            suite.pass_case(UPDATE)
        download = _Download(suite)
        device_id = suite.bring_up(download.attach)
        if suite.iteration == 0:
            with suite.case(DIRECTORY):
                suite.verify_directory(device_id)
            with suite.case(PREPARE):
                _, sent = suite.ask("firmware_prepare", 1, "firmware_sent")
                if sent != "1":
                    raise CaseFailed("While preparing firmware.")
            suite.start(DOWNLOAD)
            suite.say("Update campaign has started.")
            download.wait()
        with suite.case(IDENTITY, vital=False):
            suite.verify_identity(device_id)


class _Download:
    """What the client tells of the download, as lines on the console."""

    def __init__(self, suite: DeviceManagementSuite) -> None:
        self._suite = suite
        self._started: int | None = None
        self._case = DOWNLOAD
        self._error: str | None = None

    def attach(self, client: SimpleMbedCloudClient) -> None:
        """Listen to the client; the suite's first boot has one resource besides, to be looked at."""
        from pdmlab.client import M2MMethod

        resource = client.create_resource("5000/0/1", "get_resource")
        resource.observable(True)
        resource.methods(M2MMethod.GET)
        resource.set_value("test0")
        client.on_update_progress(self._progress)
        client.on_error(self._failed)

    def wait(self) -> None:
        """Wait for the restart into the new firmware; it ends this thread. Return never, but where it fails."""
        while self._error is None:
            self._suite.device.clock.sleep(SECOND)
        self._suite.fail_case(self._case, CaseFailed(self._error))
        self._suite.give_up()

    def _failed(self, number: int, name: str) -> None:
        # The lines that the client prints where nobody listens.
        details = self._suite.client.error_description if self._suite.client is not None else ""
        for what, value in (("occurred", name), ("code", number), ("details", details)):
            self._suite.print(f"[SMCC] Error {what} : {value}")
        if number >= FIRST_UPDATE_ERROR:
            self._error = f"Firmware update failed: {name}, {details}"

    def _progress(self, done: int, total: int) -> None:
        suite, now = self._suite, self._suite.device.clock.now()
        if self._started is None:
            self._started = now
            suite.say(f"Firmware download started. Size: {total / 1024:.2f}KB")
            return
        seconds = max(now - self._started, 1) / SECOND
        speed = max(done, 1) / seconds
        left = int((total - done) / speed)
        eta = f"{left // 3600:02d}:{left // 60 % 60:02d}:{left % 60:02d}"
        suite.say(f"Downloading: {done * 100 / total:.2f}% ({speed / 1024:.2f}KB/s, ETA: {eta})")
        if done == total and self._case == DOWNLOAD:
            suite.say(
                f"Firmware download completed. {total / 1024:.2f}KB in {seconds:.2f} seconds ({speed / 1024:.2f}KB/s)"
            )
            suite.pass_case(DOWNLOAD)
            self._case = UPDATE
            suite.start(UPDATE)
