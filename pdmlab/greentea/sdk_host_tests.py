"""The host test of `connect` and `update`: asks the service whether what the board says of itself is true.

It answers as the seed's `sdk_host_tests` does, every answer five times (the board reads the first); its
keys, the resources and the trick with the update image are in the tables below.

| the board sends | the host answers |
|---|---|
| `device_booted` | `__sync` |
| `device_ready`, `spdmc_ready_chk` | `iteration;N`, at most 5 boots (`spdmc_ready_chk` after an update: FAIL) |
| `test_advance` | N + 1, `reset` |
| `verify_registration;ID`, `verify_identity;ID` | `registered;0` or `1`, `verified;0` or `1` |
| `verify_lwm2m_get_test;PATH`, `…set_test;PATH` | `get_value;V`, `set_value;V`, or `timeout` |
| `verify_lwm2m_put_test;PATH` | reads, writes the value plus 5: `res_set;V`, or `timeout` |
| `verify_lwm2m_post_test;PATH`, then `…post_test_result` | executes; `post_test_executed;0`, or `timeout` |
| `firmware_prepare` | starts the update: `firmware_sent;1` |
| `firmware_update` | N + 1: the new firmware has booted |
| `test_failed` | ends the suite |
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from pdmlab.errors import NetworkError, PdmlabError, ServiceError
from pdmlab.greentea.host_tests import HostTest, Talk

COPIES = 5
"""How often each answer is sent: a board that prints at the same time may miss some."""
MAX_BOOTS = 5
DIRECTORY_S = 10.0
"""How long the directory may take to show a device as registered (s)."""
ADDED = 5
"""What the put test adds to the value that it read."""
OLD_KEY, NEW_KEY = b"spdmc_ready_chk", b"firmware_update"
"""What the update image sends when it has booted, before and after the host has changed it: that tells new from old."""


class Management(Protocol):
    """What the host test needs of the device-management service."""

    @property
    def account_id(self) -> str:
        """The account of the API key."""
        ...

    def state(self, device_id: str) -> str:
        """Return the device's state in the directory, "absent" if it is not there."""
        ...

    def read(self, device_id: str, path: str) -> str:
        """Return a resource's value."""
        ...

    def write(self, device_id: str, path: str, value: str) -> None:
        """Set a resource's value."""
        ...

    def execute(self, device_id: str, path: str) -> None:
        """Execute a resource."""
        ...

    def update(self, device_id: str, image: bytes) -> None:
        """Begin to update the device to an image; return when the update is under way."""
        ...

    def finish(self, device_id: str) -> None:
        """End what is under way for the device, and delete it from the directory."""
        ...


