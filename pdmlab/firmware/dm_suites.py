"""What `connect` and `update` have in common: boots that the host counts, and the cases up to registration.

Neither is a suite of utest: they print their cases themselves, in the same form, since those go on over a
restart. Their host test is `sdk_host_tests`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pdmlab.clock import MS, SECOND
from pdmlab.errors import NetworkError, PdmlabError
from pdmlab.firmware.device import Device
from pdmlab.firmware.utest import FAILURES, Greentea
from pdmlab.network.nsapi import NsapiError

if TYPE_CHECKING:
    from pdmlab.client import ConnectorClientEndpointInfo, SimpleMbedCloudClient
    from pdmlab.storage.filesystem import FileSystem

HOST_TEST = "sdk_host_tests"
ANSWER_S = 90
"""How long the host may take for an answer (s): three of its own time-outs of 30 s."""
REGISTRATION_S = 120
"""How long the device may take to register (s)."""
LEAVE_S = 5
"""How long it may take to deregister at the end (s)."""
CONNECTION_TRIES = 3
POLL = 100 * MS

REGISTER, REGISTER_AGAIN = "Pelion DM Bootstrap & Register", "Pelion DM Re-register"
DIRECTORY = "Pelion DM Directory"
INITIALISE_CLIENT = "Initialize Simple PDMC "
"""With its trailing space, as in the seed's table."""


class CaseFailed(PdmlabError):
    """A case failed; the message is what the board prints after [ERROR]."""


class _Over(Exception):
    """A case failed without which the others make no sense."""


