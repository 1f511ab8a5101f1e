"""The `connect` suite: 12 cases in two boots, from the network to resources that the service reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.firmware.device import Device
from pdmlab.firmware.dm_suites import DIRECTORY, REGISTER_AGAIN, CaseFailed, DeviceManagementSuite, first_cases

if TYPE_CHECKING:
    from pdmlab.client import MbedCloudClientResource, SimpleMbedCloudClient

TIMEOUT_S = 600
IDENTITY = "Post-reset Identity"
GET, SET = "ResourceLwM2M GET", "ResourceLwM2M SET Test"
PUT, POST = "ResourceLwM2M PUT Test", "Resource LwM2M POST Test"

VALUE, NUMBER, ACTION = "5000/0/1", "5000/0/2", "5000/0/3"
"""The resources that the host reads, writes and executes."""
FIRST, SECOND = "test0", "test1"
"""What VALUE holds, and what the device sets it to."""


def connect(device: Device) -> None:
    """Register, reset, come back as the same device, and exchange values with the service."""
    cases = [*first_cases(device), REGISTER_AGAIN, IDENTITY, GET, SET, PUT, POST]
    with DeviceManagementSuite(device, cases, timeout=TIMEOUT_S, ready_key="device_ready") as suite:
        resources = _Resources(suite)
        device_id = suite.bring_up(resources.create)
        if suite.iteration == 0:
            with suite.case(DIRECTORY):
                suite.verify_directory(device_id)
            suite.say("Resetting device.")
            suite.ask("test_advance", 0, "reset")
            device.reset()
        with suite.case(IDENTITY, vital=False):
            suite.verify_identity(device_id)
        suite.say("Beginning LwM2M resource tests.")
        with suite.case(GET, vital=False):
            resources.read("verify_lwm2m_get_test", "get_value", FIRST, "Original")
        with suite.case(SET, vital=False):
            resources.value.set_value(SECOND)
            resources.read("verify_lwm2m_set_test", "set_value", SECOND, "Changed")
        with suite.case(PUT, vital=False):
            resources.put()
        with suite.case(POST, vital=False):
            resources.post()


class _Resources:
    """The three resources, and what the host does with them."""

    value: MbedCloudClientResource
    number: MbedCloudClientResource

    def __init__(self, suite: DeviceManagementSuite) -> None:
        self._suite = suite

    def create(self, client: SimpleMbedCloudClient) -> None:
        from pdmlab.client import M2MMethod

        self.value = client.create_resource(VALUE, "get_resource")
        self.value.observable(True)
        self.value.methods(M2MMethod.GET)
        self.value.set_value(FIRST)
        self.number = client.create_resource(NUMBER, "put_resource")
        self.number.methods(M2MMethod.PUT | M2MMethod.GET)
        self.number.set_value(1)
        action = client.create_resource(ACTION, "post_resource")
        action.methods(M2MMethod.POST)
        action.attach_post_callback(self._executed)

    def _executed(self, resource: MbedCloudClientResource, payload: bytes) -> None:
        self._suite.say("POST test callback executed.")
        self._suite.send("verify_lwm2m_post_test_result", 0)

    def read(self, key: str, answer: str, expected: str, which: str) -> None:
        """Have the host read VALUE."""
        heard, value = self._suite.ask(key, f"/{VALUE}", answer, "timeout")
        if heard == "timeout":
            raise CaseFailed(f"Observation of LwM2M resource /{VALUE} timed out.")
        if value != expected:
            raise CaseFailed(f"Wrong value {value!r} reported in Pelion DM, expected {expected!r}.")
        done = "read" if which == "Original" else "observed"
        self._suite.say(f"{which} value of LwM2M resource /{VALUE} is {done} correctly")

    def put(self) -> None:
        """Have the host write NUMBER."""
        heard, value = self._suite.ask("verify_lwm2m_put_test", f"/{NUMBER}", "res_set", "timeout")
        if heard == "timeout":
            raise CaseFailed(f"PUT of LwM2M resource /{NUMBER} timed out.")
        here = self.number.get_value_int()
        if value != str(here):
            raise CaseFailed(f"Wrong value {here} read from device after resource update, the host set {value}.")
        self._suite.say(f"Value of resource /{NUMBER} successfully changed from the cloud using PUT.")

    def post(self) -> None:
        """Have the host execute ACTION."""
        self._suite.say(f"Executing POST on /{ACTION} and waiting for callback function.")
        heard, _ = self._suite.ask("verify_lwm2m_post_test", f"/{ACTION}", "post_test_executed", "timeout")
        if heard == "timeout":
            raise CaseFailed(f"POST of LwM2M resource /{ACTION} timed out.")
        self._suite.say(f"Callback on resource /{ACTION} executed successfully.")