class SdkHostTests(HostTest):
    """Answers one run of `connect` or `update`.

    Args:
        management: the service that the board is to register with.
        account_id: the account that is compiled into the board's image; None if it is not known.
        update_image: returns the image to update to; None if there is none.
    """

    def __init__(
        self,
        management: Management,
        *,
        account_id: str | None = None,
        update_image: Callable[[], bytes] | None = None,
    ) -> None:
        super().__init__()
        self._management = management
        self._account_id = account_id
        self._update_image = update_image
        self._boots = 0
        self.iteration = 0
        self.device_id: str | None = None
        """Who the board was when its registration was verified."""
        self._present: str | None = None  # who it is now, should it have become another
        self._sent = False
        self._post_timed_out = False
        self.answers = {
            "device_booted": lambda value: self._send("__sync", 0),
            "device_ready": self._device_ready,
            "spdmc_ready_chk": self._old_firmware_ready,
            "firmware_update": self._new_firmware_ready,
            "test_advance": self._advance,
            "test_failed": lambda value: self.talk.complete(False, "the board says that a test failed"),
            "verify_registration": self._verify_registration,
            "verify_identity": self._verify_identity,
            "verify_lwm2m_get_test": lambda path: self._read(path, "get_value"),
            "verify_lwm2m_set_test": lambda path: self._read(path, "set_value"),
            "verify_lwm2m_put_test": self._put,
            "verify_lwm2m_post_test": self._post,
            "verify_lwm2m_post_test_result": self._post_result,
            "firmware_prepare": self._prepare_firmware,
        }

    def setup(self, talk: Talk) -> None:
        """Compare the accounts: a device that registers elsewhere would only time out."""
        super().setup(talk)
        account = self._management.account_id
        if self._account_id and self._account_id != account:
            talk.complete(
                False,
                f"the board's credentials are of account {self._account_id}, the API key is of account {account}",
            )

    def teardown(self) -> None:
        """Delete the devices, so that they count towards no allocation."""
        for device_id in dict.fromkeys(id for id in (self.device_id, self._present) if id is not None):
            try:
                self._management.finish(device_id)
            except (ServiceError, NetworkError) as error:
                self.talk.log(f"device {device_id} could not be deleted: {error.message}")

    # -- boots -----------------------------------------------------------------------------------------

    def _send(self, key: str, value: object) -> None:
        for _ in range(COPIES):
            self.talk.send(key, value)

    def _device_ready(self, value: str) -> None:
        self._boots += 1
        if self._boots > MAX_BOOTS:
            self.talk.complete(False, f"the board has booted {self._boots} times")
            return
        self._send("iteration", self.iteration)

    def _old_firmware_ready(self, value: str) -> None:
        if self._sent:
            self.talk.complete(False, "the board came back with its old firmware: the update was not applied")
            return
        self._device_ready(value)

    def _new_firmware_ready(self, value: str) -> None:
        self.talk.log("the new firmware has booted")
        self.iteration += 1
        self._device_ready(value)

    def _advance(self, value: str) -> None:
        self.iteration += 1
        self._send("reset", 0)

    # -- the directory ---------------------------------------------------------------------------------

    def _verify_registration(self, device_id: str) -> None:
        self.device_id = self._present = device_id
        self._send("registered", int(self._is_registered(device_id)))

    def _is_registered(self, device_id: str) -> bool:
        deadline = time.monotonic() + DIRECTORY_S
        try:
            while (state := self._management.state(device_id)) != "registered" and time.monotonic() < deadline:
                time.sleep(0.1)
        except (ServiceError, NetworkError) as error:
            state = error.message
        if state != "registered":
            self.talk.log(f"device {device_id} in the directory: {state}")
        return state == "registered"

    def _verify_identity(self, device_id: str) -> None:
        same = device_id == self.device_id
        if not same:
            self.talk.log(f"the board was device {self.device_id}, and is now device {device_id}")
            self._present = device_id
        self._send("verified", int(same))

    # -- resources -------------------------------------------------------------------------------------

    def _ask(self, work: Callable[[str], str], key: str) -> None:
        """Send what work returns; `timeout` if the service or the device did not do it."""
        try:
            if self._present is None:
                raise ServiceError("no device has been verified yet", status=404)
            answer = work(self._present)
        except (ServiceError, NetworkError, ValueError) as error:
            self.talk.log(error.message if isinstance(error, PdmlabError) else str(error))
            self._send("timeout", 0)
        else:
            self._send(key, answer)

    def _read(self, path: str, key: str) -> None:
        self._ask(lambda device_id: self._management.read(device_id, path), key)

    def _put(self, path: str) -> None:
        def add(device_id: str) -> str:
            value = str(int(self._management.read(device_id, path)) + ADDED)
            self._management.write(device_id, path, value)
            return value

        self._ask(add, "res_set")

    def _post(self, path: str) -> None:
        try:
            if self._present is not None:
                self._management.execute(self._present, path)
        except (ServiceError, NetworkError) as error:
            self._post_timed_out = True
            self.talk.log(error.message)
            self._send("timeout", 0)

    def _post_result(self, value: str) -> None:
        if not self._post_timed_out:
            self._send("post_test_executed", 0)

    # -- firmware --------------------------------------------------------------------------------------

    def _prepare_firmware(self, value: str) -> None:
        if self.device_id is None or self._update_image is None:
            why = "no device has been verified yet" if self.device_id is None else "there is no update image"
            self.talk.complete(False, f"the firmware cannot be prepared: {why}")
            return
        image = self._update_image()
        if OLD_KEY not in image:
            self.talk.complete(False, f"the update image does not hold {OLD_KEY.decode()!r}: is it the update suite?")
            return
        self._management.update(self.device_id, image.replace(OLD_KEY, NEW_KEY))
        self._sent = True
        self._send("firmware_sent", 1)
        self.talk.log("the firmware was sent, and the update campaign has started")