class DeviceManagementSuite(Greentea):
    """A suite over several boots, for `with`: each boot begins it anew, and its last one ends it.

    Args:
        cases: names of all, in order.
        timeout: seconds (host clock) after which the host gives the suite up.
        ready_key: what tells the host that this firmware has booted.
    """

    def __init__(self, device: Device, cases: Sequence[str], *, timeout: int, ready_key: str) -> None:
        super().__init__(device)
        self.iteration = 0
        """0 on the first boot; the host counts."""
        self.failed = 0
        self.client: SimpleMbedCloudClient | None = None
        self._cases = list(cases)
        self._timeout = timeout
        self._ready_key = ready_key

    def __enter__(self) -> DeviceManagementSuite:
        self.send("device_booted", 1)
        self.handshake(self._timeout, HOST_TEST)
        self.send_row({})
        self.send(self._ready_key, 1)
        heard = self.wait_for("iteration")
        self.iteration = int(heard[1]) if heard is not None and heard[1].isdigit() else 0
        if self.iteration == 0:
            self.send("__testcase_count", len(self._cases))
            self.announce(self._cases)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is not None and not isinstance(error, _Over):
            return False
        self._leave()
        self.finish(not self.failed)
        return True

    def _leave(self) -> None:
        """Deregister, so that the host may delete the device without its coming back."""
        if self.client is None or not self.client.is_client_registered():
            return
        left: list[bool] = []
        self.client.on_unregistered(lambda: left.append(True))
        self.client.close()
        self.wait_until(lambda: left, LEAVE_S)

    # -- the log and the host --------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Print a line of the log."""
        self.print(f"[INFO] {text}")

    def ask(self, key: str, value: object, *answers: str) -> tuple[str, str]:
        """Send a key, and return the host's answer with its value.

        Raises:
            CaseFailed: none came.
        """
        self.send(key, value)
        heard = self.wait_for(*answers, timeout=ANSWER_S)
        if heard is None:
            raise CaseFailed(f"No answer to {key} from the host in {ANSWER_S} seconds.")
        return heard

    def wait_until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait for a condition, at most so many seconds of device time; return whether it came."""
        clock = self.device.clock
        until = clock.now() + round(seconds * SECOND)
        while not condition():
            if clock.now() >= until:
                return False
            clock.sleep(POLL)
        return True

    # -- cases -----------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Say that a case begins."""
        self.start_case(self._cases.index(name) + 1, name)

    def pass_case(self, name: str, *, every_boot: bool = False) -> None:
        """Say that a case has passed; one that runs on every boot has passed once a boot."""
        self.finish_case(name, self.iteration + 1 if every_boot else 1, 0)

    def fail_case(self, name: str, error: BaseException) -> None:
        """Say that a case has failed, and why."""
        if isinstance(error, CaseFailed):
            self.print(f"[ERROR] {error.message}")
        else:
            self.fail(error)
        self.failed += 1
        self.finish_case(name, 0, 1)

    def give_up(self) -> None:
        """End the suite here, and on the host's side too."""
        self.send("test_failed", 1)
        raise _Over

    @contextlib.contextmanager
    def case(self, name: str, *, every_boot: bool = False, vital: bool = True) -> Iterator[None]:
        """Run a case; the suite ends where a vital one fails, and goes on after another."""
        self.start(name)
        try:
            yield
        except FAILURES as error:
            self.fail_case(name, error)
            if vital:
                self.give_up()
        else:
            self.pass_case(name, every_boot=every_boot)

    # -- what both begin with --------------------------------------------------------------------------

    def bring_up(self, create_resources: Callable[[SimpleMbedCloudClient], None]) -> str:
        """Connect, initialise, format on the first boot, and register; return the device's id."""
        device = self.device
        connect, initialise, format_, *_ = self._cases
        with self.case(connect, every_boot=True):
            self._connect_network()
        with self.case(initialise, every_boot=True):
            self.say("Attempting to initialize storage.")
            device.block_device.init()
            fs = device.make_file_system()
        if self.iteration == 0:
            with self.case(format_):
                self._format(fs)
        with self.case(INITIALISE_CLIENT, every_boot=True):
            client = self.client = self._make_client(fs)
        create_resources(client)
        with self.case(REGISTER if self.iteration == 0 else REGISTER_AGAIN):
            return self._register(client)

    def _connect_network(self) -> None:
        self.say("Attempting to connect to network.")
        net = self.device.network
        for left in reversed(range(CONNECTION_TRIES)):
            try:
                net.connect()
                break
            except NetworkError as error:
                if error.code == NsapiError.IS_CONNECTED:
                    break
                if not left:
                    raise CaseFailed(f"Device failed to connect to Network: {error.message}") from error
                self.print("[WARN] Unable to connect to network. Retrying...")
        self.say(f"Connected to network successfully. IP address: {net.get_ip_address()}")

    def _format(self, fs: FileSystem) -> None:
        self.say("Resetting storage to a clean state for test.")
        try:
            fs.reformat(self.device.block_device)
        except PdmlabError as error:
            raise CaseFailed(f"Storage format failed: {error.message}") from error
        self.say("Storage format successful.")

    def _make_client(self, fs: FileSystem) -> SimpleMbedCloudClient:
        from pdmlab.client import SimpleMbedCloudClient

        client = SimpleMbedCloudClient(self.device.network, self.device.block_device, fs)
        status = client.init()
        if status != 0:
            raise CaseFailed(f"Simple PDMC failed to initialize: status {status}.")
        self.say("Simple PDMC initialization successful.")
        return client

    def _register(self, client: SimpleMbedCloudClient) -> str:
        ids: list[str] = []

        def registered(endpoint: ConnectorClientEndpointInfo) -> None:
            self.say(f"Connected to Pelion Device Management. Device ID: {endpoint.internal_endpoint_name}")
            ids.append(endpoint.internal_endpoint_name)

        client.on_registered(registered)
        client.register_and_connect()
        if not self.wait_until(lambda: ids and client.is_client_registered(), REGISTRATION_S):
            raise CaseFailed(f"Device failed to register in {REGISTRATION_S} seconds.")
        self.say("Device successfully registered to Pelion DM.")
        return ids[-1]

    def verify_directory(self, device_id: str) -> None:
        """Have the host look the device up in the directory."""
        self.say("Starting Pelion verification using Python SDK...")
        _, registered = self.ask("verify_registration", device_id, "registered")
        if registered != "1":
            raise CaseFailed("Device could not be verified as registered in Device Directory.")
        self.say("Device is registered in the Device Directory.")

    def verify_identity(self, device_id: str) -> None:
        """Have the host compare the device with the one that it was before the restart."""
        self.say("Verifying consistent Device ID...")
        _, verified = self.ask("verify_identity", device_id, "verified")
        if verified != "1":
            raise CaseFailed("Device ID is inconsistent. SOTP and Secure Storage was not preserved.")
        self.say("Device ID consistent, SOTP and Secure Storage is preserved correctly.")


def first_cases(device: Device) -> list[str]:
    """Return the names of the cases up to the directory, which both suites begin with."""
    fs = device.make_file_system()
    return [
        f"Connect to {device.network.type}",
        f"Initialize {device.block_device_name}+{fs.type}",
        f"Format {fs.type}",
        INITIALISE_CLIENT,
        REGISTER,
        DIRECTORY,
    ]
